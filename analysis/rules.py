"""Rulesets: a leaderboard's acceptance rule as data.

A ruleset is a TOML file. Those of `analysis/rulesets/` are found by name; any other is given by its path.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("rulesets")
METRIC_UNITS = {"val_bpb": "bpb", "val_loss": "nats"}
ALLOWED: dict[str, tuple[Any, ...]] = {
    "version": (1,),
    "metric": tuple(METRIC_UNITS),
    "unit": tuple(METRIC_UNITS.values()),
    "test": ("one-sample t",),
}


class RulesError(ValueError):
    """A ruleset that does not exist or does not hold what it must, as one sentence with file, key and what is allowed."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What a claim must show. `margin` is in `unit`: bpb (bits per byte) or nats (per token)."""

    name: str
    version: int
    metric: str
    margin: float
    unit: str
    test: str
    alpha: float


def known() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_file: str) -> Ruleset:
    """A ruleset by name (`parameter-golf`) or by the path of a TOML file. Raises RulesError."""
    path = FOLDER / f"{name_or_file}.toml" if name_or_file in known() else Path(name_or_file)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RulesError(
            f"{name_or_file!r} is neither a ruleset ({', '.join(known())}) nor a TOML file that can be read."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path} is not TOML: {error}.") from None
    return from_table(path.stem, table, str(path))


def from_table(name: str, table: dict[str, Any], path: str) -> Ruleset:
    """A ruleset from its keys, checked; `path` is where they stand. Raises RulesError."""
    kinds = {field.name: field.type for field in fields(Ruleset) if field.name != "name"}
    for key in table:
        if key not in kinds:
            raise RulesError(f"{path}: unknown key {key!r}; a ruleset has {', '.join(kinds)}.")
    for key, kind in kinds.items():
        if key not in table:
            raise RulesError(f"{path}: the key {key!r} is missing; a ruleset has {', '.join(kinds)}.")
        value = table[key]
        if key in ALLOWED and value not in ALLOWED[key]:
            raise RulesError(f"{path}: {key} is {value!r}; allowed: {', '.join(map(repr, ALLOWED[key]))}.")
        if kind == "float" and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise RulesError(f"{path}: {key} is {value!r}; it must be a number.")
    if not 0 < table["alpha"] < 0.5:
        raise RulesError(f"{path}: alpha is {table['alpha']}; it must lie between 0 and 0.5.")
    if not 0 <= table["margin"] < float("inf"):
        raise RulesError(f"{path}: margin is {table['margin']}; it must be a finite number, 0 or more.")
    return Ruleset(name=name, **table)
