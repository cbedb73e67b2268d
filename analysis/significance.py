"""Does the evidence support the claim?

    python -m analysis.significance report PATH... --sota X     # everything
    python -m analysis.significance check PATH... --sota X      # the gate: a few lines and an exit code

Exit codes: 0 supported, 1 not supported or (for check) error-level findings, 2 usage, 3 the evidence is unusable.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from analysis.runs import Result
    from analysis.verdict import Verdict

PATHS = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH..."
)
OPTIONS = (
    click.option("--rules", help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]"),
    click.option("--sota", type=float, help="The standing record's metric. There is no default."),
    click.option("--control", type=click.Path(exists=True, path_type=Path), help="Runs of the standing record: log, folder, sweep or frame."),
    click.option("--margin", type=float, help="How much better the mean must be, in --unit.  [default: the ruleset's]"),
    click.option("--unit", type=click.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]"),
    click.option("--alpha", type=float, help="Level of the test.  [default: the ruleset's]"),
    click.option("--metric", "label", metavar="LABEL", help="Use this final metric.  [default: the claimed or last one]"),
)  # fmt: skip


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed((PATHS, *OPTIONS)):
        command = option(command)
    return command


def judge(
    paths: tuple[Path, ...],
    rules: str | None = None,
    sota: float | None = None,
    control: Path | None = None,
    margin: float | None = None,
    unit: str | None = None,
    alpha: float | None = None,
    label: str | None = None,
) -> Verdict:
    """The verdict on PATHs; unusable evidence is a verdict too. Raises click.UsageError for wrong options."""
    from dataclasses import replace

    from analysis.evidence import Evidence, EvidenceError, check_one_metric, check_results, gather, plan_of
    from analysis.rules import RulesError, from_plan, load
    from analysis.verdict import decide, unusable

    if fault := out_of_range(sota, margin, alpha):
        raise click.UsageError(fault)
    try:
        ruleset = load(rules or "parameter-golf")
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    evidence, broken = Evidence(), None
    try:
        plan = plan_of(list(paths))
        if plan and rules is None:
            ruleset = from_plan(plan)
    except (EvidenceError, RulesError) as error:
        return unusable(ruleset, error, sota, [], [], [])
    try:
        evidence = gather(list(paths), ruleset, label)
    except EvidenceError as error:
        broken = error
    if alpha is not None and ruleset.scaled_gain is not None:
        raise click.UsageError(
            f"--alpha: {ruleset.name} passes at its own critical value (scaled_gain), not at a level."
        )
    asked: dict[str, Any] = {"margin": margin, "unit": unit, "alpha": alpha}
    ruleset = replace(ruleset, **{key: value for key, value in asked.items() if value is not None})
    if sota is None and control is None:
        sota = plan.get("sota")
    nothing = sota is None and control is None and ruleset.target is None
    if nothing and not evidence.control and "control" not in plan.get("arms", {}):
        raise click.UsageError(
            "What is to be beaten? Give the standing record with --sota X, or its own runs with --control PATH."
        )
    try:
        if broken is not None:
            raise broken
        if fault := out_of_range(sota, ruleset.margin, ruleset.alpha):
            raise EvidenceError(f"The plan cannot be meant: {fault}")
        if evidence.fault is not None:
            raise EvidenceError(evidence.fault)
        standing = evidence.control
        check_results(evidence.results, ", ".join(map(str, paths)))
        if control is not None:
            other = gather([control], ruleset, label, as_control=True)
            if other.fault is not None:
                raise EvidenceError(f"--control {control}: {other.fault}")
            standing = [_of_control(row, control) for row in other.results or other.control]
            evidence.findings += [replace(f, file=_below(control, f.file)) for f in other.findings]
        if standing:
            check_results(standing, str(control or paths[0]))
            check_one_metric(evidence.results + standing)
        verdict = decide(ruleset, evidence.results, evidence.findings, sota, standing)
        return replace(verdict, not_counted=evidence.not_counted)
    except EvidenceError as error:
        return unusable(ruleset, error, sota, evidence.results, evidence.findings, evidence.not_counted)


def out_of_range(sota: float | None, margin: float | None, alpha: float | None) -> str | None:
    """What is wrong with the numbers of a claim, or None."""
    for name, value, low, high in (("--sota", sota, 0.0, math.inf), ("--alpha", alpha, 0.0, 0.5)):
        if value is not None and not low < value < high:
            return f"{name} is {value:g}; it must lie between {low:g} and {high:g}."
    if margin is not None and not 0 <= margin < math.inf:
        return f"--margin is {margin:g}; it must be 0 or more."
    return None


def _of_control(row: Result, control: Path) -> Result:
    from dataclasses import replace

    return replace(row, arm="control", log=_below(control, row.log))


def _below(control: Path, name: str) -> str:
    """A control's file as named from the working directory."""
    return str(control / name) if control.is_dir() else name


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Does the evidence support the claim? Exit codes: 0 supported, 1 not supported, 2 usage, 3 cannot tell."""


@main.command()
@shared_options
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "json", "html"]), default="text", show_default=True
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def report(form: str, output: Path | None, paths: tuple[Path, ...], **options: Any) -> None:
    """The full report: runs, statistics, verdict."""
    from analysis.escape import tolerate_any_text

    tolerate_any_text()
    verdict = judge(paths, **options)
    command = shlex.join(["python", "-m", "analysis.significance", *sys.argv[1:]])
    content = rendered(verdict, form, paths[0], command)
    if output is None:
        sys.stdout.write(content)
    else:
        try:
            output.write_text(content, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"--output {output} cannot be written: {error.strerror}.") from None
    leave(verdict)


def rendered(verdict: Verdict, form: str, path: Path, command: str) -> str:
    """The report in one of its formats; html needs the extra seedproof[report]. `command` makes it again."""
    from analysis import render

    if form != "html":
        return {"text": render.text, "markdown": render.markdown, "json": render.as_json}[form](verdict)
    try:
        from analysis.page import page
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--format html needs {error.name}: pip install 'seedproof[report]'.") from None
    return page(verdict, path, command)


@main.command()
@shared_options
def check(paths: tuple[Path, ...], **options: Any) -> None:
    """The gate: a few lines, annotations and a step summary when in GitHub Actions, and the exit code.

    It fails on findings of the level error too: numbers that pass prove nothing when the evidence does not fit them.
    """
    from analysis import render
    from analysis.escape import tolerate_any_text
    from analysis.findings import counts

    tolerate_any_text()
    verdict = judge(paths, **options)
    errors = counts(verdict.findings)["error"]
    sys.stdout.write(render.gate(verdict, errors))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        folder = str(paths[0]) if len(paths) == 1 and paths[0].is_dir() else ""
        sys.stdout.write(render.workflow_commands(verdict, errors, folder))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(render.markdown(verdict))
        except OSError as error:
            click.echo(f"GITHUB_STEP_SUMMARY, {summary}, cannot be written: {error.strerror}.", err=True)
    leave(verdict, errors)


def leave(verdict: Verdict, errors: int = 0) -> None:
    """End with the verdict's exit code, 1 instead of 0 when there are `errors`; unusable evidence says why on stderr."""
    from analysis.escape import printable

    if verdict.exit_code == 3 and not sys.stdout.isatty():  # on a terminal it stands there already
        click.echo(f"Cannot tell: {printable(verdict.reason)}", err=True)
    raise SystemExit(verdict.exit_code or min(errors, 1))


if __name__ == "__main__":
    main()
