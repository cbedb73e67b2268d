"""One number for the values of several runs: what a leaderboard compares where it does not test the mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median

Statistic = Callable[[Sequence[float]], float]


def trimmed_mean(values: Sequence[float]) -> float:
    """Return the mean without the best and the worst value; of fewer than three values it is NaN.

    (4, 1, 10, 3): 3.5. Source: MLPerf training's rule for scoring several runs; scipy.stats.trim_mean([...], 1/n).
    """
    if len(values) < 3:
        return math.nan
    return math.fsum(sorted(values)[1:-1]) / (len(values) - 2)


def worst(values: Sequence[float]) -> float:
    """Return the worst value where lower is better: each run beats a threshold exactly when the worst one does."""
    return max(values)


STATISTICS: dict[str, Statistic] = {"mean": fmean, "median": median, "trimmed mean": trimmed_mean, "each run": worst}
