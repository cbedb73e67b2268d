"""Watch a run: silent too long, past its deadline, its log cut or too long to be read, or Ray gone."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from analysis.untrusted.files import LIMIT
from orchestration.disk.files import write_whole
from orchestration.worker import supervisor
from orchestration.worker.outcome import Outcome

TOO_LONG = f"its log grew beyond {LIMIT / 2**20:g} MiB, the most that is read: print less"
MOST_LOG_BYTES = LIMIT + 1  # one more than is read, so that a log that was cut there is not taken for a whole one
DUMP_TIMEOUT_S = 10
LAST_BYTES = 256


class Watchdog:
    """Decide when a run must be ended. A run that prints nothing may be compiling, so the limit on silence is long."""

    def __init__(self, log: Path, stall_timeout_s: float, deadline_s: float | None) -> None:
        self._log, self._stall_timeout_s, self._deadline_s = log, stall_timeout_s, deadline_s
        self._started = self._last_growth = time.monotonic()
        self._size, self._end = 0, b""
        self._parent = os.getppid()

    def fault(self) -> Outcome | None:
        """Return the outcome of a run that must be ended, None while it may go on."""
        now = time.monotonic()
        if os.getppid() != self._parent:  # a Ray worker outlives a killed raylet by more than a minute
            return Outcome(state="lost", reason="the Ray process of its node went away")
        if reason := self._log_fault(now):
            return Outcome(state="lost", reason=reason)
        if self.too_long:
            return Outcome(state="failed", reason=TOO_LONG)
        if now - self._last_growth > self._stall_timeout_s:
            return Outcome(state="lost", reason=f"hung: no line for {self._stall_timeout_s:g} s")
        if self._deadline_s is not None and now - self._started > self._deadline_s:
            return Outcome(state="failed", reason=f"not done after {self._deadline_s:g} s, the deadline")
        return None

    @property
    def too_long(self) -> bool:
        """Return whether the log was longer than what is read of a log, when last looked."""
        return self._size > LIMIT

    def fault_at_the_end(self) -> Outcome | None:
        """Return the same once the run has ended: only its log counts then."""
        if reason := self._log_fault(time.monotonic()):
            return Outcome(state="lost", reason=reason)
        return Outcome(state="failed", reason=TOO_LONG) if self.too_long else None

    def _log_fault(self, now: float) -> str | None:
        """Return how the log was cut or changed since the last call, or None."""
        try:
            with open(self._log, "rb", opener=itself) as file:
                size = os.fstat(file.fileno()).st_size
                before, end = _before(file, self._size), _before(file, size)  # a log that was cut grows again
        except FileNotFoundError:
            return f"{self._log} was taken away while the run wrote it"
        except OSError as error:  # a file system that is away for a while; if it stays away, the log does not grow
            return f"{self._log} was replaced by a link" if error.errno == errno.ELOOP else None
        if size < self._size:
            return f"{self._log} was cut from {self._size} to {size} bytes while the run wrote it"
        if before != self._end:
            return f"{self._log} was cut or changed before byte {self._size} while the run wrote it"
        if size > self._size:
            self._size, self._end, self._last_growth = size, end, now
        return None


def itself(path: str, flags: int) -> int:
    """Open a log that its script may have replaced meanwhile: follow no link, wait for no pipe. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def cut(log: Path) -> None:
    """Cut a log that is longer than what is read of one; leave alone what its script put in its place."""
    with contextlib.suppress(OSError), open(log, "r+b", opener=itself) as file:
        file.truncate(MOST_LOG_BYTES)


def _before(file: BinaryIO, position: int) -> bytes:
    """Return the last bytes before a position."""
    file.seek(max(0, position - LAST_BYTES))
    return file.read(min(position, LAST_BYTES))


def dump_stacks(pid: int, path: Path) -> bool:
    """Write the stacks of the processes below `pid`, as py-spy shows them; return False if it shows none."""
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
    try:
        if found:
            write_whole(path, b"\n".join(found))
    except OSError:  # a full disk, which may be the very reason
        return False
    return bool(found)
