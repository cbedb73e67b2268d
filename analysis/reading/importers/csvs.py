"""CSV files: exports of wandb (runs or history), Lightning's metrics.csv, and plain tables with a row a seed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.reading.importers.made import (
    LARGEST,
    MOST_RUNS,
    TOTALS,
    Row,
    Told,
    beside,
    numbers_in,
    run_of,
    seed_in_name,
    seed_in_yaml,
    seed_of,
    step_of,
)  # fmt: skip
from analysis.reading.names import normal
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_small, spend

LONGEST_CELL = 2**16
MOST_LINES = 100_000
MOST_COLUMNS = 1000
_OF_WANDB = re.compile(r"^(?:config|summary)[./]")  # before the columns of some exports
ENDED_WELL = ("", "finished", "completed", "succeeded")
RUNS = ("run_id", "run", "name", "run_name", "id", "trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of a table: its number and its cells by column."""

    number: int
    cells: dict[str, str]


def read_csv(path: Path, *, named: bool) -> list[Run]:
    """Return the runs of a table; none if it holds no runs. Only a named file may lack seeds, names and steps."""
    lines = _lines(read_small(path, LARGEST))
    if not lines:
        return []
    columns = [*lines[0].cells]
    known = {normal(column): column for column in reversed(columns)}
    if any(" - " in column for column in columns[1:]):
        return _history(path, columns, lines)
    by = next((known[name] for name in ("seed", *RUNS) if name in known), None)
    if any(name in known for name in ("step", "global_step")):
        return _curves(path, by, lines)
    if by is None and not (named and known.keys() & {"val_loss", "val_bpb"}):
        return []
    from_wandb = "state" in known and "name" in known
    return _rows(path, lines, Origin.TRACKER if from_wandb else Origin.TYPED, known.get("state"))


def _lines(content: bytes) -> list[_Line]:
    """Return the lines of a table by column, without empty ones. Raises FileError for what is too large or no CSV."""
    spend(8 * len(content))
    text = content.decode("utf-8-sig", "replace")
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    try:
        columns = [_OF_WANDB.sub("", column) for column in next(reader, [])]
        if len(columns) > MOST_COLUMNS:
            raise FileError(f"holds more than {MOST_COLUMNS} columns")
        found = []
        for cells in reader:
            if any(cells):
                found.append(_Line(number=reader.line_num, cells=dict(zip(columns, cells, strict=False))))
            if len(found) > MOST_LINES or len(found) * len(columns) > 10 * MOST_LINES:
                raise FileError(f"is a table of more than {MOST_LINES} lines or {10 * MOST_LINES} cells")
    except csv.Error as error:
        raise FileError(f"is not a CSV: {error}") from None
    return found


def _history(path: Path, columns: Sequence[str], lines: Sequence[_Line]) -> list[Run]:
    """Return the runs of a wandb chart: a column of steps, then `RUN - METRIC` for each run, with its least and most."""
    runs: dict[str, list[str]] = {}
    for column in columns[1:]:
        name, dash, metric = column.rpartition(" - ")
        if dash and not metric.endswith(("__MIN", "__MAX")):
            runs.setdefault(name, []).append(column)
    if len(runs) > MOST_RUNS:
        raise FileError(f"holds more than {MOST_RUNS} runs")
    found = []
    for name, own in runs.items():
        rows = []
        for line in lines:
            numbers = numbers_in({column.rpartition(" - ")[2]: line.cells.get(column, "") for column in own})
            if numbers and (step := step_of({"step": line.cells.get(columns[0], "")})) is not None:
                rows.append(Row(numbers=numbers, step=step, line=line.number))
        seed = seed_in_name(Path(name)) if name else None
        found.append(run_of(Told(log=path, origin=Origin.TRACKER, seed=seed, label=name), rows))
    return found


def _curves(path: Path, by: str | None, lines: Sequence[_Line]) -> list[Run]:
    """Return the runs of a table with a row a step: one run or, if a column names seeds or runs, each of them."""
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.cells.get(by, "") if by else "", []).append(line)
    if len(groups) > MOST_RUNS:
        raise FileError(f"holds more than {MOST_RUNS} runs")
    found = []
    for own in groups.values():
        seed = seed_of(own[0].cells)
        if seed is None and len(groups) == 1:
            seed = seed_in_yaml(beside(path, "hparams.yaml", "config.yaml"))
            seed = seed_in_name(path) if seed is None else seed
        rows = [Row(numbers=numbers_in(line.cells), step=step_of(line.cells), line=line.number) for line in own]
        found.append(
            run_of(Told(log=path, origin=Origin.TRACKER, seed=seed), [row for row in rows if row.step is not None])
        )
    return found


def _rows(path: Path, lines: Sequence[_Line], origin: Origin, state: str | None) -> list[Run]:
    """Return the runs of a table with a row a run."""
    if len(lines) > MOST_RUNS:
        raise FileError(f"holds more than {MOST_RUNS} runs")
    found = []
    for line in lines:
        names = {normal(column): value for column, value in line.cells.items()}
        seed = seed_of(line.cells)
        told = Told(
            log=path,
            origin=origin,
            seed=seed_in_name(Path(names.get("name") or "-")) if seed is None else seed,
            total_steps=step_of(line.cells, ("step", *TOTALS)),
            finished=state is None or line.cells.get(state, "").lower() in ENDED_WELL,
        )
        found.append(run_of(told, [Row(numbers=numbers_in(line.cells), line=line.number)]))
    return [run for run in found if run.values or run.finals or not _is_bare(run)]


def _is_bare(run: Run) -> bool:
    return run.seed is None and run.origin is Origin.TYPED
