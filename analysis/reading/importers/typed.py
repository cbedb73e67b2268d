"""Runs that are typed or given in memory instead of read from a file: nothing is known of them but numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from analysis.reading.frame import from_frame
from analysis.reading.importers.made import NOT_METRICS, numbers_in, seed_of
from analysis.reading.metric import Metric
from analysis.reading.names import normal
from analysis.reading.result import Result
from analysis.reading.run import Origin, Run
from analysis.rules.metrics import TRAIN_TIME, VAL_BPB, VAL_LOSS
from analysis.untrusted.escape import beginning
from analysis.untrusted.refusal import UsageError

TYPED, EVIDENCE, CONTROL = "--values", "<evidence>", "<control>"  # in place of a file
IN_MEMORY = (TYPED, EVIDENCE, CONTROL)
NO_LIST = (bytes, bytearray, memoryview, set, frozenset)  # bytes may be meant for a path; a set holds equal values once
LARGEST_SEED = 2**63
THE_METRIC = ""  # the name of a number that is the rules' metric, whatever that is


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """One run's numbers by the metric's name. at: what is shown in place of a log."""

    numbers: Mapping[str, float]
    seed: int | None = None
    at: str = TYPED

    def result(self, metric: str) -> Result | None:
        """Return the run, whose metric is that of the rules; None where it has no such number."""
        numbers = {name or metric: number for name, number in self.numbers.items()}
        if metric not in numbers:
            return None
        time_s = numbers.get(TRAIN_TIME)
        run = Run(
            log=Path(self.at),
            line=1,
            seed=self.seed,
            origin=Origin.TYPED,
            train_time_ms=None if time_s is None else 1000 * time_s,
        )
        loss, bpb = numbers.pop(VAL_LOSS, None), numbers.pop(VAL_BPB, None)
        number = Metric(label=metric, val_loss=loss, val_bpb=bpb, decimals=0, line=0, others=numbers)
        return Result.of(run, number, log=self.at)


Given = Typed | Result


# -- what a caller has in memory ----------------------------------------------------------------------------------------


def given(evidence: Any, at: str) -> tuple[Given, ...]:
    """Return the runs of a list of numbers, of a dict of numbers by seed, or of a pandas DataFrame. Raises UsageError."""
    if hasattr(evidence, "columns") and hasattr(evidence, "to_dict"):
        found = _rows(evidence, at)
    elif isinstance(evidence, Mapping):
        found = [
            Typed(numbers={THE_METRIC: _number(value, at)}, seed=_seed(seed, at), at=at)
            for seed, value in evidence.items()
        ]
    elif isinstance(evidence, Iterable) and not isinstance(evidence, NO_LIST) and getattr(evidence, "ndim", 1) != 0:
        found = [Typed(numbers={THE_METRIC: _number(value, at)}, at=at) for value in evidence]
    else:
        raise UsageError(
            f"{at.strip('<>')} is of type {type(evidence).__name__}; it may be a path, a list of paths or numbers, a dict of numbers by seed, "
            f"or a DataFrame."
        )
    if not found:
        raise UsageError(f"{at.strip('<>')} holds no run.")
    return tuple(found)


def _rows(frame: Any, at: str) -> list[Given]:
    """Return the runs of a DataFrame: of one that `to_frame` made all that it says, else seeds and numbers."""
    names = [str(name) for name in frame.columns]
    columns = {*names}
    if twice := next((name for name in names if [*map(normal, names)].count(normal(name)) > 1), None):
        raise UsageError(
            f"{at.strip('<>')} has two columns {twice}, by this or another spelling. Leave one of them out."
        )
    if {"arm", "state", "log"} <= columns:
        return [*from_frame(_counted(frame, at) if "counts" in columns else frame, at)]
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    numbers = [{normal(name): value for name, value in numbers_in(row).items()} for row in rows]
    named = [
        {name: value for name, value in row.items() if name == TRAIN_TIME or name not in NOT_METRICS} for row in numbers
    ]
    return [Typed(numbers=own, seed=seed_of(row), at=at) for own, row in zip(named, rows, strict=True)]


def _counted(frame: Any, at: str) -> Any:
    """Return the rows that count. Raises UsageError for what is neither true nor false: any text would be true."""
    said = [str(value) for value in frame["counts"]]
    if strange := next((one for one in said if one not in ("True", "False")), None):
        raise UsageError(f"{at.strip('<>')} has {beginning(strange)} in its column counts; allowed: True, False.")
    return frame[[one == "True" for one in said]]


def _number(value: Any, at: str) -> float:
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise UsageError(f"{at.strip('<>')} holds {beginning(value)}, which is not a number.")
    return number


def _seed(value: Any, at: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or abs(int(value)) >= LARGEST_SEED:
        raise UsageError(
            f"{at.strip('<>')} has the key {beginning(value)}; its keys must be seeds, which are whole numbers of 64 bits."
        )
    return int(value)
