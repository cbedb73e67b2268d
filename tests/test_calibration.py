"""Every way of deciding passes false claims as often as is said of it: a small run of benchmarks.calibration."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import betaincinv, ndtr, ndtri, stdtr

from analysis.stats import fixed
from analysis.stats.fixed import Sample, against_control, critical_t, pooled_t, welch_t
from analysis.stats.sequential import e_value
from benchmarks.calibration import Row, generator, power_rows, rows, ways
from benchmarks.ways import ALPHA, LOOKS, OURS, e_value_criticals
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
SWEEPS, SEED = 2000, 7
_X, _W = np.polynomial.legendre.leggauss(64)
NODES, WEIGHTS = (1 + _X) / 2, _W / 2  # of the integral from 0 to 1


@pytest.fixture(scope="module")
def found() -> dict[str, Row]:
    return {row.way: row for row in rows(SWEEPS, SEED)}


def test_every_rate_is_as_stated(found: dict[str, Row]) -> None:
    assert len(found) == 47
    for row in found.values():
        assert row.within(z=5), row


def test_seedproof_keeps_its_level_and_the_others_do_not(found: dict[str, Row]) -> None:
    for row in found.values():
        unequal = "scatters" in row.way and "pairs" not in row.way  # no test of two samples is exact there
        assert (row.stated <= ALPHA) == (row.whose == OURS and not unequal), row


def test_power_and_seeds_are_as_computed() -> None:
    found = power_rows(SWEEPS, SEED, deltas=(2,))
    assert [row.sweeps for row in found] == [SWEEPS] * 3
    for row in found:
        assert row.within(z=5), row


def test_a_wrong_rate_would_be_noticed() -> None:
    liberal = Row(whose=OURS, way="twice as liberal", stated=0.01, measured=0.02, sweeps=100_000)
    slow = Row(
        whose=OURS,
        way="too many seeds",
        stated=0.5,
        measured=0.5,
        sweeps=100_000,
        seeds=6.0,
        measured_seeds=6.1,
        seeds_error=0.01,
    )
    assert not liberal.within(z=5)
    assert not slow.within(z=5)


def test_a_row_does_not_depend_on_the_others(found: dict[str, Row]) -> None:
    name, decide = next((way, decide) for _, way, _, decide in ways() if way == "one-sample t, n = 8")
    assert sum(decide(generator(SEED, name), SWEEPS)) / SWEEPS == found[name].measured


def test_the_e_value_reaches_its_bound_at_its_criticals() -> None:
    for n, t in zip(LOOKS.looks, e_value_criticals(), strict=True):
        assert [float(e_value(t * by, n - 1, n)) > 100 for by in (0.5, 0.999, 1.001, 2, 10)] == [False] * 2 + [True] * 3


# -- the stated numbers, once more -------------------------------------------------------------------------------------


def over_shares(df1: int, df0: int, needed: Callable[[float], float]) -> float:
    """P(T >= needed(share)); the share of the squares in the first of two sums is Beta(df1/2, df0/2), whatever T is."""
    shares = betaincinv(df1 / 2, df0 / 2, NODES)
    return float(np.sum(WEIGHTS * stdtr(df1 + df0, [-needed(share) for share in shares])))


def two_samples(test: Callable[..., fixed.Test], n: int, n0: int) -> float:
    """The level of a two-sample test: at each share, the gain that passes in errors of a pooled spread of one."""

    def needed(share: float) -> float:
        sds = (math.sqrt(part * (n + n0 - 2) / df) for part, df in ((share, n - 1), (1 - share, n0 - 1)))
        sample, control = (Sample(m, 0.0, sd) for m, sd in zip((n, n0), sds, strict=True))
        low, high = 0.0, 1e6
        for _ in range(60):
            gain = (low + high) / 2
            passes = test(sample, control, -gain, ALPHA).p_value < ALPHA
            low, high = (low, gain) if passes else (gain, high)
        return high / math.sqrt(1 / n + 1 / n0)

    return over_shares(n - 1, n0 - 1, needed)


def run_twice(repeated: float) -> float:
    """Four seeds twice as n = 8: the squares between the seeds (3 df) weigh 1 + r, those within them (4 df) 1 - r."""
    within = (1 - repeated) / (1 + repeated)
    return over_shares(3, 4, lambda share: critical_t(7, ALPHA) * math.sqrt(share + within * (1 - share)))


def best_three(of: int) -> float:
    """Over the direction and the length r of the residuals of the lowest three, and the tail of their mean."""
    angle, half, tail = np.meshgrid(NODES * math.pi / 3, NODES, NODES, indexing="ij")
    r = 2 * half  # beyond 2 the mean would have to lie 9.8 standard errors below the threshold
    chance = ndtr(-critical_t(2, ALPHA) * r / math.sqrt(2))
    largest = ndtri(tail * chance) / math.sqrt(3) + r * math.sqrt(2 / 3) * np.cos(angle)
    density = 2 * r * np.exp(-r * r / 2) * chance * ndtr(-largest) ** (of - 3)
    return math.comb(of, 3) * float(np.einsum("i,j,k,ijk", WEIGHTS, WEIGHTS, WEIGHTS, density))


def test_the_quadratures_where_the_answer_is_known() -> None:
    assert [best_three(3), two_samples(pooled_t, 10, 3), run_twice(0)] == pytest.approx([ALPHA] * 3, rel=1e-8)


@pytest.mark.parametrize(
    ("way", "again"),
    [
        ("Welch, 3 v 3", lambda: two_samples(welch_t, 3, 3)),
        ("Welch and pooled, 3 v 3", lambda: two_samples(against_control, 3, 3)),
        ("Welch and pooled, 10 v 3", lambda: two_samples(against_control, 10, 3)),
        ("Welch alone, 10 v 3", lambda: two_samples(welch_t, 10, 3)),
        ("best 3 of 6 seeds", lambda: best_three(6)),
        ("best 3 of 10 seeds", lambda: best_three(10)),
        ("4 seeds run twice as n = 8, a rerun repeats half of the variance", lambda: run_twice(0.5)),
        ("4 seeds run twice as n = 8, a rerun repeats all of the variance", lambda: run_twice(1)),
    ],
)
def test_stated_quadratures(found: dict[str, Row], way: str, again: Callable[[], float]) -> None:
    assert found[way].stated == pytest.approx(again(), rel=1e-3)


def test_stated_number_of_naive_peeking(found: dict[str, Row]) -> None:
    assert round(found["add seeds until p < 0.01, n = 3..10"].stated, 4) == 0.0387
    assert round(found["e-value after each of seeds 3..10"].stated, 4) == 0.0042


def test_the_documentation_states_these_numbers(found: dict[str, Row]) -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8").split("<!-- calibration -->")[1]
    told = dict(re.findall(r"^\| ([^|*]+) \| ([\d.]+) \| [\d.]+ \|$", text, re.MULTILINE))
    assert told == {row.way: f"{100 * row.stated:.3f}" for row in found.values()}
