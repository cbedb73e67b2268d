"""Sweeps at a URL that pyarrow opens (s3://, gs://, file://), brought here one at a time to be read."""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from analysis.sweepdir.layout import ARMS, EVENTS, LOCK, PLAN, RUN_MANIFEST, TRAIN_LOG, SweepError

CHUNK_BYTES = 2**22
NEEDED = re.compile(
    rf"{re.escape(PLAN)}|{re.escape(EVENTS)}"
    rf"|({'|'.join(ARMS)})/seed-\d{{1,18}}/attempt-\d{{1,9}}/({re.escape(RUN_MANIFEST)}|{re.escape(TRAIN_LOG)})"
)
SIGNS = (EVENTS, LOCK, *ARMS)  # of a sweep; a record folder may hold a plan too


class Remote:
    """The sweeps below a URL. Raises SweepError where it cannot be read.

    sweeps: their paths below the URL, in order; an empty one is the URL itself.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._fs, self._root = fs.FileSystem.from_uri(self.url)
            found = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        except (OSError, ValueError) as error:
            raise SweepError(f"{url} cannot be read: {error}") from None
        self._files: dict[str, list[str]] = {}  # the needed ones of each sweep
        names = [posixpath.relpath(info.path, self._root) for info in found if info.is_file]
        self.sweeps = _sweeps_among(names)
        if not self.sweeps:
            raise SweepError(f"There is no sweep at {url} or below: no folder there holds a {PLAN} and runs.")
        known = {*self.sweeps}
        for name in names:
            sweep = next((one for one in _above(name) if one in known), None)
            if sweep is not None and NEEDED.fullmatch(posixpath.relpath(name, sweep or ".")):
                self._files.setdefault(sweep, []).append(name)

    @contextmanager
    def fetched(self, sweep: str) -> Iterator[Path]:
        """Fetch the files of a sweep that are read; the folder lasts as long as the context. Raises SweepError."""
        with tempfile.TemporaryDirectory(prefix="seedproof-") as folder:
            for name in self._files[sweep]:
                self._fetch(name, Path(folder) / posixpath.relpath(name, sweep or "."))
            yield Path(folder)

    def _fetch(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._fs.open_input_stream(posixpath.join(self._root, name)) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
        except OSError as error:
            raise SweepError(f"{self.url}/{name} cannot be read: {error}") from None


def _sweeps_among(names: Sequence[str]) -> list[str]:
    """Return the folders that hold a plan and a sign of a sweep, without hidden ones and those inside others."""
    signs: dict[str, set[str]] = {}
    for name in names:
        for folder in _above(name):
            signs.setdefault(folder, set()).add(posixpath.relpath(name, folder or ".").partition("/")[0])
    found = {folder for folder, own in signs.items() if PLAN in own and own & {*SIGNS} and not _is_hidden(folder)}
    return sorted(folder for folder in found if not any(above in found for above in _above(folder)))


def _above(path: str) -> list[str]:
    """Return the folders that a path lies in, from the root, which is the empty text."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts))] if path else []


def _is_hidden(folder: str) -> bool:
    return any(part.startswith(".") for part in folder.split("/"))
