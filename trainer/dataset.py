"""Token shards and tokenizer: fetch the published ones, build them from text, or verify them.

    python -m trainer.dataset demo            # data/: a real 1,024-piece tokenizer and about 7 M tokens, offline
    python -m trainer.dataset fetch           # data/: the published FineWeb shards and their tokenizer
    python -m trainer.dataset build notes/    # data/: tokenizer and shards of your own text
    python -m trainer.dataset verify data     # every file against the digests of data/manifest.json

trainer/shards.py describes the files of a dataset directory.
"""

from __future__ import annotations

import ast
import hashlib
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from trainer.corpus import encode, excerpts, is_validation, train_tokenizer
from trainer.extra import installed
from trainer.shards import (
    MANIFEST,
    DatasetError,
    counts,
    problems,
    read_manifest,
    record,
    shard_bytes,
    shard_name,
    write_whole,
)

DEMO_DATASET = "demo_sp1024"
DEMO_TOKENIZER = "demo_1024_bpe"
DEMO_VOCAB_SIZE = 1024
DEMO_HELD_OUT = 9  # validate on every ninth held-out excerpt only: each run of the demo validates six times


# -- documents ---------------------------------------------------------------------------------------------------------


def standard_library_documents(root: Path | None = None) -> Iterator[str]:
    """Yield the standard library's sources without tests, and the documentation topics, as documents in path order.

    Files that are not UTF-8 are skipped. Every Python of one version yields the same documents.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"} & set(parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if parts == ("pydoc_data", "topics.py"):
            yield from documentation_topics(text)
        elif text.strip():
            yield text


def documentation_topics(source: str) -> Iterator[str]:
    """Yield the values of the dictionary literal in pydoc_data/topics.py, in its order."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            yield from ast.literal_eval(statement.value).values()


def build_demo(output: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Build the demo dataset below `output` and return its manifest. Keep a complete one of the same text."""
    documents = list(standard_library_documents())
    train = excerpts([document for document in documents if not is_validation(document)])
    held_out = excerpts([document for document in documents if is_validation(document)])[::DEMO_HELD_OUT]
    text_digest = hashlib.sha256("\0".join([*train, "", *held_out]).encode()).hexdigest()
    model_path = f"tokenizers/{DEMO_TOKENIZER}.model"
    parts = {shard_name(DEMO_DATASET, "train", 0): train, shard_name(DEMO_DATASET, "val", 0): held_out}
    if manifest := whole_demo(output, text_digest, [model_path, *parts]):
        say(f"{output} already holds the demo dataset of this Python; kept.")
        return manifest

    size = sum(len(document.encode()) for document in documents)
    say(f"Read {len(documents)} documents ({size / 1e6:.1f} MB) of Python {sys.version.split()[0]}'s standard library.")
    say(f"Training a {DEMO_VOCAB_SIZE}-piece BPE tokenizer on the documents that are not held out.")
    model = train_tokenizer(train, DEMO_VOCAB_SIZE)
    say("Encoding the documents into shards.")
    files = {model_path: write_whole(output / model_path, model)}
    for name, part in parts.items():
        files[name] = write_whole(output / name, shard_bytes(encode(model, part)))
    stats = counts(files)
    for split, part in (("train", train), ("val", held_out)):
        stats |= {f"excerpts_{split}": len(part), f"bytes_{split}": sum(len(excerpt.encode()) for excerpt in part)}
    dataset = {"name": DEMO_DATASET, "tokenizer_name": DEMO_TOKENIZER, "text_sha256": text_digest, "stats": stats}
    tokenizer = {"name": DEMO_TOKENIZER, "model_path": model_path, "vocab_size": DEMO_VOCAB_SIZE}
    manifest = record(output, dataset, tokenizer, files)
    say(f"Wrote {stats['tokens_train']:,} training and {stats['tokens_val']:,} validation tokens to {output}.")
    return manifest


def whole_demo(output: Path, text_digest: str, names: list[str]) -> dict[str, Any] | None:
    """Return the manifest if `output` holds a whole demo dataset of this text, else None."""
    try:
        manifest = read_manifest(output)
    except DatasetError:
        return None  # nothing there yet, or not ours to keep
    datasets = [entry for entry in manifest.get("datasets", []) if entry.get("name") == DEMO_DATASET]
    ours = {name: manifest["files"].get(name, {}) for name in names}
    same = [entry.get("text_sha256") for entry in datasets] == [text_digest]
    return manifest if same and not list(problems(output, {"files": ours})) else None


# -- commands ----------------------------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make and check token shards and tokenizers for the trainer."""


@main.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True)
def demo(output: Path) -> None:
    """Build a small real dataset from this Python's own standard library, without any network."""
    try:
        with installed():
            build_demo(output, click.echo)
    except OSError as error:
        raise click.ClickException(f"Cannot write the dataset to {output}: {error}") from None


@main.command()
@click.option("--shards", type=click.IntRange(min=1), help="Training shards to hold.  [default: 80, or all if fewer]")
@click.option("--variant", default="sp1024", show_default=True, help="Published dataset to fetch.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True)
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit of the published data.")
def fetch(shards: int | None, variant: str, output: Path, revision: str) -> None:
    """Fetch published shards and their tokenizer from the Hugging Face Hub.

    Whole files that are here already are kept. After a failure the same command continues, also within a file.
    HF_ENDPOINT names a mirror, HF_TOKEN an access token.
    """
    usual = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C does not wait for the transfers; their parts are kept
    try:
        with installed():
            from trainer.fetch import fetch_published

            fetch_published(output, variant, shards, revision, click.echo)
    except OSError as error:
        raise click.ClickException(f"Cannot write the dataset to {output}: {error}") from None
    finally:
        signal.signal(signal.SIGINT, usual)


@main.command()
@click.argument("corpus", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), show_default=True)
@click.option("--vocab-size", type=click.IntRange(min=260, max=1 << 16), default=1024, show_default=True)
@click.option(
    "--name", default="mine", show_default=True, help="The dataset is called NAME_spSIZE, with the vocabulary size."
)
def build(corpus: tuple[Path, ...], output: Path, vocab_size: int, name: str) -> None:
    """Build a tokenizer and shards from your own text.

    CORPUS is files or folders of UTF-8 text: each .txt or .md file is a document, and so is the "text" of each line of
    a .jsonl file. One document in 20, chosen by its digest, is held out for validation.

    The text must fit into memory. The same text gives the same bytes on any number of cores.
    """
    from trainer.corpus import build_corpus

    try:
        with installed():
            build_corpus(corpus, output, vocab_size, name, os.cpu_count() or 1, click.echo)
    except DatasetError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"Cannot build the dataset in {output}: {error}") from None


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path("data"))
def verify(directory: Path) -> None:
    """Check every file of a dataset DIRECTORY: presence, size, SHA-256, shard header."""
    try:
        manifest = read_manifest(directory)
    except DatasetError as error:
        raise click.ClickException(str(error)) from None
    found = list(problems(directory, manifest))
    for sentence in found:
        click.echo(sentence, err=True)
    if found:
        raise click.ClickException(
            f"{len(found)} of {len(manifest['files'])} files do not match {directory / MANIFEST}."
        )
    click.echo(f"{directory}: {len(manifest['files'])} files match the manifest.")


if __name__ == "__main__":
    main()
