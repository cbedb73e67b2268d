"""Numbers as they are printed: short in sentences, to eight digits in tables."""

from __future__ import annotations

import math

from analysis.rules.metrics import TRAIN_TIME

MOST_DECIMALS = 8
SHORT = 4  # decimals of a loss: records differ by thousandths


def percent(level: float) -> str:
    """Return a confidence level as printed: 0.999 is 99.9%, one very close to 1 in as many digits as it takes."""
    return f"{100 * level:.{4 if level < 0.9999 else 8}g}%"


def percent_of(chance: float) -> str:
    """Return a chance in percent, to two digits: 0.0142 is 1.4 %."""
    return f"{100 * chance:.2g} %"


def format_p(p: float) -> str:
    """Return p as printed behind a `p`: = 0.006, < 1e-5; never zero."""
    if p >= 1e-4:
        return f"= {p:.4g}"
    return f"< 1e-{min(-math.ceil(math.log10(p)), 300)}" if p > 0 else "< 1e-300"


def short_p(p: float, alpha: float) -> str:
    """Return p for a heading, in as few digits as leave it on its side of alpha: 0.0025, < 1e-5."""
    if p < 1e-4:
        return format_p(p)
    return next(said for digits in range(2, 18) if (float(said := f"{p:.{digits}g}") < alpha) == (p < alpha))


def chance_in_words(chance: float) -> str:
    """Return a probability to two digits, which never reads as certain."""
    return "over 0.99" if chance > 0.99 else "under 0.01" if chance < 0.01 else f"{chance:.2f}"


def in_metric(value: float, metric: str) -> str:
    """Return a metric's value for a table: a time to the millisecond, anything else to eight decimals or, if large, digits."""
    if metric == TRAIN_TIME:
        return f"{value:z.3f} s"
    return f"{value:z.8f}" if abs(value) < 100 else f"{value:z.8g}"


def in_short(metric: str, *values: float) -> list[str]:
    """Return values for a sentence, with as few decimals as tell them apart from each other and from zero."""
    largest = max(map(abs, values))
    least = 2 if metric == TRAIN_TIME else SHORT if largest < 100 else max(0, SHORT + 2 - len(f"{largest:.0f}"))
    said: list[str] = []
    for decimals in range(least, MOST_DECIMALS + 1):
        said = [f"{value:z.{decimals}f}" for value in values]
        if len({*map(float, said), 0.0}) == len({*values, 0.0}):
            break
    return said
