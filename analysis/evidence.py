"""PATHs to the runs that a verdict rests on: which logs, which run of a log, which of its metrics.

A PATH is a log, a folder with logs (searched below too), a sweep directory, or a frame written by us.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from analysis import sweepdir
from analysis.logs import Metric, Run, log_files, printable_path, read_log
from analysis.runs import Result, from_run, read_frame

FRAME_SUFFIXES = (".parquet", ".csv", ".json")
ROUNDING = 2e-5
LARGEST = 1e6  # nats or bits; anything above is a broken evaluation


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
    """The evidence below the PATHs, as read; `label` forces one metric. Raises EvidenceError. See `check_results`."""
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
                if other := {row.label for row in rows if label and row.label} - {label}:
                    raise EvidenceError(f"{path} holds the metric {other.pop()!r}, not {label!r}.")
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
    return evidence


def sweep_results(directory: Path, plan: dict[str, Any], label: str | None = None) -> list[Result]:
    """One row a planned run, candidate first, in the plan's order; a run without a metric keeps its state and log."""
    planned = sweepdir.planned_runs(directory, plan)
    read: dict[tuple[str, int], Run] = {}
    for run in planned:
        if run.state == "succeeded" and run.folder is not None:
            log = run.folder / sweepdir.TRAIN_LOG
            found = [one for one in read_log(log, _content(log)) if one.finals]
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
    for log in _logs(paths):
        name = printable_path(log.relative_to(base) if base else log)
        content = _content(log)
        found = read_log(log, content)
        if not found:
            if not content.strip() and log.suffix == ".log":
                raise EvidenceError(
                    f"{log} is empty: a run that died, or a copy that failed. Rerun it, or take it away."
                )
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest in digests:
            message = f"The same bytes as {shown[digests[digest]]}; counted once."
            findings.append(Finding("duplicate-log", "info", name, 1, message))
            continue
        digests[digest], shown[log] = log, name
        trained = [run for run in found if run.trained]
        if len(trained) > 1:
            message = f"{len(trained)} runs in one log; the last one with a final metric counts."
            findings.append(Finding("several-runs-in-log", "warning", name, trained[1].line, message))
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


def _logs(paths: list[Path]) -> list[Path]:
    try:
        return [log for path in paths for log in log_files(path)]
    except OSError as error:
        raise EvidenceError(f"{error.filename} cannot be read: {error.strerror}.") from None


def _content(log: Path) -> bytes:
    try:
        return log.read_bytes()
    except OSError as error:
        raise EvidenceError(f"{log} cannot be read: {error.strerror}.") from None


def _claimed_values(folder: Path) -> list[Decimal]:
    """The val_bpb that submission.json claims, if it does, with the decimals that it is printed with."""
    try:
        claim = json.loads((folder / "submission.json").read_text(encoding="utf-8"), parse_float=Decimal)
        value = Decimal(claim["val_bpb"])
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        return []
    return [value] if value.is_finite() and 0 < value < LARGEST else []


def _select(runs: list[Run], label: str | None, claims: list[Decimal]) -> list[Metric]:
    """One metric a run, all of one label: the asked one, the one that the claim's value is found under, or the last."""
    if not runs:
        return []
    if label is not None:
        tables = [{metric.label: metric for metric in run.metrics} for run in runs]
        for run, table in zip(runs, tables, strict=True):
            if label not in table:
                raise EvidenceError(f"{run.log} has no final metric {label!r}; it has {', '.join(table)}.")
        return [table[label] for table in tables]
    tables = [{metric.label: metric for metric in run.finals} for run in runs]
    common = [name for name in tables[0] if all(name in table for table in tables)]
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


def _claimed_by(claim: Decimal, values: list[float]) -> bool:
    """Whether the claim is one run's value or the mean, at the claim's own printed precision."""
    exponent = claim.as_tuple().exponent
    tolerance = max(ROUNDING, 0.51 * 10.0 ** int(exponent))
    return any(abs(float(claim) - value) <= tolerance for value in (*values, math.fsum(values) / len(values)))


# -- what no verdict can rest on ---------------------------------------------------------------------------------------


def check_results(results: list[Result], where: str) -> None:
    """Raise EvidenceError for runs that no test can be made on: missing, not finite, mixed, or not independent."""
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
            if value is not None and not 0 < value < LARGEST:
                raise EvidenceError(f"{result.log}, line {result.line}: {name} is {value}, which no run can end with.")
    check_one_metric(results)
    _check_independent(results)
    if len(results) < 2:
        raise EvidenceError(f"{where} holds one run ({results[0].log}): a test needs at least two seeds.")


def check_one_metric(results: list[Result]) -> None:
    labels = {result.label: result.log for result in results if result.state == "succeeded"}
    if len(labels) > 1:
        named = ", ".join(f"{label} ({log})" for label, log in labels.items())
        raise EvidenceError(f"The runs carry different metrics: {named}. Choose one that all have with --metric.")


def _check_independent(results: list[Result]) -> None:
    """One run a seed. Without seeds, two runs that agree in every number are one run."""
    seedless = [result for result in results if result.seed is None]
    if seedless and len(seedless) < len(results):
        raise EvidenceError(
            f"{seedless[0].log} says no seed and other logs do: whether it is one of their runs cannot be told. "
            f"Take it away if it is no run of its own."
        )
    known: dict[object, Result] = {}
    for result in results:
        key = result.seed if result.seed is not None else (result.val_loss, result.val_bpb, result.train_time_ms)
        if key in known:
            what = f"Seed {key} stands twice" if result.seed is not None else "One result stands twice"
            raise EvidenceError(
                f"{what}, in {known[key].log} and {result.log}: that is not two independent runs. Keep one run a seed."
            )
        known[key] = result
