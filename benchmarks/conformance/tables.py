"""The published tables of accepted and refused records: one CSV a ruleset in `rows/`, numbers only."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from analysis.rules import ruleset

FOLDER = Path(__file__).with_name("rows")
YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One published record. What is None is not published, or was not found.

    exact: the unit of the mean's last printed digit. step: where its mean was taken, None for the end of the runs.
    beats: the number that it had to beat, in the metric's unit. accepted: whether the leaderboard took it as a record.
    """

    row: str
    n: int
    mean: float | None
    exact: float
    step: int | None = None
    date: str | None = None
    name: str | None = None
    time_s: float | None = None
    beats: float | None = None
    accepted: bool | None = None

    @property
    def is_named(self) -> bool:
        """Whether the row tells its folder's date or name; else its numbers alone can find it."""
        return bool(self.date or self.name)

    def has(self, n: int, mean: float | None, *, cut_off: bool = True) -> bool:
        """Return whether these are the row's runs. A mean is published rounded or, if that is allowed, cut off."""
        if n != self.n or self.mean is None or mean is None:
            return n == self.n and self.mean is None
        return abs(mean - self.mean) < self.exact * (1 if cut_off else 0.5001)


def known() -> list[str]:
    """Return the names of the shipped rulesets that have a table."""
    return [name for name in ruleset.known() if (FOLDER / f"{name}.csv").is_file()]


def rows_of(rules: str) -> list[Row]:
    """Read the table of a ruleset."""
    with (FOLDER / f"{rules}.csv").open(encoding="utf-8", newline="") as file:
        return [_row(cells) for cells in csv.DictReader(line for line in file if not line.startswith("#"))]


def _row(cells: dict[str, str]) -> Row:
    number = {name: float(cells[name]) for name in ("mean", "time_s", "beats") if cells.get(name)}
    return Row(
        row=cells["row"],
        n=int(cells["n"]),
        mean=number.get("mean"),
        exact=10.0 ** -len(cells["mean"].partition(".")[2]),
        step=int(cells["step"]) if cells.get("step") else None,
        date=cells.get("date") or None,
        name=cells.get("name") or None,
        time_s=number.get("time_s"),
        beats=number.get("beats"),
        accepted=YES_NO.get(cells.get("accepted", "")),
    )
