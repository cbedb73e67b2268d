"""How t moves with one more seed, and the chance that it never crosses a boundary: the chain behind analysis.stats.sequential.

Write v = t / sqrt(nu + t^2), the cosine of the angle between data and contrast. Under H0 all directions of the data's
d = nu + 1 dimensions are equally likely, so at the first look v has the density of cos(th), th proportional to
sin^(d-2). One more seed adds a dimension and turns the contrast. With the information I (n for one sample,
1 / (1/n + 1/n0) for two), c = sqrt(I / I') and s = sqrt(1 - c^2),

    v' = R cos(b - b0),  R = sqrt(c^2 v^2 + s^2),  b0 = atan2(s, c v),  b with density proportional to cos^(d-1),

and b is independent of v: a Markov chain in one variable. (Exact calculations for sequential t go back to Jennison &
Turnbull 1991.) A true gain of delta standard deviations multiplies every transition by the ratio of the likelihood
ratios after and before it (Doob's transform), because v is the maximal invariant and its likelihood ratio is the
density of the noncentral over the central t.

The recursion runs backwards. It carries the chance of no crossing from here on, or a sum of such chances, as a function
of v. That function is smooth except for square roots where a boundary comes into reach, R(v) = a. Each piece between
two such knots is a Chebyshev series in the root of the distance to its lower knot, and each integral is a Gauss rule in
the same variable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import betaln, gammaln

TERMS, NODES = 24, 32  # of each piece's series and integral; probabilities are right to an absolute 1e-9
NOTHING = 1e-12  # smaller terms at the end of a series are dropped: most series need half their terms
MOST_ROOTS = 7  # an older root has become its own eighth power, which is smooth to a series
Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

_FINE_X, _FINE_W = np.polynomial.legendre.leggauss(64)
_X, _W = np.polynomial.legendre.leggauss(NODES)
_U, _UW = (1 + _X) / 2, (1 + _X) / 2 * _W  # b = low + (high - low) u^2, db = 2 u (high - low) du
_T = (1 + chebyshev.chebpts1(TERMS)) / 2
_FEW, _MANY = (0.0, 8.0), (-4.0, -1.0, 1.0, 3.0, 5.0, 8.0, 16.0)  # knots in t below 12 df, and from 12 df on
_ARC = np.linspace(-math.pi / 2, math.pi / 2, 131)[1:-1]
_SIDES = np.array([-1.0, 1.0])  # of b0
_FIT = np.linalg.inv(chebyshev.chebvander(2 * _T - 1, TERMS - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One state of the chain: its information, its degrees of freedom, and the index of its look (None: no look)."""

    information: float
    df: float
    look: int | None


@dataclass(frozen=True, slots=True)
class Design:
    """When to look: after so many candidate seeds.

    - control: seeds of the control, all run before the first look; 0 tests one sample against a number.
    - paired: at every look the control has as many seeds as the candidate instead.
    - history_df: degrees of freedom of a standard deviation pooled from earlier records.
    """

    looks: tuple[int, ...]
    control: int = field(default=0, kw_only=True)
    paired: bool = field(default=False, kw_only=True)
    history_df: float = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.looks, self.looks[1:], strict=False))
        if not self.looks or not rising or self.looks[0] < 1 or self.degrees(self.looks[0]) <= 0:
            raise ValueError(f"looks are {self.looks}; they must rise, and the first must leave a degree of freedom.")

    def degrees(self, n: int) -> float:
        """Return the degrees of freedom of t at n candidate seeds."""
        control = n if self.paired else self.control
        return n + control - (2 if control else 1) + self.history_df

    def information(self, n: int) -> float:
        """Return what n candidate seeds are worth: t has the noncentrality delta sqrt(information)."""
        control = n if self.paired else self.control
        return 1 / (1 / n + 1 / control) if control else n

    def states(self, last: int) -> list[State]:
        """Return every state up to look `last`, seed by seed."""
        states: list[State] = []
        for n in range(self.looks[0], self.looks[last] + 1):
            df = self.degrees(n)
            if self.paired and states:  # the candidate's seed comes before the control's
                states.append(State(information=1 / (1 / n + 1 / (n - 1)), df=df - 1, look=None))
            look = self.looks.index(n) if n in self.looks else None
            states.append(State(information=self.information(n), df=df, look=look))
        return states


# -- one seed more -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expectation:
    """The expectation from a state on, as a function of v up to knots[-1]: one series a piece.

    `series` has a row for each term (TERMS at most) and a column for each piece.
    """

    knots: Array
    series: Array

    def __call__(self, piece: Indices, v: Array) -> Array:
        """Return the values at v of shape (n, m), where row i is in piece[i]."""
        low, high = self.knots[piece, None], self.knots[piece + 1, None]
        u = np.sqrt(np.clip((v - low) / (high - low), 0, 1))
        value: Array = chebyshev.chebval(2 * u - 1, self.series[:, piece, None], tensor=False)
        return value


def _spread(low: Array, high: Array) -> tuple[Array, Array]:
    """Return points and weights between bounds of any shape, dense near `low`. The points are along a new last axis."""
    width = (high - low)[..., None]
    return low[..., None] + width * _U**2, width * _UW


@lru_cache(maxsize=1024)
def _likelihood(df: float, mu: float) -> Any:
    """Return the function from v to log f_nct(t; df, mu) / f_t(t; df), a series on [-1, 1]; zero for mu = 0."""
    if mu == 0:
        return np.zeros_like
    degree = 40 + int(2 * abs(mu))
    ratio: Any = partial(log_likelihood_ratio, df=df, mu=mu)
    series = chebyshev.chebtrim(chebyshev.chebinterpolate(ratio, degree), NOTHING)
    return lambda v: chebyshev.chebval(v, series)


def log_likelihood_ratio(v: Array, df: float, mu: float) -> Array:
    """Return log f_nct(t; df, mu) / f_t(t; df) at v = t / sqrt(df + t^2), without overflow for any mu.

    The ratio is the mean of exp(mu v r - mu^2 / 2) over r ~ chi with df + 1 degrees of freedom. Its integrand
    r^df exp(-(r - mu v)^2 / 2) has one peak. Above the peak it falls at least as fast as a normal density and as an
    exponential one. A Gauss rule over the part above e^-60 gives 12 digits.
    t = 9.0397209398, df 2, mu = 2 sqrt(3): log 22.0310639658.
    """
    x = mu * np.asarray(v, dtype=float)
    peak = (x + np.sqrt(x * x + 4 * df)) / 2
    sd = 1 / np.sqrt(1 + df / peak**2)
    low, high = np.maximum(peak - 12 * sd, 0), peak + np.minimum(12, 12 * sd + 60 / np.maximum(-x, 1e-9))
    r = low[..., None] + (high - low)[..., None] * (1 + _FINE_X) / 2
    height = df * np.log(peak) - (peak - x) ** 2 / 2
    integral = np.sum(_FINE_W * np.exp(df * np.log(r) - (r - x[..., None]) ** 2 / 2 - height[..., None]), axis=-1)
    integral *= (high - low) / 2
    chi = (df - 1) / 2 * math.log(2) + gammaln((df + 1) / 2)
    ratio: Array = np.log(integral) + height + (x * x - mu * mu) / 2 - chi
    return ratio


def one_more(v: Array, state: State, following: State, after: _Expectation, delta: float) -> Array:
    """Return the mean of `after`, which holds at `following`, at v one seed earlier. A crossing there is worth 0."""
    c2 = state.information / following.information
    c, s = math.sqrt(c2), math.sqrt(1 - c2)
    radius, turn = np.sqrt(c2 * v * v + s * s), np.arctan2(s, c * v)
    before = _likelihood(state.df, delta * math.sqrt(state.information))(v[:, None])
    ratio = _likelihood(following.df, delta * math.sqrt(following.information))
    reach = np.arccos(np.clip(after.knots / radius[:, None], -1, 1))  # |b - b0| at each knot, falling
    reach[:, 0] = 2 * math.pi  # the lowest piece holds all the rest

    def density(b: Array, row: Indices) -> tuple[Array, Array]:
        """Return v' and the logarithm of its density at angles b."""
        there = np.clip(radius[row, None] * np.cos(b - turn[row, None]), -1, 1)
        return there, state.df * np.log(np.cos(b)) + ratio(there) - before[row]

    low, high = _where_it_counts(density(_ARC, np.arange(len(v)))[1])
    bounds = np.clip(turn[:, None, None] + _SIDES * reach[..., None], low[:, None, None], high[:, None, None])
    outer, inner = bounds[:, :-1], bounds[:, 1:]
    row, piece, side = some = np.nonzero(outer != inner)
    b, weight = _spread(outer[some], inner[some])
    there, logarithm = density(b, row)
    parts = -_SIDES[side] * np.sum(weight * np.exp(logarithm) * after(piece, there), axis=1)
    return np.bincount(row, parts, len(v)) / math.exp(betaln(0.5, (state.df + 1) / 2))


def _where_it_counts(logarithms: Array) -> tuple[Array, Array]:
    """Return the ends of the arc on which a density, given as logarithms on _ARC, is above e^-40 of its peak."""
    counts = logarithms > logarithms.max(axis=1, keepdims=True) - 40
    first, last = counts.argmax(axis=1), len(_ARC) - 1 - counts[:, ::-1].argmax(axis=1)
    ends = np.concatenate([[-math.pi / 2], _ARC, [math.pi / 2]])
    return ends[first], ends[last + 2]


def _bottom(df: float) -> float:
    """Return a v that chance undercuts with a probability below 1e-19 when there is no gain; a gain only raises v."""
    return -math.sqrt(-math.expm1(-90 / df))


def _roots(top: float, further: Array, c2: float) -> Array:
    """Return where the survival before a step has its square roots: where those after it come into reach, below `top`."""
    reached = np.sqrt((further[further**2 > 1 - c2] ** 2 - (1 - c2)) / c2)
    return reached[reached < top - 1e-9]


def _knots(df: float, top: float, roots: Array) -> Array:
    """Return the roots and enough other knots in between for a density one unit of t wide, whatever its df."""
    low, fixed = _bottom(df), [*roots, top]
    spaced = [
        v
        for t in (_FEW if df < 12 else _MANY)
        if low < (v := t / math.sqrt(df + t * t)) < top and all(abs(t - _t(x, df)) > 0.8 for x in fixed)
    ]
    return np.array([low, *sorted([*spaced, *roots]), top])


def _t(v: float, df: float) -> float:
    return v * math.sqrt(df / (1 - v * v)) if v < 1 else math.inf


def cosine(t: float, df: float) -> float:
    """Return v = t / sqrt(df + t^2)."""
    return t / math.sqrt(df + t * t) if math.isfinite(t) else 1.0


def expected_at(
    design: Design, criticals: Sequence[float], worth: Sequence[float], delta: float, first: int = 0
) -> _Expectation:
    """Return the expectation from state `first` on, where not having crossed at look k is worth worth[k]."""
    states = design.states(len(worth) - 1)
    tops = [1.0 if state.look is None else cosine(criticals[state.look], state.df) for state in states]
    knots = _knots(states[-1].df, tops[-1], np.array([]))
    after, roots = _Expectation(knots, np.full((1, len(knots) - 1), float(worth[-1]))), np.array([tops[-1]])
    for i in range(len(states) - 2, first - 1, -1):
        state, following = states[i], states[i + 1]
        roots = _roots(tops[i], roots, state.information / following.information)
        knots = _knots(state.df, tops[i], roots)
        v = knots[:-1, None] + (knots[1:] - knots[:-1])[:, None] * _T**2
        values = one_more(v.ravel(), state, following, after, delta).reshape(v.shape)
        series = _FIT @ values.T
        series[0] += 0 if state.look is None else worth[state.look]
        count = 1 + np.max(np.nonzero(np.abs(series).max(axis=1) > NOTHING)[0], initial=0)
        after = _Expectation(knots, series[:count])
        roots = np.append(roots, tops[i] if tops[i] < 1 else [])[-MOST_ROOTS:]
    return after


def surviving(last: int) -> list[float]:
    """Return the worth of each look that makes `expected` the chance that none up to `last` crosses."""
    return [*[0.0] * last, 1.0]


def no_crossing(design: Design, criticals: Sequence[float], last: int, delta: float) -> float:
    """Return the chance that none of the looks up to `last` crosses."""
    return min(max(expected(design, criticals, surviving(last), delta), 0.0), 1.0)


def expected(design: Design, criticals: Sequence[float], worth: Sequence[float], delta: float) -> float:
    """Return the mean, over all courses, of the sum of worth[k] over the looks up to which nothing has crossed."""
    if min(criticals[: len(worth)]) <= 0:
        raise ValueError(f"critical t are {criticals}; they must be above 0.")
    after = expected_at(design, criticals, worth, delta)
    n = design.looks[0]
    df = design.degrees(n)
    ratio = _likelihood(df, delta * math.sqrt(design.information(n)))

    def density(th: Array) -> Array:
        """Return the logarithm of the density of the first look's angle."""
        logarithms: Array = (df - 1) * np.log(np.sin(th)) + ratio(np.cos(th))
        return logarithms

    low, high = _where_it_counts(density(_ARC + math.pi / 2)[None, :])
    angle = np.clip(np.arccos(after.knots), low + math.pi / 2, high + math.pi / 2)  # falling
    th, weight = _spread(angle[:-1], angle[1:])
    total = np.sum(weight * np.exp(density(th)) * after(np.arange(len(th)), np.cos(th)))
    return -float(total) / math.exp(betaln(0.5, df / 2))
