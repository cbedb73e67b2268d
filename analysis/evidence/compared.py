"""Runs and rules to the two sides of a test: the sample, and the number or the control that it must beat."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.reading.result import Result
from analysis.record.metrics import OF_THE_RUN
from analysis.rules.keys import EACH_RUN, MEAN, PAIRED
from analysis.rules.metrics import CONVERTIBLE, unit_of
from analysis.rules.ruleset import Ruleset
from analysis.stats.fixed import Sample, StatisticsError
from analysis.stats.summary import STATISTICS
from analysis.untrusted.refusal import EvidenceError

LARGEST = 1e100  # squares of larger numbers are beyond a computer's arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A sample and what it is compared with: a number, or the control's statistic less the margin.

    The numbers are in the metric's own unit and turned so that lower is better (times `sign`); `shown` turns one back.
    value: the statistic that the rules compare, usually the sample's mean. control is None where its noise does not count.
    differences: of each run and the control's run of its seed, where the test is of pairs.
    """

    sample: Sample
    control: Sample | None
    differences: Sample | None
    value: float
    margin: float
    threshold: float
    sign: int

    @property
    def sota(self) -> float:
        return self.threshold + self.margin

    def shown(self, number: float) -> float:
        """Return a number as the metric has it."""
        return self.sign * number


def values_of(rules: Ruleset, results: Sequence[Result]) -> list[float]:
    """Return the runs' values of the ruleset's metric. Raises EvidenceError where a run has none."""
    values = []
    for result in results:
        value = result.value(rules.metric)
        if value is None:
            who = "the run" if result.seed is None else f"the run of seed {result.seed}"
            state = "" if result.succeeded else f" ({result.state})"
            raise EvidenceError(f"{result.log}: {who} has no {rules.metric}{state}.")
        if not abs(value) < LARGEST or (rules.metric in OF_THE_RUN and value <= 0):
            raise EvidenceError(f"{result.log}: {rules.metric} is {value:g}, which no run can end with.")
        values.append(value)
    return values


def sample_of(rules: Ruleset, results: Sequence[Result]) -> Sample:
    """Return the runs' values as a sample. Raises EvidenceError where they cannot be tested."""
    values = values_of(rules, results)
    try:
        return Sample.of(values, spread_is_known=not rules.is_t_test)
    except StatisticsError as error:
        raise EvidenceError(f"{results[0].log if results else 'no log'} and the others: {error}") from None


def compare(rules: Ruleset, runs: Sequence[Result], control: Sequence[Result], number: float | None) -> Compared:
    """Return the two sides of the ruleset's test: against a number, else against the control's runs. Raises EvidenceError."""
    sign, margin = rules.sign, margin_in_metric(rules, runs)
    in_pairs = rules.test == PAIRED  # which is against runs, never a number
    control = control_of_pairs(runs, control) if in_pairs else control
    other = turned(sample_of(rules, control), sign) if number is None else None
    standing = standing_of(rules, control) if number is None else sign * number
    return Compared(
        sample=turned(sample_of(rules, runs), sign),
        control=other,
        differences=turned(_differences(rules, runs, control), sign) if in_pairs else None,
        value=statistic_of(rules, runs),
        margin=margin,
        threshold=standing - margin,
        sign=sign,
    )


def control_of_pairs(runs: Sequence[Result], control: Sequence[Result]) -> list[Result]:
    """Return the control's run of each run's seed, in the order of the runs. Raises EvidenceError where a run has not exactly one."""
    pairs = [[one for one in control if one.seed == run.seed and run.seed is not None] for run in runs]
    for run, found in zip(runs, pairs, strict=True):
        if len(found) != 1 or [one.seed for one in runs].count(run.seed) > 1:
            there = f"has {len(found) or 'no'} control run{'s' * (len(found) > 1)} of its seed"
            what = "does not print its seed" if run.seed is None else there
            what = f"is one of several of seed {run.seed}" if len(found) == 1 else what
            raise EvidenceError(
                f"{run.log} {what}. The test is of pairs: one candidate run and one control run of a seed."
            )
    return [found[0] for found in pairs]


def _differences(rules: Ruleset, runs: Sequence[Result], control: Sequence[Result]) -> Sample:
    """Return what each run has more than its pair's control run. Raises EvidenceError where nothing scatters."""
    own, others = values_of(rules, runs), values_of(rules, control)
    differences = [a - b for a, b in zip(own, others, strict=True)]
    rounding = 4 * sys.float_info.epsilon * max(map(abs, own + others))
    try:
        if max(differences) - min(differences) <= rounding:
            raise StatisticsError(f"all are {differences[0]:.8f}, so nothing scatters that a test could count.")
        return Sample.of(differences)
    except StatisticsError as error:
        raise EvidenceError(f"The differences of {len(runs)} pairs: {error}") from None


def turned(sample: Sample, sign: int) -> Sample:
    """Return a sample of values times `sign`."""
    return Sample(n=sample.n, mean=sign * sample.mean, sd=sample.sd)


def statistic_of(rules: Ruleset, results: Sequence[Result]) -> float:
    """Return the ruleset's statistic of the runs' values, turned so that lower is better. Raises EvidenceError."""
    found = STATISTICS[rules.statistic]([rules.sign * value for value in values_of(rules, results)])
    if not math.isfinite(found):
        raise EvidenceError(f"{len(results)} runs have no {rules.statistic}: it leaves out the best and the worst run.")
    return found


def standing_of(rules: Ruleset, control: Sequence[Result]) -> float:
    """Return what a control's runs set, turned likewise: their statistic, and their mean where each run must beat it."""
    return statistic_of(replace(rules, statistic=MEAN) if rules.statistic == EACH_RUN else rules, control)


def metric_per_unit(rules: Ruleset, results: Sequence[Result], unit: str) -> float | None:
    """Return what one `unit` is in the metric's own unit, from the runs' val_bpb / val_loss; None where unknown."""
    own = unit_of(rules.metric)
    if unit == own or rules.margin == 0:
        return 1.0
    if {unit, own} - set(CONVERTIBLE):
        return None
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
        needs = (
            "runs that print both val_loss and val_bpb" if rules.unit in CONVERTIBLE else f"a metric in {rules.unit}"
        )
        raise EvidenceError(f"A margin in {rules.unit} needs {needs}; the metric is {rules.metric}.")
    return rules.margin * factor
