"""An audit: what does not fit in a record folder, a sweep or some single logs, without a verdict on the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.checks.folder import audit as audit_folder
from analysis.checks.sweep import audit_sweep
from analysis.evidence.checked import NotChecked, checked
from analysis.reading.frame import SUFFIXES as FRAME_SUFFIXES
from analysis.record.fit import Fit
from analysis.record.folder import read_record, records_below
from analysis.record.selection import select
from analysis.record.stated.compare import statements
from analysis.record.stated.said import Statement
from analysis.record.sweep import read_sweep
from analysis.record.track import track_of
from analysis.rules.findings import Finding
from analysis.rules.ruleset import RulesError, Ruleset, load
from analysis.sweepdir.layout import CANDIDATE, SweepError, is_sweep
from analysis.sweepdir.plan import read_plan
from analysis.untrusted.files import one_budget
from analysis.untrusted.invoked import command
from analysis.untrusted.refusal import EvidenceError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The findings on one folder, one sweep or the single logs of a call.

    runs: how many are claimed. headline: how the claimed number fits them. checks: how many the rules ask for;
    not_checked: those that could not be made. claims: what JSON and README say, each with what the logs say.
    """

    paths: tuple[Path, ...]
    rules: str
    rules_because: str | None
    runs: int
    headline: Fit
    findings: tuple[Finding, ...]
    checks: int
    not_checked: tuple[NotChecked, ...]
    claims: tuple[Statement, ...] = ()


def audit_all(paths: Sequence[Path], rules: str | None = None) -> list[Audit]:
    """Audit each folder of the PATHs, then their single logs together. Raises UsageError, RulesError, EvidenceError."""
    files = [path for path in paths if path.is_file()]
    return [audit(group, rules) for group in (*([path] for path in paths if not path.is_file()), files) if group]


def audit(paths: Sequence[Path], rules: str | None = None) -> Audit:
    """Audit a record folder, a sweep or some single logs. Raises UsageError, RulesError, EvidenceError."""
    named = load(rules) if rules else None
    with one_budget():
        return _of_sweep(paths[0], named) if is_sweep(paths[0]) else _of_record(paths, named)


def _of_sweep(path: Path, named: Ruleset | None) -> Audit:
    try:
        plan = read_plan(path)
        rules = named or plan.rules()
        read = read_sweep(path, plan, rules)
        findings = tuple(audit_sweep(read, path, plan, rules))
    except (SweepError, RulesError) as error:  # of the plan, which is evidence
        raise EvidenceError(str(error)) from None
    claimed = read.claimed.get(CANDIDATE, ())
    made = checked(claimed, rules)
    return Audit(
        paths=(path,),
        rules=rules.name,
        rules_because=None,
        runs=len(claimed),
        headline=Fit.UNCLAIMED,
        findings=findings,
        checks=made.asked,
        not_checked=made.not_made,
    )


def _of_record(paths: Sequence[Path], named: Ruleset | None) -> Audit:
    track = track_of(paths, asks_for_a_test=False)
    rules = named or load(track.rules)
    for path in paths:
        if path.is_file() and path.suffix in FRAME_SUFFIXES:
            raise UsageError(f"{path} is a frame: it holds no logs to audit. Name the folder with the logs.")
    record = read_record(paths)
    if inside := records_below(record):
        raise UsageError(
            f"{paths[0]} holds {len(inside)} record folder{'s' if len(inside) > 1 else ''} (first: {inside[0]}). Name "
            f"one, or see all with {command('analysis.leaderboard', str(paths[0]))}."
        )
    selection = select(record, rules)
    made = checked(selection.claimed, rules, record)
    claims = statements(record, selection, rules)
    return Audit(
        paths=tuple(paths),
        rules=rules.name,
        rules_because=track.because if named is None else None,
        runs=len(selection.claimed),
        headline=selection.fit,
        findings=tuple(audit_folder(record, selection, rules, claims)),
        checks=made.asked,
        not_checked=made.not_made,
        claims=tuple(claims),
    )
