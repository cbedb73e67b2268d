"""What does not fit in a record folder: findings alone, with file and line. Nothing of the folder is executed.

    python -m analysis.audit PATH... [--rules NAME|FILE] [--format text|json|github]

Exit codes: 0 no finding of the level error, 1 at least one, 2 usage, 3 a sweep whose runs cannot be read.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from analysis.checks import folder
from analysis.cli import ExistingPath
from analysis.evidence.gather import FRAME_SUFFIXES, EvidenceError, audit_sweep, read_sweep, rules_of
from analysis.record.folder import read_record, records_below
from analysis.record.selection import MEAN, UNCLAIMED, select
from analysis.rules.findings import ERROR, Finding, in_words
from analysis.rules.ruleset import RulesError, Ruleset, load
from analysis.sweepdir import layout
from analysis.untrusted.escape import annotation, finding_lines, json_text, printable, tolerate_any_text
from analysis.untrusted.files import printable_path


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings on one folder, one sweep or the single logs of a call, and what they were found on: how many claimed runs, and how the headline fits them."""

    paths: list[Path]
    rules: str
    runs: int
    headline: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def where(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return printable_path(self.paths[0]) + more


def audit(paths: list[Path], rules: str | None = None) -> Audit:
    """The findings on a record folder, a sweep or some single logs. Raises click.UsageError, EvidenceError."""
    path = paths[0]
    try:
        if layout.is_sweep(path):
            plan = layout.read_plan(path)
            ruleset = load(rules) if rules else rules_of(plan)
            _, claimed, logs = read_sweep(path, plan, ruleset)
            number = len(claimed.get(layout.CANDIDATE, []))
            return Audit(paths, ruleset.name, number, UNCLAIMED, audit_sweep(claimed, logs, path, plan, ruleset))
        return _audit_record(paths, load(rules or "parameter-golf"))
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    except layout.SweepError as error:
        raise EvidenceError(str(error)) from None


def _audit_record(paths: list[Path], rules: Ruleset) -> Audit:
    if frames := [path for path in paths if path.is_file() and path.suffix in FRAME_SUFFIXES]:
        raise click.UsageError(f"{frames[0]} is a frame: it holds no logs to audit. Name the folder with the logs.")
    path = paths[0]
    record = read_record(paths)
    if inside := records_below(record):
        raise click.UsageError(
            printable(
                f"{path} holds {len(inside)} record folders (first: {inside[0]}). Name one, or see all with "
                f"python -m analysis.leaderboard {path}."
            )
        )
    selection = select(record, rules)
    return Audit(paths, rules.name, len(selection.claimed), selection.fit, folder.audit(record, selection, rules))


def text(one: Audit) -> str:
    """One PATH's findings as lines."""
    said = in_words(one.findings) or "clean"
    number = f"{one.runs} claimed runs" if one.runs != 1 else "1 claimed run"
    claim = (
        ""
        if one.headline == UNCLAIMED
        else f", headline: {'its value' if one.runs == 1 and one.headline == MEAN else _HEADLINES[one.headline]}"
    )
    head = f"Audit of {printable(one.where)}: {said} ({printable(one.rules)}, {number}{claim})"
    return "\n".join([head, *(f"  {line}" for line in finding_lines(one.findings))]) + "\n"


_HEADLINES = {
    "mean": "their mean",
    "best": "the best of them",
    "one": "one of them",
    "in training": "printed in training only",
    "unsupported": "none of them, nor their mean",
}


def as_json(audits: list[Audit]) -> str:
    records = [asdict(one) | {"paths": [printable_path(path) for path in one.paths]} for one in audits]
    findings = [finding for record in records for finding in record["findings"]]
    table = {"schema_version": 1, "rules": audits[0].rules, "findings": findings, "records": records}
    return json_text(table)


def as_annotations(audits: list[Audit]) -> str:
    lines = [annotation(f, str(one.paths[0]) if one.paths[0].is_dir() else "") for one in audits for f in one.findings]
    return "".join(f"{line}\n" for line in lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=ExistingPath(), metavar="PATH...")
@click.option("--rules", help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "github"]), help="[default: text; github when in Actions]"
)
def main(paths: tuple[Path, ...], rules: str | None, form: str | None) -> None:
    """What does not fit in a record: findings with file and line. Exit code 1 when one of them is an error."""
    tolerate_any_text()
    try:
        files = [path for path in paths if path.is_file()]
        audits = [audit([path], rules) for path in paths if not path.is_file()]
        audits += [audit(files, rules)] if files else []
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
