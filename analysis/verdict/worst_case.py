"""The worst case: each remade attempt counts with the last value that it had, or as a loss.

So nobody gains by ending a run whose value is bad and running the seed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.evidence.case import Case
from analysis.reading.result import Result, Tried, remade, was_early
from analysis.rules.findings import ERROR, Code
from analysis.rules.metrics import VAL_BPB, VAL_LOSS
from analysis.stats.fixed import Test
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.criteria import holds
from analysis.verdict.tested import rules_test
from analysis.verdict.verdict import NOT_SUPPORTED, SUPPORTED, Answer, Reading, ReadingKind, Verdict


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
    if None not in runs and None not in control:
        worst = replace(case, runs=tuple(filter(None, runs)), control=tuple(filter(None, control)), looks=None)
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


def _tested(worst: Case, verdict: Verdict) -> tuple[Answer, Test | None]:
    try:
        tested, passed = rules_test(worst), holds(worst)
    except EvidenceError:  # values that no test takes
        return NOT_SUPPORTED, None
    look = verdict.sequential
    if look is not None and look.nominal_p is not None and tested.test is not None:
        passed = tested.test.p_value < look.nominal_p
    return Answer.of(passed=passed), tested.test


def _late(run: Result) -> Sequence[Tried]:
    """Return the remade attempts that lasted long enough to count."""
    return [one for one in remade(run.attempts) if not was_early(one, run.attempts)]


def _worst(run: Result, metric: str, worse: Callable[[list[float]], float]) -> Result | None:
    """Return a run with the worst of its values; None where an attempt has none, so that it counts as a loss."""
    own, lasts = run.value(metric), [one.last for one in _late(run)]
    if not lasts or own is None or run.metric is None:
        return run
    if None in lasts:
        return None
    factor = worse([own, *(one for one in lasts if one is not None)]) / own if own else 1.0
    loss, bpb = run.metric.val_loss, run.metric.val_bpb
    others = {**run.metric.others, **({} if metric in (VAL_LOSS, VAL_BPB) else {metric: own * factor})}
    scaled = replace(run.metric, val_loss=loss and loss * factor, val_bpb=bpb and bpb * factor, others=others)
    return replace(run, metric=scaled)
