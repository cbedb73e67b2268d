"""Turn a finished sweep into a submission folder whose numbers cannot be mistyped.

    python -m orchestration.record DIR --name "..." --author "..." --output records/NAME

The folder holds the script, the logs and the plan as they are, and a README.md and a submission.json that are made from
them. It appears only when its own check, the reviewer's, has found nothing that speaks against it.

Exit codes: 0 written, 1 the claim is not supported or something does not fit, 2 usage, 3 the evidence is unusable, 4 a
run failed or is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.cli import ExistingPath
from analysis.sweepdir.layout import PLAN, SweepError, read_sweep_plan

if TYPE_CHECKING:
    from analysis.rules.findings import Finding
    from analysis.verdict.verdict import Verdict

# Findings that no folder of these runs could avoid: a script may print less than ours,
UNPRINTED = ("seed-missing",)
# and a submission that claims no record may come from another machine, from longer or larger runs, or from too few.
OF_THE_RUNS = ("world-size", "hardware-unexpected", "time-over-cap", "size-over-cap", "too-few-seeds", "environment-differs",
               "data-differs", "bytes-per-token-unexpected")  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=ExistingPath(file_okay=False))
@click.option("--name", required=True, help="Title of the submission.")
@click.option("--author", required=True, help="Who submits it.")
@click.option("--github-id", help="The author's name on GitHub.")
@click.option("--blurb", help="What is new, in a sentence or two.")
@click.option(
    "--date", type=click.DateTime(["%Y-%m-%d"]), help="[default: the day when the last run that counts ended, in UTC]"
)
@click.option("--non-record", is_flag=True, help="Claim no record: also where the claim is not supported, and say so.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
def main(directory: Path, output: Path, date: datetime | None, non_record: bool, **said: str | None) -> None:
    """A submission folder from a finished sweep: script and logs as they are, README and JSON made from them."""
    from analysis.rules.findings import ERROR
    from analysis.cli import tolerate_any_text
    from analysis.report.findings import finding_lines
    from analysis.untrusted.escape import printable

    tolerate_any_text()
    for option in ("name", "author"):
        if not (said[option] or "").strip():
            raise click.UsageError(f"--{option} is empty; a submission needs one.")
    try:
        if output.name.startswith("-") or not output.name.isprintable():
            raise SweepError(
                f"--output {output.name!r}: a folder's name cannot be typed like that. Choose another name."
            )
        if directory.resolve() in output.resolve().parents:
            raise SweepError(
                f"--output {output} lies in the sweep, which stays as it is. Choose a folder outside of it."
            )
        if os.path.lexists(output):
            raise SweepError(f"--output {output} is there already, and nothing is overwritten. Choose another name.")
        plan = read_sweep_plan(directory)
        verdict, standing, command = make(directory, plan, output, date, non_record, said)
    except SweepError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{error.filename or output}: {error.strerror}. Nothing was written.") from None
    for line in finding_lines(standing):
        click.echo(line, err=True)
    if paths := absolute_paths(plan):
        told = f"Note: the plan is evidence and stays as it is, with paths of the machine: {', '.join(paths)}."
        click.echo(printable(told), err=True)
    refused = any(finding.severity == ERROR for finding in standing)
    but = ", but the check refuses it for the findings above" if refused else ""
    click.echo(printable(f"Wrote {output}: {verdict.verdict.replace('_', ' ')}, {verdict.n} seeds{but}."))
    click.echo(printable(f"Check it with: {command}"))


def make(
    directory: Path, plan: dict[str, Any], output: Path, date: datetime | None, non_record: bool, said: dict[str, Any]
) -> tuple[Verdict, list[Finding], str]:
    """Build the folder beside `output`, check it, and give it its name; (verdict, what stands, the reviewer's command).

    said: name, author, github_id and blurb. Raises SweepError, OSError.
    """
    from analysis.rules.ruleset import from_plan
    from orchestration.disk.lock import described, living_owner
    from orchestration.submission.finished import SCRIPT, decided, gather, not_counting
    from orchestration.submission.readme import (
        CLAIM,
        README,
        RULES,
        Submission,
        as_json,
        as_toml,
        check_command,
        readme,
        rules_options,
    )

    if owner := living_owner(directory):
        raise SweepError(f"{directory} is in use: {described(owner)}. Wait until the sweep has ended.")
    verdict, seeds = decided(directory, plan, non_record)
    kept = gather(directory, plan, verdict, seeds)
    day = date or kept.ended
    if day is None:
        raise SweepError(f"{directory}: no run.json says when a run ended. Give the day with --date.")
    files, rules = kept.files, from_plan(plan)
    if rules_options(rules) is None:
        files[RULES] = as_toml(rules).encode()
    aside, hosts = not_counting(directory, plan, seeds, verdict.metric)
    submission = Submission(
        date=day.date().isoformat(), non_record=non_record, plan=plan, verdict=verdict, runs=kept.runs, control=kept.control,
        aside=aside, hosts=hosts, made_on=kept.made_lines(), code_bytes=len(files[SCRIPT]), files=list(files),
        check=check_command(Path(output.name), plan, files), **said,
    )  # fmt: skip
    files[CLAIM] = as_json(submission).encode()
    anchor = next(parent for parent in output.absolute().parents if parent.is_dir())
    building = anchor / f".{output.name}.{os.getpid()}.partial"
    try:
        write(building, files | {README: readme(submission, []).encode()})
        standing = check(building, plan, list(files), verdict, non_record)
        write(building, {README: readme(submission, standing).encode()})
        output.parent.mkdir(parents=True, exist_ok=True)
        building.rename(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return verdict, standing, check_command(output, plan, files)


def write(folder: Path, files: dict[str, bytes]) -> None:
    from orchestration.disk.files import write_whole

    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)


def check(building: Path, plan: dict[str, Any], files: list[str], verdict: Verdict, non_record: bool) -> list[Finding]:
    """Read the folder as a reviewer does; the findings that may stand. Refuses it for others, or for another verdict."""
    from dataclasses import replace

    from analysis.rules.findings import ERROR, INFO
    from analysis.report.findings import finding_lines
    from analysis.verdict.judge import judge
    from analysis.verdict.verdict import SUPPORTED, UNUSABLE
    from orchestration.submission.finished import EXIT_NOT_SUPPORTED, EXIT_UNUSABLE, refuse
    from orchestration.submission.readme import check_options

    checked = judge((building,), **check_options(building, plan, files))
    findings = [replace(f, file=f.file.removeprefix(f"{building}/")) for f in checked.findings]
    against = [
        f
        for f in findings
        if f.severity != INFO
        and not (f.code in UNPRINTED and f.severity != ERROR)
        and not (f.code in OF_THE_RUNS and non_record)
    ]
    if against:
        refuse(EXIT_NOT_SUPPORTED, "No folder was written, for its check would find:", finding_lines(against))
    reason = checked.reason.replace(str(building), "the folder")
    if checked.verdict == UNUSABLE:
        refuse(EXIT_UNUSABLE, f"No folder was written, for its check could not tell: {reason}")
    if (checked.verdict == SUPPORTED, checked.mean) != (verdict.verdict == SUPPORTED, verdict.mean):
        hint = [] if PLAN in files else ["Without printed seeds nobody can follow the plan's looks: print seed:N."]
        said = f"No folder was written, for its check would not say what the sweep says: {reason}"
        refuse(EXIT_NOT_SUPPORTED, said, hint)
    return findings


def absolute_paths(plan: dict[str, Any]) -> list[str]:
    """The absolute paths that a plan names."""
    return list(dict.fromkeys(re.findall(r"(?<![\w./-])/[^\s\"':,;]+", json.dumps(plan | {"ruleset": None}))))


if __name__ == "__main__":
    main()
