"""Whether the claimed runs are of different seeds: by the seeds that they print, and by their first training losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.reading.run import Run
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Raised
from analysis.rules.ruleset import Ruleset

SAME_LOSS = 0.004  # of one seed at steps 2-4, run twice on one machine


def check_seeds(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that no two runs print one seed or trained as one."""
    first: dict[int, Claimed] = {}
    for one in claimed:
        if one.run.seed is not None and first.setdefault(one.run.seed, one) is not one:
            found = f"seed {one.run.seed}, which {first[one.run.seed].log} prints too"
            yield one.at(one.run.line).has(Code.DUPLICATE_SEED, found, expected="another")
    if rules.seeds == "required":
        yield from _same_beginnings(claimed)
    else:  # runs without a seed of their own may well share their first weights
        yield from _same_curves(claimed)


def _same_beginnings(claimed: Sequence[Claimed]) -> Raised:
    """Find runs with one seed's losses: equal at step 1, and within SAME_LOSS at all steps 2-4 that both log."""
    before: list[tuple[Claimed, dict[int, float]]] = []
    for one in claimed:
        losses = _first_losses(one.training)
        if losses is None:
            continue
        twins = (other for other, theirs in before if other.training is not one.training and _one_seed(theirs, losses))
        if (twin := next(twins, None)) is not None:
            shown = ", ".join(f"{losses[step]:g}" for step in sorted(losses))
            yield one.at(one.training.line).has(
                Code.SAME_TRAJECTORY,
                f"the training losses of {twin.log} at the first steps ({shown})",
                expected="another seed's",
                do="One seed was run twice, or one log was made from the other: rerun it.",
            )
        before.append((one, losses))


def _one_seed(losses: dict[int, float], others: dict[int, float]) -> bool:
    common = losses.keys() & others.keys()
    return (
        losses[1] == others[1]
        and len(common) > 2
        and all(abs(losses[n] - others[n]) <= SAME_LOSS for n in common - {1})
    )


def _same_curves(claimed: Sequence[Claimed]) -> Raised:
    """Find runs that agree in every loss that they log, if these are at least three."""
    known: dict[tuple[object, ...], Claimed] = {}
    for one in claimed:
        losses = tuple((step.step, step.train_loss, step.val_loss) for step in one.training.steps)
        twin = known.setdefault(losses, one)
        if len(losses) > 2 and twin.training is not one.training:
            found = f"every logged loss of {twin.log}"
            yield one.at(one.training.line).has(Code.SAME_TRAJECTORY, found, expected="another run's")


def _first_losses(run: Run) -> dict[int, float] | None:
    """Return training losses at steps 1-4; None if step 1 is not logged."""
    if not run.curve:
        return None
    line, text = run.curve[0]
    beginning = text[:4096].rpartition(b"\n")[0] or text[:4096]
    steps = replace(run, curve=((line, beginning), *run.curve[1:8])).steps
    found = {step.step: step.train_loss for step in steps if 1 <= step.step <= 4 and step.train_loss is not None}
    return found if 1 in found else None
