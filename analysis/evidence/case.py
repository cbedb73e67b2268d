"""The Case: all that a verdict may rest on. Everything that decides takes one, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from analysis.checks.plan import Planned
from analysis.checks.registry import Registered
from analysis.evidence.checked import NONE, Checked
from analysis.evidence.compared import Compared, compare, metric_per_unit, standing_of
from analysis.evidence.history import History
from analysis.evidence.look_plan import LookPlan
from analysis.evidence.options import Change
from analysis.reading.result import Result
from analysis.record import metrics
from analysis.record.arms import Arms
from analysis.record.selection import LeftOut
from analysis.record.stated.said import Statement
from analysis.rules.findings import Finding
from analysis.rules.keys import AGAINST_RUNS, BOTH, PAIRED, STANDING, T_TEST, TARGET
from analysis.rules.metrics import CONVERTIBLE, unit_of
from analysis.rules.ruleset import Criterion, Ruleset
from analysis.untrusted.refusal import EvidenceError


class Source(StrEnum):
    """Where the number to beat comes from."""

    GIVEN = "given"
    TARGET = "target"
    CONTROL = "control's mean"

    @property
    def rival(self) -> str:
        """Return what is beaten, in a word."""
        return {Source.GIVEN: "SOTA", Source.TARGET: "target", Source.CONTROL: "control"}[self]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Every run that was found, the rules as they apply with what chose them, and what must be beaten.

    runs, control: those that count. left_out: every other run, with the reason. sota: the number to beat, in the
    metric's unit; None where the control's runs or the rules' target are to be beaten. control_is_planned: whether
    the control's runs are those of the plan, which must be beaten. label: the final metric's label that the reviewer
    chose. waived: the criteria that the reviewer does not ask. control_step: the step whose validation counts for the
    control, where the rules choose one. looks: when a sequential test looks, None for a fixed one. plan: how the runs
    keep to a plan. registry: what a registry holds of it, None where none was named. second: a second lab's Case.
    claims: what JSON and README say, each with what the logs say. checked: which checks could be made. not_counted:
    logs that the claim does not speak of. arms: which folders are compared, None where the runs are one sample.
    fault: why no verdict can rest on the runs.
    """

    rules: Ruleset
    where: str
    runs: tuple[Result, ...] = ()
    rules_because: str | None = None
    rules_changed: Mapping[str, Change] = field(default_factory=dict)
    control: tuple[Result, ...] = ()
    control_is_planned: bool = False
    left_out: tuple[LeftOut, ...] = ()
    sota: float | None = None
    label: str | None = None
    waived: frozenset[str] = frozenset()
    control_step: int | None = None
    looks: LookPlan | None = None
    plan: Planned | None = None
    registry: Registered | None = None
    history: History | None = None
    second: Case | None = None
    findings: tuple[Finding, ...] = ()
    claims: tuple[Statement, ...] = ()
    checked: Checked = NONE
    not_counted: tuple[str, ...] = ()
    arms: Arms | None = None
    fault: str | None = None

    @property
    def source(self) -> Source:
        if self.rules.test in AGAINST_RUNS:
            return Source.CONTROL
        if self.sota is not None:
            return Source.GIVEN
        return Source.CONTROL if self.control and self.rules.against != TARGET else Source.TARGET

    @property
    def may_be_compared(self) -> bool:
        """Whether there is anything to compare the runs with, whatever the runs say."""
        if self.source is Source.CONTROL:
            return bool(self.control)
        return self.source is Source.GIVEN or (self.rules.target is not None and self.rules.against != STANDING)

    @property
    def further(self) -> list[Criterion]:
        """The further criteria that are asked: one that replaces another is, where that one is waived."""
        every = [one for one in self.rules.criteria if one.name not in self.waived]
        return [one for one in every if one.waives is None or one.waives in self.waived]

    @property
    def in_step(self) -> bool:
        """Whether each of the candidate's runs has one of the control: so it was planned, or the test is of pairs."""
        return self.rules.test == PAIRED or (self.looks is not None and self.looks.in_step)

    @property
    def fewest_runs(self) -> int:
        """How many runs there must be: none before the first look of a sequential test."""
        return 0 if self.looks is not None else self.rules.fewest_runs

    @property
    def at_step(self) -> int | None:
        """The step whose validation counts, where the rules or the reviewer chose one."""
        return self.rules.at_step if isinstance(self.rules.at_step, int) else None

    @property
    def failed(self) -> tuple[Result, ...]:
        """Planned runs that failed, of either arm: each counts as a loss."""
        return tuple(run for run in self.planned if run.state == "failed")

    @property
    def planned(self) -> tuple[Result, ...]:
        """The runs that a plan has promised: the candidate's, and those of its own control."""
        return self.runs + (self.control if self.control_is_planned else ())

    @cached_property
    def compared(self) -> Compared:
        """The two sides of the test, in the metric's unit. Raises EvidenceError where the runs allow none."""
        found = compare(self.rules, self.runs, self.control, None if self._is_against_runs else self.number_to_beat)
        if self.control_step is None or self.at_step is None or not self._is_against_runs:
            return found
        saved = (self.control_step - self.at_step) * (self.rules.step_value or 0.0)
        return replace(found, margin=found.margin - saved, threshold=found.threshold + saved)

    @property
    def _is_against_runs(self) -> bool:
        """Whether the noise of the control's runs counts. Raises EvidenceError where the test needs them and there are none."""
        if self.source is Source.CONTROL and not self.control:
            raise EvidenceError(
                f"{self.rules.name} compares with the standing record's own runs; give them with --control."
            )
        return self.source is Source.CONTROL

    @property
    def number_to_beat(self) -> float:
        """The SOTA, else the control's statistic, else the rules' target. Raises EvidenceError where there is none."""
        if self._is_against_runs:
            return self.rules.sign * standing_of(self.rules, self.control)
        standing = self.sota if self.source is Source.GIVEN else self.rules.target
        if standing is None or not self.may_be_compared:
            raise EvidenceError(
                f"There is nothing to compare {self.rules.metric} with; give the standing record's own runs with --control."
            )
        return standing

    # -- the same evidence, asked in another way ---------------------------------------------------------------------

    def asking(self, criterion: Criterion) -> Case:
        """Return the Case with this criterion as the only test.

        A SOTA is a number of the first test's metric. Of the standing record's own runs and that number, the runs count.
        """
        against_runs = criterion.against == STANDING and bool(self.control)
        is_number = criterion.metric == self.rules.metric and criterion.against != TARGET and not against_runs
        return replace(self, rules=self.rules.asking(criterion), sota=self.sota if is_number else None, looks=None)

    def at(self, step: int) -> Case:
        """Return the Case with each run's validation at this step. Raises EvidenceError where a run has none there."""
        return replace(self, rules=replace(self.rules, at_step=step), runs=at_step(self.runs, step))

    def in_other_unit(self) -> Case | None:
        """Return the Case with the margin in the other unit, None where that is the same or cannot be converted."""
        other = next((unit for unit in CONVERTIBLE if unit != self.rules.unit), "")
        both = {self.rules.unit, unit_of(self.rules.metric)} <= set(CONVERTIBLE)
        if self.rules.margin == 0 or not both or metric_per_unit(self.rules, self.runs, other) is None:
            return None
        return replace(self, rules=replace(self.rules, unit=other))

    def against_number(self, sota: float) -> Case:
        """Return the Case against a number taken as exact."""
        return replace(self, sota=sota, control=(), rules=replace(self.rules, test=_of_a_number(self.rules.test)))

    def against_control(self) -> Case:
        """Return the Case against the control's runs."""
        return replace(self, sota=None, rules=replace(self.rules, against=STANDING))

    def at_look(self, runs: int) -> Case:
        """Return the Case of the first runs, and of the control runs of their seeds where the arms go in step."""
        first = self.runs[:runs]
        seeds = {run.seed for run in first}
        control = tuple(run for run in self.control if run.seed in seeds) if self.in_step else self.control
        return replace(self, runs=first, control=control)

    def without_seed(self, seed: int | None) -> Case:
        """Return the Case without a seed's runs in both arms."""
        runs, control = (tuple(run for run in arm if run.seed != seed) for arm in (self.runs, self.control))
        return replace(self, runs=runs, control=control)

    def unpaired(self) -> Case:
        """Return the Case with its two arms as independent samples, in every test."""
        further = tuple(replace(one, test=_unpaired(one.test)) for one in self.rules.criteria)
        return replace(self, rules=replace(self.rules, test=_unpaired(self.rules.test), criteria=further))

    def with_runs(self, runs: tuple[Result, ...]) -> Case:
        """Return the Case of other runs under the same rules, against the same."""
        return replace(self, runs=runs)


def _of_a_number(test: str) -> str:
    """Return the test against a number that goes with a test against runs."""
    return T_TEST if test in AGAINST_RUNS else test


def _unpaired(test: str) -> str:
    return BOTH if test == PAIRED else test


def at_step(runs: Sequence[Result], step: int) -> tuple[Result, ...]:
    """Return the runs, each with its validation at this step. Raises EvidenceError where one has none there."""
    found = []
    for run in runs:
        one = metrics.at_step(run, step) if run.succeeded else run
        if one is None:
            raise EvidenceError(f"{run.log} has no validation at step {step}.")
        found.append(one)
    return tuple(found)
