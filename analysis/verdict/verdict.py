"""The verdict: one answer with all its numbers. How it is reached stands in analysis.decide."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from analysis.checks.plan import Planned
from analysis.reading.frame import Result, finite_or_null
from analysis.rules.findings import Finding
from analysis.rules.ruleset import Ruleset
from analysis.stats.fixed import Test
from analysis.stats.spread import Spread
from analysis.sweepdir.layout import FIXED

SUPPORTED, NOT_SUPPORTED, CONTINUE, UNUSABLE = "supported", "not_supported", "continue", "unusable"
EXIT_CODES = {SUPPORTED: 0, NOT_SUPPORTED: 1, CONTINUE: 1, UNUSABLE: 3}


@dataclass(frozen=True, slots=True)
class Reading:
    """The same question asked in another way, with what that way assumes."""

    reading: str
    assumes: str
    margin: float
    unit: str
    threshold: float
    verdict: str
    test: Test


@dataclass(frozen=True, slots=True)
class Looks:
    """Where a sequential test stands. `taken` is the number of seeds at the last look that counts, 0 before the first.

    nominal_p, critical: what this look's own p and t must be below; p_value: the look's own p. stagewise_p: after
    stopping. chance: of passing at a later look, averaged over the gains that the runs allow. next_look: how many seeds
    there must be then; next_seeds: the planned ones to run for it.
    """

    looks: tuple[int, ...]
    boundary: str
    taken: int
    p_value: float | None = None
    nominal_p: float | None = None
    critical: float | None = None
    stagewise_p: float | None = None
    next_look: int | None = None
    next_seeds: list[int] = field(default_factory=list)
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A second lab's runs beside the author's. The interval is where the mean of so many fresh runs lies with
    probability `level`, by the author's runs alone; the test is two-sided, author against verifier."""

    runs: list[Result]
    n: int
    mean: float
    spread: Spread | None
    level: float
    low: float
    high: float
    test: Test
    agrees: bool
    pooled_n: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and all its numbers. sota and threshold are in the metric's unit, margin in `unit`; `sota_is` says
    whether sota was given, is the ruleset's target or the control's mean; not_counted names logs that no claim is made on.

    sd_low, sd_high: 95 % interval of the sd. rerun_at_least: what the mean of a rerun SOTA would have to be, with as
    many runs of the same spread, for the claim to be supported against those runs. level_at_own_sd: what a known-sigma
    test's level would be if the runs' own sd were the true one. caps: the ruleset's on a run's artifact_bytes and train_time_s.
    """

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
    sd_low: float | None = None
    sd_high: float | None = None
    upper_bound: float | None = None
    test: Test | None = None
    rerun_at_least: float | None = None
    level_at_own_sd: float | None = None
    design: str = FIXED
    sequential: Looks | None = None
    plan: Planned | None = None
    verification: Verification | None = None
    runs: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    also: list[Reading] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_counted: list[str] = field(default_factory=list)
    caps: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, version 1. Numbers at full precision; null, never NaN."""
        table: dict[str, Any] = {"schema_version": 1, **asdict(self)}
        if self.plan is not None:
            table["plan"]["exact"] = self.plan.exact
        plain: dict[str, Any] = finite_or_null(table)
        return plain


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
        n=len(results), runs=results, findings=findings, not_counted=not_counted, caps=rules.caps,
    )  # fmt: skip


def percent(level: float) -> str:
    """A confidence level as printed: 0.999 is 99.9%."""
    return f"{100 * level:.6g}%"


def format_p(p: float) -> str:
    """p as printed: never zero."""
    if p >= 1e-4:
        return f"= {p:.4g}"
    return f"< 1e-{min(-math.ceil(math.log10(p)), 300)}" if p > 0 else "< 1e-300"


def outcome(passed: bool) -> str:
    return SUPPORTED if passed else NOT_SUPPORTED
