"""Compare the evidence with what a registry holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.checks.registry import Registered, Shown, check_registered, compare_entries
from analysis.evidence.case import Case
from analysis.evidence.checked import Checked, NotChecked
from analysis.evidence.registered.read import read_entries
from analysis.rules.findings import graded
from analysis.sweepdir.json_files import of_type, read_inside
from analysis.sweepdir.layout import LOCK, SweepError, is_sweep
from analysis.sweepdir.manifest import planned_runs
from analysis.sweepdir.plan import Plan
from analysis.sweepdir.registry import branch_of
from analysis.untrusted.secrets import redacted

CHECK = "attempts against the registry"


def with_registry(case: Case, url: str, plan: Plan | None, paths: Sequence[Path]) -> Case:
    """Return the Case with what the registry holds of its plan, and what does not fit. Raises RegistryError."""
    branch_of(url)  # which refuses a text that is no URL
    found, checked = Registered(url=redacted(url)), Checked(1)
    if plan is None:
        checked = Checked(1, (NotChecked(check=CHECK, why="there is no plan that the registry could know"),))
    else:
        entries = read_entries(url, plan.sha256)
        found = compare_entries(found.url, plan.sha256, entries, _shown(case, plan, paths))
    runs = (*case.runs, *case.control)
    claimed = list(dict.fromkeys((run.arm, run.seed) for run in runs if run.seed is not None))
    raised = graded(check_registered(found, claimed), case.rules.findings)
    return replace(case, registry=found, findings=(*case.findings, *raised), checked=case.checked + checked)


def _shown(case: Case, plan: Plan, paths: Sequence[Path]) -> Shown:
    """Return the attempts that the evidence holds: those that a sweep tells of, an empty folder aside; a record's by its logs."""
    counts: Counter[tuple[str, int]] = Counter()
    for run in (*case.runs, *case.control, *(one.result for one in case.left_out)):
        if run.seed is not None:
            counts[run.arm, run.seed] += sum(one.log is not None for one in run.attempts) or 1
    sweep = next((path for path in paths if is_sweep(path)), None)
    if sweep is None:
        return Shown(counts=counts)
    told = planned_runs(sweep, plan)
    numbers = {(run.arm, run.seed): [one.attempt for one in run.attempts if one.attempt is not None] for run in told}
    return Shown(counts={key: len(of) for key, of in numbers.items()}, sweep=_identity(sweep), numbers=numbers)


def _identity(sweep: Path) -> str | None:
    try:
        found: str | None = of_type(read_inside(sweep, sweep / LOCK).get("sweep"), str)
    except SweepError:
        return None
    return found
