"""What action.yml runs: the gate on every record folder that a pull request touches.

    SEEDPROOF_PATH=records SEEDPROOF_SOTA=1.2161 SEEDPROOF_BASE=<commit> python -I -m analysis.action

Configured by environment variables only, in the root of a checkout that is somebody else's: nothing of it is executed,
and its names and contents are printed escaped. Each record is judged as `analysis.significance check` does, with its
annotations and its part of the step summary. The exit code is that of the worst.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from analysis.cli import tolerate_any_text
from analysis.record.changed import ChangeError, records_to_check
from analysis.report import gate
from analysis.rules.ruleset import USUAL, known, load
from analysis.significance import check, judged, print_gate
from analysis.untrusted.escape import printable, workflow_command
from analysis.untrusted.refusal import SeedproofError

MOST_RECORDS = 20
OPTIONS = ("rules", "sota", "control", "margin", "unit", "alpha")
NOTHING = "This change adds or changes no record: there is nothing to check."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one record, or the whole action, comes to. verdict: that of the gate, `usage` or `none`."""

    code: int
    verdict: str
    p_value: float | None = None


def main() -> NoReturn:
    tolerate_any_text()
    names = (*OPTIONS, "path", "base")
    inputs = {name: value for name in names if (value := os.environ.get(f"SEEDPROOF_{name.upper()}"))}
    try:
        folders = touched(inputs)
        options = yardstick(inputs) if folders else []
    except SeedproofError as error:
        finish(refused(error))
    if not folders:
        print(workflow_command("notice", NOTHING, title="seedproof"))
        finish(Outcome(code=0, verdict="none"))
    finish(max((outcome_of(folder, options) for folder in folders), key=lambda one: one.code))


def touched(inputs: Mapping[str, str]) -> list[Path]:
    """Return the record folders to judge: those that a pull request touches, else all below the path."""
    files = {name: inputs[name] for name in ("rules", "control") if name in inputs}
    if files.get("rules") in known():
        del files["rules"]
    found = records_to_check(inputs.get("path", "records"), inputs.get("base", ""), files)
    if len(found) > MOST_RECORDS:
        raise ChangeError(
            f"This change touches {len(found)} record folders; at most {MOST_RECORDS} are judged at once."
        )
    return found


def yardstick(inputs: Mapping[str, str]) -> list[str]:
    """Return the options of `check` that the workflow gives.

    The workflow must say what is to be beaten: without it the plan of a sweep, which is its author's, would.
    """
    given = {name: inputs[name] for name in OPTIONS if name in inputs}
    if "sota" not in given and "control" not in given:
        target = load(given.get("rules", USUAL)).target
        if target is None:
            raise ChangeError(
                "What is to be beaten? Give the standing record's metric as sota, or its runs as control."
            )
        given["sota"] = repr(target)
    return [f"--{name}={value}" for name, value in given.items()]


def outcome_of(folder: Path, options: list[str]) -> Outcome:
    """Judge one record folder, and print what `check` prints."""
    print(f"Record {printable(str(folder))}:", flush=True)
    try:
        with check.make_context("seedproof", [*options, "--", str(folder)]) as context:
            verdict = judged(**context.params)
    except (SeedproofError, click.ClickException) as error:
        return refused(error)
    print_gate(verdict, (folder,))
    p_value = verdict.test.p_value if verdict.test is not None else None
    return Outcome(code=gate.exit_code(verdict), verdict=gate.outcome(verdict), p_value=p_value)


def refused(error: SeedproofError | click.ClickException) -> Outcome:
    """Say why nothing could be judged, as an annotation."""
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    print(workflow_command("error", said, title="seedproof"), flush=True)
    return Outcome(code=error.exit_code, verdict="usage" if error.exit_code == 2 else "unusable")


def finish(outcome: Outcome) -> NoReturn:
    """Write the action's outputs, and exit."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        p_value = "" if outcome.p_value is None else repr(outcome.p_value)
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"verdict={outcome.verdict}\np_value={p_value}\n")
    raise SystemExit(outcome.code)


if __name__ == "__main__":
    main()
