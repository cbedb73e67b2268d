"""Watches a run from beside it: silent too long, past its deadline, its log cut off under it, or Ray gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from orchestration.worker import supervisor

DUMP_TIMEOUT_S = 10
LAST_BYTES = 256


class Watchdog:
    """Says when a run has to be ended. A run that prints nothing may be compiling, so silence has a long limit."""

    def __init__(self, log: Path, stall_timeout_s: float, deadline_s: float | None) -> None:
        self._log, self._stall_timeout_s, self._deadline_s = log, stall_timeout_s, deadline_s
        self._started = self._last_growth = time.monotonic()
        self._size, self._end = 0, b""
        self._parent = os.getppid()

    def fault(self) -> tuple[str, str] | None:
        """(state, reason) where the run must be ended, None while it may go on."""
        now = time.monotonic()
        if os.getppid() != self._parent:  # a Ray worker outlives a killed raylet by more than a minute
            return "lost", "the Ray process of its node went away"
        try:
            size, before, end = self._read()
        except FileNotFoundError:
            return "lost", f"{self._log} was taken away while the run wrote it"
        if size < self._size:
            return "lost", f"{self._log} was cut from {self._size} to {size} bytes while the run wrote it"
        if before != self._end:
            return "lost", f"{self._log} was cut or changed before byte {self._size} while the run wrote it"
        if size > self._size:
            self._size, self._end, self._last_growth = size, end, now
        if now - self._last_growth > self._stall_timeout_s:
            return "lost", f"hung: no line for {self._stall_timeout_s:g} s"
        if self._deadline_s is not None and now - self._started > self._deadline_s:
            return "failed", f"not done after {self._deadline_s:g} s, the deadline"
        return None

    def _read(self) -> tuple[int, bytes, bytes]:
        """The log's size, the bytes before its last size, and those before its end: a log that was cut grows again."""
        with open(self._log, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return size, _before(file, self._size), _before(file, size)

    def fault_at_the_end(self) -> tuple[str, str] | None:
        """The same once the run has ended: only a log that was cut still counts."""
        self._last_growth = time.monotonic()
        self._deadline_s = None
        self._parent = os.getppid()
        return self.fault()


def _before(file: BinaryIO, position: int) -> bytes:
    file.seek(max(0, position - LAST_BYTES))
    return file.read(min(position, LAST_BYTES))


def dump_stacks(pid: int, path: Path) -> bool:
    """Where the processes below `pid` stand, by py-spy; False where there is no py-spy or nothing may be looked at."""
    tool = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if tool is None:
        return False
    found = []
    for below in supervisor.descendants(pid):
        try:
            dump = subprocess.run(
                [tool, "dump", "--pid", str(below)], capture_output=True, timeout=DUMP_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if dump.returncode == 0:
            found.append(dump.stdout)
    if found:
        path.write_bytes(b"\n".join(found))
    return bool(found)
