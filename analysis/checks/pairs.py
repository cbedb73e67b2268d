"""Find the pairs of a plan whose two runs were on two hosts: their difference holds that of the hosts too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from analysis.reading.result import Attempts, Tried
from analysis.rules.findings import Code, Place, Raised
from analysis.sweepdir.layout import ARMS, EVENTS
from analysis.sweepdir.plan import Plan

MOST_NAMED = 8


def check_pairs(plan: Plan, seeds: Collection[int], attempts: Attempts, listed_in: str = EVENTS) -> Raised:
    """Find, in one sentence, the seeds whose two runs were on two hosts, and those of whose runs one names no host.

    seeds: those of which both runs count. listed_in: the file that lists the attempts.
    """
    if not plan.design.paired:
        return
    there = {seed: _on_one_host(attempts, seed) for seed in plan.seeds if seed in seeds}
    split = [seed for seed, together in there.items() if together is False]
    unknown = [seed for seed, together in there.items() if together is None]
    said = [f"the pair{'s' * (len(split) > 1)} of {in_words(split)} split over two hosts"] if split else []
    said += [f"no host named for a run of {in_words(unknown)}"] if unknown else []
    if said:
        yield Place(listed_in).has(Code.PAIR_SPLIT, ", and ".join(said), expected="both runs of a seed on one host")


def _on_one_host(attempts: Attempts, seed: int) -> bool | None:
    """Return whether the two runs of a seed were on one host, None where that is unknown. A node has one host."""
    one, other = (_counted(attempts.get((arm, seed), ())) for arm in ARMS)
    if one is None or other is None:
        return None
    if one.node is not None and one.node == other.node:
        return True
    return None if one.host is None or other.host is None else one.host == other.host


def _counted(tries: Sequence[Tried]) -> Tried | None:
    return next((one for one in tries if one.counts), None)


def in_words(seeds: Sequence[int]) -> str:
    """Return seeds as they are named in a sentence: seeds 1, 2. Very many are cut."""
    named = ", ".join(map(str, seeds[:MOST_NAMED]))
    return f"seed{'s' * (len(seeds) > 1)} {named}{', ...' if len(seeds) > MOST_NAMED else ''}"
