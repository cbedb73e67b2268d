"""The chance that each look of a sequential t-test is the first to cross its boundary, for every design and gain.

What is known about the gain after look k is in t_k alone: given t_k, whether an earlier look crossed does not depend on
the gain. So one function of t for each look, computed without a gain, serves all gains and all later boundaries:

    q_k(t) = P(no look before k crossed | t_k = t),    P_delta(k is the first to cross) = integral of q_k f_k from c_k,

where f_k is the density of the noncentral t with noncentrality delta sqrt(I_k). I is the information, n for one sample
and 1 / (1/n + 1/n0) for two. One pass takes q from look to look, q_1 = 1:

    q_{k+1}(t') = E[q_k(t_k); t_k < c_k | t_{k+1} = t'].

Write t = sqrt(df) tan(a); sin(a) is the cosine between data and contrast. Given a', the rest of the data has a
uniform direction. Taking m degrees of freedom away again is two moves, each by one random angle x:

- The contrast turns back, and one degree of freedom goes, s^2 = 1 - I_k / I_{k+1} and c^2 = 1 - s^2:
  tan(a) = (c tan(a') - s sin(x)) / cos(x), the density of x proportional to cos^(df-1) x, df those that remain.
- The other m - 1 go: tan(a) = tan(a') / cos(x), density cos^(df-1) x sin^(m-2) x.

The first is t = c t' sqrt((df + tau^2) / (df + 1)) - s tau with tau Student's t of df: a bridge, which is Brownian for
known spreads. Sufficiency: any likelihood ratio of the t so far is that of the last one (Hall, Wijsman & Ghosh 1965).
Exact boundaries of sequential t: Jennison & Turnbull 1991.

q falls like a square root where a boundary goes out of reach, and has weaker kinks at sin(a) = s and -s; analysis.stats.pieces
has series and integrals that know them. Reached: every chance is right to an absolute 1e-10. (The worst of 200 random
designs, with gaps, pairs, controls and histories, is off by 8.4e-12.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.special import poch

from analysis.stats.moves import NEARER, Back, is_rough
from analysis.stats.pieces import Array, Pieces, fitted, graded, mean, separate

TOLERANCE = 1e-9  # of the last terms of a series; a chance of crossing has less than a tenth of it
AS_GOOD_AS_KNOWN = 1e10  # degrees of freedom; more are taken for so many
LARGEST_MU = 1e7  # gain or noncentrality; so many standard deviations are as good as infinitely many
MOST_KINKS = 8  # an older one is smooth to a series
_X, _W = np.polynomial.legendre.leggauss(80)
_U2, _U2_WEIGHT = (1 + _X) ** 2 / 4, (1 + _X) / 2 * _W  # dense near the lower end, where r^df may be rough


@dataclass(frozen=True, slots=True)
class Design:
    """When to look: after so many candidate seeds.

    - control: seeds of the control, all run before the first look; 0 tests one sample against a number.
    - in_step: at every look the control has as many seeds as the candidate instead.
    - history_df: degrees of freedom of a standard deviation pooled from earlier records.
    """

    looks: tuple[int, ...]
    control: int = field(default=0, kw_only=True)
    in_step: bool = field(default=False, kw_only=True)
    history_df: float = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.looks, self.looks[1:], strict=False))
        if not self.looks or not rising or self.looks[0] < 1 or self.degrees(self.looks[0]) <= 0:
            raise ValueError(f"looks are {self.looks}; they must rise, and the first must leave a degree of freedom.")

    def degrees(self, n: int) -> float:
        """Return the degrees of freedom of t at n candidate seeds."""
        control = n if self.in_step else self.control
        return n + control - (2 if control else 1) + self.history_df

    def information(self, n: int) -> float:
        """Return what n candidate seeds are worth: t has the noncentrality delta sqrt(information)."""
        control = n if self.in_step else self.control
        return 1 / (1 / n + 1 / control) if control else n

    def known(self, look: int) -> float:
        """Return the degrees of freedom at a look (counted from 0), or what is as good as infinitely many."""
        return min(self.degrees(self.looks[look]), AS_GOOD_AS_KNOWN)


# -- the density of t ----------------------------------------------------------------------------------------------------


def cosine(t: float, df: float) -> float:
    """Return t / sqrt(df + t^2)."""
    return math.sin(angle_of(t, df))


def angle_of(t: float, df: float) -> float:
    """Return the angle a with t = sqrt(df) tan(a)."""
    return math.atan(t / math.sqrt(min(df, AS_GOOD_AS_KNOWN)))


def log_likelihood_ratio(v: Array, df: float, mu: float, rest: Array | None = None) -> Array:
    """Return log f_nct(t; df, mu) / f_t(t; df) at v = t / sqrt(df + t^2), without overflow for any mu.

    The ratio is the mean of exp(mu v r - mu^2 / 2) over r ~ chi with df + 1 degrees of freedom. Its integrand
    r^df exp(-(r - mu v)^2 / 2) has one peak, at sqrt(df) e^h with sinh(h) = mu v / (2 sqrt(df)), from which all is
    measured: so large df cancel nothing. Above the peak it falls at least as fast as a normal density and as an
    exponential one. A Gauss rule over the part above e^-60 gives 12 digits. `rest` is 1 - v^2, where it is known better.
    t = 9.0397209398, df 2, mu = 2 sqrt(3): log 22.0310639658.
    """
    v, df, mu = np.asarray(v, dtype=float), min(df, AS_GOOD_AS_KNOWN), min(mu, LARGEST_MU)
    h = np.arcsinh(mu * v / (2 * math.sqrt(df)))
    height = df * (h - np.expm1(-2 * h) / 2) - mu * mu * ((1 - v) * (1 + v) if rest is None else rest) / 2
    ratio: Array = height + np.log(_about_the_peak(h, df) / _about_the_peak(np.zeros(()), df))
    return ratio


def _about_the_peak(h: Array, df: float) -> Array:
    """Return the integral of (r / peak)^df e^(...), 1 at its peak sqrt(df) e^h."""
    peak, x = math.sqrt(df) * np.exp(h), 2 * math.sqrt(df) * np.sinh(h)
    sd = 1 / np.sqrt(1 + df / peak**2)
    low, high = np.maximum(-12 * sd, -peak), np.minimum(12, 12 * sd + 60 / np.maximum(-x, 1e-9))
    beyond = low[..., None] + (high - low)[..., None] * _U2
    share = beyond / peak[..., None]
    height = df * (np.log1p(share) - share) - beyond**2 / 2
    integral: Array = np.sum(_U2_WEIGHT * np.exp(height), axis=-1) * (high - low)
    return integral


def _log_density(angle: Array, df: float, mu: float) -> Array:
    """Return the logarithm of the density of t's angle."""
    central: Array = (1 - df) / 2 * np.log1p(np.tan(angle) ** 2) + math.log(poch(df / 2, 0.5) / math.sqrt(math.pi))
    if mu > 0:
        central += log_likelihood_ratio(np.sin(angle), df, mu, np.cos(angle) ** 2)
    return central


def bottom(df: float) -> float:
    """Return an angle that chance undercuts with a probability below 1e-19 when there is no gain; a gain only raises t."""
    return -math.asin(math.sqrt(-math.expm1(-90 / df)))


# -- from look to look ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def unstopped(design: Design, before: tuple[float, ...]) -> tuple[Pieces, tuple[float, ...]]:
    """Return q at the look after those with the critical t `before`, as a function of the angle, and its kinks."""
    look = len(before)
    df = design.known(look)
    if look == 0:
        return Pieces.constant(bottom(df), math.pi / 2), ()
    q, kinks = unstopped(design, before[:-1])
    earlier = design.known(look - 1)
    s = math.sqrt(1 - design.information(design.looks[look - 1]) / design.information(design.looks[look]))
    cut = angle_of(before[-1], earlier)
    moves = [Back(s, earlier, 1)] + ([Back(0.0, earlier + 1, df - earlier - 1)] if df - earlier > 1.5 else [])
    for move in moves:
        q, kinks = _one_back(q, kinks, cut, move)
        cut = math.inf
    return q, kinks


def _one_back(q: Pieces, kinks: Sequence[float], cut: float, move: Back) -> tuple[Pieces, tuple[float, ...]]:
    """Return q one move later, where what is beyond `cut` has stopped, and its kinks."""
    df = move.df + move.more
    cut = min(cut, q.knots[-1])
    starts = move.starts(cut)
    low, high, unit = bottom(df), starts[-1], 1 / math.sqrt(df)
    ends = [math.asin(move.s), -math.asin(move.s)] if move.is_full else []
    kinks = [*ends, *(move.image(kink) for kink in kinks if kink < cut)][:MOST_KINKS]
    knots = separate([low, high], [*kinks, *starts], unit)
    return fitted(lambda start: mean(q, cut, move, start), knots, unit, TOLERANCE), tuple(kinks)


def crossing(design: Design, before: tuple[float, ...], critical: float, delta: float) -> float:
    """Return the chance that the look after those with the critical t `before` is the first to cross, at `critical`."""
    look = len(before)
    df = design.known(look)
    mu = min(delta, LARGEST_MU) * math.sqrt(design.information(design.looks[look]))
    q, cut, unit = unstopped(design, before)[0], angle_of(critical, df), 1 / math.sqrt(df)
    usual = math.atan(mu * unit)
    high = min(q.knots[-1], max(cut, usual) + 14 * unit)
    if cut >= high:
        return 0.0
    even = np.arange(max(cut, usual - 14 * unit), high, unit)
    chi = np.maximum(math.sqrt(df) + np.arange(-8.0, 9.0), 0.1)  # a large mu is divided by chi of df alone
    rough = math.pi / 2 - (NEARER if is_rough(df) else NEARER[:0])
    edges = np.unique(np.clip(np.concatenate([q.knots, even, np.arctan2(mu, chi), rough, [cut, high]]), cut, high))
    angle, weight = graded(edges[:-1], edges[1:])
    here = q.piece((edges[:-1] + edges[1:]) / 2)[:, None]
    return min(float(np.sum(weight * np.exp(_log_density(angle, df, mu)) * q(here, angle))), 1.0)


def first_crossings(design: Design, criticals: Sequence[float], delta: float) -> list[float]:
    """Return, for each of the looks with these critical t, the chance that it is the first to cross."""
    if criticals and min(criticals) <= 0:
        raise ValueError(f"critical t are {criticals}; they must be above 0.")
    before = tuple(criticals)
    return [crossing(design, before[:k], critical, delta) for k, critical in enumerate(before)]
