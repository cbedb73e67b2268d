"""The logs behind a verdict, opened again for the page: curves, the lines that the numbers stand in, where it was run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.evidence.gather import FRAME_SUFFIXES, LARGEST
from analysis.reading.result import Result
from analysis.reading.grammar import Step
from analysis.reading.reader import read_log
from analysis.sweepdir.layout import RUN_MANIFEST, read_json
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, leads_out, read_bounded
from analysis.verdict.verdict import Verdict

LONGEST_QUOTE = 300
MANIFEST_FACTS = (("machine", "host"), ("git", "commit"), ("git", "dirty"), ("container", "image"))
RESULT_FACTS = (
    "python",
    "torch",
    "gpu",
    "world_size",
    "model_params",
    "train_shards",
    "val_tokens",
    "tokenizer",
    "source_sha256",
)
LEAST_POINTS = 3  # of a curve of the metric: two say less than the training losses


@dataclass(frozen=True, slots=True)
class Opened:
    """One run's log: its logged steps, the line of its metric as it stands there, and the manifest of a sweep's run."""

    result: Result
    steps: list[Step]
    quote: str | None
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's values of `measure` at its steps."""

    arm: str
    measure: str
    steps: list[int]
    values: list[float]


def opened_logs(verdict: Verdict, path: Path) -> list[Opened]:
    """The logs of the verdict's runs and of its control, where they are still there; `path` is where they lie.

    A log is known by the name that is printed, which may fit more than one file: one is taken only where the run's own
    metric stands in its line. Files outside of what was given are not opened.
    """
    is_frame = path.is_file() and path.suffix in FRAME_SUFFIXES
    base = path.parent if is_frame else path
    found = []
    for result in (*verdict.control, *verdict.runs):
        below = base / result.log if base.is_dir() else Path(result.log)
        places = [below] if below.is_file() and not leads_out(below, os.path.realpath(base)) else []
        if not base.is_dir():
            places = [below] if below.is_file() else []
        if not is_frame:  # a control, or one of several paths, is named from the working directory
            places.append(Path(result.log))
        if (one := next(filter(None, (_open(result, log) for log in places)), None)) is not None:
            found.append(one)
    return found


def _open(result: Result, log: Path) -> Opened | None:
    """The log if it is the result's: a metric of its value stands in its line."""
    if not log.is_file():
        return None
    try:
        content = read_bounded(log)
        runs = read_log(log, content)
    except FileError:
        return None
    wanted = (result.line, result.val_loss, result.val_bpb)
    for run in runs:
        said = [metric for metric in (*run.metrics, run.validation) if metric is not None]
        if any((metric.line, metric.val_loss, metric.val_bpb) == wanted for metric in said):
            return Opened(result, run.steps, _quote(content, result.line), _manifest(log))
    return None


def _quote(content: bytes, line: int | None) -> str | None:
    lines = content.split(b"\n")
    if line is None or line > len(lines):
        return None
    return printable(lines[line - 1].decode("utf-8", "replace").rstrip("\r"))[:LONGEST_QUOTE]


def _manifest(log: Path) -> dict[str, Any]:
    beside = log.with_name(RUN_MANIFEST)
    try:
        return read_json(beside) if beside.is_file() and not beside.is_symlink() else {}
    except (OSError, ValueError):
        return {}


def curves(logs: list[Opened], metric: str) -> list[Curve]:
    """The metric as it was validated in training where every run has a curve of it, else every run's training losses."""
    for measure, least in ((metric, LEAST_POINTS), ("train_loss", 2), ("val_loss", 2)):
        found = []
        for one in logs:
            logged = [(step.step, getattr(step, measure)) for step in one.steps]
            points = [(at, value) for at, value in logged if value is not None and abs(value) < LARGEST]
            if len(points) >= least:
                found.append(Curve(one.result.arm, measure, [at for at, _ in points], [value for _, value in points]))
        if found and len(found) == len(logs):
            return found
    return []


def provenance(logs: list[Opened], runs: list[Result]) -> list[tuple[str, str]]:
    """What the logs and a sweep's manifests say of where the runs were made: one line where all agree, else by log."""
    facts: dict[str, dict[str, str]] = {}
    for run in runs:
        for name in RESULT_FACTS:
            if (value := run.row()[name]) is not None:
                facts.setdefault(name, {})[run.log] = str(value)
    for one in logs:
        for part, name in MANIFEST_FACTS:
            table = one.manifest.get(part)
            if isinstance(table, dict) and isinstance(value := table.get(name), (str, bool, int)):
                facts.setdefault(f"{part} {name}", {})[one.result.log] = str(value)
    rows = []
    for name, values in facts.items():
        same = len(set(values.values())) == 1 and len(values) == len(runs)
        said = next(iter(values.values())) if same else "; ".join(f"{log}: {value}" for log, value in values.items())
        rows.append((name.replace("_", " "), printable(said)))
    return rows
