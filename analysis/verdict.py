"""The verdict: evidence and a ruleset in, one answer with its numbers out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from analysis import stats
from analysis.evidence import EvidenceError
from analysis.findings import Finding
from analysis.rules import METRIC_UNITS, Z_TEST, Ruleset
from analysis.runs import Result, finite_or_null

SUPPORTED, NOT_SUPPORTED, UNUSABLE = "supported", "not_supported", "unusable"
EXIT_CODES = {SUPPORTED: 0, NOT_SUPPORTED: 1, UNUSABLE: 3}


@dataclass(frozen=True, slots=True)
class Reading:
    """The same question asked in another way, with what that way assumes."""

    reading: str
    assumes: str
    margin: float
    unit: str
    threshold: float
    verdict: str
    test: stats.Test


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and all its numbers. sota and threshold are in the metric's unit, margin in `unit`; `sota_is` says
    whether sota was given, is the ruleset's target or the control's mean; not_counted names logs that no claim is made on."""

    rules: str
    metric: str
    verdict: str
    reason: str
    alpha: float
    margin: float
    unit: str
    sota: float | None = None
    sota_is: str = "given"
    threshold: float | None = None
    n: int = 0
    mean: float | None = None
    sd: float | None = None
    upper_bound: float | None = None
    test: stats.Test | None = None
    runs: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    also: list[Reading] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_counted: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, version 1. Numbers at full precision; null, never NaN."""
        table: dict[str, Any] = {"schema_version": 1, **asdict(self)}
        plain: dict[str, Any] = finite_or_null(table)
        return plain


def decide(
    rules: Ruleset,
    results: list[Result],
    findings: list[Finding],
    sota: float | None,
    control: list[Result],
) -> Verdict:
    """The verdict on `results` against a published SOTA, the mean of the control's runs or the ruleset's target.

    A planned run that failed counts as a loss. Raises EvidenceError when no test can be made.
    """
    base: dict[str, Any] = {
        "rules": rules.name,
        "metric": rules.metric,
        "alpha": rules.alpha,
        "margin": rules.margin,
        "unit": rules.unit,
        "n": len(results),
        "runs": results,
        "control": control,
        "findings": findings,
        "sota_is": "given" if sota is not None else "control's mean" if control else "target",
    }
    control_sample = _sample(rules, control) if control else None
    if sota is None:
        sota = control_sample.mean if control_sample else rules.target
        if sota is None:
            raise EvidenceError("There is neither a SOTA nor a control to compare with.")
    failed = [result for result in results if result.state == "failed"]
    if failed:
        factor = _metric_per_unit(rules, [r for r in results if r.state == "succeeded"], rules.unit)
        threshold = None if factor is None else sota - rules.margin * factor
        reason = (
            f"{len(failed)} of {len(results)} planned runs failed (first: seed {failed[0].seed}, {failed[0].log}); "
            f"a failed run counts as a loss."
        )
        return Verdict(verdict=NOT_SUPPORTED, reason=reason, sota=sota, threshold=threshold, **base)

    sample = _sample(rules, results)
    margin = _margin_in_metric(rules, results, rules.unit)
    threshold = sota - margin
    test, upper, passed = _test(rules, sample, threshold)
    outcome = SUPPORTED if passed else NOT_SUPPORTED
    return Verdict(
        verdict=outcome,
        reason=_reason(rules, results, sample, threshold, test, upper, outcome),
        sota=sota,
        threshold=threshold,
        mean=sample.mean,
        sd=sample.sd,
        upper_bound=upper,
        test=test,
        also=_also(rules, results, sample, sota, control_sample, margin),
        **base,
    )


def unusable(
    rules: Ruleset,
    error: Exception,
    sota: float | None,
    results: list[Result],
    findings: list[Finding],
    not_counted: list[str],
) -> Verdict:
    """The verdict *cannot tell*, with the sentence that says why and what was read."""
    return Verdict(
        rules.name, rules.metric, UNUSABLE, str(error), rules.alpha, rules.margin, rules.unit, sota,
        n=len(results), runs=results, findings=findings, not_counted=not_counted,
    )  # fmt: skip


def percent(level: float) -> str:
    """A confidence level as printed: 0.999 is 99.9%."""
    return f"{100 * level:.6g}%"


def format_p(p: float) -> str:
    """p as printed: never zero."""
    if p >= 1e-4:
        return f"= {p:.4g}"
    return f"< 1e-{min(-math.ceil(math.log10(p)), 300)}" if p > 0 else "< 1e-300"


def _outcome(test: stats.Test, alpha: float) -> str:
    return SUPPORTED if test.p_value < alpha else NOT_SUPPORTED


def _test(rules: Ruleset, sample: stats.Sample, threshold: float) -> tuple[stats.Test, float, bool]:
    """The ruleset's test, the upper bound that goes with it, and whether it is passed."""
    if rules.test != Z_TEST or rules.sigma is None:
        test = stats.one_sample_t(sample, threshold)
        return test, stats.upper_bound(sample, rules.alpha), test.p_value < rules.alpha
    test = stats.known_sigma_z(sample, threshold, rules.sigma)
    passed = test.p_value < rules.alpha
    if rules.scaled_gain is not None:
        passed = _scaled_gain(sample, threshold) >= rules.scaled_gain * (1 - 1e-9)  # 3.28 - 3.278 is 0.001999999...
    return test, stats.known_sigma_upper_bound(sample, rules.alpha, rules.sigma), passed


def _scaled_gain(sample: stats.Sample, threshold: float) -> float:
    """(threshold - mean) sqrt(n): the speedrun's own statistic, in the metric's unit."""
    return (threshold - sample.mean) * math.sqrt(sample.n)


def _values(rules: Ruleset, results: list[Result]) -> list[float]:
    values = []
    for result in results:
        value = getattr(result, rules.metric)
        if value is None:
            raise EvidenceError(f"{result.log}: the run of seed {result.seed} has no {rules.metric} ({result.state}).")
        values.append(value)
    return values


def _sample(rules: Ruleset, results: list[Result]) -> stats.Sample:
    try:
        return stats.Sample.of(_values(rules, results), spread_is_known=rules.test == Z_TEST)
    except stats.StatisticsError as error:
        raise EvidenceError(f"{results[0].log} and the others: {error}") from None


def _metric_per_unit(rules: Ruleset, results: list[Result], unit: str) -> float | None:
    """What one `unit` is in the metric's own unit, from the runs' val_bpb / val_loss; None when unknown."""
    if unit == METRIC_UNITS[rules.metric]:
        return 1.0
    ratios = [r.val_bpb / r.val_loss for r in results if r.val_bpb and r.val_loss]
    if not ratios:
        return None
    bpb_per_nat = math.fsum(ratios) / len(ratios)
    return bpb_per_nat if unit == "nats" else 1 / bpb_per_nat


def _margin_in_metric(rules: Ruleset, results: list[Result], unit: str) -> float:
    if rules.margin == 0:
        return 0.0
    factor = _metric_per_unit(rules, results, unit)
    if factor is None:
        raise EvidenceError(f"A margin in {unit} needs runs that print both val_loss and val_bpb.")
    return rules.margin * factor


def _reason(
    rules: Ruleset,
    results: list[Result],
    sample: stats.Sample,
    threshold: float,
    test: stats.Test,
    upper: float,
    outcome: str,
) -> str:
    what = "seeds" if all(result.seed is not None for result in results) else "runs"
    relation = "below" if outcome == SUPPORTED else "not below"
    rule = f"p < {rules.alpha:g}"
    if rules.scaled_gain is not None:
        gain = _scaled_gain(sample, threshold)
        rule = f"(threshold - mean) sqrt(n) >= {rules.scaled_gain:g} (it is {gain:.6f})"
    name, df = ("z", "") if test.df is None else ("t", f", df {test.df:g}")
    return (
        f"The mean {rules.metric} of {sample.n} {what}, {sample.mean:.8f}, is {relation} {threshold:.8f} at {rule}: "
        f"{name} = {test.statistic:.4f}{df}, p {format_p(test.p_value)}; {percent(1 - rules.alpha)} upper bound {upper:.8f}."
    )


def _also(
    rules: Ruleset,
    results: list[Result],
    sample: stats.Sample,
    sota: float,
    control: stats.Sample | None,
    margin: float,
) -> list[Reading]:
    readings = []
    if rules.test == Z_TEST and sample.sd > 0:
        test = stats.one_sample_t(sample, sota - margin)
        reading = "one-sample t", "the spread is not known but estimated from these runs"
        readings.append(Reading(*reading, rules.margin, rules.unit, sota - margin, _outcome(test, rules.alpha), test))
    other = "nats" if rules.unit == "bpb" else "bpb"
    factor = _metric_per_unit(rules, results, other)
    margins = [(rules.unit, margin)]
    if factor is not None and rules.margin > 0:
        margins.append((other, rules.margin * factor))
        threshold = sota - rules.margin * factor
        test, _, passed = _test(rules, sample, threshold)
        readings.append(
            Reading(
                f"margin of {rules.margin:g} {other}",
                f"the leaderboard meant {other}; converted by the runs' own val_bpb / val_loss",
                rules.margin,
                other,
                threshold,
                SUPPORTED if passed else NOT_SUPPORTED,
                test,
            )
        )
    if control is None or sample.sd == 0 or control.sd == 0:
        return readings
    for unit, in_metric in margins:
        for name, assumes, function in (
            ("Welch", "the control's noise counts; spreads may differ", stats.welch_t),
            ("pooled", "the control's noise counts; spreads are equal", stats.pooled_t),
        ):
            test = function(sample, control, in_metric)
            readings.append(
                Reading(
                    f"{name} against {control.n} control runs, margin of {rules.margin:g} {unit}",
                    assumes,
                    rules.margin,
                    unit,
                    control.mean - in_metric,
                    _outcome(test, rules.alpha),
                    test,
                )
            )
    return readings
