"""Find and read files that somebody else wrote, without leaving the folder and in bounded memory.

A file is read once, up to the size it has when it is opened; never more than LIMIT bytes of it are held. Links that
lead out of the folder, pipes and devices are not opened.

Everything that a command reads in a folder comes out of one budget, so that no folder takes more than 10 seconds and 1 GB.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

LIMIT = 64 * 2**20
LONGEST_LINE = 2**20  # bytes; in a file above LIMIT, the rest of a longer line is skipped
LARGEST_FILE = 2**32  # bytes; nothing of a larger file is read
DEEPEST = 50  # folders
MOST_FILES = 50_000  # of one folder
MOST_WORK = 3 * 2**27  # of one folder, counted in bytes read; slower work counts as more bytes
MOST_RUNS = 2000  # of one folder; a plan has at most 1000 seeds in each of two arms
# Windows lacks most of these, and there alone O_BINARY keeps a file's bytes as they are
PLAIN = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
NO_LINK: int = PLAIN | getattr(os, "O_NOFOLLOW", 0)
LOG_SUFFIXES = (".log", ".txt", ".out")
PROSE = ("readme", "changelog", "contributing", "licence", "license")  # begin names of texts that may quote a log


class FileError(ValueError):
    """A file that cannot be read: a sentence without the file's name, which every caller prints in its own way."""


class OverBudgetError(FileError):
    """A file that is not read because the files before it used up the budget of the folder."""


@dataclass(slots=True, kw_only=True)
class _Budget:
    """What may still be read. most: the work that there was at first."""

    work: int
    most: int
    runs: int = MOST_RUNS


_BUDGET: ContextVar[_Budget | None] = ContextVar("budget", default=None)
_NOTICE: ContextVar[Callable[[Path], None] | None] = ContextVar("notice", default=None)


@contextlib.contextmanager
def noticing(notice: Callable[[Path], None]) -> Iterator[None]:
    """Call `notice` with each log that is read inside the block, so that it can show progress."""
    before = _NOTICE.set(notice)
    try:
        yield
    finally:
        _NOTICE.reset(before)


@contextlib.contextmanager
def one_budget(work: int = MOST_WORK) -> Iterator[None]:
    """Charge everything that is read inside to one budget. Without a budget, only each file by itself is bounded."""
    before = _BUDGET.set(_Budget(work=work, most=work))
    try:
        yield
    finally:
        _BUDGET.reset(before)


def spend(work: int, *, runs: int = 0) -> None:
    """Take work and found runs from the budget. Raises OverBudgetError if not enough is left."""
    budget = _BUDGET.get()
    if budget is None:
        return
    budget.work -= work
    budget.runs -= runs
    if budget.work < 0:
        raise OverBudgetError(
            f"exceeds what is read of one folder ({budget.most / 2**20:g} MiB; lines that are not steps count more)"
        )
    if budget.runs < 0:
        raise OverBudgetError(f"brings this folder to more than {MOST_RUNS} runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAside:
    """A path that was not read, and why, as the end of a sentence. `is_link`: it leads elsewhere."""

    path: Path
    why: str
    is_link: bool = False


@dataclass(slots=True)
class Listing:
    """The files below a folder, and what was left aside, each with the reason."""

    files: list[Path] = field(default_factory=list)
    left_aside: list[LeftAside] = field(default_factory=list)

    @property
    def logs(self) -> list[Path]:
        return [path for path in self.files if has_log_name(path)]

    def leave_aside(self, path: Path, why: str, *, is_link: bool = False) -> None:
        """Note a path that is not read."""
        self.left_aside.append(LeftAside(path=path, why=why, is_link=is_link))


def has_log_name(path: Path) -> bool:
    """Return whether a file of a folder is read as a log: README.txt is not, unless it is named."""
    name = path.name.lower()
    return name.endswith(LOG_SUFFIXES) and not name.startswith(PROSE)


def files_below(folder: Path) -> Listing:
    """Return every file below a folder, level by level and in name order, without hidden folders."""
    listing = Listing()
    root = os.path.realpath(folder)
    waiting = deque([(folder, 0)])
    while waiting:
        current, depth = waiting.popleft()
        try:
            names = sorted(os.listdir(current))
        except OSError as error:
            listing.leave_aside(current, f"cannot be read: {error.strerror}")
            continue
        for name in names:
            path = Path(current, name)
            if len(listing.files) + len(waiting) >= MOST_FILES:
                listing.leave_aside(
                    path, f"and what comes after it is not read: the folder has more than {MOST_FILES} files"
                )
                return listing
            if os.path.islink(path) and (os.path.isdir(path) or leads_out(path, root)):
                where = "to a folder, which is not followed" if os.path.isdir(path) else "that leads out of the folder"
                listing.leave_aside(path, f"is a link {where}", is_link=True)
            elif not os.path.isdir(path):
                listing.files.append(path)
            elif not name.startswith("."):
                if depth < DEEPEST:
                    waiting.append((path, depth + 1))
                else:
                    listing.leave_aside(path, f"is more than {DEEPEST} folders deep")
    return listing


def leads_out(path: Path, root: str) -> bool:
    """Return whether a path leads out of a folder once its links are followed. Give the folder as its real path."""
    return not os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)


def read_bounded(path: Path, limit: int = LIMIT) -> bytes:
    """Return the content of a regular file, as long as it was when it was opened. Raises FileError.

    A file above the limit has its lines cut after LONGEST_LINE bytes, and must then fit; line numbers stay right.
    """
    if (notice := _NOTICE.get()) is not None:
        notice(path)
    with _opened(path) as opened:
        file, size = opened.file, opened.size
        if size > LARGEST_FILE:
            raise FileError(f"holds {size / 2**30:.0f} GiB, which no training log does")
        if size <= limit:
            spend(size)
            return file.read(size)
        kept = bytearray()
        for part in _short_lines(file, size):
            kept += part
            if len(kept) > limit:
                raise FileError(f"holds more than {limit / 2**20:g} MiB, which no training log does")
    return bytes(kept)


def read_small(path: Path, limit: int) -> bytes:
    """Return the content of a regular file that is not a log. One above the limit is refused unread. Raises FileError."""
    with _opened(path) as opened:
        if opened.size > limit:
            raise FileError(f"holds more than {limit / 2**20:g} MiB")
        spend(opened.size)
        return opened.file.read(opened.size)


def beginning_of(path: Path, most: int) -> bytes:
    """Return the first bytes of a regular file. Raises FileError."""
    with _opened(path) as opened:
        return opened.file.read(min(opened.size, most))


def end_of(path: Path, most: int) -> bytes:
    """Return the last bytes of a regular file, from the beginning of a line if there is one. Raises FileError."""
    with _opened(path) as opened:
        opened.file.seek(max(0, opened.size - most))
        content = opened.file.read(min(opened.size, most))
    return content if opened.size <= most else content.partition(b"\n")[2] or content


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A regular file, with the size that it had when it was opened."""

    file: BinaryIO
    size: int


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """Open a regular file. Raises FileError, also if reading fails later."""
    try:
        handle = os.open(path, PLAIN)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FileError("is not a regular file")
    with open(handle, "rb") as file:
        try:
            yield _Opened(file=file, size=status.st_size)
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}") from None


def _short_lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file, with every line cut after LONGEST_LINE bytes.

    A chunk is no longer than the longest line, so only the line at its beginning can be too long.
    """
    length = 0  # of the line being read
    while size > 0 and (chunk := file.read(min(LONGEST_LINE, size))):
        size -= len(chunk)
        spend(len(chunk) // 4)  # even if nothing of it is kept
        newline = chunk.find(b"\n")
        end = len(chunk) if newline < 0 else newline
        yield chunk[: min(end, max(0, LONGEST_LINE - length))] + chunk[end:]
        length = length + len(chunk) if newline < 0 else len(chunk) - 1 - chunk.rfind(b"\n")


def lines_at(content: bytes, numbers: Iterable[int]) -> dict[int, bytes]:
    """Return lines by their numbers, which count from 1 and rise. Numbers after the last line are skipped."""
    found: dict[int, bytes] = {}
    line, at = 1, 0  # `at` is in this line
    for number in numbers:
        while line < number and at < len(content):
            newlines = content.count(b"\n", at, at + LONGEST_LINE)
            if line + newlines < number:
                line, at = line + newlines, at + LONGEST_LINE
            else:
                for _ in range(number - line):
                    at = content.index(b"\n", at) + 1
                line = number
        if at < len(content):
            end = content.find(b"\n", at)
            found[number] = content[at : len(content) if end < 0 else end]
    return found


def printable_path(path: PurePath) -> str:
    """Return a path as text that every format can hold, whatever its bytes, with / between its parts on Windows too."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
