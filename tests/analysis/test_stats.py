"""Every statistic against numbers of another implementation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.stats import fixed
from analysis.stats.fixed import (
    Sample,
    StatisticsError,
    against_control,
    critical_t,
    known_sigma_level,
    known_sigma_z,
    moderated_t,
    one_sample_t,
    pooled_t,
    power_against,
    prediction_interval,
    same_mean,
    scaled_gain,
    welch_t,
    worst_level,
)

RECORD = (1.20143417, 1.19945102, 1.20319508)
CONTROL = (1.20576485, 1.20617460, 1.20715923)
values = st.lists(st.floats(0.5, 5, allow_nan=False), min_size=2, max_size=20)
samples = st.builds(Sample, st.integers(2, 20), st.floats(1, 2), st.floats(1e-3, 0.5))


def spread_out(numbers: list[float]) -> bool:
    return float(max(numbers)) - min(numbers) > 1e-6


def test_one_sample_t_of_the_source_record() -> None:
    sample = Sample.of(RECORD)
    test = one_sample_t(sample, 1.21113611, 0.01)
    assert sample.sd == pytest.approx(0.0018731289880037877, rel=1e-12)
    assert test.statistic == pytest.approx(-9.039720939803, rel=1e-12)
    assert test.df == 2
    assert test.p_value == pytest.approx(0.006008638100610, rel=1e-11)
    assert test.bound == pytest.approx(1.2088919205043798, rel=1e-12)


def test_three_seeds_have_a_closed_form() -> None:
    test = one_sample_t(Sample.of(RECORD), 1.21113611, 0.01)
    t = test.statistic
    assert test.p_value == pytest.approx((1 + t / math.sqrt(t * t + 2)) / 2, rel=1e-10)


def bound_of(test: fixed.Test) -> float:
    assert test.bound is not None
    return test.bound


@given(values, st.floats(0.5, 5))
def test_one_sample_t_equals_scipy(numbers: list[float], threshold: float) -> None:
    assume(spread_out(numbers))
    expected = scipy.stats.ttest_1samp(numbers, threshold, alternative="less")
    test = one_sample_t(Sample.of(numbers), threshold, 0.01)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(values, values, st.floats(0, 1))
def test_two_sample_tests_equal_scipy(numbers: list[float], others: list[float], margin: float) -> None:
    assume(spread_out(numbers) and spread_out(others))
    for function, equal in ((welch_t, False), (pooled_t, True)):
        shifted = [value - margin for value in others]
        expected = scipy.stats.ttest_ind(numbers, shifted, equal_var=equal, alternative="less")
        test = function(Sample.of(numbers), Sample.of(others), margin, 0.01)
        assert test.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
        assert test.df == pytest.approx(expected.df, rel=1e-6)
        assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(values, st.floats(0.5, 5), st.floats(0.001, 0.2))
def test_the_bound_lies_below_the_threshold_exactly_when_p_is_below_alpha(
    numbers: list[float], threshold: float, alpha: float
) -> None:
    assume(spread_out(numbers))
    sample = Sample.of(numbers)
    test = one_sample_t(sample, threshold, alpha)
    assume(abs(test.p_value - alpha) > 1e-9)
    assert (bound_of(test) < threshold) == (test.p_value < alpha)


def test_not_worse_by_d_is_the_two_sample_test_against_a_control_that_is_d_worse() -> None:
    mine, before = Sample(10, 3.2790, 0.0013), Sample(10, 3.2787, 0.0013)
    for n0 in (10, 3):
        other = replace(before, n=n0)
        for test, pooled in ((welch_t, False), (pooled_t, True)):
            found = test(mine, other, -0.002, 0.01)
            expected = scipy.stats.ttest_ind_from_stats(
                3.2790, 0.0013, 10, 3.2787 + 0.002, 0.0013, n0, equal_var=pooled, alternative="less"
            )
            assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    welch, known = welch_t(mine, before, -0.002, 0.01), known_sigma_z(mine, 3.2807, 0.0013, 0.001, before)
    assert (welch.statistic, welch.p_value) == (pytest.approx(-2.9241, abs=1e-4), pytest.approx(0.00453, abs=1e-5))
    error = 0.0013 * math.sqrt(1 / 10 + 1 / 10)
    assert known.p_value == pytest.approx(scipy.stats.norm.cdf((3.2790 - 3.2787 - 0.002) / error), rel=1e-9)


def test_welch_of_the_source_record_against_its_rerun_control() -> None:
    assert welch_t(Sample.of(RECORD), Sample.of(CONTROL), 0.005, 0.01).p_value == pytest.approx(0.498, abs=5e-4)


@pytest.mark.parametrize(
    ("numbers", "word"),
    [((1.2,), "at least two"), ((1.2, math.nan), "finite"), ((1.2, math.inf), "finite"), ((1.2,) * 3, "no spread")],
)
def test_values_that_cannot_be_tested_are_refused(numbers: tuple[float, ...], word: str) -> None:
    with pytest.raises(StatisticsError, match=word):
        Sample.of(numbers)


@given(st.integers(2, 50), st.floats(3.2, 3.3), st.floats(1e-4, 0.1), st.floats(1e-4, 0.4))
def test_known_sigma_is_a_normal_tail_and_agrees_with_its_bound(
    n: int, mean: float, sigma: float, alpha: float
) -> None:
    sample = Sample(n, mean, 1.0)
    test = known_sigma_z(sample, 3.28, sigma, alpha)
    assert test.p_value == pytest.approx(scipy.stats.norm.cdf(mean, 3.28, sigma / math.sqrt(n)), rel=1e-6, abs=1e-300)
    bound = bound_of(test)
    assert bound == pytest.approx(scipy.stats.norm.ppf(1 - alpha, mean, sigma / math.sqrt(n)), rel=1e-12)
    if abs(bound - 3.28) > 1e-9:
        assert (bound < 3.28) == (test.p_value < alpha)


def test_known_sigma_worked() -> None:
    test = known_sigma_z(Sample(10, 3.2785, 0.001), 3.28, 0.0013, 0.01)
    assert test.statistic == pytest.approx(3.648782, abs=1e-6)
    assert test.p_value == pytest.approx(0.00013174, rel=1e-4)


@given(st.floats(1, 200), st.floats(1e-4, 0.5))
def test_critical_t_equals_scipy(df: float, alpha: float) -> None:
    assert critical_t(df, alpha) == pytest.approx(scipy.stats.t.ppf(1 - alpha, df), rel=1e-8, abs=1e-9)


def test_the_gain_that_few_seeds_need() -> None:
    needed = [critical_t(n - 1, 0.01) / math.sqrt(n) for n in (3, 4, 5, 6, 8, 10)]
    assert needed == pytest.approx([4.021, 2.270, 1.676, 1.374, 1.060, 0.892], abs=5e-4)


@given(values, st.floats(0.5, 5), st.floats(1e-3, 1), st.floats(0, 100))
def test_a_history_is_averaged_in_by_its_degrees_of_freedom(
    numbers: list[float], threshold: float, sd: float, df: float
) -> None:
    assume(spread_out(numbers))
    n, sample = len(numbers), Sample.of(numbers)
    test = moderated_t(sample, threshold, sd, df, 0.01)
    variance = np.average([sd**2, np.var(numbers, ddof=1)], weights=[df, n - 1])
    expected = (np.mean(numbers) - threshold) / math.sqrt(variance / n)
    assert test.statistic == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert test.df == df + n - 1
    assert test.p_value == pytest.approx(scipy.stats.t.cdf(expected, df + n - 1), rel=1e-5, abs=1e-12)


@given(values, values, st.floats(0.5, 5), st.floats(1e-3, 1), st.floats(0, 100))
def test_with_a_control_the_history_is_averaged_with_both(
    numbers: list[float], others: list[float], threshold: float, sd: float, df: float
) -> None:
    assume(spread_out(numbers) and spread_out(others))
    n, n0 = len(numbers), len(others)
    test = moderated_t(Sample.of(numbers), threshold, sd, df, 0.01, Sample.of(others))
    variances = [sd**2, np.var(numbers, ddof=1), np.var(others, ddof=1)]
    variance = np.average(variances, weights=[df, n - 1, n0 - 1])
    expected = (np.mean(numbers) - threshold) / math.sqrt(variance * (1 / n + 1 / n0))
    assert test.df == pytest.approx(df + n + n0 - 2, rel=1e-12)
    assert test.statistic == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert test.p_value == pytest.approx(scipy.stats.t.cdf(expected, df + n + n0 - 2), rel=1e-5, abs=1e-12)


def test_a_history_with_a_control_worked() -> None:
    mine, control = Sample.of(RECORD), Sample.of(CONTROL)
    found = moderated_t(mine, control.mean - 0.005, 0.00073, 8, 0.01, control)
    assert (found.statistic, found.df, found.p_value) == (
        pytest.approx(-0.0074213, abs=1e-7), 12, pytest.approx(0.4971003, abs=1e-7),
    )  # fmt: skip
    without = moderated_t(mine, control.mean - 0.005, 0.00073, 0, 0.01, control)
    assert without.p_value == pytest.approx(pooled_t(mine, control, 0.005, 0.01).p_value)


def test_the_history_assisted_tests_are_exact_where_the_spread_is_drawn_from_the_prior() -> None:
    rng = np.random.default_rng(20)
    for control in (0, 3):
        sd = 0.7 * np.sqrt(8 / rng.chisquare(8, 40_000))[:, None]
        mine, other = sd * rng.standard_normal((40_000, 3)), sd * rng.standard_normal((40_000, 3))
        pairs = zip(mine, other, strict=True)
        ps = [
            moderated_t(Sample.of(a), b.mean() if control else 0.0, 0.7, 8, 0.1, Sample.of(b) if control else None)
            for a, b in pairs
        ]
        assert np.mean([test.p_value < 0.1 for test in ps]) == pytest.approx(0.1, abs=0.0075)  # five standard errors


@pytest.mark.parametrize(
    ("n", "control", "worst", "ratio"),
    [(3, 3, 0.0142077, 7.275), (10, 3, 0.0165183, 3.4706), (3, 10, 0.0165183, 1 / 3.4706), (5, 5, 0.0117470, 4.357)],
)
def test_the_worst_level_over_the_ratio_of_the_spreads(n: int, control: int, worst: float, ratio: float) -> None:
    assert worst_level(n, control, 0.01) == pytest.approx(worst, rel=1e-3)
    assert power_against(n, control, 0.01, 0, ratio) == pytest.approx(worst, rel=1e-4)
    assert max(power_against(n, control, 0.01, 0, ratio * by) for by in (0.8, 1.25)) < worst


def test_the_worst_level_of_the_pooled_test_alone_is_where_one_side_does_not_scatter() -> None:
    t = critical_t(11, 0.01) * math.sqrt((1 / 10 + 1 / 3) * 2 / 11 * 3)  # the control's t has two degrees of freedom
    assert worst_level(10, 3, 0.01, ("pooled",)) == pytest.approx(scipy.stats.t.sf(t, 2), rel=1e-2)


def test_a_history_of_no_runs_changes_nothing() -> None:
    sample = Sample.of(RECORD)
    plain, assisted = one_sample_t(sample, 1.21113611, 0.01), moderated_t(sample, 1.21113611, 0.00073, 0, 0.01)
    assert assisted.statistic == pytest.approx(plain.statistic, rel=1e-14)
    assert assisted.p_value == pytest.approx(plain.p_value, rel=1e-14)
    found = moderated_t(sample, 1.21113611, 0.00073, 8, 0.01)
    assert found.statistic == pytest.approx(-15.942630802919593, rel=1e-11)
    assert found.p_value == pytest.approx(9.719393819985515e-09, rel=1e-11)


@given(samples, st.integers(1, 10), st.floats(0.5, 0.999))
def test_a_prediction_interval_holds_the_mean_of_fresh_runs(sample: Sample, m: int, level: float) -> None:
    low, high = prediction_interval(sample, m, level)
    scale = sample.sd * math.sqrt(1 / sample.n + 1 / m)
    expected = scipy.stats.t.interval(level, sample.n - 1, sample.mean, scale)
    assert (low, high) == pytest.approx(expected, rel=1e-9)


def test_the_next_run_of_the_source_record() -> None:
    expected = (1.179893616361012, 1.2228265636389877)
    assert prediction_interval(Sample.of(RECORD), 1, 0.99) == pytest.approx(expected, rel=1e-12)


@given(values, values)
def test_a_second_lab_is_compared_by_a_two_sided_t(numbers: list[float], others: list[float]) -> None:
    assume(spread_out(numbers) and spread_out(others))
    expected = scipy.stats.ttest_ind(others, numbers)
    test = same_mean(Sample.of(numbers), others)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert test.df == expected.df
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(samples, st.floats(0.5, 3), st.floats(0.6, 0.999))
def test_one_run_of_a_second_lab_agrees_exactly_inside_the_prediction_interval(
    sample: Sample, value: float, level: float
) -> None:
    test = same_mean(sample, [value])
    low, high = prediction_interval(sample, 1, level)
    assume(min(abs(value - low), abs(value - high)) > 1e-9)
    assert test.df == sample.n - 1
    assert (test.p_value > 1 - level) == (low < value < high)


@given(samples, samples, st.floats(0, 0.5), st.floats(0.001, 0.2))
def test_the_bound_against_a_control_is_passed_exactly_when_both_tests_are(
    sample: Sample, control: Sample, margin: float, alpha: float
) -> None:
    test = against_control(sample, control, margin, alpha)
    both = [welch_t(sample, control, margin, alpha).p_value, pooled_t(sample, control, margin, alpha).p_value]
    assert test.p_value == max(both)
    bound = bound_of(test)
    assume(abs(bound - (control.mean - margin)) > 1e-9)
    assert (bound < control.mean - margin) == (test.p_value < alpha) == all(p < alpha for p in both)


@pytest.mark.parametrize(
    ("n", "sd", "of"), [(10, 0.02, "Welch"), (10, 0.2, "pooled"), (3, 0.2, "Welch"), (3, 0.02, "pooled")]
)
def test_the_bound_against_a_control_is_the_larger_one(n: int, sd: float, of: str) -> None:
    sample, control = Sample(n, 1.1, sd), Sample(13 - n, 1.5, 0.1)
    bounds = {}
    for name, test in (("Welch", welch_t(sample, control, 0, 0.01)), ("pooled", pooled_t(sample, control, 0, 0.01))):
        error = (sample.mean - control.mean) / test.statistic
        bounds[name] = sample.mean + scipy.stats.t.isf(0.01, test.df) * error
    assert max(bounds, key=lambda name: bounds[name]) == of
    assert against_control(sample, control, 0, 0.01).bound == pytest.approx(bounds[of], rel=1e-9)


@given(samples, st.floats(0.6, 1), st.floats(1e-3, 0.5), st.floats(0, 0.5))
def test_with_as_many_control_runs_welch_decides(sample: Sample, gain: float, sd: float, margin: float) -> None:
    control = Sample(sample.n, sample.mean + gain, sd)
    test, welch = against_control(sample, control, margin, 0.01), welch_t(sample, control, margin, 0.01)
    assert test.p_value == pytest.approx(welch.p_value, rel=1e-9)


@given(samples, samples, st.floats(1e-3, 0.5), st.floats(0, 0.5), st.floats(0.001, 0.4))
def test_a_known_sigma_against_a_control_counts_the_noise_of_both(
    sample: Sample, control: Sample, sigma: float, margin: float, alpha: float
) -> None:
    threshold, error = control.mean - margin, sigma * math.sqrt(1 / sample.n + 1 / control.n)
    test = known_sigma_z(sample, threshold, sigma, alpha, control)
    assert test.p_value == pytest.approx(scipy.stats.norm.cdf(sample.mean, threshold, error), rel=1e-6, abs=1e-300)
    assert scaled_gain(sample, threshold, control) == pytest.approx(test.statistic * sigma, rel=1e-12)
    bound = bound_of(test)
    assert bound == pytest.approx(scipy.stats.norm.ppf(1 - alpha, sample.mean, error), rel=1e-12)
    if abs(bound - threshold) > 1e-9:
        assert (bound < threshold) == (test.p_value < alpha)
    assert abs(test.statistic) <= abs(known_sigma_z(sample, threshold, sigma, 0.01).statistic)


def test_the_scaled_gain_of_the_speedrun() -> None:
    assert scaled_gain(Sample(10, 3.2785, 0.001), 3.28) == pytest.approx(0.0015 * math.sqrt(10), rel=1e-9)
    assert scaled_gain(Sample(10, 3.2769, 0.001), 3.278, Sample(16, 3.278, 0.001)) == pytest.approx(
        0.002728764161, rel=1e-9
    )


@given(values.flatmap(lambda numbers: st.tuples(st.just(numbers), st.permutations(numbers))))
def test_the_order_of_the_runs_never_matters(both: tuple[list[float], list[float]]) -> None:
    numbers, shuffled = both
    assume(spread_out(numbers))
    assert Sample.of(numbers) == Sample.of(shuffled)


CONTROL_SAMPLE = Sample(4, 1.5, 0.07)
TESTS: list[Callable[[Sample, float], fixed.Test]] = [
    lambda sample, margin: one_sample_t(sample, 1.5 - margin, 0.01),
    lambda sample, margin: known_sigma_z(sample, 1.5 - margin, 0.05, 0.01),
    lambda sample, margin: known_sigma_z(sample, 1.5 - margin, 0.05, 0.01, CONTROL_SAMPLE),
    lambda sample, margin: moderated_t(sample, 1.5 - margin, 0.05, 8, 0.01),
    lambda sample, margin: welch_t(sample, CONTROL_SAMPLE, margin, 0.01),
    lambda sample, margin: pooled_t(sample, CONTROL_SAMPLE, margin, 0.01),
    lambda sample, margin: against_control(sample, CONTROL_SAMPLE, margin, 0.01),
]


@given(samples, st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_better_mean_never_raises_p_and_a_larger_margin_never_lowers_it(
    sample: Sample, gain: float, margin: float, more: float
) -> None:
    better = Sample(sample.n, sample.mean - gain, sample.sd)
    for test in TESTS:
        p = test(sample, margin).p_value
        assert test(better, margin).p_value <= p * (1 + 1e-12)
        assert test(sample, margin + more).p_value >= p * (1 - 1e-12)


def test_the_level_of_a_known_sigma_that_is_not_the_true_one() -> None:
    assert known_sigma_level(0.004 / 0.0013, 0.0013, 0.0013) == pytest.approx(
        scipy.stats.norm.sf(0.004 / 0.0013), rel=1e-12
    )
    assert known_sigma_level(0.004 / 0.0013, 0.0013, 0.0025) == pytest.approx(0.0548, abs=5e-5)


@pytest.mark.parametrize(
    ("n", "control", "delta", "power"),
    [(3, 3, 0, 0.0060), (10, 3, 0, 0.00451), (8, 3, 3, 0.635), (3, 3, 6, 0.917), (5, 3, 5, 0.912), (10, 3, 4, 0.797)],
)
def test_the_power_of_both_tests_against_a_control(n: int, control: int, delta: float, power: float) -> None:
    """By a quadrature of other nodes and by simulation, to the digits given; the last is simulated here."""
    assert power_against(n, control, 0.01, delta) == pytest.approx(power, rel=2e-3)
    rng = np.random.default_rng(5)
    mine, others = rng.standard_normal((20_000, n)) - delta, rng.standard_normal((20_000, control))
    passed = np.ones(20_000, dtype=bool)
    for equal in (True, False):
        passed &= scipy.stats.ttest_ind(mine, others, axis=1, equal_var=equal, alternative="less").pvalue < 0.01
    assert passed.mean() == pytest.approx(power, abs=5 * math.sqrt(power * (1 - power) / 20_000))
