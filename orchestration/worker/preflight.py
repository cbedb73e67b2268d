"""Before a run starts: nothing of an earlier one is left, the disk has room, the GPUs are free."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.worker import supervisor

MARKER = "SEEDPROOF_RUN"  # in the environment of every process of a run: sweep/arm/seed/attempt
READ_ONLY = "is on a read-only file system"
LEAST_FREE_BYTES = 64 * 2**20
GPU_LOCKS = Path("/tmp")  # noqa: S108  one place for all users, whatever their TMPDIR
BUSY_GPU_MIB = 1024  # an idle GPU shows some hundred MiB at most


def marker(sweep: str, arm: str, seed: int) -> str:
    """Return the beginning of what marks every process of a seed's run, whichever attempt."""
    return f"{sweep}/{arm}/{seed}/"


def end_leftovers(sweep: str, arm: str, seed: int, within_s: float = 10.0) -> list[int]:
    """Kill what earlier runs of the sweep left on this node: all of this seed's, and those of others without a supervisor.

    A daemon that forked twice outlives a supervisor that was itself killed. Return the processes found.
    """
    ended: list[int] = []
    own, deadline = marker(sweep, arm, seed), time.monotonic() + within_s
    while time.monotonic() < deadline:
        parents = supervisor.parents()
        marks = {pid: mark for pid in parents if pid != os.getpid() and (mark := _mark(pid, sweep))}
        left = [pid for pid, mark in marks.items() if mark.startswith(own) or not _is_supervised(pid, parents, marks)]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += [pid for pid in left if pid not in ended]
        time.sleep(0.05)
    return ended


def _mark(pid: int, sweep: str) -> str | None:
    """Return what marks a process of the sweep; None for another one's, and for what this user may not see."""
    wanted = f"{MARKER}={sweep}/".encode()
    found = next((one for one in _read(pid, "environ").split(b"\0") if one.startswith(wanted)), None)
    return None if found is None else found.decode("utf-8", "replace").partition("=")[2]


def _is_supervised(pid: int, parents: Mapping[int, int], marks: Mapping[int, str]) -> bool:
    while pid in parents:
        if pid in marks and b"supervisor.py" in _read(pid, "cmdline"):
            return True
        pid = parents[pid]
    return False


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it ended meanwhile, or is another user's
        return b""


def no_room(folder: Path) -> str | None:
    """Return why a run must not start on this disk, or None."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} {READ_ONLY}"
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE_BYTES:
        return None
    return f"{folder} has {free / 2**20:.0f} MiB of free disk; a run needs {LEAST_FREE_BYTES / 2**20:.0f} MiB"


def take_gpus(environment: Mapping[str, str], held: contextlib.ExitStack) -> str | None:
    """Take the run's GPUs until `held` is closed; return None, or which one somebody else uses.

    A run that has only begun shows no memory in use, and two sweeps with a Ray of their own know nothing of each other:
    a lock for every GPU, which the system frees with this process, keeps them apart. Without nvidia-smi there are no GPUs.
    """
    with contextlib.ExitStack() as taken:
        for gpu in _own_gpus(environment):
            if gpu.used.isdigit() and int(gpu.used) > BUSY_GPU_MIB:
                return f"GPU {gpu.index} has {gpu.used} MiB in use by another process"
            try:
                lock = _opened(GPU_LOCKS / f"seedproof-{gpu.uuid}.lock")
                taken.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"GPU {gpu.index} is taken by another sweep"
            except OSError:
                continue  # no file or lock can be had here: the memory alone decides
        held.push(taken.pop_all())
    return None


@dataclass(frozen=True, slots=True)
class _Gpu:
    index: str
    uuid: str
    used: str  # MiB


def _own_gpus(environment: Mapping[str, str]) -> Iterator[_Gpu]:
    """Yield the GPUs that a run in this environment sees."""
    mine = environment.get("CUDA_VISIBLE_DEVICES")
    tool = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if tool is None or mine == "":
        return
    query = [tool, "--query-gpu=index,uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    wanted = None if mine is None else {name.strip() for name in mine.split(",")}
    for line in found.stdout.splitlines():
        gpu = _Gpu(*([part.strip() for part in line.split(",")] + ["", ""])[:3])
        if gpu.uuid and (wanted is None or wanted & {gpu.index, gpu.uuid}):  # a line without a UUID is an error message
            yield gpu


def _opened(lock: Path) -> int:
    """Open a file that all users may lock; make it if it does not exist."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(lock, flags)
    with contextlib.suppress(FileExistsError):  # somebody else has made it meanwhile
        made = os.open(lock, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(made, 0o644)  # whatever the umask
        return made
    return os.open(lock, flags)
