"""The verdict: one answer with all its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from analysis.checks.plan import Planned
from analysis.checks.registry import Registered
from analysis.evidence.case import Case, Source
from analysis.evidence.checked import NotChecked
from analysis.evidence.options import Change
from analysis.reading.frame import for_json
from analysis.reading.result import Result
from analysis.record.selection import LeftOut
from analysis.record.stated.said import Statement
from analysis.rules.findings import Finding, errors
from analysis.rules.keys import MEAN
from analysis.stats.fixed import Test
from analysis.stats.spread import Spread
from analysis.sweepdir.plan import DesignKind
from analysis.verdict.answer import EXIT_CODES, REFUSED, UNUSABLE, Answer
from analysis.verdict.gain import Gain, gain_of


class ReadingKind(StrEnum):
    """In which way the same question is asked again."""

    OTHER_UNIT = "other unit"
    CONTROL_AS_NUMBER = "control as a number"
    WELCH = "welch"
    POOLED = "pooled"
    SPREAD_ESTIMATED = "spread estimated"
    HISTORY = "history"
    OPEN_ENDED = "open-ended"
    WELCH_AT_LOOK = "welch at this look"
    ALL_AT_ONCE = "all at once"
    ALL_RUNS = "all runs"
    WORST_CASE = "worst case"
    AMONG_LABELS = "among labels"
    AUTHOR_ALONE = "author alone"
    VERIFIER_ALONE = "verifier alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The same question asked in another way. `reading` is its name as printed, `assumes` what that way assumes.

    test: None where a loss answers it without one.
    """

    kind: ReadingKind
    reading: str
    assumes: str
    margin: float
    unit: str
    threshold: float
    verdict: Answer
    test: Test | None

    @classmethod
    def of(cls, case: Case, kind: ReadingKind, **said: Any) -> Reading:
        """Return a reading of a Case, with its margin and threshold; `said` is the rest."""
        rules, threshold = case.rules, case.compared.shown(case.compared.threshold)
        return cls(kind=kind, margin=rules.margin, unit=rules.unit, threshold=threshold, **said)


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A second lab's runs against the author's.

    low, high: where the mean of so many fresh runs falls with probability `level`, by the author's runs alone. test:
    two-sided, author against verifier.
    """

    runs: tuple[Result, ...]
    n: int
    mean: float
    spread: Spread | None
    level: float
    low: float
    high: float
    test: Test
    agrees: bool
    pooled_n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfCriterion:
    """The answer to one further criterion of the rules: `unusable` where nothing could be tested.

    test is None for a comparison. The numbers are those of a Verdict. waives: the criterion that it replaces.
    """

    name: str
    metric: str
    direction: str
    verdict: Answer
    reason: str
    alpha: float
    margin: float
    unit: str
    waives: str | None
    sota: float | None = None
    threshold: float | None = None
    n: int = 0
    mean: float | None = None
    value: float | None = None
    sd: float | None = None
    upper_bound: float | None = None
    test: Test | None = None

    @property
    def gain(self) -> Gain | None:
        return gain_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer and all its numbers.

    sota and threshold are in the metric's unit, margin in `unit`; sota_is says where sota comes from. at_step: whose
    validation counts, where the rules choose one. statistic, value: what of the runs is compared, usually their mean.
    criteria: what else the rules ask; waived: what of it the reviewer does not. plan_required: whether only runs of a plan may pass. not_counted: logs
    that no claim is made on; left_out: every run that does not count, and why. sd_low, sd_high: 95 % interval of the
    sd, None where looks chose the number of runs. pair_sd: of the differences, where pairs are tested. rerun_at_least: what the mean of a rerun SOTA would have to be, with as many runs of the same spread, for the
    claim to be supported against those runs. level_at_own_sd: what a known-sigma test's level would be if the runs' own
    sd were the true one; level_at_worst: that of a test against runs at the worst ratio of the two spreads. all_runs: the test over every complete run of the claimed program and configuration, None where
    all of them count. claims: what JSON and README say, each with what the logs say. checks: how many the rules ask for; not_checked: those that could not be made. caps: the ruleset's, on a run's artifact_bytes and train_time_s.
    """

    rules: str
    rules_because: str | None = None
    rules_changed: Mapping[str, Change] = field(default_factory=dict)
    metric: str
    direction: str
    verdict: Answer
    reason: str
    alpha: float
    margin: float
    unit: str
    at_step: int | None = None
    criteria: tuple[OfCriterion, ...] = ()
    waived: tuple[str, ...] = ()
    sota: float | None = None
    sota_is: Source = Source.GIVEN
    threshold: float | None = None
    n: int = 0
    mean: float | None = None
    statistic: str = MEAN
    value: float | None = None
    sd: float | None = None
    sd_low: float | None = None
    sd_high: float | None = None
    pair_sd: float | None = None
    upper_bound: float | None = None
    test: Test | None = None
    rerun_at_least: float | None = None
    level_at_own_sd: float | None = None
    level_at_worst: float | None = None
    design: DesignKind = DesignKind.FIXED
    sequential: Looks | None = None
    plan: Planned | None = None
    plan_required: bool = False
    registry: Registered | None = None
    verification: Verification | None = None
    runs: tuple[Result, ...] = ()
    control: tuple[Result, ...] = ()
    also: tuple[Reading, ...] = ()
    all_runs: Reading | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    claims: tuple[Statement, ...] = ()
    checks: int = 0
    not_checked: tuple[NotChecked, ...] = ()
    not_counted: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    caps: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def on(cls, case: Case, answer: Answer, reason: str, **numbers: Any) -> Verdict:
        """Return a verdict on a Case: what the Case says, an answer with its reason, and the numbers behind it."""
        rules = case.rules
        of_the_case: dict[str, Any] = {
            "rules": rules.name,
            "rules_because": case.rules_because,
            "rules_changed": case.rules_changed,
            "metric": rules.metric,
            "direction": rules.direction,
            "at_step": case.at_step,
            "statistic": rules.statistic,
            "alpha": rules.alpha,
            "margin": rules.margin,
            "unit": rules.unit,
            "sota_is": case.source,
            "design": DesignKind.SEQUENTIAL if case.looks is not None else DesignKind.FIXED,
            "plan": case.plan,
            "registry": case.registry,
            "runs": case.runs,
            "control": case.control,
            "findings": case.findings,
            "claims": case.claims,
            "checks": case.checked.asked,
            "not_checked": case.checked.not_made,
            "not_counted": case.not_counted,
            "left_out": case.left_out,
            "caps": rules.caps,
        }
        return cls(verdict=answer, reason=reason, **of_the_case | numbers)

    @property
    def gain(self) -> Gain | None:
        """How much better than what must be beaten the runs are; None where nothing was compared."""
        return gain_of(self)

    @property
    def is_decided(self) -> bool:
        """Whether the runs were compared with what they must beat."""
        return self.value is not None

    @property
    def exit_code(self) -> int:
        """0 supported, 1 not supported or not yet, 3 cannot tell; findings are not part of it."""
        return EXIT_CODES[self.verdict]

    @property
    def gate_code(self) -> int:
        """The exit code of `check`: 1 instead of 0 where a finding is an error."""
        return self.exit_code or min(self.errors, 1)

    @property
    def errors(self) -> int:
        """How many error-level findings there are: with any, `check` fails whatever the numbers say."""
        return errors(self.findings)

    @property
    def gate(self) -> str:
        """Return the verdict's answer, or `refused` where error-level findings overrule one that would pass."""
        return REFUSED if self.exit_code == 0 and self.errors else self.verdict

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, version 2. Numbers at full precision; null, never NaN."""
        table: dict[str, Any] = {"schema_version": 2} | {
            key.name: _plain(getattr(self, key.name)) for key in fields(self)
        }
        table["left_out"] = [one.row(self.metric) for one in self.left_out]
        table["gate"] = self.gate
        table |= _gained(self)
        if self.plan is not None:
            table["plan"]["exact"] = self.plan.exact
        plain: dict[str, Any] = for_json(table)
        return plain


def _gained(one: Verdict | OfCriterion) -> dict[str, float | None]:
    gain = one.gain
    return {"gain": None if gain is None else gain.mean, "gain_low": None if gain is None else gain.low}


def _plain(value: Any) -> Any:
    if isinstance(value, (Result, Statement)):
        return value.row()
    if isinstance(value, OfCriterion):
        return asdict(value) | _gained(value)
    if isinstance(value, Verification):
        return {key.name: _plain(getattr(value, key.name)) for key in fields(value)}
    if isinstance(value, (Test, Reading, Looks, Finding, Planned, Registered, Spread, Change, NotChecked)):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def unusable(case: Case, why: str) -> Verdict:
    """Return the verdict *cannot tell*, with the sentence that says why and what was read."""
    return Verdict.on(case, UNUSABLE, why, sota=case.sota, sota_is=Source.GIVEN, n=len(case.runs), control=())
