"""What only the verdict shows: a plan that was not followed, too small a spread, runs after the verdict."""

from __future__ import annotations

import math
from dataclasses import replace

from analysis.checks.left_out import Kin, kin_of
from analysis.checks.plan import Planned
from analysis.evidence.case import Case, at_step
from analysis.reading.result import Result
from analysis.record.selection import LeftOut, Why
from analysis.rules.findings import ERROR, Code, Finding, Found, Place, graded
from analysis.stats.fixed import Sample
from analysis.stats.spread import ALARM, Spread, chance_of_less
from analysis.sweepdir.layout import PLAN
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.again.among_labels import with_labels
from analysis.verdict.again.worst_case import with_worst_case
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, Answer
from analysis.verdict.criteria import holds
from analysis.verdict.tested import rules_test
from analysis.verdict.verdict import Reading, ReadingKind, Verdict

IMPOSSIBLE = 1e-5  # the chance of a spread that no training has: of three runs one of 2e-6 bpb
ALIKE = 0.02  # the sd of pairs, as a share of what two independent arms would have
FIELD = {  # how far honest runs scatter
    "val_bpb": Spread(0.00073318, 44),  # 20 records of Parameter Golf
    "val_loss": Spread(0.0013, math.inf),  # the speedrun's track 3, in nats
}


def annotate(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with the findings that follow from it and the runs that came after it."""
    severities = case.rules.findings
    verdict = with_labels(case, with_worst_case(case, _with_all_runs(case, verdict)))
    followed = _up_to_the_verdict(case.plan, verdict)
    later = _after_the_verdict(verdict)
    raised = filter(None, (_deviation(followed), _too_narrow(case, verdict), _pairs_alike(case, verdict)))
    return replace(
        verdict,
        plan=followed,
        notes=(*verdict.notes, *_said_of(case)),
        findings=(*verdict.findings, *graded(raised, severities), *_undone(verdict, later)),
        not_counted=(*verdict.not_counted, *(run.log for run in later)),
        left_out=(*verdict.left_out, *(LeftOut(result=run, why=Why.AFTER_VERDICT) for run in later)),
    )


def _said_of(case: Case) -> list[str]:
    """Return what the registry holds of the sweep, and which arms are compared."""
    arms = [case.arms.sentence] if case.arms is not None and case.arms.candidate is not None else []
    return arms if case.registry is None else [*arms, case.registry.sentence()]


def as_planned(verdict: Verdict) -> Verdict:
    """Return the verdict where only runs that are exactly a plan's may pass."""
    verdict = replace(verdict, plan_required=True)
    if verdict.verdict not in (SUPPORTED, CONTINUE) or (verdict.plan is not None and verdict.plan.exact):
        return verdict
    said = (
        verdict.plan.sentence()
        if verdict.plan is not None
        else f"there is no {PLAN} in the PATH (`sweep run` freezes one before the first run; give the folder that holds it)"
    )
    reason = f"--require-plan asks for runs that are exactly a plan's: {said}. Apart from that: {verdict.reason}"
    return replace(verdict, verdict=NOT_SUPPORTED, reason=reason)


def _with_all_runs(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with the test over every complete run of the claimed program and configuration.

    Where the claim does not pass with them, leaving them out is an error. A run without a result counts as a loss.
    """
    kin = kin_of([run.run for run in case.runs], case.runs[0].label if case.runs else None, case.left_out)
    if not verdict.is_decided or not kin.all:
        return verdict
    try:
        others = kin.complete if case.at_step is None else at_step(kin.complete, case.at_step)
        whole = replace(case.unpaired(), runs=case.runs + others, looks=None)  # what was left out has no pair
        tested = rules_test(whole)
        both_arms = {run.log for run in others} & {run.log for run in case.control}  # they cannot beat themselves
        passed = tested.passed if both_arms else holds(whole)
    except EvidenceError:  # a result that is no number is a loss too
        return _refused_for_left_out(verdict, kin)
    reading = Reading.of(
        whole,
        ReadingKind.ALL_RUNS,
        reading=f"all {len(whole.runs)} complete runs",
        assumes="every complete run of the claimed program and configuration counts",
        verdict=Answer.of(passed=passed),
        test=tested.test,
    )
    fails = verdict.verdict is SUPPORTED and (bool(kin.unfinished) or reading.verdict is not SUPPORTED)
    read = replace(verdict, all_runs=reading, also=(reading, *verdict.also))
    return _refused_for_left_out(read, kin) if fails else read


def _refused_for_left_out(verdict: Verdict, kin: Kin) -> Verdict:
    """Return the verdict with the runs that it leaves out, in logs and in other files, as an error."""
    files = {result.log for result in kin.all}

    def refuses(found: Finding) -> bool:
        return found.code is Code.RUNS_LEFT_OUT or (found.code is Code.RUN_NOT_READ and found.file in files)

    findings = tuple(replace(one, severity=ERROR) if refuses(one) else one for one in verdict.findings)
    return replace(verdict, findings=findings)


def _up_to_the_verdict(followed: Planned | None, verdict: Verdict) -> Planned | None:
    """Return how the plan was followed, without gaps after the verdict: of seeds run together a later one may have ended."""
    if followed is None or verdict.sequential is None or verdict.verdict not in (SUPPORTED, NOT_SUPPORTED):
        return followed
    counted = followed.seeds[: verdict.sequential.taken]
    return replace(followed, missing=[seed for seed in followed.missing if seed in counted])


def _deviation(followed: Planned | None) -> Found | None:
    if followed is None or followed.exact:
        return None
    return Found(
        code=Code.PLAN_NOT_FOLLOWED,
        at=Place(PLAN),
        found=followed.faults(),
        expected=f"exactly the runs of {followed.name}",
        do=followed.advice,
    )


def _after_the_verdict(verdict: Verdict) -> list[Result]:
    """Return the runs that came after a sequential test had stopped."""
    if verdict.sequential is None or verdict.verdict not in (SUPPORTED, NOT_SUPPORTED) or verdict.sequential.taken == 0:
        return []
    return [run for run in verdict.runs[verdict.sequential.taken :] if run.succeeded]


def _undone(verdict: Verdict, later: list[Result]) -> list[Finding]:
    """Find runs after a sequential test had stopped with which the claim does not pass: they may have been known before.

    Where nothing proves the order of the runs, the best ones could be planned first when all are there. There is no
    such reading where a later run failed or was stopped.
    """
    whole = next((also for also in verdict.also if also.kind is ReadingKind.ALL_AT_ONCE), None)
    if verdict.verdict is not SUPPORTED or not later or whole is None or whole.verdict is SUPPORTED:
        return []
    found = Found(
        code=Code.PLAN_NOT_FOLLOWED,
        at=Place(PLAN),
        found=f"{len(later)} runs after the verdict (the first is {later[0].log}), with which the claim does not pass",
        expected="none that undo it",
        do="A sequential sweep stops at its verdict: explain them.",
    )
    return graded([found], {Code.PLAN_NOT_FOLLOWED: ERROR})


def _too_narrow(case: Case, verdict: Verdict) -> Found | None:
    """Find runs that scatter less than honest ones do: earlier records' or, without any, a second lab's or the field's."""
    second = verdict.verification
    usual, whose = FIELD.get(verdict.metric), "public records"
    if case.history is not None:
        usual, whose = case.history.prior, f"{len(case.history.records)} earlier records"
    elif second is not None:
        usual, whose = second.spread, "the verifier's runs"
    metrics = [run.metric for run in verdict.runs if run.metric is not None]
    values = [value for run in verdict.runs if (value := run.value(verdict.metric)) is not None]
    if verdict.mean is None or usual is None or usual.sd == 0 or len(values) < 2:
        return None
    sd = Sample.of(values, spread_is_known=True).sd
    rounding = 10.0 ** -min(metric.decimals for metric in metrics) / math.sqrt(12)  # what printing can hide
    chance = chance_of_less(math.hypot(sd, rounding), len(values), usual)
    if chance >= ALARM:
        return None
    first = verdict.runs[0]
    return Found(
        code=Code.SPREAD_TOO_SMALL,
        at=Place(first.log, first.line or 1),
        found=f"an sd of {sd:.8f} in {len(values)} runs",
        expected=f"one like that of {whose}, {usual.sd:.8f}; so small a spread has a chance of {chance:.1g}",
        severity=ERROR if chance < IMPOSSIBLE else None,
    )


def _pairs_alike(case: Case, verdict: Verdict) -> Found | None:
    """Find pairs whose differences scatter so little that one log of each may have been made from the other."""
    taken = verdict.sequential.taken if verdict.sequential is not None else 0
    counted = case.at_look(taken) if taken else case
    for one in (counted, *map(counted.asking, counted.further)):
        try:
            compared = one.compared
        except EvidenceError:
            continue
        differences, control = compared.differences, compared.control
        if differences is None or control is None or differences.n < 3:
            continue
        apart = math.hypot(compared.sample.sd, control.sd)
        if differences.sd < ALIKE * apart:
            return Found(
                code=Code.SPREAD_TOO_SMALL,
                at=Place(case.runs[0].log, case.runs[0].line or 1),
                found=f"differences of {differences.n} pairs with an sd of {differences.sd:.8f}",
                expected=f"more than {ALIKE * apart:.8f}, a fiftieth of what the arms' own spreads give two independent samples",
                do="One arm's logs may be made from the other's: compare clocks and losses, or rerun a pair.",
            )
    return None
