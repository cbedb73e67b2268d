"""Which step's validation counts, where the rules take the earliest one, the same for all runs, at which they pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.evidence.case import Case, at_step
from analysis.reading.result import Result
from analysis.record.metrics import common_steps
from analysis.rules.keys import EARLIEST
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.tested import rules_test


def at_its_step(case: Case) -> Case:
    """Return the Case at the earliest common validation step at which its runs pass, else at the last one.

    Where a saved step has a value (step_value), candidate and control each stand at a step of their own: that at which
    they pass the target. Any other control is taken at the same step.
    """
    own = case.rules.step_value is not None
    if case.fault is not None or not case.runs or case.failed:
        return case
    if own and case.control and case.control_step is None:
        case = _control_at_its_step(case)
    if case.rules.at_step != EARLIEST:
        return case
    compared = case.runs if own else (*case.runs, *case.control)
    if not _validate(compared):
        return case
    steps = common_steps(compared)
    if not steps:
        why = "The runs have no validation step in common, and the rules take one for all of them."
        return replace(case, fault=why)
    alone = replace(case, control=(), sota=None) if own and case.rules.target is not None else case
    chosen = next((step for step in steps if _passes(_at(alone, step))), steps[-1])
    return _at(case, chosen)


def _at(case: Case, step: int) -> Case:
    """Return the Case with runs, and a control without a step of its own, at one step."""
    at = case.at(step)
    return at if case.control_step is not None else replace(at, control=at_step(case.control, step))


def _validate(runs: Sequence[Result]) -> bool:
    """Return whether any run tells of its validations; a frame or a list of values has one number a run, and no step."""
    return any(run.run.validations for run in runs)


def _control_at_its_step(case: Case) -> Case:
    steps = common_steps(case.control)
    if not _validate(case.control):
        return case
    if not steps:
        return replace(case, fault="The control's runs have no validation step in common.")
    alone = replace(case, runs=case.control, control=(), sota=None)
    found = next((step for step in steps if _passes(alone.at(step))), steps[-1])
    return replace(case, control=at_step(case.control, found), control_step=found)


def _passes(case: Case) -> bool:
    try:
        return rules_test(case).passed
    except EvidenceError:
        return False
