"""The names of a sweep directory's files and folders. Orchestration writes them, analysis reads them, both by this page.

plan.json                              frozen before the first run, with its SHA-256
events.jsonl                           every change of state
script.py, modules/                    the training script as it was then, and what it imports from its own folder
sweep.lock                             which driver is running
smoke/{candidate,control}/attempt-M/   a few steps before the first run: no evidence
{candidate,control}/seed-N/attempt-M/  one torchrun: train.log, run.json, and what the script wrote
runs.parquet, verdict.json, report.md, report.html
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from analysis.untrusted.files import FileError, beginning_of, files_below, has_log_name
from analysis.untrusted.refusal import SeedproofError

PLAN, SCRIPT, MODULES, EVENTS, LOCK = "plan.json", "script.py", "modules", "events.jsonl", "sweep.lock"
TRAIN_LOG, RUN_MANIFEST, STACKS = "train.log", "run.json", "stacks.txt"
FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML = "runs.parquet", "verdict.json", "report.md", "report.html"
CANDIDATE, CONTROL = "candidate", "control"
ARMS = (CANDIDATE, CONTROL)
SMOKE = "smoke"
BEGINNING = 2**16  # bytes of a log that are searched for steps
STATES = ("pending", "running", "succeeded", "failed", "lost", "stopped")
DONE = ("succeeded", "failed")  # states that are a seed's result


class SweepError(SeedproofError):
    """A sweep directory that is missing, damaged or changed, as one sentence with the path."""

    exit_code = 2


def has_plan(path: Path) -> bool:
    """Return whether a folder holds a plan, its own or that of the runs of a record."""
    return os.path.isfile(path / PLAN)


def is_sweep(path: Path) -> bool:
    """Return whether a folder is a sweep directory: it holds a plan and runs by arm or, before the first run, no record.

    A record folder may hold the plan of its runs too.
    """
    if not has_plan(path):
        return False
    if os.path.isdir(path / CANDIDATE) or os.path.isfile(path / EVENTS):
        return True
    return not of_a_record(path) and all(log.is_relative_to(path / SMOKE) for log in files_below(path).logs)


def of_a_record(path: Path) -> list[str]:
    """Return the names of logs and submission JSONs directly in a folder: a sweep directory has none."""
    names = sorted(os.listdir(path))
    return [name for name in names if re.fullmatch(r"submission.*\.json", name) or is_log(path / name)]


def is_log(path: Path) -> bool:
    """Return whether a file has a log's name and mentions steps or results; requirements.txt does not."""
    if not has_log_name(path):
        return False
    try:
        beginning = beginning_of(path, BEGINNING)
    except FileError:
        return True
    return re.search(rb"step|iter|val_", beginning) is not None


def attempt_folder(directory: Path, arm: str, seed: int, attempt: int) -> Path:
    """Return where one attempt of one seed is kept."""
    return directory / arm / f"seed-{seed}" / f"attempt-{attempt}"


def smoke_folder(directory: Path, arm: str, number: int) -> Path:
    """Return the folder of an arm's smoke run, which is not part of the evidence."""
    return directory / SMOKE / arm / f"attempt-{number}"


def attempt_folders(directory: Path, arm: str, seed: int) -> dict[int, Path]:
    """Return the folders of a run's attempts by their number."""
    return {
        int(match[1]): path
        for path in (directory / arm / f"seed-{seed}").glob("attempt-*")
        if (match := re.fullmatch(r"attempt-(\d{1,9})", path.name)) and path.is_dir()
    }


def seeds_on_disk(directory: Path, arm: str) -> list[int]:
    """Return every seed that has a folder in an arm, planned or not."""
    names = (re.fullmatch(r"seed-(\d{1,18})", path.name) for path in (directory / arm).glob("seed-*") if path.is_dir())
    return sorted(int(match[1]) for match in names if match)
