"""What a submission JSON claims of each seed, and which attempts of the seed it lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from analysis.reading.names import normal
from analysis.reading.result import Tried
from analysis.record.keys import (
    DEEPEST,
    ELSEWHERE,
    LARGEST,
    SEED_KEY,
    SEEDS,
    is_bpb,
    is_loss,
    number,
    seed_number,
)
from analysis.sweepdir.json_files import of_type
from analysis.sweepdir.layout import ARMS, STATES

MOST_SEEDS = 100
MOST_NUMBERS = 20  # of one seed
MOST_ATTEMPTS = 1000
LARGEST_NUMBER = 2**53


class SeedNumber(NamedTuple):
    """A number of the JSON, and the normal key that it is under."""

    value: Decimal
    key: str


@dataclass(slots=True, kw_only=True)
class SeedClaim:
    """What is claimed of one seed: every bpb and every loss that the JSON gives it, in the order of writing.

    key: the first key that names it. numbers: every number of it, with its normal key.
    """

    key: str
    val_bpbs: list[Decimal] = field(default_factory=list)
    val_losses: list[Decimal] = field(default_factory=list)
    numbers: list[SeedNumber] = field(default_factory=list)
    log: str | None = None

    def take(self, key: str, value: Any) -> None:
        """Add a value if its normal key says what it is."""
        found = number(value)
        if found is not None and len(self.numbers) < MOST_NUMBERS:
            self.numbers.append(SeedNumber(found, key))
        if isinstance(value, str) and re.fullmatch(r"log(?:_?file|_path)?|train_log", key):
            self.log = value
        elif found is None or ELSEWHERE.search(key) or found >= LARGEST:
            return
        elif is_bpb(key):
            self.val_bpbs.append(found)
        elif is_loss(key):
            self.val_losses.append(found)


def read_seeds(table: Mapping[str, Any]) -> dict[int, SeedClaim]:
    """Return every seed that the JSON names as one of its own, with what it says of it."""
    reader = _Reader()
    reader.read(table)
    return reader.said


def read_attempts(table: Mapping[str, Any]) -> list[Tried]:
    """Return the attempts that a record of ours lists: [{"arm": "candidate", "seed": 1, "attempt": 1, "state": "lost", ...}].

    Their last values come from their logs, never from the JSON.
    """
    said = table.get("attempts")
    found = []
    for one in said[:MOST_ATTEMPTS] if isinstance(said, list) else []:
        known = one if isinstance(one, dict) else {}
        seed, attempt, wall = (_plain(known.get(key)) for key in ("seed", "attempt", "wall_s"))
        if known.get("arm") not in ARMS or known.get("state") not in STATES or seed is None or attempt is None:
            continue
        texts = {key: of_type(known.get(key), str) for key in ("reason", "log", "started", "ended", "host")}
        named = {"arm": known["arm"], "seed": int(seed), "attempt": int(attempt), "state": known["state"]}
        found.append(Tried(**named, **texts, wall_s=wall))
    return found


def _plain(value: Any) -> float | None:
    return float(value) if isinstance(value, Decimal) and value.is_finite() and 0 <= value < LARGEST_NUMBER else None


class _Reader:
    """One pass over one JSON."""

    def __init__(self) -> None:
        self.said: dict[int, SeedClaim] = {}

    def read(self, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            name = normal(key)
            if match := SEED_KEY.search(name):  # seed_42_val_bpb: 1.08, or seed_42: {...}
                self.say(int(match[1]), key, value)
            elif ELSEWHERE.search(name):
                continue
            elif name == "seed":
                self.say(seed_number(value), key, None)
            elif SEEDS.search(name) or is_bpb(name) or name in ("metrics", "evaluation", "evidence"):
                self.walk(name, value, 0)
        for key, value in table.items():  # val_bpbs: [1.08, 1.09] next to seeds: [42, 7]
            if isinstance(value, list) and re.search(r"bpbs?(?:_|$)", normal(key)) and len(value) == len(self.said):
                for seed, item in zip(list(self.said), value, strict=True):
                    self.say(seed, key, {"val_bpb": item})

    def walk(self, key: str, value: Any, depth: int) -> None:
        """Look for seeds in a list or a table. A bare number is a seed only if a key above says so: a stride of 64 is not."""
        if depth > DEEPEST or len(self.said) >= MOST_SEEDS:
            return
        if isinstance(value, list):
            for item in value[:MOST_SEEDS]:
                if isinstance(item, dict):
                    self.walk(key, item, depth + 1)
                elif _of_seeds(key) and not is_bpb(key):
                    self.say(seed_number(item), key, None)
        elif isinstance(value, dict):
            if (seed := seed_number(value.get("seed"))) is not None:
                self.say(seed, key, value)
                return
            for name, item in value.items():
                self.walk_item(key, name, item, depth)

    def walk_item(self, key: str, name: str, item: Any, depth: int) -> None:
        plain, of_seeds = normal(name), _of_seeds(key)
        match = re.fullmatch(r"(?:seed_?|s_?)?(\d{1,18})", plain)
        named = match is not None and (of_seeds or plain.startswith("seed"))
        whole = isinstance(item, Decimal) and item == item.to_integral_value()
        if isinstance(item, dict) and seed_number(item.get("seed")) is not None:
            self.walk(key, item, depth + 1)
        elif named and whole and (seed := seed_number(item)) is not None:  # "seed1": 42
            self.say(seed, name, None)
        elif named and match and (isinstance(item, dict) or number(item) is not None):
            self.say(int(match[1]), name, item if isinstance(item, dict) else {_metric_under(key): item})
        elif isinstance(item, (dict, list)) and not ELSEWHERE.search(plain):
            below = plain if SEEDS.search(plain) else key
            self.walk(f"{below}_seed" if of_seeds and not SEEDS.search(plain) else below, item, depth + 1)

    def say(self, seed: int | None, key: str, value: Any) -> None:
        """Add what one place says of one seed, if it is one."""
        if seed is None or (seed not in self.said and len(self.said) >= MOST_SEEDS):
            return
        about = self.said.setdefault(seed, SeedClaim(key=key))
        said = value if isinstance(value, dict) else {normal(SEED_KEY.sub("_", key)) or "val_bpb": value}
        for name, item in said.items():
            about.take(normal(name), item)


def _of_seeds(key: str) -> bool:
    return re.search(r"(?:^|_)seeds?(?:_|$)", key) is not None


def _metric_under(key: str) -> str:
    """Return what a bare number in a table of seeds is: a loss if the table says so, else a bpb."""
    return "val_loss" if is_loss(key) and not is_bpb(key) else "val_bpb"
