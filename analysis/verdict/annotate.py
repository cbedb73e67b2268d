"""What only the verdict shows: a plan that was not followed, too small a spread, runs after the verdict."""

from __future__ import annotations

from dataclasses import replace

from analysis.checks.plan import Planned
from analysis.evidence.case import Case
from analysis.reading.result import Result
from analysis.record.selection import LeftOut, Why
from analysis.rules.findings import ERROR, Code, Finding, Found, Place, graded
from analysis.stats.fixed import Sample
from analysis.stats.spread import ALARM, chance_of_less
from analysis.sweepdir.layout import PLAN
from analysis.verdict.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, ReadingKind, Verdict


def annotate(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with the findings that follow from it and the runs that came after it."""
    severities = case.rules.findings
    followed = _up_to_the_verdict(case.plan, verdict)
    later = _after_the_verdict(verdict)
    raised = [one for one in (_deviation(followed), _too_narrow(case, verdict)) if one is not None]
    return replace(
        verdict,
        plan=followed,
        findings=(*verdict.findings, *graded(raised, severities), *_undone(verdict, later)),
        not_counted=(*verdict.not_counted, *(run.log for run in later)),
        left_out=(*verdict.left_out, *(LeftOut(result=run, why=Why.AFTER_VERDICT) for run in later)),
    )


def as_planned(verdict: Verdict) -> Verdict:
    """Return the verdict where only runs that are exactly a plan's may pass."""
    if verdict.verdict not in (SUPPORTED, CONTINUE) or (verdict.plan is not None and verdict.plan.exact):
        return verdict
    said = (
        verdict.plan.sentence()
        if verdict.plan is not None
        else f"there is no {PLAN} in the PATH (`sweep run` freezes one before the first run; give the folder that holds it)"
    )
    reason = f"--require-plan asks for runs that are exactly a plan's: {said}. Apart from that: {verdict.reason}"
    return replace(verdict, verdict=NOT_SUPPORTED, reason=reason)


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
    """Find runs that scatter less than honest ones do, by earlier records or by a second lab's runs."""
    second = verdict.verification
    usual = case.history.prior if case.history is not None else second.spread if second is not None else None
    values = [value for run in verdict.runs if (value := run.value(verdict.metric)) is not None]
    if verdict.mean is None or usual is None or usual.sd == 0 or len(values) < 2:
        return None
    sd = Sample.of(values, spread_is_known=True).sd
    chance = chance_of_less(sd, len(values), usual)
    if chance >= ALARM:
        return None
    whose = f"{len(case.history.records)} earlier records" if case.history is not None else "the verifier's runs"
    first = verdict.runs[0]
    return Found(
        code=Code.SPREAD_TOO_SMALL,
        at=Place(first.log, first.line or 1),
        found=f"an sd of {sd:.8f} in {len(values)} runs",
        expected=f"one like that of {whose}, {usual.sd:.8f}; so small a spread has a chance of {chance:.1g}",
    )
