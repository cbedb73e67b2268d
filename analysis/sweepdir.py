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

from analysis.files import FileError, read_bounded

PLAN, EVENTS = "plan.json", "events.jsonl"
TRAIN_LOG, RUN_MANIFEST = "train.log", "run.json"
FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML = "runs.parquet", "verdict.json", "report.md", "report.html"
CANDIDATE, CONTROL = "candidate", "control"
PLAN_KEYS = {"ruleset": dict, "arms": dict, "seeds": list, "script": dict}
STATES = ("pending", "running", "succeeded", "failed", "lost", "stopped")


class SweepError(ValueError):
    """A sweep directory that is missing, damaged or changed, as one sentence with the path."""


def is_sweep(path: Path) -> bool:
    return os.path.isfile(path / PLAN)


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
    return plan


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
