"""Tables that a log prints with `|` between the columns: a row an epoch, and a column `run` that says where a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.reading.importers.made import MOST_RUNS, Row, Told, number_of, run_of, seed_of, step_of, whole
from analysis.reading.names import normal
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, spend

LONGEST = 2000  # bytes of a row
LINE = 2**10  # bytes that a row counts as
RUNS = ("run", "trial", "seed")


def read_tables(path: Path, data: bytes, around: Sequence[Run]) -> list[Run]:
    """Return the runs of the table in a log, each with the facts that the log prints `around` it; none without a table.

    A row whose column `run` is blank belongs to the run above; a run that has no number is a warm-up. Numbers that the log
    prints after the table are the last run's.
    """
    head: list[str] | None = None
    runs: dict[int, list[Row]] = {}
    own: list[Row] | None = None
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.startswith(b"|") or len(line) > LONGEST:
            continue
        spend(LINE)
        cells = [cell.strip().decode("utf-8", "replace") for cell in line.strip().strip(b"|").split(b"|")]
        if head is None or len(cells) != len(head):
            names = [normal(cell) for cell in cells]
            head = names if any(name in RUNS for name in names) and len(names) > 1 else head
            continue
        row = dict(zip(head, cells, strict=True))
        key = next(row[name] for name in RUNS if name in row)
        if key:
            own = runs.setdefault(number, []) if whole(key) is not None else None
        if len(runs) > MOST_RUNS:
            raise FileError(f"holds more than {MOST_RUNS} runs")
        if own is not None:
            numbers = {name: one for name, cell in row.items() if (one := number_of(cell)) is not None}
            own.append(Row(numbers=numbers, step=step_of(row), line=number))
    found = [
        run_of(Told(log=path, origin=Origin.LOG, seed=_seed(rows)), _without_settings(rows)) for rows in runs.values()
    ]
    return _with_facts(found, around)


def _seed(rows: Sequence[Row]) -> int | None:
    return next((seed for row in rows if (seed := seed_of(row.numbers)) is not None), None)


def _without_settings(rows: Sequence[Row]) -> list[Row]:
    return [
        replace(row, numbers={name: one for name, one in row.numbers.items() if name not in (*RUNS, "epoch")})
        for row in rows
    ]


def _with_facts(found: Sequence[Run], around: Sequence[Run]) -> list[Run]:
    if not found or not around:
        return [*found]
    facts = around[-1]
    seed = facts.seed if len(found) == 1 else None
    runs = [
        replace(facts, line=run.line, seed=run.seed if run.seed is not None else seed, values=run.values, curve=run.curve,
                metrics=run.metrics, finals=run.finals, validation=run.validation, validated_step=run.validated_step,
                last_step=run.last_step, train_time_ms=run.train_time_ms)
        for run in found
    ]  # fmt: skip
    return [*runs[:-1], replace(runs[-1], values={**facts.values, **runs[-1].values})]
