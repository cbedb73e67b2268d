"""The luck of the best of several: closed forms, and a seeded simulation of whole boards."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.best_of import expected_luck, overstatement, pulled_together, standard_errors

Draw = Callable[[np.random.Generator], np.ndarray]


@pytest.mark.parametrize(("count", "largest"), [(1, 0.0), (2, 0.5641895835), (3, 0.8462843753), (10, 1.5387527308)])
def test_equal_candidates_have_the_luck_of_the_largest_normal(count: int, largest: float) -> None:
    """The expected largest of n standard normals: Harter 1961, table of normal order statistics."""
    assert expected_luck([1.2] * count, [0.001] * count) == pytest.approx(0.001 * largest, abs=1e-9)


@pytest.mark.parametrize(("gap", "first", "second"), [(0.0006, 5e-4, 5e-4), (0.0, 0.001, 2e-4), (0.002, 0.001, 1e-4)])
def test_two_candidates_are_clarks_formula(gap: float, first: float, second: float) -> None:
    a = math.hypot(first, second)
    wanted = a * math.exp(-((gap / a) ** 2) / 2) / math.sqrt(2 * math.pi)
    assert expected_luck([1.2, 1.2 + gap], [first, second]) == pytest.approx(wanted, rel=5e-3)


def test_unequal_candidates_are_what_draws_give() -> None:
    means, errors = np.array([0.0, 0.5, 1.0]), np.array([0.1, 1.0, 3.0])
    noise = np.random.default_rng(1).normal(size=(400_000, 3)) * errors
    best = (means + noise).argmin(axis=1)
    assert expected_luck(list(means), list(errors)) == pytest.approx(
        -noise[np.arange(len(best)), best].mean(), rel=0.01
    )


def test_a_candidate_far_behind_changes_nothing() -> None:
    near = expected_luck([1.2, 1.2005], [0.0005, 0.0005])
    assert expected_luck([1.2, 1.2005, 1.3], [0.0005, 0.0005, 0.0005]) == near


def test_means_are_pulled_together_as_far_as_errors_explain_them() -> None:
    assert pulled_together([1.0, 1.1, 0.9], [1.0, 1.0, 1.0]) == pytest.approx([1.0, 1.0, 1.0])
    apart = pulled_together([0.0, 100.0, 200.0], [0.01, 0.01, 0.01])
    assert apart == pytest.approx([0.0, 100.0, 200.0], abs=1e-3)


BOARDS: dict[str, Draw] = {
    "all the same": lambda rng: np.zeros(6),
    "as far apart as their errors": lambda rng: rng.normal(size=6) * 0.58,
    "far apart": lambda rng: rng.normal(size=6) * 2,
    "each better than the one before": lambda rng: -np.cumsum(rng.exponential(1.5, size=6)),
}


@pytest.mark.parametrize("board", BOARDS)
def test_the_estimate_is_near_what_simulated_boards_overstate(board: str) -> None:
    """Three runs a record, whose spread is estimated: over 150 boards the mean estimate is within 0.12 sd of the truth."""
    rng = np.random.default_rng(7)
    estimates, truths = [], []
    for _ in range(150):
        means = BOARDS[board](rng)
        runs = means[:, None] + rng.normal(size=(len(means), 3))
        found, sds = runs.mean(axis=1), runs.std(axis=1, ddof=1)
        best = found.argmin()
        truths.append(means[best] - found[best])
        estimates.append(overstatement(list(found), standard_errors(list(sds), [3] * len(means)) or []))
    assert abs(np.mean(estimates) - np.mean(truths)) < 0.12
    assert np.mean(truths) > 0.1


def test_standard_errors_lean_on_all_records() -> None:
    errors = standard_errors([0.001, None, 0.001], [4, 1, 9])
    assert errors is not None
    assert errors == pytest.approx([0.0005, 0.001, 0.001 / 3], rel=0.15)
    assert standard_errors([None, None], [1, 1]) is None
    assert standard_errors([0.0, 0.0], [3, 3]) is None
    alone = standard_errors([0.001, None], [4, 1])
    assert alone == pytest.approx([0.0005, 0.001])


@given(st.floats(0.1, 1000), st.floats(1e-9, 10), st.integers(1, 5))
def test_equal_means_have_no_scatter_of_their_own(mean: float, error: float, count: int) -> None:
    """One mean and its weighted centre may differ by rounding, which must not be taken for scatter."""
    assert pulled_together([mean] * count, [error] * count) == pytest.approx([mean] * count)
