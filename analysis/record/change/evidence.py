"""Find what a change does to evidence: which records are new, which are earlier ones, and which of their logs are gone.

Evidence is compared by digest. A folder that only moved, a README whose numbers stay, or an image is not judged.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import final

from analysis.reading.reader import read_log
from analysis.record.change.git import Blob, Tree, content
from analysis.record.claim import Claim, is_submission, read_claim, submission_file
from analysis.record.discover import records_in
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.sweepdir.layout import CONTROL, PLAN
from analysis.untrusted.files import LOG_SUFFIXES, FileError, printable_path

LOGS = (*LOG_SUFFIXES, *(f"{suffix}.gz" for suffix in LOG_SUFFIXES))
EVIDENCE = (*LOGS, ".json", ".jsonl", ".py", ".sh")
MOST_NAMED = 20  # logs of one record that are gone
_NUMBER = re.compile(rb"\d+(?:[.,]\d+)*")
_LINK = re.compile(rb"\w+://\S+")


class Standing(StrEnum):
    """How a change affects a record. It decides how the record is judged."""

    NEW = "new"
    CLAIMS_MORE = "an earlier record that claims more now"
    STOOD = "an earlier record"
    UNCHANGED = "its evidence is as before"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A record that a change touches. before: its folder at the base; gone: findings on its removed logs."""

    folder: Path
    standing: Standing = Standing.NEW
    before: Path | None = None
    gone: tuple[Found, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """The files of one commit."""

    files: Tree

    def below(self, folder: Path) -> Mapping[Path, Blob]:
        """Return the files in a folder, by their path in it."""
        return self._below.get(folder, {})

    def evidence(self, folder: Path) -> dict[Path, Blob]:
        """Return the files that are evidence."""
        return {path: blob for path, blob in self.below(folder).items() if is_evidence(path)}

    @cached_property
    def _below(self) -> dict[Path, dict[Path, Blob]]:
        below: dict[Path, dict[Path, Blob]] = {}
        for path, blob in self.files.items():
            for folder in path.parents:
                below.setdefault(folder, {})[path.relative_to(folder)] = blob
        return below


def is_evidence(path: Path) -> bool:
    """Return whether a file of this name may be evidence."""
    return path.name.lower().endswith(EVIDENCE)


def touched_records(before: Side, after: Side, records: Mapping[Path, Iterable[Path]], top: Path) -> list[Touched]:
    """Return what a change does to records, in the order of their folders.

    records: those of the checkout that changed files belong to, with these files. top: the folder of all records.
    """
    changed = [path for path, blob in before.files.items() if after.files.get(path) != blob]
    stood = {record for path in changed if (record := _around(before, path, top)) is not None}
    empty = [record for record in sorted(stood) if not any(map(_is_log_name, after.evidence(record)))]
    found = []
    for folder, files in records.items():
        still_empty = before.below(folder) and not after.evidence(folder)
        old = folder if still_empty or _stood(before, folder) else _moved_from(before, after, folder, empty)
        outside = any(is_evidence(path) and not path.is_relative_to(folder) for path in files)
        found.append(_compared(before, after, Touched(folder=folder, before=old), outside=outside))
    known = {one.before for one in found} | {one.folder for one in found}
    return sorted([*found, *(_removed(before, one) for one in empty if one not in known)], key=lambda one: one.folder)


def _compared(before: Side, after: Side, one: Touched, *, outside: bool) -> Touched:
    """Return a record with its standing. outside: evidence outside its folder has changed too."""
    if one.before is None:
        return one
    old, new = before.evidence(one.before), after.evidence(one.folder)
    standing = Standing.STOOD
    if old == new and not outside and _numbers(before, one.before) == _numbers(after, one.folder):
        standing = Standing.UNCHANGED
    elif _claims_more(old, new):
        standing = Standing.CLAIMS_MORE
    return Touched(folder=one.folder, standing=standing, before=one.before, gone=tuple(_gone(old, new)))


def _removed(before: Side, record: Path) -> Touched:
    logs = sum(map(_is_log_name, before.evidence(record)))
    gone = Place(printable_path(record)).has(
        Code.EVIDENCE_REMOVED,
        f"that this record, with {logs} log{'s' if logs != 1 else ''}, is removed",
        expected="it to stay, because it is older than this change",
    )
    return Touched(folder=record, standing=Standing.REMOVED, before=record, gone=(gone,))


def _numbers(side: Side, folder: Path) -> list[bytes]:
    """Return the numbers in a record's README. If they change, its claims may have changed."""
    files = side.below(folder)
    readmes = sorted(path for path in files if len(path.parts) == 1 and path.name.lower().startswith("readme"))
    text = b"\n".join(content(files[path]) for path in readmes)
    return _NUMBER.findall(_LINK.sub(b"", text))


# -- records at the base -----------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, kw_only=True)
class _InCommit:
    """A folder of a commit."""

    side: Side
    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def says_so(self) -> bool:
        return any(is_submission(path.name) or path.name == PLAN for path in self._own)

    def has_logs(self, at_least: int) -> bool:
        logs = (path for path, blob in self._own.items() if _is_log(path, blob))
        return len(list(islice(logs, at_least))) == at_least

    @property
    def folders(self) -> Iterator[_InCommit]:
        names = {path.parts[0] for path in self.side.evidence(self.path) if len(path.parts) > 1}
        yield from (_InCommit(side=self.side, path=self.path / name) for name in sorted(names) if name[0] != ".")

    @property
    def _own(self) -> Mapping[Path, Blob]:
        return {path: blob for path, blob in self.side.evidence(self.path).items() if len(path.parts) == 1}


@cache
def _records(side: Side, top: Path) -> frozenset[Path]:
    return frozenset(record.path for record in records_in(_InCommit(side=side, path=top)))


def _around(side: Side, path: Path, top: Path) -> Path | None:
    """Return the record that holds a file, below `top` or `top` itself."""
    return next((folder for folder in path.parents if folder in _records(side, top)), None)


@cache
def _stood(side: Side, folder: Path) -> bool:
    """Return whether a record was in this folder or below it."""
    files = side.evidence(folder).items()
    return any(is_submission(path.name) or path.name == PLAN or _is_log(path, blob) for path, blob in files)


def _moved_from(before: Side, after: Side, folder: Path, empty: Iterable[Path]) -> Path | None:
    """Return the record that the change removes elsewhere and whose logs are now here: the one with most logs here."""
    here = {blob.digest for path, blob in after.evidence(folder).items() if _is_log_name(path)}
    shared = {
        record: sum(blob.digest in here for path, blob in before.evidence(record).items() if _is_log_name(path))
        for record in empty
    }
    best = max(shared, key=lambda record: shared[record], default=None)
    return best if best is not None and shared[best] else None


# -- what a change takes away, and what it claims ------------------------------------------------------------------------


def _gone(old: Mapping[Path, Blob], new: Mapping[Path, Blob]) -> Raised:
    """Check that every earlier log is still in the record with the same bytes, and is still a log that may count.

    It may have a new name, but not the name of another kind of file, a hidden name, or a place in the control's folder.
    """
    controls = {blob.digest for path, blob in old.items() if _is_aside(path)}
    digests = {blob.digest for path, blob in new.items() if _is_log_name(path) and not _is_aside(path)} | controls
    gone = [path for path, blob in old.items() if blob.digest not in digests and _is_log(path, blob)]
    for path in gone[:MOST_NAMED]:
        found = f"that this log is {'rewritten' if path in new else 'removed'}"
        expected = "it unchanged, because its record is older than this change"
        yield Place(printable_path(path)).has(Code.EVIDENCE_REMOVED, found, expected=expected)


def _is_aside(path: Path) -> bool:
    return path.parts[0] == CONTROL or any(part.startswith(".") for part in path.parts)


def _is_log_name(path: Path) -> bool:
    return path.name.lower().endswith(LOGS)


def _is_log(path: Path, blob: Blob) -> bool:
    """Return whether a file in a commit is a log: a .log file, or another text that holds a run."""
    if not _is_log_name(path):
        return False
    try:
        return path.name.lower().endswith((".log", ".log.gz")) or bool(read_log(path, content(blob)))
    except FileError:
        return False


def _claims_more(old: Mapping[Path, Blob], new: Mapping[Path, Blob]) -> bool:
    """Return whether an earlier record now has a better headline, or other runs if it has no headline."""
    then, now = _claim(old), _claim(new)
    if now is None or (now.val_bpb is None and now.val_loss is None):
        logs = [{blob.digest for path, blob in files.items() if _is_log(path, blob)} for files in (old, new)]
        return bool(logs[1] - logs[0])
    if then is None or (then.val_bpb is None and then.val_loss is None):
        return True
    pairs = ((then.val_bpb, now.val_bpb), (then.val_loss, now.val_loss))
    return any(was is not None and is_ is not None and is_ < was for was, is_ in pairs)


def _claim(files: Mapping[Path, Blob]) -> Claim | None:
    """Return the claim of a commit's submission JSON; None if there is none."""
    chosen = submission_file(files, Path("."))
    if chosen is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "submission.json")
        file.write_bytes(content(files[chosen]))
        return read_claim(file)
