"""SHA-256 of a run's files in its run.json. Large files are hashed after the run's end: no node and no result waits for that."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from analysis.sweepdir.json_files import read_json, table_of
from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG, SweepError
from analysis.untrusted.files import leads_out
from orchestration.disk.files import file_digest, write_json
from orchestration.disk.patient import Disk, DiskError

LARGE_BYTES = 32 * 2**20  # of a run's files, read before its result is reported
MOST_BYTES = 2**38  # a sparse file of any size costs nothing to make, and hours to read
CHUNK_BYTES = 4 * 2**20
TELL_S = 10.0
LATER = "it is computed after the run's end; `sweep resume` computes what is missing"


def files_of(folder: Path) -> dict[str, Any]:
    """Return `files` and `unknown` of run.json: digests of the log and of small files, and why the others are missing."""
    files, unknown, left = {}, {}, LARGE_BYTES
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path == folder / RUN_MANIFEST:
            continue
        name, size = str(path.relative_to(folder)), path.stat().st_size
        at_once = size <= left or name == TRAIN_LOG
        left -= size if at_once and name != TRAIN_LOG else 0
        files[name] = {"bytes": size, "sha256": file_digest(path) if at_once else None}
        if not at_once:
            unknown[_field(name)] = LATER
    return {"files": files, "unknown": unknown}


def missing(table: Mapping[str, Any]) -> list[str]:
    """Return the files whose digest a run.json does not have."""
    files = table_of(table.get("files"))
    return [name for name, entry in files.items() if isinstance(entry, dict) and entry.get("sha256") is None]


def completed(table: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return a run.json with these digests in their places."""
    files = {**table_of(table.get("files"))}
    files |= {name: {**files[name], "sha256": digest} for name, digest in digests.items()}
    gone = {_field(name) for name in digests}
    unknown = {field: why for field, why in table_of(table.get("unknown")).items() if field not in gone}
    return {**table, "files": files, "unknown": unknown}


def _field(name: str) -> str:
    return f"files.{name}.sha256"


class Digests:
    """Compute the missing digests of runs that have ended, one file after the other, in a background thread.

    A driver that ends before loses nothing: the digest stays null, and the next driver adds the run again.
    copy: takes the path of each run.json that was written.
    """

    def __init__(self, disk: Disk, say: Callable[[str], None], copy: Callable[[Path], None]) -> None:
        self._disk, self._say, self._copy = disk, say, copy
        self._folders: SimpleQueue[Path | None] = SimpleQueue()
        self._open = 0
        self._thread: threading.Thread | None = None

    def add(self, folder: Path, table: Mapping[str, Any]) -> None:
        """Compute what the run.json of an attempt that has ended does not have."""
        if not missing(table):
            return
        self._open += len(missing(table))
        self._folders.put(folder)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return once all are computed."""
        if self._thread is None:
            return
        if self._open:
            self._say(f"Computing the SHA-256 of {self._open} large file{'s' * (self._open > 1)}.")
        self._folders.put(None)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while (folder := self._folders.get()) is not None:
            try:
                self._complete(folder)
            except (OSError, SweepError, DiskError) as error:
                self._say(f"{folder / RUN_MANIFEST}: digests are missing: {error}")

    def _complete(self, folder: Path) -> None:
        path = folder / RUN_MANIFEST
        table = read_json(path)
        for name in missing(table):
            try:
                table = completed(table, {name: self._digest(folder, name, table["files"][name].get("bytes"))})
            except (OSError, ValueError) as error:
                table["unknown"] = {**table_of(table.get("unknown")), _field(name): str(error)}
            self._open -= 1
        self._disk.write(path, lambda: write_json(path, table))
        self._copy(path)

    def _digest(self, folder: Path, name: str, size: object) -> str:
        """Return the digest of one file, with a line of progress when it takes long. Raises OSError, ValueError."""
        if leads_out(folder / name, os.path.realpath(folder)):
            raise ValueError("it leads out of the run's folder")
        handle = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                raise ValueError("it was changed after the run's end")
            if status.st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES / 2**30:g} GiB")
            found, told = hashlib.sha256(), time.monotonic()
            while chunk := file.read(CHUNK_BYTES):
                found.update(chunk)
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    self._say(
                        f"SHA-256 of {folder / name}: {file.tell() / 2**30:.1f} of {status.st_size / 2**30:.1f} GiB"
                    )
        return found.hexdigest()
