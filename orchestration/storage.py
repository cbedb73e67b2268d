"""A copy of the sweep directory at a URL, which outlives the machine that drives the sweep.

What has to survive a head node lies off it. Any URL that pyarrow opens: s3://, gs://, hdfs://, file://.
"""

from __future__ import annotations

import json
import os
import posixpath
import socket
import time
from pathlib import Path

from pyarrow import fs

from analysis.sweepdir import LOCK, PLAN, SweepError
from orchestration.files import write_whole
from orchestration.lock import SILENT_S, HeldError, described

SUFFIX = ".partial"
RETRY_S = 10.0


class StorageError(SweepError):
    """A storage that cannot be used, as one sentence with its URL."""


class Storage:
    """The copy of one sweep directory below a URL. Raises StorageError."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self._directory = url, directory
        self._due: dict[Path, None] = {}  # what has not come there yet, in order
        self._not_before = 0.0
        try:
            self._fs, root = fs.FileSystem.from_uri(url.rstrip("/"))
            self._root = posixpath.join(root, directory.name)
            self._fs.create_dir(self._root, recursive=True)
        except (OSError, ValueError) as error:
            raise StorageError(f"--storage {url} cannot be used: {error}") from None

    def fetch(self) -> None:
        """Bring what the directory does not have: all of a sweep that a dead machine drove, or what went on elsewhere.

        Raises HeldError where its driver still lives, on another machine.
        """
        there = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        files = {posixpath.relpath(info.path, self._root): info for info in there if info.is_file}
        if lock := files.get(LOCK):
            owner, silent = json.loads(self._read(lock)), time.time() - lock.mtime.timestamp()
            if not owner.get("released") and owner.get("host") != socket.gethostname() and silent < SILENT_S:
                raise HeldError(f"{self.url} is in use: {described(owner)}, last heard of {silent:.0f} s ago. "
                                f"If that machine is gone, try again in a minute.")  # fmt: skip
        plan = self._directory / PLAN
        if PLAN in files and plan.exists() and plan.read_bytes() != self._read(files[PLAN]):
            raise StorageError(
                f"{self.url} holds another sweep of the name {self._directory.name}: choose another --output."
            )
        for name in sorted(files, key=lambda name: name == PLAN):  # the plan last: before it, there is no sweep
            info, path = files[name], self._directory / name
            here = path.stat() if path.exists() else None
            changed = here is None or (info.size != here.st_size and info.mtime.timestamp() > here.st_mtime)
            if changed and not name.endswith(SUFFIX):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, self._read(info))
                os.utime(path, (info.mtime.timestamp(),) * 2)

    def put(self, *paths: Path) -> str | None:
        """Copy files, and all below folders, and what could not be copied before; why not, where that fails."""
        for path in paths:
            below = sorted(path.rglob("*")) if path.is_dir() else [path]
            self._due |= {file: None for file in below if file.is_file() and not file.is_symlink()}
        if time.monotonic() < self._not_before:
            return None
        for path in list(self._due):
            try:
                self._write(path)
            except OSError as error:
                self._not_before = time.monotonic() + RETRY_S
                return f"{self.url} cannot be written, {len(self._due)} files wait: {str(error)[:300]}"
            del self._due[path]
        return None

    @property
    def behind(self) -> int:
        """How many files have not come there yet."""
        return len(self._due)

    def _read(self, info: fs.FileInfo) -> bytes:
        with self._fs.open_input_stream(info.path) as file:
            return bytes(file.read())

    def _write(self, path: Path) -> None:
        target = posixpath.join(self._root, path.relative_to(self._directory).as_posix())
        self._fs.create_dir(posixpath.dirname(target), recursive=True)
        whole = self._fs.type_name in ("s3", "gcs", "abfs")  # an object appears when it is complete
        with self._fs.open_output_stream(target if whole else target + SUFFIX) as file:
            file.write(path.read_bytes())
        if not whole:
            self._fs.move(target + SUFFIX, target)
