"""The journal of a sweep, events.jsonl: every change of a run's state, appended and on disk before anything follows.

It is the driver's word: what ends an attempt says how, and what its log was then. Only the driver writes to it. Whoever
else does, a run of the sweep for example, ends the sweep.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.sweepdir.journal import Attempt, Entry, checked, note, parse
from analysis.sweepdir.layout import DONE, EVENTS, SweepError
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk.files import now
from orchestration.disk.patient import Disk

DRIVER_GONE = (
    "its driver went away"  # such an attempt does not count against the limit: the sweep's fault, not the run's
)


class JournalError(SweepError):
    """A journal that somebody else has written to."""

    exit_code = 3


class Journal:
    """Remember what was written, and append to it. A line that a dead driver left half written is ended, and skipped.

    Raises SweepError for a file that is no journal.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.path, self._disk = directory / EVENTS, disk
        written = self.path.read_bytes() if self.path.is_file() else b""
        self._runs = checked(parse(written), self.path).runs
        self._running_since: dict[Attempt, float] = {}
        self._size, self._digest = len(written), hashlib.sha256(written)
        if written and not written.endswith(b"\n"):
            self._append(b"\n")

    @property
    def tells(self) -> bool:
        """Return whether it records any run."""
        return bool(self._runs)

    def of(self, arm: str, seed: int) -> dict[int, Entry]:
        """Return what it says of the attempts of one run, by their number, in order."""
        return dict(sorted(self._runs.get((arm, seed), {}).items()))

    def has_ended(self, attempt: Attempt) -> bool:
        entry = self.of(attempt.arm, attempt.seed).get(attempt.attempt)
        return entry is not None and entry.has_ended

    def node(self, arm: str, seed: int) -> str | None:
        """Return the node on which a run got its result, None where it has none."""
        return next((one.node for one in self.of(arm, seed).values() if one.state in DONE), None)

    def lost(self, arm: str, seed: int) -> int:
        """Return how many attempts of a run were lost, over all drivers, except those whose driver went away."""
        return sum(one.state == "lost" and one.reason != DRIVER_GONE for one in self.of(arm, seed).values())

    def write(
        self, attempt: Attempt, state: str, reason: str | None = None, node: str | None = None, **end: Any
    ) -> None:
        """Append one event. `end`: fields of an event that ends an attempt. Raises JournalError, DiskError."""
        event: dict[str, Any] = {"time": now(), **attempt._asdict(), "state": state, "reason": reason, "node": node}
        if state == "running":
            self._running_since[attempt] = time.monotonic()
        elif state != "pending":
            before, since = (
                self.of(attempt.arm, attempt.seed).get(attempt.attempt),
                self._running_since.pop(attempt, None),
            )
            event["node"] = node or (before and before.node)
            event |= {"log_sha256": None, "log_bytes": None, "metric": None, "last": None}
            event["wall_s"] = None if since is None else round(time.monotonic() - since, 3)
        event |= end
        self.check()
        self._append(json.dumps(event).encode() + b"\n")
        note(self._runs, attempt, event)

    def adopt(self, found: RunManifest) -> None:
        """Add an attempt from its run.json, in a sweep that was handed over without a journal."""
        key = Attempt(found.arm or "", found.seed or 0, found.attempt or 0)
        said = {name: getattr(found, name) for name in ("log_sha256", "log_bytes", "last", "wall_s")}
        self.write(key, "running", node=found.ray_node_id, time=_iso(found.started))
        if found.state not in ("pending", "running"):
            more = {"metric": dict(found.metric) or None, "time": _iso(found.ended)}
            self.write(key, found.state, found.reason, found.ray_node_id, **said, **more)

    def _append(self, line: bytes) -> None:
        """Append to the file and flush it to disk; wait while the disk does not take it. Raises DiskError."""
        self._disk.write(self.path, lambda: self._put(line))
        self._size += len(line)
        self._digest.update(line)

    def _put(self, line: bytes) -> None:
        """Append once; take back what a full disk took only in part."""
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with open(handle, "wb", buffering=0) as file:
            try:
                file.truncate(self._size)  # where it could not be taken back before
                file.seek(self._size)
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self._size)
                raise

    def check(self) -> None:
        """Raise JournalError where the file is not as long as this driver left it, GoneError where the sweep is gone."""
        size = self._disk.write(self.path, self._length)
        if size != self._size:
            raise self._changed(f"has {size} bytes, and the driver left {self._size}")

    def _length(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def check_content(self) -> None:
        """Raise JournalError where the file is not, byte for byte, as this driver left it."""
        self.check()
        if self._size and hashlib.sha256(self.path.read_bytes()).digest() != self._digest.digest():
            raise self._changed("holds other lines than the driver wrote")

    def _changed(self, how: str) -> JournalError:
        return JournalError(
            f"{self.path} {how}: a run of the sweep, or another driver, has written to it, so nobody can tell what ran."
        )


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")
