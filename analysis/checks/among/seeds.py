"""Check that the claimed runs have different seeds, by the seeds that they print and by what two logs share."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.checks.among.curves import MOST_COMPARED, Curve, earlier_twins
from analysis.checks.consistent import Trace
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Found, Raised
from analysis.rules.ruleset import Ruleset


def check_seeds(traces: Sequence[Trace], rules: Ruleset) -> Raised:
    """Check that no two runs print the same seed or have the same training, and that no log is a copy of another."""
    yield from _same_seeds([trace.one for trace in traces])
    every = max((len(trace.steps) for trace in traces), default=0) // MOST_COMPARED
    curves = [Curve.of(trace, max(every, 1)) for trace in traces]
    for own, earlier in zip(curves, earlier_twins(curves, rules), strict=True):
        others = (curves[i] for i in earlier if curves[i].one.training is not own.one.training)
        twins = ((other, own.same_as(other, rules)) for other in others)
        twin, same = next(((other, same) for other, same in twins if same), (None, None))
        if twin is not None:
            yield Found(
                code=Code.SAME_TRAJECTORY,
                at=own.one.at(own.one.training.line),
                found=f"{same} of {twin.one.beside(own.one)}",
                expected="another seed's",
                do="One seed was run twice, or one log was made from the other: rerun it.",
            )


def _same_seeds(claimed: Sequence[Claimed]) -> Raised:
    first: dict[int, Claimed] = {}
    for one in claimed:
        if one.run.seed is None:
            continue
        if one.run.seed in first:
            yield Found(
                code=Code.DUPLICATE_SEED,
                at=one.at(one.run.line),
                found=f"seed {one.run.seed}, which {first[one.run.seed].log} prints too",
                expected="another",
                do="Keep one run for each seed.",
            )
        first.setdefault(one.run.seed, one)
