"""The plan of a sweep: what was decided before the first run, read and checked in this one place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from analysis.rules.keys import LOOKING
from analysis.rules.ruleset import Ruleset, from_table
from analysis.sweepdir.code import Script, files_fault
from analysis.sweepdir.json_files import of_type, read_inside
from analysis.sweepdir.layout import (
    ARMS,
    CANDIDATE,
    CONTROL,
    EVENTS,
    FRAME,
    LOCK,
    MODULES,
    PLAN,
    REPORT_HTML,
    REPORT_MARKDOWN,
    SCRIPT,
    VERDICT,
    SweepError,
    has_plan,
    is_sweep,
)
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import FileError, leads_out, read_bounded
from analysis.untrusted.invoked import command

BOUNDARIES = ("flat", "pocock", "obrien-fleming")  # those of analysis.stats.sequential, which loads scipy
MOST_LOOKS, MOST_SEEDS = 30, 1000
MAX_ATTEMPTS = 3  # of a plan that does not say how often a run may be lost
NEEDED = {"ruleset": dict, "arms": dict, "seeds": list, "script": dict}
WRITTEN_HERE = (PLAN, SCRIPT, MODULES, EVENTS, LOCK, FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML, *ARMS)


class DesignKind(StrEnum):
    """When a claim is tested: once, or at looks while runs come in."""

    FIXED = "fixed"
    SEQUENTIAL = "sequential"


class SeedsAre(StrEnum):
    """Where a plan's seeds come from: its author, or its own digest."""

    GIVEN = "given"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """When a claim is tested, and on what.

    looks: after how many seeds, empty for a fixed design. boundary: how they share alpha. paired: the two arms' runs of a seed
    go to one node, and the test is of their differences.
    """

    kind: DesignKind = DesignKind.FIXED
    looks: tuple[int, ...] = ()
    boundary: str = BOUNDARIES[0]
    paired: bool = False

    @property
    def sequential(self) -> bool:
        return self.kind is DesignKind.SEQUENTIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A frozen plan. `table` is plan.json as written; what a plan need not say to be judged is None where it does not.

    envs: each arm's environment variables, the candidate's first. max_attempts: how many attempts of a run may be lost.
    """

    sha256: str
    seeds: tuple[int, ...]
    seeds_are: SeedsAre
    design: Design
    envs: Mapping[str, Mapping[str, Any]]
    script: Script
    sota: float | None
    gpus_per_run: int | None
    cpus_per_run: int | None
    accelerator_type: str | None
    max_attempts: int
    table: Mapping[str, Any]

    @classmethod
    def of(cls, table: Mapping[str, Any], where: str) -> Plan:
        """Check the content of a plan.json; `where` is named in the refusal. Raises SweepError."""
        if fault := _fault(table):
            raise SweepError(f"{where}{fault}")
        design = table.get("design", {"name": DesignKind.FIXED})
        kind = DesignKind(design["name"])
        looks = (
            {"looks": tuple(design["looks"]), "boundary": design["boundary"]} if kind is DesignKind.SEQUENTIAL else {}
        )
        return cls(
            sha256=plan_digest(table),
            seeds=tuple(table["seeds"]),
            seeds_are=SeedsAre(table.get("seeds_are", SeedsAre.GIVEN)),
            design=Design(kind=kind, paired=design.get("paired", False), **looks),
            envs={arm: table["arms"][arm].get("env", {}) for arm in ARMS if arm in table["arms"]},
            script=Script.of(table["script"]),
            sota=table.get("sota"),
            gpus_per_run=of_type(table.get("gpus_per_run"), int),
            cpus_per_run=of_type(table.get("cpus_per_run"), int),
            accelerator_type=of_type(table.get("accelerator_type"), str),
            max_attempts=table.get("max_attempts", MAX_ATTEMPTS),
            table=table,
        )

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.envs)

    def arms_of(self, number: int) -> tuple[str, ...]:
        """Return the arms of the plan's seed of this number, from 0, in the order in which its runs are dealt.

        Of a pair the control goes first every other time, so that a drift in time favours no arm.
        """
        return self.arms[::-1] if self.design.paired and number % 2 else self.arms

    @property
    def has_control(self) -> bool:
        return CONTROL in self.envs

    def rules(self) -> Ruleset:
        """Return the ruleset that was frozen with the plan. Raises RulesError where it is not one of this version."""
        table = dict(self.table["ruleset"])
        return from_table(str(table.pop("name", PLAN)), table, f"{PLAN}, ruleset")


def read_plan(directory: Path) -> Plan:
    """Read the plan of a folder and check it against its own digest. Raises SweepError."""
    path = directory / PLAN
    if not os.path.isfile(path):
        raise SweepError(f"{directory} is not a sweep directory: it has no {PLAN}. Name the --output of a `sweep run`.")
    table = read_inside(directory, path)
    if table.get("sha256") != plan_digest(table):
        raise SweepError(f"{path} was changed after it was frozen: its content does not match its sha256.")
    return Plan.of(table, str(path))


def plan_beside(record: Path) -> Plan | None:
    """Return the plan in a record folder, None if there is none of ours. Raises SweepError for one that was changed."""
    path = record / PLAN
    if not has_plan(record) or leads_out(path, os.path.realpath(record)):
        return None
    try:
        return read_plan(record)
    except SweepError:
        with suppress(FileError):
            content = read_bounded(path)
            if b'"sha256"' in content and b'"seeds"' in content:
                raise
        return None


def read_sweep_plan(directory: Path) -> Plan:
    """Read the plan of a sweep directory that is to be shown or driven. Raises SweepError.

    Refuse a record folder, which may hold the plan of its runs, and links in place of files that are written here.
    """
    plan = read_plan(directory)
    for name in WRITTEN_HERE:
        if os.path.islink(directory / name):
            raise SweepError(f"{directory / name} is a link. A sweep directory has none: put the file in its place.")
    if not is_sweep(directory):
        raise SweepError(
            f"{directory} is a record folder, not a sweep directory. Check it with: "
            f"{command('analysis.significance', 'check', str(directory))}"
        )
    return plan


def check_drivable(plan: Plan, directory: Path) -> None:
    """Raise SweepError, or RulesError, where a driver lacks something that a judge does not need."""
    path = directory / PLAN
    plan.rules()
    whole = type(plan.gpus_per_run) is int and type(plan.cpus_per_run) is int
    tables = all("env" in arm for arm in plan.table["arms"].values())
    if not (whole and tables and plan.script.path is not None and "seeds_are" in plan.table):
        raise SweepError(
            f"{path} cannot be driven: it needs gpus_per_run, cpus_per_run, seeds_are, the script's path and each arm's env."
        )
    if not plan.design.sequential and "looks" in plan.table.get("design", {}):
        raise SweepError(f"{path} cannot be driven: its design is fixed, and has looks.")


def plan_digest(table: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan.json without its own digest, as canonical JSON."""
    body = {key: value for key, value in table.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def derive_seeds(table: Mapping[str, Any], count: int) -> list[int]:
    """Derive seed_i = SHA-256(plan || i) mod 2^31, in order, without repeats, so that nobody can pick them.

    They depend on the plan without its own digest, its seeds, its limit of attempts and every path: moving files or
    another limit does not buy other seeds.
    Raises KeyError, TypeError or AttributeError for a plan that lacks what they depend on.
    """
    arms = {
        arm: {name: value for name, value in part["env"].items() if not name.endswith("_PATH")}
        for arm, part in table["arms"].items()
    }
    script = table["script"]
    files = [[file["name"], file["sha256"]] for file in script.get("files", [])]
    code = [script["sha256"], files] if files else script["sha256"]
    decides = {key: value for key, value in table.items() if key != "max_attempts"}
    digest = plan_digest({**decides, "script": code, "arms": arms, "seeds": count})
    seeds: dict[int, None] = {}
    index = 0
    while len(seeds) < count:
        seeds[int(hashlib.sha256(f"{digest}{index}".encode()).hexdigest(), 16) % 2**31] = None
        index += 1
    return list(seeds)


# -- what is wrong with a plan, as the end of a sentence that begins with its path ---------------------------------------


def _fault(table: Mapping[str, Any]) -> str | None:
    if not all(isinstance(table.get(key), kind) for key, kind in NEEDED.items()):
        return f" is not a plan of this version: it needs {', '.join(NEEDED)}."
    fault = _seeds_fault(table) or _sota_fault(table.get("sota")) or _arms_fault(table["arms"])
    fault = fault or files_fault(table["script"].get("files", []))
    fault = fault or _attempts_fault(table.get("max_attempts", MAX_ATTEMPTS))
    fault = fault or design_fault(
        table.get("design", {"name": DesignKind.FIXED}), len(table["seeds"]), set(table["arms"])
    )
    fault = fault or _pairs_fault(table.get("design", {}), table["ruleset"].get("test"))
    return f": {fault}" if fault else None


def _pairs_fault(design: Mapping[str, Any], test: Any) -> str | None:
    wrong = design.get("paired") and test not in (None, *LOOKING)
    return f"paired is true, and the rules have the test {beginning(test)}, which is of no pairs." if wrong else None


def _seeds_fault(table: Mapping[str, Any]) -> str | None:
    seeds, are = table["seeds"], table.get("seeds_are", SeedsAre.GIVEN)
    if len(seeds) > MOST_SEEDS or not all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds):
        return f"seeds is {beginning(seeds)}; it must be a list of at most {MOST_SEEDS} whole numbers."
    if len(set(seeds)) < len(seeds):
        return f"seeds is {beginning(seeds)}; it must be a list of different whole numbers."
    return None if are in list(SeedsAre) else f"seeds_are is {beginning(are)}; allowed: {', '.join(SeedsAre)}."


def _sota_fault(sota: Any) -> str | None:
    if sota is None or (isinstance(sota, (int, float)) and not isinstance(sota, bool) and abs(sota) < 1e6):
        return None
    return f"sota is {beginning(sota)}; it must be a number or null."


def _attempts_fault(most: Any) -> str | None:
    if type(most) is int and 1 <= most < 2**31:
        return None
    return f"max_attempts is {beginning(most)}; it must be a whole number of 1 or more."


def _arms_fault(arms: dict[str, Any]) -> str | None:
    tables = all(isinstance(arm, dict) and isinstance(arm.get("env", {}), dict) for arm in arms.values())
    if {CANDIDATE} <= arms.keys() <= set(ARMS) and tables:
        return None
    return f"arms is {beginning(arms)}; it must have the table {CANDIDATE!r}, and may have {CONTROL!r}."


def design_fault(design: Any, seeds: int, arms: Collection[str] = ARMS) -> str | None:
    """Return what is wrong with a plan's design for so many seeds of these arms, or None."""
    if not isinstance(design, dict) or design.get("name") not in list(DesignKind):
        return f"design is {beginning(design)}; its name must be {' or '.join(map(repr, map(str, DesignKind)))}."
    paired = design.get("paired", False)
    if not isinstance(paired, bool) or (paired and CONTROL not in arms):
        return f"paired is {beginning(paired)}; it must be true or false, and true only with a {CONTROL}."
    if design["name"] == DesignKind.FIXED:
        return None
    if seeds > MOST_LOOKS:
        return f"{seeds} seeds are planned; a sequential design looks at most {MOST_LOOKS} times."
    looks = design.get("looks")
    if not isinstance(looks, list) or not all(type(n) is int for n in looks) or looks != sorted(set(looks)):
        return f"looks is {beginning(looks)}; it must be a rising list of numbers of seeds."
    if not looks or looks[0] < 2 or looks[-1] != seeds:
        return f"looks is {beginning(looks)}; it must begin at 2 or later and end at the {seeds} planned seeds."
    if design.get("boundary") not in BOUNDARIES:
        return f"boundary is {beginning(design.get('boundary'))}; allowed: {', '.join(BOUNDARIES)}."
    return None
