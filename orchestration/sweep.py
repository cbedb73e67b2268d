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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.cli import ExistingPath
from analysis.sweepdir.layout import BOUNDARIES, FIXED, MOST_LOOKS, SEQUENTIAL
from analysis.untrusted.escape import printable

if TYPE_CHECKING:
    from analysis.sweepdir.layout import PlannedRun

WATCH_S = 1.0

DIRECTORY = click.argument("directory", type=ExistingPath(file_okay=False))


def care_options(command: Any) -> Any:
    """The options of `run` and `resume` alike: how runs are looked after."""
    options = (
        click.option("--max-attempts", type=click.IntRange(min=1), default=3, show_default=True,
                     help="How often a seed is started; only a run that was lost to the machine is made again."),
        click.option("--stall-timeout", type=click.FloatRange(min=1), default=300.0, show_default=True, metavar="SECONDS",
                     help="A run whose log stays silent so long is hung: it is ended and made again."),
        click.option("--deadline", type=click.FloatRange(min=1), metavar="SECONDS",
                     help="A run that is not done by then failed.  [default on GPUs: the rules' cap + 2400]"),
        click.option("--wait-for-nodes", type=click.FloatRange(min=0), default=0.0, show_default=True, metavar="MINUTES",
                     help="How long to wait for a node that is large enough, where a cluster grows on demand."),
        click.option("--storage", metavar="URL",
                     help="Keep a copy of the sweep directory below s3://..., gs://..., file://...: what survives this machine."),
        click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, metavar="SEEDS",
                     help="Sequential: buy so many seeds at a time after the first look; what the verdict spares is cancelled."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Seed sweeps: one torchrun a seed, scheduled by Ray, ending in a verdict."""


@main.command()
@click.option(
    "--script",
    required=True,
    type=click.Path(path_type=Path),
    help="Any program that torchrun can start; it reads SEED from its environment.",
)
@click.option("--recipe", type=click.Path(path_type=Path), help="TOML file with an [env] table for the candidate.")
@click.option(
    "--control", type=click.Path(path_type=Path), help="The recipe to beat, run with the same seeds on the same nodes."
)
@click.option(
    "--seeds", help="1337,1338,1339, or a count of seeds to derive from the plan.  [default: 3; sequential: 10]"
)
@click.option(
    "--design",
    type=click.Choice(["fixed", "sequential"]),
    default="fixed",
    show_default=True,
    help="All seeds and one test, or a look after every seed, from the third on, until the verdict is in.",
)
@click.option(
    "--max-seeds",
    type=click.IntRange(3, MOST_LOOKS),
    help="Sequential: derive this many seeds; as many are run at most.",
)
@click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    help=f"Sequential: how the level is shared among the looks.  [default: {BOUNDARIES[0]}]",
)
@click.option("--sota", type=float, help="The standing record's metric, where it is not rerun as --control.")
@click.option("--rules", default="parameter-golf", show_default=True, help="Ruleset: a name or a TOML file.")
@click.option("--margin", type=float, help="How much better the mean must be, in --unit.  [default: the ruleset's]")
@click.option("--unit", type=click.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]")
@click.option("--alpha", type=float, help="Level of the test.  [default: the ruleset's]")
@click.option("--env", "pairs", multiple=True, metavar="KEY=VALUE", help="Add to both recipes; may be repeated.")
@click.option(
    "--gpus-per-run",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="GPUs, and so ranks, of one run; 0 runs on CPUs.",
)
@click.option(
    "--cpus-per-run",
    type=click.IntRange(min=1),
    help="CPUs of one run; without GPUs also its ranks.  [default: one a GPU, else 1]",
)
@click.option("--accelerator-type", metavar="H100", help="Only on nodes with GPUs that Ray calls so.")
@care_options
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="The sweep directory to make."
)
def run(
    script: Path, recipe: Path | None, control: Path | None, seeds: str | None, design: str,
    max_seeds: int | None, boundary: str | None, sota: float | None, rules: str,
    margin: float | None, unit: str | None, alpha: float | None, pairs: tuple[str, ...],
    gpus_per_run: int, cpus_per_run: int | None, accelerator_type: str | None, output: Path, **care: Any,
) -> None:  # fmt: skip
    """Train every seed and test the claim."""
    from dataclasses import asdict, replace

    from analysis.rules.ruleset import T_TEST, RulesError, load
    from analysis.verdict.judge import out_of_range
    from orchestration.plan.freeze import PlanError, freeze, make_design, make_plan, parse_env, parse_seeds

    cpus = cpus_per_run or max(gpus_per_run, 1)
    try:
        asked: dict[str, Any] = {"margin": margin, "unit": unit, "alpha": alpha}
        ruleset = replace(load(rules), **{key: value for key, value in asked.items() if value is not None})
        if fault := out_of_range(sota, ruleset.margin, ruleset.alpha):
            raise click.UsageError(fault)
        if sota is None and control is None and ruleset.target is None:
            raise click.UsageError("What is to be beaten? Give --sota X, or the recipe to beat as --control FILE.")
        if design == SEQUENTIAL and ruleset.test != T_TEST:
            raise click.UsageError(f"--design sequential needs a t-test; --rules {rules} has a {ruleset.test}-test.")
        if max_seeds is not None and (seeds is not None or design == FIXED):
            raise click.UsageError("--max-seeds belongs to --design sequential, and --seeds says how many already.")
        if boundary is not None and design == FIXED:
            raise click.UsageError("--boundary belongs to --design sequential; a fixed sweep is tested once.")
        claim: dict[str, Any] = {"ruleset": asdict(ruleset), "sota": sota}
        chosen = parse_seeds(str(max_seeds or (10 if design == SEQUENTIAL else 3)) if seeds is None else seeds)
        number = chosen if isinstance(chosen, int) else len(chosen)
        shape = make_design(design, number, boundary or BOUNDARIES[0], max(3, ruleset.minimum_runs))
        if care["parallel"] != 1 and design == FIXED:
            raise click.UsageError("--parallel belongs to --design sequential; a fixed sweep runs all that fit.")
        if accelerator_type is not None and not gpus_per_run:
            raise click.UsageError("--accelerator-type belongs to --gpus-per-run; a run on CPUs has no accelerator.")
        if number < (needed := max(2, ruleset.minimum_runs)):
            click.echo(f"Note: seeds planned: {number}; a claim by {ruleset.name} needs {needed}.", err=True)
        need_ray()
        claim |= {"accelerator_type": accelerator_type} if accelerator_type else {}
        plan = make_plan(script, recipe, control, chosen, parse_env(pairs), gpus_per_run, cpus, claim, shape)
        freeze(plan, output)
        if beside := plan["script"].get("modules"):
            click.echo(f"Note: {script} imports {', '.join(beside)} from its folder. Only the script itself is frozen and goes to "
                       f"nodes that do not share it, and no record can be made of several files.", err=True)  # fmt: skip
    except (PlanError, RulesError) as error:
        raise click.UsageError(printable(str(error))) from None
    raise SystemExit(drive(output.resolve(), care, fresh=True))


@main.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@care_options
def resume(directory: Path, **care: Any) -> None:
    """Go on with a sweep: what has a result is kept, what was lost, stopped or never started is run.

    With --storage, DIRECTORY may be a new one: the sweep of its name is fetched from there.
    """
    need_ray()
    raise SystemExit(drive(directory.resolve(), care))


def need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise click.UsageError("This needs ray: pip install 'seedproof[orchestration]'.")


def drive(directory: Path, care: dict[str, Any], fresh: bool = False) -> int:
    """Carry a frozen plan out with the options of `care_options`; returns the exit code."""
    from analysis.sweepdir.layout import SweepError
    from orchestration.disk.lock import HeldError
    from orchestration.driver.drive import EXIT_RUN_FAILED, Care, carry_out

    usual = {option.name: option.default for option in resume.params}
    unusual = {name: value for name, value in care.items() if value is not None and value != usual[name]}
    again = [
        word
        for name, value in unusual.items()
        for word in (f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value))
    ]
    try:
        return carry_out(directory, Care(care["max_attempts"], care["stall_timeout"], care["deadline"], 60 * care["wait_for_nodes"],
                                         care["parallel"], care["storage"], tuple(again), fresh))  # fmt: skip
    except (HeldError, SweepError) as error:
        raise click.UsageError(printable(str(error))) from None
    except OSError as error:
        click.echo(f"Error: {error.filename or directory} cannot be used: {error.strerror or error}.", err=True)
    except KeyboardInterrupt:
        click.echo("Stopped: the sweep is not complete.", err=True)
    return EXIT_RUN_FAILED


@main.command()
@DIRECTORY
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until nobody drives the sweep.")
def status(directory: Path, watch: bool) -> None:
    """Where every run stands, from the files alone."""
    from analysis.sweepdir.layout import SweepError, planned_runs, read_sweep_plan
    from orchestration.disk.lock import living_owner

    shown: list[str] = []
    while True:
        try:
            plan = read_sweep_plan(directory)  # before the lock, which might be a link to anything
            owner = living_owner(directory)
            lines = standing(directory, planned_runs(directory, plan), owner)
        except SweepError as error:
            raise click.UsageError(printable(str(error))) from None
        if lines != shown:
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo("\n".join(map(printable, lines)))
        shown = lines
        if not watch or owner is None:
            return
        time.sleep(WATCH_S)


def standing(directory: Path, runs: list[PlannedRun], owner: dict[str, Any] | None) -> list[str]:
    """A line a run, who drives the sweep, and what to do where nobody does."""
    from orchestration.disk.lock import described
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
        lines.append(f"Driven by {described(owner)}.")
    elif any(planned.state not in ("succeeded", "failed") for planned in runs):
        again = shlex.join(["python", "-m", "orchestration.sweep", "resume", str(directory)])
        lines.append(f"Nobody drives it. What is missing is run by: {again}")
    return lines


@main.command()
@DIRECTORY
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def collect(directory: Path, form: str, output: Path | None) -> None:
    """The runs of a sweep as a frame, one row a planned run."""
    from analysis.evidence.gather import EvidenceError, sweep_results
    from analysis.reading.frame import write_rows
    from analysis.reading.result import COLUMNS
    from analysis.sweepdir.layout import FRAME, SweepError, read_sweep_plan

    if form == "parquet" and output is None:
        output = directory / FRAME
    try:
        rows = [result.row() for result in sweep_results(directory, read_sweep_plan(directory))]
        write_rows(rows, list(COLUMNS), form, output)
    except EvidenceError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(3) from None
    except SweepError as error:
        raise click.UsageError(printable(str(error))) from None
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror or error}.") from None
    if output is not None:
        click.echo(f"Wrote {output}", err=True)


if __name__ == "__main__":
    main()
