"""Which folder of a checkout a published row speaks of: by its date, its name, its step, its number of runs and their mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.conformance.checkout import Unit
from benchmarks.conformance.tables import Row

_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The trials that a row most likely speaks of. exact: they have its n and its mean."""

    unit: Unit
    n: int
    mean: float
    exact: bool


def match(row: Row, metric: str, units: Sequence[Unit], directory: Path) -> Match | None:
    """Return the row's trials: those with its n and mean, whole folders before parts of one, else the nearest ones."""
    named = [unit for unit in units if _is_named(unit, row, directory)]
    found = [_match(row, unit, sample) for unit in named if (sample := unit.sample(metric, row.step))]
    exact = [one for one in found if one.exact]
    if exact:
        return min(exact, key=lambda one: (bool(one.unit.part), _distance(one, row), len(one.unit.trials)))
    if row.is_named:
        found = [one for one in found if not one.unit.part]
    return min(found, key=lambda one: (abs(one.n - row.n), _distance(one, row)), default=None)


def _match(row: Row, unit: Unit, sample: Sequence[float]) -> Match:
    n, mean = len(sample), fmean(sample)
    return Match(unit=unit, n=n, mean=mean, exact=row.has(n, mean, cut_off=not unit.part))


def _distance(one: Match, row: Row) -> float:
    return abs(one.mean - row.mean) if row.mean is not None else 0.0


def _is_named(unit: Unit, row: Row, directory: Path) -> bool:
    """Return whether the folder, or one around it, has the row's date and name, as far as the row tells them."""
    if not row.is_named:
        return True
    parts = (directory.name, *unit.folder.relative_to(directory).parts)
    return _is_dated(parts, row.date) and (row.name is None or any(_plain(row.name) in _plain(part) for part in parts))


def _is_dated(parts: Iterable[str], date: str | None) -> bool:
    return date is None or any("-".join(found.groups()) == date for part in parts if (found := _DATE.match(part)))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
