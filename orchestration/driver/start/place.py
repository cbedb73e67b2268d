"""Choose the folder for the sockets and logs of our own Ray. Imports no Ray.

Ray puts sockets below its folder for temporary files. The system refuses a socket whose path is longer than about a hundred
bytes, and Ray one whose path is not ASCII, so TMPDIR cannot always be that folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from analysis.untrusted.refusal import UsageError

LONGEST_SOCKET = 107 if sys.platform.startswith("linux") else 103  # bytes
OF_RAY = len("/session_2026-11-29_23-37-55_543137_1234567/sockets/plasma_store")
PREFIX, OF_OURS = "sp-", len("/sp-abcdefgh")
USUAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  short, and on every machine
CLEAN_S = 3.0  # Ray's last processes may still write while it is removed


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFolder:
    """ray: the folder of our own Ray. printed: the file that takes what Ray prints on the driver's terminal."""

    ray: Path
    printed: Path


@contextmanager
def ray_folder(environment: Mapping[str, str], *, own: bool) -> Iterator[RayFolder]:
    """Yield where Ray may write, and remove it afterwards; what the user named by RAY_TMPDIR stays. Raises UsageError.

    own: whether we start our own Ray; on a cluster the folder only takes what Ray prints.
    """
    if own and (given := environment.get("RAY_TMPDIR")):
        folder = Path(given) / "ray"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if why := unusable(given, len("/ray")):
            raise UsageError(f"RAY_TMPDIR={given} cannot be used: {why}; name another folder, or unset it.")
        yield RayFolder(ray=folder, printed=folder / f"driver-{os.getpid()}.err")
        return
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=short_folder(environment) if own else None))
    try:
        yield RayFolder(ray=folder, printed=folder / "driver.err")
    finally:
        deadline = time.monotonic() + CLEAN_S
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.02)


def short_folder(environment: Mapping[str, str]) -> str:
    """Return the first folder for temporary files that Ray can use: TMPDIR, or one of the usual. Raises UsageError."""
    reasons = []
    for folder in dict.fromkeys(filter(None, (environment.get("TMPDIR"), *USUAL))):
        if (why := unusable(folder, OF_OURS)) is None:
            return folder
        reasons.append(f"{folder} ({why})")
    raise UsageError(
        f"Ray finds no folder for its sockets: {', '.join(reasons)}. Name a short one that you may write to with RAY_TMPDIR."
    )


def unusable(folder: str, more: int) -> str | None:
    """Return why Ray cannot make its own folder in this one, None if it can; `more`: the bytes of that folder's name."""
    longest = LONGEST_SOCKET - OF_RAY - more
    if not folder.isascii():
        return "Ray takes only ASCII letters"
    if not os.path.isabs(folder):
        return "it does not begin with /"
    if len(folder.rstrip("/")) > longest:
        return f"it has {len(folder)} bytes and a socket's name leaves room for {longest}"
    if not os.path.exists(folder):
        return "it does not exist"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # a read-only or full disk shows only then
            file.write(bytes(4096))
    except OSError:
        return "it cannot be written to"
    return None
