"""val_bpb is exact: it equals a slow count of bytes, on text that tries to break it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plain.data import Bytes
from tests.trainer.conftest import TINY_VOCAB, TinyData, disturb
from trainer.corpus import encode
from trainer.shards import shard_bytes, write_whole
from trainer.train_gpt import GPT, Settings, TokenBytes, Validation, load_tokenizer

CPU = torch.device("cpu")
# letters that the tokenizer knows, others (byte fallback), blanks, newlines, and the mark U+2581 itself
alphabet = st.sampled_from([*"abcdef selfimport(){}:=.,\n\t", "\u2581", "é", "ß", "漢", "🙂", "\u0301", "\u00a0"])
texts = st.text(alphabet, max_size=60)


@given(st.lists(texts, min_size=1, max_size=4))
def test_bytes_of_every_token(tiny_data: TinyData, documents: list[str]) -> None:
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(tiny_data.tokenizer))
    ids = [token for text in documents for token in (tokenizer.bos_id(), *tokenizer.encode(text), tokenizer.eos_id())]
    tokens = torch.tensor(ids)
    counted = TokenBytes.of(tokenizer, CPU).count(tokens[:-1], tokens[1:])
    assert torch.equal(counted, Bytes(str(tiny_data.tokenizer), TINY_VOCAB).of(tokens[:-1], tokens[1:]))


@given(texts)
def test_the_bytes_of_a_document_add_up_to_its_utf8_length(tiny_data: TinyData, text: str) -> None:
    # U+2581 in the text is SentencePiece's own blank: it counts one byte, not three
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(tiny_data.tokenizer))
    tokens = torch.tensor(tokenizer.encode(text, add_bos=True))
    counted = int(TokenBytes.of(tokenizer, CPU).count(tokens[:-1], tokens[1:]).sum())
    assert counted == len(text.replace("\u2581", " ").encode("utf-8"))


def settings(tiny_data: TinyData, **changes: str) -> Settings:
    return Settings.from_env(tiny_data.env | changes)


def test_val_loss_and_val_bpb_against_a_loop(tiny_data: TinyData) -> None:
    s = settings(tiny_data)
    torch.manual_seed(0)
    model, tokenizer = GPT(s), load_tokenizer(s)
    disturb(model)
    found = Validation(s, TokenBytes.of(tokenizer, CPU), CPU, 0, 1).run(model)

    content = (tiny_data.folder / "fineweb_val_000000.bin").read_bytes()[1024:]
    tokens = [int.from_bytes(content[at : at + 2], "little") for at in range(0, len(content), 2)]
    plain = Bytes(s.tokenizer_path, s.vocab_size)
    nats = size = count = 0
    for start in range(0, len(tokens) - s.train_seq_len, s.train_seq_len):
        window = tokens[start : start + s.train_seq_len + 1]
        with torch.no_grad():
            losses = model(torch.tensor([window[:-1]]), torch.tensor([window[1:]]))
        nats += math.fsum(losses.tolist())
        size += int(plain.of(torch.tensor(window[:-1]), torch.tensor(window[1:])).sum())
        count += s.train_seq_len
    assert found[0] == pytest.approx(nats / count, rel=1e-5)
    assert found[1] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found[1] / found[0] == pytest.approx(count / size / math.log(2), rel=1e-12)


def test_too_little_validation_data_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    model = tiny_data.tokenizer.read_bytes()
    write_whole(tmp_path / "fineweb_val_000000.bin", shard_bytes(encode(model, ["a b"])))
    s = settings(tiny_data, DATA_PATH=str(tmp_path))
    with pytest.raises(ValueError, match="TRAIN_SEQ_LEN=32"):
        Validation(s, TokenBytes.of(load_tokenizer(s), CPU), CPU, 0, 1)


def test_tokens_outside_the_vocabulary_are_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    tokens = np.full(100, 999, dtype="<u2")
    write_whole(tmp_path / "fineweb_val_000000.bin", shard_bytes(tokens))
    s = settings(tiny_data, DATA_PATH=str(tmp_path))
    with pytest.raises(ValueError, match="token 999, outside VOCAB_SIZE=400"):
        Validation(s, TokenBytes.of(load_tokenizer(s), CPU), CPU, 0, 1)
