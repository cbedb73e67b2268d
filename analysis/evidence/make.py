"""Make the Case: read the PATHs, the control, the plan and a second lab's runs, each once, in this order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.checks.plan import Planned, compare, other_claim, own_rules
from analysis.evidence.against.control import below, with_brought_control, with_control
from analysis.evidence.against.tests import with_tests_of_control
from analysis.evidence.case import Case, Source
from analysis.evidence.claims import with_tests
from analysis.evidence.compared import sample_of
from analysis.evidence.gather import Gathered, gather
from analysis.evidence.history import History
from analysis.evidence.look_plan import LookPlan, asked_looks, planned_looks
from analysis.evidence.options import (
    Asked,
    check_design,
    check_planned_control,
    check_something_to_beat,
    check_unit_of_sota,
    of_metric,
    out_of_range,
)
from analysis.evidence.registered.against import with_registry
from analysis.evidence.usable import check_results, check_second_lab
from analysis.reading.names import normal
from analysis.reading.result import Result
from analysis.record.sweep import in_planned_order
from analysis.rules.findings import ERROR, WARNING, Code, Finding, Found, Place, graded
from analysis.rules.keys import METRIC_NAME, TARGET
from analysis.sweepdir.layout import DONE, PLAN, is_sweep
from analysis.untrusted.refusal import EvidenceError


def make_case(asked: Asked) -> Case:
    """Make the Case that was asked for; what no verdict can rest on is its `fault`. Raises UsageError, HistoryError."""
    case = _before_reading(asked)
    try:
        if asked.fault is not None:
            raise EvidenceError(asked.fault)
        gathered = _gather(asked)
        if not gathered.runs and (other := _of_another_metric(asked)) is not None:
            return make_case(other)
        case = replace(case, looks=_looks(asked, gathered))
        if not gathered.readable:
            raise EvidenceError(gathered.fault)
        if fault := out_of_range(asked.sota, None, asked.rules.alpha):
            raise EvidenceError(f"The plan cannot be meant: {fault}")
        check_unit_of_sota(asked, gathered.runs)
        found = gathered.told | {"findings": (*gathered.findings, *_own_rules(asked))}
        case = replace(case, runs=gathered.runs, control=gathered.control, **found)
        case = with_attempts(_with_planned_control(asked, case), gathered)
        case = replace(case, plan=_followed(asked, case, gathered.seeds_aside))
        if asked.options.registry is not None:
            case = with_registry(case, asked.options.registry, asked.plan, asked.paths)
        if gathered.fault is not None:
            raise EvidenceError(gathered.fault)
        case = _in_planned_order(case)
        if _is_lost_already(case):
            return case
        if case.rules.has_test or not case.runs:
            check_results(case.runs, case.where, case.fewest_runs, seeds=case.rules.seeds)
        case = with_control(asked, case) if case.rules.has_test else replace(case, sota=None)
        case = with_tests_of_control(asked, case)
        case = with_tests(case)
        case = replace(case, history=_history(asked, case))
        return replace(case, second=_second_lab(asked, case))
    except EvidenceError as error:  # what was read before stays in the Case
        return replace(case, fault=str(error))


def _before_reading(asked: Asked) -> Case:
    return Case(
        rules=asked.rules,
        rules_because=asked.rules_because,
        rules_changed=asked.rules_changed,
        where=asked.where,
        sota=asked.sota,
        control_is_planned=asked.has_planned_control and asked.rules.against != TARGET,
        label=asked.options.metric,
        waived=frozenset(asked.options.waive),
    )


def _of_another_metric(asked: Asked) -> Asked | None:
    """Return what was asked with `--metric` as another metric's name, where no run prints a final line of that label."""
    name = normal(asked.options.metric or "")
    if METRIC_NAME.fullmatch(name) is None or name == asked.rules.metric:
        return None
    return of_metric(asked, name)


def _gather(asked: Asked) -> Gathered:
    """Read the PATHs, and check that the options fit what is there: a wrong option is said before unusable evidence."""
    try:
        control = asked.planned_control or asked.control
        gathered = gather(asked.options.values or asked.paths, asked.rules, asked.options.metric, control=control)
    except EvidenceError as error:
        gathered = Gathered(fault=str(error), readable=False)
    has_control = bool(gathered.control) or (gathered.arms is not None and gathered.arms.may_be_compared)
    check_something_to_beat(asked, has_control=has_control)
    check_design(asked)
    return gathered


def _looks(asked: Asked, gathered: Gathered) -> LookPlan | None:
    if asked.plan is None:
        return asked_looks(asked.options.design, asked.rules)
    return planned_looks(asked.plan, in_step=asked.has_planned_control)


def _with_planned_control(asked: Asked, case: Case) -> Case:
    """Take the record's own folder `control` where its plan has one."""
    if asked.planned_control is None:
        return case
    if asked.options.control is None:
        check_planned_control(asked.paths[0], asked.planned_control)
    return with_brought_control(asked, case, asked.planned_control)


def with_attempts(case: Case, gathered: Gathered) -> Case:
    """Add the attempts that a record names to its runs."""

    def added(run: Result) -> Result:
        found = gathered.attempts.get(Path(os.path.realpath(run.run.log)))
        return replace(run, attempts=tuple(found)) if found else run

    return replace(case, runs=tuple(map(added, case.runs)), control=tuple(map(added, case.control)))


def _followed(asked: Asked, case: Case, seeds_aside: Sequence[int]) -> Planned | None:
    """Compare the runs, their control and the claim with the plan."""
    if asked.plan is None:
        return None
    where = next(path for path in asked.paths if asked.beside is not None or is_sweep(path))
    differs = other_claim(
        asked.plan,
        case.rules,
        sota=case.sota,
        other_control=asked.control is not None,
        has_control=asked.has_planned_control,
    )
    return compare(asked.plan, where, case.runs + case.control, seeds_aside, differs)


def _in_planned_order(case: Case) -> Case:
    """Take the runs of a sequential plan in its order, up to the first gap."""
    if case.looks is None or not case.looks.seeds:
        return case
    runs, control = (in_planned_order(arm, case.looks.seeds) for arm in (case.runs, case.control))
    others = (*runs.left_out, *control.left_out)
    return replace(
        case,
        runs=tuple(runs.kept),
        control=tuple(control.kept),
        left_out=case.left_out + others,
        not_counted=case.not_counted + tuple(one.result.log for one in others if one.result.state in DONE),
    )


def _is_lost_already(case: Case) -> bool:
    """Return whether a run failed that one test needs: it counts as a loss, whatever becomes of those without a result."""
    waiting = any(run.state not in DONE for run in case.runs + case.control)
    return waiting and case.looks is None and case.rules.has_test and bool(case.failed)


def _history(asked: Asked, case: Case) -> History | None:
    """Return the earlier records, without the one that is judged. Raises HistoryError, EvidenceError."""
    if asked.history is None or len(case.runs) < 2 or not all(run.succeeded for run in case.runs):
        return None
    others = asked.history.without(sample_of(case.rules, case.runs))
    counts = case.source is Source.CONTROL and len(case.control) > 1 and all(run.succeeded for run in case.control)
    return others.without(sample_of(case.rules, case.control)) if counts else others


def _second_lab(asked: Asked, case: Case) -> Case | None:
    """Read the runs of --verify as a Case of their own. Raises EvidenceError."""
    where = asked.options.verify
    if where is None:
        return None
    try:
        other = gather([where], asked.rules, asked.options.metric, of_control=True)
        runs = tuple(replace(row, log=below(where, row.log)) for row in other.runs)
        check_second_lab(other.fault, runs, where, case.runs)
    except EvidenceError as error:
        raise EvidenceError(f"--verify {where}: {error}") from None
    return Case(
        rules=case.unpaired().rules,
        where=str(where),
        runs=runs,
        control=case.control,
        sota=case.sota,
        left_out=other.left_out,
        findings=_of_second_lab(other.findings, where),
    )


def _own_rules(asked: Asked) -> list[Finding]:
    """Find a sweep that brings its own rules: it passes only where the reviewer names them, and they cannot turn that off."""
    if asked.sweep is None or asked.options.rules is not None or asked.options.own_sweep:
        return []
    changed = own_rules(asked.sweep, asked.options.of_the_rules)
    if changed is None:
        return []
    found = Found(
        code=Code.RULES_CHANGED,
        at=Place(PLAN),
        found=changed,
        expected="a shipped ruleset or the reviewer's own",
    )
    return graded([found], {})


def _of_second_lab(findings: Sequence[Finding], where: Path) -> tuple[Finding, ...]:
    """Return what does not fit in the verifier's runs: never an error of the author's. One run is enough to verify."""
    return tuple(
        replace(found, file=below(where, found.file), severity=WARNING if found.severity is ERROR else found.severity)
        for found in findings
        if found.code is not Code.TOO_FEW_SEEDS
    )
