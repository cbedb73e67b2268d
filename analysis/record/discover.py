"""Which folders are records: the rule, and the folders on disk that it finds.

A folder with a submission JSON, or a sweep, is a record. A folder whose name begins with a date is one record with all
that is inside (its arms), unless records with a JSON or a date of their own are inside it. Any other folder with logs is a
record, unless such records are inside it, or more folders with logs than it has logs itself: then its logs are nobody's.
No log is read whole to find out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol, Self, TypeVar, final

from analysis.reading.reader import read_log
from analysis.record.claim import submission_file
from analysis.sweepdir.layout import is_sweep
from analysis.untrusted.files import (
    DEEPEST,
    MOST_WORK,
    FileError,
    OverBudgetError,
    beginning_of,
    end_of,
    has_log_name,
    one_budget,
)

LOOKED_AT = MOST_WORK // 8  # of one folder, until it is clear that it is a record
PIECE = 2**16  # bytes at the beginning and at the end of a log that are looked at
_DATE = re.compile(r"(\d{4})([-_]?)(\d\d)\2(\d\d)(?!\d)")


def date_in(name: str) -> str | None:
    """Return the date that a name begins with: 2025-12-21_A and 20251221_a are of 2025-12-21."""
    found = _DATE.match(name)
    try:
        return date(int(found[1]), int(found[3]), int(found[4])).isoformat() if found else None
    except ValueError:
        return None


class Folder(Protocol):
    """A folder, on disk or in a commit, as far as the rule asks."""

    @property
    def name(self) -> str: ...

    @property
    def says_so(self) -> bool:
        """Whether it holds a submission JSON, is a sweep, or cannot be listed."""

    def has_logs(self, at_least: int) -> bool:
        """Return whether it holds so many logs itself."""

    @property
    def folders(self) -> Iterable[Self]:
        """The folders in it."""


AnyFolder = TypeVar("AnyFolder", bound=Folder)


def records_in(folder: AnyFolder) -> list[AnyFolder]:
    """Return the record folders in a folder, itself included, in the order of their names."""
    if folder.says_so:
        return [folder]
    below = [record for inner in folder.folders for record in records_in(inner)]
    return [folder] if _is_one_record(folder, below) else below


def _is_one_record(folder: Folder, below: Sequence[Folder]) -> bool:
    """Return whether a folder without a JSON of its own is one record with the records found in it."""
    dated = date_in(folder.name) is not None
    if any(record.says_so for record in below):
        return False
    if dated and folder.has_logs(1):
        return True
    if any(date_in(record.name) for record in below):
        return False
    return bool(below) if dated else folder.has_logs(max(1, len(below)))


def record_folders(folder: Path) -> Iterator[Path]:
    """Yield the record folders in a folder, itself included. One that cannot be listed is yielded too, so that its reader says why."""
    yield from (record.path for record in records_in(OnDisk(path=folder)))


def the_record_in(folder: Path) -> Path | None:
    """Return the one record with a submission JSON in a folder that holds no other record and no log besides."""
    if submission_file(OnDisk(path=folder).files, folder) is not None:
        return None
    found = [*record_folders(folder)]
    if len(found) != 1 or found[0] == folder or loose_logs(folder, found):
        return None
    return found[0] if submission_file(OnDisk(path=found[0]).files, found[0]) is not None else None


def loose_logs(folder: Path, records: Iterable[Path]) -> list[Path]:
    """Return the logs that are next to records and belong to none of them."""
    known = set(records)
    around = {parent for record in known for parent in record.parents if parent.is_relative_to(folder)}
    return [log for one in sorted(around - known) for log in OnDisk(path=one).log_files]


@final
@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """A folder on disk. Links to folders and hidden folders are not followed."""

    path: Path
    depth: int = 0

    @property
    def name(self) -> str:
        return self.path.resolve().name if self.depth == 0 else self.path.name

    @cached_property
    def entries(self) -> list[Path] | None:
        """What it holds, by name; None if it cannot be listed."""
        try:
            return [Path(self.path, name) for name in sorted(os.listdir(self.path))]
        except OSError:
            return None

    @cached_property
    def files(self) -> list[Path]:
        return [path for path in self.entries or () if os.path.isfile(path) and not os.path.islink(path)]

    @cached_property
    def says_so(self) -> bool:
        return self.entries is None or is_sweep(self.path) or submission_file(self.files, self.path) is not None

    @property
    def log_files(self) -> Iterator[Path]:
        """The logs that it holds itself, looked at one by one."""
        return filter(may_be_log, self.files)

    def has_logs(self, at_least: int) -> bool:
        with one_budget(LOOKED_AT):
            return len(list(islice(self.log_files, at_least))) == at_least

    @property
    def folders(self) -> Iterator[OnDisk]:
        if self.depth < DEEPEST:
            for path in self.entries or ():
                if os.path.isdir(path) and not os.path.islink(path) and not path.name.startswith("."):
                    yield OnDisk(path=path, depth=self.depth + 1)


def may_be_log(path: Path) -> bool:
    """Return whether a file has a log's name, and the beginning or the end of one."""
    if not has_log_name(path):
        return False
    try:
        return any(read_log(path, piece(path, PIECE)) for piece in (end_of, beginning_of))
    except OverBudgetError:
        return True  # its reader says so
    except FileError:
        return path.name.lower().endswith(".log")
