"""The runs of a sweep directory, and which of them count in the order of its plan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from analysis.reading.reader import read_log
from analysis.reading.result import Attempts, Result, Tried
from analysis.reading.run import Run
from analysis.record.metrics import all_labels, metric_of, metrics_of, with_common_stop, with_log
from analysis.record.selection import Claimed, LeftOut, Why
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.journal import number
from analysis.sweepdir.layout import ARMS, DONE, TRAIN_LOG, attempt_folder, of_a_record
from analysis.sweepdir.manifest import PlannedRun, planned_runs
from analysis.sweepdir.plan import Plan
from analysis.untrusted.files import FileError, leads_out, read_bounded
from analysis.untrusted.refusal import EvidenceError


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRead:
    """A sweep as it was read.

    results: one for each planned run, candidate first, in the plan's order; one without a metric keeps its state and log.
    claimed: by arm the runs that succeeded. logs: every run that their logs hold. edited: logs that are not the ones whose
    SHA-256 was recorded.
    """

    results: Sequence[Result]
    claimed: Mapping[str, Sequence[Claimed]]
    logs: Mapping[Path, Sequence[Run]]
    edited: Sequence[Path] = ()

    @property
    def attempts(self) -> Attempts:
        """Return the attempts of each planned run that has a result."""
        return {(one.arm, one.run.seed or 0): one.attempts for one in self.results if one.state in DONE}

    @property
    def pairs(self) -> set[int]:
        """Return the seeds of which both arms have a value."""
        arms = [{one.run.seed or 0 for one in self.results if one.arm == arm and one.succeeded} for arm in ARMS]
        return set.intersection(*arms)


def sweep_results(directory: Path, plan: Plan) -> list[Result]:
    """Return a result for each planned run by the plan's own rules. Raises EvidenceError, RulesError, SweepError."""
    return list(read_sweep(directory, plan, plan.rules()).results)


def read_sweep(directory: Path, plan: Plan, rules: Ruleset, label: str | None = None) -> SweepRead:
    """Read the log of each planned run that succeeded. Raises EvidenceError, SweepError."""
    if others := of_a_record(directory):
        raise EvidenceError(
            f"{directory} holds a sweep, and {others[0]} next to its runs: nobody can tell whose runs are meant. "
            f"Move one of them away."
        )
    every = planned_runs(directory, plan)
    logs, edited = _logs_of(every, directory)
    results: list[Result] = []
    claimed: dict[str, list[Claimed]] = {}
    for planned in every:
        tried = _tried(directory, planned, rules)
        edited += tried.edited
        log = _log_of(planned, directory)
        shown = log.relative_to(directory).as_posix()
        if log not in logs:
            run = Run(log=log, line=1, seed=planned.seed)
            results.append(Result(log=shown, run=run, arm=planned.arm, state=planned.state, attempts=tried.attempts))
            continue
        run = _complete(log, logs[log], planned.seed, rules)
        if label is not None and label not in (labels := all_labels(run, rules)):
            raise EvidenceError(f"{run.log} has no final metric {label!r}; it has {', '.join(labels)}.")
        one = Claimed(log=shown, run=run, metric=metric_of(run, label, rules), training=run)
        claimed.setdefault(planned.arm, []).append(one)
        result = Result.of(run, one.metric, log=shown, arm=planned.arm)
        results.append(replace(result, attempts=tried.attempts))
    return SweepRead(results=results, claimed=claimed, logs=logs, edited=edited)


def _log_of(planned: PlannedRun, directory: Path) -> Path:
    return (planned.folder or directory / planned.arm / f"seed-{planned.seed}") / TRAIN_LOG


def _logs_of(every: Sequence[PlannedRun], directory: Path) -> tuple[dict[Path, Sequence[Run]], list[Path]]:
    """Return the runs of each planned run's log that succeeded, each with the step at which nearly all of its arm stopped,
    as the runs of a folder have it, and the logs that were changed after their run.
    """
    arms: dict[str, dict[Path, Sequence[Run]]] = {}
    edited = []
    for planned in every:
        if planned.state != "succeeded" or planned.folder is None:
            continue
        log = _log_of(planned, directory)
        content = planned.attempts[-1].judged(_content_of(log, directory))
        arms.setdefault(planned.arm, {})[log] = read_log(log, content)
        if planned.log_sha256 not in (None, hashlib.sha256(content).hexdigest()):
            edited.append(log)
    return {log: runs for arm in arms.values() for log, runs in with_common_stop(arm).items()}, edited


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tries:
    """The attempts of a run, and the logs among them that are not as the journal or run.json says they were."""

    attempts: tuple[Tried, ...]
    edited: Sequence[Path]


def _tried(directory: Path, planned: PlannedRun, rules: Ruleset) -> _Tries:
    """Return the attempts of a planned run. If the run has a result, read the logs of the attempts without one."""
    found, edited = [], []
    for manifest in planned.attempts:
        log = attempt_folder(directory, planned.arm, planned.seed, manifest.attempt or 0) / TRAIN_LOG
        last = number(manifest.metric.get(rules.metric)) if manifest.state in DONE else None
        one = Tried(
            arm=planned.arm,
            seed=planned.seed,
            attempt=manifest.attempt or 0,
            state=manifest.state,
            reason=manifest.reason,
            log=log.relative_to(directory).as_posix() if os.path.isfile(log) else None,
            last=manifest.last if last is None else last,
            wall_s=manifest.wall_s,
            started=_iso(manifest.started),
            ended=_iso(manifest.ended),
            node=manifest.ray_node_id,
            host=manifest.host,
        )
        if one.ended_without_result and planned.state in DONE and one.log is not None:
            with suppress(EvidenceError, FileError):  # what cannot be read has the last value that the driver saw
                content = _content_of(log, directory)
                one = with_log(one, read_log(log, content), rules)
                beginning = hashlib.sha256(manifest.judged(content)).hexdigest()
                edited += [log] if manifest.log_sha256 not in (None, beginning) else []
        found.append(one)
    return _Tries(attempts=tuple(found), edited=edited)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _content_of(log: Path, directory: Path) -> bytes:
    try:
        if leads_out(log, os.path.realpath(directory)):
            raise FileError("is a link that leads out of the sweep")
        return read_bounded(log)
    except FileError as error:
        raise EvidenceError(f"{log} {error}.") from None


def _complete(log: Path, runs: Sequence[Run], seed: int, rules: Ruleset) -> Run:
    """Return the last run of the log that has a final metric, with the planned seed where it prints none."""
    found = [run for run in runs if metrics_of(run, rules)]
    if not found:
        raise EvidenceError(f"{log}: the run is marked as succeeded, but its log has no final metric.")
    if found[-1].seed not in (None, seed):
        raise EvidenceError(f"{log} prints seed {found[-1].seed}, the plan says {seed}.")
    return replace(found[-1], seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """The runs that count in a plan's order, and the others."""

    kept: list[Result]
    left_out: list[LeftOut]


def in_planned_order(results: Sequence[Result], seeds: Sequence[int]) -> InOrder:
    """Keep the planned runs that have a result, in the plan's order, up to the first seed that has none.

    A failed run is a result. A run that has not ended is neither kept nor left out.
    """
    by_seed = {result.seed: result for result in results if result.state in DONE}
    upto = next((i for i, seed in enumerate(seeds) if seed not in by_seed), len(seeds))
    kept = [by_seed[seed] for seed in seeds[:upto]]
    known, planned = {id(result) for result in kept}, set(seeds)
    others = [result for result in results if id(result) not in known and result.state not in ("pending", "running")]

    def why(result: Result) -> Why:
        if result.state not in DONE:
            return Why.LOST
        if result.seed not in planned:
            return Why.NOT_PLANNED
        return Why.BEYOND_GAP if by_seed[result.seed] is result else Why.SAME_SEED

    return InOrder(kept=kept, left_out=[LeftOut(result=result, why=why(result)) for result in others])
