"""The fixed verdict: all runs are there, and are tested once."""

from __future__ import annotations

import math
from contextlib import suppress

from analysis.evidence.case import Case
from analysis.evidence.compared import metric_per_unit, values_of
from analysis.rules.findings import errors
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.again.readings import readings, rerun_at_least
from analysis.verdict.answer import DOES_NOT_FIT, FITS, NOT_SUPPORTED, Answer
from analysis.verdict.numbers import in_short
from analysis.verdict.tested import numbers, reason, rules_test
from analysis.verdict.verdict import Verdict


def decide_fixed(case: Case) -> Verdict:
    """Decide a Case whose runs are tested once. A planned run that failed counts as a loss.

    Against the control's runs their noise counts: the test is the two-sample form of the ruleset's. Raises
    EvidenceError where no test can be made.
    """
    if case.failed:
        return _lost(case)
    tested = rules_test(case)
    return Verdict.on(
        case,
        Answer.of(passed=tested.passed),
        reason(case, tested),
        also=tuple(readings(case)),
        rerun_at_least=rerun_at_least(case),
        **numbers(case, tested.test),
    )


def decide_untested(case: Case) -> Verdict:
    """Say whether the evidence fits a claim that rules without a test ask nothing else of."""
    values = values_of(case.rules, case.runs)
    mean, wrong = math.fsum(values) / len(values), errors(case.findings)
    what = f"the mean of {len(values)} runs" if len(values) > 1 else f"the value of {case.runs[0].log}"
    said = f"The claimed {case.rules.metric} is {what}, {in_short(case.rules.metric, mean)[0]}, and nothing in the evidence contradicts it."
    if wrong:
        said = f"{wrong} error-level finding{'s contradict' if wrong > 1 else ' contradicts'} the claim."
    said += f" {case.rules.name} makes no test."
    return Verdict.on(case, DOES_NOT_FIT if wrong else FITS, said, n=len(values), mean=mean)


def _lost(case: Case) -> Verdict:
    standing, lost = None, case.failed
    # a control's run may have failed, or have no result yet: the claim is lost without it
    with suppress(EvidenceError):
        standing = case.number_to_beat
    succeeded = [run for run in case.runs if run.succeeded]
    factor = metric_per_unit(case.rules, succeeded, case.rules.unit)
    said = (
        f"{len(lost)} of {len(case.planned)} planned runs failed (first: seed {lost[0].seed}, {lost[0].log}); "
        f"a failed run counts as a loss."
    )
    threshold = None if factor is None or standing is None else standing - case.rules.sign * case.rules.margin * factor
    return Verdict.on(case, NOT_SUPPORTED, said, sota=standing, threshold=threshold, n=len(case.runs))
