"""Find files that hold runs but are not read as logs: hidden, packed, or under another name."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from analysis.reading.plain import is_wide
from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.record.metrics import metrics_of
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import (
    LIMIT,
    LOG_SUFFIXES,
    FileError,
    OverBudgetError,
    beginning_of,
    files_below,
    read_bounded,
    spend,
)
from analysis.untrusted.packed import unpacked, unpacker_of

LEAST_STEPS = 5  # of a whole run; a README that quotes a log shows fewer
MOST_HIDDEN = 500  # files of hidden folders that are looked at
MOST_MEMBERS = 1000  # of an archive
BEGINNING = 4096  # bytes that must be text
ZIP, ZIP_MEMBER = b"PK\3\4", b"PK\1\2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that is not read as a log, and what it holds besides the runs that were read.

    runs: its whole runs. found: what it holds; if `searched` is false, why it could not be searched.
    """

    path: Path
    found: str
    line: int = 1
    runs: Sequence[Run] = ()
    searched: bool = True


def unread_in(record: Record, rules: Ruleset) -> Iterator[Unread]:
    """Yield files other than logs that hold a whole run, and packed logs that cannot be unpacked.

    A packed copy of a log that was read holds the same run, so it is not yielded.
    """
    read = {_identity(run, rules) for run in record.runs}
    for path in _others(record):
        try:
            if (found := _held_by(path, read, rules)) is not None:
                yield found
        except FileError as error:
            is_last = isinstance(error, OverBudgetError)
            searched = "it and what comes after it were not searched" if is_last else "it was not searched"
            yield Unread(path=path, found=f"that it {error}: {searched} for runs", searched=False)
            if is_last:
                return


def _held_by(path: Path, read: set[tuple[object, ...]], rules: Ruleset) -> Unread | None:
    """Return the runs or logs that a file holds, without runs that were read already. Raises FileError."""
    content = _content_of(path)
    if members := _logs_in(content):
        within = {one.name: read_log(path, one.content) for one in members}
        runs = [run for found in within.values() for run in found]
        left = [run for run in runs if _is_whole(run, rules) and _identity(run, rules) not in read]
        if runs and not left and all(_identity(run, rules) in read for run in runs):
            return None
        more = f" and {len(members) - 1} more logs" if members[1:] else ""
        return Unread(path=path, found=f"an archive with {members[0].name}{more}", runs=left)
    if b"\0" in content[:BEGINNING] and not is_wide(content):
        packed = _log_within(path.name)
        return Unread(path=path, found="a log that is packed in a way that cannot be read here") if packed else None
    runs = [run for run in read_log(path, content) if _is_whole(run, rules) and _identity(run, rules) not in read]
    if not runs:
        return None
    final = metrics_of(runs[0], rules)[-1]
    found = f"a run in a file that is not read as a log, with {final.label} {final.number:.6g}"
    return Unread(path=path, found=found, line=final.line, runs=runs)


def _identity(run: Run, rules: Ruleset) -> tuple[object, ...]:
    """Return what tells two runs apart: seed, end of training and results."""
    results = tuple((metric.label, repr(metric.val_loss), repr(metric.val_bpb)) for metric in metrics_of(run, rules))
    return run.seed, run.last_step, run.train_time_ms, results


def _is_whole(run: Run, rules: Ruleset) -> bool:
    return bool(metrics_of(run, rules)) and len(list(islice(run.read_steps(), LEAST_STEPS))) == LEAST_STEPS


def _others(record: Record) -> Iterator[Path]:
    known = {*record.logs, *record.copies, *record.empty, *record.listing.logs}
    for path in (*record.listing.files, *_hidden(record)):
        if path not in known:
            yield path


def _hidden(record: Record) -> Iterator[Path]:
    """Yield the files in hidden folders next to what was read. The search for logs skips these folders."""
    for folder in dict.fromkeys(path.parent for path in record.listing.files) if record.base is not None else ():
        names = sorted(os.listdir(folder))[:MOST_HIDDEN] if os.access(folder, os.R_OK) else []
        for hidden in (Path(folder, name) for name in names if name.startswith(".") and name != ".git"):
            if os.path.isdir(hidden) and not os.path.islink(hidden):
                yield from files_below(hidden).files[:MOST_HIDDEN]


def _content_of(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is a single packed file. Raises FileError.

    If it holds neither text nor logs, return only its beginning.
    """
    if not os.path.isfile(path) or os.path.islink(path):
        return b""
    beginning = beginning_of(path, BEGINNING)
    is_text = b"\0" not in beginning or is_wide(beginning)
    if not is_text and unpacker_of(beginning) is None and not _is_archive(beginning):
        return beginning
    return unpacked(read_bounded(path), LIMIT)


def _is_archive(content: bytes) -> bool:
    return content.startswith(ZIP) or content[257:262] == b"ustar"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A log in an archive."""

    name: str
    content: bytes


def _logs_in(content: bytes) -> Sequence[_Member]:
    """Return the logs in a zip or tar archive. Raises FileError."""
    if not _is_archive(content):
        return []
    if content.startswith(ZIP) and content.count(ZIP_MEMBER) > MOST_MEMBERS:
        raise FileError(f"is an archive of more than {MOST_MEMBERS} files")
    opened = _zipped if content.startswith(ZIP) else _tarred
    members = []
    try:
        for name, file in opened(content):
            if name.lower().endswith(LOG_SUFFIXES):
                members.append(_Member(name=name, content=file.read(LIMIT)))
                spend(len(members[-1].content))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, *_ODD) as error:
        raise FileError(f"is an archive that cannot be read: {error}") from None
    return members


_ODD = (ValueError, EOFError, NotImplementedError, RecursionError, RuntimeError)  # of archives made by hand


def _zipped(content: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for one in archive.infolist()[:MOST_MEMBERS]:
            if not one.is_dir():
                with archive.open(one) as file:
                    yield one.filename, file


def _tarred(content: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for one in islice(archive, MOST_MEMBERS):
            if (file := archive.extractfile(one) if one.isreg() else None) is not None:
                yield one.name, file


def _log_within(name: str) -> bool:
    """Return whether a name is a log's name with one more suffix: train.log.zst."""
    return name.lower().rpartition(".")[0].endswith(LOG_SUFFIXES)
