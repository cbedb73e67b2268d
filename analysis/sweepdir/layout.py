"""The files of a sweep directory. The one owner of their names: orchestration writes them, analysis reads them.

plan.json                              frozen before the first run, with its SHA-256
events.jsonl                           every change of state
script.py                              the training script as it was then
sweep.lock                             who drives the sweep
{candidate,control}/seed-N/attempt-M/  one torchrun: train.log, run.json, and what the script wrote
runs.parquet, verdict.json, report.md, report.html
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.untrusted.files import LOG_SUFFIXES, FileError, files_below, leads_out, read_bounded

PLAN, SCRIPT, EVENTS, LOCK = "plan.json", "script.py", "events.jsonl", "sweep.lock"
TRAIN_LOG, RUN_MANIFEST, STACKS = "train.log", "run.json", "stacks.txt"
FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML = "runs.parquet", "verdict.json", "report.md", "report.html"
CANDIDATE, CONTROL = "candidate", "control"
FIXED, SEQUENTIAL = "fixed", "sequential"
BOUNDARIES = ("flat", "pocock", "obrien-fleming")  # those of analysis.sequential, which loads scipy
MOST_LOOKS, MOST_SEEDS = 30, 1000
LARGEST_JSON = LARGEST_SCRIPT = 2**22  # bytes
SEEDS_ARE = ("given", "derived")
PLAN_KEYS = {"ruleset": dict, "arms": dict, "seeds": list, "script": dict}
STATES = ("pending", "running", "succeeded", "failed", "lost", "stopped")


class SweepError(ValueError):
    """A sweep directory that is missing, damaged or changed, as one sentence with the path."""


def has_plan(path: Path) -> bool:
    return os.path.isfile(path / PLAN)


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep directory: it holds a plan, and runs by arm or, before the first, nothing of a record.

    A record folder may hold the plan of its runs too.
    """
    if not has_plan(path):
        return False
    return (
        os.path.isdir(path / CANDIDATE)
        or os.path.isfile(path / EVENTS)
        or not (of_a_record(path) or files_below(path).logs)
    )


def of_a_record(path: Path) -> list[str]:
    """Logs and submission JSONs that lie in a folder itself: what a sweep directory does not hold."""
    names = sorted(os.listdir(path))
    return [name for name in names if name.lower().endswith(LOG_SUFFIXES) or re.fullmatch(r"submission.*\.json", name)]


def plan_digest(plan: dict[str, Any]) -> str:
    """SHA-256 of the plan without its own digest, as canonical JSON."""
    body = {key: value for key, value in plan.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path, LARGEST_JSON))
    except FileError as error:
        raise SweepError(f"{path} {error}.") from None
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise SweepError(f"{path} holds no JSON object.")
    return content


def _read_inside(directory: Path, path: Path) -> dict[str, Any]:
    """A JSON file of a sweep directory, which may be somebody else's: what lies outside it is not read."""
    if leads_out(path, os.path.realpath(directory)):
        raise SweepError(f"{path} is a link that leads out of the folder.")
    return read_json(path)


def read_plan(directory: Path) -> dict[str, Any]:
    """The plan, after checking it against its own digest. Raises SweepError."""
    path = directory / PLAN
    if not os.path.isfile(path):
        raise SweepError(f"{directory} is no sweep directory: it has no {PLAN}. Name the --output of a `sweep run`.")
    plan = _read_inside(directory, path)
    if plan.get("sha256") != plan_digest(plan):
        raise SweepError(f"{path} was changed after it was frozen: its content does not match its sha256.")
    if not all(isinstance(plan.get(key), kind) for key, kind in PLAN_KEYS.items()):
        raise SweepError(f"{path} is no plan of this version: it needs {', '.join(PLAN_KEYS)}.")
    seeds, sota, arms = plan["seeds"], plan.get("sota"), plan["arms"]
    if len(seeds) > MOST_SEEDS or not all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds):
        raise SweepError(f"{path}: seeds is {_start(seeds)}; it must be a list of at most {MOST_SEEDS} whole numbers.")
    if len(set(seeds)) < len(seeds):
        raise SweepError(f"{path}: seeds is {_start(seeds)}; it must be a list of different whole numbers.")
    if sota is not None and (isinstance(sota, bool) or not isinstance(sota, (int, float)) or not abs(sota) < 1e6):
        raise SweepError(f"{path}: sota is {_start(sota)}; it must be a number or null.")
    if not {CANDIDATE} <= arms.keys() <= {CANDIDATE, CONTROL} or not all(
        isinstance(arm, dict) and isinstance(arm.get("env", {}), dict) for arm in arms.values()
    ):
        raise SweepError(
            f"{path}: arms is {_start(arms)}; it must have the table {CANDIDATE!r}, and may have {CONTROL!r}."
        )
    if plan.get("seeds_are", SEEDS_ARE[0]) not in SEEDS_ARE:
        raise SweepError(f"{path}: seeds_are is {_start(plan['seeds_are'])}; allowed: {', '.join(SEEDS_ARE)}.")
    if fault := design_fault(plan.get("design", {"name": FIXED}), len(seeds)):
        raise SweepError(f"{path}: {fault}")
    return plan


def read_sweep_plan(directory: Path) -> dict[str, Any]:
    """The plan of a sweep directory to be looked at or driven on. Raises SweepError.

    Refused: a record folder, which may hold the plan of its runs, and links in the place of files that are written here.
    """
    plan = read_plan(directory)
    for name in (PLAN, SCRIPT, EVENTS, LOCK, FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML, CANDIDATE, CONTROL):
        if os.path.islink(directory / name):
            raise SweepError(f"{directory / name} is a link. A sweep directory has none: put the file in its place.")
    if not is_sweep(directory):
        raise SweepError(
            f"{directory} is a record folder, no sweep directory. Check it with: python -m analysis.significance check {directory}"
        )
    return plan


def read_script(directory: Path, plan: dict[str, Any]) -> bytes:
    """The training script as it was when the plan was frozen. Raises SweepError when it is not there or another."""
    path = directory / SCRIPT
    try:
        content = read_bounded(path, LARGEST_SCRIPT)
    except FileError as error:
        raise SweepError(f"{path} {error}.") from None
    if hashlib.sha256(content).hexdigest() != plan["script"].get("sha256"):
        raise SweepError(f"{path} was changed after the plan was frozen: put back the script with the plan's sha256.")
    return content


def _start(value: Any) -> str:
    """The beginning of a value, to be named in a sentence."""
    try:
        return repr(value)[:80]
    except ValueError:  # an integer with more digits than Python prints
        return "a number of very many digits"


def design_fault(design: Any, seeds: int) -> str | None:
    """What is wrong with a plan's design, or None."""
    if not isinstance(design, dict) or design.get("name") not in (FIXED, SEQUENTIAL):
        return f"design is {_start(design)}; its name must be {FIXED!r} or {SEQUENTIAL!r}."
    if design["name"] == FIXED:
        return None
    if seeds > MOST_LOOKS:
        return f"{seeds} seeds are planned; a sequential design looks at most {MOST_LOOKS} times."
    looks = design.get("looks")
    if not isinstance(looks, list) or not all(type(n) is int for n in looks) or looks != sorted(set(looks)):
        return f"looks is {_start(looks)}; it must be a rising list of numbers of seeds."
    if not looks or looks[0] < 2 or looks[-1] != seeds:
        return f"looks is {_start(looks)}; it must begin at 2 or later and end at the {seeds} planned seeds."
    if design.get("boundary") not in BOUNDARIES:
        return f"boundary is {_start(design.get('boundary'))}; allowed: {', '.join(BOUNDARIES)}."
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
    seeds: dict[int, None] = {}
    index = 0
    while len(seeds) < count:
        seeds[int(hashlib.sha256(f"{digest}{index}".encode()).hexdigest(), 16) % 2**31] = None
        index += 1
    return list(seeds)


def attempt_folder(directory: Path, arm: str, seed: int, attempt: int) -> Path:
    return directory / arm / f"seed-{seed}" / f"attempt-{attempt}"


def attempt_folders(directory: Path, arm: str, seed: int) -> dict[int, Path]:
    """The folders of a run's attempts by their number."""
    return {
        int(match[1]): path
        for path in (directory / arm / f"seed-{seed}").glob("attempt-*")
        if (match := re.fullmatch(r"attempt-(\d{1,9})", path.name)) and path.is_dir()
    }


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
    attempts = attempt_folders(directory, arm, seed)
    if not attempts:
        return PlannedRun(arm, seed, "pending", None, None)
    folder = attempts[max(attempts)]
    if leads_out(folder, os.path.realpath(directory)):
        raise SweepError(f"{folder} is a link that leads out of the folder.")
    if not os.path.isfile(folder / RUN_MANIFEST):
        return PlannedRun(arm, seed, "running", folder, None)
    manifest = _read_inside(directory, folder / RUN_MANIFEST)
    state = manifest.get("state")
    if state not in STATES:
        raise SweepError(f"{folder / RUN_MANIFEST}: state is {_start(state)}; allowed: {', '.join(STATES)}.")
    return PlannedRun(arm, seed, state, folder, manifest.get("reason"))


def seeds_on_disk(directory: Path, arm: str) -> list[int]:
    """Every seed that has a folder in an arm, planned or not."""
    names = (re.fullmatch(r"seed-(\d{1,18})", path.name) for path in (directory / arm).glob("seed-*") if path.is_dir())
    return sorted(int(match[1]) for match in names if match)


def attempts_of(directory: Path, arm: str, seed: int) -> list[dict[str, Any]]:
    """What run.json says of every attempt of a run, in order; an attempt without one says nothing."""
    paths = (directory / arm / f"seed-{seed}").glob(f"attempt-*/{RUN_MANIFEST}")
    numbered = sorted(
        (path for path in paths if os.path.isfile(path)), key=lambda path: (len(path.parent.name), path.parent.name)
    )
    return [_read_inside(directory, path) for path in numbered]


def time_of(manifest: dict[str, Any], key: str) -> datetime | None:
    """When an attempt started or ended; None where nothing says it with its time zone."""
    try:
        found = datetime.fromisoformat(manifest[key])
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
