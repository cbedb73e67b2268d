"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes | str, *, new: bool = False) -> None:
    """Write a file next to its place, flush it to disk, rename it: a reader sees the old file or the new one, never a part.

    new: raise FileExistsError if the file exists, even if somebody else is making it at this moment.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb", opener=_own) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(partial, path)
        else:
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it has got its name, or its disk is in trouble
            partial.unlink()


def _own(path: str, flags: int) -> int:
    """Open a file, but no link or pipe in its place: a script can write to its run's folder."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def write_json(path: Path, content: Mapping[str, Any], *, new: bool = False) -> None:
    write_whole(path, json.dumps(content, indent=1) + "\n", new=new)


def write_code(directory: Path, code: Mapping[str, bytes]) -> None:
    """Write the files of a sweep's code, read-only."""
    for name, content in code.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        path.chmod(0o444)


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """Return the time with its zone, as all our files write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
