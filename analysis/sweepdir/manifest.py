"""run.json, what is recorded of one attempt, read and checked in this one place; and where each planned run stands."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.sweepdir.code import Script, files_fault
from analysis.sweepdir.json_files import of_type, read_inside, read_json, table_of
from analysis.sweepdir.layout import RUN_MANIFEST, STATES, TRAIN_LOG, SweepError, attempt_folders
from analysis.sweepdir.plan import Plan
from analysis.untrusted.escape import beginning
from analysis.untrusted.files import leads_out


@dataclass(frozen=True, slots=True, kw_only=True)
class RunManifest:
    """One attempt's run.json. `table` is the file as written; what it does not say, or says oddly, is None.

    code: the SHA-256 of the script and the modules that ran, as in a plan. log_sha256: the log at the run's end. wall_s: seconds from start to end.
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
    metric: Mapping[str, Any]
    table: Mapping[str, Any]

    @classmethod
    def of(cls, table: Mapping[str, Any], where: Path) -> RunManifest:
        """Check the content of a run.json; `where` is named in the refusal. Raises SweepError."""
        state = table.get("state")
        if state not in STATES:
            raise SweepError(f"{where}: state is {beginning(state)}; allowed: {', '.join(STATES)}.")
        wall, script = table.get("wall_s"), table_of(table.get("script"))
        return cls(
            state=state,
            reason=of_type(table.get("reason"), str),
            arm=of_type(table.get("arm"), str),
            seed=of_type(table.get("seed"), int),
            attempt=of_type(table.get("attempt"), int),
            started=_time(table.get("started")),
            ended=_time(table.get("ended")),
            host=of_type(table.get("host"), str),
            ray_node_id=of_type(table.get("ray_node_id"), str),
            wall_s=float(wall) if isinstance(wall, (int, float)) and math.isfinite(wall) else None,
            code={} if files_fault(script.get("files", [])) else Script.of(script).digests,
            log_sha256=of_type(table_of(table_of(table.get("files")).get(TRAIN_LOG)).get("sha256"), str),
            metric=table_of(table.get("metric")),
            table=table,
        )

    def part(self, name: str) -> Mapping[str, Any]:
        """Return one of the file's tables, such as `machine` or `git`; empty where it has none of that name."""
        return table_of(self.table.get(name))


def read_manifest(path: Path) -> RunManifest:
    """Read a run.json that we wrote. Raises SweepError."""
    return RunManifest.of(read_json(path), path)


def attempts_of(directory: Path, arm: str, seed: int) -> list[RunManifest]:
    """Read what is recorded of every attempt of a run, in order; an attempt without run.json is left out.

    Raises SweepError.
    """
    folders = (folder for _, folder in sorted(attempt_folders(directory, arm, seed).items()))
    paths = [folder / RUN_MANIFEST for folder in folders if os.path.isfile(folder / RUN_MANIFEST)]
    return [RunManifest.of(read_inside(directory, path), path) for path in paths]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One planned seed of one arm and its last attempt; `folder` is None before the first attempt.

    log_sha256: the log at the run's end, where run.json has it.
    """

    arm: str
    seed: int
    state: str = "pending"
    folder: Path | None = None
    reason: str | None = None
    log_sha256: str | None = None


def planned_runs(directory: Path, plan: Plan) -> list[PlannedRun]:
    """Return where every planned run stands, candidate first, in the order of the plan's seeds. Raises SweepError."""
    return [_planned_run(directory, arm, seed) for arm in plan.arms for seed in plan.seeds]


def _planned_run(directory: Path, arm: str, seed: int) -> PlannedRun:
    attempts = attempt_folders(directory, arm, seed)
    if not attempts:
        return PlannedRun(arm=arm, seed=seed)
    folder = attempts[max(attempts)]
    if leads_out(folder, os.path.realpath(directory)):
        raise SweepError(f"{folder} is a link that leads out of the folder.")
    path = folder / RUN_MANIFEST
    if not os.path.isfile(path):
        return PlannedRun(arm=arm, seed=seed, state="running", folder=folder)
    manifest = RunManifest.of(read_inside(directory, path), path)
    return PlannedRun(
        arm=arm,
        seed=seed,
        state=manifest.state,
        folder=folder,
        reason=manifest.reason,
        log_sha256=manifest.log_sha256,
    )


def _time(value: Any) -> datetime | None:
    """Return when something happened, in UTC; None where nothing says it with its time zone."""
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
