"""Token shards, and how many bytes of text a token stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor

HEADER_BYTES = 256 * 4
MARK = "\N{LOWER ONE EIGHTH BLOCK}"


def shards(folder: str, split: str) -> list[Path]:
    """Return the shards of a split in name order."""
    return sorted(Path(folder).glob(f"fineweb_{split}_*.bin"))


def read_shard(path: Path) -> Tensor:
    """Return the tokens of a shard."""
    magic, version, count = np.fromfile(path, dtype="<i4", count=3)
    if (magic, version) != (20240520, 1):
        raise ValueError(f"{path} is not a token shard")
    return torch.from_numpy(np.fromfile(path, dtype="<u2", count=count, offset=HEADER_BYTES).astype(np.int64))


class Stream:
    """An endless stream of training tokens."""

    def __init__(self, folder: str) -> None:
        self.paths = shards(folder, "train")
        self.shard, self.at, self.tokens = 0, 0, read_shard(self.paths[0])

    def take(self, count: int) -> Tensor:
        """Return the next tokens."""
        parts = []
        while count:
            if self.at == len(self.tokens):
                self.shard, self.at = (self.shard + 1) % len(self.paths), 0
                self.tokens = read_shard(self.paths[self.shard])
            part = self.tokens[self.at : self.at + count]
            self.at += len(part)
            count -= len(part)
            parts.append(part)
        return torch.cat(parts)

    def batch(self, tokens: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the next windows."""
        span = self.take(tokens + 1)
        return span[:-1].view(-1, length), span[1:].view(-1, length)


class Bytes:
    """Count the bytes of target tokens."""

    def __init__(self, tokenizer_path: str, vocab_size: int) -> None:
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=tokenizer_path)
        self.own = torch.zeros(vocab_size, dtype=torch.int64)
        self.marked = torch.zeros(vocab_size, dtype=torch.bool)
        self.silent = torch.ones(vocab_size, dtype=torch.bool)
        for token in range(min(vocab_size, tokenizer.vocab_size())):
            if tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token):
                continue
            self.silent[token] = False
            piece = tokenizer.id_to_piece(token)
            self.marked[token] = piece.startswith(MARK)
            self.own[token] = 1 if tokenizer.is_byte(token) else len(piece.removeprefix(MARK).encode())

    def count(self, previous: Tensor, targets: Tensor) -> int:
        """Return the bytes of the targets, each with the token before it."""
        return int((self.own[targets] + (self.marked[targets] & ~self.silent[previous])).sum())
