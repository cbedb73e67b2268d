"""run.json, what a run's worker recorded of one attempt, read and checked in this one place; and where each planned run stands.

The driver's journal decides where there is one: the script can write to its run.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.sweepdir.code import Script, files_fault
from analysis.sweepdir.journal import Attempt, Entry, JournalRead, as_time, number, read_journal
from analysis.sweepdir.json_files import of_type, read_inside, read_json, table_of
from analysis.sweepdir.layout import DONE, RUN_MANIFEST, STATES, TRAIN_LOG, SweepError, attempt_folder, attempt_folders
from analysis.sweepdir.plan import Plan
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import leads_out

OF_THE_LOG = ("log_sha256", "log_bytes", "metric", "last", "wall_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunManifest:
    """One attempt, as the sweep's journal says, or as its run.json says if there is no journal. What neither says is None.

    code: the SHA-256 of the script and the modules that ran, as in a plan. log_sha256: the log's first log_bytes bytes; of a
    run with a result, the whole log. last: the last value of the rules' metric in the log. wall_s: seconds from start to end.
    table: run.json as written.
    """

    state: str
    reason: str | None
    arm: str | None
    seed: int | None
    attempt: int | None
    started: datetime | None
    ended: datetime | None
    host: str | None
    ray_node_id: str | None
    wall_s: float | None
    code: Mapping[str, str | None]
    log_sha256: str | None
    log_bytes: int | None
    metric: Mapping[str, Any]
    last: float | None
    table: Mapping[str, Any]

    @classmethod
    def of(cls, table: Mapping[str, Any], where: Path) -> RunManifest:
        """Check the content of a run.json; `where` is named in the refusal. Raises SweepError."""
        state = table.get("state")
        if state not in STATES:
            raise SweepError(f"{where}: state is {beginning(state)}; allowed: {', '.join(STATES)}.")
        script = table_of(table.get("script"))
        log = table_of(table_of(table.get("files")).get(TRAIN_LOG))
        return cls(
            state=state,
            reason=of_type(table.get("reason"), str),
            arm=of_type(table.get("arm"), str),
            seed=of_type(table.get("seed"), int),
            attempt=of_type(table.get("attempt"), int),
            started=as_time(table.get("started")),
            ended=as_time(table.get("ended")),
            host=of_type(table.get("host"), str),
            ray_node_id=of_type(table.get("ray_node_id"), str),
            wall_s=number(table.get("wall_s")),
            code={} if files_fault(script.get("files", [])) else Script.of(script).digests,
            log_sha256=of_type(log.get("sha256"), str),
            log_bytes=of_type(log.get("bytes"), int),
            metric=table_of(table.get("metric")),
            last=number(table.get("last")),
            table=table,
        )

    def judged(self, log: bytes) -> bytes:
        """Return what was there of a log when the run's end was recorded: one that is ended by others may print on meanwhile."""
        whole = self.log_bytes is None or (self.state in DONE and self.reason is None)
        return log if whole else log[: self.log_bytes]

    def part(self, name: str) -> Mapping[str, Any]:
        """Return one of the file's tables, such as `machine` or `git`; empty where it has none of that name."""
        return table_of(self.table.get(name))


def read_manifest(path: Path) -> RunManifest:
    """Read a run.json that we wrote. Raises SweepError."""
    return RunManifest.of(read_json(path), path)


def attempts_of(directory: Path, arm: str, seed: int, journal: JournalRead) -> list[RunManifest]:
    """Read what is recorded of every attempt of a run, in order. Raises SweepError.

    In a sweep with a journal its attempts are those that the journal names, even one whose folder is gone. In one without,
    those that have a run.json.
    """
    if journal.runs:
        keys = [Attempt(arm, seed, number) for number in sorted(journal.of(arm, seed))]
        return [_told(directory, key, journal.of(arm, seed)[key.attempt]) for key in keys]
    paths = {number: folder / RUN_MANIFEST for number, folder in sorted(attempt_folders(directory, arm, seed).items())}
    return [
        replace(RunManifest.of(read_inside(directory, path), path), arm=arm, seed=seed, attempt=number)
        for number, path in paths.items()
        if os.path.isfile(path)
    ]


def _told(directory: Path, key: Attempt, entry: Entry) -> RunManifest:
    """Return an attempt as the journal records it; run.json adds only where it ran, and on what."""
    path = attempt_folder(directory, *key) / RUN_MANIFEST
    try:
        table = read_inside(directory, path) if os.path.lexists(path) else {}
    except SweepError:  # whatever the script has written there
        table = {}
    found = RunManifest.of(table | {"state": entry.state}, path)
    return replace(
        found,
        **key._asdict(),
        ray_node_id=entry.node or found.ray_node_id,
        reason=entry.reason,
        started=entry.started,
        ended=entry.ended,
        **{name: getattr(entry, name) for name in OF_THE_LOG if entry.tells_of_the_log},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One planned seed of one arm and its last attempt; `folder` is None before the first attempt.

    attempts: all of them, in order. log_sha256: the log at the run's end, where the journal or run.json has it.
    """

    arm: str
    seed: int
    state: str = "pending"
    folder: Path | None = None
    reason: str | None = None
    log_sha256: str | None = None
    attempts: tuple[RunManifest, ...] = ()


def planned_runs(directory: Path, plan: Plan) -> list[PlannedRun]:
    """Return where every planned run stands, candidate first, in the order of the plan's seeds. Raises SweepError."""
    journal = read_journal(directory)
    return [_planned_run(directory, arm, seed, journal) for arm in plan.arms for seed in plan.seeds]


def _planned_run(directory: Path, arm: str, seed: int, journal: JournalRead) -> PlannedRun:
    attempts = attempts_of(directory, arm, seed, journal)
    numbers = journal.of(arm, seed) if journal.runs else attempt_folders(directory, arm, seed)
    if not numbers:
        return PlannedRun(arm=arm, seed=seed)
    folder = attempt_folder(directory, arm, seed, max(numbers))
    if leads_out(folder, os.path.realpath(directory)):
        raise SweepError(f"{folder} is a link that leads out of the folder.")
    if not attempts or attempts[-1].attempt != max(numbers):
        return PlannedRun(arm=arm, seed=seed, state="running", folder=folder, attempts=tuple(attempts))
    last = attempts[-1]
    return PlannedRun(
        arm=arm,
        seed=seed,
        state=last.state,
        folder=folder,
        reason=last.reason,
        log_sha256=last.log_sha256,
        attempts=tuple(attempts),
    )
