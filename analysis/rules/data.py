"""The data that a ruleset allows: its table `[data]`, checked and asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

VAL_TOKENS = "val_tokens"
NUMBERS = ("val_tokens_within", "bpb_per_nat_within")
LISTS = ("datasets",)
KEYS = ("train_shards", *NUMBERS, *LISTS, VAL_TOKENS)
USUAL_WITHIN = {"val_tokens_within": 0.0005, "bpb_per_nat_within": 3e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a run may be trained and validated on. What is None or empty is not checked.

    train_shards: at most. datasets: patterns of the names that are known. val_tokens: by the tokenizer's file name, the
    counts that are the whole validation split; a count may be off by the share `val_tokens_within`, the end of the split
    that fills no batch. bpb_per_nat_within: how far val_bpb / val_loss may be from the ruleset's, besides rounding.
    """

    train_shards: int | None
    datasets: Sequence[str]
    val_tokens: Mapping[str, Sequence[int]]
    val_tokens_within: float
    bpb_per_nat_within: float

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Data:
        """Return the table as a ruleset holds it, with the usual tolerances where it names none."""
        return cls(
            train_shards=table.get("train_shards"),
            datasets=table.get("datasets", ()),
            val_tokens=table.get(VAL_TOKENS, {}),
            **{name: table.get(name, usual) for name, usual in USUAL_WITHIN.items()},
        )

    def knows(self, dataset: str) -> bool:
        return not self.datasets or any(fnmatchcase(dataset, pattern) for pattern in self.datasets)

    def counts_for(self, tokenizer: str | None) -> Sequence[int]:
        """Return the allowed counts of a tokenizer, those of all tokenizers where a log does not name its own."""
        if tokenizer is None:
            return [count for counts in self.val_tokens.values() for count in counts]
        return self.val_tokens.get(tokenizer, ())

    def agree(self, tokens: int, others: Sequence[int]) -> bool:
        """Return whether a count is one of the others, up to the end of the split that fills no batch."""
        return any(abs(tokens - other) <= self.val_tokens_within * other for other in others)


def fault_of(table: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a table `[data]`, as what is allowed; None when nothing is."""
    for key, value in table.items():
        if key not in KEYS:
            return f"there is no key {key!r} in it; allowed: {', '.join(KEYS)}"
        if key == "train_shards" and not _is_count(value):
            return f"{key} in it must be a whole number above 0"
        if key in NUMBERS and not _is_share(value):
            return f"{key} in it must be a number between 0 and 0.1"
        if key in LISTS and not (isinstance(value, list) and all(isinstance(one, str) and one for one in value)):
            return f"{key} in it must be a list of names"
        if key == VAL_TOKENS and not (isinstance(value, dict) and all(map(_are_counts, value.values()))):
            return f"{key} in it must give each tokenizer a list of whole numbers above 0"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value))


def _is_share(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 < value <= 0.1
