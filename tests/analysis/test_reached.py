"""The error that the sequential t-test reaches: against refined computations, other formulas, and at the ends of the scale."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from scipy.stats import chi, nct

from analysis.stats import fixed, pieces, recursion, sequential, spread
from analysis.stats.conditional import Gains, staying
from analysis.stats.fixed import Sample
from analysis.stats.recursion import Design, first_crossings, unstopped

STATED, STATED_LATER = 1e-10, 1e-7  # of every chance of crossing, and of a later crossing given t now
Case = tuple[Design, tuple[float, ...], float]


def cases(number: int) -> Iterator[Case]:
    """Designs with gaps, of every kind of control and history, with criticals and a gain; the same every time."""
    random = np.random.default_rng(20261130)
    while number:
        gap, arm, memory = random.choice([1, 2, 5, 20]), random.integers(3), random.integers(4)
        steps = random.integers(1, gap + 1, random.integers(1, 5))
        looks = tuple(int(n) for n in random.integers(1, 7) + np.array([0, *np.cumsum(steps)]))
        history = [0.0, math.exp(random.uniform(0, 4)), math.exp(random.uniform(4, 9)), 1e10][memory]
        control, nominal = int(random.integers(1, 13)), math.exp(random.uniform(math.log(1e-5), math.log(0.2)))
        uneven = np.sort(random.uniform(0.6, 2.5, len(looks)))[::-1] ** random.integers(2)
        gain = float(random.choice([0.5, 1, 2, 5]))
        try:
            design = Design(looks, control=control if arm == 1 else 0, in_step=bool(arm == 2), history_df=history)
        except ValueError:  # no degree of freedom at the first look
            continue
        number -= 1
        yield design, tuple(np.array(sequential.at_nominal(design, nominal)) * uneven), gain


@pytest.fixture
def refined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """More terms, twice the nodes, and a thousandth of the tolerance."""
    terms, nodes = 32, 48
    x, weight = np.polynomial.legendre.leggauss(nodes)
    points = chebyshev.chebpts1(terms)
    finer = {
        "TERMS": terms,
        "_AT": np.sin(np.pi * (1 + x) / 4) ** 2,
        "_WEIGHT": np.pi / 4 * np.cos(np.pi * x / 2) * weight,
        "_FIT_AT": np.sin(np.pi * (1 + points) / 4) ** 2,
        "_FIT": np.linalg.inv(chebyshev.chebvander(points, terms - 1)),
    }
    for name, value in finer.items():
        monkeypatch.setattr(pieces, name, value)
    monkeypatch.setattr(recursion, "TOLERANCE", 1e-12)
    unstopped.cache_clear()
    yield
    unstopped.cache_clear()


def chances(case: Case) -> np.ndarray:
    """The chance of stopping by each look, without a gain and with it."""
    design, criticals, gain = case
    return np.cumsum([first_crossings(design, criticals, delta) for delta in (0.0, gain)], axis=1)


@pytest.fixture
def usual(request: pytest.FixtureRequest) -> dict[Case, np.ndarray]:
    """Computed as users have it, before anything is refined."""
    unstopped.cache_clear()
    return {case: chances(case) for case in cases(request.param)}


@pytest.mark.parametrize("usual", [25, pytest.param(200, marks=pytest.mark.slow)], indirect=True)
def test_random_designs_are_right_to_the_stated_error(usual: dict[Case, np.ndarray], refined: None) -> None:
    found = {case: float(np.abs(chances(case) - chance).max()) for case, chance in usual.items()}
    assert max(found.values()) < STATED, max(found, key=lambda case: found[case])


# -- other formulas ------------------------------------------------------------------------------------------------------


def known_spread(looks: tuple[int, ...], criticals: tuple[float, ...], delta: float) -> float:
    """The chance that some look crosses when the spread is known: z steps by c z + s e (Armitage, McPherson & Rowe 1969)."""
    nodes, weights = np.polynomial.legendre.leggauss(500)
    low, stays, place, share = -12.0, np.ones(1), np.zeros(1), np.ones(1)
    before = 0
    for n, critical in zip(looks, criticals, strict=True):
        c, s = math.sqrt(before / n), math.sqrt(1 - before / n)
        shift = delta * (math.sqrt(n) - c * math.sqrt(before))
        z = low + (critical - low) * (1 + nodes) / 2
        density = np.exp(-(((z[:, None] - shift - c * place) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
        stays = density @ (share * stays)
        place, share, before = z, weights * (critical - low) / 2, n
    return 1 - float(share @ stays)


@pytest.mark.parametrize("history", [1e10, 1e12, 1e300, math.inf])
@pytest.mark.parametrize(("looks", "delta"), [((3, 4, 5, 6, 7, 8, 9, 10), 0.0), ((1, 3, 12), 0.0), ((3, 5, 8), 1.2)])
def test_with_a_huge_history_the_spread_is_known(history: float, looks: tuple[int, ...], delta: float) -> None:
    design = Design(looks, history_df=history)
    criticals = sequential.boundary(design, 0.01, sequential.POCOCK)
    expected = known_spread(looks, criticals, delta)
    assert sequential.power(design, criticals, delta) == pytest.approx(expected, abs=1e-9)
    if delta == 0:
        assert expected == pytest.approx(0.01, abs=1e-9)


def test_an_infinite_history_is_a_known_spread_everywhere() -> None:
    record, looks = Sample(3, 1.2013, 0.0018), (3, 4, 5)
    test = fixed.moderated_t(record, 1.2020, 0.0007, math.inf, 0.01)
    z = fixed.known_sigma_z(record, 1.2020, 0.0007, 0.01)
    assert (test.p_value, test.bound) == pytest.approx((z.p_value, z.bound), rel=1e-12)
    design = Design(looks, history_df=math.inf)
    assert sequential.sequential_p(design, [2.5]) == pytest.approx(known_spread(looks, (2.5,) * 3, 0), abs=1e-9)
    e = float(sequential.e_value(2.5, math.inf, 3, (2.0,)))
    assert e == pytest.approx(math.exp(2.5 * 2 * math.sqrt(3) - 2 * 3), rel=1e-6)
    assert 0.5 < sequential.predictive_power(design, (2.5,) * 3, 0, 2.0, [1.5], [1.0]) < 1


@pytest.mark.parametrize(
    ("looks", "kind"),
    [((3, 4), {}), ((2, 7), {}), ((3, 6), {"in_step": True}), ((2, 5), {"control": 4, "history_df": 3.5})],
)
@pytest.mark.parametrize("delta", [0.0, 1.5])
def test_forwards_and_backwards_in_time_agree(looks: tuple[int, int], kind: dict[str, float], delta: float) -> None:
    """The second look's chance is the mean, over the first one's t, of the chance given that t: another kernel."""
    design = Design(looks, **kind)  # type: ignore[arg-type]
    criticals = sequential.at_nominal(design, 0.01)
    df, mu = design.degrees(looks[0]), delta * math.sqrt(design.information(looks[0]))
    share, high = design.information(looks[0]) / design.information(looks[1]), recursion.angle_of(criticals[0], df)
    last = math.sin(recursion.angle_of(criticals[1], design.degrees(looks[1])))
    reach = min(math.asin(math.sqrt(max((last**2 - 1 + share) / share, 0))), high)  # of the second, by one seed more
    edges = np.array([-math.pi / 2, 0, reach, high])
    angle, weight = pieces.graded(edges[:-1], edges[1:])
    density = np.exp(recursion._log_density(angle, df, mu))
    t = math.sqrt(df) * np.tan(angle)
    crosses = 1 - np.vectorize(lambda at: staying(design, criticals, 0, at, Gains((delta,), (1.0,))))(t)
    expected = first_crossings(design, criticals, delta)[1]
    assert float(np.sum(weight * density * crosses)) == pytest.approx(expected, abs=STATED_LATER)


def test_a_boundary_takes_one_pass() -> None:
    unstopped.cache_clear()
    design = Design(tuple(range(3, 31)))
    criticals = sequential.boundary(design, 0.01, sequential.OBRIEN_FLEMING)
    for delta in (0.0, 1.0, 2.0):
        sequential.power(design, criticals, delta)
    assert unstopped.cache_info().misses == len(design.looks)


# -- the ends of the scale -----------------------------------------------------------------------------------------------

HUGE = (1e16, 1e154, 1e300, math.inf)


@pytest.mark.parametrize(
    "design",
    [Design((2, 3)), Design((1, 4), history_df=0.5), Design((3, 30)), Design((2, 5), in_step=True, history_df=1e300)],
)
def test_extreme_values_neither_warn_nor_crash(design: Design) -> None:
    criticals = sequential.boundary(design, 0.01)
    for t in (*HUGE, *(-t for t in HUGE), 1e-300, 0.5):
        p = sequential.sequential_p(design, [t])
        assert 0 <= p <= 1
        assert (p == 1) == (t < 0.1)
        assert 0 <= float(sequential.e_value(t, design.degrees(design.looks[0]), 3)) < math.inf
        for delta in (0.0, 30.0, 1e110, math.inf):
            assert 0 <= sequential.predictive_power(design, criticals, 0, t, [delta], [1.0]) <= 1
            if t > 0:
                assert 0 <= sequential.power(design, (t, t), delta) <= 1
                assert design.looks[0] <= sequential.expected_seeds(design, (t, t), delta) <= design.looks[1]


@pytest.mark.parametrize("sd", [1e-150, 1e-110, 1.0, 1e100])
@pytest.mark.parametrize("other", [1e-150, 1e-110, 1.0, 1e100])
def test_extreme_spreads_neither_warn_nor_crash(sd: float, other: float) -> None:
    mine, theirs = Sample(3, 1.0, sd), Sample(5, 2.0, other)
    tests = [test(mine, theirs, 0.1, 0.01) for test in (fixed.welch_t, fixed.pooled_t, fixed.against_control)]
    tests += [fixed.moderated_t(mine, 1.5, other, df, 0.01) for df in (0.5, 1e10, math.inf)]
    tests += [fixed.one_sample_t(mine, 1.1, 0.01), fixed.same_mean(mine, [1.0, 1.1]), fixed.same_mean(mine, [other])]
    assert all(0 <= test.p_value <= 1 for test in tests)
    assert all(math.isfinite(test.bound) for test in tests if test.bound is not None)
    assert 0 <= spread.chance_of_less(sd, 3, spread.Spread(other, math.inf)) <= 1
    assert min(sd, other) <= spread.pooled([sd, other], [2, 3]).sd <= max(sd, other)
    assert 0 < spread.prior([sd, other, 1.0], [2, 3, 3]).sd < math.inf


@pytest.mark.parametrize("df", [1.0, 1.3, 1.5, 2.5, 4.7])
def test_a_broken_number_of_degrees_of_freedom_costs_no_digits(df: float) -> None:
    """At one look from one seed the chance is the noncentral t's."""
    design = Design((1,), history_df=df)
    [found] = first_crossings(design, sequential.at_nominal(design, 0.01), 2.0)
    assert found == pytest.approx(float(nct.sf(sequential.at_nominal(design, 0.01)[0], df, 2.0)), abs=1e-12)


def test_a_gain_far_above_the_noise_keeps_its_digits() -> None:
    """There t is mu / chi."""
    for mu, critical in ((190.0, 20.0), (190.0, 30.0), (2000.0, 300.0)):
        found = first_crossings(Design((40,)), (critical,), mu / math.sqrt(40))[0]
        rough = chi.cdf(mu / critical * math.sqrt(39), 39)
        assert found == pytest.approx(rough, abs=2e-3)
        if mu < 1000:
            assert found == pytest.approx(float(nct.sf(critical, 39, mu)), abs=1e-9)
