"""Sweeps of two arms for the calibration: in pairs on nodes, and against a SOTA's number and its rerun at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial

import numpy as np
from scipy.special import chdtri, ndtr, stdtrit

from analysis.stats import sequential
from analysis.stats.fixed import against_control, critical_t, one_sample_t, paired_t, pooled_t
from benchmarks.ways import ALPHA, LOOKS, MARGIN, SD, Decide, samples

Way = tuple[str, float, Decide]


# -- pairs ---------------------------------------------------------------------------------------------------------------


def drawn_in_pairs(
    rng: np.random.Generator, sweeps: int, n: int, share: float, scatter: float = 1.0, gain: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw n pairs for each sweep: a pair's two runs share a part of the variance. The gain, in sd, is beyond the margin.

    scatter: by how much more the control's own part scatters.
    """
    node = math.sqrt(share) * rng.standard_normal((sweeps, n))
    own, other = math.sqrt(1 - share) * rng.standard_normal((2, sweeps, n))
    return SD * (node + own - gain), MARGIN + SD * (node + scatter * other)


def in_pairs(
    rng: np.random.Generator, sweeps: int, n: int, share: float, scatter: float = 1.0, gain: float = 0.0
) -> list[bool]:
    mine, theirs = drawn_in_pairs(rng, sweeps, n, share, scatter, gain)
    both = zip(samples(mine), samples(mine - theirs), strict=True)
    return [paired_t(sample, differences, MARGIN, ALPHA).p_value < ALPHA for sample, differences in both]


def unpaired(rng: np.random.Generator, sweeps: int, n: int, share: float) -> list[bool]:
    """Test the same runs as two independent samples, with one spread."""
    both = zip(*map(samples, drawn_in_pairs(rng, sweeps, n, share)), strict=True)
    return [pooled_t(mine, theirs, MARGIN, ALPHA).p_value < ALPHA for mine, theirs in both]


def looks_at_pairs(rng: np.random.Generator, sweeps: int, share: float) -> np.ndarray:
    criticals = sequential.boundary(LOOKS, ALPHA)
    mine, theirs = drawn_in_pairs(rng, sweeps, LOOKS.looks[-1], share)
    passed = np.zeros(sweeps, dtype=bool)
    for n, critical in zip(LOOKS.looks, criticals, strict=True):
        running = np.flatnonzero(~passed)
        own, other = mine[running, :n], theirs[running, :n]
        both = zip(samples(own), samples(own - other), strict=True)
        passed[running] = [
            -paired_t(one, differences, MARGIN, ALPHA).statistic >= critical for one, differences in both
        ]
    return passed


def level_of_pooled(n: int, share: float, nodes: int = 96) -> float:
    """Return the true level of the pooled test when pairs share a part of the variance.

    The difference of the means has the variance 2 (1 - share) / n. The sum of the two variances is that of half the
    pairs' difference and half their sum: (1 - share) A + (1 + share) B, A and B chi-square of n - 1.
    """
    x, weight = np.polynomial.legendre.leggauss(nodes)
    a = chdtri(n - 1, (1 + x) / 2) / (n - 1)
    spread = np.sqrt(((1 - share) * a[:, None] + (1 + share) * a) / 2)
    passes = ndtr(-critical_t(2 * n - 2, ALPHA) * spread / math.sqrt(1 - share))
    return float(weight @ passes @ weight / 4)


# -- a number and a control ----------------------------------------------------------------------------------------------


def of_number_and_control(rng: np.random.Generator, sweeps: int, n: int, *, both: bool) -> list[bool]:
    """Test against the SOTA's three-seed mean taken as exact, and against three control runs; `both` or either must pass."""
    combined = all if both else any
    mine, control, stated = (SD * rng.standard_normal((sweeps, k)) for k in (n, 3, 3))
    every = zip(samples(mine), samples(MARGIN + control), stated.mean(axis=1), strict=True)
    return [
        combined(
            (
                one_sample_t(sample, threshold, ALPHA).p_value < ALPHA,
                against_control(sample, other, MARGIN, ALPHA).p_value < ALPHA,
            )
        )
        for sample, other, threshold in every
    ]


@cache
def level_of_both(n: int, nodes: int = 128) -> tuple[float, float]:
    """Return how often both tests pass, and how often either does: a quadrature over the candidate's mean and sd, and the control's sd.

    Given the candidate, the two tests are independent: each asks for a mean of three that lies far enough above.
    """
    x, weight = np.polynomial.legendre.leggauss(nodes)
    u, w = (1 + x) / 2, weight / 2
    mean = (8 * x / math.sqrt(n))[:, None, None]
    weight_of_mean = 8 * weight * np.exp(-((8 * x) ** 2) / 2) / math.sqrt(2 * math.pi)
    own, other = chdtri(n - 1, u) / (n - 1), chdtri(2, u) / 2
    number = ndtr(-math.sqrt(3) * (mean[..., 0] + critical_t(n - 1, ALPHA) * np.sqrt(own / n)))
    a, b = own[:, None] / n, other / 3
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / 2)
    welch = -stdtrit(df, ALPHA) * np.sqrt(a + b)
    variance = (a * n * (n - 1) + b * 3 * 2) / (n + 1)
    pooled = critical_t(n + 1, ALPHA) * np.sqrt(variance * (1 / n + 1 / 3))
    control = ndtr(-math.sqrt(3) * (mean + np.maximum(welch, pooled))) @ w
    passes = float(weight_of_mean @ (number * control) @ w)
    return passes, float(weight_of_mean @ (number + control) @ w) - passes


# -- the rows ------------------------------------------------------------------------------------------------------------


def ours() -> Iterator[Way]:
    """Yield name, exact rate and simulation of what seedproof does with two arms."""
    yield "paired t, 5 pairs, half of the variance is the node's", ALPHA, partial(in_pairs, n=5, share=0.5)
    yield (
        "paired t, 5 pairs, and the control scatters twice as much",
        ALPHA,
        partial(in_pairs, n=5, share=0.5, scatter=2),
    )
    yield (
        "sequential 3..10, flat, in pairs, half of the variance is the node's",
        ALPHA,
        partial(looks_at_pairs, share=0.5),
    )
    name = "pooled t of 5 v 5 runs in pairs, half of the variance is the node's"
    yield name, level_of_pooled(5, 0.5), partial(unpaired, n=5, share=0.5)
    for n in (3, 8):
        name = f"the SOTA's 3-seed mean and 3 control runs, both must pass, n = {n}"
        yield name, level_of_both(n)[0], partial(of_number_and_control, n=n, both=True)


def theirs() -> Iterator[Way]:
    """Yield the same of what is done instead."""
    for n in (3, 8):
        name = f"the SOTA's 3-seed mean or 3 control runs, whichever passes, n = {n}"
        yield name, level_of_both(n)[1], partial(of_number_and_control, n=n, both=False)
