"""When a sequential test looks: as planned, else as asked."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.plan import BOUNDARIES, MOST_LOOKS, DesignKind, Plan

FIRST_LOOK, LAST_LOOK = 3, 10  # where no plan says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPlan:
    """When to look: after so many seeds. seeds: the planned ones in order, empty where no plan names them; in_step: the
    control's seeds are run in step with the candidate's.

    Without a plan the order of the runs is anybody's choice: all of them are then taken at one look.
    """

    looks: tuple[int, ...]
    boundary: str = BOUNDARIES[0]
    seeds: tuple[int, ...] = ()
    in_step: bool = False


def planned_looks(plan: Plan, *, in_step: bool) -> LookPlan | None:
    """Return the looks of a plan, None where its design is fixed."""
    if not plan.design.sequential:
        return None
    return LookPlan(
        looks=plan.design.looks,
        boundary=plan.design.boundary,
        seeds=plan.seeds,
        in_step=in_step,
    )


def asked_looks(design: str | None, rules: Ruleset) -> LookPlan | None:
    """Return the looks where no plan says any: after each of seeds 3 to 10, however many runs there are.

    A ruleset may ask for more than 3 runs; if it asks for 10 or more, the last look is at 30. None for a fixed design.
    """
    if design != DesignKind.SEQUENTIAL:
        return None
    first = max(FIRST_LOOK, rules.minimum_runs)
    last = LAST_LOOK if first < LAST_LOOK else MOST_LOOKS
    return LookPlan(looks=tuple(range(first, last + 1)))
