"""The ruleset's own test of a Case, with the bound of the same test, and the sentence that says what it found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import ndtri

from analysis.evidence.case import Case, Source
from analysis.rules.keys import BOTH, COMPARISON, EACH_RUN, MEAN, POOLED, T_TEST, TARGET, WELCH, Z_TEST
from analysis.rules.metrics import STEPS, TRAIN_TIME
from analysis.rules.ruleset import Ruleset
from analysis.stats import fixed
from analysis.stats.fixed import Sample, Test
from analysis.stats.spread import sd_interval
from analysis.verdict.numbers import format_p, in_short

AT_LEAST = {"above": "at least", "below": "at most"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """Whether the ruleset calls its test passed, and the test; None for a comparison without one."""

    passed: bool
    test: Test | None


def rules_test(case: Case) -> Tested:
    """Make the ruleset's test: t against a number, Welch's or the pooled against a control, z with a known spread, or none.

    Raises EvidenceError where the runs cannot be tested.
    """
    rules, compared = case.rules, case.compared
    if rules.test == COMPARISON:
        tied = compared.value == compared.threshold and _passes_at_a_tie(case)
        return Tested(passed=tied or compared.value < compared.threshold, test=None)
    if rules.test == Z_TEST:
        return _known_sigma(case)
    test = _t_test(case)
    return Tested(passed=test.p_value < rules.alpha, test=test)


def _t_test(case: Case) -> Test:
    rules, compared = case.rules, case.compared
    sample, control, margin = compared.sample, compared.control, compared.margin
    if control is None:
        return fixed.one_sample_t(sample, compared.threshold, rules.alpha)
    if compared.differences is not None:
        return fixed.paired_t(sample, compared.differences, margin, rules.alpha)
    made = {WELCH: fixed.welch_t, POOLED: fixed.pooled_t}.get(rules.test, fixed.against_control)
    return made(sample, control, margin, rules.alpha)


def _passes_at_a_tie(case: Case) -> bool:
    """Return whether a value equal to the threshold passes: a target is reached, but to beat a record takes more."""
    return case.rules.test == COMPARISON and (case.source is Source.TARGET or case.rules.against == TARGET)


def _known_sigma(case: Case) -> Tested:
    """Make the z-test; a track may pass at its own rounded critical value instead of at alpha."""
    rules, compared = case.rules, case.compared
    sample, control = compared.sample, compared.control
    assert rules.sigma is not None, "from_table gives a z-test its sigma"
    test = fixed.known_sigma_z(sample, compared.threshold, rules.sigma, rules.alpha, control)
    passed = test.p_value < rules.alpha
    if rules.scaled_gain is not None:
        gain = fixed.scaled_gain(sample, compared.threshold, control)
        passed = gain >= rules.scaled_gain * (1 - 1e-9)  # 3.28 - 3.278 is 0.001999999...
    return Tested(passed=passed, test=test)


def shown(case: Case, test: Test | None) -> Test | None:
    """Return a test whose bound is in the metric's own direction: a lower limit where higher is better."""
    return test if test is None or test.bound is None else replace(test, bound=case.compared.shown(test.bound))


def numbers(case: Case, test: Test | None) -> dict[str, Any]:
    """Return what every verdict with a sample says of it, by the verdict's own keys. The spread of one run is unknown."""
    compared, test = case.compared, shown(case, test)
    sample = compared.sample
    # where looks chose the number of runs, no interval of the sd is a 95 % one
    low, high = (None, None) if sample.n < 2 or case.looks is not None else sd_interval(sample.sd, sample.n)
    return {
        "sota": compared.shown(compared.sota),
        "threshold": compared.shown(compared.threshold),
        "n": sample.n,
        "mean": compared.shown(sample.mean),
        "value": compared.shown(compared.value),
        "sd": None if sample.n < 2 else sample.sd,
        "sd_low": low,
        "sd_high": high,
        "pair_sd": None if compared.differences is None else compared.differences.sd,
        "upper_bound": None if test is None else test.bound,
        "test": test,
        "level_at_own_sd": level_at_own_sd(case.rules, sample),
        "level_at_worst": level_at_worst(case),
    }


def level_at_own_sd(rules: Ruleset, sample: Sample) -> float | None:
    """Return a known-sigma test's real level if these runs' own sd is the true one; None for other tests."""
    if rules.sigma is None or sample.sd == 0 or math.isnan(sample.sd):
        return None
    critical = -float(ndtri(rules.alpha)) if rules.scaled_gain is None else rules.scaled_gain / rules.sigma
    return fixed.known_sigma_level(critical, rules.sigma, sample.sd)


def level_at_worst(case: Case) -> float | None:
    """Return the level of a test against a control's runs at the worst ratio of the two spreads; None for other tests."""
    sample, control = case.compared.sample, case.compared.control
    made = {WELCH: fixed.BOTH[:1], POOLED: fixed.BOTH[1:], T_TEST: fixed.BOTH, BOTH: fixed.BOTH}.get(case.rules.test)
    if made is None or control is None or case.compared.differences is not None or case.looks is not None:
        return None
    return fixed.worst_level(sample.n, control.n, case.rules.alpha, made)


# -- in words ------------------------------------------------------------------------------------------------------------


def reason(case: Case, tested: Tested) -> str:
    """Return the numbers of a test in words: what was compared, with what, by which rule, and how it came out."""
    rules, compared = case.rules, case.compared
    what = "seed" if len({run.seed for run in case.runs} - {None}) == len(case.runs) else "run"
    many = "" if compared.sample.n == 1 else "s"
    said = f"The {_statistic(case)}{rules.metric} of {compared.sample.n} {what}{many}"
    step = "" if case.at_step is None or rules.metric in (TRAIN_TIME, STEPS) else f" at step {case.at_step}"
    beyond = AT_LEAST[rules.beyond] if _passes_at_a_tie(case) else rules.beyond
    relation = beyond if tested.passed else f"not {beyond}"
    value, threshold = in_short(rules.metric, compared.shown(compared.value), compared.shown(compared.threshold))
    first = f"{said}{step}, {value}, is {relation} {threshold}"
    control = _control(case)
    if tested.test is None:
        return f"{first}{f' ({control})' if control else ''}, compared without a test."
    test = tested.test
    name, df = ("z", "") if test.df is None else ("t", f", df {test.df:.4g}")
    by = f" ({test.name} against {control})" if control else ""
    return f"{first} at {_rule(case)}: {name} = {test.statistic:z.4g}{df}, p {format_p(test.p_value)}{by}."


def _statistic(case: Case) -> str:
    """Return the word for the statistic and a blank; nothing for one run, whose mean is its value."""
    if case.rules.statistic == EACH_RUN:
        return "worst "
    said = case.rules.statistic
    if said == MEAN and case.compared.sample.n == 1:
        return ""
    return f"{said} of " if case.rules.metric.startswith(f"{said}_") else f"{said} "


def _control(case: Case) -> str:
    """Return the control whose noise counts: how many runs, and the step that it is taken at; nothing without one."""
    control = case.compared.control
    if control is None:
        return ""
    runs = f"{control.n} control run{'s' if control.n > 1 else ''}"
    runs += " of the same seeds" if case.compared.differences is not None else ""
    if case.control_step is None:
        return runs
    worth = f", a saved step being worth {case.rules.step_value:g} {case.rules.unit}" if case.rules.step_value else ""
    return f"{runs} at step {case.control_step}{worth}"


def _rule(case: Case) -> str:
    rules, compared = case.rules, case.compared
    if rules.scaled_gain is None:
        return f"p < {rules.alpha:.4g}"
    gain = fixed.scaled_gain(compared.sample, compared.threshold, compared.control)
    root = "sqrt(n)" if compared.control is None else "/ sqrt(1/n + 1/n0)"
    return f"(threshold - mean) {root} >= {rules.scaled_gain:g} (it is {gain:.6g})"
