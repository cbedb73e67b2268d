"""Runs between a Ray worker and torchrun, so that nothing of a run outlives it.

    python supervisor.py COMMAND...

torchrun starts ranks in sessions of their own, so killing a process group is not enough. This process becomes the
reaper of all its descendants, reads a pipe from the worker on stdin and takes its end as "my parent is gone". On any
ending (end of the pipe, SIGTERM, the command's own exit) the command gets SIGTERM, then, after a grace period, every
descendant gets SIGKILL until none is left. It exits with the command's exit code, or 128 + the signal that ended it.

It also gives the command what a bare torchrun sees: niceness 0, no blocked signals, no raised out-of-memory score.

Standard library only. Without Linux's /proc and prctl it falls back to the command's process group and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 5.0


def become_reaper() -> bool:
    """Adopt orphaned descendants, and get SIGTERM when the parent dies. Return False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    done = bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    done &= bool(libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)  # it died before the request was in place
    return done


def restore_scheduling() -> None:
    """Undo what Ray does to its workers' children, as far as this user may."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")


def parents() -> dict[int, int]:
    """Return the parent of every living process, from /proc."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # it may end meanwhile
                state, parent = file.read().rsplit(b")", 1)[1].split()[:2]
                if state != b"Z":
                    found[int(name)] = int(parent)
    return found


def descendants(root: int) -> list[int]:
    """Return all living processes below `root`."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def reap(command: subprocess.Popen[bytes]) -> None:
    """Collect every finished child, adopted ones too; give the command's own status to its Popen."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == command.pid:
                command.returncode = os.waitstatus_to_exitcode(found[1])


def end_all(command: subprocess.Popen[bytes], reaper: bool) -> None:
    """Send SIGTERM to the command and, after the grace period, SIGKILL to whatever is left."""
    deadline = time.monotonic() + GRACE_S
    if command.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, signal.SIGTERM)
    while command.returncode is None and time.monotonic() < deadline:
        time.sleep(0.02)
        reap(command)
    while left := descendants(os.getpid()) if reaper else [-command.pid] if command.returncode is None else []:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        reap(command)


def main(arguments: list[str]) -> int:
    reaper = become_reaper()
    if not reaper:
        print("supervisor: this is not Linux; a killed run may leave processes behind.", file=sys.stderr, flush=True)
    restore_scheduling()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    command = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, start_new_session=True)
    while command.returncode is None and not asked_to_end:
        ready, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            reap(command)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            break
    end_all(command, reaper)
    code = -signal.SIGKILL if command.returncode is None else command.returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
