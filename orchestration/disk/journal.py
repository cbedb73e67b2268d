"""The journal of a sweep, events.jsonl: every change of a run's state, appended and on disk before anything follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from analysis.sweepdir.layout import DONE, EVENTS
from orchestration.disk.files import append_line, now


class Attempt(NamedTuple):
    """Names one attempt of a sweep; used as a key."""

    arm: str
    seed: int
    attempt: int


class Journal:
    """Remembers what was written and appends to it. A line that a full disk cut off is skipped.

    begun, ended, finished: the attempts that have started, that have ended, and that ended with a result.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / EVENTS
        self.begun: set[Attempt] = set()
        self.ended: set[Attempt] = set()
        self.finished: set[Attempt] = set()
        written = self.path.read_bytes() if self.path.is_file() else b""
        if written and not written.endswith(b"\n"):
            with open(self.path, "ab") as file:
                file.write(b"\n")
        for line in written.splitlines():
            try:
                event = json.loads(line)
                self._note(Attempt(event["arm"], event["seed"], event["attempt"]), event["state"])
            except (ValueError, KeyError, TypeError):
                continue

    @property
    def open(self) -> set[Attempt]:
        """Return the attempts that have started and not ended."""
        return self.begun - self.ended

    def write(self, attempt: Attempt, state: str, reason: str | None = None, node: str | None = None) -> None:
        told = {"state": state, "reason": reason, "node": node}
        append_line(self.path, {"time": now(), **attempt._asdict(), **told})
        self._note(attempt, state)

    def _note(self, attempt: Attempt, state: str) -> None:
        if state == "running":
            self.begun.add(attempt)
        elif state == "pending":  # its node refused it
            self.begun.discard(attempt)
        else:
            self.ended.add(attempt)
            if state in DONE:
                self.finished.add(attempt)
