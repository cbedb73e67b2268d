"""What keeps Ray from starting a worker, read from Ray's own logs. Imports no Ray.

Ray itself does not report it: it retries for ever, and the task waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestration.worker.facts import plain

MOST_READ, MOST_QUOTED = 2**18, 200  # bytes a file and look, characters
FILES = ("raylet*.err", "raylet*.out", "worker-*.err", "runtime_env*.log", "python-core-worker-*.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """kind: the same for the same failure. sentence: the cause, what to do and the line that says it."""

    kind: str
    sentence: str


Look = Callable[[], Cause | None]

# (kind, what a line says, the cause, what to do); the first match counts, so exact rows come first. In a cause
# or a cure, {0} is the first group.
PATTERNS = (
    (
        "interpreter",
        r"^(?:ba)?sh: (?:line \d+: )?(?:exec: )?(.+?): (?:cannot execute|No such file or directory|Permission denied|not found)",
        "Ray cannot start Python at {0} on the run's node",
        "if the path is cut off at a blank, start Ray from an environment without a blank in its path; otherwise make the "
        "environment again",
    ),
    (
        "processes",
        r"fork: (?:retry: )?Resource temporarily unavailable|pthread_create failed|can't start new thread",
        "the system gives Ray no more processes",
        "raise `ulimit -u`, or end what runs there",
    ),
    (
        "files",
        r"Too many open files|Too many workers, failed to create a file",
        "the system gives Ray no more open files",
        "raise `ulimit -n`",
    ),
    (
        "version",
        r"Version mismatch|(?:Python|Ray) (?:patch )?version mismatch|bad magic number in",
        "the node's version of Python or Ray is not the driver's",
        "install the same versions on every node",
    ),
    (
        "memory",
        r"killed due to (?:memory pressure|the node running low on memory)|running low on memory",
        "Ray's memory monitor ended the worker because the node's memory was nearly full",
        "end what uses the memory, or start fewer runs a node (--cpus-per-run)",
    ),
    (
        "shm",
        r"/dev/shm.*(?:No space|full|too small|free up space)|(?:No space|free up space).*/dev/shm",  # noqa: S108
        "the node's /dev/shm is full",
        "delete what is left there or, in a container, raise --shm-size",
    ),
    (
        "disk",
        r"No space left on device|Out of disk space|Disk quota exceeded",
        "the disk of Ray's folder is full",
        "make room, or name a folder on another disk with RAY_TMPDIR",
    ),
    (
        "environment",
        r"Failed to create runtime env|Couldn't create a runtime environment|Failed to setup runtime env|RuntimeEnvSetupError",
        "Ray cannot make the run's environment",
        "start Ray from the environment that this driver runs in",
    ),
    (
        "module",
        r"^(?:ModuleNotFoundError|ImportError): (.+)",
        "the node's Python lacks a package that a worker needs",
        "install the same packages on every node",
    ),
    (
        "busy",
        r"node timed out during startup",
        "Ray did not start within its own limit of 30 s",
        "this machine may be too busy: try again, or end other work first",
    ),
    (
        "crash",
        r"have not registered within the timeout",
        "Ray's worker process ended, or hung, before it was ready",
        "read the worker-*.err next to this log",
    ),
)


def cause_in(text: str, where: str) -> Cause | None:
    """Return the cause that a text gives; `where` names the file or message that holds the text."""
    for kind, pattern, cause, cure in PATTERNS:
        if found := re.search(pattern, text, re.MULTILINE | re.IGNORECASE):
            start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
            line = " ".join(plain(text[start : end if end >= 0 else None]).split())[:MOST_QUOTED]
            said = cause.format(*(plain(group or "") for group in found.groups()))
            return Cause(kind=kind, sentence=f'{said}: {cure} ({where}: "{line}")')
    return None


class RayLogs:
    """The logs of one session, from the moment this is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._from = self._sizes()

    def cause(self) -> Cause | None:
        """Return what the logs have said since the last look of a worker that cannot start; the likeliest cause first."""
        found = [cause for path in self._sizes() if (cause := cause_in(self._new(path), path.name))]
        kinds = [kind for kind, *_ in PATTERNS]
        return min(found, key=lambda cause: kinds.index(cause.kind), default=None)

    def _sizes(self) -> dict[Path, int]:
        return {path: path.stat().st_size for pattern in FILES for path in self.folder.glob(pattern) if path.is_file()}

    def _new(self, path: Path) -> str:
        """Return what a log has gained. Each whole line is read once: many runs may wait, for long, beside many logs."""
        start = self._from.get(path, 0)
        try:
            with open(path, "rb") as file:
                file.seek(start)
                content = file.read(MOST_READ)
        except OSError:
            return ""
        self._from[path] = start + content.rfind(b"\n") + 1
        return content.decode("utf-8", "replace")
