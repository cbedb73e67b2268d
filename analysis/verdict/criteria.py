"""What must hold besides the ruleset's first test: a faster time, a loss that is not worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.evidence.case import Case
from analysis.rules.findings import ERROR, Code, Found, Place, graded
from analysis.rules.ruleset import Criterion
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, UNUSABLE, Answer
from analysis.verdict.taken import at_its_look, decides_when_to_stop
from analysis.verdict.tested import numbers, reason, rules_test
from analysis.verdict.verdict import OfCriterion, Verdict


def first_counts(case: Case) -> bool:
    """Return whether the ruleset's first test is asked, and not waived."""
    return case.rules.metric not in case.waived


def holds(case: Case) -> bool:
    """Return whether the first test and every further criterion that has something to beat pass. Raises EvidenceError."""
    if first_counts(case) and not rules_test(case).passed:
        return False
    answers = [_answered(case.asking(one), one) for one in case.further]
    return _overall(case, [], answers) is SUPPORTED


def with_criteria(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with every further criterion: all must hold.

    One that has nothing to beat is a finding and leaves the others' answer, unless it replaces a waived one. One that the
    runs give no number for leaves the verdict open or, if only a folder's name proposes what to beat, is an error. Before
    the first look none is asked. Raises EvidenceError.
    """
    if case.looks is not None and not first_counts(case):
        raise EvidenceError(f"The looks of a sequential design are at {case.rules.metric}, so it cannot be waived.")
    tested = verdict.sequential.taken if verdict.sequential is not None else 0
    counted = case.at_look(tested) if tested else case
    if not case.rules.criteria or counted.failed or (case.looks is not None and not tested):
        return verdict
    answers = [_answered(at_its_look(case, one, tested), one) for one in case.further]
    if verdict.verdict is CONTINUE:
        answers = [_not_yet(case, one) for one in answers]
    return replace(
        verdict,
        verdict=_overall(counted, [verdict.verdict] if first_counts(case) else [], answers),
        reason=_reasons(case, verdict, answers),
        criteria=tuple(answers),
        waived=tuple(sorted(case.waived)),
        findings=(*verdict.findings, *graded(_not_tested(counted, answers), case.rules.findings)),
    )


def _answered(own: Case, criterion: Criterion) -> OfCriterion:
    """Return the answer to one criterion of a Case that asks it alone."""
    about = OfCriterion(
        name=criterion.name,
        metric=criterion.metric,
        direction=criterion.direction,
        verdict=UNUSABLE,
        reason="",
        alpha=own.rules.alpha,
        margin=criterion.margin,
        unit=criterion.unit,
        waives=criterion.waives,
    )
    try:
        tested = rules_test(own)
        known = numbers(own, tested.test)
        said = reason(own, tested)
    except EvidenceError as error:
        return replace(about, reason=str(error))
    kept = {name: known[name] for name in ("sota", "threshold", "n", "mean", "value", "sd", "upper_bound", "test")}
    return replace(about, verdict=Answer.of(passed=tested.passed), reason=said, **kept)


def _overall(case: Case, first: Sequence[Answer], answers: Sequence[OfCriterion]) -> Answer:
    if CONTINUE in first:  # the criteria are asked when the looks are over
        return CONTINUE
    every = [*first, *(one.verdict for one in answers)]
    if NOT_SUPPORTED in every:
        return NOT_SUPPORTED
    something = {one.name for one in case.further if one.waives is not None or _is_told_to_compare(case, one)}
    return UNUSABLE if any(one.name in something for one in _open(answers)) else SUPPORTED


def _is_told_to_compare(case: Case, criterion: Criterion) -> bool:
    """Return whether the rules or the reviewer say what to beat, and not the names of the record's folders."""
    return case.asking(criterion).may_be_compared and not _is_proposed(case)


def _is_proposed(case: Case) -> bool:
    return case.arms is not None and case.arms.control is not None


def _not_yet(case: Case, one: OfCriterion) -> OfCriterion:
    """Return an answer that a later look may still change as open."""
    looks = any(asked.name == one.name and decides_when_to_stop(case, asked) for asked in case.further)
    return replace(one, verdict=CONTINUE) if looks and one.verdict is NOT_SUPPORTED else one


def _reasons(case: Case, verdict: Verdict, answers: Sequence[OfCriterion]) -> str:
    """Return every test's reason: what fails comes first, and what to run next comes last."""
    crossed = verdict.sequential is not None and verdict.test is not None and verdict.test.p_value < verdict.alpha
    own = None if crossed or not first_counts(case) else verdict.verdict  # that of looks is of all tests
    first = (own, _first_reason(case, verdict, answers))
    others = [(one.verdict, _said(one)) for one in answers]
    every = [*others, first] if verdict.verdict is CONTINUE else [first, *others]
    return " ".join(reason for _, reason in sorted(every, key=lambda one: one[0] is not NOT_SUPPORTED))


def _first_reason(case: Case, verdict: Verdict, answers: Sequence[OfCriterion]) -> str:
    if first_counts(case):
        same = any(one.metric == case.rules.metric for one in answers)
        return f"{case.source.rival}: {verdict.reason}" if same else verdict.reason
    return f"{case.rules.metric} is waived: the reviewer says that the change only makes the same training faster."


def _said(one: OfCriterion) -> str:
    return f"{one.name}{' is not tested' if one.verdict is UNUSABLE else ''}: {one.reason}"


def _open(answers: Sequence[OfCriterion]) -> list[OfCriterion]:
    return [one for one in answers if one.verdict is UNUSABLE]


def _not_tested(case: Case, answers: Sequence[OfCriterion]) -> Iterator[Found]:
    for one in _open(answers):
        yield Found(
            code=Code.CRITERION_NOT_TESTED,
            at=Place("."),
            found=f"no test of {one.name} ({one.metric})",
            expected="one of every criterion of the rules",
            do=one.reason,
            severity=ERROR if _is_proposed(case) else None,
        )
