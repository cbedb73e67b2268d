"""What was read from the logs: one row per run or, with --curves, one row per logged step. The reading is in analysis/reading.

    python -m analysis.logs PATH... [--curves] [--format text|csv|json|parquet] [--output FILE]

Exit codes: 0 everything was read, 2 usage, 3 something was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click

from analysis import cli
from analysis.reading.frame import columns_of, write_rows
from analysis.reading.importers.ask import Imported, imported
from analysis.reading.importers.ask import has_result as ends_in_something
from analysis.reading.metric import Step
from analysis.reading.reader import read_log
from analysis.reading.result import Result
from analysis.reading.run import Origin, Run
from analysis.report.counting import Counting
from analysis.report.logs import curve_table, run_table
from analysis.sweepdir.layout import CANDIDATE, CONTROL
from analysis.untrusted.escape import printable
from analysis.untrusted.files import MOST_WORK, FileError, Listing, files_below, one_budget, printable_path, spend
from analysis.untrusted.refusal import EvidenceError, UsageError

STEP_ROW = 1536  # bytes that a row counts as, of the budget of what is read
LARGE = 3  # budgets of one folder: a list of runs is made of whole trees, and 1,500 speedrun logs take nearly two
STEP_COLUMNS = [column.name for column in fields(Step)]
CURVE_COLUMNS = ["log", "run", "seed", *STEP_COLUMNS]


@click.command(cls=cli.Command, context_settings=cli.HELP)
@cli.PATHS
@click.option("--curves", is_flag=True, help="One row per logged step instead of one per run.")
@cli.output_options("text", "csv", "json", "parquet")
def main(paths: tuple[Path, ...], curves: bool, form: str, output: Path | None) -> None:
    """Show what was read from the logs, one row per run."""
    if form == "parquet" and output is None:
        raise UsageError("--format parquet is binary: name a file with --output FILE.")
    rows: list[dict[str, Any]] = []
    listing = Listing()
    with one_budget(LARGE * MOST_WORK), Counting():
        for path in paths:
            for one in found_in(path, listing):
                try:
                    rows += [*curve_rows(one)] if curves else [run_row(one)]
                except FileError as error:
                    listing.leave_aside(one.log, str(error))
    for aside in listing.left_aside:
        click.echo(f"Not read: {printable(printable_path(aside.path))} {aside.why}.", err=True)
    if not rows:
        where = ", ".join(map(printable_path, paths))
        raise EvidenceError(f"No training log in {where}: no step and no final metric was found.")
    if form == "text":
        cli.write((curve_table if curves else run_table)(rows, cli.width(output, cli.USUAL_WIDTH).table), output)
    else:
        with cli.writing(output):
            write_rows(rows, CURVE_COLUMNS if curves else columns_of(rows), form, output)
    if listing.left_aside:
        raise SystemExit(EvidenceError.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run, the file that tells of it, and its number in that file, from 1."""

    log: Path
    number: int
    run: Run


def found_in(path: Path, listing: Listing) -> Iterator[Found]:
    """Yield the runs of a folder's logs, or of the file that was named, whatever its suffix. Note what cannot be read.

    A folder without a log that has a result is searched for what trackers wrote.
    """
    below = files_below(path) if path.is_dir() else Listing(files=[path])
    listing.left_aside += below.left_aside
    read = imported(below.files, named=True) if not path.is_dir() else Imported()
    has_results = bool(read.runs)
    for log in below.logs if path.is_dir() else [] if read.runs else [path]:
        try:
            runs = read_log(log)
        except FileError as error:
            listing.leave_aside(log, str(error))
            continue
        has_results = has_results or any(map(ends_in_something, runs))
        yield from (Found(log=log, number=number, run=run) for number, run in enumerate(runs, start=1))
    if not has_results and path.is_dir():
        read = imported(below.files)
        listing.left_aside += read.left_aside
    for log, runs in read.runs.items():
        yield from (Found(log=log, number=number, run=run) for number, run in enumerate(runs, start=1))


def run_row(one: Found) -> dict[str, Any]:
    """Return the row of a run: what a frame holds, and every metric and hyper-parameter."""
    of_the_run = {"metrics": [*map(asdict, one.run.metrics)], "hyperparameters": one.run.hyperparameters}
    return result_of(one).row() | of_the_run


def result_of(one: Found) -> Result:
    """Return a run with its last final metric, else its last validation."""
    run, shown = one.run, printable_path(one.log)
    arm = CONTROL if CONTROL in Path(shown).parts[:-1] else CANDIDATE
    metric = run.finals[-1] if run.finals else run.validation
    return Result.of(run, metric, log=shown, arm=arm, state="succeeded" if has_result(run) else "failed")


def has_result(run: Run) -> bool:
    """Return whether a run ended in a final metric or, like a speedrun, in a validation at the planned last step.

    A speedrun's validations print no val_bpb. Where they do, a final line is expected, and a log without one is cut off.
    Of a log that plans no number of steps, a validation at the last step is all that can be asked.
    """
    last, at, planned = run.validation, run.validated_step, run.total_steps
    if run.origin is not Origin.LOG or not run.curve or planned is None:
        return bool(run.finals) or (at == run.last_step and ends_in_something(run))
    at_the_end = at is not None and planned is not None and at >= planned
    return bool(run.finals) or (last is not None and last.val_bpb is None and at_the_end)


def curve_rows(one: Found) -> Iterator[dict[str, Any]]:
    """Yield one row per logged step; `run` counts the runs of a log from 1."""
    shown = printable_path(one.log)
    for step in one.run.read_steps():
        spend(STEP_ROW)
        of_the_step = {name: getattr(step, name) for name in STEP_COLUMNS}
        yield {"log": shown, "run": one.number, "seed": one.run.seed} | of_the_step


if __name__ == "__main__":
    main()
