"""Show where sweeps stand on a terminal: every run of one, or a line for each of many."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from analysis.report.grid import or_dash, text_table
from analysis.report.said.headline import WORDS
from analysis.sweepdir.layout import DONE, has_plan
from analysis.sweepdir.manifest import PlannedRun, planned_runs
from analysis.sweepdir.plan import read_sweep_plan
from analysis.untrusted.escape import line_start, printable
from analysis.untrusted.invoked import command
from orchestration.disk.lock import Owner, living_owner
from orchestration.driver.progress import latest
from orchestration.overview.find import find_some
from orchestration.overview.standing import Standing, standings, state_of

WATCH_S = 1.0
HASH_SHOWN = 12  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What there is to see at one moment. driven: whether a driver is at work."""

    lines: Sequence[str]
    driven: bool


def show(root: Path, *, watch: bool) -> None:
    """Print where a sweep, or every sweep below a folder, stands; `watch` prints it again whenever it changes."""
    shown: Sequence[str] = ()
    while True:
        began = time.monotonic()
        view = view_of(root)
        if view.lines != shown:
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo("\n".join(map(printable, view.lines)))
        shown = view.lines
        if not watch or not view.driven:
            return
        time.sleep(max(WATCH_S, time.monotonic() - began))  # many sweeps take a while to read


def view_of(root: Path) -> View:
    """Return where a sweep, or every sweep below a folder, stands. Raises SweepError where there is none."""
    if has_plan(root):
        plan = read_sweep_plan(root)  # before the lock, which might be a link to anything
        owner = living_owner(root)
        return View(lines=run_lines(root, planned_runs(root, plan), owner), driven=owner is not None)
    rows = standings(root, find_some(root))
    return View(lines=sweep_lines(rows) + progress_lines(rows), driven=any(one.owner is not None for one in rows))


def run_lines(directory: Path, runs: Sequence[PlannedRun], owner: Owner | None) -> list[str]:
    """Return a line a run, who drives the sweep and, if nobody does, how to continue it."""
    lines = []
    for planned in runs:
        state, detail = state_of(planned, owner), planned.reason or (latest(planned.folder) if planned.folder else "")
        if state != planned.state:
            detail = "its driver went away"
        attempt = planned.folder.name if planned.folder and planned.folder.name != "attempt-1" else ""
        lines.append(f"{planned.arm:<10} seed {planned.seed:<11} {state:<10} {attempt} {detail}".rstrip())
    done = sum(planned.state == "succeeded" for planned in runs)
    lines.append(f"{done} of {len(runs)} runs succeeded.")
    if owner is not None:
        lines.append(f"Driven by {owner}.")
    elif any(planned.state not in DONE for planned in runs):
        again = command("orchestration.sweep", "resume", str(directory))
        lines.append(f"No driver is running. Run what is missing with: {again}")
    return lines


def sweep_lines(rows: Sequence[Standing]) -> list[str]:
    """Return a table with one line per sweep. Below it, each damaged sweep says what is wrong."""
    lines = text_table([{name: printable(cell) for name, cell in cells(one).items()} for one in rows if not one.fault])
    return [line_start(line) for line in [*lines, *(f"{one.sweep}: {one.fault}" for one in rows if one.fault)]]


def progress_lines(rows: Sequence[Standing]) -> list[str]:
    """Return a line for each run that is running: how far its log has come."""
    return [
        line_start(f"{one.sweep} {planned.arm} seed {planned.seed}: {latest(planned.folder)}")
        for one in rows
        for planned in one.under_way
        if planned.folder is not None
    ]


def cells(one: Standing) -> dict[str, str]:
    """Return a sweep for people, by column; JSON holds all digits."""
    changed = one.changed and one.changed[: len("2026-04-05T10:00")].replace("T", " ")
    return {
        "sweep": one.sweep,
        "verdict": or_dash(one.verdict and WORDS.get(one.verdict, one.verdict)),
        "done": "-" if one.runs is None else f"{one.done}/{one.runs}",
        "running": or_dash(one.running),
        "lost": or_dash(one.lost),
        "failed": or_dash(one.failed),
        "changed, UTC": or_dash(changed),
        "design": or_dash(one.design and one.design + ", in pairs" * bool(one.paired)),
        "rules": or_dash(one.rules),
        "plan": or_dash(one.plan_sha256 and one.plan_sha256[:HASH_SHOWN]),
        "driven by": or_dash(one.owner and _short(one.owner)),
    }


def _short(owner: Owner) -> str:
    return f"{owner.user} on {owner.host}, " + (f"Ray job {owner.job}" if owner.job else f"process {owner.pid}")
