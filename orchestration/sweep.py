"""Run one script with many seeds and end with the verdict.

    python -m orchestration.sweep run --script S --recipe R --seeds 1337,1338,1339 --sota X --output DIR
    python -m orchestration.sweep resume DIR
    python -m orchestration.sweep status DIR [--watch]
    python -m orchestration.sweep collect DIR --format csv

Exit codes of `run` and `resume`: those of the verdict (0 supported, 1 not supported, 3 cannot tell), 2 usage, 4 a run
failed or is missing.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial, reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.cli import HELP, OUTPUT, ExistingPath, Group, writing
from analysis.sweepdir.layout import DONE
from analysis.sweepdir.plan import BOUNDARIES, MAX_ATTEMPTS, MOST_LOOKS
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import UsageError
from orchestration.driver.care import Care

if TYPE_CHECKING:
    from analysis.sweepdir.manifest import PlannedRun
    from orchestration.disk.lock import Owner

Option = Callable[[Callable[..., None]], Callable[..., None]]
WATCH_S = 1.0
USUAL = Care()

DIRECTORY = click.argument("directory", type=ExistingPath(file_okay=False))
FILE = click.Path(path_type=Path)
FROM_1, SECONDS = click.IntRange(min=1), click.FloatRange(min=1)
option = partial(click.option, show_default=True)
CARE_OPTIONS = (
    option(
        "--stall-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=USUAL.stall_timeout,
        help="A run whose log stays silent for so long is hung: it is ended and retried.",
    ),
    option(
        "--deadline",
        type=SECONDS,
        metavar="SECONDS",
        help="A run that is not done by then failed.  [default on GPUs: the rules' cap + 2400]",
    ),
    option(
        "--wait-for-nodes",
        type=click.FloatRange(min=0),
        metavar="MINUTES",
        default=USUAL.wait_for_nodes,
        help="How long to wait for a node that is large enough, where a cluster grows on demand.",
    ),
    option(
        "--storage",
        metavar="URL",
        help="Keep a copy of the sweep below s3://, gs://, file://: it survives this machine.",
    ),
    option(
        "--parallel",
        type=FROM_1,
        metavar="SEEDS",
        default=USUAL.parallel,
        help="Sequential: buy so many seeds at a time after the first look; those that the verdict spares are cancelled.",
    ),
)
ASKED_OPTIONS = (
    option("--script", required=True, type=FILE, help="Any program that torchrun can start; SEED tells it its seed."),
    option("--recipe", type=FILE, help="TOML file with an [env] table for the candidate."),
    option("--control", type=FILE, help="The recipe to beat, run with the same seeds on the same nodes."),
    option("--seeds", help="1337,1338,1339, or how many to derive from the plan.  [default: 3; sequential: 10]"),
    option(
        "--design",
        type=click.Choice(["fixed", "sequential"]),
        default="fixed",
        help="All seeds and one test, or a look after every seed, from the third on, until the verdict is in.",
    ),
    option(
        "--max-seeds", type=click.IntRange(3, MOST_LOOKS), help="Sequential: derive so many seeds; not all may be run."
    ),
    option(
        "--boundary",
        type=click.Choice(BOUNDARIES),
        help=f"Sequential: how the level is shared among the looks.  [default: {BOUNDARIES[0]}]",
    ),
    option("--sota", type=float, help="The standing record's metric, where it is not rerun as --control."),
    option("--rules", default="parameter-golf", help="Ruleset: a name or a TOML file."),
    option("--margin", type=float, help="How much better the mean must be, in --unit.  [default: the ruleset's]"),
    option("--unit", type=click.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]"),
    option("--alpha", type=float, help="Level of the test.  [default: the ruleset's]"),
    option("--env", "pairs", multiple=True, metavar="KEY=VALUE", help="Add to both recipes; may be repeated."),
    option(
        "--gpus-per-run", type=click.IntRange(min=0), default=0, help="GPUs, and ranks, of one run; 0 runs on CPUs."
    ),
    option(
        "--cpus-per-run", type=FROM_1, help="CPUs, and without GPUs ranks, of one run.  [default: one a GPU, else 1]"
    ),
    option(
        "--max-attempts",
        type=FROM_1,
        default=MAX_ATTEMPTS,
        help="How many attempts of a seed may be lost; each that was is listed with the claim.",
    ),
    option("--accelerator-type", metavar="H100", help="Only on nodes whose GPUs Ray calls this."),
)


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
    drive(directory, care)


def need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise UsageError("This needs ray: pip install 'seedproof[orchestration]'.")


def drive(directory: Path, care: Care, *, fresh: bool = False) -> None:
    """Run what has no result, and exit with the sweep's code."""
    from orchestration.driver.drive import carry_out

    raise SystemExit(carry_out(directory.resolve(), care, fresh=fresh))


@main.command()
@DIRECTORY
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until no driver is running.")
def status(directory: Path, watch: bool) -> None:
    """Show where every run stands, from the files alone."""
    from analysis.sweepdir.manifest import planned_runs
    from analysis.sweepdir.plan import read_sweep_plan
    from orchestration.disk.lock import living_owner

    shown: list[str] = []
    while True:
        plan = read_sweep_plan(directory)  # before the lock, which might be a link to anything
        owner = living_owner(directory)
        lines = standing(directory, planned_runs(directory, plan), owner)
        if lines != shown:
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo("\n".join(map(printable, lines)))
        shown = lines
        if not watch or owner is None:
            return
        time.sleep(WATCH_S)


def standing(directory: Path, runs: list[PlannedRun], owner: Owner | None) -> list[str]:
    """Return a line a run, who drives the sweep and, if nobody does, how to continue it."""
    from orchestration.driver.progress import latest

    lines = []
    for planned in runs:
        state, detail = planned.state, planned.reason or (latest(planned.folder) if planned.folder else "")
        if state == "running" and owner is None:
            state, detail = "lost", "its driver went away"
        attempt = planned.folder.name if planned.folder and planned.folder.name != "attempt-1" else ""
        lines.append(f"{planned.arm:<10} seed {planned.seed:<11} {state:<10} {attempt} {detail}".rstrip())
    done = sum(planned.state == "succeeded" for planned in runs)
    lines.append(f"{done} of {len(runs)} runs succeeded.")
    if owner is not None:
        lines.append(f"Driven by {owner}.")
    elif any(planned.state not in DONE for planned in runs):
        again = shlex.join(["python", "-m", "orchestration.sweep", "resume", str(directory)])
        lines.append(f"No driver is running. Run what is missing with: {again}")
    return lines


@main.command()
@DIRECTORY
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@OUTPUT
def collect(directory: Path, form: str, output: Path | None) -> None:
    """Show the runs of a sweep as a frame, one row a planned run."""
    from analysis.reading.frame import write_rows
    from analysis.reading.result import COLUMNS
    from analysis.record.sweep import sweep_results
    from analysis.sweepdir.layout import FRAME
    from analysis.sweepdir.plan import read_sweep_plan

    if form == "parquet" and output is None:
        output = directory / FRAME
    rows = [result.row() for result in sweep_results(directory, read_sweep_plan(directory))]
    with writing(output):
        write_rows(rows, list(COLUMNS), form, output)
    if output is not None:
        click.echo(f"Wrote {output}", err=True)


if __name__ == "__main__":
    main()
