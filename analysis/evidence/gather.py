"""PATHs to the runs that a verdict rests on, and what does not fit in them.

A PATH is a log, a folder with logs (searched below too), a sweep directory, or a frame written by us. Which runs of a
folder count is decided in analysis.claimed, what does not fit in analysis.checks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.checks import folder
from analysis.checks.runs import check_runs
from analysis.reading.frame import Result, from_run, read_frame
from analysis.reading.grammar import Metric
from analysis.reading.reader import Run, read_log
from analysis.record.folder import Record, read_record, records_below, seed_of
from analysis.record.selection import Claimed, Selection, all_labels, metrics_of, select, with_training
from analysis.rules.findings import Finding, graded
from analysis.rules.ruleset import RulesError, Ruleset, from_plan
from analysis.sweepdir import layout
from analysis.untrusted.files import FileError, leads_out, read_bounded

FRAME_SUFFIXES = (".parquet", ".csv", ".json")
SMALLEST, LARGEST = 1e-6, 1e6  # nats or bits; anything beyond is a broken evaluation
FRAME_IS_NO_EVIDENCE = (
    "Found a frame of runs; expected the logs they were read from, without which no number of it can be checked. "
    "Name the folder that holds them."
)


class EvidenceError(ValueError):
    """Evidence that no verdict can rest on (exit code 3), as one sentence that says what and where."""


@dataclass(slots=True)
class Evidence:
    """The runs that a claim rests on, the control runs that came with them, and what was noticed on the way.

    `fault` says why no verdict can rest on them, where that shows in the folder and not in the runs' numbers;
    `not_counted` are logs of the folder that the claim does not speak of, `seeds_aside` the seeds of their runs.
    """

    results: list[Result] = field(default_factory=list)
    control: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    fault: str | None = None
    not_counted: list[str] = field(default_factory=list)
    seeds_aside: list[int] = field(default_factory=list)


def plan_of(paths: list[Path]) -> dict[str, Any]:
    """The plan of the sweep among the PATHs; empty when there is none. Raises EvidenceError."""
    try:
        plans = [layout.read_plan(path) for path in paths if layout.is_sweep(path)]
    except layout.SweepError as error:
        raise EvidenceError(str(error)) from None
    if len(plans) > 1:
        raise EvidenceError(f"{len(plans)} of the paths are sweep directories; report one sweep at a time.")
    return plans[0] if plans else {}


def gather(paths: list[Path], rules: Ruleset, label: str | None = None, as_control: bool = False) -> Evidence:
    """The evidence below the PATHs, as read; `label` forces one metric. Raises EvidenceError. See `check_results`.

    Of a control its runs are audited and not what its folder claims.
    """
    evidence = Evidence()
    loose: list[Path] = []
    for path in paths:
        if not path.exists():
            raise EvidenceError(f"{path} does not exist.")
        try:
            if layout.is_sweep(path):
                plan = layout.read_plan(path)
                rows, claimed, logs = read_sweep(path, plan, rules, label)
                evidence.findings += audit_sweep(claimed, logs, path, plan, rules)
            elif path.is_file() and path.suffix in FRAME_SUFFIXES:
                rows = read_frame(path)
                evidence.findings += graded([("no-logs", str(path), 1, FRAME_IS_NO_EVIDENCE)], rules.findings)
                if other := {row.label for row in rows if label and row.label} - {label}:
                    raise EvidenceError(f"{path} holds the metric {other.pop()!r}, not {label!r}.")
            else:
                loose.append(path)
                continue
        except EvidenceError:
            raise
        except ValueError as error:
            raise EvidenceError(str(error)) from None
        evidence.results += [row for row in rows if row.arm == layout.CANDIDATE]
        evidence.control += [row for row in rows if row.arm == layout.CONTROL]
    if loose:
        record = read_record(loose)
        if inside := records_below(record):
            raise EvidenceError(
                f"{loose[0]} holds {len(inside)} record folders (first: {inside[0]}); name one of them, or see all with "
                f"python -m analysis.leaderboard."
            )
        selection = select(record, rules, label)
        evidence.results += [
            from_run(with_training(one), one.metric, record.shown(one.run.log)) for one in selection.claimed
        ]
        evidence.findings += (folder.audit_control if as_control else folder.audit)(record, selection, rules)
        evidence.fault = _fault(record, selection, rules, label)
        evidence.not_counted += [record.shown(log) for log in selection.aside]
        counted = {result.seed for result in evidence.results}
        others = {seed_of(run) for log in selection.aside for run in record.logs.get(log, [])}
        evidence.seeds_aside += sorted(seed for seed in others - counted if seed is not None)
    return evidence


def _fault(record: Record, selection: Selection, rules: Ruleset, label: str | None) -> str | None:
    """Why no verdict can rest on a folder: a run that is there and has no result, or a log that cannot be read."""
    for path, why in record.listing.left_aside:
        if not why.startswith("is a link"):
            return f"{record.shown(path)} {why}. What it holds cannot be told."
    for run in selection.lacking:
        labels = ", ".join(all_labels(run, rules))
        return f"{record.shown(run.log)} has no final metric {label!r}; it has {labels}."
    if selection.incomplete:
        log, _ = selection.incomplete[0]
        what = (
            "is empty: a run that died, or a copy that failed"
            if log in record.empty
            else f"holds a run without a final metric ({rules.name} reads {rules.result_line}; --rules names others)"
        )
        return f"{record.shown(log)} {what}. Let the run finish, or take the log away and say why."
    return None


# -- a sweep directory -------------------------------------------------------------------------------------------------


def sweep_results(directory: Path, plan: dict[str, Any]) -> list[Result]:
    """One row a planned run, candidate first, in the plan's order; a run without a metric keeps its state and log."""
    return read_sweep(directory, plan, rules_of(plan))[0]


def rules_of(plan: dict[str, Any]) -> Ruleset:
    """The ruleset that was frozen with a plan. Raises EvidenceError."""
    try:
        return from_plan(plan)
    except RulesError as error:
        raise EvidenceError(str(error)) from None


def read_sweep(
    directory: Path, plan: dict[str, Any], rules: Ruleset, label: str | None = None
) -> tuple[list[Result], dict[str, list[Claimed]], dict[Path, list[Run]]]:
    """The rows of a sweep, by arm the runs that have a result, and all that their logs hold. Raises EvidenceError,
    SweepError."""
    if beside := layout.of_a_record(directory):
        raise EvidenceError(
            f"{directory} holds a sweep, and {beside[0]} beside its runs: whose runs are meant cannot be told. "
            f"Move one of them away."
        )
    rows: list[Result] = []
    read: dict[str, list[Claimed]] = {}
    logs: dict[Path, list[Run]] = {}
    for planned in layout.planned_runs(directory, plan):
        folder = planned.folder or directory / planned.arm / f"seed-{planned.seed}"
        log = folder / layout.TRAIN_LOG
        shown = str(log.relative_to(directory))
        if planned.state != "succeeded" or planned.folder is None:
            rows.append(Result(planned.arm, planned.seed, planned.state, None, None, None, shown, None))
            continue
        logs[log] = _runs_of(log, directory)
        one = _succeeded(log, logs[log], planned.seed, rules, label)
        read.setdefault(planned.arm, []).append(one)
        rows.append(from_run(one.run, one.metric, shown, planned.arm))
    return rows, read, logs


def _runs_of(log: Path, directory: Path) -> list[Run]:
    try:
        if leads_out(log, os.path.realpath(directory)):
            raise FileError("is a link that leads out of the sweep")
        return read_log(log, read_bounded(log))
    except FileError as error:
        raise EvidenceError(f"{log} {error}.") from None


def _succeeded(log: Path, runs: list[Run], seed: int, rules: Ruleset, label: str | None) -> Claimed:
    """The result of a planned run that is marked as succeeded."""
    found = [run for run in runs if metrics_of(run, rules)]
    if not found:
        raise EvidenceError(f"{log}: the run is marked as succeeded, but no final metric is in its log.")
    run = found[-1]
    if run.seed not in (None, seed):
        raise EvidenceError(f"{log} prints seed {run.seed}, the plan says {seed}.")
    metrics: dict[str, Metric] = {metric.label: metric for metric in (*run.metrics, *metrics_of(run, rules))}
    if label is not None and label not in metrics:
        raise EvidenceError(f"{log} has no final metric {label!r}; it has {', '.join(metrics)}.")
    run = replace(run, seed=seed)
    return Claimed(run, metrics[label] if label is not None else metrics_of(run, rules)[-1], run)


def audit_sweep(
    claimed: dict[str, list[Claimed]],
    logs: dict[Path, list[Run]],
    directory: Path,
    plan: dict[str, Any],
    rules: Ruleset,
) -> list[Finding]:
    """What does not fit in the runs of each arm and in their logs, and whether the planned script is there."""

    def shown(log: Path) -> str:
        return str(log.relative_to(directory))

    raised = [one for runs in claimed.values() for one in check_runs(runs, rules, shown)]
    for log, runs in logs.items():
        raised += folder.several_runs(shown(log), runs)
    try:
        if leads_out(directory / layout.SCRIPT, os.path.realpath(directory)):
            raise layout.SweepError(f"{layout.SCRIPT} is a link that leads out of the sweep.")
        layout.read_script(directory, plan)
    except layout.SweepError as error:
        raised.append(("missing-file", layout.SCRIPT, 1, f"{error} Expected the planned script. Put it back."))
    return graded(raised, rules.findings)


# -- what no verdict can rest on ---------------------------------------------------------------------------------------


def check_results(results: list[Result], where: str, at_least: int = 2) -> None:
    """Raise EvidenceError for runs that no test can be made on: missing, not finite, mixed, or not independent.

    at_least: how few of them are too few.
    """
    if not results and at_least > 0:
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
            if value is not None and not SMALLEST < value < LARGEST:
                raise EvidenceError(f"{result.log}, line {result.line}: {name} is {value}, which no run can end with.")
    check_one_metric(results)
    _check_independent(results)
    if len(results) < at_least:
        raise EvidenceError(f"{where} holds one run ({results[0].log}): a test needs at least two seeds.")


def check_one_metric(results: list[Result]) -> None:
    labels = {result.label: result.log for result in results if result.state == "succeeded"}
    if len(labels) > 1:
        named = ", ".join(f"{label} ({log})" for label, log in labels.items())
        raise EvidenceError(
            f"The runs carry different metrics: {named}. Choose one that all have with --metric of analysis.significance."
        )


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
