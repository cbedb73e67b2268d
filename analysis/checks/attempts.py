"""Find the remade attempts of runs that count: each ended without a result, and its seed was run again.

A script that ends itself when its value is bad would be run again until the value is good.
"""

from __future__ import annotations

from analysis.reading.result import Attempts, Tried, remade, was_early
from analysis.rules.findings import Code, Place, Raised
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import EVENTS

MOST_NAMED = 6


def check_attempts(attempts: Attempts, rules: Ruleset, listed_in: str = EVENTS) -> Raised:
    """Find remade attempts, of both arms, in one sentence. listed_in: the file that lists attempts whose log is gone."""
    found = [(one, tries) for tries in attempts.values() for one in remade(tries)]
    if not found:
        return
    named = [_in_words(one, rules, early=was_early(one, tries)) for one, tries in found[:MOST_NAMED]]
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    first = next((one for one, _ in found if one.log is not None), None)
    at = Place(listed_in) if first is None or first.log is None else Place(first.log, first.line)
    many = "an attempt that" if len(found) == 1 else f"{len(found)} attempts that"
    said = f"{many} ended without a result, after which the seed was run again: {'; '.join(named)}{more}"
    yield at.has(Code.ATTEMPTS_REMADE, said, expected="each seed run once")


def _in_words(one: Tried, rules: Ruleset, *, early: bool) -> str:
    lived = "for an unknown time" if one.wall_s is None else f"after {one.wall_s:.4g} s"
    last = f"the last {rules.metric} was {one.last:.6g}" if one.last is not None else f"no {rules.metric} was printed"
    last = last if one.log is not None or one.last is not None else "its log is missing"
    why = f" ({one.reason[:100]})" if one.reason else ""
    too_early = ", too early to tell how it would have ended" if early else ""
    return f"{one.arm} seed {one.seed}, attempt {one.attempt}: {one.state} {lived}{why}, {last}{too_early}"
