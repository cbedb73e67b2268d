"""Build a submission folder under another name, check it as a reviewer does, and give it its own name."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.report.said.findings import finding_lines
from analysis.rules.findings import ERROR, INFO, Finding
from analysis.sweepdir.layout import PLAN, SweepError
from analysis.sweepdir.plan import Plan, read_sweep_plan
from analysis.verdict.answer import SUPPORTED, UNUSABLE
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from orchestration.disk.files import write_whole
from orchestration.disk.lock import living_owner
from orchestration.submission.finished import (
    EXIT_NOT_SUPPORTED,
    EXIT_UNUSABLE,
    RefusedError,
    decided,
    gather,
    not_counting,
)
from orchestration.submission.readme import CLAIM, README, Asked, Submission, as_json, readme
from orchestration.submission.reviewer import RULES, as_toml, check_command, check_options, rules_options

# findings that may be left unless they are errors: no folder of these runs could avoid that a script prints less than ours,
# or that a machine broke down,
UNAVOIDABLE = ("seed-missing", "attempts-remade", "criterion-not-tested", "pair-split")
# and a submission that claims no record may come from another machine, from longer or larger runs, or from too few
OF_THE_RUNS = (
    "attempts-remade",
    "world-size",
    "hardware-unexpected",
    "time-over-cap",
    "size-over-cap",
    "too-few-seeds",
    "environment-differs",
    "data-differs",
    "bytes-per-token-unexpected",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A folder that was written. command: the reviewer's. paths: absolute paths of the machine that the plan names."""

    verdict: Verdict
    findings: Sequence[Finding]
    command: str
    paths: Sequence[str]


def build(directory: Path, output: Path, asked: Asked) -> Built:
    """Make the folder `output` from a finished sweep. Raises RefusedError, SweepError, OSError; then nothing is left."""
    check_output(directory, output)
    plan = read_sweep_plan(directory)
    if owner := living_owner(directory):
        raise SweepError(f"{directory} is in use: {owner}. Wait until the sweep has ended.")
    submission = submit(directory, output, plan, asked)
    files = submission.kept.files | {CLAIM: as_json(submission).encode()}
    anchor = next(parent for parent in output.absolute().parents if parent.is_dir())
    building = anchor / f".{output.name}.{os.getpid()}.partial"
    try:
        write(building, files | {README: readme(submission, []).encode()})
        findings = check(building, submission)
        write(building, {README: readme(submission, findings).encode()})
        output.parent.mkdir(parents=True, exist_ok=True)
        building.rename(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    command = check_command(output, plan, submission.kept.files)
    return Built(verdict=submission.verdict, findings=findings, command=command, paths=absolute_paths(plan))


def check_output(directory: Path, output: Path) -> None:
    """Raise SweepError for a folder that cannot be made, or that nobody could name on a command line."""
    if output.name.startswith("-") or not output.name.isprintable():
        raise SweepError(f"--output {output.name!r}: a folder's name cannot be typed like that. Choose another name.")
    if directory.resolve() in output.resolve().parents:
        raise SweepError(f"--output {output} is inside the sweep, which stays as it is. Choose a folder outside of it.")
    if os.path.lexists(output):
        raise SweepError(f"--output {output} already exists, and nothing is overwritten. Choose another name.")


def submit(directory: Path, output: Path, plan: Plan, asked: Asked) -> Submission:
    """Gather a claim with its evidence."""
    found = decided(directory, plan, non_record=asked.non_record)
    kept, rules = gather(directory, plan, found), plan.rules()
    day = asked.date or kept.ended
    if day is None:
        raise SweepError(f"{directory}: no run.json says when a run ended. Give the day with --date.")
    if rules_options(rules) is None:
        kept.files[RULES] = as_toml(rules).encode()
    return Submission(
        asked=asked,
        day=day.date().isoformat(),
        plan=plan,
        verdict=found.verdict,
        kept=kept,
        aside=not_counting(directory, plan, found),
        check=check_command(Path(output.name), plan, kept.files),
    )


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)


def check(building: Path, one: Submission) -> list[Finding]:
    """Read the folder as a reviewer does; return the findings that may be left. Raises RefusedError for any other result."""
    checked = judge((building,), check_options(building, one.plan, one.kept.files))
    findings = [replace(f, file=f.file.removeprefix(f"{building}/")) for f in checked.findings]
    if against := [f for f in findings if not _may_be_left(f, non_record=one.asked.non_record)]:
        message = "No folder was written, because its check would find:"
        raise RefusedError(EXIT_NOT_SUPPORTED, message, finding_lines(against))
    reason = checked.reason.replace(str(building), "the folder")
    if checked.verdict is UNUSABLE:
        raise RefusedError(EXIT_UNUSABLE, f"No folder was written, because its check could not tell: {reason}")
    same = (checked.verdict is SUPPORTED) == (one.verdict.verdict is SUPPORTED) and checked.mean == one.verdict.mean
    if not same:
        hint = "Without printed seeds nobody can follow the plan's looks or pairs: print seed:N."
        message = f"No folder was written, because its check would not say what the sweep says: {reason}"
        raise RefusedError(EXIT_NOT_SUPPORTED, message, [] if PLAN in one.kept.files else [hint])
    return findings


def _may_be_left(finding: Finding, *, non_record: bool) -> bool:
    if finding.severity == INFO or (finding.code in OF_THE_RUNS and non_record):
        return True
    return finding.code in UNAVOIDABLE and finding.severity != ERROR


def absolute_paths(plan: Plan) -> list[str]:
    """Return the absolute paths that a plan names."""
    text = json.dumps({**plan.table, "ruleset": None})
    return list(dict.fromkeys(re.findall(r"(?<![\w./-])/[^\s\"':,;]+", text)))
