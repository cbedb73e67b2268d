"""The record folders below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from analysis.reading.reader import read_log
from analysis.record.claim import submission_file
from analysis.sweepdir.layout import is_sweep
from analysis.untrusted.files import DEEPEST, LOG_SUFFIXES, MOST_WORK, FileError, OverBudgetError, one_budget

LOOKED_AT = MOST_WORK // 8  # of one folder, until it is clear that it is a record


def record_folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the folders that hold a submission JSON or training logs; what is inside one belongs to it.

    A folder that cannot be listed is yielded too, so that its reader says why.
    """
    try:
        entries = [Path(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        yield folder
        return
    if is_record(folder, entries):
        yield folder
        return
    for path in entries:
        if os.path.isdir(path) and not os.path.islink(path) and not path.name.startswith(".") and depth < DEEPEST:
            yield from record_folders(path, depth + 1)


def is_record(folder: Path, entries: list[Path]) -> bool:
    """Return whether a folder with these entries holds a submission JSON or a training log, or is a sweep."""
    files = [path for path in entries if os.path.isfile(path) and not os.path.islink(path)]
    with one_budget(LOOKED_AT):
        return is_sweep(folder) or submission_file(files, folder) is not None or any(_is_log(path) for path in files)


def _is_log(path: Path) -> bool:
    try:
        return path.name.lower().endswith(LOG_SUFFIXES) and bool(read_log(path))
    except OverBudgetError:
        return True  # its reader says so
    except FileError:
        return path.name.lower().endswith(".log")
