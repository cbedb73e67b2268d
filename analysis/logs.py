"""What was read from the logs: one row a run or, with --curves, one row a logged step. The reading is in analysis.reader.

python -m analysis.logs PATH... [--curves] [--format csv|json|parquet] [--output FILE]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from analysis.cli import ExistingPath
from analysis.reading.grammar import Step
from analysis.reading.reader import read_log
from analysis.sweepdir.layout import CANDIDATE, CONTROL
from analysis.untrusted.escape import printable, tolerate_any_text
from analysis.untrusted.files import FileError, Listing, files_below, printable_path

STEP_COLUMNS = [column.name for column in fields(Step)]
CURVE_COLUMNS = ["log", "run", "seed", *STEP_COLUMNS]


def rows_of(log: Path, shown: str) -> Iterator[dict[str, Any]]:
    """One row a run: what a frame holds, and every metric and hyper-parameter. Raises FileError."""
    from analysis.reading.result import Result

    arm = CONTROL if CONTROL in Path(shown).parts[:-1] else CANDIDATE
    for run in read_log(log):
        final = run.finals[-1] if run.finals else run.validation
        ended = bool(run.finals) or (run.last_step or 0) >= (run.total_steps or math.inf)
        result = Result.of(run, final, log=shown, arm=arm, state="succeeded" if ended else "failed")
        yield result.row() | {"metrics": run.metrics, "hyperparameters": run.hyperparameters}


def curve_rows(log: Path, shown: str) -> Iterator[dict[str, Any]]:
    """One row a logged step; `run` counts the runs of a log from 1. Raises FileError."""
    for number, run in enumerate(read_log(log), start=1):
        for step in run.steps:
            yield {"log": shown, "run": number, "seed": run.seed} | {name: getattr(step, name) for name in STEP_COLUMNS}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=ExistingPath(), metavar="PATH...")
@click.option("--curves", is_flag=True, help="One row a logged step instead of one a run.")
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def main(paths: tuple[Path, ...], curves: bool, form: str, output: Path | None) -> None:
    """What was read from the logs, one row a run."""
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet is binary: name a file with --output FILE.")
    from analysis.reading.frame import write_rows
    from analysis.reading.result import COLUMNS

    tolerate_any_text()
    rows: list[dict[str, Any]] = []
    unread: list[tuple[Path, str]] = []
    for path in paths:
        listing = files_below(path) if path.is_dir() else Listing([path])
        unread += listing.left_aside
        for log in listing.logs if path.is_dir() else listing.files:
            try:
                rows += (curve_rows if curves else rows_of)(log, printable_path(log))
            except FileError as error:
                unread.append((log, str(error)))
    for path, why in unread:
        click.echo(f"Not read: {printable(printable_path(path))} {why}.", err=True)
    if not rows:
        where = printable(", ".join(map(printable_path, paths)))
        click.echo(f"No training log in {where}: no step and no final metric was found.", err=True)
        raise SystemExit(3)
    if form == "json" and not curves:
        rows = [row | {"metrics": [asdict(metric) for metric in row["metrics"]]} for row in rows]
    try:
        write_rows(rows, CURVE_COLUMNS if curves else list(COLUMNS), form, output)
    except OSError as error:
        if output is None:  # whoever read our lines has gone
            raise
        raise click.UsageError(f"--output {output} cannot be written: {error.strerror}.") from None
    if unread:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
