"""The one table of a verification: terminal, JSON, Markdown and HTML show the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from analysis.report.grid import literal_table
from analysis.untrusted.escape import printable
from orchestration.disk.files import write_whole
from orchestration.verification.answer import Answer, Interval, Word, answer_of, interval_of
from orchestration.verification.before import size_of, slots
from orchestration.verification.queue import HOUR_S, Place, Queue

if TYPE_CHECKING:
    from orchestration.driver.nodes import Answered

JSON, MARKDOWN, HTML = "verify.json", "verify.md", "verify.html"
NARROWEST = 110  # columns of the terminal's table
NOTES = (
    "Holds up: the fresh runs alone support the claim by the rules at their looks, and their mean is not worse than the "
    "author's runs allow.",
    "Does not hold up: they do not support it, a fresh run failed, their mean is above the 99 % prediction interval, or the "
    "shipped artifact contradicts the claim.",
    "Cannot tell: there is no answer, and the reason says why. It says nothing against the author.",
    "Seeds are derived from each record's plan and the nonce. No author could know them.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record's line. place: in the queue, from 1; 0 once it is over. hours: wall time times GPUs or CPUs.

    error_codes: of the findings of `check` on the record. expected_end: at the earliest, if the next look decides.
    """

    record: str
    metric: str | None = None
    claim_mean: float | None = None
    claim_n: int = 0
    fresh_mean: float | None = None
    fresh_n: int = 0
    interval: Interval | None = None
    answer: Answer
    check: str | None = None
    error_codes: tuple[str, ...] = ()
    artifact: str | None = None
    hours: float = 0.0
    unit: str = "CPU"
    state: str = "waits"
    place: int = 0
    expected_end: datetime | None = None
    sweep: str | None = None
    notes: tuple[str, ...] = ()

    def cells(self) -> dict[str, str]:
        """Return the row for people, by column; the JSON holds all digits."""
        interval = "-" if self.interval is None else f"{self.interval.low:.5f} to {self.interval.high:.5f}"
        return {
            "record": printable(self.record),
            "author's claim": _mean(self.claim_mean, self.claim_n),
            "fresh runs": _mean(self.fresh_mean, self.fresh_n),
            "99 % interval": interval,
            "verdict": self.answer.word if self.answer.word is not Word.NOT_YET else f"{self.state}{self._queue}",
            "cost": f"{self.hours:.3g} {self.unit}-hours",
        }

    @property
    def _queue(self) -> str:
        end = f", ends about {self.expected_end:%Y-%m-%d %H:%M} UTC" if self.expected_end is not None else ""
        return f" (place {self.place}{end})" if self.place else ""

    def table(self) -> dict[str, object]:
        """Return plain JSON types."""
        answer = {"verdict": self.answer.word, "reason": self.answer.reason}
        end = self.expected_end.isoformat(timespec="seconds") if self.expected_end is not None else None
        kept = {name: value for name, value in asdict(self).items() if name != "answer"}
        return kept | answer | {"expected_end": end}

    def sentence(self) -> str:
        """Return the reason with what else an organiser should know."""
        said = [self.answer.reason] if self.answer.reason else []
        said += [f"Artifact: {self.artifact}."] if self.artifact else []
        said += [f"`check` on the record: {', '.join(self.error_codes)}."] if self.error_codes else []
        return printable(" ".join([*said, *(f"Note: {note}." for note in self.notes)]))


def rows_of(queue: Queue) -> list[Row]:
    """Return the rows of the table as things stand."""
    found, ahead_s, known = [], 0.0, True
    open_ = [place for place in queue.places if place.answer is None]
    for place in queue.places:
        end = None
        if place.answer is None and known:
            rest = _rest_s(place, queue.nodes)
            known = rest is not None
            ahead_s += rest or 0.0
            end = datetime.now(UTC) + timedelta(seconds=ahead_s) if known else None
        found.append(_row(place, open_.index(place) + 1 if place in open_ else 0, end))
    return found


def _rest_s(place: Place, nodes: Sequence[Answered]) -> float | None:
    """Return how long the runs to the next look of a record keep the cluster busy; None if unknown."""
    spent, plan = place.spent, place.entry.plan
    assert plan is not None, "it can be run"
    run_s, at_once = place.run_s(spent), slots(place.entry, nodes)
    if run_s is None or not at_once:
        return None
    first = (plan.design.looks[0] if plan.design.sequential else len(plan.seeds)) * len(plan.arms)
    left = len(place.rerun.missing()) if place.rerun is not None else max(1, first - len(spent.done_s))
    return max(0.0, left * run_s - sum(spent.running_s)) / at_once


def _row(place: Place, number: int, end: datetime | None) -> Row:
    entry = place.entry
    if entry.recorded is None or entry.directory is None:
        return Row(record=entry.name, answer=place.answer or Answer(word=Word.NOT_YET, reason=""), state="over")
    claim, scored = entry.recorded.claim, place.evaluated
    return Row(
        record=entry.name,
        metric=claim.metric,
        claim_mean=claim.mean,
        claim_n=claim.n,
        fresh_mean=place.fresh.mean,
        fresh_n=len(place.fresh.values),
        interval=interval_of(claim, place.fresh),
        answer=place.answer or answer_of(claim, place.fresh),
        check=claim.gate,
        error_codes=claim.error_codes,
        artifact=None if scored is None else str(scored),
        hours=place.spent.all_s * place.weight / HOUR_S,
        unit="GPU" if size_of(entry).gpus else "CPU",
        state="over" if place.answer is not None else "runs" if place.rerun is not None else "waits",
        place=number,
        expected_end=end,
        sweep=str(entry.directory),
        notes=entry.recorded.notes,
    )


def _mean(mean: float | None, n: int) -> str:
    return "-" if mean is None else f"{mean:.6f} (n {n})"


def total(rows: Sequence[Row]) -> str:
    """Return what all records cost, by unit."""
    units = sorted({row.unit for row in rows})
    return ", ".join(f"{sum(row.hours for row in rows if row.unit == unit):.3g} {unit}-hours" for unit in units)


def write(output: Path, rows: Sequence[Row], nonce: str, command: str) -> None:
    """Write the three files, each whole."""
    head = {"schema_version": 1, "nonce": nonce, "command": command, "cost": total(rows)}
    table = json.dumps(head | {"records": [row.table() for row in rows]}, indent=1, allow_nan=False)
    write_whole(output / JSON, table + "\n")
    lines = ["# Records that were run again", "", *literal_table([row.cells() for row in rows]), ""]
    lines += [f"- **{printable(row.record)}**: {row.sentence()}" for row in rows if row.sentence()]
    lines += ["", f"Cost: {total(rows)}. Nonce: `{nonce}`.", "", *NOTES]
    write_whole(output / MARKDOWN, "\n".join(lines) + "\n")
    from analysis.report.html.templates import template

    page = template("verify.html")
    shown = [row.cells() | {"why": row.sentence()} for row in rows]
    write_whole(output / HTML, page.render(rows=shown, cost=total(rows), nonce=nonce, notes=NOTES, command=command))


def show(rows: Sequence[Row]) -> None:
    """Print the table, and the reason of each verdict below it."""
    console = Console(highlight=False, markup=False)
    console = console if console.width >= NARROWEST else Console(highlight=False, markup=False, width=NARROWEST)
    table = Table(box=None, pad_edge=False)
    for column in rows[0].cells():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.cells().values())
    console.print(table)
    for row in (row for row in rows if row.sentence()):
        console.print(f"\n{printable(row.record)}: {row.answer.word}. {row.sentence()}", soft_wrap=True)
    console.print(f"\nCost: {total(rows)}.")
