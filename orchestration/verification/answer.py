"""What fresh runs say of a claim, in one of three words with the reason. Pure: the same numbers give the same answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from analysis.reading.result import remade
from analysis.rules.findings import ERROR, Code
from analysis.stats.fixed import Sample, prediction_interval
from analysis.verdict.again.second_lab import LEVEL
from analysis.verdict.answer import NOT_SUPPORTED, SUPPORTED
from analysis.verdict.numbers import percent
from analysis.verdict.verdict import Verdict
from orchestration.disk.journal import DRIVER_GONE
from orchestration.verification.recorded import Claim

CAPS = (Code.TIME_OVER_CAP, Code.EVAL_TIME_OVER_CAP, Code.SIZE_OVER_CAP)


class Word(StrEnum):
    """The answer on a record; `not yet` while its runs go on or wait."""

    HOLDS_UP = "holds up"
    DOES_NOT_HOLD_UP = "does not hold up"
    CANNOT_TELL = "cannot tell"
    NOT_YET = "not yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The range that holds the mean of the fresh runs with probability `level`, by the author's runs alone."""

    level: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """The fresh runs of a record. verdict: theirs alone; None while a look is missing.

    failed: the first run that failed, as a clause; trained: whether any run reached a step or a result.
    over: why there will be no more runs; None while there may be.
    """

    values: tuple[float, ...] = ()
    verdict: Verdict | None = None
    failed: str | None = None
    trained: bool = False
    over: str | None = None

    @property
    def mean(self) -> float | None:
        return math.fsum(self.values) / len(self.values) if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The word on a record, and the sentence that says why."""

    word: Word
    reason: str


def interval_of(claim: Claim, fresh: Fresh) -> Interval | None:
    """Return the prediction interval for the fresh mean; None where no run is fresh or the author's show no spread."""
    if not fresh.values or claim.n < 2 or claim.sd is None:
        return None
    low, high = prediction_interval(Sample(claim.n, claim.mean, claim.sd), len(fresh.values), LEVEL)
    return Interval(level=LEVEL, low=low, high=high)


def answer_of(claim: Claim, fresh: Fresh) -> Answer:
    """Return whether the claim holds up. Lower values are better."""
    if fresh.failed is not None and not fresh.trained:
        return Answer(word=Word.CANNOT_TELL, reason=f"Its script did not reach a training step: {fresh.failed}.")
    if fresh.failed is not None:
        return Answer(word=Word.DOES_NOT_HOLD_UP, reason=f"A fresh run failed: {fresh.failed}.")
    decided = fresh.verdict is not None and fresh.verdict.verdict in (SUPPORTED, NOT_SUPPORTED)
    if not decided and fresh.over is None:
        return Answer(word=Word.NOT_YET, reason="")
    if fresh.verdict is None or not decided:
        there = f" There are {len(fresh.values)} fresh results." if fresh.values else " There is no fresh result."
        return Answer(word=Word.CANNOT_TELL, reason=f"{fresh.over}.{there}")
    if outside := _worse_than_predicted(claim, fresh):
        return Answer(word=Word.DOES_NOT_HOLD_UP, reason=outside)
    if fresh.verdict.verdict is NOT_SUPPORTED:
        reason = f"The fresh runs alone do not support the claim. {fresh.verdict.reason}"
        return Answer(word=Word.DOES_NOT_HOLD_UP, reason=reason)
    if open_still := _hangs_on_lost(fresh.verdict) or _refused(fresh.verdict):
        return Answer(word=Word.CANNOT_TELL, reason=open_still)
    return Answer(word=Word.HOLDS_UP, reason=_supports(claim, fresh))


def _hangs_on_lost(verdict: Verdict) -> str | None:
    """Return why lost attempts keep the claim open: a script may end itself when its value is bad. This driver's own do not."""
    found = next((one for one in verdict.findings if one.code is Code.ATTEMPTS_REMADE and one.severity is ERROR), None)
    tries = (one for run in (*verdict.runs, *verdict.control) for one in remade(run.attempts))
    if found is None or not any(one.state == "lost" and one.reason != DRIVER_GONE for one in tries):
        return None
    return f"It would not hold up if the attempts that were lost had ended as they stood. {found.message}"


def _refused(verdict: Verdict) -> str | None:
    """Return which cap of the rules the fresh runs broke. Findings that suspect a log are not asked: these runs are our own."""
    found = [one for one in verdict.findings if one.severity is ERROR and one.code in CAPS]
    if not found:
        return None
    codes = ", ".join(dict.fromkeys(str(one.code) for one in found))
    return f"The fresh numbers support the claim, but the runs break the rules ({codes}). {found[0].message}"


def _worse_than_predicted(claim: Claim, fresh: Fresh) -> str | None:
    interval = interval_of(claim, fresh)
    if interval is None or fresh.mean is None or fresh.mean <= interval.high:
        return None
    return (
        f"The fresh mean {fresh.mean:.6f} is worse than the author's runs allow: their {percent(LEVEL)} prediction interval "
        f"for the mean of {len(fresh.values)} runs ends at {interval.high:.6f}."
    )


def _supports(claim: Claim, fresh: Fresh) -> str:
    interval = interval_of(claim, fresh)
    if interval is None:
        return "The fresh runs alone support the claim; the author's runs show no spread to predict their mean from."
    side = "better than" if fresh.mean is not None and fresh.mean < interval.low else "inside"
    return f"The fresh runs alone support the claim, and their mean is {side} the author's prediction interval."
