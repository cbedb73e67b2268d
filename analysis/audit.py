"""What does not fit in a record folder: findings alone, with file and line. Nothing of the folder is executed.

    python -m analysis.audit PATH... [--rules NAME|FILE] [--format text|json|github]

Exit codes: 0 no finding of the level error, 1 at least one, 2 usage, 3 a sweep whose runs cannot be read.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from analysis import checks, sweepdir
from analysis.claimed import UNCLAIMED, select
from analysis.escape import annotation, finding_lines, printable
from analysis.evidence import FRAME_SUFFIXES, EvidenceError, audit_sweep, read_sweep
from analysis.files import printable_path
from analysis.findings import ERROR, Finding, counts
from analysis.record import read_record, records_below
from analysis.rules import RulesError, Ruleset, from_plan, load


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings on one PATH, and what they were found on: how many claimed runs, and how the headline fits them."""

    path: Path
    rules: str
    runs: int
    headline: str
    findings: list[Finding] = field(default_factory=list)


def audit(path: Path, rules: str | None = None) -> Audit:
    """The findings on a log, a record folder or a sweep. Raises click.UsageError, EvidenceError."""
    try:
        if sweepdir.is_sweep(path):
            plan = sweepdir.read_plan(path)
            ruleset = load(rules) if rules else from_plan(plan)
            _, claimed = read_sweep(path, plan, ruleset)
            number = len(claimed.get(sweepdir.CANDIDATE, []))
            return Audit(path, ruleset.name, number, UNCLAIMED, audit_sweep(claimed, path, ruleset))
        return _audit_record(path, load(rules or "parameter-golf"))
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    except sweepdir.SweepError as error:
        raise EvidenceError(str(error)) from None


def _audit_record(path: Path, rules: Ruleset) -> Audit:
    if path.is_file() and path.suffix in FRAME_SUFFIXES:
        raise click.UsageError(f"{path} is a frame: it holds no logs to audit. Name the folder with the logs.")
    record = read_record([path])
    if inside := records_below(record):
        raise click.UsageError(
            printable(
                f"{path} holds {len(inside)} record folders (first: {inside[0]}). Name one, or see all with "
                f"python -m analysis.leaderboard {path}."
            )
        )
    selection = select(record, rules)
    return Audit(path, rules.name, len(selection.claimed), selection.fit, checks.audit(record, selection, rules))


def text(one: Audit) -> str:
    """One PATH's findings as lines."""
    number = counts(one.findings)
    said = ", ".join(f"{count} {severity}" for severity, count in number.items() if count) or "clean"
    claim = "" if one.headline == UNCLAIMED else f", headline: {_HEADLINES[one.headline]}"
    head = f"Audit of {printable(printable_path(one.path))}: {said} ({printable(one.rules)}, {one.runs} claimed runs{claim})"
    return "\n".join([head, *(f"  {line}" for line in finding_lines(one.findings))]) + "\n"


_HEADLINES = {
    "mean": "their mean",
    "best": "the best of them",
    "one": "one of them",
    "in training": "no final metric",
    "unsupported": "none of them, nor their mean",
}


def as_json(audits: list[Audit]) -> str:
    records = [asdict(one) | {"path": printable_path(one.path)} for one in audits]
    findings = [finding for record in records for finding in record["findings"]]
    table = {"schema_version": 1, "rules": audits[0].rules, "findings": findings, "records": records}
    return json.dumps(table, indent=1) + "\n"


def as_annotations(audits: list[Audit]) -> str:
    lines = [annotation(f, str(one.path) if one.path.is_dir() else "") for one in audits for f in one.findings]
    return "".join(f"{line}\n" for line in lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--rules", help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "github"]), help="[default: text; github when in Actions]"
)
def main(paths: tuple[Path, ...], rules: str | None, form: str | None) -> None:
    """What does not fit in a record: findings with file and line. Exit code 1 when one of them is an error."""
    try:
        audits = [audit(path, rules) for path in paths]
    except EvidenceError as error:
        click.echo(f"Cannot tell: {printable(str(error))}", err=True)
        raise SystemExit(3) from None
    form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
    if form == "json":
        sys.stdout.write(as_json(audits))
    else:
        sys.stdout.write("".join(map(text, audits)))
        if form == "github":
            sys.stdout.write(as_annotations(audits))
    if any(finding.severity == ERROR for one in audits for finding in one.findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
