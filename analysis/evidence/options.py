"""What a reviewer asks, and what it comes to: the effective rules, the plan among the PATHs, the number to beat."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.evidence.history import History, read_history
from analysis.evidence.usable import LARGEST
from analysis.reading.importers.typed import Given
from analysis.reading.result import Result
from analysis.record.track import track_of
from analysis.rules.keys import EARLIEST, LAST_VALIDATION, STANDING, TARGET
from analysis.rules.metrics import CONVERTIBLE, TRAIN_TIME, UNITS, unit_of
from analysis.rules.ruleset import OF_A_TEST, Ruleset, load
from analysis.sweepdir.layout import CONTROL, is_sweep
from analysis.sweepdir.plan import DesignKind, Plan, plan_beside, read_plan
from analysis.untrusted.files import leads_out
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError

NEAR, FAR = 0.05, 0.2  # shares of a mean: a SOTA within 5 % of one and off the other by 20 % is in the wrong unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a reviewer may ask of `report` and `check`. What is None was not asked.

    rules: a name or a file. sota: in the metric's unit. margin: in `unit`. metric: the label of one final metric,
    or the name of another metric than the rules'. at_step: whose validation counts. waive: criteria that are not asked.
    control, history, verify: paths. registry: a URL. values, control_values: given instead of PATHs and of a control's path, which then is no more than a name. own_sweep: the caller made the plan, and so its rules; never an option of a command.
    """

    rules: str | None = None
    sota: float | None = None
    control: Path | None = None
    margin: float | None = None
    unit: str | None = None
    alpha: float | None = None
    metric: str | None = None
    at_step: int | None = None
    waive: tuple[str, ...] = ()
    design: str | None = None
    history: Path | None = None
    verify: Path | None = None
    registry: str | None = None
    require_plan: bool = False
    own_sweep: bool = False
    values: tuple[Given, ...] = ()
    control_values: tuple[Given, ...] = ()

    @property
    def of_the_rules(self) -> dict[str, Any]:
        """Return the options that change a ruleset, by its keys."""
        given = {"margin": self.margin, "unit": self.unit, "alpha": self.alpha, "at_step": self.at_step}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key of a ruleset that an option changed."""

    ruleset: Any
    asked: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options against the PATHs: rules as they apply, the plan, what must be beaten.

    sweep: the plan of the sweep among the PATHs. beside: the plan in a record folder. control: runs that the reviewer
    brought; rules_because: what chose the rules, where no option and no plan did. planned_control: the record's own folder `control`, which its plan has. fault: why nothing can be judged.
    """

    paths: tuple[Path, ...]
    options: Options
    rules: Ruleset
    rules_because: str | None = None
    rules_changed: Mapping[str, Change] = field(default_factory=dict)
    sweep: Plan | None = None
    beside: Plan | None = None
    sota: float | None = None
    control: Path | None = None
    planned_control: Path | None = None
    history: History | None = None
    fault: str | None = None

    @property
    def where(self) -> str:
        return ", ".join(map(str, self.paths))

    @property
    def plan(self) -> Plan | None:
        return self.sweep or self.beside

    @property
    def plan_may_set_the_target(self) -> bool:
        """Whether a plan's own SOTA or control counts: a target that the rules fix is not the plan's to change."""
        return self.rules.target is None or self.options.own_sweep

    @property
    def has_planned_control(self) -> bool:
        """Whether the runs to beat are those of a plan's own control, which was decided before the results."""
        of_a_sweep = self.sweep is not None and self.sweep.has_control
        counts = self.plan_may_set_the_target or self.sota is not None
        return self.control is None and (self.planned_control is not None or (of_a_sweep and counts))

    @property
    def rules_of_control(self) -> Ruleset:
        """The rules that the control is read by: where steps have a value, it has a step of its own."""
        return self.rules if self.rules.step_value is None else replace(self.rules, at_step=EARLIEST)


def resolve(paths: Sequence[Path], options: Options) -> Asked:
    """Check the options and resolve them against the PATHs. Raises UsageError; a broken plan is a `fault`."""
    if fault := out_of_range(options.sota, options.margin, options.alpha) or _against_itself(paths, options.control):
        raise UsageError(fault)
    track = track_of(paths, asks_for_a_test=options.sota is not None or options.control is not None)
    asked = Asked(
        paths=tuple(paths),
        options=options,
        rules=load(track.rules if options.rules is None else options.rules),
        rules_because=track.because if options.rules is None else None,
        sota=options.sota,
        control=options.control,
        history=read_history(options.history) if options.history is not None else None,
    )
    try:
        asked = _with_plan(asked)
    except SeedproofError as error:
        return replace(asked, fault=str(error))
    if options.alpha is not None and asked.rules.scaled_gain is not None:
        raise UsageError(f"--alpha: {asked.rules.name} passes at its own critical value (scaled_gain), not at a level.")
    check_step_and_waived(options, asked.rules)
    if options.metric in UNITS:  # not a label
        asked = of_metric(asked, options.metric)
    if options.sota is not None and asked.rules.against == TARGET:
        asked = replace(changing(asked, {"target": options.sota}), sota=None)
    asked = changing(asked, options.of_the_rules)
    if asked.sweep is not None and asked.sota is None and asked.control is None and asked.plan_may_set_the_target:
        asked = replace(asked, sota=asked.sweep.sota)
    return _with_own_control(asked, asked.beside) if asked.beside is not None and asked.beside.has_control else asked


def _with_own_control(asked: Asked, plan: Plan) -> Asked:
    """Return what was asked of a record whose plan has a control: its own runs are the planned ones.

    They are where they are named, or where the plan asks for a SOTA besides and the reviewer names that alone: then they
    must be there.
    """
    record, both = asked.paths[0], plan.sota is not None and asked.sota is not None
    own = _is_own_control(asked.control, record) or (asked.control is None and both)
    return replace(asked, control=None, planned_control=record / CONTROL) if own else asked


def changing(asked: Asked, keys: Mapping[str, Any]) -> Asked:
    """Return what was asked with these keys of the rules changed, and what they were before."""
    changed = {
        name: Change(ruleset=before, asked=value)
        for name, value in keys.items()
        if (before := getattr(asked.rules, name)) != value
    }
    return replace(asked, rules=replace(asked.rules, **keys), rules_changed={**asked.rules_changed, **changed})


def of_metric(asked: Asked, metric: str) -> Asked:
    """Return what was asked with `--metric` as a metric's name. Of another than the rules' the direction is the usual one."""
    sota = asked.sota if asked.sota is not None else asked.options.sota  # which may have taken the target's place
    asked = replace(asked, options=replace(asked.options, metric=None), sota=sota)
    if metric == asked.rules.metric:
        return asked
    if asked.rules.sigma is not None:
        raise UsageError(f"--metric {metric}: {asked.rules.name} knows the spread of {asked.rules.metric} alone.")
    rules = asked.rules.of_metric(metric)
    changed = {name: getattr(rules, name) for name in (*OF_A_TEST, "criteria")}
    kept = {name: value for name, value in asked.options.of_the_rules.items() if name in ("margin", "unit")}
    return changing(asked, changed | kept)


def check_step_and_waived(options: Options, rules: Ruleset) -> None:
    """Raise UsageError for a step where no validation counts, and for a criterion that nothing replaces."""
    if options.at_step is not None and rules.final != LAST_VALIDATION:
        raise UsageError(
            f"--at-step {options.at_step}: by {rules.name} a run's result is a labelled line, not a validation at a step."
        )
    whole = [one.name for one in rules.criteria if one.metric == TRAIN_TIME and one.waives is None]
    if options.at_step is not None and whole:
        raise UsageError(
            f"--at-step {options.at_step}: {rules.name} also asks for the time of whole runs ({whole[0]})."
        )
    allowed = [one.waives for one in rules.criteria if one.waives is not None]
    for name in options.waive:
        if name not in allowed:
            may = f"allowed: {', '.join(map(repr, allowed))}" if allowed else "nothing can be waived"
            raise UsageError(f"--waive {name!r}: by {rules.name}, {may}.")


def out_of_range(sota: float | None, margin: float | None, alpha: float | None) -> str | None:
    """Return what is wrong with the numbers of a claim, or None."""
    if alpha is not None and not 0 < alpha < 0.5:
        return f"--alpha is {alpha:g}; it must be between 0 and 0.5."
    if sota is not None and not 0 < sota < LARGEST:
        return f"--sota is {sota:g}; it must be between 0 and {LARGEST:g}."
    if margin is not None and not 0 <= margin < LARGEST:
        return f"--margin is {margin:g}; it must be 0 or more, and less than {LARGEST:g}."
    return None


def _against_itself(paths: Sequence[Path], control: Path | None) -> str | None:
    """Return what is wrong with a control that is one of the PATHs; a path that does not exist is said elsewhere."""
    if control is None or not any(path.exists() and control.exists() and path.samefile(control) for path in paths):
        return None
    return f"--control {control} is a PATH too. Runs cannot be compared with themselves: name the standing record's."


def check_something_to_beat(asked: Asked, *, has_control: bool) -> None:
    """Raise UsageError where neither an option, the plan, the rules nor the PATHs say what is to be beaten."""
    planned = asked.sweep is not None and asked.sweep.has_control
    given = asked.sota is not None or asked.control is not None or asked.planned_control is not None
    fixed = asked.rules.target is not None and asked.rules.against != STANDING
    if asked.rules.has_test and not (given or fixed or has_control or planned):
        raise UsageError(
            "What is to be beaten? Give the standing record with --sota X, or its own runs with --control PATH."
        )


def check_unit_of_sota(asked: Asked, runs: Sequence[Result]) -> None:
    """Raise UsageError where the SOTA is near the runs' values in the other unit, and far from those in the metric's."""
    metric = asked.rules.metric
    if asked.sota is None or metric not in CONVERTIBLE.values():
        return
    other = next(one for one in CONVERTIBLE.values() if one != metric)
    own, others = (_mean_of(runs, metric) for metric in (asked.rules.metric, other))
    if own is None or others is None or abs(asked.sota - others) > NEAR * others or abs(asked.sota - own) < FAR * own:
        return
    what = f"--sota is {asked.sota:g}" if asked.options.sota is not None else f"The plan's SOTA is {asked.sota:g}"
    fault = (
        f"{what}, which is near the runs' {other} (mean {others:.5f}); {asked.rules.name} compares {asked.rules.metric} "
        f"(mean {own:.5f}). Give it in {unit_of(metric)}."
    )
    raise UsageError(fault) if asked.options.sota is not None else EvidenceError(fault)


def _mean_of(runs: Sequence[Result], metric: str) -> float | None:
    values = [value for run in runs if (value := run.value(metric)) is not None and math.isfinite(value) and value > 0]
    return math.fsum(value / len(values) for value in values) if values else None


def _with_plan(asked: Asked) -> Asked:
    """Return what was asked with the plan of the sweep, and its rules where none were named, or the record's plan.

    Raises EvidenceError, SweepError, RulesError.
    """
    sweeps = [path for path in asked.paths if is_sweep(path)]
    plans = [read_plan(path) for path in sweeps]
    if len(plans) > 1:
        raise EvidenceError(f"{len(plans)} of the paths are sweep directories; report one sweep at a time.")
    if plans:
        rules = plans[0].rules() if asked.options.rules is None else asked.rules
        return replace(asked, sweep=plans[0], rules=rules, rules_because=None)
    alone = len(asked.paths) == 1 and asked.paths[0].is_dir()
    return replace(asked, beside=plan_beside(asked.paths[0]) if alone else None)


def _is_own_control(control: Path | None, record: Path) -> bool:
    own = record / CONTROL
    return control is not None and own.is_dir() and control.is_dir() and control.samefile(own)


def check_planned_control(record: Path, control: Path) -> None:
    """Raise EvidenceError where the control's runs, which a record's plan compares with, are not in the record."""
    if not control.is_dir() or leads_out(control, os.path.realpath(record)):
        raise EvidenceError(
            f"The plan also compares with a control, and the record has no folder {CONTROL} with its runs: nobody can tell "
            f"whether they are beaten. Restore the folder, or name the runs with --control."
        )


def check_design(asked: Asked) -> None:
    """Raise UsageError where the design that is asked for is not the plan's, or not one that the rules allow."""
    design = asked.options.design
    if design is None:
        return
    if design == DesignKind.SEQUENTIAL and not asked.rules.may_look:
        raise UsageError(
            f"--design sequential needs a t-test of the mean; the rules {asked.rules.name} have {asked.rules.test!r}."
        )
    if asked.plan is not None and design != asked.plan.design.kind:
        raise UsageError(
            f"--design {design}: the plan is {asked.plan.design.kind}, and was frozen before the first run."
        )
