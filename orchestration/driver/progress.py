"""What a waiting person sees: one line when a run starts or ends, bars on a terminal, else a line a minute.

All of it is read from the runs' logs as they grow.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.rules.metrics import VAL_BPB, VAL_LOSS
from analysis.sweepdir.layout import DONE, TRAIN_LOG
from analysis.sweepdir.manifest import RunManifest
from analysis.untrusted.files import FileError
from orchestration.worker.order import RunOrder

if TYPE_CHECKING:  # what shows a sweep from its files needs no rich
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

PLAIN_INTERVAL_S = 60.0
TAIL_BYTES = 16384


def tail(folder: Path) -> Run | None:
    """Read the end of an attempt's log; return None if it says nothing yet, or is not a file of its own."""
    try:
        handle = os.open(folder / TRAIN_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                return None
            file.seek(max(0, status.st_size - TAIL_BYTES))
            runs = read_log(folder / TRAIN_LOG, file.read(TAIL_BYTES))
    except (OSError, FileError):
        return None
    return runs[-1] if runs else None


def last_bpb(run: Run) -> float | None:
    """Return the final val_bpb, or that of the last validation."""
    return run.finals[-1].val_bpb if run.finals else next((s.val_bpb for s in reversed(run.steps) if s.val_bpb), None)


def latest(folder: Path) -> str:
    """Return the last step, its average time and the last val_bpb, as far as the log has come."""
    run = tail(folder)
    if run is None:
        return "starting"
    parts = []
    if run.steps:
        last = run.steps[-1]
        parts.append(f"step {last.step}/{run.total_steps}")
        if last.train_time_ms is not None and last.step:
            parts.append(f"{last.train_time_ms / last.step:.1f} ms/step")
    if (bpb := last_bpb(run)) is not None:
        parts.append(f"val_bpb {bpb:.4f}")
    return ", ".join(parts)


def time_left(lasted: Sequence[float], lived: Sequence[float], waiting: int, slots: int) -> float | None:
    """Return about how many seconds the runs that have no result will take; None until one has ended.

    lasted: of the runs that ended. lived: of those under way, which share `slots` with those that wait.
    """
    if not lasted:
        return None
    usual = sum(lasted) / len(lasted)
    rest = [max(usual - one, 0.0) for one in lived]
    return max([(usual * waiting + sum(rest)) / max(slots, 1), *rest, usual if waiting else 0.0])


def in_minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.1f} h"


class Progress:
    """Show the runs of one sweep. name: the prefix of its lines if several sweeps share a terminal."""

    name = ""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.running: dict[RunOrder, TaskID | None] = {}
        self.next_line = time.monotonic() + PLAIN_INTERVAL_S
        self.lasted: list[float] = []
        self.since: dict[RunOrder, float] = {}
        self.slots = 0
        self.whole: TaskID | None = None
        self.bars = None if os.environ.get("CI") else _bars()

    def started(self, order: RunOrder, *, quiet: bool) -> None:
        if not quiet:
            self.say(f"{order.name}: started{f' (attempt {order.attempt})' if order.attempt > 1 else ''}")
        self.since[order] = time.monotonic()
        if self.bars is None:
            self.running[order] = None
        else:
            self.bars.start()
            if self.whole is None:
                self.whole = self.bars.add_task("all runs", total=self.total, detail="")
            self.running[order] = self.bars.add_task(order.name, total=None, detail="starting")
        self.slots = max(self.slots, len(self.running))

    def refused(self, order: RunOrder, reason: str | None, *, quiet: bool) -> None:
        self.take_away(order)
        if not quiet:
            self.say(f"{order.name}: waits: {reason}")

    def take_away(self, order: RunOrder) -> None:
        bar = self.running.pop(order, None)
        self.since.pop(order, None)
        if self.bars is not None and bar is not None:
            self.bars.remove_task(bar)
            if not self.running:
                self.bars.stop()

    def ended(self, order: RunOrder, manifest: RunManifest) -> None:
        self.done += manifest.state in DONE
        if manifest.state in DONE and order in self.since:
            self.lasted.append(time.monotonic() - self.since[order])
        self.take_away(order)
        known, detail = manifest.metric, manifest.reason or ""
        name = next(
            (name for name in (VAL_BPB, VAL_LOSS, str(known.get("label"))) if known.get(name) is not None), None
        )
        if name is not None and manifest.wall_s is not None:
            detail = f"{name} {known[name]:.8f} in {manifest.wall_s:.0f} s"
        self.say(f"{order.name}: {manifest.state} ({self.done} of {self.total}) {detail}".rstrip())

    def tick(self) -> None:
        if self.bars is not None:
            for order, bar in self.running.items():
                run = tail(order.folder)
                if bar is not None and run is not None:
                    self.bars.update(
                        bar, total=run.total_steps, completed=run.last_step or 0, detail=latest(order.folder)
                    )
            if self.whole is not None:
                self.bars.update(self.whole, completed=self.done, detail=self.left())
        elif time.monotonic() >= self.next_line:
            self.next_line += PLAIN_INTERVAL_S
            for order in self.running:
                self.say(f"{order.name}: {latest(order.folder)}")
            if self.running:
                self.say(self.left())

    def left(self) -> str:
        """Return how many runs have a result, and about how long the others take once that can be told."""
        now, others = time.monotonic(), self.total - self.done
        lived = [now - self.since[order] for order in self.running]
        seconds = time_left(self.lasted, lived, others - len(lived), self.slots)
        said = f"{self.done} of {self.total} runs have a result"
        return said if seconds is None or not others else f"{said}; {in_minutes(seconds)} for the other {others}"

    def say(self, line: str) -> None:
        if self.bars is not None:
            self.bars.console.print(line, highlight=False, markup=False)
        else:
            click.echo(f"{self.name}: {line}" if self.name else line)
            sys.stdout.flush()


def _bars() -> Bars | None:
    """Return bars for a terminal; None where stdout is not one."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if not Console().is_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), transient=True)
