"""The same runs read in other ways, each with what it assumes, and what rerunning the SOTA would change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from analysis.evidence.compare import Compared, compare, metric_per_unit, rules_test
from analysis.evidence.history import History
from analysis.reading.result import Result
from analysis.rules.ruleset import Z_TEST, Ruleset
from analysis.stats import fixed, sequential
from analysis.verdict.verdict import Reading, outcome

WAYS = (
    ("Welch", "the control's noise counts; spreads may differ", fixed.welch_t),
    ("pooled", "the control's noise counts; spreads are equal", fixed.pooled_t),
)


def readings(
    rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], history: History | None
) -> list[Reading]:
    """Every other reading that these runs allow. Raises EvidenceError where the verdict itself would."""
    units = in_both_units(rules, results)
    mine = compare(rules, results, sota, control)
    found = []
    if len(units) > 1:
        other, unit = compare(units[1], results, sota, control), units[1].unit
        test, _, passed = rules_test(units[1], other)
        name = f"margin of {rules.margin:g} {unit}"
        found.append(reading(units[1], name, if_meant(unit), other.threshold, test, passed))
    if mine.sample.sd == 0:
        return found
    if control and all(result.state == "succeeded" for result in control):
        found += _against(rules, units, results, control, sota is None)
    elif rules.test == Z_TEST:
        found.append(_by_t(rules, mine, "one-sample t", "the spread is not known but estimated from these runs"))
    if history is not None and mine.control is None:
        usual = history.prior
        test = fixed.moderated_t(mine.sample, mine.threshold, usual.sd, usual.df)
        assumes = (
            f"the spread is like that of {len(history.records)} earlier records, sd {usual.sd:.6f}, "
            f"which count as {usual.df:.1f} degrees of freedom; records that passed have small spreads by selection"
        )
        found.append(reading(rules, "history-assisted t", assumes, mine.threshold, test, test.p_value < rules.alpha))
    if rules.test != Z_TEST:
        found.append(open_ended(rules, mine))
    return found


def in_both_units(rules: Ruleset, results: list[Result]) -> list[Ruleset]:
    """The ruleset, and the same with its margin in the other unit where that differs and the runs allow it."""
    other = "nats" if rules.unit == "bpb" else "bpb"
    if rules.margin == 0 or metric_per_unit(rules, results, other) is None:
        return [rules]
    return [rules, replace(rules, unit=other)]


def open_ended(rules: Ruleset, compared: Compared) -> Reading:
    """The e-value: what the runs are worth when nothing was fixed of how many there would be."""
    sample, control = compared.sample, compared.control
    if control is None:
        t, information = fixed.one_sample_t(sample, compared.threshold), float(sample.n)
    else:
        t, information = fixed.pooled_t(sample, control, compared.margin), 1 / (1 / sample.n + 1 / control.n)
    assert t.df is not None, "a t-test has degrees of freedom"
    e = float(sequential.e_value(-t.statistic, t.df, information))
    test = fixed.Test("e-value", e, t.df, min(1.0, 1 / e) if e > 0 else 1.0)
    assumes = "holds however many seeds were run and whenever one looked; passes at 1 / alpha"
    return reading(rules, "open-ended e-value", assumes, compared.threshold, test, e >= 1 / rules.alpha)


def rerun_at_least(rules: Ruleset, compared: Compared) -> float | None:
    """The lowest mean of a rerun SOTA, as many runs of the same spread, against which the claim would be supported."""
    sample = compared.sample
    if compared.control is not None or rules.test == Z_TEST or sample.sd == 0:
        return None
    return fixed.upper_bound_against(sample, replace(sample, mean=0.0), rules.alpha) + compared.margin


def _against(
    rules: Ruleset, units: list[Ruleset], results: list[Result], control: list[Result], is_verdict: bool
) -> Iterator[Reading]:
    if is_verdict:
        standing = math.fsum(getattr(run, rules.metric) for run in control) / len(control)
        alone = compare(rules, results, standing, [])
        yield _by_t(rules, alone, "one-sample t against the control's mean", "the control's mean is an exact number")
    for one in units:
        compared = compare(one, results, None, control)
        if compared.control is None or compared.control.sd == 0:
            return
        for name, assumes, function in WAYS:
            test = function(compared.sample, compared.control, compared.margin)
            said = f"{name} against {compared.control.n} control runs, margin of {one.margin:g} {one.unit}"
            yield reading(one, said, assumes, compared.threshold, test, test.p_value < one.alpha)


def _by_t(rules: Ruleset, compared: Compared, name: str, assumes: str) -> Reading:
    test = fixed.one_sample_t(compared.sample, compared.threshold)
    return reading(rules, name, assumes, compared.threshold, test, test.p_value < rules.alpha)


def reading(rules: Ruleset, name: str, assumes: str, threshold: float, test: fixed.Test, passed: bool) -> Reading:
    """A reading under a ruleset, whose margin and unit it has."""
    return Reading(name, assumes, rules.margin, rules.unit, threshold, outcome(passed), test)


def if_meant(unit: str) -> str:
    """What a margin read in the other unit assumes."""
    return f"the leaderboard meant {unit}; converted by the runs' own val_bpb / val_loss"
