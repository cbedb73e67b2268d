"""The files of a sweep directory. The one owner of their names: orchestration writes them, analysis reads them.

plan.json                              frozen before the first run, with its SHA-256
events.jsonl                           every change of state
{candidate,control}/seed-N/attempt-M/  one torchrun: train.log, run.json, and what the script wrote
runs.parquet, verdict.json, report.md, report.html
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.files import LOG_SUFFIXES, FileError, read_bounded

PLAN, EVENTS = "plan.json", "events.jsonl"
TRAIN_LOG, RUN_MANIFEST = "train.log", "run.json"
FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML = "runs.parquet", "verdict.json", "report.md", "report.html"
CANDIDATE, CONTROL = "candidate", "control"
FIXED, SEQUENTIAL = "fixed", "sequential"
BOUNDARIES = ("flat", "pocock", "obrien-fleming")  # those of analysis.sequential, which loads scipy
MOST_LOOKS = 50
PLAN_KEYS = {"ruleset": dict, "arms": dict, "seeds": list, "script": dict}
STATES = ("pending", "running", "succeeded", "failed", "lost", "stopped")


class SweepError(ValueError):
    """A sweep directory that is missing, damaged or changed, as one sentence with the path."""


def has_plan(path: Path) -> bool:
    return os.path.isfile(path / PLAN)


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep directory: it holds a plan, and runs by arm or, before the first, no logs beside it.

    A record folder may hold the plan of its runs too.
    """
    if not has_plan(path):
        return False
    begun = os.path.isdir(path / CANDIDATE) or os.path.isfile(path / EVENTS)
    return begun or not any(name.lower().endswith(LOG_SUFFIXES) for name in os.listdir(path))


def plan_digest(plan: dict[str, Any]) -> str:
    """SHA-256 of the plan without its own digest, as canonical JSON."""
    body = {key: value for key, value in plan.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path))
    except FileError as error:
        raise SweepError(f"{path} {error}.") from None
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise SweepError(f"{path} holds no JSON object.")
    return content


def read_plan(directory: Path) -> dict[str, Any]:
    """The plan, after checking it against its own digest. Raises SweepError."""
    path = directory / PLAN
    if not os.path.isfile(path):
        raise SweepError(f"{directory} is no sweep directory: it has no {PLAN}.")
    plan = read_json(path)
    if plan.get("sha256") != plan_digest(plan):
        raise SweepError(f"{path} was changed after it was frozen: its content does not match its sha256.")
    if not all(isinstance(plan.get(key), kind) for key, kind in PLAN_KEYS.items()):
        raise SweepError(f"{path} is no plan of this version: it needs {', '.join(PLAN_KEYS)}.")
    seeds, sota = plan["seeds"], plan.get("sota")
    if not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise SweepError(f"{path}: seeds is {str(seeds)[:80]}; it must be a list of different whole numbers.")
    if sota is not None and (isinstance(sota, bool) or not isinstance(sota, (int, float))):
        raise SweepError(f"{path}: sota is {str(sota)[:80]!r}; it must be a number or null.")
    if fault := design_fault(plan.get("design", {"name": FIXED}), len(seeds)):
        raise SweepError(f"{path}: {fault}")
    return plan


def design_fault(design: Any, seeds: int) -> str | None:
    """What is wrong with a plan's design, or None."""
    if not isinstance(design, dict) or design.get("name") not in (FIXED, SEQUENTIAL):
        return f"design is {str(design)[:80]}; its name must be {FIXED!r} or {SEQUENTIAL!r}."
    if design["name"] == FIXED:
        return None
    looks = design.get("looks")
    if not isinstance(looks, list) or not all(type(n) is int for n in looks) or looks != sorted(set(looks)):
        return f"looks is {str(looks)[:80]}; it must be a rising list of numbers of seeds."
    if not looks or looks[0] < 2 or looks[-1] != seeds or seeds > MOST_LOOKS:
        return f"looks is {str(looks)[:80]}; it must begin at 2 or later and end at the {seeds} planned seeds, at most {MOST_LOOKS}."
    if design.get("boundary") not in BOUNDARIES:
        return f"boundary is {str(design.get('boundary'))[:80]!r}; allowed: {', '.join(BOUNDARIES)}."
    return None


def derive_seeds(plan: dict[str, Any], count: int) -> list[int]:
    """seed_i = SHA-256(plan || i) mod 2^31, in order, without repeats: nobody can pick them.

    They depend on the plan without its own digest, its seeds and every path: moving files does not buy other seeds.
    """
    arms = {
        arm: {name: value for name, value in table["env"].items() if not name.endswith("_PATH")}
        for arm, table in plan["arms"].items()
    }
    digest = plan_digest(plan | {"script": plan["script"]["sha256"], "arms": arms, "seeds": count})
    seeds: list[int] = []
    index = 0
    while len(seeds) < count:
        seed = int(hashlib.sha256(f"{digest}{index}".encode()).hexdigest(), 16) % 2**31
        if seed not in seeds:
            seeds.append(seed)
        index += 1
    return seeds


def attempt_folder(directory: Path, arm: str, seed: int, attempt: int) -> Path:
    return directory / arm / f"seed-{seed}" / f"attempt-{attempt}"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One planned seed of one arm and its last attempt; `folder` is None while there was none."""

    arm: str
    seed: int
    state: str
    folder: Path | None
    reason: str | None


def planned_runs(directory: Path, plan: dict[str, Any]) -> list[PlannedRun]:
    """Every planned run, candidate first, in the order of the plan's seeds."""
    arms = [arm for arm in (CANDIDATE, CONTROL) if arm in plan["arms"]]
    return [_planned_run(directory, arm, seed) for arm in arms for seed in plan["seeds"]]


def _planned_run(directory: Path, arm: str, seed: int) -> PlannedRun:
    attempts = {
        int(match[1]): path
        for path in (directory / arm / f"seed-{seed}").glob("attempt-*")
        if (match := re.fullmatch(r"attempt-(\d+)", path.name)) and path.is_dir()
    }
    if not attempts:
        return PlannedRun(arm, seed, "pending", None, None)
    folder = attempts[max(attempts)]
    if not os.path.isfile(folder / RUN_MANIFEST):
        return PlannedRun(arm, seed, "running", folder, None)
    manifest = read_json(folder / RUN_MANIFEST)
    state = manifest.get("state")
    if state not in STATES:
        raise SweepError(f"{folder / RUN_MANIFEST}: state is {state!r}; allowed: {', '.join(STATES)}.")
    return PlannedRun(arm, seed, state, folder, manifest.get("reason"))


def seeds_on_disk(directory: Path, arm: str) -> list[int]:
    """Every seed that has a folder in an arm, planned or not."""
    names = (re.fullmatch(r"seed-(\d{1,18})", path.name) for path in (directory / arm).glob("seed-*") if path.is_dir())
    return sorted(int(match[1]) for match in names if match)


def times_of(directory: Path, arm: str, seed: int) -> tuple[str | None, str | None]:
    """When the first attempt of a run started and its last one ended, as ISO 8601 in UTC; None where nothing says it."""
    manifests = sorted(
        (path for path in (directory / arm / f"seed-{seed}").glob(f"attempt-*/{RUN_MANIFEST}") if os.path.isfile(path)),
        key=lambda path: (len(path.parent.name), path.parent.name),
    )
    if not manifests:
        return None, None
    started, ended = read_json(manifests[0]).get("started"), read_json(manifests[-1]).get("ended")
    return (started if isinstance(started, str) else None), (ended if isinstance(ended, str) else None)
