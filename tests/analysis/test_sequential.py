"""The exact sequential t-test against published numbers, scipy, closed forms and simulated runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import erfcx, hyp1f1, pbdv

from analysis.stats.recursion import Design, first_crossings, log_likelihood_ratio
from analysis.stats.sequential import (
    BOUNDARIES,
    FLAT,
    OBRIEN_FLEMING,
    POCOCK,
    at_nominal,
    boundary,
    e_value,
    expected_seeds,
    nominal_level,
    power,
    predictive_power,
    sequential_p,
    spending,
    stagewise_p,
    type_one_error,
)

Array = NDArray[np.float64]
DEFAULT = Design(tuple(range(3, 11)))
SHORT = Design((3, 4, 5))
KINDS: dict[str, dict[str, Any]] = {
    "one sample": {},
    "against three control runs": {"control": 3},
    "paired": {"in_step": True},
    "with a history": {"history_df": 20},
    "against a control, with a history": {"control": 3, "history_df": 14.18},
}
kinds = pytest.mark.parametrize("kind", KINDS)
boundaries = pytest.mark.parametrize("rule", BOUNDARIES)
few = settings(max_examples=8, deadline=None)
some = settings(max_examples=25, deadline=None)


def tenths(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda tenth: tenth / 10)


# -- numbers of another implementation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "at_one_percent", "at_five_percent", "type_one"),
    [
        (5, 0.00422827, 0.02470999, 0.022121),
        (6, 0.00341823, 0.02054627, 0.026471),
        (8, 0.00257575, 0.01598865, 0.033370),
        (10, 0.00213596, 0.01350619, 0.038742),
        (12, 0.00186253, 0.01192281, 0.043134),
    ],
)
def test_the_flat_boundary_of_looks_after_every_seed_from_three(
    last: int, at_one_percent: float, at_five_percent: float, type_one: float
) -> None:
    design = Design(tuple(range(3, last + 1)))
    assert nominal_level(design, 0.01) == pytest.approx(at_one_percent, abs=5.1e-9)
    assert nominal_level(design, 0.05) == pytest.approx(at_five_percent, abs=5.1e-9)
    assert type_one_error(design, at_nominal(design, 0.01)) == pytest.approx(type_one, abs=5.1e-7)


@pytest.mark.parametrize(
    ("design", "nominal"),
    [
        (DEFAULT, 0.0021359554137944),
        (Design((3, 5, 8)), 0.0037488103039188),
        (Design(tuple(range(2, 11))), 0.0017659605808096),
        (Design(DEFAULT.looks, history_df=20), 0.0026496263326463),
        (Design(tuple(range(1, 11)), history_df=20), 0.0019172630589386),
        (Design(DEFAULT.looks, control=3, history_df=20), 0.0040334669028218),
    ],
)
def test_the_flat_boundary_of_other_designs(design: Design, nominal: float) -> None:
    assert nominal_level(design, 0.01) == pytest.approx(nominal, rel=1e-7)
    assert boundary(design, 0.01)[-1] == pytest.approx(
        scipy.stats.t.isf(nominal, design.degrees(design.looks[-1])), rel=1e-7
    )


@pytest.mark.parametrize(
    ("delta", "passed", "seeds", "power_digits", "seeds_digits"),
    [
        (2, 0.980, 6.19, 0.9796609746, 6.1931467281),
        (3, 1.000, 4.84, 0.9999888194, 4.8355118019),
        (5, 1.000, 3.92, 1.0, 3.9162131155),
    ],
)
def test_what_the_default_design_reaches_and_costs(
    delta: float, passed: float, seeds: float, power_digits: float, seeds_digits: float
) -> None:
    criticals = boundary(DEFAULT, 0.01)
    chance, needed = power(DEFAULT, criticals, delta), expected_seeds(DEFAULT, criticals, delta)
    assert chance == pytest.approx(passed, abs=5e-4)
    assert needed == pytest.approx(seeds, abs=5e-3)
    assert chance == pytest.approx(power_digits, abs=1e-9)
    assert needed == pytest.approx(seeds_digits, rel=1e-9)


def test_the_source_record_is_worth_less_when_ten_seeds_were_allowed() -> None:
    assert sequential_p(DEFAULT, [9.039720939803]) == pytest.approx(0.0249693262735, rel=1e-9)


def test_stopping_after_five_seeds_has_a_p_value_of_its_own() -> None:
    assert stagewise_p(DEFAULT, boundary(DEFAULT, 0.01), 2, 6.1) == pytest.approx(0.0050023286, abs=5.1e-11)


def test_the_evidence_of_the_source_record() -> None:
    assert float(e_value(9.039720939803, 2, 3)) == pytest.approx(30.3892514557, rel=1e-11)
    assert float(e_value(9.039720939803, 2, 3, (2.0,))) == pytest.approx(22.0310639658, rel=1e-11)


def test_obrien_fleming_spends_late() -> None:
    criticals = boundary(DEFAULT, 0.01, OBRIEN_FLEMING)
    early = [441.4070990111, 29.2135246375, 10.5076905224, 6.3871736795]
    late = [4.7736887911, 3.9343639926, 3.4193280284, 3.0679848197]
    assert criticals == pytest.approx(early + late, rel=1e-7)
    assert spending(0.01, OBRIEN_FLEMING, 0.5) == pytest.approx(0.0002697169566, rel=1e-9)
    assert spending(0.01, POCOCK, 0.5) == pytest.approx(0.0062011451, abs=5.1e-11)


def test_the_open_ended_test_keeps_its_level_and_finds_gains() -> None:
    criticals = [brentq(lambda t, n=n: float(e_value(t, n - 1, n)) - 100, 0, 100) for n in DEFAULT.looks]
    assert type_one_error(DEFAULT, criticals) == pytest.approx(0.0042, abs=5e-5)
    assert power(DEFAULT, criticals, 2) == pytest.approx(0.90, abs=5e-3)
    assert expected_seeds(DEFAULT, criticals, 2) == pytest.approx(7.2, abs=0.05)
    assert power(DEFAULT, criticals, 3) == pytest.approx(0.999, abs=5e-4)


# -- a single look, which is a plain t-test ----------------------------------------------------------------------------


@some
@given(st.integers(2, 40), st.sampled_from(list(KINDS)), st.floats(0, 4), st.floats(0.001, 0.2))
def test_one_look_has_the_power_of_a_noncentral_t(n: int, kind: str, delta: float, alpha: float) -> None:
    design = Design((n,), **KINDS[kind])
    criticals, df = boundary(design, alpha), design.degrees(n)
    assert criticals == pytest.approx((scipy.stats.t.isf(alpha, df),), rel=1e-9)
    expected = scipy.stats.nct.sf(criticals[0], df, delta * math.sqrt(design.information(n)))
    assert power(design, criticals, delta) == pytest.approx(expected, abs=1e-7)
    assert type_one_error(design, criticals) == pytest.approx(alpha, rel=1e-9)
    assert expected_seeds(design, criticals, delta) == n


@some
@given(st.floats(0, 40), st.integers(1, 30), st.floats(0.5, 30), st.floats(0.1, 5))
def test_the_evidence_is_a_ratio_of_two_densities(t: float, df: int, information: float, delta: float) -> None:
    expected = scipy.stats.nct.pdf(t, df, delta * math.sqrt(information)) / scipy.stats.t.pdf(t, df)
    assert float(e_value(t, df, information, (delta,))) == pytest.approx(expected, rel=1e-8)


def test_the_evidence_of_many_t_at_once() -> None:
    ts = np.array([-1.0, 0.0, 2.5, 9.0])
    assert e_value(ts, 4, 5) == pytest.approx([float(e_value(t, 4, 5)) for t in ts], rel=1e-14)
    assert np.all(np.diff(e_value(ts, 4, 5)) > 0)


@some
@given(st.integers(1, 60), st.floats(0, 25), st.floats(0, 1))
def test_the_likelihood_ratio_is_a_confluent_hypergeometric(df: int, mu: float, v: float) -> None:
    x, d = mu * v, df + 1
    gammas = math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    series = hyp1f1(d / 2, 0.5, x * x / 2) + math.sqrt(2) * x * gammas * hyp1f1((d + 1) / 2, 1.5, x * x / 2)
    found = float(log_likelihood_ratio(np.asarray(v), df, mu))
    assert found == pytest.approx(math.log(series) - mu * mu / 2, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("mu", [1.0, 37.0, 100.0, 300.0])
def test_the_likelihood_ratio_does_not_overflow(mu: float) -> None:
    v = np.linspace(-1, 1, 201)
    for df in (1, 2, 9, 50):
        found = log_likelihood_ratio(v, df, mu)
        assert np.all(np.isfinite(found))
        assert np.all(np.diff(found) > 0)
        assert found[100] == pytest.approx(-mu * mu / 2, rel=1e-11)
    x = mu * v[100:]
    rayleigh = np.logaddexp(
        0, np.log(np.maximum(x, 1e-300)) + math.log(2 * math.pi) / 2 + x * x / 2 + scipy.stats.norm.logcdf(x)
    )
    assert log_likelihood_ratio(v[100:], 1, mu) == pytest.approx(rayleigh - mu * mu / 2, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("mu", [1.0, 10.0, 37.0, 300.0])
def test_the_likelihood_ratio_of_a_worse_mean_has_a_closed_form(mu: float) -> None:
    x = mu * np.linspace(0, 1, 101)
    worse = np.log(1 - x * math.sqrt(math.pi / 2) * erfcx(x / math.sqrt(2)))
    assert log_likelihood_ratio(-x / mu, 1, mu) + mu * mu / 2 == pytest.approx(worse, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("df", [1, 2, 3, 5])
def test_the_likelihood_ratio_is_a_parabolic_cylinder_function(df: int) -> None:
    for x in np.linspace(-20, 20, 41):
        scale = math.lgamma(df + 1) - math.lgamma((df + 1) / 2) - (df - 1) / 2 * math.log(2)
        expected = math.log(pbdv(-df - 1, -x)[0]) + x * x / 4 + scale
        found = float(log_likelihood_ratio(np.asarray(x / 20), df, 20.0)) + 200
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_gain_far_beyond_the_noise_is_always_found() -> None:
    criticals = boundary(SHORT, 0.01)
    assert power(SHORT, criticals, 200.0) == pytest.approx(1, abs=1e-12)
    assert expected_seeds(SHORT, criticals, 200.0) == pytest.approx(3, abs=1e-9)


# -- what holds for every design ---------------------------------------------------------------------------------------


@kinds
@boundaries
def test_a_boundary_crosses_as_often_as_it_says(kind: str, rule: str) -> None:
    design = Design((3, 4, 6), **KINDS[kind])
    assert type_one_error(design, boundary(design, 0.01, rule)) == pytest.approx(0.01, rel=1e-7)


@few
@given(
    st.sampled_from(list(KINDS)),
    st.sampled_from(BOUNDARIES),
    st.floats(0.001, 0.3),
    st.lists(st.integers(2, 8), min_size=1, max_size=3, unique=True).map(sorted),
)
def test_any_looks_keep_any_level(kind: str, rule: str, alpha: float, looks: list[int]) -> None:
    design = Design(tuple(looks), **KINDS[kind])
    criticals = boundary(design, alpha, rule)
    assert type_one_error(design, criticals) == pytest.approx(alpha, rel=1e-6)
    assert stagewise_p(design, criticals, len(looks) - 1, criticals[-1]) == pytest.approx(alpha, rel=1e-6)


@boundaries
def test_a_spending_boundary_has_spent_its_share_at_every_look(rule: str) -> None:
    criticals = boundary(SHORT, 0.01, rule)
    spent = np.cumsum(first_crossings(SHORT, criticals, 0.0)).tolist()
    assert spent[-1] == pytest.approx(0.01, rel=1e-7)
    if rule == FLAT:
        assert spent[0] == pytest.approx(nominal_level(SHORT, 0.01), rel=1e-9)
    else:
        assert spent == pytest.approx([spending(0.01, rule, n / 5) for n in SHORT.looks], rel=1e-7)


def test_spending_starts_at_nothing_and_ends_at_alpha() -> None:
    for rule in (POCOCK, OBRIEN_FLEMING):
        shares = [spending(0.02, rule, share) for share in (1e-9, 0.25, 0.5, 0.75, 1)]
        assert shares == sorted(shares)
        assert shares[0] == pytest.approx(0, abs=1e-9)
        assert shares[-1] == pytest.approx(0.02, rel=1e-12)


@few
@given(st.sampled_from(list(KINDS)), st.tuples(st.floats(0, 6), st.floats(0, 6)).map(sorted))
def test_power_rises_and_cost_falls_with_the_gain(kind: str, deltas: list[float]) -> None:
    design = Design((3, 4, 5), **KINDS[kind])
    criticals = at_nominal(design, 0.004)
    low, high = (1 - np.cumsum(first_crossings(design, criticals, delta)) for delta in deltas)
    assert np.all(high <= low + 1e-6)
    assert np.all(np.diff(low) <= 1e-6)
    assert power(design, criticals, deltas[0]) == pytest.approx(1 - low[-1], abs=1e-12)
    assert expected_seeds(design, criticals, deltas[0]) == pytest.approx(3 + low[0] + low[1], rel=1e-9)


@pytest.mark.parametrize("kind", ["one sample", "against three control runs", "paired"])
@few
@given(ts=st.lists(tenths(-50, 600), min_size=1, max_size=3), more=tenths(0, 300), data=st.data())
def test_a_sequential_p_is_never_below_the_smallest_p_and_falls_with_t(
    kind: str, ts: list[float], more: float, data: st.DataObject
) -> None:
    design = Design((3, 4, 5), **KINDS[kind])
    smallest = min(scipy.stats.t.sf(t, design.degrees(n)) for n, t in zip(design.looks, ts, strict=False))
    p = sequential_p(design, ts)
    assert smallest * (1 - 1e-9) <= p <= 1
    look = data.draw(st.integers(0, len(ts) - 1))
    better = [t + more * (k == look) for k, t in enumerate(ts)]
    assert sequential_p(design, better) <= p * (1 + 1e-9)


@pytest.mark.parametrize("df", [20, 44])
@pytest.mark.parametrize("nominal", [1e-2, 1e-4, 1e-6])
def test_a_sequential_p_with_a_history_is_never_below_the_smallest_p(df: float, nominal: float) -> None:
    design = Design((3, 5, 8), history_df=df)
    t = float(scipy.stats.t.isf(nominal, 2 + df))
    assert nominal < sequential_p(design, [t]) <= 3 * nominal


@few
@given(st.lists(tenths(0, 120), min_size=1, max_size=3), st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_a_sequential_p_is_below_alpha_exactly_when_the_flat_boundary_was_crossed(
    ts: list[float], alpha: float
) -> None:
    crossed = any(t > c for t, c in zip(ts, boundary(SHORT, alpha), strict=False))
    assert (sequential_p(SHORT, ts) < alpha) == crossed


@pytest.mark.parametrize("ts", [(1000.0,), (8.0, 7.0), (1.0, 2.0, 3.4), (-1.0, 0.5)])
def test_a_sequential_p_is_below_alpha_exactly_when_the_spending_boundary_was_crossed(ts: tuple[float, ...]) -> None:
    p = sequential_p(SHORT, ts, OBRIEN_FLEMING)
    assert p >= min(scipy.stats.t.sf(t, n - 1) for n, t in zip(SHORT.looks, ts, strict=False))
    for alpha in (0.01, p * 0.999, p * 1.001):
        if 1e-11 < alpha < 0.5:
            crossed = any(t >= c for t, c in zip(ts, boundary(SHORT, alpha, OBRIEN_FLEMING), strict=False))
            assert (p < alpha) == crossed
    better = [t + 0.5 for t in ts]
    assert sequential_p(SHORT, better, OBRIEN_FLEMING) <= p * 1.0001


@pytest.mark.parametrize("nominal", [1e-9, 2e-10, 5e-11, 1e-20, 1e-200])
def test_a_tiny_sequential_p_is_the_sum_over_the_looks(nominal: float) -> None:
    t = float(scipy.stats.t.isf(nominal, 2))
    assert sequential_p(SHORT, [t]) == pytest.approx(3 * nominal, rel=0.01, abs=0)
    assert sequential_p(SHORT, [t]) <= 3 * nominal * (1 + 1e-9)


@pytest.mark.parametrize("rule", [FLAT, OBRIEN_FLEMING])
def test_no_gain_at_all_is_worth_nothing(rule: str) -> None:
    assert sequential_p(SHORT, [-2.0, 0.0], rule) == 1
    assert sequential_p(SHORT, [-math.inf, -1.0, -8.0], rule) == 1


@few
@given(
    st.sampled_from(list(KINDS)),
    st.tuples(st.floats(-10, 30), st.floats(-10, 30)).map(sorted),
    st.floats(0, 4),
    st.integers(0, 1),
)
def test_the_chance_of_passing_is_a_chance_and_rises_with_t(
    kind: str, ts: list[float], delta: float, look: int
) -> None:
    design = Design((3, 4, 6), **KINDS[kind])
    criticals = at_nominal(design, 0.004)
    low, high = (predictive_power(design, criticals, look, t, [delta], [1.0]) for t in ts)
    assert 0 <= low <= high + 1e-7
    assert high <= 1


def test_after_the_last_look_nothing_can_cross() -> None:
    assert predictive_power(SHORT, boundary(SHORT, 0.01), 2, 3.0, [2.0], [1.0]) == 0


def test_the_chance_of_passing_is_zero_where_the_boundary_is_out_of_reach() -> None:
    assert predictive_power(DEFAULT, boundary(DEFAULT, 0.01), 6, 3.0, [2.0], [1.0]) == pytest.approx(0, abs=1e-12)
    assert predictive_power(DEFAULT, boundary(DEFAULT, 0.01), 6, 3.6, [2.0], [1.0]) > 0.01


@boundaries
def test_a_stop_at_the_last_boundary_is_worth_alpha_and_an_earlier_one_less(rule: str) -> None:
    criticals = boundary(SHORT, 0.01, rule)
    worth = [stagewise_p(SHORT, criticals, look, criticals[look]) for look in range(3)]
    assert worth == sorted(worth)
    assert worth[-1] == pytest.approx(0.01, rel=1e-7)
    assert worth[0] == pytest.approx(scipy.stats.t.sf(criticals[0], 2), rel=1e-9)


@few
@given(st.tuples(tenths(1, 150), tenths(1, 150)).map(sorted), st.integers(0, 2))
def test_a_stop_with_a_better_t_is_stronger_evidence(ts: list[float], look: int) -> None:
    criticals = boundary(SHORT, 0.01)
    low, high = (stagewise_p(SHORT, criticals, look, t) for t in ts)
    assert scipy.stats.t.sf(ts[1], 2 + look) * (1 - 1e-9) <= high <= low + 1e-9


@pytest.mark.parametrize(
    "bad",
    [
        {"looks": ()},
        {"looks": (3, 3)},
        {"looks": (5, 4)},
        {"looks": (0, 1), "history_df": 20},
        {"looks": (-1, 3), "history_df": 20},
        {"looks": (1, 2)},
        {"looks": (1, 2), "control": 1},
        {"looks": (1, 2), "in_step": True},
    ],
)
def test_looks_that_cannot_be_taken_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="looks"):
        Design(**bad)


def test_no_boundary_stops_at_a_t_of_zero_or_less() -> None:
    for t in (0.0, -2.0):
        with pytest.raises(ValueError, match="above 0"):
            stagewise_p(DEFAULT, boundary(DEFAULT, 0.01), 1, t)


@pytest.mark.parametrize("history_df", [0, 20, 44, 200, 1000])
@pytest.mark.parametrize("looks", [(3, 4), (3, 5), (3, 8)])
def test_the_chain_keeps_the_law_of_t_at_every_df(looks: tuple[int, int], history_df: float) -> None:
    """Where the first look never stops, the second one's level is its own nominal one."""
    for design in (
        Design(looks, history_df=history_df),
        Design(looks, in_step=True, history_df=history_df),
        Design(looks, control=3, history_df=history_df),
    ):
        for nominal in (0.3, 0.003, 1e-6):
            found = type_one_error(design, (1e12, at_nominal(design, nominal)[1]))
            assert found == pytest.approx(nominal, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("history_df", [0, 20, 44, 200])
@pytest.mark.parametrize("looks", [(3, 10), (3, 5, 8), tuple(range(3, 11))])
def test_a_sequential_p_lies_between_the_smallest_p_and_their_sum(looks: tuple[int, ...], history_df: float) -> None:
    design = Design(looks, history_df=history_df)
    for nominal in (1e-3, 1e-6, 1e-8, 1e-9, 1e-14, 1e-200):
        p = sequential_p(design, at_nominal(design, nominal)[:1])
        assert nominal * (1 - 1e-3) <= p <= nominal * len(looks) * (1 + 1e-3)


def test_a_control_or_a_history_allows_a_look_after_one_seed() -> None:
    assert Design((1, 2), control=2).degrees(1) == 1
    assert Design((1, 2), history_df=8).degrees(1) == 8
    assert Design((2, 3), in_step=True).degrees(2) == 2


# -- simulated runs ----------------------------------------------------------------------------------------------------

PATHS, BLOCK = 1_000_000, 100_000


def simulated(looks: tuple[int, ...], delta: float, control: int, in_step: bool, history_df: int) -> Iterator[Array]:
    """t at every look of real normal runs, block by block: (BLOCK, looks)."""
    random = np.random.default_rng(20260405)
    counts, width = np.array(looks), looks[-1]
    for _ in range(PATHS // BLOCK):
        gain, within = running(random.standard_normal((BLOCK, width)) + delta, counts)
        worth, df = counts.astype(float), counts - 1.0
        if control or in_step:
            others = np.full_like(counts, control) if control else counts
            mean, scatter = running(random.standard_normal((BLOCK, others[-1])), others)
            gain, within = gain - mean, within + scatter
            worth, df = counts * others / (counts + others), df + others - 1
        if history_df:
            within, df = within + random.chisquare(history_df, (BLOCK, 1)), df + history_df
        yield gain * np.sqrt(worth) / np.sqrt(within / df)


def running(values: Array, counts: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and sum of squares about it of the first so many values."""
    mean = np.cumsum(values, axis=1)[:, counts - 1] / counts
    return mean, np.cumsum(values**2, axis=1)[:, counts - 1] - counts * mean**2


def near(found: float, expected: float, error: float) -> bool:
    return abs(found - expected) <= 3 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "looks", "control", "in_step", "history_df", "deltas"),
    [
        (FLAT, DEFAULT.looks, 0, False, 0, (0, 1, 2, 3)),
        (FLAT, DEFAULT.looks, 3, False, 0, (0, 1, 2, 3)),
        (FLAT, DEFAULT.looks, 0, True, 0, (0, 1, 2, 3)),
        (FLAT, DEFAULT.looks, 0, False, 20, (0, 1, 2)),
        (FLAT, DEFAULT.looks, 3, False, 20, (0, 1)),
        (FLAT, (3, 5, 8), 0, False, 0, (0, 2)),
        (FLAT, (3, 5, 8), 0, True, 0, (0, 2)),
        (OBRIEN_FLEMING, DEFAULT.looks, 0, False, 0, (0, 1, 2)),
        (POCOCK, DEFAULT.looks, 3, False, 0, (0, 2)),
    ],
)
def test_a_million_sweeps_stop_as_often_and_as_early_as_computed(
    rule: str, looks: tuple[int, ...], control: int, in_step: bool, history_df: int, deltas: tuple[float, ...]
) -> None:
    design = Design(looks, control=control, in_step=in_step, history_df=history_df)
    criticals = boundary(design, 0.01, rule)
    for delta in deltas:
        passed, seeds, squares = 0, 0.0, 0.0
        for ts in simulated(looks, delta, control, in_step, history_df):
            crossed = ts >= criticals
            stopped = np.where(crossed.any(axis=1), np.array(looks)[crossed.argmax(axis=1)], looks[-1])
            passed += int(crossed.any(axis=1).sum())
            seeds += float(stopped.sum())
            squares += float((stopped.astype(float) ** 2).sum())
        chance = 0.01 if delta == 0 else power(design, criticals, delta)
        assert near(passed / PATHS, chance, math.sqrt(chance * (1 - chance) / PATHS)), delta
        mean = seeds / PATHS
        error = math.sqrt((squares / PATHS - mean**2) / PATHS)
        assert near(mean, expected_seeds(design, criticals, delta), error), delta


@pytest.mark.slow
@pytest.mark.parametrize(
    ("control", "in_step", "history_df", "look", "low", "high", "delta"),
    [
        (0, False, 0, 0, 1.5, 3.5, 1.0),
        (0, False, 0, 2, 1.5, 3.5, 1.0),
        (3, False, 0, 2, 1.0, 2.5, 2.0),
        (0, True, 0, 1, 1.0, 2.5, 1.5),
        (0, False, 20, 3, 1.0, 2.5, 1.0),
    ],
)
def test_simulated_sweeps_go_on_to_pass_as_often_as_computed(
    control: int, in_step: bool, history_df: int, look: int, low: float, high: float, delta: float
) -> None:
    """Among the sweeps with t between low and high, each weighed against the chance that goes with its own t."""
    design = Design(DEFAULT.looks, control=control, in_step=in_step, history_df=history_df)
    criticals = boundary(design, 0.01)
    grid = np.linspace(low, high, 21)
    chances = [predictive_power(design, criticals, look, t, [delta], [1.0]) for t in grid]
    excess, variance = 0.0, 0.0
    for ts in simulated(DEFAULT.looks, delta, control, in_step, history_df):
        crossed = ts >= criticals
        here = (ts[:, look] > low) & (ts[:, look] < high) & ~crossed[:, : look + 1].any(axis=1)
        chance = np.interp(ts[here, look], grid, chances)
        excess += float((crossed[here, look + 1 :].any(axis=1) - chance).sum())
        variance += float((chance * (1 - chance)).sum())
    assert variance > 10_000
    assert near(excess, 0, math.sqrt(variance))


@pytest.mark.slow
def test_simulated_sweeps_that_stop_are_ordered_as_computed() -> None:
    criticals, cases = boundary(DEFAULT, 0.01), [(look, t) for look in (1, 3, 7) for t in (3.0, 1.0, 0.1)]
    found = dict.fromkeys(cases, 0)
    for ts in simulated(DEFAULT.looks, 0, 0, False, 0):
        crossed = np.logical_or.accumulate(ts >= criticals, axis=1)
        for look, t in cases:
            found[look, t] += int((crossed[:, look - 1] | (ts[:, look] >= t)).sum())
    for (look, t), count in found.items():
        expected = stagewise_p(DEFAULT, criticals, look, t)
        assert near(count / PATHS, expected, math.sqrt(expected * (1 - expected) / PATHS)), (look, t)
