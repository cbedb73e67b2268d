"""Sensitivity: the same runs tested in other ways, each with what it assumes, and what rerunning the SOTA would change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.evidence.case import Case, Source
from analysis.rules.keys import COMPARISON
from analysis.stats import fixed, sequential
from analysis.stats.fixed import Test
from analysis.verdict.answer import Answer
from analysis.verdict.numbers import percent_of
from analysis.verdict.tested import rules_test, shown
from analysis.verdict.verdict import Reading, ReadingKind

TWO_SAMPLE = (
    (ReadingKind.WELCH, "Welch", "the control's noise counts; spreads may differ", fixed.welch_t, ("welch",)),
    (ReadingKind.POOLED, "pooled", "the control's noise counts; spreads are equal", fixed.pooled_t, ("pooled",)),
)


def readings(case: Case) -> Iterator[Reading]:
    """Yield every other reading that these runs allow. Raises EvidenceError where the verdict itself would."""
    rules, other = case.rules, case.in_other_unit()
    if other is not None:
        tested = rules_test(other)
        yield Reading.of(
            other,
            ReadingKind.OTHER_UNIT,
            reading=f"margin of {rules.margin:g} {other.rules.unit}",
            assumes=if_meant(other.rules.unit),
            verdict=Answer.of(passed=tested.passed),
            test=shown(other, tested.test),
        )
    if not case.compared.sample.sd > 0 or rules.test == COMPARISON:
        return
    if case.control and all(run.succeeded for run in case.control):
        yield from _against_control(case)
    elif not rules.is_t_test:
        test = fixed.one_sample_t(case.compared.sample, case.compared.threshold, rules.alpha)
        assumes = "the spread is not known but estimated from these runs"
        yield _at_alpha(case, ReadingKind.SPREAD_ESTIMATED, "one-sample t", assumes, test)
    control = case.compared.control
    if case.history is not None and (control is None or control.n > 1):
        yield _with_history(case)
    if rules.is_t_test and not (control is not None and control.sd == 0):
        yield open_ended(case)


def if_meant(unit: str) -> str:
    """Return what a margin read in the other unit assumes."""
    return f"the leaderboard meant {unit}; converted by the runs' own val_bpb / val_loss"


def open_ended(case: Case) -> Reading:
    """Return the e-value: what the runs are worth when nothing fixed how many there would be."""
    compared, alpha = case.compared, case.rules.alpha
    sample, control = compared.sample, compared.control
    if control is None:
        t, information = fixed.one_sample_t(sample, compared.threshold, alpha), float(sample.n)
    elif compared.differences is not None:
        t, information = fixed.paired_t(sample, compared.differences, compared.margin, alpha), float(sample.n)
    else:
        t, information = fixed.pooled_t(sample, control, compared.margin, alpha), 1 / (1 / sample.n + 1 / control.n)
    assert t.df is not None, "a t-test has degrees of freedom"
    e = float(sequential.e_value(-t.statistic, t.df, information))
    alike = "" if control is None or compared.differences is not None else "; candidate and control scatter alike"
    return Reading.of(
        case,
        ReadingKind.OPEN_ENDED,
        reading="open-ended e-value",
        assumes=f"holds however many seeds were run and whenever one looked{alike}; passes at 1 / alpha",
        verdict=Answer.of(passed=e >= 1 / alpha),
        test=Test(name="e-value", statistic=e, df=t.df, p_value=min(1.0, 1 / e) if e > 0 else 1.0),
    )


def rerun_at_least(case: Case) -> float | None:
    """Return the lowest mean of a rerun SOTA, with as many runs of the same spread, that would leave the claim supported."""
    sample = case.compared.sample
    if case.compared.control is not None or not case.rules.is_t_test or sample.sd == 0:
        return None
    test = fixed.against_control(sample, replace(sample, mean=0.0), 0.0, case.rules.alpha)
    assert test.bound is not None, "a t-test has a bound"
    return case.compared.shown(test.bound + case.compared.margin)


def _at_alpha(case: Case, kind: ReadingKind, name: str, assumes: str, test: Test) -> Reading:
    passed = test.p_value < case.rules.alpha
    return Reading.of(
        case, kind, reading=name, assumes=assumes, verdict=Answer.of(passed=passed), test=shown(case, test)
    )


def _with_history(case: Case) -> Reading:
    """Return the t-test whose spread is shared with earlier records."""
    assert case.history is not None, "readings() asks only with a history"
    usual, compared = case.history.prior, case.compared
    of_both = "the spread" if compared.control is None else "candidate and control have one spread, and it"
    assumes = (
        f"{of_both} is like that of {len(case.history.records)} earlier records, sd {usual.sd:.6f}, "
        f"which count as {usual.df:.1f} degrees of freedom; records that passed have small spreads by selection"
    )
    test = fixed.moderated_t(
        compared.sample, compared.threshold, usual.sd, usual.df, case.rules.alpha, compared.control
    )
    return _at_alpha(case, ReadingKind.HISTORY, "history-assisted t", assumes, test)


def _against_control(case: Case) -> Iterator[Reading]:
    """Yield the control's mean taken as exact, where the verdict counts its noise, and both two-sample tests in both units."""
    if case.source is Source.CONTROL and case.control_step is None:  # a number has no steps to save
        alone = case.against_number(case.number_to_beat)
        test = fixed.one_sample_t(alone.compared.sample, alone.compared.threshold, case.rules.alpha)
        name, assumes = "one-sample t against the control's mean", "the control's mean is an exact number"
        yield _at_alpha(alone, ReadingKind.CONTROL_AS_NUMBER, name, assumes, test)
    for one in (case, case.in_other_unit()):
        if one is None:
            continue
        against = one.against_control()
        compared, rules = against.compared, against.rules
        if compared.control is None or not compared.control.sd > 0:
            return
        for kind, name, assumes, function, which in TWO_SAMPLE:
            level = fixed.worst_level(compared.sample.n, compared.control.n, rules.alpha, which)
            assumes += f"; where they differ, its level is up to {percent_of(level)}"
            test = function(compared.sample, compared.control, compared.margin, rules.alpha)
            said = f"{name} against {compared.control.n} control runs, margin of {rules.margin:g} {rules.unit}"
            yield _at_alpha(against, kind, said, assumes, test)
