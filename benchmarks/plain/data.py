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
    """An endless stream of training tokens: shards in name order, then from the start again."""

    def __init__(self, folder: str) -> None:
        self.tokens, self.at = torch.cat([read_shard(path) for path in shards(folder, "train")]), 0

    def batch(self, tokens: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the next windows; the last target is the next batch's first input."""
        places = torch.arange(self.at, self.at + tokens + 1) % len(self.tokens)
        span, self.at = self.tokens[places], self.at + tokens
        return span[:-1].view(-1, length), span[1:].view(-1, length)


class Bytes:
    """Know how many bytes of text each token stands for."""

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

    def of(self, previous: Tensor, targets: Tensor) -> Tensor:
        """Return the bytes of each target, given the token before it."""
        return self.own[targets] + (self.marked[targets] & ~self.silent[previous])
