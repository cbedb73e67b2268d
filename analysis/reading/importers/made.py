"""Make a run of what a tracker or a table says of it: rows of numbers by name, each with its step if it has one."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.reading.ending import end_of_curve
from analysis.reading.names import Value, alone, normal, usual
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_small, spend

LARGEST = 2**23  # bytes of one file; parsing JSON takes some 30 times that
MOST_ROWS = 20_000  # of one run
MOST_RUNS = 1000  # of one file
MOST_NAMES = 500  # of one row
MOST_SETTINGS = 500
ROW = 2**10  # bytes that a row counts as, of the budget of its folder
STEPS = ("step", "global_step", "trainer_global_step", "iter", "iteration")
TOTALS = ("total_steps", "max_steps", "num_iterations", "num_steps", "iterations", "steps")
TRAINED_S = ("train_time_s", "training_time_s", "total_training_time_s", "total_training_time", "train_runtime")
NOT_METRICS = {*STEPS, *TOTALS, "seed", "epoch", "time", "timestamp", "runtime", "wandb", "train_time_ms", *TRAINED_S}
_SEED = re.compile(r"(?<![a-z])seed[_=-]?(\d{1,18})(?!\d)", re.IGNORECASE)
_YAML_SEED = re.compile(
    rb"^(?:\w{0,20}_)?seed:(?:[ \t]*|\s+(?:desc:[^\n]*\n\s+)?value:[ \t]*)['\"]?(\d{1,18})['\"]?[ \t]*$", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Numbers that belong together. line: where they are in the file, 0 if it has no lines."""

    numbers: Mapping[str, float]
    step: int | None = None
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is said of a run besides its rows. finished: False for a run that the tracker calls crashed or killed."""

    log: Path
    origin: Origin
    seed: int | None = None
    total_steps: int | None = None
    label: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    finished: bool = True


def run_of(told: Told, rows: Sequence[Row]) -> Run:
    """Return the run. Rows with steps are its curve; what it ends in is the last validation or, without steps, the last row."""
    if len(rows) > MOST_ROWS:
        raise FileError(f"holds more than {MOST_ROWS} rows of one run")
    spend(ROW * len(rows), runs=1)
    stepped = sorted((row for row in rows if row.step is not None), key=lambda row: row.step or 0)
    curve = tuple((row.line, _step_line(row, told.total_steps)) for row in stepped)
    values = _values(rows)
    facts: dict[str, Any] = {"log": told.log, "line": rows[0].line or 1 if rows else 1, "origin": told.origin}
    facts |= {"seed": told.seed, "hyperparameters": dict(told.settings), "total_steps": told.total_steps}
    if not told.finished:
        return Run(**facts, curve=curve)
    facts |= {"values": values, "train_time_ms": _trained_ms(rows)}
    if curve:
        end = end_of_curve(curve)
        return Run(
            **facts,
            curve=curve,
            validation=end.validation,
            validated_step=end.validated_step,
            last_step=end.last_step,
        )
    final = alone(values)
    if final is not None and told.label:
        final = replace(final, label=told.label)
    last = told.total_steps
    finals = (final,) if final is not None else ()
    return Run(**facts, metrics=finals, finals=finals, validation=final, validated_step=last, last_step=last)


def _step_line(row: Row, total: int | None) -> bytes:
    said = " ".join(f"{_printable(name)}:{number!r}" for name, number in row.numbers.items())
    return f"step:{row.step}{f'/{total}' if total else ''} {said}\n".encode()


def _printable(name: str) -> str:
    return normal(usual(name.encode("utf-8", "replace")).decode("utf-8", "replace"))


def _values(rows: Sequence[Row]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for row in rows:
        for name, number in row.numbers.items():
            key = _printable(name)
            if key and key not in NOT_METRICS and (key in found or len(found) < MOST_NAMES):
                found[key] = Value(number=number, line=row.line, step=row.step)
    return found


def _trained_ms(rows: Sequence[Row]) -> float | None:
    last = {_printable(name): number for row in rows for name, number in row.numbers.items()}
    if "train_time_ms" in last:
        return last["train_time_ms"]
    return next((1000 * last[name] for name in TRAINED_S if name in last), None)


# -- what importers share ----------------------------------------------------------------------------------------------


def number_of(value: Any) -> float | None:
    """Return a number, also one written as text; None for anything else. JSON's texts NaN and Infinity count."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value in ("", "-"):
        return None
    try:
        return float(value) if not isinstance(value, str) or len(value) <= 40 else None
    except (ValueError, OverflowError):
        return None


def whole(value: Any) -> int | None:
    """Return a whole number below 10^18, also one written as 20.0."""
    number = number_of(value)
    return (
        int(number) if number is not None and math.isfinite(number) and 0 <= number < 1e18 and number % 1 == 0 else None
    )


def numbers_in(table: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a table by name."""
    found = ((str(name), number_of(value)) for name, value in list(table.items())[:MOST_NAMES])
    return {name: number for name, number in found if number is not None}


def step_of(table: Mapping[str, Any], names: Sequence[str] = STEPS) -> int | None:
    """Return the step of a row, or another whole number of it."""
    usual_names = {normal(str(name)): value for name, value in list(table.items())[:MOST_NAMES]}
    return next((found for name in names if (found := whole(usual_names.get(name))) is not None), None)


def seed_of(table: Mapping[str, Any]) -> int | None:
    """Return the seed that a table of settings holds."""
    return step_of(table, ("seed", "random_seed", "manual_seed"))


def settings_of(table: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as text, without tables in tables."""
    plain = [(name, value) for name, value in table.items() if isinstance(value, (str, int, float, bool))]
    return {str(name)[:200]: str(value)[:500] for name, value in plain[:MOST_SETTINGS]}


def seed_in_name(path: Path) -> int | None:
    """Return the seed that a file's name or one of its three folders' names claims: seed1, model_seed=7."""
    for name in (path.stem, *(folder.name for folder in list(path.parents)[:3])):
        if found := _SEED.search(name):
            return int(found[1])
    return None


def beside(path: Path, *names: str) -> Path | None:
    """Return the first of these files next to a path that is there and no link."""
    found = (path.parent / name for name in names)
    return next((one for one in found if os.path.isfile(one) and not os.path.islink(one)), None)


def seed_in_yaml(path: Path | None) -> int | None:
    """Return the seed that a file of settings holds: `seed: 1`, or wandb's `seed:` with a `value: 1` below it."""
    if path is None:
        return None
    found = _YAML_SEED.search(read_small(path, LARGEST))
    return int(found[1]) if found else None


def json_in(path: Path) -> Any:
    """Return what a JSON file holds; None where it is no JSON. Raises FileError."""
    content = read_small(path, LARGEST)
    spend(8 * len(content))
    return parsed(content)


def parsed(content: bytes | str) -> Any:
    """Return what JSON says; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def tables_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the tables of a list."""
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()
