"""The tests at a fixed number of runs, as pure functions on numbers. Lower is better everywhere.

scipy.special holds the same distribution functions as scipy.stats and loads in a tenth of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from scipy.special import betaincinv, chdtri, ndtr, ndtri, stdtr, stdtrit

from analysis.stats.pieces import Array


class StatisticsError(ValueError):
    """Values that cannot be tested, as one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A test: its name, statistic, degrees of freedom (None where the spread is known), p-value and bound.

    bound: the one-sided (1 - alpha) upper limit of the tested mean, a control's noise included. It is below the threshold
    exactly when p is below alpha, because both come from one standard error. None where a test has no such limit.
    """

    name: str
    statistic: float
    df: float | None
    p_value: float
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """n values, their mean and their standard deviation (ddof 1), which is NaN for a single value."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float], *, spread_is_known: bool = False) -> Sample:
        """Return the sample of these values.

        Raises StatisticsError for NaN and infinity and, unless the spread is known, for fewer than two values and for
        values without any spread.
        """
        if len(values) < (1 if spread_is_known else 2):
            raise StatisticsError(
                f"A test needs at least {'one value' if spread_is_known else 'two values'}, got {len(values)}."
            )
        if not all(math.isfinite(value) for value in values):
            raise StatisticsError("A value is not a finite number.")
        if len(set(values)) == 1 and not spread_is_known:
            raise StatisticsError(
                f"All {len(values)} values are {values[0]:.8f}: with no spread between seeds there is nothing to test. "
                f"Does the script use SEED?"
            )
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(1, mean, math.nan)
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
        if sd == 0 and not spread_is_known:
            raise StatisticsError(f"The values differ by less than a computer's arithmetic can square ({values[0]:g}).")
        return cls(len(values), mean, sd)


def one_sample_t(sample: Sample, threshold: float, alpha: float) -> Test:
    """Test mean < threshold with Student's t: t = (m - threshold) sqrt(n) / s, p = T_{n-1}(t), bound m + t_{alpha, n-1} s / sqrt(n).

    (1.20143417, 1.19945102, 1.20319508) against 1.21113611: t = -9.0397209398, df 2, p = 0.0060086381, bound 1.2088919205.
    Source: Student 1908; the same as scipy.stats.ttest_1samp(alternative="less").
    """
    error = _Error(sample.sd / math.sqrt(sample.n), sample.n - 1)
    return _below("one-sample t", sample, sample.mean - threshold, error, alpha)


def critical_t(df: float, alpha: float) -> float:
    """Return the t that a one-sided test at level alpha must reach. Divided by sqrt(n) it is the gain needed, in sd.

    alpha 0.01: 6.9645567 at df 2 (a gain of 4.0209887 sd), 2.8214379 at df 9 (0.8922170 sd).
    """
    return -float(stdtrit(df, alpha))


def known_sigma_z(sample: Sample, threshold: float, sigma: float, alpha: float, control: Sample | None = None) -> Test:
    """Test mean < threshold with a known spread: z = (threshold - m) sqrt(n) / sigma, p = 1 - Phi(z).

    The bound is m + z_{1 - alpha} sigma / sqrt(n). With a control, the threshold is its mean less the margin, and sqrt(n) becomes 1 / sqrt(1/n1 + 1/n0).
    Ten runs of mean 3.2785 against 3.28 with sigma 0.0013: z = 3.648782, p = 0.00013174. Source: the speedrun's track 3.
    """
    z = scaled_gain(sample, threshold, control) / sigma
    bound = sample.mean - float(ndtri(alpha)) * sigma * math.sqrt(1 / sample.n + (1 / control.n if control else 0))
    return Test(name="known-sigma z", statistic=z, df=None, p_value=float(ndtr(-z)), bound=bound)


def scaled_gain(sample: Sample, threshold: float, control: Sample | None = None) -> float:
    """Return (threshold - m) sqrt(n), or (threshold - m) / sqrt(1/n1 + 1/n0) against a control: track 3's own statistic.

    Ten runs 0.0011 better than sixteen of another optimizer: 0.002728764.
    """
    return (threshold - sample.mean) / math.sqrt(1 / sample.n + (1 / control.n if control else 0))


def known_sigma_level(critical: float, sigma: float, sd: float) -> float:
    """Return the true level of a test that rejects at z >= critical with sigma, when the spread really is sd.

    Track 3's 0.004 / 0.0013 = 3.077 is a level of 0.00105; with runs that scatter by 0.0025 it is 0.0548.
    """
    return float(ndtr(-critical * sigma / sd))


# -- against a control's own runs --------------------------------------------------------------------------------------


def welch_t(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Test mean < control's mean - margin with both samples' own noise and unequal variances.

    t = (m1 - m0 + margin) / sqrt(s1^2/n1 + s0^2/n0); df by Satterthwaite 1946, Welch 1947. At a nominal 1 % and equal
    spreads its true level is 0.6 % with three seeds against three, and 1.6 % with ten against three.
    """
    return _below("Welch t", sample, sample.mean - control.mean + margin, _unequal(sample, control), alpha)


def pooled_t(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Test the same with one common variance: exact when the two spreads are equal. df = n1 + n0 - 2."""
    return _below("pooled t", sample, sample.mean - control.mean + margin, _equal(sample, control), alpha)


def paired_t(sample: Sample, differences: Sample, margin: float, alpha: float) -> Test:
    """Test mean < control's mean - margin on the differences of pairs: t = (mean(d) + margin) sqrt(n) / sd(d), df n - 1.

    d is a candidate run's value less that of the control run of its pair. What a pair shares, such as its node's quirks,
    is in no difference, so the level is exact at any ratio of the two spreads. Half of the degrees of freedom are the
    price. (1.1, 1.4, 1.2) against (1.3, 1.5, 1.5) without a margin: t = -3.4641016, df 2, p 0.0370900. Source: Student 1908.
    """
    error = _Error(differences.sd / math.sqrt(differences.n), differences.n - 1)
    return _below("paired t", sample, differences.mean + margin, error, alpha)


def against_control(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Return the one of Welch's and the pooled test with the larger p, and the larger of their bounds: both must pass.

    With equal numbers of runs that is Welch's, which never has more df. With unequal numbers either may be the
    liberal one.
    """
    both = [test(sample, control, margin, alpha) for test in (welch_t, pooled_t)]
    larger = max(both, key=lambda test: test.p_value)
    return replace(larger, bound=max(test.bound for test in both if test.bound is not None))


def power_against(
    n: int, control: int, alpha: float, delta: float, scatter: float = 1.0, *, also_pooled: bool = True
) -> float:
    """Return the chance that `against_control` passes when the true gain is `delta` sd and the control's sd is `scatter`.

    The two variances are chi-square. The distance that the means need is the larger of the two tests'. The chance is
    the mean of its normal probability over 96 x 96 Gauss nodes. Eight seeds against three at delta 3: 0.635 (the pooled
    test alone: 0.920). Without a gain it is the level: ten against three at 1 % 0.0045, and 0.0135 if the control
    scatters twice as much. Six against six at the gain 0.002 / 0.00073: 0.950. also_pooled: false for Welch's test alone.
    """
    needed, w = _needed(n, control, alpha, scatter, also_pooled=also_pooled)
    passes = ndtr((delta - needed) / math.sqrt(1 / n + scatter**2 / control))
    return float(w @ passes @ w)


@lru_cache(maxsize=64)  # one design is asked for many gains
def _needed(n: int, control: int, alpha: float, scatter: float, *, also_pooled: bool) -> tuple[Array, Array]:
    """Return the distance that the means need, at nodes of the two variances, and the weights of each variance's nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(96)
    u = (1 + nodes) / 2
    a = (chdtri(n - 1, u) / (n - 1) / n)[:, None]
    b = scatter**2 * chdtri(control - 1, u) / (control - 1) / control
    welch, pooled = _distances(n, control, alpha, a, b).values()
    larger: Array = np.maximum(welch, pooled)
    return larger if also_pooled else welch, weights / 2


BOTH = ("welch", "pooled")


@cache
def worst_level(n: int, control: int, alpha: float, tests: tuple[str, ...] = BOTH) -> float:
    """Return the largest level over the ratio of the two true spreads, of tests that must all pass.

    What share of all squares the candidate's runs have is Beta((n-1)/2, (n0-1)/2). Given it, the tests ask for a multiple
    of the root of all squares, and whether the difference of the means reaches it is a Student t of n + n0 - 2 degrees of
    freedom. Welch and pooled at 1 %: three against three 0.0142 at a ratio of 7.3, ten against three 0.0165 at 3.5, five
    against five 0.0117, ten against ten 0.0104. Ten against three by Welch's alone 0.0207, by the pooled alone 0.158.
    """
    nodes, weights = np.polynomial.legendre.leggauss(96)
    ratios, df = np.geomspace(0.01, 100, 61)[:, None], n + control - 2
    share = betaincinv((n - 1) / 2, (control - 1) / 2, (1 + nodes) / 2)
    a, b = share * df / (n - 1) / n, ratios**2 * (1 - share) * df / (control - 1) / control
    needed = np.maximum.reduce([_distances(n, control, alpha, a, b)[test] for test in tests])
    levels: Array = stdtr(df, -needed / np.sqrt(1 / n + ratios**2 / control)) @ weights / 2
    return float(levels.max())


def _distances(n: int, control: int, alpha: float, a: Array, b: Array) -> dict[str, Array]:
    """Return how far apart each test wants the means where the squares of their standard errors are a and b."""
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (control - 1))
    variance = (a * n * (n - 1) + b * control * (control - 1)) / (n + control - 2)
    welch: Array = np.sqrt(a + b) * np.asarray(-stdtrit(df, alpha), dtype=float)
    pooled: Array = -stdtrit(n + control - 2, alpha) * np.sqrt(variance * (1 / n + 1 / control))
    return {"welch": welch, "pooled": pooled}


@dataclass(frozen=True, slots=True)
class _Error:
    """The standard error of a mean, or of the difference of two, and its degrees of freedom."""

    size: float
    df: float


def _unequal(sample: Sample, control: Sample) -> _Error:
    """Return the error where the variances may differ."""
    a, b = sample.sd / math.sqrt(sample.n), control.sd / math.sqrt(control.n)
    size = math.hypot(a, b)  # the squares of small ones vanish
    return _Error(size, 1 / ((a / size) ** 4 / (sample.n - 1) + (b / size) ** 4 / (control.n - 1)))


def _equal(sample: Sample, control: Sample) -> _Error:
    """Return the error with one common variance."""
    df = sample.n + control.n - 2
    sd = math.hypot(sample.sd * math.sqrt((sample.n - 1) / df), control.sd * math.sqrt((control.n - 1) / df))
    return _Error(sd * math.sqrt(1 / sample.n + 1 / control.n), df)


def _below(name: str, sample: Sample, distance: float, error: _Error, alpha: float) -> Test:
    """Return the one-sided t-test of a distance to the threshold: t = distance / error, p = T_df(t)."""
    t, bound = distance / error.size, sample.mean + critical_t(error.df, alpha) * error.size
    return Test(name=name, statistic=t, df=error.df, p_value=float(stdtr(error.df, t)), bound=bound)


# -- with a spread known from elsewhere, and a second lab --------------------------------------------------------------


def moderated_t(
    sample: Sample, threshold: float, sd: float, df: float, alpha: float, control: Sample | None = None
) -> Test:
    """Test mean < threshold with a variance averaged with an earlier one of `df` degrees of freedom (Smyth 2004).

    s~^2 = (df sd^2 + (n-1) s^2) / (df + n - 1), t = (m - threshold) sqrt(n) / s~ with df + n - 1. The source record with
    sd 0.00073 and 8 df: t = -15.9426308, df 10, p = 9.7194e-9. With infinite df it is the test with a known spread.

    With a control, the threshold is its mean less the margin, and both have one spread:
    s~^2 = (df sd^2 + (n1-1) s1^2 + (n0-1) s0^2) / (df + n1 + n0 - 2), t = (m1 - threshold) / (s~ sqrt(1/n1 + 1/n0)). The
    same against three runs of mean 1.20636623 and sd 0.00071667, less 0.005: t = -0.0074213, df 12, p = 0.4971003.
    """
    samples = [sample] if control is None else [sample, control]
    total = df + sum(one.n for one in samples) - len(samples)
    own = [math.sqrt((one.n - 1) / total) * one.sd for one in samples]
    history = math.sqrt(1 - sum(one.n - 1 for one in samples) / total) * sd
    error = _Error(math.hypot(history, *own) * math.sqrt(sum(1 / one.n for one in samples)), total)
    return _below("history-assisted t", sample, sample.mean - threshold, error, alpha)


def prediction_interval(sample: Sample, m: int, level: float) -> tuple[float, float]:
    """Return the interval that holds the mean of m fresh runs with this probability.

    m +- t_{(1-level)/2, n-1} s sqrt(1/n + 1/m). The source record's single next run at 99 %: 1.1798936 to 1.2228266.
    """
    reach = critical_t(sample.n - 1, (1 - level) / 2) * sample.sd * math.sqrt(1 / sample.n + 1 / m)
    return sample.mean - reach, sample.mean + reach


def same_mean(sample: Sample, values: Sequence[float]) -> Test:
    """Test, two-sided, the sample's mean against that of other runs with one common spread; one other run is enough.

    The spread is pooled over both, df n + m - 2. Source: Student's two-sample t.
    """
    m = len(values)
    mean = math.fsum(values) / m
    df = sample.n + m - 2
    spread = math.hypot(math.sqrt(sample.n - 1) * sample.sd, *(value - mean for value in values)) / math.sqrt(df)
    t = (mean - sample.mean) / (spread * math.sqrt(1 / sample.n + 1 / m))
    return Test(name="two-sided t", statistic=t, df=df, p_value=2 * float(stdtr(df, -abs(t))))
