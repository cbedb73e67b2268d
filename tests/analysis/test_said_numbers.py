"""Numbers of docs/statistics.md that no function of the project returns: quadratures, and simulated sweeps of normal and skewed runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import stdtrit
from scipy.stats import chi2, norm
from scipy.stats import t as student

from analysis.stats import best_of, sequential
from analysis.stats.recursion import Design
from analysis.verdict.looks import chance_of_passing
from benchmarks.ways import LOOKS, e_value_criticals

ALPHA = 0.01
_X, _W = np.polynomial.legendre.leggauss(200)
NODES, WEIGHTS = (1 + _X) / 2, _W / 2  # of the integral from 0 to 1
BOARDS, RECORDS, ERROR = 400, 30, 1 / math.sqrt(3)
FLAT = 0.0021359554  # the nominal p of looks 3 to 10

RNG = np.random.default_rng


def t_of(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = -values.mean(axis=1) * math.sqrt(values.shape[1]) / values.std(axis=1, ddof=1)
    return found


def passes(values: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Whether each sweep's mean is below 0 by the t-test."""
    found: np.ndarray = t_of(values) >= student.isf(alpha, values.shape[1] - 1)
    return found


# -- what passing does to an sd and to a prediction --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "covered"), [(3, (0.41, 0.73, 0.89, 0.97)), (8, (0.73, 0.95, 0.95, 0.95))], ids=["three", "eight"]
)
def test_an_interval_of_the_sd_holds_it_less_often_after_passing(n: int, covered: tuple[float, ...]) -> None:
    """Gains of 0, 1, 2 and 5 sd. Given the sd, a claim passes with a normal probability."""
    for gain, wanted in zip((0, 1, 2, 5), covered, strict=True):

        def passing(u: float, gain: float = gain) -> float:
            sd = math.sqrt(chi2.ppf(u, n - 1) / (n - 1))
            return float(norm.cdf(math.sqrt(n) * gain - student.isf(ALPHA, n - 1) * sd))

        below, inside, above = (
            sum(quad(passing, a, b, limit=200)[0] for a, b in parts)
            for parts in (((0.975, 1),), ((0.025, 0.5), (0.5, 0.975)), ((0, 1e-6), (1e-6, 1e-3), (1e-3, 0.025)))
        )
        assert inside / (below + inside + above) == pytest.approx(wanted, abs=0.0055)
        assert n > 3 or below < 1e-3 * above or gain == 5


@pytest.mark.slow
def test_an_interval_of_the_sd_is_right_in_a_third_after_looks() -> None:
    values = RNG(1).standard_normal((1_000_000, 10))
    running, held, stopped = np.ones(len(values), dtype=bool), 0, 0
    for n in LOOKS.looks:
        now = np.flatnonzero(running)
        crossed = now[passes(values[now, :n], FLAT)]
        squares = values[crossed, :n].var(axis=1, ddof=1) * (n - 1)
        held += int(np.sum((squares > chi2.ppf(0.025, n - 1)) & (squares < chi2.ppf(0.975, n - 1))))
        stopped += len(crossed)
        running[crossed] = False
    assert held / stopped == pytest.approx(0.33, abs=0.018)


@pytest.mark.parametrize(("n", "gain", "outside"), [(3, 1, 0.10), (3, 2, 0.043), (3, 5, 0.013), (8, 1, 0.0165)])
def test_the_next_run_of_a_record_that_passed(n: int, gain: float, outside: float) -> None:
    """P(it leaves the 99 % interval | passed), over the sd and the mean."""
    sd = np.sqrt(chi2.isf(NODES, n - 1) / (n - 1))[:, None]
    most = norm.cdf(math.sqrt(n) * gain - student.isf(ALPHA, n - 1) * sd)  # the mean's quantiles that pass
    mean = norm.ppf(most * NODES) / math.sqrt(n) - gain
    reach = student.isf(0.005, n - 1) * sd * math.sqrt(1 + 1 / n)
    leaves = 1 - norm.cdf(mean + reach + gain) + norm.cdf(mean - reach + gain)
    found = WEIGHTS @ (most * (leaves @ WEIGHTS)[:, None]) / (WEIGHTS @ most)
    assert found[0] == pytest.approx(outside, rel=0.04)


@pytest.mark.parametrize(("gain", "rejected"), [(1, 0.059), (2, 0.032), (5, 0.013)])
def test_three_honest_runs_against_three_that_passed(gain: float, rejected: float) -> None:
    """P(the two-sided test at 1 % rejects | passed), over both spreads and the author's mean."""
    few, weight = ((1 + x) / 2 if i == 0 else x / 2 for i, x in enumerate(np.polynomial.legendre.leggauss(60)))
    squares = chi2.isf(few, 2)
    sd = np.sqrt(squares / 2)
    most = norm.cdf(math.sqrt(3) * gain - student.isf(ALPHA, 2) * sd)
    mean = norm.ppf(most[:, None] * few) / math.sqrt(3)  # from the true one
    reach = student.isf(0.005, 4) * np.sqrt((squares[:, None] + squares) / 4 * 2 / 3)
    root, off, far = math.sqrt(3), mean[:, :, None], reach[:, None, :]
    leaves = norm.cdf(root * (off - far)) + norm.sf(root * (off + far))
    found = np.einsum("i,j,k,i,ijk", weight, weight, weight, most, leaves) / (weight @ most)
    assert found == pytest.approx(rejected, rel=0.04)


# -- labels and skew ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("correlation", "two", "three"), [(0.0, 0.020, 0.030), (0.9, 0.018, 0.025)])
def test_labels_that_share_noise(correlation: float, two: float, three: float) -> None:
    rng, shape = RNG(2), (400_000, 3)
    shared = math.sqrt(correlation) * rng.standard_normal(shape)
    every = [passes(shared + math.sqrt(1 - correlation) * rng.standard_normal(shape)) for _ in range(3)]
    assert np.mean(every[0] | every[1]) == pytest.approx(two, abs=9e-4)
    assert np.mean(np.any(every, axis=0)) == pytest.approx(three, abs=1.1e-3)


@pytest.mark.parametrize(
    ("skewness", "fixed_ones", "looks", "pairs"),
    [(0.3, (0.013, 0.014, 0.014), 0.014, 0.010), (1.0, (0.022, 0.029, 0.028), 0.033, 0.008)],
)
def test_skew_with_a_long_tail_of_bad_runs(
    skewness: float, fixed_ones: tuple[float, ...], looks: float, pairs: float
) -> None:
    rng, shape = RNG(3), 4 / skewness**2
    mine, theirs = (rng.gamma(shape, size=(300_000, 10)) - shape for _ in range(2))
    for n, level in zip((3, 5, 10), fixed_ones, strict=True):
        assert np.mean(passes(mine[:, :n])) == pytest.approx(level, abs=1.2e-3)
        assert np.mean(passes(-mine[:, :n])) < ALPHA
    crossed = np.any([passes(mine[:, :n], FLAT) for n in LOOKS.looks], axis=0)
    assert np.mean(crossed) == pytest.approx(looks, abs=1.2e-3)
    assert np.mean(passes((mine - theirs)[:, :5])) == pytest.approx(pairs, abs=1.2e-3)


# -- arms that scatter differently -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("k", "scatter", "level"), [(3, 0.001, 0.019), (8, 0.2, 0.0224), (10, 0.25, 0.0224)])
def test_looks_against_runs_that_exist_where_the_candidate_scatters_more(k: int, scatter: float, level: float) -> None:
    """The project's own decision of each sweep is the least gain of two_arms.simulated, whose draws are of one spread."""
    design = Design(LOOKS.looks, control=k)
    criticals = sequential.boundary(design, ALPHA)
    rng, crossed = RNG(4), np.zeros(200_000, dtype=bool)
    mine, theirs = rng.standard_normal((200_000, 10)), scatter * rng.standard_normal((200_000, k))
    for n, critical in zip(design.looks, criticals, strict=True):
        own, other = mine[:, :n].var(axis=1, ddof=1), theirs.var(axis=1, ddof=1)
        apart = theirs.mean(axis=1) - mine[:, :n].mean(axis=1)
        one = ((n - 1) * own + (k - 1) * other) / (n + k - 2)
        passed = apart >= critical * np.sqrt(one * (1 / n + 1 / k))
        if n != k:
            df = (own / n + other / k) ** 2 / ((own / n) ** 2 / (n - 1) + (other / k) ** 2 / (k - 1))
            nominal = student.sf(critical, n + k - 2)
            passed &= apart >= -stdtrit(df, nominal) * np.sqrt(own / n + other / k)
        crossed |= passed
    assert np.mean(crossed) == pytest.approx(level, abs=1.2e-3)


@pytest.mark.parametrize(
    ("design", "level"),
    [(Design(LOOKS.looks, control=10), 0.094), (Design(LOOKS.looks, in_step=True), 0.0185)],
    ids=["ten control runs", "as many"],
)
def test_the_e_value_where_only_the_candidate_scatters(design: Design, level: float) -> None:
    """The pooled t is then the candidate's own, times a number of each look."""
    own = []
    for n, t in zip(design.looks, e_value_criticals(design), strict=True):
        k = n if design.in_step else design.control
        own.append(t * math.sqrt((n - 1) / (n + k - 2) * (1 + n / k)))
    assert sequential.type_one_error(LOOKS, own) == pytest.approx(level, abs=5e-4)


# -- the chance of passing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gains", "above", "below", "passed"),
    [((-6, 10), 0.7, 0.9, 0.82), ((-6, 10), 0.3, 0.5, 0.40), ((1, 1), 0.9, 1, 0.71), ((0, 0), 0.9, 1, 0.14)],
    ids=["any gain, 0.7", "any gain, 0.3", "1 sd, 0.9", "none, 0.9"],
)
def test_how_many_pass_that_were_told_a_chance(
    gains: tuple[float, float], above: float, below: float, passed: float
) -> None:
    """After three seeds of looks 3 to 10: sweeps whose t lies between those with these chances."""
    criticals = sequential.boundary(LOOKS, ALPHA)
    low, high = (
        brentq(lambda t, c=chance: chance_of_passing(LOOKS, criticals, 0, t) - c, 0.5, 15)
        if chance < 1
        else criticals[0]
        for chance in (above, below)
    )
    values = RNG(6).standard_normal((300_000, 10)) - RNG(7).uniform(*gains, size=(300_000, 1))
    told = values[(t_of(values[:, :3]) >= low) & (t_of(values[:, :3]) < high)]
    later = np.any([t_of(told[:, :n]) >= c for n, c in zip(LOOKS.looks, criticals, strict=True)], axis=0)
    assert np.mean(later) == pytest.approx(passed, abs=0.02)


# -- the best of a board -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("apart", "luck"), [(0.0, 1.18), (1.0, 0.83), (3.5, 0.32)])
def test_the_best_of_thirty_records_overstates(apart: float, luck: float) -> None:
    """Of normal means and errors, each observed mean's excess is its own error's part of its distance to the centre."""
    largest = best_of.expected_luck([0.0] * RECORDS, [1.0] * RECORDS)
    assert ERROR / math.sqrt(1 + apart**2) * largest == pytest.approx(luck, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("apart", "said"), [(0.0, 1.11), (1.0, 0.85), (3.5, 0.33), (None, 0.17)])
def test_what_a_board_of_thirty_estimates(apart: float | None, said: float) -> None:
    rng, found, truths = RNG(5), [], []
    for _ in range(BOARDS):
        step = -np.cumsum(rng.exponential(1.5, size=RECORDS))
        true = step if apart is None else apart * ERROR * rng.standard_normal(RECORDS)
        runs = true[:, None] + rng.standard_normal((RECORDS, 3))
        mean, sds = runs.mean(axis=1), runs.std(axis=1, ddof=1)
        found.append(best_of.overstatement(list(mean), best_of.standard_errors(list(sds), [3] * RECORDS) or []))
        truths.append(true[mean.argmin()] - mean.min())
    assert np.mean(found) == pytest.approx(said, abs=0.04)
    assert apart is not None or np.mean(truths) == pytest.approx(0.18, abs=0.09)
