"""Run one script with many seeds and end with the verdict.

    python -m orchestration.sweep run --script S --recipe R --seeds 1337,1338,1339 --sota X --output DIR
    python -m orchestration.sweep status DIR
    python -m orchestration.sweep collect DIR --format csv

Exit codes of `run`: those of the verdict (0 supported, 1 not supported, 3 cannot tell), 2 usage, 4 a run failed.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.sweepdir import BOUNDARIES, FIXED, SEQUENTIAL

if TYPE_CHECKING:
    from orchestration.run import RunOrder

EXIT_USAGE, EXIT_RUN_FAILED = 2, 4
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIRECTORY = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))


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
    "--max-seeds", type=click.IntRange(min=3), help="Sequential: derive this many seeds; as many are run at most."
)
@click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    default=BOUNDARIES[0],
    show_default=True,
    help="Sequential: how the level is shared among the looks.",
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
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="The sweep directory to make."
)
def run(
    script: Path, recipe: Path | None, control: Path | None, seeds: str | None, design: str,
    max_seeds: int | None, boundary: str, sota: float | None, rules: str,
    margin: float | None, unit: str | None, alpha: float | None, pairs: tuple[str, ...],
    gpus_per_run: int, cpus_per_run: int | None, output: Path,
) -> None:  # fmt: skip
    """Train every seed and test the claim."""
    from dataclasses import asdict, replace

    from analysis.judge import out_of_range
    from analysis.rules import LABELLED, T_TEST, RulesError, load
    from orchestration.plan import PlanError, freeze, make_design, make_plan, parse_env, parse_seeds

    cpus = cpus_per_run or max(gpus_per_run, 1)
    try:
        asked: dict[str, Any] = {"margin": margin, "unit": unit, "alpha": alpha}
        ruleset = replace(load(rules), **{key: value for key, value in asked.items() if value is not None})
        if fault := out_of_range(sota, ruleset.margin, ruleset.alpha):
            raise click.UsageError(fault)
        if ruleset.final != LABELLED:
            raise click.UsageError(
                f"--rules {rules}: its runs end in a {ruleset.final}; a sweep's end in a {LABELLED}."
            )
        if sota is None and control is None and ruleset.target is None:
            raise click.UsageError("What is to be beaten? Give --sota X, or the recipe to beat as --control FILE.")
        if design == SEQUENTIAL and ruleset.test != T_TEST:
            raise click.UsageError(f"--design sequential needs a t-test; --rules {rules} has a {ruleset.test}-test.")
        if max_seeds is not None and (seeds is not None or design == FIXED):
            raise click.UsageError("--max-seeds belongs to --design sequential, and --seeds says how many already.")
        claim = {"ruleset": asdict(ruleset), "sota": sota}
        chosen = parse_seeds(seeds or str(max_seeds or (10 if design == SEQUENTIAL else 3)))
        number = chosen if isinstance(chosen, int) else len(chosen)
        shape = make_design(design, number, boundary, max(3, ruleset.minimum_runs))
        if importlib.util.find_spec("ray") is None:
            raise click.UsageError("This needs ray: pip install 'seedproof[orchestration]'.")
        plan = make_plan(script, recipe, control, chosen, parse_env(pairs), gpus_per_run, cpus, claim, shape)
        freeze(plan, output)
    except (PlanError, RulesError) as error:
        raise click.UsageError(str(error)) from None
    raise SystemExit(carry_out(plan, output.resolve()))


def prepare_ray() -> None:
    """What Ray reads once, when it is imported: no usage reports, and a secret for a Ray of our own.

    Left to itself Ray writes a secret to the home folder, and from then on every `ray start` asks for it while
    `ray job submit` does not send it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def carry_out(plan: dict[str, Any], directory: Path) -> int:
    """Make every run of a frozen plan; returns the exit code."""
    prepare_ray()
    from analysis.sweepdir import EVENTS, PLAN, RUN_MANIFEST, attempt_folder, read_json
    from orchestration.engine import EngineError, Size, cluster, run_all
    from orchestration.files import append_line, write_json
    from orchestration.progress import Progress
    from orchestration.run import RunOrder, now

    arms, size = plan["arms"], Size(plan["gpus_per_run"], plan["cpus_per_run"])
    orders = [
        RunOrder(arm, seed, 1, attempt_folder(directory, arm, seed, 1), Path(plan["script"]["path"]),
                 plan["script"]["sha256"], arms[arm]["env"], size.gpus or size.cpus)
        for seed in plan["seeds"] for arm in arms
    ]  # fmt: skip
    batches = in_batches(orders, plan)
    at_most = (
        f"at most {len(orders)} runs, {plan['design']['boundary']} boundary"
        if len(batches) > 1
        else f"{len(orders)} runs"
    )
    click.echo(f"Plan {plan['sha256'][:12]}: {at_most} ({', '.join(arms)}; {plan['seeds_are']} seeds "
               f"{', '.join(map(str, plan['seeds']))}), each on {size}. Everything goes to {directory}")  # fmt: skip
    progress = Progress(orders)
    states: dict[RunOrder, str] = {}

    def event(order: RunOrder, state: str, reason: str | None = None) -> None:
        states[order] = state
        append_line(directory / EVENTS, {"time": now(), "arm": order.arm, "seed": order.seed,
                                         "attempt": order.attempt, "state": state, "reason": reason})  # fmt: skip

    def ended(order: RunOrder, manifest: dict[str, Any]) -> None:
        if not manifest.get("ended"):  # the worker did not come to say it
            order.folder.mkdir(parents=True, exist_ok=True)
            path = order.folder / RUN_MANIFEST
            written = {"state": "pending", "arm": order.arm, "seed": order.seed, "attempt": order.attempt}
            if path.is_file():
                written = read_json(path)
            if written["state"] not in ("succeeded", "failed"):
                write_json(path, written | {"ended": now()} | manifest)
            manifest = read_json(path)
        event(order, manifest["state"], manifest["reason"])
        progress.ended(order, manifest)

    def started(order: RunOrder) -> None:
        event(order, "running")
        progress.started(order)

    def stop(number: int, frame: Any) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # stopping has begun
        raise KeyboardInterrupt

    try:
        click.echo("Starting Ray.")
        with cluster():
            for number in STOP_SIGNALS:
                signal.signal(number, stop)  # after Ray has set its own
            for batch in batches:
                run_all(batch, size, started, ended, progress.tick)
                if any(states[order] != "succeeded" for order in batch):
                    break
                if batch is not batches[-1] and not goes_on(directory):
                    break
    except EngineError as error:
        click.echo(f"Error: {error}", err=True)
        if not states:
            (directory / PLAN).unlink()  # nothing ran: the corrected command may use the same folder
        return EXIT_USAGE
    except KeyboardInterrupt:
        for order in orders:
            if states.get(order) == "running":
                ended(order, {"state": "stopped", "reason": "the sweep was stopped"})
        click.echo("Stopped: the sweep is not complete.", err=True)
        return EXIT_RUN_FAILED
    return conclude(directory, [order for order, state in states.items() if state != "succeeded"])


def in_batches(orders: list[RunOrder], plan: dict[str, Any]) -> list[list[RunOrder]]:
    """What is run before each look: everything where there is one test, else up to the first look, then seed by seed."""
    looks = plan["design"].get("looks", [len(plan["seeds"])])
    arms = len(plan["arms"])
    ends = [arms * look for look in looks]
    return [orders[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def goes_on(directory: Path) -> bool:
    """Whether a sequential sweep needs its next seeds; says where it stands."""
    from analysis.judge import judge
    from analysis.verdict import CONTINUE

    verdict = judge((directory,), own_sweep=True)
    click.echo(f"Look at {verdict.n} seeds: {verdict.verdict.replace('_', ' ')}. {verdict.reason}")
    if verdict.verdict != CONTINUE and verdict.sequential is not None:
        spared = verdict.sequential.looks[-1] - verdict.n
        click.echo(f"{spared} of at most {verdict.sequential.looks[-1]} seeds need not be run.")
    return verdict.verdict == CONTINUE


def conclude(directory: Path, incomplete: list[RunOrder]) -> int:
    """Write frame, verdict and reports of a finished sweep and print the verdict; returns the exit code."""
    from analysis import render
    from analysis.evidence import EvidenceError, sweep_results
    from analysis.judge import judge
    from analysis.runs import to_frame
    from analysis.significance import rendered
    from analysis.sweepdir import FRAME, REPORT_HTML, REPORT_MARKDOWN, VERDICT, read_plan
    from orchestration.files import write_whole

    written = []
    try:
        frame = to_frame(sweep_results(directory, read_plan(directory)))
        write_whole(directory / FRAME, frame.to_parquet(index=False))
        written.append(FRAME)
    except EvidenceError as error:
        click.echo(f"No frame: {error}", err=True)
    verdict = judge((directory,), own_sweep=True)
    write_whole(directory / VERDICT, render.as_json(verdict))
    write_whole(directory / REPORT_MARKDOWN, render.markdown(verdict))
    command = shlex.join(["python", "-m", "analysis.significance", "report", str(directory), "--format", "html"])
    written += [VERDICT, REPORT_MARKDOWN]
    try:
        write_whole(directory / REPORT_HTML, rendered(verdict, "html", directory, command))
        written.append(REPORT_HTML)
    except click.UsageError as error:
        click.echo(f"No HTML report: {error.message}", err=True)
    click.echo("")
    click.echo(render.text(verdict))
    click.echo("Wrote " + ", ".join(str(directory / name) for name in written))
    for order in incomplete:
        click.echo(f"Error: {order.name} has no result: {reason_of(order)}", err=True)
    return EXIT_RUN_FAILED if incomplete else verdict.exit_code


def reason_of(order: RunOrder) -> str:
    from analysis.sweepdir import RUN_MANIFEST, read_json

    manifest = read_json(order.folder / RUN_MANIFEST)
    return f"{manifest['state']}: {manifest['reason']}"


@main.command()
@DIRECTORY
def status(directory: Path) -> None:
    """Where every run stands, from the files alone."""
    from analysis.sweepdir import SweepError, planned_runs, read_plan
    from orchestration.progress import latest

    try:
        runs = planned_runs(directory, read_plan(directory))
    except SweepError as error:
        raise click.UsageError(str(error)) from None
    for planned in runs:
        detail = planned.reason or (latest(planned.folder) if planned.folder else "")
        click.echo(f"{planned.arm:<10} seed {planned.seed:<11} {planned.state:<10} {detail}".rstrip())
    done = sum(planned.state == "succeeded" for planned in runs)
    click.echo(f"{done} of {len(runs)} runs succeeded.")


@main.command()
@DIRECTORY
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def collect(directory: Path, form: str, output: Path | None) -> None:
    """The runs of a sweep as a frame, one row a planned run."""
    from dataclasses import asdict

    from analysis.evidence import EvidenceError, sweep_results
    from analysis.runs import COLUMNS, write_rows
    from analysis.sweepdir import FRAME, SweepError, read_plan

    if form == "parquet" and output is None:
        output = directory / FRAME
    try:
        rows = [asdict(result) for result in sweep_results(directory, read_plan(directory))]
        write_rows(rows, list(COLUMNS), form, output)
    except EvidenceError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(3) from None
    except SweepError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror or error}.") from None
    if output is not None:
        click.echo(f"Wrote {output}", err=True)


if __name__ == "__main__":
    main()
