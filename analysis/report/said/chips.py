"""What a claim must pass, one by one: a name, whether it passes, and how close it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from analysis.report.said.headline import alone, first_name
from analysis.rules.findings import ERROR, Code, in_words
from analysis.stats.fixed import Test
from analysis.verdict.answer import CONTINUE, SUPPORTED, UNUSABLE, Answer
from analysis.verdict.numbers import short_p
from analysis.verdict.verdict import Verdict

MEGABYTE = 1e6
DOUBTS = {Code.DUPLICATE_SEED: "one seed twice", Code.SEED_MISMATCH: "a seed misnamed"}


class Passes(StrEnum):
    """Whether a claim passes; UNKNOWN is neither a pass nor a failure."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, *, passed: bool) -> Passes:
        return cls.YES if passed else cls.NO


MARKS = {Passes.YES: "✓", Passes.NO: "✗", Passes.UNKNOWN: "\N{EN DASH}"}


@dataclass(frozen=True, slots=True)
class Chip:
    """One thing that a claim must pass, and by how much it does."""

    name: str
    passes: Passes
    detail: str

    @property
    def mark(self) -> str:
        return MARKS[self.passes]


def chips(verdict: Verdict) -> list[Chip]:
    """Return a chip for the test, each further criterion, the evidence, the seeds, each cap, the plan and the checks."""
    return [
        *_tests(verdict),
        _evidence(verdict),
        *_seeds(verdict),
        *_caps(verdict),
        _plan(verdict),
        *_checks(verdict),
    ]


def _tests(verdict: Verdict) -> Iterator[Chip]:
    if verdict.metric in verdict.waived:
        yield Chip(verdict.metric, Passes.UNKNOWN, "waived by the reviewer")
    elif verdict.is_decided:
        yield Chip(first_name(verdict) or "Significance", _answer(alone(verdict)), _significance(verdict))
    else:
        yield Chip("Significance", Passes.UNKNOWN, "not tested")
    for one in verdict.criteria:
        detail = "not tested" if one.verdict is UNUSABLE else _against(one.test, one.alpha, one.verdict)
        yield Chip(one.name.replace("_", " ").capitalize(), _answer(one.verdict), detail)


def _answer(answer: Answer) -> Passes:
    return Passes.UNKNOWN if answer in (UNUSABLE, CONTINUE) else Passes.of(passed=answer is SUPPORTED)


def _significance(verdict: Verdict) -> str:
    looks = verdict.sequential
    if looks is not None and verdict.test is not None:
        return f"sequential {_against(verdict.test, verdict.alpha, alone(verdict))}, look at {looks.taken} of {looks.looks[-1]}"
    return _against(verdict.test, verdict.alpha, alone(verdict))


def _against(test: Test | None, alpha: float, answer: Answer) -> str:
    if test is None:
        return "compared, without a test"
    p = test.p_value
    if p >= alpha and answer is SUPPORTED:  # a track may round its critical value
        return f"p {short_p(p, alpha)}, which the rules' own critical value passes"
    return f"p {short_p(p, alpha)}, {'' if p < alpha else 'not '}below {alpha:.4g}"


def _evidence(verdict: Verdict) -> Chip:
    return Chip("Evidence", Passes.of(passed=not verdict.errors), in_words(verdict.findings) or "no problem found")


def _seeds(verdict: Verdict) -> Iterator[Chip]:
    """Yield how many runs count, and whether each has a seed of its own."""
    if not verdict.runs:
        return
    good, every = [run for run in verdict.runs if run.succeeded], len(verdict.runs)
    seeds = [run.seed for run in good if run.seed is not None]
    raised = {one.code for one in verdict.findings if one.severity is ERROR}
    doubts = [said for code, said in DOUBTS.items() if code in raised]
    distinct = len({*seeds}) == len(good)
    known = ["distinct"] if distinct else ["seeds unknown"] if len(seeds) < len(good) else []
    aside = [f"{len(verdict.left_out)} left out"] if verdict.left_out else []
    said = ", ".join([f"{len(good)} of {every}", *(doubts or known), *aside])
    passes = Passes.YES if distinct and verdict.is_decided else Passes.UNKNOWN
    yield Chip("Seeds", Passes.NO if doubts or len(good) < every else passes, said)


def _caps(verdict: Verdict) -> Iterator[Chip]:
    """Yield the longest time and the largest artifact against their caps."""
    runs, raised = [run.run for run in verdict.runs], {one.code for one in verdict.findings}
    times = [run.train_time_ms / 1000 for run in runs if run.train_time_ms is not None]
    sizes = [run.artifact_bytes / MEGABYTE for run in runs if run.artifact_bytes is not None]
    cap, size_cap = verdict.caps.get("train_time_s"), verdict.caps.get("artifact_bytes")
    if runs and cap is not None:
        yield _cap("Time", times, len(runs), cap, "s", over=Code.TIME_OVER_CAP in raised)
    if runs and size_cap is not None:
        yield _cap("Size", sizes, len(runs), size_cap / MEGABYTE, "MB", over=Code.SIZE_OVER_CAP in raised)


def _cap(name: str, values: list[float], runs: int, cap: float, unit: str, *, over: bool) -> Chip:
    """Return the largest value against its cap. over: whether the checks, which know what rounding explains, say so."""
    if not values:
        return Chip(name, Passes.NO if over else Passes.UNKNOWN, f"not in the logs; the cap is {cap:g} {unit}")
    largest = max(values)
    left = 100 * (1 - largest / cap)
    share = f"{abs(left):.0f}" if abs(left) >= 10 else f"{abs(left):.2g}"
    said = f"{largest:.{1 if largest >= 100 else 2}f} of {cap:g} {unit}, {share}% {'left' if left >= 0 else 'over' if over else 'over, accepted by the checks'}"
    if len(values) < runs:
        said += f", {runs - len(values)} unknown"
    known = Passes.YES if len(values) == runs else Passes.UNKNOWN
    return Chip(name, Passes.NO if over else known, said)


def _plan(verdict: Verdict) -> Chip:
    if verdict.plan is None:
        required = verdict.plan_required
        return Chip(
            "Plan", Passes.NO if required else Passes.UNKNOWN, f"none was frozen{', and one is required' * required}"
        )
    detail = "frozen, and followed" if verdict.plan.exact else "not followed"
    return Chip("Plan", Passes.of(passed=verdict.plan.exact), detail)


def _checks(verdict: Verdict) -> Iterator[Chip]:
    if verdict.checks:
        lacking = len(verdict.not_checked)
        detail = f"{verdict.checks - lacking} of {verdict.checks} made"
        yield Chip("Checks", Passes.UNKNOWN if lacking else Passes.YES, detail)
