"""How a claimed value and the runs' values agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import islice

from analysis.reading.metric import Metric
from analysis.reading.run import Run
from analysis.record.claim import Claim

ROUNDING = 2e-5  # of a claimed value, at least
FOURTH_DECIMAL = 5.1e-5
MOST_STEPS = 100_000  # that are searched for a headline which no run ends in
RATIO_TOLERANCE = 3e-4  # of val_bpb / val_loss
EXACT = 4  # decimals from which on a seed's value can be told from another's


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
        return any(agrees(self.value, getattr(metric, what)) for what in self.may_be)

    @property
    def may_be(self) -> list[str]:
        """Return the metrics that the value may be of: that of its key, else a bpb."""
        return list(dict.fromkeys((self.metric, "val_bpb")))


def headlines(claim: Claim | None) -> list[Headline]:
    """Return the headline that a JSON gives, then the other values of it that may be meant instead."""
    if claim is None:
        return []
    first = [
        Headline(metric=metric, value=value, key=claim.keys.get(metric, metric))
        for metric, value in (("val_bpb", claim.val_bpb), ("val_loss", claim.val_loss))
        if value is not None
    ]
    return first[:1] + [Headline(metric="val_bpb", value=one.value, key=one.key) for one in claim.other_bpbs]


def half_a_unit(claimed: Decimal) -> float:
    """Return half a unit of a decimal's last printed digit."""
    exponent = claimed.as_tuple().exponent
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def within_a_unit(claimed: Decimal, value: float) -> bool:
    """Return whether a value is the claimed one within a unit of its last digit: rounded or cut off."""
    return abs(float(claimed) - value) <= 2.04 * half_a_unit(claimed)


def is_exact(claimed: Decimal) -> bool:
    """Return whether a value has the decimals to be told from another seed's."""
    exponent = claimed.as_tuple().exponent
    return isinstance(exponent, int) and exponent <= -EXACT


def reach(claimed: Decimal) -> float:
    """Return how far a value may be from a claimed one: half a unit of its last digit, 2e-5 at least."""
    return max(ROUNDING, min(1.02 * half_a_unit(claimed), 0.01))


def agrees(claimed: Decimal, value: float | None, better: float = math.inf, rounded: float = 0.0) -> bool:
    """Return whether a value is the claimed one, at the claim's own printed precision (2e-5 at least, for rounding).

    better: how much the claimed one may be below the value. rounded: how far the log's printing may have moved the value.
    """
    if value is None or not math.isfinite(value):
        return False
    most = max(reach(claimed), rounded)
    return -max(ROUNDING, rounded, min(most, better)) <= float(claimed) - value <= most


def among(claimed: Decimal, values: Iterable[float | None], better: float = math.inf) -> bool:
    return any(agrees(claimed, value, better) for value in values)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; NaN if values are infinite or too large to add."""
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        return math.nan


def ratio_of(metric: Metric) -> float | None:
    """Return val_bpb / val_loss."""
    bpb, loss = metric.val_bpb, metric.val_loss
    return bpb / loss if bpb and loss and math.isfinite(bpb) and math.isfinite(loss) else None


def values_in(metric: str, metrics: Iterable[Metric]) -> list[float]:
    """Return the values of `val_bpb` or `val_loss` that are there."""
    return [value for one in metrics if (value := getattr(one, metric)) is not None]


def is_mean(headline: Headline, what: str, metrics: Sequence[Metric], better: float = math.inf) -> bool:
    """Return whether a headline is the mean of several runs' values, one for each run."""
    values = values_in(what, metrics)
    return len(values) == len(metrics) > 1 and agrees(headline.value, mean(values), better)


def fit_of(headline: Headline, metrics: Sequence[Metric], runs: Iterable[Run], margin: float) -> Fit:
    """Return how a headline fits the claimed metrics; `runs` are all of the record's, which may print it in training.

    A headline may be rounded, but not to a number that is better than the runs by more than a tenth of the margin.
    """
    better = margin / 10
    for what in headline.may_be:
        values = values_in(what, metrics)
        is_one = among(headline.value, values, better)
        if is_mean(headline, what, metrics, better) or (len(metrics) == 1 and is_one):
            return Fit.MEAN
        if is_one:
            return Fit.BEST if agrees(headline.value, min(values), better) else Fit.ONE
    every = list(runs)
    if any(_in_training(headline, run, MOST_STEPS // len(every)) for run in every):
        return Fit.IN_TRAINING
    return Fit.UNSUPPORTED


def _in_training(headline: Headline, run: Run, most: int) -> bool:
    """Return whether a run prints the headline as a diagnostic, or as its last or best validation in training.

    Of `most` steps. To the fourth decimal at least: among many logged numbers some are near to any headline.
    """
    diagnostics = [getattr(metric, headline.metric) for metric in run.metrics if metric.diagnostic]
    validations = [
        value for step in islice(run.read_steps(), most) if (value := getattr(step, headline.metric)) is not None
    ]
    shown = [*diagnostics, *validations[-1:], *sorted(validations)[:1]]
    within = min(max(ROUNDING, 1.02 * half_a_unit(headline.value)), FOURTH_DECIMAL)
    return any(value is not None and abs(float(headline.value) - value) <= within for value in shown)
