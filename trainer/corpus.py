"""Text to shards: documents, the held-out split, tokenizer, encoding, and a dataset of your own text."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from trainer.shards import DatasetError, counts, read_manifest, record, shard_bytes, shard_name, write_whole

VALIDATION_SHARE = 20  # one document in 20
EXCERPT_CHARACTERS = 2000
SHARD_TOKENS = 100_000_000
CHUNK_EXCERPTS = 1000
SUFFIXES = (".txt", ".md", ".jsonl")


# -- documents ---------------------------------------------------------------------------------------------------------


def corpus_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files, and those below the folders, each once. Raise DatasetError for a file of another kind."""
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            files |= {file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()}
        elif path.suffix.lower() in SUFFIXES:
            files.add(path)
        else:
            raise DatasetError(f"{path} does not end in {' or '.join(SUFFIXES)}. Rename it.")
    return sorted(files)


def corpus_documents(files: Iterable[Path]) -> Iterator[str]:
    """Yield the documents that are not blank. Raise DatasetError with file and line for what is not text."""
    for path in files:
        try:
            content = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path} is not UTF-8 at byte {error.start}. Convert it, e.g. with iconv.") from None
        documents = jsonl_documents(path, content) if path.suffix.lower() == ".jsonl" else iter([content])
        yield from (document for document in documents if document.strip())


def jsonl_documents(path: Path, content: str) -> Iterator[str]:
    """Yield the "text" of every line that is not blank."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
            text.encode("utf-8")
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DatasetError(
                f'{path}:{number} is not a JSON object with a Unicode "text": {line[:80]!r}. Fix or remove the line.'
            ) from None
        yield text


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def is_validation(document: str) -> bool:
    """Tell whether a document is held out. Its own digest decides, so order and other documents do not matter."""
    return int.from_bytes(digest(document)[:4], "big") % VALIDATION_SHARE == 0


def excerpts(documents: list[str]) -> list[str]:
    """Cut the documents at line ends into parts of at most EXCERPT_CHARACTERS, and sort these by digest.

    The trainer reads shards from front to back. Uncut, a long document would fill whole steps, and file names would
    decide what a short run sees. Short parts in an arbitrary but fixed order make every step a mixture.
    """
    parts: list[str] = []
    for document in documents:
        part: list[str] = []
        size = 0
        for line in document.splitlines(keepends=True):
            if part and size + len(line) > EXCERPT_CHARACTERS:
                parts.append("".join(part))
                part, size = [], 0
            part.append(line)
            size += len(line)
        parts.append("".join(part))
    return sorted(parts, key=digest)


# -- tokenizer and tokens ----------------------------------------------------------------------------------------------


def train_tokenizer(documents: list[str], vocab_size: int) -> bytes:
    """Train a SentencePiece BPE model with byte fallback, and return the bytes of its file.

    The text is not normalised and keeps its blanks, so that the pieces of a document add up to its bytes and val_bpb is
    exact. No piece may hold several blanks, because the trainer counts the bytes of a leading one only.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for document in documents for line in document.splitlines(keepends=True)),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        allow_whitespace_only_pieces=False,
        split_digits=True,
        max_sentence_length=1 << 20,
        num_threads=os.cpu_count() or 1,
        minloglevel=2,
    )
    return model.getvalue()


def encode(tokenizer_model: bytes, documents: list[str], threads: int | None = None) -> Any:
    """Encode all documents into one uint16 array, each after a begin-of-sequence token."""
    import numpy as np
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model)
    encoded = tokenizer.encode(documents, add_bos=True, num_threads=threads or os.cpu_count() or 1)
    return np.concatenate([np.asarray(ids, dtype="<u2") for ids in encoded])


_tokenizer_of_worker = b""


def _set_tokenizer(model: bytes) -> None:
    global _tokenizer_of_worker
    _tokenizer_of_worker = model


def _encode_chunk(documents: list[str]) -> bytes:
    tokens: bytes = encode(_tokenizer_of_worker, documents, threads=1).tobytes()
    return tokens


def encoded(tokenizer_model: bytes, documents: list[str], workers: int) -> Iterator[Any]:
    """Yield the tokens of the documents in order, as uint16 arrays that `workers` processes encode."""
    import numpy as np

    chunks = [documents[at : at + CHUNK_EXCERPTS] for at in range(0, len(documents), CHUNK_EXCERPTS)]
    workers = min(workers, len(chunks))
    if workers == 1:
        yield from (encode(tokenizer_model, chunk, threads=1) for chunk in chunks)
        return
    # spawn, because a fork of a process with threads (torch, sentencepiece) may hang
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_set_tokenizer, initargs=(tokenizer_model,)) as pool:
        for tokens in pool.imap(_encode_chunk, chunks):
            yield np.frombuffer(tokens, dtype="<u2")


def in_shards(arrays: Iterable[Any]) -> Iterator[Any]:
    """Yield the same tokens in arrays of SHARD_TOKENS; the last may be shorter."""
    import numpy as np

    waiting: list[Any] = []
    size = 0
    for array in arrays:
        while size + len(array) >= SHARD_TOKENS:
            room = SHARD_TOKENS - size
            yield np.concatenate([*waiting, array[:room]])
            array, waiting, size = array[room:], [], 0
        waiting.append(array)
        size += len(array)
    if size:
        yield np.concatenate(waiting)


# -- a dataset of your own text ----------------------------------------------------------------------------------------


def build_corpus(
    paths: Iterable[Path], output: Path, vocab_size: int, name: str, workers: int, say: Callable[[str], object]
) -> dict[str, Any]:
    """Build the dataset NAME_spVOCAB of the text below `output`, and return the manifest.

    Raise DatasetError for a bad name, no text, text that is not UTF-8, or too little for the vocabulary or the split.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DatasetError(f"--name {name!r} is not a plain file name. Use letters, digits, '_', '-' and '.'.")
    dataset_name, tokenizer_name = f"{name}_sp{vocab_size}", f"{name}_{vocab_size}_bpe"
    refuse_fetched(output, dataset_name)
    parts = split_corpus(paths, say)
    say(f"Training a {vocab_size}-piece BPE tokenizer on the documents that are not held out.")
    try:
        model = train_tokenizer(parts["train"], vocab_size)
    except RuntimeError as error:
        raise DatasetError(tokenizer_fault(vocab_size, str(error))) from None

    say(f"Encoding the documents into shards with up to {workers} processes.")
    model_path = f"tokenizers/{tokenizer_name}.model"
    files = {model_path: write_whole(output / model_path, model)}
    for split, part in parts.items():
        for number, tokens in enumerate(in_shards(encoded(model, part, workers))):
            shard = shard_name(dataset_name, split, number)
            files[shard] = write_whole(output / shard, shard_bytes(tokens))
    for path in (output / "datasets" / dataset_name).glob("fineweb_*.bin"):
        if str(path.relative_to(output)) not in files:
            path.unlink()  # left by an earlier, larger corpus; the trainer reads every shard it finds
    stats = counts(files)
    dataset = {"name": dataset_name, "tokenizer_name": tokenizer_name, "stats": stats}
    tokenizer = {"name": tokenizer_name, "model_path": model_path, "vocab_size": vocab_size}
    manifest = record(output, dataset, tokenizer, files)
    tokens_of = f"{stats['tokens_train']:,} training and {stats['tokens_val']:,} validation tokens of {dataset_name}"
    say(f"Wrote {tokens_of} to {output}.")
    return manifest


def tokenizer_fault(vocab_size: int, said: str) -> str:
    """Say why SentencePiece built no tokenizer. From what it said itself, take the numbers only."""
    if most := re.search(r"value <= (\d+)", said):
        return f"The text gives at most {most[1]} pieces; got --vocab-size {vocab_size}. Lower it, or give more text."
    if least := re.search(r"required_chars\D+\d+ vs (\d+)", said):
        return f"The text's characters need at least {least[1]} pieces; got --vocab-size {vocab_size}. Raise it."
    return f"The text gives no tokenizer of {vocab_size} pieces. Give more text or another --vocab-size."


def split_corpus(paths: Iterable[Path], say: Callable[[str], object]) -> dict[str, list[str]]:
    """Read the text and return its excerpts as "train" and "val". Raise DatasetError if one of them is empty."""
    files = corpus_files(paths)
    documents = list(corpus_documents(files))
    if not documents:
        raise DatasetError(f"Found no text in {len(files)} files. Name files or folders of {', '.join(SUFFIXES)}.")
    parts = {
        "train": excerpts([document for document in documents if not is_validation(document)]),
        "val": excerpts([document for document in documents if is_validation(document)]),
    }
    if not all(parts.values()):
        left = "validation" if parts["train"] else "training"
        raise DatasetError(
            f"{len(documents)} documents are too few: one in {VALIDATION_SHARE} is held out, by its digest, which leaves "
            f"none for {left}. Give more documents, for example one per JSONL line."
        )
    size = sum(len(document.encode()) for document in documents)
    say(f"Read {len(documents)} documents ({size / 1e6:,.1f} MB) in {len(files)} files.")
    return parts


def refuse_fetched(output: Path, name: str) -> None:
    """Raise DatasetError if `name` is a fetched dataset, whose shards would be overwritten."""
    try:
        datasets = read_manifest(output).get("datasets", [])
    except DatasetError:
        return
    if any(entry.get("name") == name and "source" in entry for entry in datasets):
        raise DatasetError(f"{output} holds the published {name}. Choose another --name or --output.")
