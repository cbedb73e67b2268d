"""The journal of a sweep, events.jsonl: every change of a run's state, appended and on disk before anything follows."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.sweepdir.layout import EVENTS
from orchestration.disk.files import append_line, now

Attempt = tuple[str, int, int]  # arm, seed, number


class Journal:
    """What was written so far, and more of it. A line that a full disk cut off says nothing.

    begun, ended, finished: the attempts that have started, whose end has been told, and that have a result.
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
                self._note((event["arm"], event["seed"], event["attempt"]), event["state"])
            except (ValueError, KeyError, TypeError):
                continue

    def write(self, attempt: Attempt, state: str, reason: str | None, node: str | None) -> None:
        arm, seed, number = attempt
        append_line(self.path, {"time": now(), "arm": arm, "seed": seed, "attempt": number, "state": state,
                                "reason": reason, "node": node})  # fmt: skip
        self._note(attempt, state)

    def _note(self, attempt: Attempt, state: str) -> None:
        if state == "running":
            self.begun.add(attempt)
        elif state == "pending":  # its node refused it
            self.begun.discard(attempt)
        else:
            self.ended.add(attempt)
            if state in ("succeeded", "failed"):
                self.finished.add(attempt)
