"""Bring a run's files over from a node that does not share the sweep's directory.

There a run writes to a folder of its own node. Its log comes over while it grows, its other files at the end. Each is
checked against the digest in the run's manifest before it gets its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk.lock import read_owner
from orchestration.disk.patient import Disk
from orchestration.worker.manifest import described_log, ending, write_manifest
from orchestration.worker.order import Part, RunOrder
from orchestration.worker.outcome import Outcome, result_in
from orchestration.worker.watchdog import MOST_LOG_BYTES, itself

CHUNK_BYTES = 4 * 2**20
SUFFIX = ".partial"


def shares(directory: Path, driver: str) -> bool:
    """Return whether this node sees the directory that the sweep's driver holds.

    The same path may be on another disk, or hold an older copy of the sweep, of an earlier driver.
    """
    return read_owner(directory).driver == driver


def scratch(sweep: str) -> Path:
    """Make a new folder on this node's own disk, and remove those that dead workers of the sweep left."""
    for left in Path(tempfile.gettempdir()).glob(f"seedproof-{sweep}-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"seedproof-{sweep}-{os.getpid()}-"))


class Outbox:
    """The worker's end: reads a run's files as the parts that an Inbox takes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._sent = folder, 0

    def log(self) -> Iterator[Part]:
        """Yield what the log has gained since the last call, up to the size that is read of a log."""
        with open(self._folder / TRAIN_LOG, "rb", opener=itself) as file:
            file.seek(self._sent)
            while chunk := file.read(min(CHUNK_BYTES, MOST_LOG_BYTES - self._sent)):
                self._sent += len(chunk)
                yield Part(name=TRAIN_LOG, content=chunk)

    def files(self, names: Iterable[str]) -> Generator[Part, None, dict[str, str]]:
        """Yield the rest of the log and the other files; return their SHA-256, found as they are read."""
        yield from self.log()
        digests = {}
        for name in names:
            if name == TRAIN_LOG:
                continue
            with open(self._folder / name, "rb") as file:
                chunk = file.read(CHUNK_BYTES)
                found = hashlib.sha256(chunk)
                yield Part(name=name, content=chunk, first=True)
                while chunk := file.read(CHUNK_BYTES):
                    found.update(chunk)
                    yield Part(name=name, content=chunk)
            digests[name] = found.hexdigest()
        return digests


@dataclass(slots=True)
class _Came:
    """What has arrived of a file."""

    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Inbox:
    """The driver's end: fills an attempt's folder."""

    def __init__(self, order: RunOrder, manifest: RunManifest, disk: Disk) -> None:
        self._order, self._folder, self._disk = order, order.folder, disk
        self._came: dict[Path, _Came] = {}
        self._write(manifest.table)

    def take(self, part: Part) -> None:
        path = self._path(part.name)
        came = _Came() if part.first else self._came.get(path, _Came())
        self._disk.write(path, lambda: self._put(path, came.size, part.content))
        came.size += len(part.content)
        came.digest.update(part.content)
        self._came[path] = came

    def _put(self, path: Path, position: int, content: bytes) -> None:
        """Write a part at this position, over what a full disk took of it at an earlier try."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), "wb") as file:
            file.truncate(position)
            file.seek(position)
            file.write(content)

    def _write(self, table: Mapping[str, Any]) -> None:
        self._disk.write(self._folder / RUN_MANIFEST, lambda: write_manifest(self._folder, table))

    def _is_whole(self, name: str, expected: Mapping[str, Any]) -> bool:
        part = self._path(name)
        came = self._came.get(part)
        return came is not None and part.is_file() and came.digest.hexdigest() == expected["sha256"]

    def close(self, manifest: RunManifest) -> RunManifest:
        """Give their names to the files that arrived whole, and write run.json; return the manifest that counts.

        If files are missing or damaged, the log decides whether the run has its result.
        """
        missing = []
        for name, expected in manifest.part("files").items():
            if self._is_whole(name, expected):
                self._disk.write(self._folder / name, partial(self._path(name).replace, self._folder / name))
            else:
                missing.append(name)
        self.clear()
        table = dict(manifest.table)
        if missing and manifest.state == "succeeded":
            table |= {"metric": None} | ending(self._order, self._without(missing, manifest))
        if TRAIN_LOG in missing:
            table["files"] = {**manifest.part("files"), **described_log(self._folder / TRAIN_LOG)}
        self._write(table)
        return RunManifest.of(table, self._folder / RUN_MANIFEST)

    def _without(self, missing: list[str], manifest: RunManifest) -> Outcome:
        """Judge a run that succeeded on its node, but some of whose files did not arrive."""
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        lost = Outcome(state="lost", reason=f"{missing[0]}{more} did not arrive from {manifest.host} unchanged")
        log, order = self._folder / TRAIN_LOG, self._order
        ended_well = manifest.table.get("exit_code") == 0 and TRAIN_LOG not in missing
        return result_in(log, order.seed, order.rules, lost, ended_well=ended_well)

    def clear(self) -> None:
        """Remove half-copied files."""
        for path in self._folder.rglob(f".*{SUFFIX}"):
            self._disk.write(path, path.unlink)

    def _path(self, name: str) -> Path:
        """Return where a file grows until it is whole; the log does so in its place, where people follow it.

        Raises ValueError for a name that leads out of the folder.
        """
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or parts[0] == RUN_MANIFEST:
            raise ValueError(f"{name!r} cannot be the name of a run's file")
        return self._folder / name if name == TRAIN_LOG else self._folder.joinpath(*parts[:-1], f".{parts[-1]}{SUFFIX}")
