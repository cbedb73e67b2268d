"""One driver a sweep: the lock that says who it is, and that ends with its owner.

The lock is the system's own on the open file, so the lock of a dead owner is free at once on its machine. Where the
directory is shared by machines whose file system does not pass locks on, the owner's heartbeat speaks: a file that
another host touched a moment ago is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from analysis.sweepdir.layout import LOCK
from orchestration.disk.files import now

HEARTBEAT_S = 10.0
SILENT_S = 60.0  # so long without a heartbeat is dead


class HeldError(RuntimeError):
    """The sweep has a living owner; the message says who."""


class Lock:
    """The ownership of a sweep directory, from `__init__` to `release`. Raises HeldError.

    sweep: the identity of the sweep itself, which outlives its drivers; it marks all processes of its runs.
    driver: that of this owner; a node that reads another one does not share the directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        directory.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        before = read_owner(directory)
        age = time.time() - self._path.stat().st_mtime
        silent = not before or before.get("released") or age >= SILENT_S or not alive(before)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = not _of_this_machine(before) and not silent  # here the system would know of a living owner's lock
        except BlockingIOError:
            held = True
        except OSError:  # a file system without locks: the heartbeat alone speaks
            held = not silent
        if held:
            os.close(self._handle)
            raise HeldError(f"{directory} is in use: {described(before)}, last heard of {age:.0f} s ago. "
                            f"If that machine is gone, try again in a minute.")  # fmt: skip
        self.sweep: str = before.get("sweep") or secrets.token_hex(8)
        self.driver = secrets.token_hex(8)
        self._owner: dict[str, Any] = {
            "sweep": self.sweep, "driver": self.driver, "host": socket.gethostname(), "pid": os.getpid(), "user": _user(),
            "since": now(), "space": _space(), "job": os.environ.get("RAY_JOB_SUBMISSION_ID"),
        }  # fmt: skip
        self.taken = False  # by another driver, which heard nothing of this one for too long
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        try:
            self._write()
        except OSError:
            os.close(self._handle)
            raise

    @property
    def content(self) -> bytes:
        """The owner as the file says it."""
        return (json.dumps(self._owner) + "\n").encode()

    def adopt(self, sweep: str) -> None:
        """Take over the identity of a sweep that came from its copy."""
        self.sweep = self._owner["sweep"] = sweep
        self._write()

    def beat(self) -> None:
        """Show from now on that the owner lives."""
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while True:
            self._look()
            if self.taken:
                return
            with contextlib.suppress(OSError):  # a full disk is the driver's to say
                os.utime(self._path)
            if self._over.wait(HEARTBEAT_S):
                return

    def _look(self) -> None:
        other = read_owner(self._path.parent).get("driver")
        self.taken = self.taken or other not in (None, self.driver)

    def release(self) -> None:
        self._over.set()
        if self._heart is not None:
            self._heart.join()
        self._owner["released"] = now()
        self._look()
        try:
            if not self.taken:
                self._write()
        finally:
            os.close(self._handle)

    def _write(self) -> None:
        # in place, not by rename: the lock is on this very file; on a full disk the old content stays
        os.pwrite(self._handle, self.content, 0)
        os.ftruncate(self._handle, len(self.content))
        os.fsync(self._handle)


def read_owner(directory: Path) -> dict[str, Any]:
    """What the lock says of its last owner; empty where there was none."""
    try:
        found = json.loads((directory / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def alive(owner: dict[str, Any]) -> bool:
    """Whether an owner's process is there, as far as this host can tell."""
    here = owner.get("host") == socket.gethostname() and owner.get("space") == _space()
    if not here or not isinstance(owner.get("pid"), int):
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _of_this_machine(owner: dict[str, Any]) -> bool:
    """Whether an owner's lock would be seen here; two machines may have one name."""
    kernels = [str(space).partition("pid:")[0] for space in (owner.get("space"), _space()) if space]
    return owner.get("host") == socket.gethostname() and len({*kernels}) < 2


def _space() -> str | None:
    """What numbers of processes belong to: the kernel and, as containers may share it, the part of it that they are in."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def living_owner(directory: Path) -> dict[str, Any] | None:
    """The owner that is driving the sweep now; None where nobody is."""
    owner = read_owner(directory)
    if not owner or owner.get("released"):
        return None
    silent = time.time() - (directory / LOCK).stat().st_mtime >= SILENT_S or not alive(owner)
    if not _of_this_machine(owner):
        return None if silent else owner
    with open(directory / LOCK, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return owner
        except OSError:
            return None if silent else owner
    return None


def described(owner: dict[str, Any]) -> str:
    if not owner:
        return "its lock is held, and says not by whom"
    job = f" (Ray job {owner['job']})" if owner.get("job") else ""
    return f"process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}{job}, since {owner.get('since')}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return str(os.getuid())
