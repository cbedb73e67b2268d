"""Standard deviations: their intervals, what a history says about them, and when one is too small."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from analysis.stats.spread import ALARM, Spread, chance_of_less, pooled, prior, sd_interval, sd_limit

SDS = (0.0007, 0.0012, 0.0004, 0.0031, 0.0009, 0.0015, 0.0006)
DFS = (2, 4, 2, 3, 9, 5, 2)
sizes, sds = st.integers(2, 60), st.floats(1e-6, 1)


@given(sds, sizes, st.floats(0.5, 0.999))
def test_the_interval_of_an_sd_is_a_chi_square(sd: float, n: int, level: float) -> None:
    low, high = sd_interval(sd, n, level)
    tails = scipy.stats.chi2.isf([(1 - level) / 2, (1 + level) / 2], n - 1)
    assert (low, high) == pytest.approx(tuple(sd * np.sqrt((n - 1) / tails)), rel=1e-9)
    assert low < high


@given(sds, sizes, st.floats(0.01, 0.99))
def test_the_true_sd_stays_below_its_limit_as_often_as_said(sd: float, n: int, probability: float) -> None:
    limit = sd_limit(sd, n, probability)
    assert scipy.stats.chi2.sf((n - 1) * (sd / limit) ** 2, n - 1) == pytest.approx(probability, rel=1e-9)


def test_three_seeds_say_little_of_the_spread() -> None:
    low, high = sd_interval(0.0018731289880037877, 3)
    assert low == pytest.approx(0.0009752600921974, rel=1e-11)
    assert high == pytest.approx(0.0117721187419, rel=1e-11)
    assert 12 < high / low < 12.1
    assert sd_limit(0.001, 5, 0.8) == pytest.approx(0.0015575754, rel=1e-7)


def test_groups_of_one_spread_are_weighted_by_their_degrees_of_freedom() -> None:
    assert pooled((0.001, 0.002), (2, 2)) == Spread(pytest.approx(0.001 * math.sqrt(2.5), rel=1e-14), 4)
    assert pooled((3.0, 1.0), (1, 8)) == Spread(pytest.approx(math.sqrt(17 / 9), rel=1e-14), 9)
    assert pooled((0.0007,), (2,)) == Spread(pytest.approx(0.0007, rel=1e-14), 2)
    with pytest.raises(ValueError, match="shorter"):
        pooled((0.001, 0.002), (2,))


def test_pooling_groups_is_the_sd_of_their_deviations() -> None:
    groups = [(1.2, 1.3, 1.1), (2.0, 2.4), (0.7, 0.9, 0.8, 0.5)]
    deviations = [value - np.mean(group) for group in groups for value in group]
    found = pooled([float(np.std(group, ddof=1)) for group in groups], [len(group) - 1 for group in groups])
    assert found == Spread(pytest.approx(math.sqrt(np.sum(np.square(deviations)) / 6), rel=1e-13), 6)


def log_moments(df: float) -> tuple[float, float]:
    """Mean and variance of log(chi2 / df), by integration over the logarithm."""

    def density(x: float) -> float:
        return math.exp(df / 2 * (x - math.exp(x)) + df / 2 * math.log(df / 2) - math.lgamma(df / 2))

    low, high = -80 / min(df, 20), math.log(1 + 100 / df)
    mean = quad(lambda x: x * density(x), low, high, epsabs=1e-13, limit=200)[0]
    return mean, quad(lambda x: (x - mean) ** 2 * density(x), low, high, epsabs=1e-13, limit=200)[0]


def test_a_prior_has_the_moments_of_its_history() -> None:
    found = prior(SDS, DFS)
    assert 0 < found.df < math.inf
    mean, variance = log_moments(found.df)
    own = [log_moments(df) for df in DFS]
    logs = [2 * math.log(sd) - shift for sd, (shift, _) in zip(SDS, own, strict=True)]
    assert np.mean(logs) == pytest.approx(2 * math.log(found.sd) - mean, rel=1e-8)
    assert np.var(logs, ddof=1) == pytest.approx(variance + np.mean([scatter for _, scatter in own]), rel=1e-6)


def test_a_prior_is_found_again_in_a_long_history() -> None:
    random = np.random.default_rng(7)
    dfs = random.integers(2, 12, 40_000)
    variances = 0.0012**2 * 10 / random.chisquare(10, dfs.size) * random.chisquare(dfs) / dfs
    found = prior(np.sqrt(variances).tolist(), dfs.tolist())
    assert found.sd == pytest.approx(0.0012, rel=0.01)
    assert found.df == pytest.approx(10, rel=0.05)


def test_a_prior_does_not_depend_on_the_unit_or_the_order() -> None:
    found, scaled = prior(SDS, DFS), prior([1000 * sd for sd in SDS], DFS)
    assert scaled == Spread(pytest.approx(1000 * found.sd, rel=1e-9), pytest.approx(found.df, rel=1e-9))
    assert prior(SDS[::-1], DFS[::-1]) == Spread(pytest.approx(found.sd, rel=1e-9), pytest.approx(found.df, rel=1e-9))


def test_spreads_that_differ_by_chance_alone_leave_nothing_to_learn() -> None:
    found = prior((0.001, 0.0011, 0.0009, 0.001), (2, 2, 2, 2))
    assert found.df == math.inf
    mean = 2 * np.mean(np.log([0.001, 0.0011, 0.0009, 0.001])) - log_moments(2)[0]
    assert found.sd == pytest.approx(math.exp(mean / 2), rel=1e-8)


@given(st.floats(0.05, 3), st.integers(2, 20), st.floats(1, 100))
def test_the_chance_of_a_smaller_sd_is_an_f(ratio: float, n: int, df: float) -> None:
    found = chance_of_less(ratio * 0.001, n, Spread(0.001, df))
    assert found == pytest.approx(scipy.stats.f.cdf(ratio**2, n - 1, df), rel=1e-7, abs=1e-300)


@given(st.floats(0.05, 3), st.integers(2, 20))
def test_the_chance_of_a_smaller_sd_is_a_chi_square_where_the_usual_one_is_known(ratio: float, n: int) -> None:
    found = chance_of_less(ratio * 0.001, n, Spread(0.001, math.inf))
    assert found == pytest.approx(scipy.stats.chi2.cdf((n - 1) * ratio**2, n - 1), rel=1e-6)


def test_copied_logs_alarm_and_honest_ones_do_not() -> None:
    usual = Spread(0.00073, 44)
    assert chance_of_less(0.00001, 3, usual) < ALARM < chance_of_less(0.0002, 3, usual)
    assert chance_of_less(0.0, 3, usual) == 0
