"""The ruleset's own test of a Case: where p meets alpha. The bound is of the same test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from analysis.evidence.case import Case
from analysis.rules.ruleset import Ruleset
from analysis.stats import fixed
from analysis.stats.fixed import Sample, Test
from analysis.stats.spread import sd_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A test, the upper bound of the mean that goes with it, and whether the ruleset calls it passed."""

    test: Test
    upper_bound: float
    passed: bool


def rules_test(case: Case) -> Tested:
    """Make the ruleset's test: one-sample t, Welch and pooled against a control, or z with a known spread.

    Raises EvidenceError where the runs cannot be tested.
    """
    rules, compared = case.rules, case.compared
    sample, control = compared.sample, compared.control
    if not rules.is_t_test:
        return _known_sigma(case)
    if control is not None:
        test = fixed.against_control(sample, control, compared.margin)
        bound = fixed.upper_bound_against(sample, control, rules.alpha)
    else:
        test, bound = fixed.one_sample_t(sample, compared.threshold), fixed.upper_bound(sample, rules.alpha)
    return Tested(test=test, upper_bound=bound, passed=test.p_value < rules.alpha)


def _known_sigma(case: Case) -> Tested:
    """Make the z-test; a track may pass at its own rounded critical value instead of at alpha."""
    rules, compared = case.rules, case.compared
    sample, control = compared.sample, compared.control
    assert rules.sigma is not None, "from_table gives a z-test its sigma"
    test = fixed.known_sigma_z(sample, compared.threshold, rules.sigma, control)
    passed = test.p_value < rules.alpha
    if rules.scaled_gain is not None:
        gain = fixed.scaled_gain(sample, compared.threshold, control)
        passed = gain >= rules.scaled_gain * (1 - 1e-9)  # 3.28 - 3.278 is 0.001999999...
    bound = fixed.known_sigma_upper_bound(sample, rules.alpha, rules.sigma, control)
    return Tested(test=test, upper_bound=bound, passed=passed)


def numbers(case: Case, test: Test | None, upper_bound: float | None) -> dict[str, Any]:
    """Return what every verdict with a test says of its sample, by the verdict's own keys."""
    sample = case.compared.sample
    low, high = sd_interval(sample.sd, sample.n)
    return {
        "sota": case.compared.sota,
        "threshold": case.compared.threshold,
        "n": sample.n,
        "mean": sample.mean,
        "sd": sample.sd,
        "sd_low": low,
        "sd_high": high,
        "upper_bound": upper_bound,
        "test": test,
        "level_at_own_sd": level_at_own_sd(case.rules, sample),
    }


def level_at_own_sd(rules: Ruleset, sample: Sample) -> float | None:
    """Return a known-sigma test's real level if these runs' own sd is the true one; None for other tests."""
    if rules.sigma is None or sample.sd == 0:
        return None
    critical = -float(ndtri(rules.alpha)) if rules.scaled_gain is None else rules.scaled_gain / rules.sigma
    return fixed.known_sigma_level(critical, rules.sigma, sample.sd)
