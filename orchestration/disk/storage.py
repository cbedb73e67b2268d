"""A copy of the sweep directory at a URL, which outlives the machine that drives the sweep.

Any URL that pyarrow opens: s3://, gs://, hdfs://, file://. A thread of its own copies, so neither a large file nor a
storage that is away for a while holds the sweep up.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shlex
import shutil
import threading
import time
from pathlib import Path
from typing import BinaryIO

from pyarrow import fs

from analysis.sweepdir.layout import EVENTS, LOCK, PLAN, RUN_MANIFEST, SweepError
from analysis.untrusted.refusal import SeedproofError
from orchestration.disk.lock import HEARTBEAT_S, HeldError, Owner, in_use

SUFFIX = ".partial"
RETRY_S = 10.0
LAST_S = 10.0  # for giving the copy back
CHUNK_BYTES = 2**22


class StorageError(SweepError):
    """A storage that cannot be used, as one sentence with its URL."""


class Storage:
    """The copy of one sweep directory below a URL. Raises StorageError, or HeldError where its driver still lives.

    Opening it, as the owner of the directory, fetches what the directory lacks: all of a sweep that a dead machine drove,
    or what went on elsewhere. What only the directory has is copied from the first `put` on.
    fresh: the sweep is new, so whatever lies there is another one's. It is refused, and nothing is fetched.
    sweep: the sweep's identity there, None if there is none. taken: another driver has since taken the copy over.
    """

    def __init__(self, url: str, directory: Path, *, fresh: bool = False) -> None:
        self.url, self._directory = url, directory
        self.sweep: str | None = None
        self.taken = False
        self._due: dict[Path, None] = {}  # not there yet, in order
        self._never: dict[Path, None] = {}  # cannot be copied: the name is not text
        self._trouble: str | None = None
        self._changed = threading.Condition()
        self._copying = self._closing = self._doubtful = False
        self._copier: threading.Thread | None = None
        self._heart: threading.Thread | None = None
        self._over = threading.Event()
        self._lock = b""
        self._dead: str | None = None  # the driver that was there before and is gone
        self._partial = f".{secrets.token_hex(4)}{SUFFIX}"
        try:
            self._fs, root = fs.FileSystem.from_uri(url.rstrip("/"))
            self._root = posixpath.join(root, directory.name)
            self._fs.create_dir(self._root, recursive=True)
            self._fetch(fresh=fresh)
        except SeedproofError:
            raise
        except (OSError, ValueError) as error:
            raise StorageError(f"--storage {url} cannot be used: {error}") from None

    def _fetch(self, *, fresh: bool) -> None:
        there = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        whole = [info for info in there if info.is_file and not info.path.endswith(SUFFIX)]
        files = {posixpath.relpath(info.path, self._root): info for info in whole}
        if lock := files.pop(LOCK, None):
            owner, age = Owner.of(self._read(lock.path)), time.time() - lock.mtime.timestamp()
            if not owner.silent(age):
                raise HeldError(in_use(self.url, owner, age))
            # a lock without a plan is of a sweep that never began: nothing to continue
            self.sweep, self._dead = owner.sweep if files else None, owner.driver
        if fresh and files:
            again = shlex.join(["sweep", "resume", str(self._directory), "--storage", self.url])
            raise StorageError(
                f"{self.url} already holds a sweep with the name {self._directory.name}: continue it with `{again}`, or "
                f"choose another --output name or --storage for a new one."
            )
        plan = self._directory / PLAN
        if PLAN in files and plan.exists() and plan.read_bytes() != self._read(files[PLAN].path):
            raise StorageError(
                f"{self.url} holds another sweep with the name {self._directory.name}: choose another --output."
            )
        for name in sorted(files, key=lambda name: name == PLAN):  # the plan last: without it there is no sweep yet
            self._fetch_one(files[name], self._directory / name)
        for path in _below(self._directory):
            name = path.relative_to(self._directory).as_posix()
            if name not in files or files[name].size != path.stat().st_size:
                self._due[path] = None

    def _fetch_one(self, info: fs.FileInfo, path: Path) -> None:
        here = path.stat() if path.exists() else None
        changed = here is None or (info.size != here.st_size and info.mtime.timestamp() > here.st_mtime)
        if not changed:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}{SUFFIX}")
        with self._fs.open_input_stream(info.path) as source, open(partial, "wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        partial.replace(path)
        os.utime(path, (info.mtime.timestamp(),) * 2)

    def beat(self, lock: bytes) -> None:
        """Start to show there that the driver of this lock lives."""
        self._lock = lock
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def put(self, *paths: Path) -> str | None:
        """Queue files, and all files below folders, to be copied; return why earlier ones failed, once for each trouble."""
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
        """Wait until all is copied, at most `within_s`, and give the copy back; return what has not been copied, or None."""
        self._over.set()
        deadline = time.monotonic() + within_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._copier is not None and (self._due or self._copying) and time.monotonic() < deadline:
                self._changed.wait(0.2)
            behind = len(self._due) + self._copying + len(self._never) if self._copier is not None else 0
            why = f" {self._trouble}." if self._trouble else ""
        if self._heart is not None:
            self._heart.join(LAST_S)  # a heartbeat under way must not write over the release
        if not self.taken:
            last = threading.Thread(target=self._show, args=(released,), daemon=True)
            last.start()
            last.join(LAST_S)  # a storage that hangs holds nobody up
        return f"{behind} files were not copied to {self.url}.{why}" if behind and not self.taken else None

    def _beat(self) -> None:
        while self._show(self._lock) and not self._over.wait(HEARTBEAT_S):
            pass

    def _show(self, lock: bytes) -> bool:
        """Write the lock there. If another driver's is there, return False and copy nothing more."""
        try:
            if self._is_anothers():
                with self._changed:
                    self.taken = True
                    self._due.clear()
                return False
            self._write(posixpath.join(self._root, LOCK), lock)
        except Exception as error:  # pyarrow raises many kinds
            self._troubled(error)
        return True

    def _is_anothers(self) -> bool:
        try:
            owner = Owner.of(self._read(posixpath.join(self._root, LOCK)))
        except (FileNotFoundError, ValueError):
            return False
        ours = Owner.of(self._lock).driver if self._lock else None
        return owner.driver not in (None, ours, self._dead) and owner.released is None

    def _copy(self) -> None:
        """Copy what is due, one file after the other, until the storage is closed and nothing is due."""
        while True:
            with self._changed:
                while not self._due:
                    if self._closing:
                        return
                    self._changed.wait()
                # the journal last: it names no result that is not there
                path = next((path for path in self._due if path.name != EVENTS), next(iter(self._due)))
                del self._due[path]  # if it changes from now on, it is due again
                self._copying = True
            again = self._copy_one(path)
            with self._changed:
                self._copying = False
                if again and not self.taken:
                    self._due = {path: None, **self._due}
                self._changed.notify_all()
                if again:
                    self._changed.wait(RETRY_S)

    def _copy_one(self, path: Path) -> bool:
        """Copy one file; return whether to try again."""
        try:
            if not self._doubtful or self._show(self._lock):  # after a trouble another driver may have taken it over
                target = posixpath.join(self._root, path.relative_to(self._directory).as_posix())
                with open(path, "rb") as source:
                    self._write(target, source)
            self._doubtful = False
        except ValueError as error:  # a name that is not text
            self._never[path] = None
            self._troubled(error)
        except Exception as error:
            self._doubtful = True
            self._troubled(error)
            return path.exists()
        return False

    def _troubled(self, error: Exception) -> None:
        self._trouble = f"{self.url} cannot be written: {str(error)[:300]}"

    def _read(self, path: str) -> bytes:
        with self._fs.open_input_stream(path) as file:
            return bytes(file.read())

    def _write(self, target: str, content: bytes | BinaryIO) -> None:
        """Write bytes, or what an open file holds, so that the target appears whole."""
        self._fs.create_dir(posixpath.dirname(target), recursive=True)
        objects = self._fs.type_name in ("s3", "gcs", "abfs")  # an object appears when it is complete
        with self._fs.open_output_stream(target if objects else target + self._partial) as file:
            file.write(content) if isinstance(content, bytes) else shutil.copyfileobj(content, file, CHUNK_BYTES)
        if not objects:
            self._fs.move(target + self._partial, target)


def _below(path: Path) -> list[Path]:
    """Return a file, or all files below a folder, a run's manifest after its other files.

    Half-written files, links and the lock, which the heartbeat writes, are left out.
    """
    found = sorted(path.rglob("*"), key=lambda file: (file.name == RUN_MANIFEST, file)) if path.is_dir() else [path]
    return [
        file
        for file in found
        if file.is_file() and not file.is_symlink() and not file.name.endswith(SUFFIX) and file.name != LOCK
    ]
