"""Compare a claimed t and p with the tests. They depend on what must be beaten, so the Case must be complete first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from scipy.special import stdtr

from analysis.checks.claim import check_statements
from analysis.evidence.case import Case
from analysis.record.fit import within_a_unit
from analysis.record.stated.said import Holds, Kind, Statement
from analysis.rules.findings import graded
from analysis.stats import fixed
from analysis.stats.fixed import Sample, StatisticsError, Test
from analysis.untrusted.refusal import EvidenceError

APART = 1.5  # a claimed p and the p of the claimed t, which are printed with few digits
ROUNDED = (3, 4, 5, 6)  # decimals that people round values to before they test them


def with_tests(case: Case) -> Case:
    """Return the Case with its claimed t and p compared with the tests that its runs allow, one- and two-sided."""
    if not any(one.claim.kind in (Kind.T, Kind.P) for one in case.claims):
        return case
    try:
        tests = list(_tests(case))
    except EvidenceError:
        return case
    for criterion in case.rules.criteria:
        with suppress(EvidenceError):  # such as a time without the prior record's runs
            tests += _tests(case.asking(criterion))
    if not tests:
        return case
    claims = tuple(_compared(one, tests, case) if one.claim.kind in (Kind.T, Kind.P) else one for one in case.claims)
    tested = [one for one in claims if one.claim.kind in (Kind.T, Kind.P)]
    found = graded(check_statements(tested, (), case.rules), case.rules.findings)
    return replace(case, claims=claims, findings=(*case.findings, *found))


def _tests(case: Case) -> Iterator[Test]:
    """Yield the tests that a claim may mean: the rules' own first, then tests without the margin and on rounded values."""
    compared, rules = case.compared, case.rules
    values = [rules.sign * value for run in case.runs if (value := run.value(rules.metric)) is not None]
    samples = [compared.sample]
    for digits in ROUNDED:
        try:
            samples.append(Sample.of([round(value, digits) for value in values]))
        except StatisticsError:
            continue
    for sample in samples:
        for margin in dict.fromkeys((compared.margin, 0.0)):
            threshold = compared.threshold + compared.margin - margin
            if rules.sigma is not None and not rules.is_t_test:
                yield fixed.known_sigma_z(sample, threshold, rules.sigma, rules.alpha, compared.control)
            if compared.differences is not None:
                yield fixed.paired_t(sample, compared.differences, margin, rules.alpha)
            if compared.control is not None:
                yield fixed.welch_t(sample, compared.control, margin, rules.alpha)
                yield fixed.pooled_t(sample, compared.control, margin, rules.alpha)
            if sample.sd > 0:
                yield fixed.one_sample_t(sample, threshold, rules.alpha)


def _compared(one: Statement, tests: list[Test], case: Case) -> Statement:
    """Compare a claimed t or p. One that is in no test may be against another number to beat: then it is unknown.

    A t and a p of one claim contradict each other whatever they are against.
    """
    claim, own = one.claim, tests[0]
    if claim.value is None:
        return one
    if claim.kind is Kind.T:
        fits = any(within_a_unit(abs(claim.value), abs(test.statistic)) for test in tests)
        evidence = f"{own.statistic:.4f} ({own.name} against {case.compared.threshold:.8f})"
    else:
        sides = [p for test in tests for p in (test.p_value, 2 * min(test.p_value, 1 - test.p_value))]
        fits = any(p < float(claim.value) if claim.most else within_a_unit(claim.value, p) for p in sides)
        evidence = f"{own.p_value:.6g} ({own.name} against {case.compared.threshold:.8f})"
    first = case.runs[0]
    told = replace(one, evidence=evidence, log=first.log, log_line=first.line or 1)
    return replace(told, holds=Holds.YES) if fits else _against_each_other(told, case)


def _against_each_other(one: Statement, case: Case) -> Statement:
    """Return that a claimed t and p contradict each other, where they do."""
    claim, df = one.claim, len(case.runs) - 1
    pair = {
        other.claim.kind: float(other.claim.value)
        for other in case.claims
        if other.claim.of_json == claim.of_json and (claim.of_json or other.claim.at == claim.at)
        if other.claim.kind in (Kind.T, Kind.P) and other.claim.value is not None and not other.claim.most
    }
    if len(pair) < 2 or case.control or df < 1:
        return one
    p = float(stdtr(df, -abs(pair[Kind.T])))
    share = min(
        (pair[Kind.P] / side for side in (p, 2 * p) if side > 0), key=lambda one: abs(math.log(one)), default=None
    )
    if share is None or 1 / APART < share < APART:
        return one
    evidence = f"t and p of one test: with {df} degrees of freedom t = {pair[Kind.T]:g} has a one-sided p of {p:.3g}"
    return replace(one, holds=Holds.NO, evidence=evidence, log=None, log_line=None, share=share, sure=True)
