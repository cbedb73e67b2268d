"""The lock of a sweep: who drives it.

It is the system's own lock on the open file, so a dead driver's lock frees at once on its machine. Where machines share
the directory and their file system does not pass locks on, the heartbeat decides: a lock that another host touched less
than SILENT_S ago is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import math
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from analysis.sweepdir.json_files import of_type
from analysis.sweepdir.layout import LOCK
from analysis.untrusted.files import read_small
from analysis.untrusted.refusal import SeedproofError
from orchestration.disk.files import now

HEARTBEAT_S = 10.0
LARGEST_LOCK = 2**16  # bytes
SILENT_S = 60.0  # an owner without a heartbeat for so long is dead


class HeldError(SeedproofError):
    """A sweep that a living driver owns; the message says who."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The driver that a lock names; every field is None where it does not say.

    sweep: the sweep's own identity, which outlives its drivers and marks all processes of its runs.
    driver: the identity of this driver; a node that reads another one does not share the directory.
    space: the kernel and the namespace that the pid belongs to. job: the Ray job. released: when the lock was given back.
    """

    sweep: str | None = None
    driver: str | None = None
    host: str | None = None
    pid: int | None = None
    user: str | None = None
    since: str | None = None
    space: str | None = None
    job: str | None = None
    released: str | None = None

    @classmethod
    def of(cls, content: bytes) -> Owner:
        """Read the content of a lock. Raises ValueError."""
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("a lock holds a JSON object")
        kinds = {one.name: int if one.name == "pid" else str for one in fields(cls)}
        return cls(**{name: of_type(found.get(name), kind) for name, kind in kinds.items()})

    @property
    def content(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()

    def __str__(self) -> str:
        if self == Owner():
            return "its lock is held, and does not say by whom"
        job = f" (Ray job {self.job})" if self.job else ""
        return f"process {self.pid} of {self.user} on {self.host}{job}, since {self.since}"

    @property
    def alive(self) -> bool:
        """Return whether its process exists, as far as this host can tell."""
        pid = self.pid_here
        if pid is None:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            pass
        return True

    @property
    def pid_here(self) -> int | None:
        """Return its pid where that names a process of this host and of our part of it, else None."""
        return self.pid if self.host == socket.gethostname() and self.space == _space() else None

    @property
    def of_this_machine(self) -> bool:
        """Return whether its lock would be seen here; two machines may have one name."""
        kernels = {space.partition("pid:")[0] for space in (self.space, _space()) if space}
        return self.host == socket.gethostname() and len(kernels) < 2

    def silent(self, age_s: float) -> bool:
        """Return whether it no longer drives, as its process and the age of its last heartbeat tell."""
        return self.released is not None or age_s >= SILENT_S or not self.alive


class Lock:
    """The ownership of a sweep directory, from `__init__` to `release`. Raises HeldError.

    was_damaged: the file did not say who had the sweep. taken: another driver has taken it over, because it heard nothing of
    this one for too long.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        directory.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        before, age = read_owner(directory), time.time() - self._path.stat().st_mtime
        self._heard_before = time.time() - age  # when the last driver showed that it lived
        self.was_damaged = before == Owner() and self._path.stat().st_size > 0
        silent = before == Owner() or before.silent(age)
        if self._is_held(before, silent=silent):
            os.close(self._handle)
            raise HeldError(in_use(directory, before, age))
        self.sweep, self.driver = before.sweep or secrets.token_hex(8), secrets.token_hex(8)
        self.owner = Owner(
            sweep=self.sweep,
            driver=self.driver,
            host=socket.gethostname(),
            pid=os.getpid(),
            user=_user(),
            since=now(),
            space=_space(),
            job=os.environ.get("RAY_JOB_SUBMISSION_ID"),
        )
        self.taken = False
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        try:
            self._write()
        except OSError:
            os.close(self._handle)
            raise

    def _is_held(self, before: Owner, *, silent: bool) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks: the heartbeat alone decides
            return not silent
        return not before.of_this_machine and not silent  # on this machine a living owner's lock would have been seen

    def lived(self, started: datetime | None) -> float | None:
        """Return how many seconds a run of the last driver can have lasted at most: it ends with its driver, or soon after."""
        if started is None:
            return None
        return round(max(0.0, self._heard_before + HEARTBEAT_S - started.timestamp()), 3)

    def adopt(self, sweep: str) -> None:
        """Take over the identity of a sweep that came from its copy."""
        self.sweep = sweep
        self.owner = replace(self.owner, sweep=sweep)
        self._write()

    def beat(self) -> None:
        """Start to show that the owner lives."""
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while True:
            self._look()
            if self.taken:
                return
            with contextlib.suppress(OSError):  # the driver itself reports a full disk
                os.utime(self._path)
            if self._over.wait(HEARTBEAT_S):
                return

    def _look(self) -> None:
        self.taken = self.taken or read_owner(self._path.parent).driver not in (None, self.driver)

    def release(self) -> None:
        self._over.set()
        if self._heart is not None:
            self._heart.join()
        self.owner = replace(self.owner, released=now())
        self._look()
        try:
            if not self.taken:
                self._write()
        finally:
            os.close(self._handle)

    def _write(self) -> None:
        # in place, because the lock is on this very file; on a full disk the old content stays
        content = self.owner.content
        os.pwrite(self._handle, content, 0)
        os.ftruncate(self._handle, len(content))
        os.fsync(self._handle)


def in_use(where: object, owner: Owner, age_s: float) -> str:
    return (
        f"{where} is in use: {owner}, last heard of {age_s:.0f} s ago. If that machine is gone, try again in a minute."
    )


def read_owner(directory: Path) -> Owner:
    """Return the last owner that the lock names; an empty one if there was none, or if the file is no lock of ours."""
    try:
        return Owner.of(read_small(directory / LOCK, LARGEST_LOCK))
    except (ValueError, RecursionError):
        return Owner()


def living_owner(directory: Path) -> Owner | None:
    """Return the owner that drives the sweep now, or None."""
    owner = read_owner(directory)
    if owner == Owner() or owner.released:
        return None
    silent = owner.silent(_age_s(directory))
    if owner.of_this_machine:
        with contextlib.suppress(OSError):  # a file system without locks, or a sweep that was deleted just now
            with open(directory / LOCK, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return owner
            return None
    return None if silent else owner


def _age_s(directory: Path) -> float:
    """Return how long ago the lock was touched; infinity if it is gone."""
    try:
        return time.time() - (directory / LOCK).stat().st_mtime
    except OSError:
        return math.inf


def _space() -> str | None:
    """Return what pids belong to: the kernel and, because containers may share it, their part of it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return str(os.getuid())
