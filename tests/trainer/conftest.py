"""A tiny real dataset, and model settings that train in a second."""

from __future__ import annotations

import ast
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from trainer.corpus import encode, excerpts, train_tokenizer
from trainer.shards import shard_bytes, write_whole
from trainer.train_gpt import GPT

TINY_VOCAB = 400
TINY_MODEL = {
    "VOCAB_SIZE": str(TINY_VOCAB),
    "NUM_LAYERS": "3",
    "MODEL_DIM": "32",
    "NUM_HEADS": "4",
    "NUM_KV_HEADS": "2",
    "TRAIN_SEQ_LEN": "32",
    "TRAIN_BATCH_TOKENS": "512",
    "VAL_BATCH_SIZE": "1024",
    "ITERATIONS": "12",
    "WARMUP_STEPS": "2",
    "WARMDOWN_ITERS": "4",
    "MAX_WALLCLOCK_SECONDS": "0",
    "VAL_LOSS_EVERY": "6",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def prose() -> str:
    """Return lines of made-up words, the same on every Python, because a document's bytes decide if it is held out."""
    letters = random.Random(7)
    words = ["".join(letters.choices("etaoinshrdlucmfwypvbgkqjxz", k=letters.randrange(2, 9))) for _ in range(400)]
    return "".join(" ".join(letters.choices(words, k=9)) + ".\n" for _ in range(200))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def disturb(model: torch.nn.Module, by: float = 0.1) -> None:
    """Move every parameter off its initial value, which is zero for some."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * by)


def matrices_of(model: GPT) -> list[torch.nn.Parameter]:
    """Return the block matrices, which Muon updates."""
    return [layer.weight for layer in model.blocks.modules() if isinstance(layer, torch.nn.Linear)]


@dataclass(frozen=True)
class TinyData:
    folder: Path
    tokenizer: Path
    documents: list[str]

    @property
    def env(self) -> dict[str, str]:
        return {**TINY_MODEL, "DATA_PATH": str(self.folder), "TOKENIZER_PATH": str(self.tokenizer)}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Build shards and a tokenizer from two modules of the standard library."""
    root = tmp_path_factory.mktemp("tiny")
    documents = excerpts([Path(json.__file__).read_text(), Path(ast.__file__).read_text()])
    model = train_tokenizer(documents, TINY_VOCAB)
    write_whole(root / "t.model", model)
    for split, part in (("train", documents[4:]), ("val", documents[:2])):
        tokens = encode(model, part)
        write_whole(root / f"fineweb_{split}_000000.bin", shard_bytes(tokens))
    return TinyData(root, root / "t.model", documents)
