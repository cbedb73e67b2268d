"""What was read from the logs: one row a run or, with --curves, one row a logged step. The reading is in analysis/reading.

    python -m analysis.logs PATH... [--curves] [--format csv|json|parquet] [--output FILE]

Exit codes: 0 everything was read, 2 usage, 3 something was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from analysis import cli
from analysis.reading.frame import columns_of, write_rows
from analysis.reading.grammar import Step
from analysis.reading.reader import read_log
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.sweepdir.layout import CANDIDATE, CONTROL
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, Listing, files_below, one_budget, printable_path, spend
from analysis.untrusted.refusal import EvidenceError, UsageError

STEP_ROW = 1536  # bytes that a row counts as, of the budget of what is read
STEP_COLUMNS = [column.name for column in fields(Step)]
CURVE_COLUMNS = ["log", "run", "seed", *STEP_COLUMNS]


@click.command(cls=cli.Command, context_settings=cli.HELP)
@cli.PATHS
@click.option("--curves", is_flag=True, help="One row a logged step instead of one a run.")
@cli.format_option("csv", "json", "parquet")
@cli.OUTPUT
def main(paths: tuple[Path, ...], curves: bool, form: str, output: Path | None) -> None:
    """Show what was read from the logs, one row a run."""
    if form == "parquet" and output is None:
        raise UsageError("--format parquet is binary: name a file with --output FILE.")
    rows: list[dict[str, Any]] = []
    listing = _files(paths)
    with one_budget():
        for log in listing.files:
            try:
                rows += [*(curve_rows if curves else run_rows)(log)]
            except FileError as error:
                listing.leave_aside(log, str(error))
    for aside in listing.left_aside:
        click.echo(f"Not read: {printable(printable_path(aside.path))} {aside.why}.", err=True)
    if not rows:
        where = ", ".join(map(printable_path, paths))
        raise EvidenceError(f"No training log in {where}: no step and no final metric was found.")
    with cli.writing(output):
        write_rows(rows, CURVE_COLUMNS if curves else columns_of(rows), form, output)
    if listing.left_aside:
        raise SystemExit(EvidenceError.exit_code)


def _files(paths: Sequence[Path]) -> Listing:
    """Return the logs of the folders and the files that were named, whatever their suffix."""
    found = Listing()
    for path in paths:
        below = files_below(path) if path.is_dir() else Listing()
        found.files += below.logs if path.is_dir() else [path]
        found.left_aside += below.left_aside
    return found


def run_rows(log: Path) -> Iterator[dict[str, Any]]:
    """Yield one row a run: what a frame holds, and every metric and hyper-parameter. Raises FileError."""
    shown = printable_path(log)
    arm = CONTROL if CONTROL in Path(shown).parts[:-1] else CANDIDATE
    for run in read_log(log):
        metric = run.finals[-1] if run.finals else run.validation
        result = Result.of(run, metric, log=shown, arm=arm, state="succeeded" if has_result(run) else "failed")
        yield result.row() | {"metrics": [*map(asdict, run.metrics)], "hyperparameters": run.hyperparameters}


def has_result(run: Run) -> bool:
    """Return whether a run ended in a final metric or, like a speedrun, in a validation at the planned last step.

    A speedrun's validations print no val_bpb. Where they do, a final line is expected, and a log without one is cut off.
    """
    last, at, planned = run.validation, run.validated_step, run.total_steps
    at_the_end = at is not None and planned is not None and at >= planned
    return bool(run.finals) or (last is not None and last.val_bpb is None and at_the_end)


def curve_rows(log: Path) -> Iterator[dict[str, Any]]:
    """Yield one row a logged step; `run` counts the runs of a log from 1. Raises FileError."""
    shown = printable_path(log)
    for number, run in enumerate(read_log(log), start=1):
        for step in run.read_steps():
            spend(STEP_ROW)
            yield {"log": shown, "run": number, "seed": run.seed} | {name: getattr(step, name) for name in STEP_COLUMNS}


if __name__ == "__main__":
    main()
