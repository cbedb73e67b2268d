"""Runs and rules to the two sides of a test: the sample, and the number or the control that it must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.reading.result import Result
from analysis.rules.metrics import UNITS as METRIC_UNITS
from analysis.rules.ruleset import Ruleset
from analysis.stats.fixed import Sample, StatisticsError
from analysis.untrusted.refusal import EvidenceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A sample and what it is compared with: a number, or the mean of the control's runs less the margin.

    margin and threshold are in the metric's own unit; control is None where its noise does not count.
    """

    sample: Sample
    control: Sample | None
    margin: float
    threshold: float

    @property
    def sota(self) -> float:
        return self.control.mean if self.control else self.threshold + self.margin


def values_of(rules: Ruleset, results: Sequence[Result]) -> list[float]:
    """Return the runs' values of the ruleset's metric. Raises EvidenceError where a run has none."""
    values = []
    for result in results:
        value = result.value(rules.metric)
        if value is None:
            raise EvidenceError(f"{result.log}: the run of seed {result.seed} has no {rules.metric} ({result.state}).")
        values.append(value)
    return values


def sample_of(rules: Ruleset, results: Sequence[Result]) -> Sample:
    """Return the runs' values as a sample. Raises EvidenceError where they cannot be tested."""
    try:
        return Sample.of(values_of(rules, results), spread_is_known=not rules.is_t_test)
    except StatisticsError as error:
        raise EvidenceError(f"{results[0].log} and the others: {error}") from None


def metric_per_unit(rules: Ruleset, results: Sequence[Result], unit: str) -> float | None:
    """Return what one `unit` is in the metric's own unit, from the runs' val_bpb / val_loss; None where unknown."""
    if unit == METRIC_UNITS[rules.metric]:
        return 1.0
    ratios = [run.val_bpb / run.val_loss for run in results if run.val_bpb and run.val_loss]
    if not ratios:
        return None
    bpb_per_nat = math.fsum(ratios) / len(ratios)
    return bpb_per_nat if unit == "nats" else 1 / bpb_per_nat


def margin_in_metric(rules: Ruleset, results: Sequence[Result]) -> float:
    """Return the margin in the metric's own unit. Raises EvidenceError where the runs do not say how to convert it."""
    if rules.margin == 0:
        return 0.0
    factor = metric_per_unit(rules, results, rules.unit)
    if factor is None:
        raise EvidenceError(f"A margin in {rules.unit} needs runs that print both val_loss and val_bpb.")
    return rules.margin * factor
