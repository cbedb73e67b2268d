"""Brings a run's files over from a node that does not share the sweep's directory.

There a run writes to a folder of its own node. Its log comes over while it grows, its other files at the end, each
checked against the digest that the run's manifest names before it gets its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG, read_json
from orchestration.disk.files import file_digest, write_json
from orchestration.disk.lock import read_owner

CHUNK_BYTES = 4 * 2**20
SUFFIX = ".partial"

Message = tuple[str, Any]


def shares(directory: Path, driver: str) -> bool:
    """Whether this node sees the directory that the sweep's driver holds: the same path may be another disk.

    An older copy of the sweep, of an earlier driver, is another one too.
    """
    return read_owner(directory).get("driver") == driver


def scratch(sweep: str) -> Path:
    """A new folder on this node's own disk; what dead workers of the sweep left there goes away."""
    for left in Path(tempfile.gettempdir()).glob(f"seedproof-{sweep}-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"seedproof-{sweep}-{os.getpid()}-"))


class Outbox:
    """The worker's end. Its iterators yield the messages that an Inbox takes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._sent = folder, 0

    def log(self) -> Iterator[Message]:
        """What the log has gained since the last call."""
        with open(self._folder / TRAIN_LOG, "rb") as file:
            file.seek(self._sent)
            while chunk := file.read(CHUNK_BYTES):
                self._sent += len(chunk)
                yield "log", chunk

    def files(self, names: Iterable[str]) -> Iterator[Message]:
        """Everything else that the run left."""
        yield from self.log()
        for name in names:
            if name == TRAIN_LOG:
                continue
            with open(self._folder / name, "rb") as file:
                chunk = file.read(CHUNK_BYTES)
                yield "file", (name, chunk)
                while chunk := file.read(CHUNK_BYTES):
                    yield "more", (name, chunk)


class Inbox:
    """The driver's end: an attempt's folder that is filled from afar."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        write_json(folder / RUN_MANIFEST, manifest)

    def take(self, kind: str, content: Any) -> None:
        if kind == "log":
            with open(self._folder / TRAIN_LOG, "ab") as file:
                file.write(content)
            return
        name, chunk = content
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb" if kind == "file" else "ab") as file:
            file.write(chunk)

    def close(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Name what came over as it should and write run.json; the manifest that stands then.

        A run of which something is missing or damaged is lost. What the driver decided meanwhile stands.
        """
        written = read_json(self._folder / RUN_MANIFEST)
        if written["state"] != "running":
            return written
        for name, expected in manifest["files"].items():
            path = self._folder / name if name == TRAIN_LOG else self._path(name)
            if not path.is_file() or file_digest(path) != expected["sha256"]:
                if manifest["state"] != "lost":
                    reason = f"{name} did not come over from {manifest['host']} as it was there"
                    manifest |= {"state": "lost", "reason": reason}
            elif name != TRAIN_LOG:
                path.replace(self._folder / name)
        self.clear()
        write_json(self._folder / RUN_MANIFEST, manifest)
        return manifest

    def clear(self) -> None:
        """Take away what is not whole."""
        for path in self._folder.rglob(f".*{SUFFIX}"):
            path.unlink()

    def _path(self, name: str) -> Path:
        """Where a file grows until it is whole. Raises ValueError for a name that leads out of the folder."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or parts[0] == RUN_MANIFEST:
            raise ValueError(f"{name!r} is no name of a run's file")
        return self._folder.joinpath(*parts[:-1], f".{parts[-1]}{SUFFIX}")
