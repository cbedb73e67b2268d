"""Earlier records and their spread between seeds: a table of them, as `analysis.leaderboard` writes it."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from analysis.evidence.usable import LARGEST
from analysis.stats.fixed import Sample
from analysis.stats.spread import Spread, pooled, prior
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import FileError, read_small
from analysis.untrusted.invoked import command
from analysis.untrusted.refusal import SeedproofError

SMALLEST, MOST_RUNS = 1e-9, 100_000  # beyond these a number is a mistake
LARGEST_FILE, MOST_RECORDS = 2**22, 10_000  # the first in bytes
OTHER_UNIT = 0.25  # a sample this much off the records' means is in another unit than they


class HistoryError(SeedproofError):
    """A table that says nothing about a spread, as one sentence with the file."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Past:
    """One earlier record: how many runs, their mean (None where the table has none) and sd."""

    n: int
    mean: float | None
    sd: float


@dataclass(frozen=True, slots=True)
class History:
    """The records of a table that have a spread: at least two runs each."""

    source: str
    records: tuple[Past, ...]

    @property
    def pooled(self) -> Spread:
        """Return one sd for all of them, with the sum of their degrees of freedom."""
        return pooled([one.sd for one in self.records], [one.n - 1 for one in self.records])

    @property
    def prior(self) -> Spread:
        """Return what they say about the next record: `pooled`, but worth fewer runs where their spreads differ."""
        if len(self.records) < 3:
            return self.pooled
        found = prior([one.sd for one in self.records], [one.n - 1 for one in self.records])
        return found if found.df < self.pooled.df else self.pooled

    def without(self, sample: Sample) -> History:
        """Return the records that are not the sample itself. Raises HistoryError where none is left or the unit differs."""
        others = tuple(one for one in self.records if not _same(one, sample))
        if not others:
            raise HistoryError(f"--history {self.source} holds no record but what is tested.")
        means = [one.mean for one in others if one.mean is not None]
        if means and abs(sample.mean / median(means) - 1) > OTHER_UNIT:
            raise HistoryError(
                f"--history {self.source}: its means are near {median(means):.4f}, the runs' is {sample.mean:.4f}; "
                f"give records of the same metric."
            )
        return History(self.source, others)


def _same(one: Past, sample: Sample) -> bool:
    near = math.isclose(one.sd, sample.sd, rel_tol=1e-6)
    return one.n == sample.n and near and (one.mean is None or math.isclose(one.mean, sample.mean, rel_tol=1e-7))


def read_history(path: Path) -> History:
    """Read a CSV or JSON table with the columns n and sd, and perhaps mean; skip rows without a spread.

    Raises HistoryError.
    """
    try:
        text = read_small(path, LARGEST_FILE).decode("utf-8-sig")
        rows: Any = json.loads(text) if text.lstrip()[:1] in ("[", "{") else list(csv.DictReader(io.StringIO(text)))
    except FileError as error:
        raise HistoryError(f"--history {path} {error}.") from None
    except (ValueError, csv.Error, RecursionError) as error:
        raise HistoryError(f"--history {path} is neither CSV nor JSON: {str(error).splitlines()[0]}.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or len(rows) > MOST_RECORDS:
        raise HistoryError(f"--history {path} must hold a list of records, at most {MOST_RECORDS}.")
    records = tuple(past for number, row in enumerate(rows, start=1) if (past := _record(row, number, path)))
    if not records:
        raise HistoryError(
            f"--history {path} holds no record with n of 2 or more and an sd. "
            f"Make it with: {command('analysis.leaderboard', 'DIR', '--format', 'json', '--output', 'FILE.json')}"
        )
    return History(str(path), records)


def _record(row: dict[Any, Any], number: int, path: Path) -> Past | None:
    if not {"n", "sd"} <= set(row):
        raise HistoryError(
            f"--history {path}, record {number}: it needs the columns n and sd, got {', '.join(map(str, row))[:100]}."
        )
    if row["sd"] in (None, ""):
        return None
    try:
        n, sd = int(row["n"]), float(row["sd"])
        mean = None if row.get("mean") in (None, "") else float(row["mean"])
    except (ValueError, TypeError, OverflowError):
        raise HistoryError(
            f"--history {path}, record {number}: n {beginning(row['n'])} and sd {beginning(row['sd'])} must be numbers."
        ) from None
    if n < 2 or sd == 0:
        return None
    if not SMALLEST < sd < LARGEST or n > MOST_RUNS or (mean is not None and not 0 < mean < LARGEST):
        raise HistoryError(
            f"--history {path}, record {number}: n {min(n, 10**9)}, sd {sd:g} and mean {mean} cannot be meant."
        )
    return Past(n, mean, sd)
