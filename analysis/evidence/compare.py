"""Runs and a ruleset to the two sides of a test: the sample, and the number or the control that it must beat."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri

from analysis.evidence.gather import EvidenceError
from analysis.reading.result import Result
from analysis.rules.ruleset import METRIC_UNITS, Z_TEST, Ruleset
from analysis.stats import fixed


@dataclass(frozen=True, slots=True)
class Compared:
    """A sample and what it is compared with: a number, or the mean of the control's runs less the margin.

    margin and threshold are in the metric's own unit; control is None where its noise does not count.
    """

    sample: fixed.Sample
    control: fixed.Sample | None
    margin: float
    threshold: float

    @property
    def sota(self) -> float:
        return self.control.mean if self.control else self.threshold + self.margin


def compare(rules: Ruleset, results: list[Result], sota: float | None, control: list[Result]) -> Compared:
    """What a claim compares: the runs with `sota`, where there is none with the control's runs, else with the target.

    Raises EvidenceError when the runs have no values that can be tested.
    """
    sample = sample_of(rules, results)
    margin = margin_in_metric(rules, results)
    if sota is None and control:
        other = sample_of(rules, control)
        return Compared(sample, other, margin, other.mean - margin)
    return Compared(sample, None, margin, number_to_beat(rules, sota) - margin)


def number_to_beat(rules: Ruleset, sota: float | None) -> float:
    """The SOTA or, where none is given, the ruleset's target. Raises EvidenceError when there is neither."""
    standing = sota if sota is not None else rules.target
    if standing is None:
        raise EvidenceError("There is neither a SOTA nor a control to compare with.")
    return standing


def rules_test(rules: Ruleset, compared: Compared) -> tuple[fixed.Test, float, bool]:
    """The ruleset's test, the upper bound that goes with it, and whether it is passed."""
    sample, control, threshold = compared.sample, compared.control, compared.threshold
    if rules.test == Z_TEST and rules.sigma is not None:
        z = fixed.known_sigma_z(sample, threshold, rules.sigma, control)
        passed = z.p_value < rules.alpha
        if rules.scaled_gain is not None:
            gain = fixed.scaled_gain(sample, threshold, control)
            passed = gain >= rules.scaled_gain * (1 - 1e-9)  # 3.28 - 3.278 is 0.001999999...
        return z, fixed.known_sigma_upper_bound(sample, rules.alpha, rules.sigma, control), passed
    if control is not None:
        test = fixed.against_control(sample, control, compared.margin)
        return test, fixed.upper_bound_against(sample, control, rules.alpha), test.p_value < rules.alpha
    test = fixed.one_sample_t(sample, threshold)
    return test, fixed.upper_bound(sample, rules.alpha), test.p_value < rules.alpha


def level_at_own_sd(rules: Ruleset, sample: fixed.Sample) -> float | None:
    """What a known-sigma test's level really is if these runs' own sd is the true one; None for other tests."""
    if rules.test != Z_TEST or rules.sigma is None or sample.sd == 0:
        return None
    critical = -float(ndtri(rules.alpha)) if rules.scaled_gain is None else rules.scaled_gain / rules.sigma
    return fixed.known_sigma_level(critical, rules.sigma, sample.sd)


def values_of(rules: Ruleset, results: list[Result]) -> list[float]:
    """The runs' values of the ruleset's metric. Raises EvidenceError when one has none."""
    values = []
    for result in results:
        value = getattr(result, rules.metric)
        if value is None:
            raise EvidenceError(f"{result.log}: the run of seed {result.seed} has no {rules.metric} ({result.state}).")
        values.append(value)
    return values


def sample_of(rules: Ruleset, results: list[Result]) -> fixed.Sample:
    """The runs' values as a sample. Raises EvidenceError when they cannot be tested."""
    try:
        return fixed.Sample.of(values_of(rules, results), spread_is_known=rules.test == Z_TEST)
    except fixed.StatisticsError as error:
        raise EvidenceError(f"{results[0].log} and the others: {error}") from None


def metric_per_unit(rules: Ruleset, results: list[Result], unit: str) -> float | None:
    """What one `unit` is in the metric's own unit, from the runs' val_bpb / val_loss; None when unknown."""
    if unit == METRIC_UNITS[rules.metric]:
        return 1.0
    ratios = [r.val_bpb / r.val_loss for r in results if r.val_bpb and r.val_loss]
    if not ratios:
        return None
    bpb_per_nat = math.fsum(ratios) / len(ratios)
    return bpb_per_nat if unit == "nats" else 1 / bpb_per_nat


def margin_in_metric(rules: Ruleset, results: list[Result]) -> float:
    """The ruleset's margin in the metric's own unit. Raises EvidenceError when the runs do not say how to convert it."""
    if rules.margin == 0:
        return 0.0
    factor = metric_per_unit(rules, results, rules.unit)
    if factor is None:
        raise EvidenceError(f"A margin in {rules.unit} needs runs that print both val_loss and val_bpb.")
    return rules.margin * factor
