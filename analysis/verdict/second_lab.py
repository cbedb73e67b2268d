"""A second lab: does it measure what the author measured, and what do both say together?"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from analysis.evidence.compare import values_of
from analysis.evidence.gather import EvidenceError, check_one_metric, check_results
from analysis.evidence.history import History
from analysis.reading.result import Result
from analysis.rules.ruleset import Ruleset
from analysis.stats import fixed
from analysis.stats.spread import Spread
from analysis.verdict.decide import decide
from analysis.verdict.readings import reading
from analysis.verdict.verdict import SUPPORTED, UNUSABLE, Reading, Verdict, Verification, format_p, percent

LEVEL = 0.99  # of the prediction interval; the two-sided test at 1 - LEVEL decides whether the two agree


def check_second_lab(own: list[Result], fault: str | None, where: Path, authors: list[Result]) -> None:
    """Raise EvidenceError when the verifier's runs, or the `fault` found in reading them, leave nothing to compare."""
    if fault is not None:
        raise EvidenceError(fault)
    check_results(own, str(where), at_least=1)
    if lost := [run for run in own if run.state == "failed"]:
        raise EvidenceError(f"{lost[0].log} is a failed run. Run it again, or leave it out and say why.")
    check_one_metric(authors + own)
    known = {(run.val_loss, run.val_bpb, run.train_time_ms): run for run in authors}
    for run in own:
        if other := known.get((run.val_loss, run.val_bpb, run.train_time_ms)):
            raise EvidenceError(f"{run.log} is the author's {other.log}. Verify with runs of your own.")


def verified(
    author: Verdict,
    rules: Ruleset,
    own: list[Result],
    sota: float | None,
    control: list[Result],
    history: History | None,
) -> Verdict:
    """The author's verdict after a second lab's runs: pooled where the two agree, *cannot tell* where they do not.

    Runs that may be of the author's own seeds are compared, but not pooled: a seed that is run twice is not two. A
    sequential verdict stays the author's, since its looks are over; and so does one that is not supported, since a
    second try at the level would not keep it.
    """
    if author.test is None or author.mean is None or author.sd is None:
        return author
    sample = fixed.Sample(author.n, author.mean, author.sd)
    values = values_of(rules, own)
    if sample.sd == 0 and len(set(values)) == 1:
        raise EvidenceError(f"Neither the author's runs nor the verifier's have any spread ({author.runs[0].log}).")
    test = fixed.same_mean(sample, values)
    mean = math.fsum(values) / len(values)
    scatter = Spread(fixed.Sample.of(values, spread_is_known=True).sd, len(own) - 1) if len(own) > 1 else None
    low, high = fixed.prediction_interval(sample, len(values), LEVEL)
    agrees = test.p_value >= 1 - LEVEL
    seeds = {run.seed for run in author.runs if run.seed is not None}
    fresh = [run for run in own if run.seed not in seeds and (run.seed is not None or not seeds)]
    pools = agrees and bool(fresh) and author.sequential is None and author.verdict == SUPPORTED
    pooled_n = author.n + len(fresh) if pools else author.n
    said = Verification(own, len(own), mean, scatter, LEVEL, low, high, test, agrees, pooled_n)
    where = "inside" if low <= mean <= high else "outside"
    alone = _alone(author, rules, own, sota, control)
    compared = replace(author, verification=said, also=[*alone, *author.also])
    lies = (
        f"the verifier's mean of {len(own)} run{'s' if len(own) > 1 else ''}, {mean:.8f}, lies {where} the author's "
        f"{percent(LEVEL)} prediction interval {low:.8f} to {high:.8f}"
    )
    beside = f"{lies}; two-sided p {format_p(test.p_value)}"
    if agrees and author.verdict == SUPPORTED and author.threshold is not None and mean >= author.threshold:
        reason = (
            f"Not verified: the verifier's own mean does not lie below the threshold {author.threshold:.8f}, though it is too "
            f"uncertain to contradict the author: {beside}. Make more runs."
        )
        return replace(compared, verdict=UNUSABLE, reason=reason)
    if not agrees:
        reason = (
            f"Author and verifier do not agree: their means differ, two-sided p {format_p(test.p_value)}, "
            f"{'though' if where == 'inside' else 'and'} {lies}. Not reproduced: find out what differs before any pooled test."
        )
        return replace(compared, verdict=UNUSABLE, reason=reason)
    if not pools:
        why = (
            "the author's looks are over"
            if author.sequential is not None
            else "the author's runs alone do not pass, and a second try would not keep the level"
            if author.verdict != SUPPORTED
            else "all its seeds are the author's, or unknown"
        )
        reason = f"{author.reason} A second lab does not contradict it; nothing is pooled ({why}): {beside}."
        return replace(compared, reason=reason)
    pooled = decide(rules, author.runs + fresh, author.findings, sota, control, history=history)
    reason = f"The verifier does not contradict the author: {beside}. Together: {pooled.reason}"
    return replace(pooled, reason=reason, runs=author.runs, verification=said, also=[*alone, *pooled.also])


def _alone(
    author: Verdict, rules: Ruleset, own: list[Result], sota: float | None, control: list[Result]
) -> list[Reading]:
    """The author's runs alone, and the verifier's, which are the independent evidence; one run is no test."""
    assert author.test is not None, "the author's runs allow a test"
    found = [
        Reading(
            "the author's runs alone", "as submitted", author.margin, author.unit, author.threshold or 0.0,
            author.verdict, author.test,
        )
    ]  # fmt: skip
    try:
        theirs = decide(rules, own, [], sota, control)
    except EvidenceError:
        return found
    if theirs.test is not None and theirs.threshold is not None:
        assumes = "independent of the author's, if how many runs to make was fixed beforehand"
        passed = theirs.verdict == SUPPORTED
        found.append(reading(rules, "the verifier's runs alone", assumes, theirs.threshold, theirs.test, passed))
    return found
