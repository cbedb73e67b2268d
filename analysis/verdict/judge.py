"""From PATHs and what a reviewer asks to a verdict: evidence gathered, plan compared, history and a second lab heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from analysis.checks import plan as planned
from analysis.evidence.compare import sample_of
from analysis.evidence.gather import LARGEST, Evidence, EvidenceError, check_one_metric, check_results, gather, plan_of
from analysis.evidence.history import History, HistoryError, read_history
from analysis.reading.result import Result
from analysis.rules.findings import ERROR, SEVERITIES, WARNING, Finding, graded
from analysis.rules.ruleset import T_TEST, RulesError, Ruleset, from_plan, load
from analysis.stats.fixed import Sample
from analysis.stats.spread import ALARM, chance_of_less
from analysis.sweepdir import layout
from analysis.sweepdir.layout import FIXED, SEQUENTIAL
from analysis.verdict.decide import decide
from analysis.verdict.looks import LookPlan, default_plan
from analysis.verdict.second_lab import check_second_lab, verified
from analysis.verdict.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, Verdict, unusable


def judge(
    paths: tuple[Path, ...],
    rules: str | None = None,
    sota: float | None = None,
    control: Path | None = None,
    margin: float | None = None,
    unit: str | None = None,
    alpha: float | None = None,
    label: str | None = None,
    design: str | None = None,
    history: Path | None = None,
    verify: Path | None = None,
    require_plan: bool = False,
    own_sweep: bool = False,
) -> Verdict:
    """The verdict on PATHs; unusable evidence is a verdict too. Raises click.UsageError for wrong options.

    own_sweep: the caller made the plan, and so its rules.
    """
    if fault := out_of_range(sota, margin, alpha):
        raise click.UsageError(fault)
    try:
        ruleset = load(rules or "parameter-golf")
        past = read_history(history) if history is not None else None
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    except HistoryError as error:
        raise click.UsageError(str(error)) from None
    broken: EvidenceError | None = None
    evidence, beside = Evidence(), None
    try:
        plan = plan_of(list(paths))
        if plan and rules is None:
            ruleset = from_plan(plan)
        beside = planned.plan_beside(paths[0]) if not plan and len(paths) == 1 and paths[0].is_dir() else None
    except (EvidenceError, RulesError, layout.SweepError) as error:
        return unusable(ruleset, error, sota, [], [], [])
    try:
        evidence = gather(list(paths), ruleset, label)
    except EvidenceError as error:
        broken = error
    if alpha is not None and ruleset.scaled_gain is not None:
        raise click.UsageError(
            f"--alpha: {ruleset.name} passes at its own critical value (scaled_gain), not at a level."
        )
    asked: dict[str, Any] = {"margin": margin, "unit": unit, "alpha": alpha}
    ruleset = replace(ruleset, **{key: value for key, value in asked.items() if value is not None})
    own_yardstick = ruleset.target is None or own_sweep  # what the rules fix is not the plan's to change
    if sota is None and control is None and own_yardstick:
        sota = plan.get("sota")
    nothing = sota is None and control is None and ruleset.target is None
    if nothing and not evidence.control and "control" not in plan.get("arms", {}):
        raise click.UsageError(
            "What is to be beaten? Give the standing record with --sota X, or its own runs with --control PATH."
        )
    frozen = plan or beside
    planned_control = control if _is_planned(control, paths[0], beside) else None
    control = control if planned_control is None else None
    looks = _look_plan(frozen, design, ruleset, evidence.results, sota is None and control is None)
    followed: planned.Planned | None = None
    try:
        if broken is not None:
            raise broken
        if fault := out_of_range(sota, ruleset.margin, ruleset.alpha):
            raise EvidenceError(f"The plan cannot be meant: {fault}")
        if plan and rules is None and not own_sweep:
            evidence.findings += _unshipped(planned.own_rules(plan, [key for key in asked if asked[key] is not None]))
        if planned_control is not None:
            evidence.control = _control_runs(planned_control, ruleset, label, evidence)
        if _lies_within(planned_control or control, paths[0]):
            counted = f"{layout.CONTROL}/"
            evidence.not_counted = [log for log in evidence.not_counted if not log.startswith(counted)]
        if frozen:
            where = next(path for path in paths if beside or layout.is_sweep(path))
            followed = planned.compare(frozen, where, evidence, ruleset, sota, control is not None)
        if evidence.fault is not None:
            raise EvidenceError(evidence.fault)
        if looks is not None:
            _put_in_order(evidence, looks)
        fewest = 2 if looks is None else 0
        check_results(evidence.results, ", ".join(map(str, paths)), fewest)
        own_control = evidence.control if own_yardstick or sota is not None or planned_control is not None else []
        standing = own_control if control is None else _control_runs(control, ruleset, label, evidence)
        if standing:
            check_results(standing, str(control or paths[0]), fewest)
            check_one_metric(evidence.results + standing)
        usual = None
        if past is not None and len(evidence.results) > 1 and all(run.state == "succeeded" for run in evidence.results):
            usual = past.without(sample_of(ruleset, evidence.results))
        verdict = decide(ruleset, evidence.results, evidence.findings, sota, standing, looks, usual)
        if verify is not None:
            verdict = _after_second_lab(verdict, verify, ruleset, label, sota, standing, usual)
        followed = _up_to_the_verdict(followed, verdict)
        verdict = replace(
            verdict,
            not_counted=evidence.not_counted + _after_the_verdict(verdict),
            plan=followed,
            findings=_with(verdict.findings, ruleset, _deviation(followed), _too_narrow(verdict, usual))
            + _undone(verdict),
        )
        return _as_planned(verdict) if require_plan else verdict
    except HistoryError as error:
        raise click.UsageError(str(error)) from None
    except EvidenceError as error:
        findings = _with(evidence.findings, ruleset, _deviation(followed))
        found = unusable(ruleset, error, sota, evidence.results, findings, evidence.not_counted)
        return replace(found, plan=followed, design=SEQUENTIAL if looks else FIXED)


def out_of_range(sota: float | None, margin: float | None, alpha: float | None) -> str | None:
    """What is wrong with the numbers of a claim, or None."""
    for name, value, low, high in (("--sota", sota, 0.0, LARGEST), ("--alpha", alpha, 0.0, 0.5)):
        if value is not None and not low < value < high:
            return f"{name} is {value:g}; it must lie between {low:g} and {high:g}."
    if margin is not None and not 0 <= margin < LARGEST:
        return f"--margin is {margin:g}; it must be 0 or more, and less than {LARGEST:g}."
    return None


# -- plans -------------------------------------------------------------------------------------------------------------


def _look_plan(
    plan: dict[str, Any] | None, design: str | None, rules: Ruleset, results: list[Result], both_arms: bool
) -> LookPlan | None:
    """When a sequential test looks, None for a fixed one: as planned, else as asked. Raises click.UsageError."""
    if design == SEQUENTIAL and rules.test != T_TEST:
        raise click.UsageError(f"--design sequential needs a t-test; the rules {rules.name} have a {rules.test}-test.")
    if not plan:
        return default_plan(rules, len(results)) if design == SEQUENTIAL else None
    written = planned.design_of(plan)
    if design is not None and design != written["name"]:
        raise click.UsageError(
            f"--design {design}: the plan is {written['name']}, and was frozen before the first run."
        )
    if written["name"] == FIXED:
        return None
    paired = both_arms and layout.CONTROL in plan["arms"]
    return LookPlan(tuple(written["looks"]), written["boundary"], tuple(plan["seeds"]), paired)


def _put_in_order(evidence: Evidence, looks: LookPlan) -> None:
    """Keep the planned runs that have a result, in the plan's order, up to the first that has none."""
    for arm in (evidence.results, evidence.control):
        kept = list(arm)
        if looks.seeds:  # of a plan
            by_seed = {row.seed: row for row in arm if row.state in planned.DONE}
            upto = next((i for i, seed in enumerate(looks.seeds) if seed not in by_seed), len(looks.seeds))
            kept = [by_seed[seed] for seed in looks.seeds[:upto]]
        evidence.not_counted += [row.log for row in arm if row not in kept and row.state in planned.DONE]
        arm[:] = kept


def _is_planned(control: Path | None, record: Path, plan: dict[str, Any] | None) -> bool:
    """Whether control runs are those of a record folder's own plan: they lie in its folder `control`."""
    return plan is not None and layout.CONTROL in plan["arms"] and _lies_within(control, record)


def _lies_within(control: Path | None, record: Path) -> bool:
    """Whether control runs are those in the record's own folder `control`."""
    own = record / layout.CONTROL
    return control is not None and own.is_dir() and control.is_dir() and control.samefile(own)


def _up_to_the_verdict(followed: planned.Planned | None, verdict: Verdict) -> planned.Planned | None:
    """The comparison with a plan, without gaps beyond the verdict: of seeds under way together a later one may have ended."""
    if followed is None or verdict.sequential is None or verdict.verdict not in (SUPPORTED, NOT_SUPPORTED):
        return followed
    counted = followed.seeds[: verdict.sequential.taken]
    return replace(followed, missing=[seed for seed in followed.missing if seed in counted])


def _deviation(followed: planned.Planned | None) -> tuple[str, str, int, str] | None:
    if followed is None or followed.exact:
        return None
    message = f"Found {followed.faults()}; expected exactly the runs of {followed.name}. {followed.advice}"
    return "plan-not-followed", layout.PLAN, 1, message


def _unshipped(changed: str | None) -> list[Finding]:
    """A sweep that brings its own rules passes no gate unless the reviewer names them; nor can these turn that off."""
    if changed is None:
        return []
    message = f"Found {changed}; expected a shipped ruleset or the reviewer's own. Name the rules to judge by with --rules, or the changed value with its own option."
    return graded([("rules-changed", layout.PLAN, 1, message)], {})


def _undone(verdict: Verdict) -> list[Finding]:
    """Runs after a sequential test had stopped, with which the claim does not pass: they may have been known before.

    Where nothing proves the order of the runs, the best ones could be planned first when all are there.
    """
    later = _after_the_verdict(verdict)
    whole = next((also for also in verdict.also if also.reading == f"all {len(verdict.runs)} runs at once"), None)
    if verdict.verdict != SUPPORTED or not later or whole is None or whole.verdict == SUPPORTED:
        return []  # there is no such reading where a later run failed or was stopped
    message = (
        f"Found {len(later)} runs after the verdict (the first is {later[0]}), with which the claim does not pass; expected "
        f"none that undo it. A sequential sweep stops at its verdict: explain them."
    )
    return graded([("plan-not-followed", layout.PLAN, 1, message)], {"plan-not-followed": ERROR})


def _after_the_verdict(verdict: Verdict) -> list[str]:
    """The runs that came after a sequential test had stopped."""
    if verdict.sequential is None or verdict.verdict not in (SUPPORTED, NOT_SUPPORTED) or verdict.sequential.taken == 0:
        return []
    return [run.log for run in verdict.runs[verdict.sequential.taken :] if run.state == "succeeded"]


def _as_planned(verdict: Verdict) -> Verdict:
    """The verdict where only runs that are exactly a plan's may pass."""
    if verdict.verdict not in (SUPPORTED, CONTINUE) or (verdict.plan is not None and verdict.plan.exact):
        return verdict
    said = (
        verdict.plan.sentence()
        if verdict.plan is not None
        else f"there is no {layout.PLAN} in the PATH (`sweep run` freezes one before the first run; give the folder that holds it)"
    )
    reason = f"--require-plan asks for runs that are exactly a plan's: {said}. But for that: {verdict.reason}"
    return replace(verdict, verdict=NOT_SUPPORTED, reason=reason)


# -- a second lab ------------------------------------------------------------------------------------------------------


def _after_second_lab(
    author: Verdict, where: Path, rules: Ruleset, label: str | None, sota: float | None, control: list[Result],
    history: History | None,
) -> Verdict:  # fmt: skip
    """The verdict with the verifier's runs; what does not fit in these is no error of the author's."""
    try:
        own = gather([where], rules, label, as_control=True)
        results = [replace(row, log=_below(where, row.log)) for row in own.results]
        check_second_lab(results, own.fault, where, author.runs)
    except EvidenceError as error:
        raise EvidenceError(f"--verify {where}: {error}") from None
    verdict = verified(author, rules, results, sota, control, history)
    theirs = [
        replace(f, file=_below(where, f.file), severity=max(f.severity, WARNING, key=SEVERITIES.index))
        for f in own.findings
        if f.code != "too-few-seeds"  # one run is enough to verify
    ]
    programs = [{run.source_sha256 for run in runs} - {None} for runs in (author.runs, results)]
    other = all(programs) and not programs[0] & programs[1]
    notes = ["the verifier's logs embed another program than the author's"] if other else []
    if verdict.verification is None:
        notes.append(f"--verify {where}: nothing was compared, for the author's runs allow no test")
    return replace(verdict, findings=[*verdict.findings, *theirs], notes=[*verdict.notes, *notes])


# -- the control, and what is too good ---------------------------------------------------------------------------------


def _control_runs(control: Path, rules: Ruleset, label: str | None, evidence: Evidence) -> list[Result]:
    """The runs of --control; what does not fit in them is added to the evidence's findings."""
    other = gather([control], rules, label, as_control=True)
    if other.fault is not None:
        raise EvidenceError(f"--control {control}: {other.fault}")
    evidence.findings += [replace(f, file=_below(control, f.file)) for f in other.findings]
    rows = other.results or other.control
    if not rows:
        raise EvidenceError(
            f"--control {control}: it holds no training log (*.log, *.txt). Name the standing record's."
        )
    return [replace(row, arm="control", log=_below(control, row.log)) for row in rows]


def _below(control: Path, name: str) -> str:
    """A control's file as named from the working directory."""
    return str(control / name) if control.is_dir() else name


def _too_narrow(verdict: Verdict, past: History | None) -> tuple[str, str, int, str] | None:
    """The alarm for runs that scatter less than honest ones do, by earlier records or by a second lab's runs."""
    second = verdict.verification
    usual = past.prior if past is not None else second.spread if second is not None else None
    whose = f"{len(past.records)} earlier records" if past is not None else "the verifier's runs"
    values = [value for run in verdict.runs if (value := getattr(run, verdict.metric)) is not None]
    if usual is None or usual.sd == 0 or len(values) < 2:
        return None
    sd = Sample.of(values, spread_is_known=True).sd
    chance = chance_of_less(sd, len(values), usual)
    if chance >= ALARM:
        return None
    first = verdict.runs[0]
    message = (
        f"Found an sd of {sd:.8f} in {len(values)} runs; expected one like that of {whose}, {usual.sd:.8f}: so small a spread "
        f"has a chance of {chance:.1g}. Copied logs and the best of many runs have it. Ask for every run that was made."
    )
    return "spread-too-small", first.log, first.line or 1, message


def _with(findings: list[Finding], rules: Ruleset, *raised: tuple[str, str, int, str] | None) -> list[Finding]:
    return [*findings, *graded([one for one in raised if one is not None], rules.findings)]
