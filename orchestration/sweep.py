"""Run one script with many seeds and end with the verdict.

    python -m orchestration.sweep run --script S --recipe R --seeds 1337,1338,1339 --sota X --output DIR
    python -m orchestration.sweep resume DIR
    python -m orchestration.sweep stop NAME
    python -m orchestration.sweep status ROOT [--watch]
    python -m orchestration.sweep list ROOT --format html --output index.html
    python -m orchestration.sweep collect ROOT --format csv

Exit codes of `run` and `resume`: those of `check` on the sweep (0 supported, 1 refused, not supported or not yet, 3 cannot
tell), 2 usage, 4 a run failed or is missing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click

from analysis.cli import HELP, ExistingPath, FolderOrUrl, Group, output_options, write
from analysis.untrusted.refusal import UsageError, missing_extra
from orchestration.driver.care import Care
from orchestration.options import ASKED_OPTIONS, CARE_OPTIONS, FILE, Option

ROOT = click.argument("root", type=ExistingPath(file_okay=False), metavar="ROOT")


def with_care(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that `run` and `resume` share; the command gets them as one `care`."""

    @wraps(command)
    def called(**options: Any) -> None:
        command(care=Care(**{one.name: options.pop(one.name) for one in fields(Care)}), **options)

    return with_options(CARE_OPTIONS)(called)


def with_options(options: Sequence[Option]) -> Option:
    """Return a decorator that adds options in this order."""
    return lambda command: reduce(lambda one, add: add(one), reversed(options), command)


@click.group(cls=Group, context_settings=HELP)
def main() -> None:
    """Run seed sweeps: one torchrun a seed, scheduled by Ray, ending in a verdict."""


@main.command()
@with_options(ASKED_OPTIONS)
@with_care
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="The sweep directory to make."
)
def run(care: Care, output: Path, **asked: Any) -> None:
    """Train every seed and test the claim."""
    from orchestration.plan.asked import Asked
    from orchestration.plan.freeze import freeze, make_plan, notes

    plan = make_plan(Asked(**asked))
    care.check(plan)
    need_ray()
    for note in notes(plan):
        click.echo(f"Note: {note}", err=True)
    freeze(plan, output)
    drive(output, care, fresh=True)


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@with_care
def resume(care: Care, directory: Path) -> None:
    """Continue a sweep: runs with a result are kept; those lost, stopped or never started are run.

    With --storage, DIRECTORY may be a new one: the sweep of its name is fetched from there.
    """
    need_ray()
    if directory.is_dir() and not os.access(directory, os.W_OK):
        raise UsageError(f"{directory} cannot be written: it is read-only, or another user's. Nothing was started.")
    drive(directory, care)


def need_ray() -> None:
    """Refuse before anything is written. Only a driver loads ray, and that takes a second."""
    if importlib.util.find_spec("ray") is None:
        raise missing_extra(ModuleNotFoundError(name="ray"))


def drive(directory: Path, care: Care, *, fresh: bool = False) -> None:
    """Run what has no result, and exit with the sweep's code."""
    from orchestration.driver.drive import carry_out

    raise SystemExit(carry_out(directory.resolve(), care, fresh=fresh))


@main.command()
@click.argument("name", metavar="NAME|DIR")
def stop(name: str) -> None:
    """End the driver of a sweep as Ctrl-C would, and wait until it is gone.

    NAME is a sweep below sweeps/ or this folder. A driver on another machine is not ended; the command to run there is
    printed. Exit codes: 0 no driver runs any more, or none did; 2 usage; 4 it still runs.
    """
    from orchestration.overview.stop import stop as stop_driver

    stop_driver(name)


@main.command()
@ROOT
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until no driver is running.")
def status(root: Path, watch: bool) -> None:
    """Show where every run of a sweep stands, or every sweep below a folder, from the files alone."""
    from orchestration.overview.show import show

    show(root, watch=watch)


@main.command("list")
@ROOT
@output_options("text", "json", "html")
def list_sweeps(root: Path, form: str, output: Path | None) -> None:
    """List every sweep below a folder, with its verdict and who drives it; the HTML page links their reports."""
    from orchestration.overview.listing import list_in

    write(list_in(root, form, output.parent if output is not None else Path()), output)


@main.command()
@click.argument("root", type=FolderOrUrl(), metavar="ROOT")
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@click.option("--output", type=FILE, help="Write here, not to stdout. For parquet of several sweeps: a folder.")
def collect(root: Path | str, form: str, output: Path | None) -> None:
    """Show the runs of a sweep, or of every sweep below a folder or URL, as a frame: one row per planned run."""
    from orchestration.overview.collect import collect as collect_runs

    collect_runs(root, form, output)


if __name__ == "__main__":
    main()
