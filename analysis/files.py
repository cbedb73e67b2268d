"""Files that somebody else wrote: found without leaving the folder, read in bounded memory.

A file is read once, up to the size it has when it is opened, and never more than LIMIT bytes of it are held. Links that
lead out of the folder, pipes and devices are not opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

LIMIT = 64 * 2**20
LONGEST_LINE = 2**20  # bytes; of a file above LIMIT, what a line has beyond this is passed over
LOG_SUFFIXES = (".log", ".txt")
_CHUNK = 2**20


class FileError(ValueError):
    """A file that cannot be read, as a sentence without its name: every caller prints the name its own way."""


@dataclass(slots=True)
class Listing:
    """The files below a folder, and what was left aside with the reason."""

    files: list[Path] = field(default_factory=list)
    left_aside: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def logs(self) -> list[Path]:
        return [path for path in self.files if path.name.endswith(LOG_SUFFIXES)]


def files_below(folder: Path) -> Listing:
    """Every file below a folder in name order, hidden folders aside."""
    listing = Listing()

    def refuse(error: OSError) -> None:
        listing.left_aside.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    root = os.path.realpath(folder)
    for current, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            path = Path(current, name)
            if path.is_symlink():
                listing.left_aside.append((path, "is a link to a folder, which is not followed"))
        for name in sorted(names):
            path = Path(current, name)
            if os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep):
                listing.left_aside.append((path, "is a link that leads out of the folder"))
            else:
                listing.files.append(path)
    return listing


def read_bounded(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a regular file, at most `limit` bytes, as long as it was when it was opened. Raises FileError.

    Above the limit, lines are cut after LONGEST_LINE bytes; line numbers stay right.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise FileError("is no regular file")
        try:
            if status.st_size <= limit:
                return file.read(status.st_size)
            kept = bytearray()
            for part in _short_lines(file, status.st_size):
                kept += part
                if len(kept) > limit:
                    raise FileError(f"holds more than {limit / 2**20:g} MiB, which no training log does")
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}") from None
    return bytes(kept)


def _short_lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file without what a line has beyond LONGEST_LINE."""
    length = 0  # of the line that is being read
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        size -= len(chunk)
        for position, part in enumerate(chunk.split(b"\n")):
            if position:
                yield b"\n"
                length = 0
            yield part[: max(0, LONGEST_LINE - length)]
            length += len(part)


def printable_path(path: Path) -> str:
    """A path as text that every format can hold, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
