"""A copy of the sweep directory at a URL, which outlives the machine that drives the sweep.

What has to survive a head node lies off it. Any URL that pyarrow opens: s3://, gs://, hdfs://, file://. Copying goes on
beside the driving, so that neither a large file nor a storage that is away for a while holds the sweep up.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from pyarrow import fs

from analysis.sweepdir.layout import EVENTS, LOCK, PLAN, RUN_MANIFEST, SweepError
from orchestration.disk.lock import HEARTBEAT_S, SILENT_S, HeldError, alive, described

SUFFIX = ".partial"
RETRY_S = 10.0
LAST_S = 10.0  # for giving the copy free
CHUNK_BYTES = 2**22


class StorageError(SweepError):
    """A storage that cannot be used, as one sentence with its URL."""


class Storage:
    """The copy of one sweep directory below a URL. Raises StorageError; HeldError where its driver still lives.

    Opening it, as the owner of the directory, brings what the directory does not have: all of a sweep that a dead machine
    drove, or what went on elsewhere. What only the directory has is due to be copied, from the first `put` on.
    sweep: the sweep's identity there, None where there is none. taken: another driver has taken the copy over since.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self._directory = url, directory
        self.sweep: str | None = None
        self.taken = False
        self._due: dict[Path, None] = {}  # what has not come there yet, in order
        self._never: dict[Path, None] = {}  # what cannot: its name
        self._trouble: str | None = None
        self._changed = threading.Condition()
        self._copying = self._closing = self._doubtful = False
        self._copier: threading.Thread | None = None
        self._over = threading.Event()
        self._lock = b""
        self._dead: str | None = None  # the driver that was there and is not any more
        self._partial = f".{secrets.token_hex(4)}{SUFFIX}"
        try:
            self._fs, root = fs.FileSystem.from_uri(url.rstrip("/"))
            self._root = posixpath.join(root, directory.name)
            self._fs.create_dir(self._root, recursive=True)
            self._fetch()
        except StorageError:
            raise
        except (OSError, ValueError) as error:
            raise StorageError(f"--storage {url} cannot be used: {error}") from None

    def _fetch(self) -> None:
        there = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        files = {posixpath.relpath(info.path, self._root): info for info in there if info.is_file}
        if lock := files.pop(LOCK, None):
            owner, silent = json.loads(self._read(lock.path)), time.time() - lock.mtime.timestamp()
            if not owner.get("released") and silent < SILENT_S and alive(owner):
                raise HeldError(f"{self.url} is in use: {described(owner)}, last heard of {silent:.0f} s ago. "
                                f"If that machine is gone, try again in a minute.")  # fmt: skip
            self.sweep, self._dead = owner.get("sweep"), owner.get("driver")
        plan = self._directory / PLAN
        if PLAN in files and plan.exists() and plan.read_bytes() != self._read(files[PLAN].path):
            raise StorageError(
                f"{self.url} holds another sweep of the name {self._directory.name}: choose another --output."
            )
        for name in sorted(files, key=lambda name: name == PLAN):  # the plan last: before it, there is no sweep
            info, path = files[name], self._directory / name
            here = path.stat() if path.exists() else None
            changed = here is None or (info.size != here.st_size and info.mtime.timestamp() > here.st_mtime)
            if changed and not name.endswith(SUFFIX):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}{SUFFIX}")
                with self._fs.open_input_stream(info.path) as source, open(partial, "wb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
                partial.replace(path)
                os.utime(path, (info.mtime.timestamp(),) * 2)
        for path in _below(self._directory):
            name = path.relative_to(self._directory).as_posix()
            if name not in files or files[name].size != path.stat().st_size:
                self._due[path] = None

    def beat(self, lock: bytes) -> None:
        """Show there from now on that the driver of this lock lives."""
        self._lock = lock
        threading.Thread(target=self._beat, daemon=True).start()

    def put(self, *paths: Path) -> str | None:
        """Have files, and all below folders, copied soon; why earlier ones could not be, once for every trouble."""
        with self._changed:
            if self.taken:
                return None
            for path in paths:
                self._due |= dict.fromkeys(_below(path))
            if self._copier is None:
                self._copier = threading.Thread(target=self._copy, daemon=True)
                self._copier.start()
            self._changed.notify_all()
            trouble, self._trouble = self._trouble, None
        return trouble

    def close(self, released: bytes, within_s: float) -> str | None:
        """Wait until all has been copied, or so long, and give the copy free; what has not come there, or None."""
        self._over.set()
        deadline = time.monotonic() + within_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._copier is not None and (self._due or self._copying) and time.monotonic() < deadline:
                self._changed.wait(0.2)
            behind = len(self._due) + self._copying + len(self._never) if self._copier is not None else 0
            why = f" {self._trouble}." if self._trouble else ""
        if not self.taken:
            last = threading.Thread(target=self._show, args=(released,), daemon=True)
            last.start()
            last.join(LAST_S)  # a storage that hangs holds nobody
        return f"{behind} files have not come to {self.url}.{why}" if behind and not self.taken else None

    def _beat(self) -> None:
        while self._show(self._lock) and not self._over.wait(HEARTBEAT_S):
            pass

    def _show(self, lock: bytes) -> bool:
        """Write the lock there; False, and nothing more is copied, where another driver's lies there."""
        try:
            if self._anothers():
                with self._changed:
                    self.taken = True
                    self._due.clear()
                return False
            self._write(posixpath.join(self._root, LOCK), lock)
        except Exception as error:  # pyarrow raises many kinds
            self._troubled(error)
        return True

    def _anothers(self) -> bool:
        try:
            owner = json.loads(self._read(posixpath.join(self._root, LOCK)))
        except (FileNotFoundError, ValueError):
            return False
        ours = json.loads(self._lock)["driver"] if self._lock else None
        return owner.get("driver") not in (None, ours, self._dead) and not owner.get("released")

    def _copy(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    if self._closing:
                        return
                    self._changed.wait()
                # the journal last: it tells of no result that has not come there
                path = next((path for path in self._due if path.name != EVENTS), next(iter(self._due)))
                del self._due[path]  # what changes from now on is due again
                self._copying = True
            again = False
            try:
                if not self._doubtful or self._show(self._lock):  # after a trouble somebody may have taken it over
                    self._upload(path)
                self._doubtful = False
            except ValueError as error:  # a name that is no text
                self._never[path] = None
                self._troubled(error)
            except Exception as error:
                again = path.exists()
                self._doubtful = True
                self._troubled(error)
            with self._changed:
                self._copying = False
                if again and not self.taken:
                    self._due = {path: None, **self._due}
                self._changed.notify_all()
                if again:
                    self._changed.wait(RETRY_S)

    def _troubled(self, error: Exception) -> None:
        self._trouble = f"{self.url} cannot be written: {str(error)[:300]}"

    def _upload(self, path: Path) -> None:
        target = posixpath.join(self._root, path.relative_to(self._directory).as_posix())
        with open(path, "rb") as source:
            self._write(target, source)

    def _read(self, path: str) -> bytes:
        with self._fs.open_input_stream(path) as file:
            return bytes(file.read())

    def _write(self, target: str, content: Any) -> None:
        """Write bytes, or what an open file holds, so that the target appears whole."""
        self._fs.create_dir(posixpath.dirname(target), recursive=True)
        objects = self._fs.type_name in ("s3", "gcs", "abfs")  # an object appears when it is complete
        with self._fs.open_output_stream(target if objects else target + self._partial) as file:
            file.write(content) if isinstance(content, bytes) else shutil.copyfileobj(content, file, CHUNK_BYTES)
        if not objects:
            self._fs.move(target + self._partial, target)


def _below(path: Path) -> list[Path]:
    """A file, or all files below a folder, a run's manifest after what it tells of; half-written ones and links are left out.

    The lock goes by heartbeats.
    """
    found = sorted(path.rglob("*"), key=lambda file: (file.name == RUN_MANIFEST, file)) if path.is_dir() else [path]
    return [
        file
        for file in found
        if file.is_file() and not file.is_symlink() and not file.name.endswith(SUFFIX) and file.name != LOCK
    ]
