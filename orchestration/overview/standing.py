"""Where a sweep stands: read from its plan, lock, journal or run.json files and verdict, never from a log."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.sweepdir.json_files import of_type, read_inside
from analysis.sweepdir.layout import DONE, EVENTS, PLAN, REPORT_HTML, VERDICT, SweepError
from analysis.sweepdir.manifest import PlannedRun, planned_runs
from analysis.sweepdir.plan import read_sweep_plan
from analysis.untrusted.files import printable_path
from orchestration.disk.lock import Owner, living_owner
from orchestration.overview.find import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one sweep stands. Of a damaged one, unknown fields are None and `fault` says what is wrong.

    sweep: the path below the folder that was asked for. done: runs with a result, failed ones included.
    verdict: what verdict.json says, None where runs changed after it. changed: when a file last changed.
    directory, owner, under_way: where it is, who drives it, and its running runs.
    """

    sweep: str
    fault: str | None = None
    plan_sha256: str | None = None
    rules: str | None = None
    design: str | None = None
    paired: bool | None = None
    runs: int | None = None
    done: int | None = None
    failed: int | None = None
    running: int | None = None
    lost: int | None = None
    verdict: str | None = None
    driver: str | None = None
    changed: str | None = None
    has_report: bool = False
    directory: Path
    owner: Owner | None = None
    under_way: Sequence[PlannedRun] = field(default=())

    def row(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {name: getattr(self, name) for name in ROW}


ROW = [one.name for one in fields(Standing) if one.name not in ("has_report", "directory", "owner", "under_way")]


def standings(root: Path, found: Found) -> list[Standing]:
    """Return where each sweep stands, and what could not be searched."""
    unread = [Standing(sweep=_below(root, path), directory=path, fault=why) for path, why in found.unread.items()]
    return [standing_of(root, directory) for directory in found.sweeps] + unread


def standing_of(root: Path, directory: Path) -> Standing:
    """Return where one sweep stands; one that is damaged has a fault and does not raise."""
    try:
        return _read(root, directory)
    except SweepError as error:
        fault = str(error)
    except OSError as error:
        fault = f"{error.filename or directory} cannot be read: {error.strerror}."
    except (ValueError, OverflowError) as error:  # a clock that no calendar has
        fault = f"{directory}: {error}."
    return Standing(sweep=_below(root, directory), directory=directory, fault=fault)


def _read(root: Path, directory: Path) -> Standing:
    plan = read_sweep_plan(directory)  # before the lock, which might be a link to anything
    owner = living_owner(directory)
    runs = planned_runs(directory, plan)
    states = [state_of(planned, owner) for planned in runs]
    changed = max(_changed(directory / name) for name in (PLAN, EVENTS, VERDICT))
    return Standing(
        sweep=_below(root, directory),
        plan_sha256=plan.sha256,
        rules=of_type(plan.table["ruleset"].get("name"), str),
        design=str(plan.design.kind),
        paired=plan.design.paired,
        runs=len(runs),
        done=sum(state in DONE for state in states),
        failed=states.count("failed"),
        running=states.count("running"),
        lost=states.count("lost"),
        verdict=_verdict(directory),
        driver=str(owner) if owner is not None else None,
        changed=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
        has_report=os.path.isfile(directory / REPORT_HTML),
        directory=directory,
        owner=owner,
        under_way=[planned for planned, state in zip(runs, states, strict=True) if state == "running"],
    )


def state_of(planned: PlannedRun, owner: Owner | None) -> str:
    """Return a run's state. If no driver is running, a run that its files call running is lost."""
    return "lost" if planned.state == "running" and owner is None else planned.state


def _verdict(directory: Path) -> str | None:
    """Return what the last verdict says, None where there is none or a run changed after it."""
    path = directory / VERDICT
    if not os.path.isfile(path) or _changed(path) < _changed(directory / EVENTS):
        return None
    try:
        said = read_inside(directory, path).get("gate")
    except SweepError:
        return None
    return said if isinstance(said, str) and re.fullmatch("[a-z_]{1,30}", said) else None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _below(root: Path, directory: Path) -> str:
    return printable_path(directory.relative_to(root))
