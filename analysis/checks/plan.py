"""How runs keep to a plan: which planned ones are missing, which were not planned, which came out of order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from analysis.checks.pairs import in_words
from analysis.reading.result import Result
from analysis.rules.keys import LOOKING, TARGET
from analysis.rules.ruleset import RulesError, Ruleset, known, load
from analysis.stats.recursion import Design
from analysis.stats.sequential import at_nominal, type_one_error
from analysis.sweepdir.code import LARGEST_SCRIPT
from analysis.sweepdir.journal import read_journal
from analysis.sweepdir.layout import (
    CANDIDATE,
    CONTROL,
    DONE,
    EVENTS,
    is_sweep,
    seeds_on_disk,
)
from analysis.sweepdir.manifest import RunManifest, attempts_of
from analysis.sweepdir.plan import MOST_LOOKS, DesignKind, Plan, SeedsAre, derive_seeds
from analysis.untrusted.files import FileError, leads_out, read_bounded

Attempts = Mapping[tuple[str, int], Sequence[RunManifest]]  # by arm and seed, each in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan and how the runs keep to it. Seeds are those of either arm. paired: the plan tests the differences of two runs.

    missing: planned seeds without a result; of a sequential plan only those before the last one used.
    extra: seeds with a log that were not planned. rerun: seeds that were run again after they had a result.
    out_of_order: seeds that were started when a later seed's result was already known.
    differs: whatever else is not as planned, each as a clause.
    """

    sha256: str
    design: DesignKind
    paired: bool
    seeds: list[int]
    seeds_are: SeedsAre
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
        pairs = ", in pairs" if self.paired else ""
        return f"plan {self.sha256[:12]} ({self.design}{pairs}, {self.seeds_are} seeds)"

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        if self.missing or self.extra or self.rerun or self.out_of_order:
            return "Run what is missing and explain the rest."
        return "Judge what was planned, by the plan's rules, or explain the difference."

    def sentence(self) -> str:
        """Return in words whether the runs are exactly the planned ones."""
        return f"{self.name}: exactly the planned runs" if self.exact else f"{self.name}: not followed: {self.faults()}"

    def faults(self) -> str:
        """Return what is not as planned; empty if everything is."""
        seeds = [
            f"{what} {in_words(seeds)}"
            for what, seeds in (
                ("no result for", self.missing),
                ("not planned:", self.extra),
                ("rerun after it had a result:", self.rerun),
                ("started after a later seed's result was known:", self.out_of_order),
            )
            if seeds
        ]
        return "; ".join([*seeds, *self.differs])


def compare(
    plan: Plan, directory: Path, results: Sequence[Result], seeds_aside: Iterable[int], differs: Iterable[str]
) -> Planned:
    """Compare the results of both arms, in a sweep or a record, with a plan. Raises SweepError.

    seeds_aside: those of a record's logs that do not count. differs: how the claim is not as planned.
    """
    sweep = is_sweep(directory)
    arms = plan.arms if sweep or any(run.arm == CONTROL for run in results) else (CANDIDATE,)
    there = {run.seed for run in results if run.seed is not None} | set(seeds_aside)
    attempts: Attempts = {}
    if sweep:
        journal = read_journal(directory)
        attempts = {(arm, seed): attempts_of(directory, arm, seed, journal) for arm in arms for seed in plan.seeds}
        there |= {seed for arm in arms for seed in seeds_on_disk(directory, arm)}
    rerun = {seed for (_, seed), tries in attempts.items() if any(one.state in DONE for one in tries[:-1])}
    done = {key: tries for key, tries in attempts.items() if tries and tries[-1].state in DONE}
    extra = sorted(there - set(plan.seeds))
    others = [*_underived(plan), *_order_unknown(done), *_tested_again(plan, extra)]
    if sweep:
        others += [*_untold(plan, directory, attempts), *_other_script(plan, attempts)]
    else:
        others += _not_of_the_record(plan, directory, results)
    return Planned(
        sha256=plan.sha256,
        design=plan.design.kind,
        paired=plan.design.paired,
        seeds=list(plan.seeds),
        seeds_are=plan.seeds_are,
        missing=_missing(plan, results, arms),
        extra=extra,
        rerun=[seed for seed in plan.seeds if seed in rerun],
        out_of_order=_late(done, arms, plan.seeds),
        differs=[*differs, *others],
    )


# -- the seeds ---------------------------------------------------------------------------------------------------------


def _missing(plan: Plan, results: Sequence[Result], arms: Sequence[str]) -> list[int]:
    done = {arm: {run.seed for run in results if run.arm == arm and run.state in DONE} for arm in arms}
    due = plan.seeds
    if plan.design.sequential:
        used = [i for i, seed in enumerate(plan.seeds) if seed in done[CANDIDATE]]
        due = plan.seeds[: max(used) + 1] if used else ()
    return [seed for seed in due if any(seed not in done[arm] for arm in arms)]


def _late(done: Attempts, arms: Sequence[str], seeds: Sequence[int]) -> list[int]:
    """Return the seeds that were started when a later one of their arm had ended."""
    late = set()
    for arm in arms:
        earliest_end: datetime | None = None  # of all later seeds
        for seed, tries in ((seed, done[arm, seed]) for seed in reversed(seeds) if (arm, seed) in done):
            started, ended = tries[0].started, tries[-1].ended
            if started is None or ended is None:
                continue
            if earliest_end is not None and earliest_end < started:
                late.add(seed)
            earliest_end = min(ended, earliest_end or ended)
    return [seed for seed in seeds if seed in late]


def _untold(plan: Plan, directory: Path, attempts: Attempts) -> list[str]:
    """Return what shows that attempts may have been taken out of a sweep. Plans with a limit of attempts always had a journal."""
    if "max_attempts" not in plan.table or not any(attempts.values()):
        return []
    if not os.path.isfile(directory / EVENTS):
        return [f"its journal {EVENTS} is missing, so nobody can tell which attempts were made"]
    gaps = [key for key, tries in attempts.items() if [one.attempt for one in tries] != [*range(1, len(tries) + 1)]]
    return [f"the journal misses an attempt of {arm} seed {seed}" for arm, seed in gaps[:1]]


def _order_unknown(done: Attempts) -> list[str]:
    if all(tries[0].started and tries[-1].ended for tries in done.values()):
        return []
    return ["a run.json does not say when its run started and ended, so the order is unknown"]


def _tested_again(plan: Plan, extra: Sequence[int]) -> Iterator[str]:
    """Yield what it is worth to test a fixed plan again after each seed that was added to it."""
    try:
        rules, planned = plan.rules(), len(plan.seeds)
    except RulesError:  # which is said where the rules are asked for
        return
    most = min(planned + len(extra), MOST_LOOKS)
    if plan.design.sequential or most == planned or planned < 2 or rules.test not in LOOKING:
        return
    design = Design(looks=tuple(range(planned, most + 1)), in_step=plan.has_control and not plan.design.paired)
    level = type_one_error(design, at_nominal(design, rules.alpha))
    yield (
        f"seeds were added to a fixed plan of {planned}: a test after each of {planned} to {most} would pass "
        f"{100 * level:.2g} % of false claims at p < {rules.alpha:g}"
    )


def _underived(plan: Plan) -> list[str]:
    if plan.seeds_are is not SeedsAre.DERIVED:
        return []
    try:
        follow = derive_seeds(plan.table, len(plan.seeds)) == list(plan.seeds)
    except (KeyError, TypeError, AttributeError):
        return ["its seeds are called derived, but the plan lacks what they are derived from"]
    return [] if follow else ["its seeds are called derived, but do not follow from the plan"]


# -- the claim and the script ------------------------------------------------------------------------------------------


def other_claim(plan: Plan, rules: Ruleset, *, sota: float | None, other_control: bool, has_control: bool) -> list[str]:
    """Return how the claim that is tested differs from the planned one.

    other_control: whether the reviewer brought control runs that are not the plan's. has_control: whether its own count.
    """
    clauses = _other_rules(plan, rules)
    if plan.has_control and not has_control and sota is not None and rules.against != TARGET:
        clauses.append("not tested against the plan's control")
    if other_control and sota is None:
        clauses.append("tested against other control runs than the plan's SOTA or control")
    elif sota is not None and sota != plan.sota:
        instead = f"the plan's {plan.sota:g}" if plan.sota is not None else "what the plan compares with"
        clauses.append(f"SOTA {sota:g} instead of {instead}")
    return clauses


def _other_rules(plan: Plan, rules: Ruleset) -> list[str]:
    try:
        planned = plan.rules()
    except RulesError as error:
        return [f"its rules cannot be read ({error})"]
    keys = _unequal(rules, planned)
    if rules.name == planned.name:
        return [f"{key} {getattr(rules, key)} instead of the plan's {getattr(planned, key)}" for key in keys]
    if not keys:
        return []
    return [f"judged by the rules {rules.name}, planned by {planned.name}, which differ in {', '.join(keys)}"]


def _unequal(rules: Ruleset, others: Ruleset) -> list[str]:
    names = (key.name for key in fields(Ruleset) if key.name != "name")
    return [name for name in names if getattr(rules, name) != getattr(others, name)]


def _other_script(plan: Plan, attempts: Attempts) -> list[str]:
    """Return the first run of a sweep whose run.json names another script than the planned one."""
    for (arm, seed), tries in attempts.items():
        named = bool(tries) and isinstance(tries[-1].table.get("script"), dict)
        if named and tries[-1].code != plan.script.digests:
            return [f"{arm} seed {seed} ran another script than the planned one"]
    return []


def _not_of_the_record(plan: Plan, directory: Path, results: Sequence[Result]) -> list[str]:
    """Return what in a record folder does not fit the plan in it."""
    clauses = []
    if any(result.seed is None for result in results):
        clauses.append("a log prints no seed")
    script = _script_of(directory, plan.script.sha256)
    if script is None:
        return [*clauses, "its script is not in the folder"]
    programs = {hashlib.sha256(text).hexdigest() for text in (script, script.rstrip(b"\n"))}
    if any(result.program is not None and result.program.sha256 not in programs for result in results):
        clauses.append("a log embeds another program than the planned script")
    return clauses


def _script_of(directory: Path, digest: str | None) -> bytes | None:
    """Return the script with this SHA-256 in the top folder."""
    root = os.path.realpath(directory)
    for path in sorted(directory.glob("*.py")):
        with suppress(FileError):
            content = None if leads_out(path, root) else read_bounded(path, LARGEST_SCRIPT)
            if content is not None and hashlib.sha256(content).hexdigest() == digest:
                return content
    return None


def own_rules(plan: Plan, asked: Collection[str]) -> str | None:
    """Return how a sweep's rules differ from the shipped ones of their name in what the reviewer did not ask for."""
    planned = plan.rules()
    if planned.name not in known():
        return f"the rules {planned.name!r}, which are not shipped"
    shipped = load(planned.name)
    changed = [
        f"{key} {str(getattr(planned, key))[:60]} instead of {str(getattr(shipped, key))[:60]}"
        for key in _unequal(planned, shipped)
        if key not in asked  # one that the plan leaves out is changed too: it would not be checked
    ]
    return f"the rules {planned.name} with {'; '.join(changed)}" if changed else None
