"""How a claimed value and the runs' values agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from analysis.reading.grammar import Metric
from analysis.reading.run import Run
from analysis.record.claim import Claim

ROUNDING = 2e-5  # of a claimed value, at least
RATIO_TOLERANCE = 3e-4  # of val_bpb / val_loss


class Fit(StrEnum):
    """What the headline is among the claimed runs' values."""

    MEAN = "mean"
    BEST = "best"
    ONE = "one"
    IN_TRAINING = "in training"
    UNSUPPORTED = "unsupported"
    UNCLAIMED = "unclaimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The number that a submission is known by: its metric, its value as written, and the JSON key that holds it."""

    metric: str
    value: Decimal
    key: str

    def is_of(self, metric: Metric) -> bool:
        """Return whether a run ends in this value. A bpb under a loss key counts too; the wrong key is a finding."""
        return agrees(self.value, getattr(metric, self.metric)) or (
            self.metric == "val_loss" and agrees(self.value, metric.val_bpb)
        )

    def is_mean_of(self, values: Sequence[float], better: float = math.inf) -> bool:
        """Return whether it is their mean; it may be `better` than that by this much at most."""
        return agrees(self.value, mean(values), better)

    def is_among(self, values: Iterable[float | None], better: float = math.inf) -> bool:
        return any(agrees(self.value, value, better) for value in values)


def headlines(claim: Claim | None) -> list[Headline]:
    """Return the headline that a JSON gives, then the other values of it that may be meant instead."""
    if claim is None:
        return []
    for metric, value in (("val_bpb", claim.val_bpb), ("val_loss", claim.val_loss)):
        if value is not None:
            first = Headline(metric=metric, value=value, key=claim.keys.get(metric, metric))
            return [first, *(Headline(metric="val_bpb", value=other, key=key) for other, key in claim.other_bpbs)]
    return []


def agrees(claimed: Decimal, value: float | None, better: float = math.inf) -> bool:
    """Return whether a value is the claimed one, at the claim's own printed precision (2e-5 at least, for rounding).

    better: how much the claimed one may be below the value.
    """
    if value is None or not math.isfinite(value):
        return False
    exponent = claimed.as_tuple().exponent
    printed = 0.51 * 10.0**exponent if isinstance(exponent, int) else 0.0
    most = max(ROUNDING, min(printed, 0.01))
    return -max(ROUNDING, min(most, better)) <= float(claimed) - value <= most


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; NaN if values are infinite or too large to add."""
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        return math.nan


def values_in(metric: str, metrics: Iterable[Metric]) -> list[float]:
    """Return the values of `val_bpb` or `val_loss` that are there."""
    return [value for one in metrics if (value := getattr(one, metric)) is not None]


def fit_of(headline: Headline, metrics: Sequence[Metric], runs: Iterable[Run], margin: float) -> Fit:
    """Return how a headline fits the claimed metrics; `runs` are all of the record's, which may print it in training.

    A headline may be rounded, but not to a number that is better than the runs by more than a tenth of the margin.
    """
    better = margin / 10
    for what in dict.fromkeys((headline.metric, "val_bpb")):
        values = values_in(what, metrics)
        if len(values) == len(metrics) > 1 and headline.is_mean_of(values, better):
            return Fit.MEAN
        if headline.is_among(values, better):
            if len(metrics) == 1:
                return Fit.MEAN
            return Fit.BEST if agrees(headline.value, min(values), better) else Fit.ONE
    for run in runs:
        in_training = [*(metric for metric in run.metrics if metric.diagnostic), *run.steps]
        if headline.is_among((getattr(one, headline.metric) for one in in_training), better):
            return Fit.IN_TRAINING
    return Fit.UNSUPPORTED
