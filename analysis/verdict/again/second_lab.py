"""A second lab: does it measure what the author measured, and what do both say together?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from analysis.evidence.case import Case
from analysis.evidence.compared import values_of
from analysis.reading.result import Result
from analysis.stats import fixed
from analysis.stats.fixed import Sample
from analysis.stats.spread import Spread
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.answer import SUPPORTED, UNUSABLE
from analysis.verdict.criteria import with_criteria
from analysis.verdict.fixed_design import decide_fixed
from analysis.verdict.numbers import format_p, in_short, percent
from analysis.verdict.tested import reason, rules_test
from analysis.verdict.verdict import Reading, ReadingKind, Verdict, Verification

LEVEL = 0.99  # of the prediction interval; the two-sided test at 1 - LEVEL decides whether the two agree


def after_second_lab(case: Case, author: Verdict) -> Verdict:
    """Return the author's verdict after a second lab's runs: pooled where the two agree, *cannot tell* where they do not.

    Runs that may be of the author's own seeds are compared, but not pooled: a seed that is run twice is not two. A
    sequential verdict stays the author's, because its looks are over. So does one that is not supported, because a
    second try would not keep the level. Raises EvidenceError.
    """
    second = case.second
    assert second is not None, "there is a second lab"
    if case.at_step is not None:
        second = second.at(case.at_step)
    beside = replace(author, findings=author.findings + second.findings, notes=author.notes + _notes(case, second))
    if author.test is None or author.mean is None or author.sd is None:
        return _without_a_test(beside, second)
    heard = _hear(case, author, second)
    compared = replace(beside, verification=heard.verification, also=(*_alone(case, author, second), *author.also))
    if not heard.verification.agrees:
        return replace(compared, verdict=UNUSABLE, reason=heard.disagreement)
    threshold = case.compared.shown(case.compared.threshold)
    if author.verdict is SUPPORTED and not case.rules.is_better(heard.verification.mean, threshold):
        return replace(compared, verdict=UNUSABLE, reason=heard.not_verified(threshold, case.rules.beyond))
    if not heard.pools:
        reason = f"{author.reason} A second lab does not contradict it; nothing is pooled ({heard.why_not_pooled}): {heard.lies}."
        return replace(compared, reason=reason)
    together = case.unpaired().with_runs(case.runs + heard.fresh)
    pooled = with_criteria(together, decide_fixed(together))
    return replace(
        pooled,
        reason=f"The verifier does not contradict the author: {heard.lies}. Together: {pooled.reason}",
        runs=case.runs,
        verification=heard.verification,
        also=(*_alone(case, author, second), *pooled.also),
        findings=compared.findings,
        notes=compared.notes,
    )


def _without_a_test(author: Verdict, second: Case) -> Verdict:
    """Return the author's verdict where no spread tells how far the two are apart: *cannot tell* where the verifier's own fails."""
    theirs = second.compared
    if author.verdict is SUPPORTED and theirs.value > theirs.threshold:
        said = reason(second, rules_test(second))
        return replace(author, verdict=UNUSABLE, reason=f"Not verified. The verifier's runs alone: {said}")
    note = f"--verify {second.where}: nothing was compared, because the author's runs allow no test"
    return replace(author, notes=(*author.notes, note))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What a second lab's runs say next to the author's; fresh: those whose seeds are certainly not the author's."""

    author: Verdict
    verification: Verification
    fresh: tuple[Result, ...]

    @property
    def pools(self) -> bool:
        agrees = self.verification.agrees and bool(self.fresh)
        return agrees and self.author.sequential is None and self.author.verdict is SUPPORTED

    @property
    def why_not_pooled(self) -> str:
        if self.author.sequential is not None:
            return "the author's looks are over"
        if self.author.verdict is not SUPPORTED:
            return "the author's runs alone do not pass, and a second try would not keep the level"
        return "all its seeds are the author's, or unknown"

    @property
    def inside(self) -> bool:
        return self.verification.low <= self.verification.mean <= self.verification.high

    @property
    def interval(self) -> str:
        second = self.verification
        mean, low, high = in_short(self.author.metric, second.mean, second.low, second.high)
        return (
            f"the verifier's mean of {second.n} run{'s' if second.n > 1 else ''}, {mean}, is "
            f"{'inside' if self.inside else 'outside'} the author's {percent(LEVEL)} prediction interval {low} to {high}"
        )

    @property
    def lies(self) -> str:
        return f"{self.interval}; two-sided p {format_p(self.verification.test.p_value)}"

    @property
    def disagreement(self) -> str:
        return (
            f"Author and verifier do not agree: their means differ, two-sided p "
            f"{format_p(self.verification.test.p_value)}, {'though' if self.inside else 'and'} {self.interval}. "
            f"Not reproduced: find out what differs before any pooled test."
        )

    def not_verified(self, threshold: float, beyond: str) -> str:
        return (
            f"Not verified: the verifier's own mean is not {beyond} the threshold {in_short(self.author.metric, threshold)[0]}, though it is too "
            f"uncertain to contradict the author: {self.lies}. Make more runs."
        )


def _hear(case: Case, author: Verdict, second: Case) -> _Heard:
    """Compare the means of both labs. Raises EvidenceError where neither has any spread."""
    assert author.mean is not None, "the author's runs allow a test"
    assert author.sd is not None, "the author's runs allow a test"
    sample = Sample(n=author.n, mean=author.mean, sd=author.sd)
    own = second.runs
    values = values_of(case.rules, own)
    if sample.sd == 0 and len(set(values)) == 1:
        raise EvidenceError(f"Neither the author's runs nor the verifier's have any spread ({case.runs[0].log}).")
    test = fixed.same_mean(sample, values)
    low, high = fixed.prediction_interval(sample, len(values), LEVEL)
    sd = Sample.of(values, spread_is_known=True).sd if len(own) > 1 else None
    seeds = {run.seed for run in case.runs if run.seed is not None}
    fresh = tuple(run for run in own if run.seed not in seeds and (run.seed is not None or not seeds))
    verification = Verification(
        runs=own,
        n=len(own),
        mean=math.fsum(values) / len(values),
        spread=None if sd is None else Spread(sd, len(own) - 1),
        level=LEVEL,
        low=low,
        high=high,
        test=test,
        agrees=test.p_value >= 1 - LEVEL,
        pooled_n=author.n,
    )
    heard = _Heard(author=author, verification=verification, fresh=fresh)
    if not heard.pools:
        return heard
    return replace(heard, verification=replace(verification, pooled_n=author.n + len(fresh)))


def _alone(case: Case, author: Verdict, second: Case) -> list[Reading]:
    """Return the author's runs alone, and the verifier's, which are the independent evidence; one run is no test."""
    found = [
        Reading.of(
            case,
            ReadingKind.AUTHOR_ALONE,
            reading="the author's runs alone",
            assumes="as submitted",
            verdict=author.verdict,
            test=author.test,
        )
    ]
    try:
        theirs = decide_fixed(second)
    except EvidenceError:
        return found
    if theirs.test is not None:
        found.append(
            Reading.of(
                second,
                ReadingKind.VERIFIER_ALONE,
                reading="the verifier's runs alone",
                assumes="independent of the author's, if how many runs to make was fixed beforehand",
                verdict=theirs.verdict,
                test=theirs.test,
            )
        )
    return found


def _notes(case: Case, second: Case) -> tuple[str, ...]:
    programs = [{run.program for run in one.runs} - {None} for one in (case, second)]
    if all(programs) and not programs[0] & programs[1]:
        return ("the verifier's logs embed another program than the author's",)
    return ()
