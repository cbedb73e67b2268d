"""Which runs are the control: those that the reviewer brought, the plan's, or those that the PATHs' own folders propose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis.checks.data import check_control
from analysis.checks.left_out import check_control_arm, claimed_in_control
from analysis.evidence.case import Case
from analysis.evidence.checked import checked_control
from analysis.evidence.gather import gather
from analysis.evidence.options import Asked
from analysis.evidence.usable import check_one_metric, check_results
from analysis.record.selection import LeftOut, Why
from analysis.rules.findings import graded
from analysis.sweepdir.layout import CONTROL
from analysis.untrusted.refusal import EvidenceError


def with_control(asked: Asked, case: Case) -> Case:
    """Find the runs of the standing record: those the reviewer brought, else the PATHs' own. Raises EvidenceError."""
    own_counts = asked.plan_may_set_the_target or asked.sota is not None or asked.planned_control is not None
    if asked.control is not None or not own_counts:
        unused = tuple(LeftOut(result=run, why=Why.OTHER_CONTROL) for run in case.control)
        case = replace(case, control=(), left_out=case.left_out + unused)
    if asked.control is not None:
        case = with_brought_control(asked, case, asked.control)
        case = replace(case, arms=case.arms and case.arms.without_control("--control names another"))
    elif not case.control:
        case = _with_proposed_control(asked, case)
    if case.control:
        check_results(case.control, str(asked.control or asked.paths[0]), case.fewest_runs, seeds=case.rules.seeds)
        check_one_metric(case.runs + case.control)
        found = graded(check_control(case.runs, case.control, case.rules), case.rules.findings)
        checks = case.checked + checked_control(case.runs, case.control)
        case = replace(case, findings=(*case.findings, *found), checked=checks)
    return case


def _with_proposed_control(asked: Asked, case: Case) -> Case:
    """Take the proposed arm as control, or say why it cannot be. Raises EvidenceError if nothing else is to be beaten."""
    if case.arms is None or case.arms.control is None:
        return case
    arm = case.arms.control
    try:
        taken = with_brought_control(asked, case, arm.folder, Path(arm.name))
        same = claimed_in_control(taken.runs, taken.control)
        found = tuple(graded(check_control_arm(arm.name, same), case.rules.findings))
        case, taken = (replace(c, left_out=c.left_out + same, findings=c.findings + found) for c in (case, taken))
        if case.rules.target is not None and case.rules.against is None:
            raise EvidenceError("the rules fix what is to be beaten")  # which its author's own arm cannot replace
        check_results(taken.control, arm.name, case.fewest_runs, seeds=case.rules.seeds)
        check_one_metric(taken.runs + taken.control)
        return taken
    except EvidenceError as error:
        if case.sota is None and case.rules.target is None:
            raise
        why = str(error).removeprefix(f"--control {arm.folder}: ").rstrip(".")
        return replace(case, arms=case.arms and case.arms.without_control(why))


def with_brought_control(asked: Asked, case: Case, control: Path, shown: Path | None = None) -> Case:
    """Read a control's runs, and what does not fit in them as findings; `shown` is how its folder is printed. Raises EvidenceError."""
    given = asked.options.control_values if control == asked.options.control else ()
    other = gather(given or [control], asked.rules_of_control, asked.options.metric, of_control=True)
    if other.fault is not None:
        raise EvidenceError(f"--control {control}: {other.fault}")
    if other.arms is not None and shown is None:  # which of them stood before is not for us to guess
        raise EvidenceError(f"--control {control}: it holds {other.arms.counted}; name one of them.")
    rows = other.runs or other.control
    if not rows:
        raise EvidenceError(
            f"--control {control}: it holds no training log (*.log, *.txt). Name the standing record's."
        )
    findings = tuple(replace(found, file=below(control, found.file, shown)) for found in other.findings)
    runs = tuple(replace(row, arm=CONTROL, log=below(control, row.log, shown)) for row in rows)
    return replace(case, control=runs, findings=case.findings + findings)


def below(folder: Path, name: str, shown: Path | None = None) -> str:
    """Return a file of a control or second lab as named from the working directory, or from where `shown` is named."""
    return str((shown or folder) / name) if folder.is_dir() else name
