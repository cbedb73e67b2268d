"""The worst case: each remade attempt counts with the last value that it had, or as a loss.

So nobody gains by ending a run whose value is bad and running the seed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.evidence.case import Case
from analysis.reading.result import Result, Tried, remade, was_early
from analysis.record.metrics import OF_THE_RUN
from analysis.rules.findings import ERROR, Code
from analysis.rules.metrics import VAL_BPB, VAL_LOSS
from analysis.stats.fixed import Test
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.answer import NOT_SUPPORTED, SUPPORTED, Answer
from analysis.verdict.criteria import holds
from analysis.verdict.taken import at_its_look, at_level_of, decides_when_to_stop
from analysis.verdict.tested import rules_test
from analysis.verdict.verdict import Reading, ReadingKind, Verdict


def with_worst_case(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with the reading of the worst case. Where the claim does not pass in it, `attempts-remade` is an error."""
    taken = verdict.sequential.taken if verdict.sequential is not None else 0
    counted = case.at_look(taken) if taken else case
    if not verdict.is_decided or not any(map(_late, (*counted.runs, *counted.control))):
        return verdict
    reading = _worst_case(counted, verdict)
    read = replace(verdict, also=(reading, *verdict.also))
    if verdict.verdict is not SUPPORTED or reading.verdict is SUPPORTED:
        return read
    findings = (replace(one, severity=ERROR) if one.code is Code.ATTEMPTS_REMADE else one for one in verdict.findings)
    return replace(read, findings=tuple(findings))


def _worst_case(case: Case, verdict: Verdict) -> Reading:
    """Return the test of the worst values of each run: the highest of the candidate's, the lowest of the control's."""
    worse, better = (max, min) if case.rules.sign > 0 else (min, max)
    runs = [_worst(run, case.rules.metric, worse) for run in case.runs]
    control = [_worst(run, case.rules.metric, better) for run in case.control]
    answer, test = NOT_SUPPORTED, None
    if None not in runs and None not in control and not _asks_for_more(case):
        worst = replace(case, runs=tuple(filter(None, runs)), control=tuple(filter(None, control)))
        answer, test = _tested(worst, verdict)
    many = sum(len(_late(run)) for run in (*case.runs, *case.control))
    return Reading.of(
        case,
        ReadingKind.WORST_CASE,
        reading=f"worst case of {many} remade attempt{'s' if many > 1 else ''}",
        assumes="each remade attempt would have ended with its last value; without a value it is a loss",
        verdict=answer,
        test=test,
    )


def _asks_for_more(case: Case) -> bool:
    """Return whether a further criterion compares a metric whose last value no attempt has, such as its time."""
    return any(one.metric != case.rules.metric and case.asking(one).may_be_compared for one in case.further)


def _tested(worst: Case, verdict: Verdict) -> tuple[Answer, Test | None]:
    look = verdict.sequential
    try:
        if look is None or look.nominal_p is None:
            fixed = replace(worst, looks=None)
            return Answer.of(passed=holds(fixed)), rules_test(fixed).test
        tested = rules_test(at_level_of(worst, look.taken))
        others = [
            rules_test(at_its_look(worst, one, look.taken)).passed
            for one in worst.further
            if decides_when_to_stop(worst, one)
        ]
    except EvidenceError:  # values that no test takes
        return NOT_SUPPORTED, None
    return Answer.of(passed=tested.passed and all(others)), tested.test


def _late(run: Result) -> Sequence[Tried]:
    """Return the remade attempts that lasted long enough to count."""
    return [one for one in remade(run.attempts) if not was_early(one, run.attempts)]


def _worst(run: Result, metric: str, worse: Callable[[list[float]], float]) -> Result | None:
    """Return a run with the worst of its values; None where an attempt has none, so that it counts as a loss."""
    own, lasts = run.value(metric), [one.last for one in _late(run)]
    if not lasts or own is None or run.metric is None:
        return run
    if None in lasts or metric in OF_THE_RUN:  # what ended early has no time and no last step
        return None
    worst = worse([own, *(one for one in lasts if one is not None)])
    if metric not in (VAL_LOSS, VAL_BPB):
        return replace(run, metric=replace(run.metric, others={**run.metric.others, metric: worst}))
    factor, loss, bpb = worst / own if own else 1.0, run.metric.val_loss, run.metric.val_bpb
    return replace(run, metric=replace(run.metric, val_loss=loss and loss * factor, val_bpb=bpb and bpb * factor))
