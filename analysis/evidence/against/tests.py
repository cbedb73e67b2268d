"""Which tests a control asks for: one of pairs where they were planned, and one beside that of a given SOTA."""

from __future__ import annotations

from dataclasses import replace

from analysis.evidence.case import Case, Source
from analysis.evidence.options import Asked
from analysis.rules.keys import BOTH, PAIRED, STANDING, T_TEST, TARGET
from analysis.rules.ruleset import OF_A_TEST, Criterion


def with_tests_of_control(asked: Asked, case: Case) -> Case:
    """Return the Case with the tests that its control and its SOTA ask for.

    - Of pairs, where the plan has paired the arms: nobody can choose it when the results are known.
    - Where a SOTA is given and a control is asked for, both must be beaten: who may choose one of them afterwards
      passes too often. A control that only a folder's name proposes is a reading.

    A planned control is asked for before any of its runs is there: a look waits for them.
    """
    rules, planned = case.rules, asked.has_planned_control
    awaited = planned and not case.control and rules.may_look and case.looks is not None
    if not (case.control or awaited) or rules.against == TARGET:
        return case
    paired = planned and asked.plan is not None and asked.plan.design.paired and rules.may_look
    test = PAIRED if paired else BOTH if rules.test == T_TEST else rules.test
    if case.source is Source.GIVEN:
        return _also(case, "control", test, STANDING) if planned or asked.control is not None else case
    case = replace(case, rules=replace(rules, test=test)) if paired or awaited else case
    return case if case.sota is None else _also(case, "SOTA", T_TEST, None)


def _also(case: Case, name: str, test: str, against: str | None) -> Case:
    """Return the Case with the rules' own test asked once more, against the other of SOTA and control."""
    own = {key: getattr(case.rules, key) for key in OF_A_TEST} | {"test": test, "against": against}
    return replace(case, rules=replace(case.rules, criteria=(*case.rules.criteria, Criterion(name=name, **own))))
