"""Whether the claimed runs are of different seeds: by the seeds that they print, and by their first training losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.reading.run import Run
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Found, Raised
from analysis.rules.ruleset import Ruleset

SAME_LOSS = 0.004  # of one seed at steps 2-4, run twice on one machine


def check_seeds(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that no two runs print one seed or trained as one."""
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
    if rules.seeds == "required":
        yield from _same_beginnings(claimed)
    else:  # runs without a seed of their own may well share their first weights
        yield from _same_curves(claimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A run and its training losses at steps 1-4."""

    one: Claimed
    losses: dict[int, float]

    def is_seed_of(self, other: _Begun) -> bool:
        """Return whether losses at steps 2-4 are one seed's, given that those at step 1 are equal."""
        common = self.losses.keys() & other.losses.keys() - {1}
        return len(common) > 1 and all(abs(self.losses[n] - other.losses[n]) <= SAME_LOSS for n in common)


def _same_beginnings(claimed: Sequence[Claimed]) -> Raised:
    begun: dict[float, list[_Begun]] = {}  # by the loss at step 1
    for one in claimed:
        losses = _first_losses(one.training)
        if losses is None:
            continue
        own, before = _Begun(one=one, losses=losses), begun.setdefault(losses[1], [])
        twin = next((b.one for b in before if b.is_seed_of(own) and b.one.training is not one.training), None)
        if twin is not None:
            shown = ", ".join(f"{losses[step]:g}" for step in sorted(losses))
            yield Found(
                code=Code.SAME_TRAJECTORY,
                at=one.at(one.training.line),
                found=f"the training losses of {twin.log} at the first steps ({shown})",
                expected="another seed's",
                do="One seed was run twice, or one log was made from the other: rerun it.",
            )
        before.append(own)


def _same_curves(claimed: Sequence[Claimed]) -> Raised:
    """Find runs that agree in every loss that they log, if these are at least three."""
    known: dict[tuple[object, ...], Claimed] = {}
    for one in claimed:
        losses = tuple((step.step, step.train_loss, step.val_loss) for step in one.training.steps)
        if len(losses) < 3:
            continue
        twin = known.setdefault(losses, one)
        if twin.training is not one.training:
            yield Found(
                code=Code.SAME_TRAJECTORY,
                at=one.at(one.training.line),
                found=f"every logged loss of {twin.log}",
                expected="another run's",
                do="One log was made from the other: rerun it.",
            )


def _first_losses(run: Run) -> dict[int, float] | None:
    """Return training losses at steps 1-4; None if step 1 is not logged."""
    if not run.curve:
        return None
    line, text = run.curve[0]
    beginning = text[:4096].rpartition(b"\n")[0] or text[:4096]
    steps = replace(run, curve=((line, beginning), *run.curve[1:8])).steps
    found = {step.step: step.train_loss for step in steps if 1 <= step.step <= 4 and step.train_loss is not None}
    return found if 1 in found else None
