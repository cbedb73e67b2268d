"""Files with runs that are not read as logs: hidden, packed, or of another name."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.record.metrics import metrics_of
from analysis.rules.findings import Code, Found, Place, Raised
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import LIMIT, LOG_SUFFIXES, FileError, read_bounded

LEAST_STEPS = 5  # of a run: a README that quotes a log shows fewer
MOST_BYTES = LIMIT  # of all such files of a folder, unpacked
MOST_HIDDEN = 500  # files of hidden folders that are looked at
MOST_MEMBERS = 1000  # of an archive
BEGINNING = 4096  # bytes that must be text
UNPACKERS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
}
EXPECTED = "every run in a log of its own (*.log, *.txt, *.out)"


def check_unread(record: Record, rules: Ruleset) -> Raised:
    """Check that no file but the logs holds a whole run, and that no log is packed so that it cannot be read.

    A log that is packed next to itself holds the same run, and nothing is said of it.
    """
    left = MOST_BYTES
    read = {_identity(run, rules) for run in record.runs}
    for path in _others(record):
        content = _content_of(path, left)
        left -= len(content)
        at = Place(record.shown(path))
        if members := _logs_in(content):
            yield _found(
                at, f"an archive with {members[0]}{f' and {len(members) - 1} more logs' if members[1:] else ''}"
            )
        elif b"\0" not in content[:BEGINNING]:
            runs = (run for run in read_log(path, content) if _is_whole(run, rules))
            run = next((run for run in runs if _identity(run, rules) not in read), None)
            if run is not None:
                final = metrics_of(run, rules)[-1]
                value = final.val_bpb or final.val_loss
                place = Place(at.file, final.line)
                yield _found(place, f"a run in a file that is not read as a log, with {final.label} {value:.6g}")
        elif _log_within(path.name):
            yield _found(at, "a log that is packed in a way that cannot be read here")


def _found(at: Place, found: str) -> Found:
    return Found(
        code=Code.RUN_NOT_READ,
        at=at,
        found=found,
        expected=EXPECTED,
        do="Show it as a log, or say why it is none of the claim's runs.",
    )


def _identity(run: Run, rules: Ruleset) -> tuple[object, ...]:
    """Return what two different runs do not share: seed, end of training and results."""
    results = tuple((metric.label, repr(metric.val_loss), repr(metric.val_bpb)) for metric in metrics_of(run, rules))
    return run.seed, run.last_step, run.train_time_ms, results


def _is_whole(run: Run, rules: Ruleset) -> bool:
    return bool(metrics_of(run, rules)) and len(list(islice(run.read_steps(), LEAST_STEPS))) == LEAST_STEPS


def _others(record: Record) -> Iterator[Path]:
    known = {*record.logs, *record.copies, *record.empty}
    for path in (*record.listing.files, *_hidden(record)):
        if path not in known and path not in record.listing.logs:
            yield path


def _hidden(record: Record) -> Iterator[Path]:
    """Yield the files of hidden folders next to what was read. They are not searched for logs."""
    for folder in dict.fromkeys(path.parent for path in record.listing.files) if record.base is not None else ():
        names = sorted(os.listdir(folder))[:MOST_HIDDEN] if os.access(folder, os.R_OK) else []
        for hidden in (Path(folder, name) for name in names if name.startswith(".") and name != ".git"):
            if os.path.isdir(hidden) and not os.path.islink(hidden) and os.access(hidden, os.R_OK):
                yield from (Path(hidden, name) for name in sorted(os.listdir(hidden))[:MOST_HIDDEN])


def _content_of(path: Path, most: int) -> bytes:
    """Return a file's content, unpacked where it is packed alone, up to `most` bytes; empty where it cannot be read."""
    try:
        if most <= 0 or not os.path.isfile(path) or os.path.islink(path):
            return b""
        content = read_bounded(path, most)
        unpacker = next((new for magic, new in UNPACKERS.items() if content.startswith(magic)), None)
        return content if unpacker is None else unpacker().decompress(content, most)
    except (FileError, zlib.error, OSError, lzma.LZMAError, EOFError):
        return b""


def _logs_in(content: bytes) -> Sequence[str]:
    """Return the names of logs in a zip or tar archive."""
    if not content.startswith(b"PK\3\4") and content[257:262] != b"ustar":
        return []
    try:
        if content.startswith(b"PK"):
            names = [one.filename for one in zipfile.ZipFile(io.BytesIO(content)).infolist()[:MOST_MEMBERS]]
        else:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                names = [one.name for one in islice(archive, MOST_MEMBERS)]
    except (zipfile.BadZipFile, tarfile.TarError, OSError, ValueError, EOFError, NotImplementedError):
        return []
    return [name for name in names if name.lower().endswith(LOG_SUFFIXES)]


def _log_within(name: str) -> bool:
    """Return whether a name is a log's with one more ending: train.log.zst."""
    return name.lower().rpartition(".")[0].endswith(LOG_SUFFIXES)
