"""Does the evidence support the claim?

    python -m analysis.significance report PATH... --sota X     # everything
    python -m analysis.significance check PATH... --sota X      # the gate: a few lines and an exit code
    python -m analysis.significance plan --sd S --gain G        # before paying: seeds, chances, costs

Exit codes: 0 supported, 1 not supported, not yet or (for check) error-level findings, 2 usage, 3 the evidence is unusable.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.cli import ExistingPath
from analysis.sweepdir.layout import BOUNDARIES, MOST_LOOKS

if TYPE_CHECKING:
    from analysis.verdict.verdict import Verdict

PATHS = click.argument("paths", nargs=-1, required=True, type=ExistingPath(), metavar="PATH...")
OPTIONS = (
    click.option("--rules", help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]"),
    click.option("--sota", type=float, help="The standing record's metric. There is no default."),
    click.option("--control", type=ExistingPath(), help="Runs of the standing record: log, folder, sweep or frame."),
    click.option("--margin", type=float, help="How much better the mean must be, in --unit.  [default: the ruleset's]"),
    click.option("--unit", type=click.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]"),
    click.option("--alpha", type=float, help="Level of the test.  [default: the ruleset's]"),
    click.option("--metric", "label", metavar="LABEL", help="Use this final metric.  [default: the claimed or last one]"),
    click.option("--design", type=click.Choice(["fixed", "sequential"]), help="Test once, or after every seed from 3 to 10.  [default: the plan's, else fixed]"),
    click.option("--history", type=ExistingPath(dir_okay=False), help="Earlier records (n, mean, sd) as CSV or JSON, for the usual spread."),
    click.option("--verify", type=ExistingPath(), metavar="PATH", help="A second lab's own runs, set beside the author's."),
    click.option("--require-plan", is_flag=True, help="Pass only runs that are exactly those of a frozen plan."),
)  # fmt: skip


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed((PATHS, *OPTIONS)):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Does the evidence support the claim? Exit codes: 0 supported, 1 not supported or not yet, 2 usage, 3 cannot tell."""


@main.command()
@shared_options
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "json", "html"]), default="text", show_default=True
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def report(form: str, output: Path | None, paths: tuple[Path, ...], **options: Any) -> None:
    """The full report: runs, statistics, verdict."""
    from analysis.untrusted.escape import tolerate_any_text

    tolerate_any_text()
    from analysis.verdict.judge import judge

    verdict = judge(paths, **options)
    command = shlex.join(["python", "-m", "analysis.significance", *sys.argv[1:]])
    content = rendered(verdict, form, paths[0], command)
    if output is None:
        sys.stdout.write(coloured(content, verdict.verdict) if form == "text" else content)
    else:
        try:
            output.write_text(content, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"--output {output} cannot be written: {error.strerror}.") from None
    leave(verdict)


def rendered(verdict: Verdict, form: str, path: Path, command: str) -> str:
    """The report in one of its formats; html needs the extra seedproof[report]. `command` makes it again."""
    from analysis.report import text

    if form != "html":
        return {"text": text.text, "markdown": text.markdown, "json": text.as_json}[form](verdict)
    try:
        from analysis.report.page import page
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--format html needs {error.name}: pip install 'seedproof[report]'.") from None
    return page(verdict, path, command)


@main.command()
@shared_options
def check(paths: tuple[Path, ...], **options: Any) -> None:
    """The gate: a few lines, annotations and a step summary when in GitHub Actions, and the exit code.

    It fails on findings of the level error too: numbers that pass prove nothing when the evidence does not fit them.
    """
    leave(*gate(paths, **options))


def gate(paths: tuple[Path, ...], **options: Any) -> tuple[Verdict, int]:
    """Print what `check` prints; returns the verdict and the number of error-level findings."""
    from analysis.report import text
    from analysis.rules.findings import counts
    from analysis.untrusted.escape import tolerate_any_text

    tolerate_any_text()
    from analysis.verdict.judge import judge

    verdict = judge(paths, **options)
    errors = counts(verdict.findings)["error"]
    sys.stdout.write(coloured(text.gate(verdict), "refused" if errors else verdict.verdict))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        folder = str(paths[0]) if len(paths) == 1 and paths[0].is_dir() else ""
        sys.stdout.write(text.workflow_commands(verdict, folder))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text.markdown(verdict, str(paths[0]) if len(paths) == 1 else ""))
        except OSError as error:
            click.echo(f"GITHUB_STEP_SUMMARY, {summary}, cannot be written: {error.strerror}.", err=True)
    return verdict, errors


@main.command()
@click.option(
    "--gain",
    type=float,
    required=True,
    help="How much better than the threshold (SOTA - margin) the mean is expected to be.",
)
@click.option("--sd", type=float, help="Standard deviation between seeds, in the metric's unit.")
@click.option("--pilot", type=ExistingPath(), help="Take the sd from these runs: its upper 80% limit.")
@click.option(
    "--history",
    type=ExistingPath(dir_okay=False),
    help="Take the sd from earlier records (n, mean, sd) as CSV or JSON: pooled.",
)
@click.option("--rules", default="parameter-golf", show_default=True, help="Ruleset: a name or a TOML file.")
@click.option("--alpha", type=float, help="Level of the test.  [default: the ruleset's]")
@click.option("--power", type=float, default=0.9, show_default=True, help="The chance of passing that is wanted.")
@click.option(
    "--max-seeds",
    type=click.IntRange(2, MOST_LOOKS),
    default=10,
    show_default=True,
    help="The most seeds that can be paid.",
)
@click.option(
    "--control-seeds",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    help="Plan to rerun the SOTA with so many seeds.",
)
@click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    default=BOUNDARIES[0],
    show_default=True,
    help="How a sequential design shares its level among the looks.",
)
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of one run.  [default: the ruleset's, else 1]")
@click.option("--minutes", type=float, help="Minutes of one run.  [default: the ruleset's cap, else 10]")
@click.option("--price", type=float, help="Price of a GPU hour, in any currency.  [default: count GPU hours]")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def plan(form: str, **options: Any) -> None:
    """Before paying: seeds needed, chances and costs, fixed and sequential."""
    from analysis.evidence.gather import EvidenceError
    from analysis.stats.power import as_json, as_text, designs, question
    from analysis.untrusted.escape import printable, tolerate_any_text

    tolerate_any_text()
    try:
        asked = question(**options)
    except EvidenceError as error:
        click.echo(f"Cannot tell: {printable(str(error))}", err=True)
        raise SystemExit(3) from None
    sys.stdout.write({"text": as_text, "json": as_json}[form](asked, designs(asked)))


def leave(verdict: Verdict, errors: int = 0) -> None:
    """End with the verdict's exit code, 1 instead of 0 when there are `errors`; unusable evidence says why on stderr."""
    from analysis.untrusted.escape import printable

    if verdict.exit_code == 3 and not sys.stdout.isatty():  # on a terminal it stands there already
        click.echo(f"Cannot tell: {printable(verdict.reason)}", err=True)
    raise SystemExit(exit_code(verdict, errors))


def coloured(content: str, verdict: str) -> str:
    """The text with its first words in colour, on a terminal that wants any (https://no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return content
    words, colon, rest = content.partition(":")
    colour = {"supported": "green", "not_supported": "red", "refused": "red"}.get(verdict, "yellow")
    return click.style(words, fg=colour, bold=True) + colon + rest


def exit_code(verdict: Verdict, errors: int) -> int:
    return verdict.exit_code or min(errors, 1)


if __name__ == "__main__":
    main()
