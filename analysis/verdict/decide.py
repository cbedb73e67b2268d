"""Evidence and a ruleset in, a verdict out."""

from __future__ import annotations

from typing import Any

from analysis.evidence.compare import (
    Compared,
    compare,
    level_at_own_sd,
    metric_per_unit,
    number_to_beat,
    rules_test,
    sample_of,
)
from analysis.evidence.history import History
from analysis.reading.result import Result
from analysis.rules.findings import Finding
from analysis.rules.ruleset import Ruleset
from analysis.stats import fixed
from analysis.stats.spread import sd_interval
from analysis.sweepdir.layout import SEQUENTIAL
from analysis.verdict.looks import LookPlan, look, other_readings
from analysis.verdict.readings import readings, rerun_at_least
from analysis.verdict.verdict import NOT_SUPPORTED, Verdict, format_p, outcome, percent


def decide(
    rules: Ruleset,
    results: list[Result],
    findings: list[Finding],
    sota: float | None,
    control: list[Result],
    plan: LookPlan | None = None,
    history: History | None = None,
) -> Verdict:
    """The verdict on `results` against a published SOTA, the control's runs where there is none, or the rules' target.

    Against the control's runs their noise counts: the test is the two-sample form of the ruleset's. With a plan of
    looks the runs are taken in the given order. A planned run that failed counts as a loss. Raises EvidenceError when
    no test can be made.
    """
    base: dict[str, Any] = {
        "rules": rules.name,
        "metric": rules.metric,
        "alpha": rules.alpha,
        "margin": rules.margin,
        "unit": rules.unit,
        "runs": results,
        "control": control,
        "findings": findings,
        "caps": rules.caps,
        "sota_is": "given" if sota is not None else "control's mean" if control else "target",
    }
    if plan is not None:
        looked = look(rules, results, sota, control, plan)
        numbers = {} if looked.compared is None else _numbers(rules, looked.compared, looked.test, looked.upper_bound)
        numbers["rerun_at_least"] = None  # that number is a fixed test's
        also = other_readings(rules, results, sota, control, plan, looked)
        return Verdict(
            verdict=looked.verdict, reason=looked.reason, design=SEQUENTIAL, sequential=looked.looks, also=also,
            **base | numbers,
        )  # fmt: skip
    if failed := [result for result in results if result.state == "failed"]:
        return _lost(rules, results, failed, sota, control, base)
    compared = compare(rules, results, sota, control)
    test, upper, passed = rules_test(rules, compared)
    return Verdict(
        verdict=outcome(passed),
        reason=_reason(rules, results, compared, test, upper, passed),
        also=readings(rules, results, sota, control, history),
        **base | _numbers(rules, compared, test, upper),
    )


def _numbers(rules: Ruleset, compared: Compared, test: fixed.Test | None, upper: float | None) -> dict[str, Any]:
    sample = compared.sample
    low, high = sd_interval(sample.sd, sample.n)
    return {
        "sota": compared.sota,
        "threshold": compared.threshold,
        "n": sample.n,
        "mean": sample.mean,
        "sd": sample.sd,
        "sd_low": low,
        "sd_high": high,
        "upper_bound": upper,
        "test": test,
        "rerun_at_least": rerun_at_least(rules, compared),
        "level_at_own_sd": level_at_own_sd(rules, sample),
    }


def _lost(
    rules: Ruleset, results: list[Result], failed: list[Result], sota: float | None, control: list[Result],
    base: dict[str, Any],
) -> Verdict:  # fmt: skip
    standing = sample_of(rules, control).mean if sota is None and control else number_to_beat(rules, sota)
    factor = metric_per_unit(rules, [r for r in results if r.state == "succeeded"], rules.unit)
    threshold = None if factor is None else standing - rules.margin * factor
    reason = (
        f"{len(failed)} of {len(results)} planned runs failed (first: seed {failed[0].seed}, {failed[0].log}); "
        f"a failed run counts as a loss."
    )
    return Verdict(verdict=NOT_SUPPORTED, reason=reason, sota=standing, threshold=threshold, n=len(results), **base)


def _reason(
    rules: Ruleset, results: list[Result], compared: Compared, test: fixed.Test, upper: float, passed: bool
) -> str:
    sample = compared.sample
    what = "seeds" if all(result.seed is not None for result in results) else "runs"
    relation = "below" if passed else "not below"
    rule = f"p < {rules.alpha:g}"
    if rules.scaled_gain is not None:
        gain = fixed.scaled_gain(sample, compared.threshold, compared.control)
        root = "sqrt(n)" if compared.control is None else "/ sqrt(1/n + 1/n0)"
        rule = f"(threshold - mean) {root} >= {rules.scaled_gain:g} (it is {gain:.6f})"
    name, df = ("z", "") if test.df is None else ("t", f", df {test.df:.4g}")
    by = f" ({test.name} against {compared.control.n} control runs)" if compared.control else ""
    return (
        f"The mean {rules.metric} of {sample.n} {what}, {sample.mean:.8f}, is {relation} {compared.threshold:.8f} at {rule}: "
        f"{name} = {test.statistic:.4f}{df}, p {format_p(test.p_value)}{by}; "
        f"{percent(1 - rules.alpha)} upper bound {upper:.8f}."
    )
