"""What does not fit in the runs of a sweep directory and in their logs."""

from __future__ import annotations

from pathlib import Path

from analysis.checks.attempts import check_attempts
from analysis.checks.caps import check_told
from analysis.checks.folder import several_runs
from analysis.checks.pairs import check_pairs
from analysis.checks.runs import check_runs
from analysis.record.sweep import SweepRead
from analysis.rules.findings import ERROR, Code, Finding, Found, Place, Raised, graded
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.code import read_code
from analysis.sweepdir.layout import CANDIDATE, SCRIPT, SweepError
from analysis.sweepdir.plan import Plan


def audit_sweep(read: SweepRead, directory: Path, plan: Plan, rules: Ruleset) -> list[Finding]:
    """Check the runs of each arm, their logs, and that the planned script is there; errors first."""
    raised = [found for claimed in read.claimed.values() for found in check_runs(claimed, rules)]
    raised += check_told(read.claimed.get(CANDIDATE, ()), rules)
    for log, runs in read.logs.items():
        raised += several_runs(log.relative_to(directory).as_posix(), runs)
    for log in read.edited:
        at = Place(log.relative_to(directory).as_posix())
        found, expected = "a log that was changed after its run", "the one whose SHA-256 was recorded"
        raised.append(Found(code=Code.LOG_CLOBBERED, at=at, found=found, expected=expected, severity=ERROR))
    raised += check_attempts(read.attempts, rules)
    raised += check_pairs(plan, read.pairs, read.attempts)
    raised += _script(directory, plan)
    return graded(raised, rules.findings)


def _script(directory: Path, plan: Plan) -> Raised:
    try:
        read_code(directory, plan.script.digests)
    except SweepError as error:
        found = f"that {str(error).rstrip('.')}"
        yield Place(SCRIPT).has(Code.MISSING_FILE, found, expected="the planned script", do="Put it back.")
