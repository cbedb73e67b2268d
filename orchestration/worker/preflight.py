"""Before a run starts: nothing of an earlier one is left, the disk has room, the GPUs are free."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

MARKER = "SEEDPROOF_RUN"  # in the environment of every process of a run: sweep/arm/seed/attempt
LEAST_FREE_BYTES = 64 * 2**20
GPU_LOCKS = Path("/tmp")  # noqa: S108  one place for all users, whatever their TMPDIR
BUSY_GPU_MIB = 1024  # an idle GPU shows some hundred MiB at most


def marker(sweep: str, arm: str, seed: int) -> str:
    """The beginning of what marks every process of a seed's run, whichever attempt."""
    return f"{sweep}/{arm}/{seed}/"


def end_leftovers(sweep: str, arm: str, seed: int, within_s: float = 10.0) -> list[int]:
    """Kill what earlier runs of the sweep left on this node: all of this seed's, and of others what has no supervisor.

    A daemon that forked twice outlives a supervisor that was itself killed. Returns the processes that were there.
    """
    ended: list[int] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        parents, marks, supervisors = _processes(sweep)
        own = marker(sweep, arm, seed)
        left = [pid for pid, mark in marks.items() if mark.startswith(own) or not _below(pid, parents, supervisors)]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += [pid for pid in left if pid not in ended]
        time.sleep(0.05)
    return ended


def _processes(sweep: str) -> tuple[dict[int, int], dict[int, str], set[int]]:
    """Of all living processes the parent; of those of the sweep the mark; and which are supervisors."""
    parents: dict[int, int] = {}
    marks: dict[int, str] = {}
    supervisors: set[int] = set()
    wanted = f"{MARKER}={sweep}/".encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        try:
            state, parent = Path(f"/proc/{name}/stat").read_bytes().rsplit(b")", 1)[1].split()[:2]
            if state == b"Z":
                continue
            parents[pid] = int(parent)
            environment = Path(f"/proc/{name}/environ").read_bytes()
            if wanted not in environment:
                continue
            value = next(v for v in environment.split(b"\0") if v.startswith(wanted))
            if b"supervisor.py" in Path(f"/proc/{name}/cmdline").read_bytes():
                supervisors.add(pid)
        except (OSError, StopIteration, IndexError):
            continue  # it ended meanwhile, or is another user's
        marks[pid] = value.decode("utf-8", "replace").partition("=")[2]
    return parents, marks, supervisors


def _below(pid: int, parents: dict[int, int], supervisors: set[int]) -> bool:
    while pid in parents:
        if pid in supervisors:
            return True
        pid = parents[pid]
    return False


def no_room(folder: Path) -> str | None:
    """Why a run must not start on this disk, None when it may."""
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE_BYTES:
        return None
    return f"{folder} has {free / 2**20:.0f} MiB of free disk; a run needs {LEAST_FREE_BYTES / 2**20:.0f} MiB"


def take_gpus(environment: Mapping[str, str], held: contextlib.ExitStack) -> str | None:
    """Take the run's GPUs until `held` is closed; which one somebody else is using, None when all are taken.

    A run that has only begun shows no memory in use, and two sweeps with a Ray of their own know nothing of each other:
    a lock for every GPU, which the system frees with this process, keeps them apart. Without nvidia-smi there is none.
    """
    mine = environment.get("CUDA_VISIBLE_DEVICES")
    tool = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if tool is None or mine == "":
        return None
    query = [tool, "--query-gpu=index,uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    wanted = None if mine is None else {name.strip() for name in mine.split(",")}
    with contextlib.ExitStack() as taken:
        for line in found.stdout.splitlines():
            index, uuid, used = ([part.strip() for part in line.split(",")] + ["", ""])[:3]
            if not uuid or (wanted is not None and not wanted & {index, uuid}):
                continue  # what is no GPU of the run's, or no GPU: an error
            if used.isdigit() and int(used) > BUSY_GPU_MIB:
                return f"GPU {index} has {used} MiB in use by another process"
            try:
                lock = _opened(GPU_LOCKS / f"seedproof-{uuid}.lock")
                taken.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"GPU {index} is taken by another sweep"
            except OSError:
                continue  # no file or no lock can be had here: the memory alone speaks
        held.push(taken.pop_all())
    return None


def _opened(lock: Path) -> int:
    """A file that all users may lock, made where it is not there."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(lock, flags)
    with contextlib.suppress(FileExistsError):  # another has made it meanwhile
        made = os.open(lock, flags | os.O_CREAT | os.O_EXCL)
        os.fchmod(made, 0o644)  # whatever the umask
        return made
    return os.open(lock, flags)
