"""Are the runs exactly those of the plan? Which planned ones are missing, which are not planned, which came out of order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.evidence.gather import Evidence
from analysis.reading.result import Result
from analysis.rules.ruleset import RulesError, Ruleset, from_plan, known, load
from analysis.sweepdir import layout
from analysis.untrusted.files import FileError, leads_out, read_bounded

DONE = ("succeeded", "failed")
COMPARED = [key.name for key in fields(Ruleset) if key.name != "name"]
LARGEST_SCRIPT = 2**22  # bytes


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and how the runs keep to it. Seeds are those of either arm.

    missing: planned seeds without a result; of a sequential plan only those before the last one used.
    extra: seeds with a log that were not planned. rerun: seeds that were run again after they had a result.
    out_of_order: seeds that were started when a later one's result was there already.
    differs: other things that are not as planned, each a clause.
    """

    sha256: str
    design: str
    seeds: list[int]
    seeds_are: str
    missing: list[int] = field(default_factory=list)
    extra: list[int] = field(default_factory=list)
    rerun: list[int] = field(default_factory=list)
    out_of_order: list[int] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not self.faults()

    @property
    def name(self) -> str:
        return f"plan {self.sha256[:12]} ({self.design}, {self.seeds_are} seeds)"

    @property
    def advice(self) -> str:
        """What to do where something is not as planned."""
        if self.missing or self.extra or self.rerun or self.out_of_order:
            return "Run what is missing, explain the rest."
        return "Judge what was planned, by the plan's rules, or explain it."

    def sentence(self) -> str:
        """What a reviewer reads: exactly as planned, or what is not."""
        if self.exact:
            return f"{self.name}: the runs are exactly its runs"
        return f"{self.name}: not as planned: {self.faults()}"

    def faults(self) -> str:
        """What is not as planned; empty when nothing is."""
        seeds = [
            f"{what} {', '.join(map(str, seeds[:8]))}{', ...' if len(seeds) > 8 else ''}"
            for what, seeds in (
                ("no result of seed", self.missing),
                ("not planned: seed", self.extra),
                ("run again after it had a result: seed", self.rerun),
                ("started after a later seed's result was known: seed", self.out_of_order),
            )
            if seeds
        ]
        return "; ".join([*seeds, *self.differs])


def plan_beside(record: Path) -> dict[str, Any] | None:
    """The plan that lies in a record folder, None when there is none of ours. Raises SweepError when it was changed."""
    path = record / layout.PLAN
    if not layout.has_plan(record) or leads_out(path, os.path.realpath(record)):
        return None
    try:
        return layout.read_plan(record)
    except layout.SweepError:
        try:
            content = read_bounded(path)
        except FileError:
            return None
        if b'"sha256"' in content and b'"seeds"' in content:
            raise
        return None


def compare(
    plan: dict[str, Any],
    directory: Path,
    evidence: Evidence,
    rules: Ruleset,
    sota: float | None,
    other_control: bool,
) -> Planned:
    """How the runs, and the claim they are tested for, keep to a plan; `directory` holds the sweep or the record.

    other_control: whether the reviewer brought control runs that are not the plan's.
    """
    design, seeds, results = design_of(plan), plan["seeds"], evidence.results + evidence.control
    sweep = layout.is_sweep(directory)
    planned_arms = [arm for arm in (layout.CANDIDATE, layout.CONTROL) if arm in plan["arms"]]
    arms = planned_arms if sweep or evidence.control else [layout.CANDIDATE]
    done = {arm: {r.seed for r in results if r.arm == arm and r.state in DONE} for arm in arms}
    due = seeds
    if design["name"] == layout.SEQUENTIAL:
        used = [i for i, seed in enumerate(seeds) if seed in done[layout.CANDIDATE]]
        due = seeds[: max(used) + 1] if used else []
    there = {r.seed for r in results if r.seed is not None} | set(evidence.seeds_aside)
    attempts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    if sweep:
        there |= {seed for arm in arms for seed in layout.seeds_on_disk(directory, arm)}
        attempts = {(arm, seed): layout.attempts_of(directory, arm, seed) for arm in arms for seed in seeds}
    late, told = _out_of_order(attempts, arms, seeds)
    return Planned(
        sha256=plan["sha256"],
        design=design["name"],
        seeds=seeds,
        seeds_are=str(plan.get("seeds_are", "given")),
        missing=[seed for seed in due if any(seed not in done[arm] for arm in arms)],
        extra=sorted(there - set(seeds)),
        rerun=[seed for seed in seeds if any(_rerun(attempts.get((arm, seed), [])) for arm in arms)],
        out_of_order=late,
        differs=[
            *_other_claim(plan, rules, sota, other_control),
            *_underived(plan),
            *([] if told else ["run.json does not say when a run started and ended, so the order cannot be told"]),
            *(_other_script(plan, attempts) if sweep else _not_of_the_record(plan, directory, results)),
        ],
    )


def design_of(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan's design; plans of before there were any are fixed."""
    design: dict[str, Any] = plan.get("design", {"name": layout.FIXED})
    return design


def _rerun(attempts: list[dict[str, Any]]) -> bool:
    return any(attempt.get("state") in DONE for attempt in attempts[:-1])


def _out_of_order(
    attempts: dict[tuple[str, int], list[dict[str, Any]]], arms: list[str], seeds: list[int]
) -> tuple[list[int], bool]:
    """Seeds that were started when a later one had ended, and whether all times are there."""
    late, told = set(), True
    for arm in arms:
        earliest_end: datetime | None = None  # of all later seeds
        for seed in reversed(seeds):
            tries = attempts.get((arm, seed), [])
            if not tries or tries[-1].get("state") not in DONE:
                continue
            started, ended = layout.time_of(tries[0], "started"), layout.time_of(tries[-1], "ended")
            if started is None or ended is None:
                told = False
                continue
            if earliest_end is not None and earliest_end < started:
                late.add(seed)
            earliest_end = ended if earliest_end is None else min(earliest_end, ended)
    return [seed for seed in seeds if seed in late], told


def _other_claim(plan: dict[str, Any], rules: Ruleset, sota: float | None, other_control: bool) -> list[str]:
    """How the claim that is tested differs from the planned one."""
    try:
        mine = from_plan(plan)
        keys = [key for key in COMPARED if getattr(rules, key) != getattr(mine, key)]
        if rules.name == mine.name:
            clauses = [f"{key} {getattr(rules, key)} instead of the plan's {getattr(mine, key)}" for key in keys]
        elif keys:
            clauses = [f"judged by the rules {rules.name}, planned by {mine.name}, which differ in {', '.join(keys)}"]
        else:
            clauses = []
    except RulesError as error:
        clauses = [f"its rules cannot be read ({error})"]
    planned_sota = plan.get("sota")
    if other_control and sota is None:
        clauses.append("tested against other control runs than the plan's SOTA or control")
    elif sota is not None and sota != planned_sota:
        instead = f"the plan's {planned_sota:g}" if planned_sota is not None else "what the plan compares with"
        clauses.append(f"SOTA {sota:g} instead of {instead}")
    return clauses


def _underived(plan: dict[str, Any]) -> list[str]:
    if plan.get("seeds_are") != "derived":
        return []
    try:
        if layout.derive_seeds(plan, len(plan["seeds"])) != plan["seeds"]:
            return ["its seeds do not follow from it, though it calls them derived"]
    except (KeyError, TypeError, AttributeError):
        return ["its seeds cannot be derived again"]
    return []


def _other_script(plan: dict[str, Any], attempts: dict[tuple[str, int], list[dict[str, Any]]]) -> list[str]:
    """Runs of a sweep whose run.json names another script than the planned one."""
    for (arm, seed), tries in attempts.items():
        script = tries[-1].get("script") if tries else None
        if isinstance(script, dict) and script.get("sha256") != plan["script"].get("sha256"):
            return [f"{arm} seed {seed} ran another script than the planned one"]
    return []


def _not_of_the_record(plan: dict[str, Any], directory: Path, results: list[Result]) -> list[str]:
    """What in a record folder speaks against the plan that lies in it."""
    clauses = []
    if any(result.seed is None for result in results):
        clauses.append("a log prints no seed")
    script = _script_of(directory, plan["script"].get("sha256"))
    if script is None:
        return [*clauses, "its script is not in the folder"]
    programs = {hashlib.sha256(text).hexdigest() for text in (script, script.rstrip(b"\n"))}
    if any(result.program is not None and result.program.sha256 not in programs for result in results):
        clauses.append("a log embeds another program than the planned script")
    return clauses


def _script_of(directory: Path, digest: Any) -> bytes | None:
    """The script of this SHA-256 in the top folder."""
    for path in sorted(directory.glob("*.py")):
        if leads_out(path, os.path.realpath(directory)):
            continue
        try:
            content = read_bounded(path, LARGEST_SCRIPT)
        except FileError:
            continue
        if hashlib.sha256(content).hexdigest() == digest:
            return content
    return None


def own_rules(plan: dict[str, Any], asked: Iterable[str]) -> str | None:
    """How a sweep's rules differ from the shipped ones of their name in what the reviewer did not ask for; None if not."""
    mine = from_plan(plan)
    if mine.name not in known():
        return f"the rules {mine.name!r}, which are not shipped"
    shipped = load(mine.name)
    changed = [
        f"{key} {str(getattr(mine, key))[:60]} instead of {str(getattr(shipped, key))[:60]}"
        for key in COMPARED
        if key not in asked and getattr(mine, key) != getattr(shipped, key)
    ]
    return f"the rules {mine.name} with {'; '.join(changed)}" if changed else None
