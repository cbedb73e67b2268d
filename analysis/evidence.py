"""PATHs to the runs that a verdict rests on: which logs, which run of a log, which of its metrics.

A PATH is a log, a folder with logs (searched below too), a sweep directory, or a frame written by us.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import sweepdir
from analysis.logs import Metric, Run, log_files, read_log
from analysis.runs import Result, from_run, read_frame

FRAME_SUFFIXES = (".parquet", ".csv", ".json")
ROUNDING = 2e-5


class EvidenceError(ValueError):
    """Evidence that no verdict can rest on (exit code 3), as one sentence that says what and where."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reviewer should know about the evidence, at a file and a line."""

    code: str
    severity: str
    file: str
    line: int
    message: str


@dataclass(slots=True)
class Evidence:
    """The runs that a claim rests on, the control runs that came with them, and what was noticed on the way."""

    results: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def plan_of(paths: list[Path]) -> dict[str, Any]:
    """The plan of the sweep among the PATHs; empty when there is none. Raises EvidenceError."""
    try:
        plans = [sweepdir.read_plan(path) for path in paths if sweepdir.is_sweep(path)]
    except sweepdir.SweepError as error:
        raise EvidenceError(str(error)) from None
    if len(plans) > 1:
        raise EvidenceError(f"{len(plans)} of the paths are sweep directories; report one sweep at a time.")
    return plans[0] if plans else {}


def gather(paths: list[Path], label: str | None = None) -> Evidence:
    """The evidence below the PATHs; `label` forces one metric. Raises EvidenceError."""
    evidence = Evidence()
    loose: list[Path] = []
    for path in paths:
        if not path.exists():
            raise EvidenceError(f"{path} does not exist.")
        try:
            if sweepdir.is_sweep(path):
                rows = sweep_results(path, sweepdir.read_plan(path), label)
            elif path.is_file() and path.suffix in FRAME_SUFFIXES:
                rows = read_frame(path)
            else:
                loose.append(path)
                continue
        except EvidenceError:
            raise
        except ValueError as error:
            raise EvidenceError(str(error)) from None
        evidence.results += [row for row in rows if row.arm == sweepdir.CANDIDATE]
        evidence.control += [row for row in rows if row.arm == sweepdir.CONTROL]
    if loose:
        evidence.results += _folder_results(loose, label, evidence.findings)
    where = ", ".join(map(str, paths))
    _check(evidence.results, where)
    if evidence.control:
        _check(evidence.control, where)
    return evidence


def sweep_results(directory: Path, plan: dict[str, Any], label: str | None = None) -> list[Result]:
    """One row a planned run, candidate first, in the plan's order; a run without a metric keeps its state and log."""
    planned = sweepdir.planned_runs(directory, plan)
    read: dict[tuple[str, int], Run] = {}
    for run in planned:
        if run.state == "succeeded" and run.folder is not None:
            log = run.folder / sweepdir.TRAIN_LOG
            found = [one for one in read_log(log) if one.finals]
            if not found:
                raise EvidenceError(f"{log}: the run is marked as succeeded, but no final metric is in its log.")
            if found[-1].seed not in (None, run.seed):
                raise EvidenceError(f"{log} prints seed {found[-1].seed}, the plan says {run.seed}.")
            found[-1].seed = run.seed
            read[run.arm, run.seed] = found[-1]
    metrics = dict(zip(read, _select(list(read.values()), label, claims=[]), strict=True))
    rows = []
    for run in planned:
        key = run.arm, run.seed
        folder = run.folder.relative_to(directory) if run.folder else Path(run.arm, f"seed-{run.seed}")
        log_name = str(folder / sweepdir.TRAIN_LOG)
        if key in read:
            rows.append(from_run(read[key], metrics[key], log_name, run.arm))
        else:
            rows.append(Result(run.arm, run.seed, run.state, None, None, None, log_name, None))
    return rows


# -- a folder of somebody's logs ---------------------------------------------------------------------------------------


def _folder_results(paths: list[Path], label: str | None, findings: list[Finding]) -> list[Result]:
    runs: list[Run] = []
    digests: dict[str, Path] = {}
    shown: dict[Path, str] = {}
    base = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    for path in paths:
        for log in log_files(path):
            name = str(log.relative_to(base)) if base else str(log)
            try:
                content = log.read_bytes()
            except OSError as error:
                raise EvidenceError(f"{log} cannot be read: {error.strerror}.") from None
            found = read_log(log, content)
            if not found:
                continue
            digest = hashlib.sha256(content).hexdigest()
            if digest in digests:
                other = shown[digests[digest]]
                findings.append(Finding("duplicate-log", "info", name, 1, f"The same bytes as {other}; counted once."))
                continue
            digests[digest], shown[log] = log, name
            if len(found) > 1:
                message = f"{len(found)} runs in one log; the last one with a final metric counts."
                findings.append(Finding("several-runs-in-log", "warning", name, found[1].line, message))
            complete = [run for run in found if run.finals]
            if not complete:
                raise EvidenceError(
                    f"{log} holds a run without a final metric: expected a last line such as "
                    f'"LABEL val_loss:2.0286 val_bpb:1.2014". Let the run finish, or take the log away.'
                )
            runs.append(complete[-1])
    claims = [value for path in paths if path.is_dir() for value in _claimed_values(path)]
    return [
        from_run(run, metric, shown[run.log]) for run, metric in zip(runs, _select(runs, label, claims), strict=True)
    ]


def _claimed_values(folder: Path) -> list[float]:
    """The val_bpb that submission.json claims, if it does."""
    try:
        claim = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
        return [float(claim["val_bpb"])]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _select(runs: list[Run], label: str | None, claims: list[float]) -> list[Metric]:
    """One metric a run, all of one label: the asked one, the one that the claim's value is found under, or the last."""
    if not runs:
        return []
    tables = [{metric.label: metric for metric in run.finals} for run in runs]
    common = [name for name in tables[0] if all(name in table for table in tables)]
    if label is not None:
        for run, table in zip(runs, tables, strict=True):
            if label not in table:
                raise EvidenceError(f"{run.log} has no final metric {label!r}; it has {', '.join(table)}.")
        return [table[label] for table in tables]
    for name in reversed(common):
        values = [table[name].val_bpb for table in tables]
        if any(_claimed_by(claim, values) for claim in claims):
            return [table[name] for table in tables]
    lasts = [run.finals[-1].label for run in runs]
    if len(set(lasts)) > 1:
        named = "; ".join(f"{run.log}: {name}" for run, name in zip(runs, lasts, strict=True))
        raise EvidenceError(
            f"The runs end in different metrics ({named}). "
            + (f"Choose one with --metric: {', '.join(common)}." if common else "They have none in common.")
        )
    return [table[lasts[0]] for table in tables]


def _claimed_by(claim: float, values: list[float]) -> bool:
    return any(abs(claim - value) <= ROUNDING for value in (*values, math.fsum(values) / len(values)))


# -- what no verdict can rest on ---------------------------------------------------------------------------------------


def _check(results: list[Result], where: str) -> None:
    if not results:
        raise EvidenceError(f"No training log in {where}: no step and no final metric was found (*.log, *.txt).")
    waiting = [result for result in results if result.state not in ("succeeded", "failed")]
    if waiting:
        first = waiting[0]
        raise EvidenceError(
            f"{len(waiting)} planned runs have no result, the first is {first.arm} seed {first.seed} ({first.state}, "
            f"{first.log}): finish the sweep."
        )
    for result in results:
        for name, value in (("val_bpb", result.val_bpb), ("val_loss", result.val_loss)):
            if value is not None and not math.isfinite(value):
                raise EvidenceError(f"{result.log}, line {result.line}: {name} is {value}.")
    labels = Counter(result.label for result in results if result.state == "succeeded")
    if len(labels) > 1:
        raise EvidenceError(f"The runs of {where} carry different metrics: {', '.join(map(str, labels))}.")
    seeds: dict[int, Result] = {}
    for result in results:
        if result.seed is None:
            continue
        if result.seed in seeds:
            raise EvidenceError(
                f"Seed {result.seed} stands twice, in {seeds[result.seed].log} and {result.log}: "
                f"two runs of one seed are not two independent runs. Keep one run a seed."
            )
        seeds[result.seed] = result
    if len(results) < 2:
        raise EvidenceError(f"{where} holds one run ({results[0].log}): a test needs at least two seeds.")
