"""The best of many: by how much it overstates its own true mean, and what p it is worth. Pure functions on numbers.

The best of k candidates was chosen for its luck too. With true means m_i and standard errors s_i its expected luck is

    sum_i s_i E[-Z prod_{j != i} (1 - Phi((m_i + s_i Z - m_j) / s_j))],  Z standard normal, lower is better.

For k equal candidates it is s times the expected largest of k standard normals (k = 2: 0.5641896 s, 10: 1.5387527 s), for
two unequal ones a phi(d / a) with a^2 = s_1^2 + s_2^2 and d = m_1 - m_2 (Clark 1961).

The true means are not known. The observed ones scatter more, by their errors, so they are pulled together first, as far
as their errors alone explain the scatter: mu + sqrt(t^2 / (t^2 + s_i^2)) (x_i - mu). The pulled means scatter as the true
ones do (Louis 1984). t^2 and mu are Paule and Mandel's (1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from analysis.stats.spread import Spread, pooled, prior

REACH, NODES = 8.0, 97  # each candidate's errors, in its own standard errors
_Numbers = NDArray[np.float64]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return each p-value as adjusted for having been one of several (Holm 1979): 1 % of them is a 1 % level together.

    The i-th smallest of k becomes the largest of (k - j + 1) p_j up to j = i, at most 1. It holds whatever joins the
    tests, such as values of the same runs. (0.01, 0.04, 0.03, 0.005): (0.03, 0.06, 0.06, 0.02). The smallest is
    Bonferroni's k p.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def expected_luck(means: Sequence[float], errors: Sequence[float]) -> float:
    """Return how much better than its true mean the best (lowest) of these candidates is expected to look.

    Two of 1.2000 and 1.2006 with errors of 0.0005: 0.00019681085 (Clark's a phi(d / a)).
    """
    m, s = np.asarray(means, dtype=float), np.asarray(errors, dtype=float)
    may_be = m - REACH * s < (m + REACH * s).min()
    m, s = m[may_be], s[may_be]
    at = np.unique(m[:, None] + s[:, None] * np.linspace(-REACH, REACH, NODES))  # fine where any candidate may be
    z = (at[None, :] - m[:, None]) / s[:, None]
    above = np.log(np.maximum(ndtr(-z), 1e-300))
    others = np.exp(above.sum(axis=0) - above)
    density = np.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * s[:, None])
    luck = ((m[:, None] - at) * density * others).sum(axis=0)
    return float(((luck[1:] + luck[:-1]) / 2 * np.diff(at)).sum())


def pulled_together(means: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Return means that scatter as the true ones do: all are equal where their errors explain the whole scatter."""
    x, variances = np.asarray(means, dtype=float), np.asarray(errors, dtype=float) ** 2
    between = _between(x, variances)
    centre = _centre(x, variances, between)
    return [float(mean) for mean in centre + np.sqrt(between / (between + variances)) * (x - centre)]


def overstatement(means: Sequence[float], errors: Sequence[float]) -> float:
    """Return by how much the best (lowest) of these observed means is expected to overstate its true mean."""
    return expected_luck(pulled_together(means, errors), errors)


def standard_errors(sds: Sequence[float | None], counts: Sequence[int]) -> list[float] | None:
    """Return each group's standard error; None if no group has a spread.

    The sd of three runs says little, and that of one nothing: each is averaged with the others' by Smyth's prior.
    """
    known = [(sd, n - 1) for sd, n in zip(sds, counts, strict=True) if sd and n > 1]
    if not known:
        return None
    own, dfs = [sd for sd, _ in known], [df for _, df in known]
    usual = prior(own, dfs) if len(known) > 1 else pooled(own, dfs)
    return [_moderated(sd or 0.0, n - 1 if sd else 0, usual) / math.sqrt(n) for sd, n in zip(sds, counts, strict=True)]


def _moderated(sd: float, df: int, usual: Spread) -> float:
    if math.isinf(usual.df):
        return usual.sd
    return math.sqrt((usual.df * usual.sd**2 + df * sd**2) / (usual.df + df))


def _centre(x: _Numbers, variances: _Numbers, between: float) -> float:
    return float(np.average(x, weights=1 / (variances + between)))


def _between(x: _Numbers, variances: _Numbers) -> float:
    """Return the variance of the true means: that with which the weighted squares come to k - 1; 0 if they never do."""

    def excess(between: float) -> float:
        return float((((x - _centre(x, variances, between)) ** 2) / (variances + between)).sum()) - (len(x) - 1)

    apart = float(np.ptp(x))
    if apart == 0 or excess(0.0) <= 0:  # one mean lies apart from its own centre by rounding
        return 0.0
    low, high = 0.0, len(x) * apart**2  # the squares come to less than 1 there
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2
