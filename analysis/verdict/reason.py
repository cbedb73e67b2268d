"""The sentence that says what the ruleset's test found."""

from __future__ import annotations

from analysis.evidence.case import Case
from analysis.rules.keys import EACH_RUN, MEAN
from analysis.stats.fixed import scaled_gain
from analysis.verdict.numbers import format_p, in_metric, percent
from analysis.verdict.tested import Tested


def reason(case: Case, tested: Tested) -> str:
    """Return the numbers of a test in words: what was compared, with what, by which rule, and how it came out."""
    rules, compared = case.rules, case.compared
    what = "seed" if all(run.seed is not None for run in case.runs) else "run"
    many = "" if compared.sample.n == 1 else "s"
    value = rules.metric if rules.statistic == MEAN else f"{_statistic(case)} {rules.metric}"
    said = f"The {'mean ' if rules.statistic == MEAN else ''}{value} of {compared.sample.n} {what}{many}"
    step = f" at step {case.at_step}" if case.at_step is not None else ""
    relation = rules.beyond if tested.passed else f"not {rules.beyond}"
    first = f"{said}{step}, {in_metric(compared.shown(compared.value))}, is {relation} "
    first += f"{in_metric(compared.shown(compared.threshold))}"
    by = f" ({compared.control.n} control runs{_step_of_control(case)})" if compared.control is not None else ""
    if tested.test is None:
        return f"{first}{by}, compared without a test."
    test = tested.test
    name, df = ("z", "") if test.df is None else ("t", f", df {test.df:.4g}")
    if compared.control is not None:
        by = f" ({test.name} against {compared.control.n} control runs{_step_of_control(case)})"
    assert tested.upper_bound is not None, "a test has a bound"
    return (
        f"{first} at {_rule(case)}: {name} = {test.statistic:.4f}{df}, p {format_p(test.p_value)}{by}; "
        f"{percent(1 - rules.alpha)} {'lower' if rules.sign < 0 else 'upper'} bound {in_metric(tested.upper_bound)}."
    )


def _statistic(case: Case) -> str:
    return "worst" if case.rules.statistic == EACH_RUN else case.rules.statistic


def _step_of_control(case: Case) -> str:
    return "" if case.control_step is None else f" at step {case.control_step}"


def _rule(case: Case) -> str:
    rules, compared = case.rules, case.compared
    if rules.scaled_gain is None:
        return f"p < {rules.alpha:g}"
    gain = scaled_gain(compared.sample, compared.threshold, compared.control)
    root = "sqrt(n)" if compared.control is None else "/ sqrt(1/n + 1/n0)"
    return f"(threshold - mean) {root} >= {rules.scaled_gain:g} (it is {gain:.6f})"
