"""Brings a run's files over from a node that does not share the sweep's directory.

There a run writes to a folder of its own node. Its log comes over while it grows, its other files at the end. Each is
checked against the digest in the run's manifest before it gets its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk.files import file_digest, write_json
from orchestration.disk.lock import read_owner
from orchestration.worker.order import Part

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
        """Yield what the log has gained since the last call."""
        with open(self._folder / TRAIN_LOG, "rb") as file:
            file.seek(self._sent)
            while chunk := file.read(CHUNK_BYTES):
                self._sent += len(chunk)
                yield Part(name=TRAIN_LOG, content=chunk)

    def files(self, names: Iterable[str]) -> Iterator[Part]:
        """Yield the rest of the log and the other files."""
        yield from self.log()
        for name in names:
            if name == TRAIN_LOG:
                continue
            with open(self._folder / name, "rb") as file:
                yield Part(name=name, content=file.read(CHUNK_BYTES), first=True)
                while chunk := file.read(CHUNK_BYTES):
                    yield Part(name=name, content=chunk)


class Inbox:
    """The driver's end: fills an attempt's folder."""

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        write_json(folder / RUN_MANIFEST, manifest.table)

    def take(self, part: Part) -> None:
        path = self._path(part.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb" if part.first else "ab") as file:
            file.write(part.content)

    def close(self, manifest: RunManifest) -> RunManifest:
        """Give their names to the files that came over whole, and write run.json; return the manifest that counts.

        A run with a missing or damaged file is lost.
        """
        path = self._folder / RUN_MANIFEST
        table = dict(manifest.table)
        for name, expected in table["files"].items():
            part = self._path(name)
            if not part.is_file() or file_digest(part) != expected["sha256"]:
                if table["state"] != "lost":
                    reason = f"{name} did not come over from {manifest.host} as it was there"
                    table |= {"state": "lost", "reason": reason}
            else:
                part.replace(self._folder / name)
        self.clear()
        write_json(path, table)
        return RunManifest.of(table, path)

    def clear(self) -> None:
        """Remove half-copied files."""
        for path in self._folder.rglob(f".*{SUFFIX}"):
            path.unlink()

    def _path(self, name: str) -> Path:
        """Return where a file grows until it is whole; the log does so in its place, where people follow it.

        Raises ValueError for a name that leads out of the folder.
        """
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or parts[0] == RUN_MANIFEST:
            raise ValueError(f"{name!r} cannot be the name of a run's file")
        return self._folder / name if name == TRAIN_LOG else self._folder.joinpath(*parts[:-1], f".{parts[-1]}{SUFFIX}")
