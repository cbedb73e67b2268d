"""Does the evidence support the claim?

    python -m analysis.significance report PATH... --sota X     # everything
    python -m analysis.significance check PATH... --sota X      # the gate: a few lines and an exit code
    python -m analysis.significance plan --sd S --gain G        # before paying: seeds, chances, costs

Exit codes: 0 supported, 1 not supported, not yet or (for check) error-level findings, 2 usage, 3 the evidence is unusable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from analysis import cli
from analysis.report.counting import Counting
from analysis.sweepdir.plan import BOUNDARIES, MOST_LOOKS
from analysis.untrusted.escape import json_text, printable
from analysis.untrusted.invoked import this_command
from analysis.untrusted.refusal import EvidenceError, UsageError

if TYPE_CHECKING:
    from analysis.evidence.case import Case
    from analysis.verdict.verdict import Verdict

TABLE = cli.ExistingPath(dir_okay=False)
OPTIONS = (
    cli.PATHS_OR_NONE,
    click.option(
        "--values",
        callback=cli.numbers,
        metavar="X,Y,...",
        help="The runs' values of the metric instead of PATHs, e.g. 1.2014,1.1994. `check` refuses them.",
    ),
    cli.RULES,
    click.option("--sota", type=cli.Number(), help="The standing record's metric. There is no default."),
    click.option(
        "--control", type=cli.ExistingPath(), help="Runs of the standing record: log, folder, sweep or frame."
    ),
    click.option(
        "--margin", type=cli.Number(), help="How much better the mean must be, in --unit.  [default: the ruleset's]"
    ),
    click.option("--unit", type=cli.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]"),
    click.option("--alpha", type=cli.Number(), help="Level of the test.  [default: the ruleset's]"),
    click.option(
        "--metric",
        metavar="NAME",
        help="Use the final metric of this label, or another metric.  [default: the claimed or last one]",
    ),
    click.option(
        "--at-step",
        type=click.IntRange(min=1),
        help="Use each run's validation at this step.  [default: the ruleset's, else the last]",
    ),
    click.option(
        "--waive",
        multiple=True,
        metavar="NAME",
        help="Skip this criterion: what the ruleset asks in its place must hold instead.",
    ),
    click.option(
        "--design",
        type=cli.Choice(["fixed", "sequential"]),
        help="Test once, or after every seed from 3 to 10.  [default: the plan's, else fixed]",
    ),
    click.option("--history", type=TABLE, help="Earlier records (n, mean, sd) as CSV or JSON, for the usual spread."),
    click.option("--verify", type=cli.ExistingPath(), metavar="PATH", help="A second lab's runs of the same claim."),
    click.option(
        "--registry",
        metavar="URL",
        help="Where the sweep entered its plan and attempts: file://, s3://, gs://, git+https://...#branch.",
    ),
    click.option("--require-plan", is_flag=True, help="Pass only runs that are exactly those of a frozen plan."),
)


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group(cls=cli.Group, context_settings=cli.HELP | {"show_default": True})
def main() -> None:
    """Does the evidence support the claim? Exit codes: 0 supported, 1 not supported or not yet, 2 usage, 3 cannot tell."""


@main.command()
@shared_options
@click.option(
    "--explain",
    metavar="SEED|LOG",
    help="Trace one number instead: its line, what chose it, whether it counts, the test without it.",
)
@cli.output_options("text", "markdown", "json", "html", "sarif")
def report(form: str, output: Path | None, paths: tuple[Path, ...], explain: str | None, **asked: Any) -> None:
    """Report in full: runs, statistics, verdict."""
    paths = cli.the_record_meant(paths)
    if explain is not None:
        if form != "text":
            raise UsageError(f"--explain is text; it cannot be combined with --format {form}.")
        trace_one(explain, output, paths, **asked)
    from analysis.report.said.headline import word
    from analysis.report.text import text

    verdict = judged(paths, **asked)
    if form == "html":
        from analysis.report.html.page import page

        shown = page(verdict, this_command("analysis.significance"), named(paths))
    elif form == "text":
        shown = text(verdict) if output is not None else coloured(text(verdict, cli.width()))
    else:
        shown = shown_as(form, verdict, paths)
    cli.write(shown, output, word(verdict))
    end(verdict, verdict.exit_code)


@main.command()
@shared_options
@cli.format_option("text", "markdown", "json", "sarif")
def check(form: str, paths: tuple[Path, ...], **asked: Any) -> None:
    """Pass or fail the claim: a few lines and an exit code. In GitHub Actions, annotations and a step summary too.

    Error-level findings fail it too: numbers that pass prove nothing if the evidence does not fit them.
    """
    paths = cli.the_record_meant(paths)
    verdict = judged(paths, **asked)
    if form == "text":
        print_gate(verdict, paths)
    else:
        sys.stdout.write(shown_as(form, verdict, paths))
    end(verdict, verdict.gate_code)


def judged(paths: tuple[Path, ...], **asked: Any) -> Verdict:
    from analysis.verdict.judge import verdict_on

    return verdict_on(case_of(paths, **asked), require_plan=asked["require_plan"])


def case_of(paths: tuple[Path, ...], values: tuple[float, ...] = (), **asked: Any) -> Case:
    from analysis.evidence.options import Options
    from analysis.reading.importers.typed import THE_METRIC, TYPED, Typed
    from analysis.verdict import judge

    if bool(paths) == bool(values):
        raise UsageError("Name the runs' logs or folders as PATH, or give their values with --values; not both.")
    given = tuple(Typed(numbers={THE_METRIC: value}) for value in values)
    with Counting():
        return judge.case_of(paths or (Path(TYPED),), Options(**asked, values=given))


def trace_one(name: str, output: Path | None, paths: tuple[Path, ...], **asked: Any) -> NoReturn:
    """Show what is known of the runs of one seed or log, and exit as the report would."""
    from analysis.report.trace import trace
    from analysis.verdict.again.one_run import parts_named
    from analysis.verdict.judge import verdict_on

    case = case_of(paths, **asked)
    verdict = verdict_on(case, require_plan=asked["require_plan"])
    cli.write(trace(verdict, parts_named(case, verdict, name), asked["metric"], cli.width(output).prose), output)
    end(verdict, verdict.exit_code)


def shown_as(form: str, verdict: Verdict, paths: tuple[Path, ...]) -> str:
    """Return a verdict in a format that `report` and `check` share."""
    from analysis.report.markdown import markdown

    if form == "json":
        return json_text(verdict.to_json())
    return as_sarif(verdict, paths) if form == "sarif" else markdown(verdict)


def as_sarif(verdict: Verdict, paths: tuple[Path, ...]) -> str:
    from analysis.report.said.headline import first_lines
    from analysis.report.sarif import Judged, sarif

    said = " ".join(first_lines(verdict))
    return sarif([Judged(folder=one_folder(paths), said=said, findings=verdict.findings)])


def named(paths: tuple[Path, ...]) -> str:
    """Return what a page calls the PATHs: the name of the one, or how many there are."""
    if len(paths) == 1:
        return paths[0].resolve().name
    return f"{len(paths)} logs or folders" if paths else "typed values"


def one_folder(paths: tuple[Path, ...]) -> str:
    """Return the folder that findings are named below; nothing where the PATHs are not one folder."""
    return paths[0].as_posix() if len(paths) == 1 and paths[0].is_dir() else ""


def print_gate(verdict: Verdict, paths: tuple[Path, ...]) -> None:
    """Print what `check` prints, and append to the step summary."""
    from analysis.report.gate import gate, workflow_commands
    from analysis.report.markdown import markdown
    from analysis.report.said.findings import annotated, not_annotated

    where = str(paths[0]) if len(paths) == 1 else ""
    sys.stdout.write(coloured(gate(verdict, cli.width().prose)))
    commands = workflow_commands(verdict, one_folder(paths))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stdout.writelines(f"{line}\n" for line in annotated(commands))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n".join([markdown(verdict, where), *not_annotated(len(commands))]))
        except OSError as error:
            click.echo(f"GITHUB_STEP_SUMMARY, {summary}, cannot be written: {error.strerror}.", err=True)


def coloured(shown: str) -> str:
    """Colour the word that a view begins with, on a terminal that wants it."""
    if not cli.coloured():
        return shown
    word, colon, rest = shown.partition(":")
    colour = (
        "red"
        if word.startswith(("NOT SUPPORTED", "REFUSED", "EVIDENCE DOES NOT"))
        else "green"
        if word in ("SUPPORTED", "EVIDENCE FITS")
        else "yellow"
    )
    return click.style(word, fg=colour, bold=True) + colon + rest


def end(verdict: Verdict, code: int) -> NoReturn:
    """Exit. If the evidence is unusable, say why on stderr; a terminal shows it already."""
    if code == EvidenceError.exit_code and not sys.stdout.isatty():
        click.echo(f"Cannot tell: {printable(verdict.reason)}", err=True)
    raise SystemExit(code)


@main.command()
@click.option(
    "--gain", type=cli.Number(), required=True, help="How far beyond the threshold (SOTA - margin) the mean should be."
)
@click.option("--sd", type=cli.Number(), help="Standard deviation between seeds, in the metric's unit.")
@click.option("--pilot", type=cli.ExistingPath(), help="Take the sd from these runs: its upper 80% limit.")
@click.option("--history", type=TABLE, help="Take the sd from earlier records (n, mean, sd) as CSV or JSON: pooled.")
@click.option("--rules", default="parameter-golf", shell_complete=cli.rulesets, help="Ruleset: a name or a TOML file.")
@click.option("--alpha", type=cli.Number(), help="Level of the test.  [default: the ruleset's]")
@click.option(
    "--power", type=cli.Number(), default=0.9, show_default=True, help="The chance of passing that is wanted."
)
@click.option(
    "--max-seeds",
    type=click.IntRange(2, MOST_LOOKS),
    default=10,
    show_default=True,
    help="The most seeds that can be paid.",
)
@click.option(
    "--control", is_flag=True, help="Plan a rerun of the SOTA, with as many seeds. If it ran: --control-seeds."
)
@click.option(
    "--control-seeds",
    type=click.IntRange(max=1000),
    help="How many runs of the SOTA exist already. They cost nothing.",
)
@click.option(
    "--share",
    type=cli.Number(),
    help="The part of the variance that the two runs of a pair have in common.  [default: the pilot's, else unknown]",
)
@click.option(
    "--boundary",
    type=cli.Choice(BOUNDARIES),
    default=BOUNDARIES[0],
    show_default=True,
    help="How the looks of a sequential design share its level.",
)
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of one run.  [default: the ruleset's, else 1]")
@click.option("--minutes", type=cli.Number(), help="Minutes of one run.  [default: the ruleset's cap, else 10]")
@click.option("--price", type=cli.Number(), help="Price of a GPU hour, in any currency.  [default: count GPU hours]")
@cli.format_option("text", "json")
def plan(form: str, **options: Any) -> None:
    """Plan before paying: seeds needed, chances and costs, fixed and sequential."""
    from analysis.evidence.question import PlanOptions, question
    from analysis.report.plan import as_json, as_text
    from analysis.stats.power import designs

    with Counting():
        asked = question(PlanOptions(**options))
    rows = designs(asked)
    sys.stdout.write(
        as_json(asked, rows) if form == "json" else as_text(asked, rows, cli.width(tables=cli.USUAL_WIDTH))
    )


if __name__ == "__main__":
    main()
