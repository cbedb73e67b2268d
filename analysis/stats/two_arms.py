"""What is known before two arms run: what pairs are worth, what a pilot says of it, looks against runs that exist.

A pair is a candidate run and a control run of one seed on one node. `share` is the part of the variance between runs that
both have in common; it is the correlation of a pair. Pure functions on numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, chdtri, fdtri, ndtr, stdtr, stdtrit

from analysis.stats import sequential
from analysis.stats.fixed import Sample, critical_t
from analysis.stats.pieces import Array
from analysis.stats.recursion import Design

SWEEPS = 50_000  # simulated ones: a chance is right to 0.006 in 99 of 100 cases


# -- what pairs are worth ------------------------------------------------------------------------------------------------


def scatter_of_pairs(share: float) -> float:
    """Return the sd of a pair's difference, in sd between seeds: sqrt(2 (1 - share)). Half shared: 1."""
    return math.sqrt(2 * (1 - share))


def power_of_pairs(n: int, alpha: float, delta: float, share: float) -> float:
    """Return the chance that the t-test of n differences passes when the true gain is `delta` sd between seeds.

    1 - F_nct(t_{alpha, n-1}; n - 1, delta sqrt(n) / sqrt(2 (1 - share))). Five pairs at 1 % and 2 sd: 0.4254 if they share
    nothing, 0.7275 if half the variance, 0.9813 if 0.8 of it. Without a gain it is alpha, whatever they share.
    Three pairs at 1e-5 that share 0.99 pass a gain of 4 sd with 0.0469. Source: Student 1908; the same as scipy.stats.nct.sf.
    """
    return sequential.power(Design((n,)), (critical_t(n - 1, alpha),), delta / scatter_of_pairs(share))


def power_unpaired(n: int, alpha: float, delta: float, share: float) -> float:
    """Return the chance that Welch's test of n against n passes when the runs are pairs that share some of their variance.

    The differences d and the sums of the pairs are independent. With S for sums of squares, S_dd = 2 (1 - share) chi2 and
    S_ss = 2 (1 + share) chi2, both of n - 1 df, the two variances add up to (S_dd + S_ss) / 2 / (n - 1), and they differ
    by r sqrt(S_dd S_ss) / (n - 1), where r^2 is beta(1/2, (n - 2)/2). The chance is the mean of a normal probability over
    48 x 48 x 24 Gauss nodes.

    Five pairs at a nominal 1 %: a level of 0.0082 if they share nothing, 0.0018 if half of the variance, 0.0003 if 0.8 of
    it. At 2 sd 0.5705, 0.6047 and 0.6521. The spread it divides by holds what cancels in the difference.
    """
    (u, w), (v, w3) = _unit_nodes(48), _unit_nodes(24)
    chi = chdtri(n - 1, u)
    d, s = 2 * (1 - share) * chi[:, None, None], 2 * (1 + share) * chi[None, :, None]
    r = np.sqrt(betaincinv(0.5, (n - 2) / 2, v)) if n > 2 else np.ones_like(v)
    apart = r * np.sqrt(d * s) * 2 / (d + s)
    needed = -stdtrit(2 * (n - 1) / (1 + apart**2), alpha) * np.sqrt((d + s) / 2 / n / (n - 1))
    passes = ndtr((delta - needed) * math.sqrt(n) / scatter_of_pairs(share))
    return float(np.einsum("i,j,k,ijk->", w, w, w3, passes))


def _unit_nodes(count: int) -> tuple[Array, Array]:
    """Return Gauss nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (1 + nodes) / 2, weights / 2


# -- what a pilot says ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """The share that so many pairs show, and the lower limit of the true one."""

    found: float
    low: float
    pairs: int


def share_of(candidate: Sequence[float], control: Sequence[float], level: float) -> Share:
    """Return the share of variance that pairs have in common, with its lower limit at this level.

    The intraclass correlation for consistency, (S_ss - S_dd) / (S_ss + S_dd) with d the differences and s the sums of the
    pairs: a gain changes neither. S_ss (1 - share) / (S_dd (1 + share)) is F with n - 1 and n - 1 df, which gives the
    limit. (1, 2, 4, 3) and (2.1, 2.9, 5.2, 4.3): 0.9919, at least 0.9764 at 80 %.
    Source: McGraw & Wong 1996, ICC(C,1). Raises StatisticsError where differences or sums do not scatter.
    """
    d = Sample.of([x - y for x, y in zip(candidate, control, strict=True)])
    s = Sample.of([x + y for x, y in zip(candidate, control, strict=True)])
    ratio = (s.sd / d.sd) ** 2
    least = ratio / float(fdtri(d.n - 1, d.n - 1, level))
    return Share(found=(ratio - 1) / (ratio + 1), low=(least - 1) / (least + 1), pairs=d.n)


# -- looks against control runs that exist -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Sweeps with normal seeds: at each look (a row) the gain from which each sweep passes there, in sd."""

    looks: tuple[int, ...]
    gains: Array

    def power(self, delta: float) -> float:
        """Return the share of sweeps that pass at some look."""
        return float(np.mean(self.gains.min(axis=0) <= delta))

    def expected_seeds(self, delta: float) -> float:
        """Return how many seeds the sweeps take on average."""
        passed = np.logical_or.accumulate(self.gains <= delta, axis=0)
        return self.looks[0] + float(np.diff(self.looks) @ (1 - passed[:-1].mean(axis=1)))


@lru_cache(maxsize=8)
def simulated(design: Design, criticals: tuple[float, ...], seed: int = 1) -> Simulated:
    """Simulate a sequential design against control runs that exist; the same seed gives the same sweeps.

    A look passes only where the pooled t and, if the numbers of runs differ, Welch's p are beyond its boundary. The exact
    recursion knows the pooled t alone, and promises too much: looks 3 to 10 against three runs at 1 % and 3 sd pass in
    0.52 of the sweeps, by the pooled t alone in 0.88.
    """
    rng, k, most = np.random.default_rng(seed), design.control, design.looks[-1]
    values = rng.standard_normal((most, SWEEPS))
    mean0, square0 = rng.standard_normal(SWEEPS) / math.sqrt(k), rng.chisquare(k - 1, SWEEPS)
    sums, squares = np.cumsum(values, axis=0), np.cumsum(values**2, axis=0)
    gains = np.empty((len(design.looks), SWEEPS))
    for look, (n, critical) in enumerate(zip(design.looks, criticals, strict=True)):
        mean = sums[n - 1] / n
        square = np.maximum(squares[n - 1] - n * mean**2, 1e-300)
        needed = critical * np.sqrt((square + square0) / (n + k - 2) * (1 / n + 1 / k))
        if n != k:
            needed = np.maximum(needed, _welch_needs(square, n, square0, k, float(stdtr(n + k - 2, -critical))))
        gains[look] = needed - mean + mean0
    return Simulated(design.looks, gains)


def _welch_needs(square: Array, n: int, square0: Array, k: int, nominal: float) -> Array:
    """Return the distance of the means from which Welch's test passes, given both samples' sums of squares."""
    a, b = square / (n - 1) / n, square0 / (k - 1) / k
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (k - 1))
    steps = np.linspace(1 / (n + k - 2), 1 / (min(n, k) - 1), 2000)  # t is nearly a straight line of 1 / df
    critical = np.interp(1 / df, steps, -stdtrit(1 / steps, nominal))
    needed: Array = critical * np.sqrt(a + b)
    return needed
