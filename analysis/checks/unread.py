"""Files that hold a run and were not read as logs: hidden, renamed or compressed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.untrusted.files import LIMIT, FileError, read_bounded

LEAST_STEPS = 5  # of a run: a README that quotes a log shows fewer
MOST_BYTES = LIMIT  # of all such files of a folder
MOST_HIDDEN = 500  # files of hidden folders that are looked at
BEGINNING = 4096  # bytes that must be text


def check_unread(record: Record) -> Raised:
    """Check that no file but the logs holds a whole run."""
    left = MOST_BYTES
    for path in _others(record):
        content = _text_of(path, left)
        left -= len(content)
        for run in read_log(path, content) if content else ():
            if run.finals and len(run.steps) >= LEAST_STEPS:
                yield _found(record, path, run)
                break


def _found(record: Record, path: Path, run: Run) -> Found:
    final = run.finals[-1]
    return Found(
        code=Code.RUN_NOT_READ,
        at=Place(record.shown(path), final.line),
        found=f"a run in a file that is not read as a log, with {final.label} {final.val_bpb or final.val_loss:.6g}",
        expected="every run in a log of its own (*.log, *.txt, *.out)",
        do="Name it as a log, or say why it is none of the claim's runs.",
    )


def _others(record: Record) -> Iterator[Path]:
    known = {*record.logs, *record.copies, *record.empty}
    for path in (*record.listing.files, *_hidden(record)):
        if path not in known and path not in record.listing.logs:
            yield path


def _hidden(record: Record) -> Iterator[Path]:
    """Yield the first files of hidden folders, which are not searched for logs. Git's own folder is none of them."""
    found = 0
    for folder, folders, names in os.walk(record.base) if record.base is not None else ():
        folders[:] = [name for name in folders if name != ".git"]
        if not any(part.startswith(".") for part in Path(folder).relative_to(record.base or folder).parts):
            continue
        for name in sorted(names):
            found += 1
            if found > MOST_HIDDEN:
                return
            yield Path(folder, name)


def _text_of(path: Path, most: int) -> bytes:
    """Return a file's content if it is text, unpacked if gzip packed it; empty otherwise."""
    try:
        if not path.is_file() or path.is_symlink():
            return b""
        content = read_bounded(path, max(most, 0))
        if content.startswith(b"\x1f\x8b"):
            content = zlib.decompressobj(wbits=31).decompress(content, max(most, 1))
    except (FileError, zlib.error):
        return b""
    return b"" if b"\0" in content[:BEGINNING] else content
