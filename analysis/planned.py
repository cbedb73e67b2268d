"""Are the runs exactly those of the plan? Which planned ones are missing, which are not planned, which came out of order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import sweepdir
from analysis.files import FileError, leads_out, read_bounded
from analysis.rules import RulesError, Ruleset, from_plan, load
from analysis.runs import Result

DONE = ("succeeded", "failed")
COMPARED = ("metric", "margin", "unit", "test", "alpha", "target", "sigma", "scaled_gain")


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and how the runs keep to it. Seeds are those of either arm.

    missing: planned seeds without a result; of a sequential plan only those before the last one used.
    out_of_order: seeds that were started when a later one's result was there already.
    differs: other things that are not as planned, each a clause.
    """

    sha256: str
    design: str
    seeds: list[int]
    seeds_are: str
    missing: list[int] = field(default_factory=list)
    extra: list[int] = field(default_factory=list)
    out_of_order: list[int] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.missing or self.extra or self.out_of_order or self.differs)

    @property
    def name(self) -> str:
        return f"plan {self.sha256[:12]} ({self.design}, {self.seeds_are} seeds)"

    def sentence(self) -> str:
        """What a reviewer reads: exactly as planned, or what is not."""
        if self.exact:
            return f"{self.name}: the runs are exactly its runs"
        return f"{self.name}: not as planned: {self.faults()}"

    def faults(self) -> str:
        """What is not as planned."""
        faults = [
            f"{what} {', '.join(map(str, seeds[:8]))}{', ...' if len(seeds) > 8 else ''}"
            for what, seeds in (
                ("no result of seed", self.missing),
                ("not planned: seed", self.extra),
                ("started after a later seed's result was known: seed", self.out_of_order),
            )
            if seeds
        ]
        return "; ".join([*faults, *self.differs])


def plan_beside(record: Path) -> dict[str, Any] | None:
    """The plan that lies in a record folder, None when there is none of ours. Raises SweepError when it was changed."""
    path = record / sweepdir.PLAN
    if not sweepdir.has_plan(record) or leads_out(path, os.path.realpath(record)):
        return None
    try:
        return sweepdir.read_plan(record)
    except sweepdir.SweepError:
        try:
            ours = b'"sha256"' in read_bounded(path) and b'"seeds"' in read_bounded(path)
        except FileError:
            return None
        if ours:
            raise
        return None


def compare(
    plan: dict[str, Any], directory: Path, results: list[Result], rules: Ruleset, sota: float | None
) -> Planned:
    """How results, and the claim they were tested for, keep to a plan; `directory` holds the sweep or the record."""
    design, seeds = design_of(plan), plan["seeds"]
    sweep = sweepdir.is_sweep(directory)
    arms = (
        [arm for arm in (sweepdir.CANDIDATE, sweepdir.CONTROL) if arm in plan["arms"]]
        if sweep
        else [sweepdir.CANDIDATE]
    )
    done = {arm: {r.seed for r in results if r.arm == arm and r.state in DONE} for arm in arms}
    due = seeds
    if design["name"] == sweepdir.SEQUENTIAL:
        used = [i for i, seed in enumerate(seeds) if seed in done[sweepdir.CANDIDATE]]
        due = seeds[: max(used) + 1] if used else []
    there = {
        arm: sweepdir.seeds_on_disk(directory, arm) if sweep else sorted(s for s in done[arm] if s is not None)
        for arm in arms
    }
    return Planned(
        sha256=plan["sha256"],
        design=design["name"],
        seeds=seeds,
        seeds_are=str(plan.get("seeds_are", "given")),
        missing=[seed for seed in due if any(seed not in done[arm] for arm in arms)],
        extra=sorted({seed for arm in arms for seed in there[arm]} - set(seeds)),
        out_of_order=_out_of_order(directory, arms, seeds) if sweep else [],
        differs=_differences(plan, directory, sweep, results, rules, sota),
    )


def design_of(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan's design; plans of before there were any are fixed."""
    design: dict[str, Any] = plan.get("design", {"name": sweepdir.FIXED})
    return design


def _out_of_order(directory: Path, arms: list[str], seeds: list[int]) -> list[int]:
    late = []
    for arm in arms:
        earliest_end: str | None = None  # of all later seeds
        for seed in reversed(seeds):
            started, ended = sweepdir.times_of(directory, arm, seed)
            if started is not None and earliest_end is not None and earliest_end < started:
                late.append(seed)
            if ended is not None:
                earliest_end = ended if earliest_end is None else min(earliest_end, ended)
    return [seed for seed in seeds if seed in late]


def _differences(
    plan: dict[str, Any], directory: Path, sweep: bool, results: list[Result], rules: Ruleset, sota: float | None
) -> list[str]:
    faults = []
    try:
        planned = from_plan(plan)
        faults += [
            f"{key} {getattr(rules, key)} instead of the plan's {getattr(planned, key)}"
            for key in COMPARED
            if getattr(rules, key) != getattr(planned, key)
        ]
    except RulesError as error:
        faults.append(f"its rules cannot be read ({error})")
    if sota is not None and plan.get("sota") is not None and sota != plan["sota"]:
        faults.append(f"SOTA {sota:g} instead of the plan's {plan['sota']:g}")
    if plan.get("seeds_are") == "derived":
        try:
            if sweepdir.derive_seeds(plan, len(plan["seeds"])) != plan["seeds"]:
                faults.append("its seeds do not follow from it, though it calls them derived")
        except (KeyError, TypeError, AttributeError):
            faults.append("its seeds cannot be derived again")
    if not sweep:
        if any(result.seed is None for result in results):
            faults.append("a log prints no seed")
        if not _holds(directory, plan["script"].get("sha256")):
            faults.append("its script is not in the folder")
    return faults


def _holds(directory: Path, digest: Any) -> bool:
    """Whether a script of this SHA-256 lies in the top folder."""
    import hashlib

    for path in sorted(directory.glob("*.py")):
        try:
            if hashlib.sha256(read_bounded(path)).hexdigest() == digest:
                return True
        except FileError:
            continue
    return False


def rules_changed(plan: dict[str, Any]) -> list[str]:
    """What a sweep's own rules have changed in the shipped ruleset of their name."""
    try:
        mine = from_plan(plan)
        shipped = load(mine.name)
    except RulesError:
        return []
    return [
        f"{key} is {getattr(mine, key)}, not {getattr(shipped, key)}"
        for key in COMPARED
        if getattr(mine, key) != getattr(shipped, key)
    ]
