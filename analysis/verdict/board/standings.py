"""The rows of a leaderboard: every record folder below a folder, oldest first, each tested against what stood before it.

All folders are assumed accepted: a record stands when it has the best rank so far, whatever was found in it. It is tested
against the standing record's own runs where they can be tested, else against its mean. The margin is read in bpb and in
nats. Where the ruleset has a fixed target, each record is tested against that alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.record.claim import read_claim, submission_file
from analysis.record.discover import date_in, record_folders
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import printable_path
from analysis.untrusted.refusal import UsageError
from analysis.verdict.board.cache import Cache, digest_of, key_of
from analysis.verdict.board.judged import Read, judged, read
from analysis.verdict.board.row import Row, best_of, together

Tell = Callable[[int, int, str], None]  # how many records are done, of how many, and which is next


def _silent(done: int, total: int, record: str) -> None:
    pass


def leaderboard(directory: Path, rules: Ruleset, cache: Cache | None = None, tell: Tell = _silent) -> list[Row]:
    """Return one row per record folder, oldest first. A folder that cannot be read is a row that says why."""
    if not rules.has_test:
        raise UsageError(f"--rules {rules.name} has no test, and a board tests each record. Name rules that have.")
    found = found_records(directory)
    board = _Board(rules, cache)
    for number, one in enumerate(found):
        tell(number, len(found), one.row.record)
        board.add(one)
    if cache is not None:
        cache.prune()
    return together(board.rows, rules)


def found_records(directory: Path) -> list[RecordFolder]:
    """Return every record folder below a folder, oldest first."""
    return sorted((_found(folder, directory) for folder in record_folders(directory)), key=lambda one: one.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFolder:
    """A record folder, its row as far as names tell, and what it is sorted by."""

    folder: Path
    row: Row
    order: tuple[str, str, str]


def _found(folder: Path, directory: Path) -> RecordFolder:
    """Return a record folder with its date: that of its name, of a folder around it, or else of its claim."""
    entries = list(folder.iterdir()) if os.access(folder, os.R_OK) and folder.is_dir() else []  # the row says why
    file = submission_file(entries, folder)
    claimed = (read_claim(file).date if file is not None and not file.is_symlink() else None) or ""
    inside = folder.relative_to(directory)
    names = [*reversed(inside.parts), directory.resolve().name]
    date = next((date for name in names if (date := date_in(name)) is not None), date_in(claimed)) or ""
    name = printable_path(inside if inside.parts else Path(names[-1]))
    return RecordFolder(folder=folder, row=Row(date=date or None, record=name), order=(date, claimed, name))


class _Board:
    """The rows so far, and what is needed to test the next."""

    def __init__(self, rules: Ruleset, cache: Cache | None) -> None:
        self.rules, self.cache = rules, cache
        self.rows: list[Row] = []
        self.folders: dict[str, RecordFolder] = {}
        self.digests: dict[str, str | None] = {}
        self.standing: Read | None = None  # as it was read: None until the next test needs it

    def add(self, found: RecordFolder) -> None:
        """Add a record's row: one that was kept, else made of its folder."""
        record, stood = found.row.record, best_of(self.rows, self.rules)
        key = self._key(found, stood) if self.cache is not None else None
        row = self.cache.get(key) if self.cache is not None and key is not None else None
        own: Read | None = None
        if row is None:
            own = read(found.folder, found.row, self.rules)
            row = judged(own, self.rules, self._as_read(stood))
            if self.cache is not None and key is not None:
                self.cache.put(key, row)
        self.folders[record] = found
        self.rows.append(row)
        if best_of(self.rows, self.rules) is row:
            self.standing = own

    def _as_read(self, stood: Row | None) -> Read | None:
        """Return the standing record: its row, and its runs, which a kept row does not have."""
        if stood is not None and self.standing is None:
            one = self.folders[stood.record]
            self.standing = read(one.folder, one.row, self.rules)
        return replace(self.standing, row=stood) if stood is not None and self.standing is not None else None

    def _key(self, found: RecordFolder, stood: Row | None) -> str | None:
        """Return the key of a row; None where a folder that it depends on has no digest."""
        own = self.digests[found.row.record] = digest_of(found.folder)
        against = None if stood is None else self.digests[stood.record]
        if own is None or (stood is not None and against is None):
            return None
        return key_of(
            found.row, found.folder, self.rules, own, None if stood is None else json.dumps([stood.record, against])
        )
