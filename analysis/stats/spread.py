"""How far runs scatter: intervals for a standard deviation, what a history says about it, and when it is too small.

Pure functions on numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, fdtr, polygamma, psi

ALARM = 0.001  # a spread is called too small when the chance of so small a one is at most this


@dataclass(frozen=True, slots=True)
class Spread:
    """A standard deviation and the degrees of freedom behind it (infinite: as good as known)."""

    sd: float
    df: float


def sd_interval(sd: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return a confidence interval of the true sd: s sqrt((n-1) / chi2) at both tails of chi2 with n - 1 df.

    The source record's 0.0018731290 of three seeds, at 95 %: 0.00097526 to 0.01177212, a factor of 12.
    """
    tail = (1 - level) / 2
    return sd_limit(sd, n, tail), sd_limit(sd, n, 1 - tail)


def sd_limit(sd: float, n: int, probability: float) -> float:
    """Return the bound that the true sd is below with this probability. 0.001 of five pilot runs, at 80 %: 0.00155758."""
    return sd * math.sqrt((n - 1) / float(chdtri(n - 1, probability)))


def pooled(sds: Sequence[float], dfs: Sequence[float]) -> Spread:
    """Return one sd for several groups with one true spread: sqrt(sum df s^2 / sum df), with the sum of their df.

    20 records of Parameter Golf: 0.00073318 with 44 df.
    """
    total = math.fsum(dfs)
    return Spread(math.hypot(*(math.sqrt(df / total) * sd for sd, df in zip(sds, dfs, strict=True))), total)


def prior(sds: Sequence[float], dfs: Sequence[float]) -> Spread:
    """Return what a history of records says about the next one's spread, when their true spreads may differ.

    The variances are taken as draws from a scaled inverse chi-square. Its df are how many runs the history is worth,
    infinite when the records do not differ by more than chance. Fitted to the moments of log s^2 with digamma and
    trigamma (Smyth 2004). 63 submissions of the NanoGPT speedrun: 0.0012616 with 14.18 df.
    """
    from scipy.optimize import brentq  # takes longer to load than a verdict without a history

    half = np.asarray(dfs, dtype=float) / 2
    log = 2 * np.log(np.asarray(sds, dtype=float)) - psi(half) + np.log(half)
    excess = float(np.var(log, ddof=1) - np.mean(polygamma(1, half)))
    if excess <= 0:
        return Spread(math.exp(float(np.mean(log)) / 2), math.inf)
    half_df = math.exp(brentq(lambda log: float(polygamma(1, math.exp(log))) - excess, -20, 40, xtol=1e-14))
    return Spread(math.exp((float(np.mean(log) + psi(half_df)) - math.log(half_df)) / 2), 2 * half_df)


def chance_of_less(sd: float, n: int, usual: Spread) -> float:
    """Return the chance of an sd at most this small in n honest runs, given the usual spread: F with n - 1 and its df.

    With a known usual spread it is chi2: (n-1) s^2 / sd^2. Copied logs and the best of many runs make it tiny.
    """
    ratio = min(sd / usual.sd, 1e150) ** 2
    return float(fdtr(n - 1, min(usual.df, 1e9), ratio))
