"""One driver a sweep: the lock that says who it is, and that ends with its owner.

The lock is the system's own on the open file, so the lock of a dead owner is free at once on its machine. Where the
directory is shared by machines whose file system does not pass locks on, the owner's heartbeat speaks: a file that
another host touched a moment ago is held.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import IO, Any

from analysis.sweepdir import LOCK
from orchestration.files import now

HEARTBEAT_S = 10.0
SILENT_S = 60.0  # so long without a heartbeat is dead


class HeldError(RuntimeError):
    """The sweep has a living owner; the message says who."""


class Lock:
    """The ownership of a sweep directory, from `__init__` to `release`. Raises HeldError.

    sweep: the identity of the sweep itself, which outlives its drivers; it marks all processes of its runs.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK
        directory.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise HeldError(f"{directory} is in use: {described(read_owner(directory))}.") from None
        before = read_owner(directory)
        age = time.time() - self.path.stat().st_mtime
        if before and before.get("released") is None and before.get("host") != socket.gethostname() and age < SILENT_S:
            self._file.close()
            raise HeldError(
                f"{directory} is in use: {described(before)}, last heard of {age:.0f} s ago. "
                f"If that machine is gone, try again in a minute."
            )
        self.sweep: str = before.get("sweep") or secrets.token_hex(8)
        self._owner: dict[str, Any] = {
            "sweep": self.sweep, "host": socket.gethostname(), "pid": os.getpid(), "user": _user(), "since": now(),
            "job": os.environ.get("RAY_JOB_SUBMISSION_ID"),
        }  # fmt: skip
        self._next_beat = 0.0
        self._write()

    def beat(self) -> bool:
        """Show that the owner lives, whether it was time to; cheap enough for every turn of a loop."""
        if time.monotonic() < self._next_beat:
            return False
        self._next_beat = time.monotonic() + HEARTBEAT_S
        os.utime(self.path)
        return True

    def release(self) -> None:
        self._owner["released"] = now()
        try:
            self._write()
        finally:
            self._file.close()

    def _write(self) -> None:
        # in place, not by rename: the lock is on this very file
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(self._owner) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_owner(directory: Path) -> dict[str, Any]:
    """What the lock says of its last owner; empty where there was none."""
    try:
        found = json.loads((directory / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def living_owner(directory: Path) -> dict[str, Any] | None:
    """The owner that is driving the sweep now; None where nobody is."""
    owner = read_owner(directory)
    if not owner or owner.get("released"):
        return None
    if owner.get("host") != socket.gethostname():
        return owner if time.time() - (directory / LOCK).stat().st_mtime < SILENT_S else None
    with open(directory / LOCK, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return owner
    return None


def described(owner: dict[str, Any]) -> str:
    job = f" (Ray job {owner['job']})" if owner.get("job") else ""
    return f"process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}{job}, since {owner.get('since')}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return str(os.getuid())
