"""The Case: all that a verdict may rest on. Everything that decides takes one, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from analysis.checks.plan import Planned
from analysis.checks.registry import Registered
from analysis.evidence.checked import NONE, Checked
from analysis.evidence.compared import Compared, margin_in_metric, metric_per_unit, sample_of
from analysis.evidence.history import History
from analysis.evidence.look_plan import LookPlan
from analysis.evidence.options import Change
from analysis.reading.result import Result
from analysis.record.selection import LeftOut
from analysis.record.stated.said import Statement
from analysis.rules.findings import Finding
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.refusal import EvidenceError


class Source(StrEnum):
    """Where the number to beat comes from."""

    GIVEN = "given"
    TARGET = "target"
    CONTROL = "control's mean"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Every run that was found, the rules as they apply with what chose them, and what must be beaten.

    runs, control: those that count. left_out: every other run, with the reason. sota: the number to beat, in the
    metric's unit; None where the control's runs or the rules' target are to be beaten. looks: when a sequential test
    looks, None for a fixed one. plan: how the runs keep to a plan. registry: what a
    registry holds of it, None where none was named. second: a second lab's Case. claims: what JSON
    and README say, each with what the logs say. checked: which checks could be made. not_counted: logs that the claim does not speak of. fault: why no verdict can rest on the runs.
    """

    rules: Ruleset
    where: str
    runs: tuple[Result, ...] = ()
    rules_because: str | None = None
    rules_changed: Mapping[str, Change] = field(default_factory=dict)
    control: tuple[Result, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    sota: float | None = None
    looks: LookPlan | None = None
    plan: Planned | None = None
    registry: Registered | None = None
    history: History | None = None
    second: Case | None = None
    findings: tuple[Finding, ...] = ()
    claims: tuple[Statement, ...] = ()
    checked: Checked = NONE
    not_counted: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def source(self) -> Source:
        if self.sota is not None:
            return Source.GIVEN
        return Source.CONTROL if self.control else Source.TARGET

    @property
    def failed(self) -> tuple[Result, ...]:
        """Planned runs that failed: each counts as a loss."""
        return tuple(run for run in self.runs if run.state == "failed")

    @cached_property
    def compared(self) -> Compared:
        """The two sides of the test, in the metric's unit. Raises EvidenceError where the runs allow none."""
        sample, margin = sample_of(self.rules, self.runs), margin_in_metric(self.rules, self.runs)
        if self.source is Source.CONTROL:
            control = sample_of(self.rules, self.control)
            return Compared(sample=sample, control=control, margin=margin, threshold=control.mean - margin)
        return Compared(sample=sample, control=None, margin=margin, threshold=self.number_to_beat - margin)

    @property
    def number_to_beat(self) -> float:
        """The SOTA, else the control's mean, else the rules' target. Raises EvidenceError where there is none."""
        if self.source is Source.CONTROL:
            return sample_of(self.rules, self.control).mean
        standing = self.sota if self.sota is not None else self.rules.target
        if standing is None:
            raise EvidenceError("There is neither a SOTA nor a control to compare with.")
        return standing

    # -- the same evidence, asked in another way ---------------------------------------------------------------------

    def in_other_unit(self) -> Case | None:
        """Return the Case with the margin in the other unit, None where that is the same or cannot be converted."""
        other = "nats" if self.rules.unit == "bpb" else "bpb"
        if self.rules.margin == 0 or metric_per_unit(self.rules, self.runs, other) is None:
            return None
        return replace(self, rules=replace(self.rules, unit=other))

    def against_number(self, sota: float) -> Case:
        """Return the Case against a number taken as exact."""
        return replace(self, sota=sota, control=())

    def against_control(self) -> Case:
        """Return the Case against the control's runs."""
        return replace(self, sota=None)

    def at_look(self, runs: int) -> Case:
        """Return the Case of the first runs, and of as many control runs where the arms go in step."""
        in_step = self.looks is not None and self.looks.in_step and self.source is Source.CONTROL
        return replace(self, runs=self.runs[:runs], control=self.control[:runs] if in_step else self.control)

    def with_runs(self, runs: tuple[Result, ...]) -> Case:
        """Return the Case of other runs under the same rules, against the same."""
        return replace(self, runs=runs)
