"""Every statistic against numbers of another implementation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.stats import (
    Sample,
    StatisticsError,
    known_sigma_upper_bound,
    known_sigma_z,
    one_sample_t,
    pooled_t,
    upper_bound,
    welch_t,
)

RECORD = (1.20143417, 1.19945102, 1.20319508)
CONTROL = (1.20576485, 1.20617460, 1.20715923)
values = st.lists(st.floats(0.5, 5, allow_nan=False), min_size=2, max_size=20)


def spread_out(numbers: list[float]) -> bool:
    return float(max(numbers)) - min(numbers) > 1e-6


def test_one_sample_t_of_the_source_record() -> None:
    sample = Sample.of(RECORD)
    test = one_sample_t(sample, 1.21113611)
    assert sample.sd == pytest.approx(0.0018731289880037877, rel=1e-12)
    assert test.statistic == pytest.approx(-9.039720939803, rel=1e-12)
    assert test.df == 2
    assert test.p_value == pytest.approx(0.006008638100610, rel=1e-11)
    assert upper_bound(sample, 0.01) == pytest.approx(1.2088919205043798, rel=1e-12)


def test_three_seeds_have_a_closed_form() -> None:
    test = one_sample_t(Sample.of(RECORD), 1.21113611)
    t = test.statistic
    assert test.p_value == pytest.approx((1 + t / math.sqrt(t * t + 2)) / 2, rel=1e-10)


@given(values, st.floats(0.5, 5))
def test_one_sample_t_equals_scipy(numbers: list[float], threshold: float) -> None:
    assume(spread_out(numbers))
    expected = scipy.stats.ttest_1samp(numbers, threshold, alternative="less")
    test = one_sample_t(Sample.of(numbers), threshold)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(values, values, st.floats(0, 1))
def test_two_sample_tests_equal_scipy(numbers: list[float], others: list[float], margin: float) -> None:
    assume(spread_out(numbers) and spread_out(others))
    for function, equal in ((welch_t, False), (pooled_t, True)):
        shifted = [value - margin for value in others]
        expected = scipy.stats.ttest_ind(numbers, shifted, equal_var=equal, alternative="less")
        test = function(Sample.of(numbers), Sample.of(others), margin)
        assert test.statistic == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
        assert test.df == pytest.approx(expected.df, rel=1e-6)
        assert test.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(values, st.floats(0.5, 5), st.floats(0.001, 0.2))
def test_the_bound_lies_below_the_threshold_exactly_when_p_is_below_alpha(
    numbers: list[float], threshold: float, alpha: float
) -> None:
    assume(spread_out(numbers))
    sample = Sample.of(numbers)
    p, bound = one_sample_t(sample, threshold).p_value, upper_bound(sample, alpha)
    assume(abs(p - alpha) > 1e-9)
    assert (bound < threshold) == (p < alpha)


def test_welch_of_the_source_record_against_its_rerun_control() -> None:
    assert welch_t(Sample.of(RECORD), Sample.of(CONTROL), 0.005).p_value == pytest.approx(0.498, abs=5e-4)


@pytest.mark.parametrize(
    ("numbers", "word"),
    [((1.2,), "at least two"), ((1.2, math.nan), "finite"), ((1.2, math.inf), "finite"), ((1.2,) * 3, "no spread")],
)
def test_values_that_cannot_be_tested_are_refused(numbers: tuple[float, ...], word: str) -> None:
    with pytest.raises(StatisticsError, match=word):
        Sample.of(numbers)


def test_reference_vectors(reference: Path) -> None:
    """The one- and two-sample cases of the reference file, each checked there by R, mpmath or statsmodels."""
    vectors = json.loads((reference / "vectors.json").read_text())["vectors"]
    done = 0
    for vector in vectors:
        args, expected, tolerance = vector["args"], vector["expected"], vector["tol_rel"]
        if vector["function"] != "one_sample_t" or "p" not in expected:
            continue
        sample = Sample.of(args["values"])
        test = one_sample_t(sample, args["threshold"])
        for name, value in (("t", test.statistic), ("p", test.p_value), ("ucb99", upper_bound(sample, 0.01))):
            assert value == pytest.approx(expected[name], rel=tolerance), vector["id"]
        done += 1
    assert done >= 5


def test_known_sigma_against_another_implementation(reference: Path) -> None:
    vectors = json.loads((reference / "vectors.json").read_text())["vectors"]
    cases = [case for case in vectors if case["function"] == "known_sigma_z"]
    assert len(cases) == 2
    for case in cases:
        args, expected = case["args"], case["expected"]
        test = known_sigma_z(Sample(args["n"], args["mean"], 0.001), args["target"], args["sigma"])
        assert test.statistic == pytest.approx(expected["z"], rel=case["tol_rel"])
        assert test.p_value == pytest.approx(expected["p"], rel=case["tol_rel"])
        assert test.df is None


@given(st.integers(2, 50), st.floats(3.2, 3.3), st.floats(1e-4, 0.1), st.floats(1e-4, 0.4))
def test_known_sigma_is_a_normal_tail_and_agrees_with_its_bound(
    n: int, mean: float, sigma: float, alpha: float
) -> None:
    sample = Sample(n, mean, 1.0)
    test = known_sigma_z(sample, 3.28, sigma)
    assert test.p_value == pytest.approx(scipy.stats.norm.cdf(mean, 3.28, sigma / math.sqrt(n)), rel=1e-6, abs=1e-300)
    bound = known_sigma_upper_bound(sample, alpha, sigma)
    assert bound == pytest.approx(scipy.stats.norm.ppf(1 - alpha, mean, sigma / math.sqrt(n)), rel=1e-12)
    if abs(bound - 3.28) > 1e-9:
        assert (bound < 3.28) == (test.p_value < alpha)


def test_known_sigma_worked() -> None:
    test = known_sigma_z(Sample(10, 3.2785, 0.001), 3.28, 0.0013)
    assert (test.statistic, test.p_value) == (pytest.approx(3.648782, abs=1e-6), pytest.approx(0.00013174, rel=1e-4))
