"""Rows of a board that were made before, by a digest of all that they depend on. A cache changes no result.

The key is a SHA-256 over the names, sizes and contents of the folder's files, the rules, what the record is tested
against, and the code that judges. The cache's folder belongs to its user alone. What is odd in it counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import MOST_FILES, NO_LINK
from analysis.verdict.board.row import Row

CODE = Path(__file__).parents[2]  # the package analysis
CODE_SUFFIXES = (".py", ".toml")
MOST_BYTES = 2**30  # of a folder's files; a larger one is read again each time
LARGEST_ENTRY = 2**16  # bytes
MOST_ENTRIES = 10_000
BLOCK = 2**20
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (float, int), "str | None": (str, type(None)),
    "int | None": (int, type(None)), "float | None": (float, int, type(None)),
}  # fmt: skip


def usual_folder() -> Path | None:
    """Return where rows are kept: seedproof/board in $XDG_CACHE_HOME or ~/.cache.

    None without an absolute path, and on Windows, where a file's mode does not tell who may write it.
    """
    if not hasattr(os, "getuid"):
        return None
    named = os.environ.get("XDG_CACHE_HOME", "")
    top = Path(named) if os.path.isabs(named) else Path(os.path.expanduser("~")) / ".cache"
    return top / "seedproof" / "board" if top.is_absolute() else None


def digest_of(folder: Path) -> str | None:
    """Return the digest of the names, sizes and contents below a folder; None where a file is not a plain readable one."""
    total = hashlib.sha256()
    count = size = 0
    try:
        for current, folders, names in os.walk(folder, onerror=_fail):
            folders.sort()
            _add(total, "folder", os.path.relpath(current, folder))
            if any(os.path.islink(os.path.join(current, name)) for name in (*folders, *names)):
                return None
            for name in sorted(names):
                content = _content_digest(Path(current, name))
                count, size = count + 1, size + content.size
                if count > MOST_FILES or size > MOST_BYTES:
                    return None
                _add(total, "file", name, str(content.size), content.sha256)
    except OSError:
        return None
    return total.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    size: int
    sha256: str


def _content_digest(path: Path) -> _Content:
    """Return a plain file's size and digest. Raises OSError for what is none, or is too large."""
    handle = os.open(path, NO_LINK)
    with open(handle, "rb", buffering=0) as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            raise OSError("no plain file of a size that is read")
        found, left = hashlib.sha256(), about.st_size
        while left > 0 and (block := file.read(min(BLOCK, left))):
            found.update(block)
            left -= len(block)
        return _Content(size=about.st_size - left, sha256=found.hexdigest())


def _fail(error: OSError) -> None:
    raise error


def _add(total: Any, *parts: str) -> None:
    for part in parts:
        content = os.fsencode(part)
        total.update(len(content).to_bytes(8, "big") + content)


@cache
def _code() -> str:
    """Return a digest of the code that a row depends on: our own, Python's version and those of numpy and scipy."""
    total = hashlib.sha256()
    for path in sorted(path for path in CODE.rglob("*") if path.suffix in CODE_SUFFIXES):
        _add(total, str(path.relative_to(CODE)), hashlib.sha256(path.read_bytes()).hexdigest())
    _add(total, sys.version, *(importlib.metadata.version(name) for name in ("numpy", "scipy")))
    return total.hexdigest()


def key_of(row: Row, folder: Path, rules: Ruleset, own: str, against: str | None) -> str:
    """Return the key of a row. own: the folder's digest. against: what says which record it is tested against."""
    parts = [_code(), str(folder), row.record, row.date, own, against, asdict(rules)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


class Cache:
    """Rows by their keys, in a folder of its user's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Row | None:
        """Return a row that was kept; None where there is none, or its file is not as we write it."""
        try:
            if not self._is_own():
                return None
            handle = os.open(self.folder / f"{key}.json", NO_LINK)
            with open(handle, "rb") as file:
                about = os.fstat(handle)
                if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_size > LARGEST_ENTRY:
                    return None
                table = json.loads(file.read(LARGEST_ENTRY))
        except (OSError, ValueError, RecursionError):
            return None
        whole = isinstance(table, dict) and table.keys() == {"key", "row", "sha256"} and table["key"] == key
        return _row(table["row"]) if whole and table["sha256"] == _digest(key, table["row"]) else None

    def put(self, key: str, row: Row) -> None:
        """Keep a row. A folder that cannot be written, or is not its user's own, keeps nothing."""
        table = asdict(row)
        text = json.dumps({"key": key, "row": table, "sha256": _digest(key, table)})
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_own() or len(text) > LARGEST_ENTRY:
                return
            handle, name = tempfile.mkstemp(dir=self.folder)
            try:
                with open(handle, "w", encoding="ascii") as file:
                    file.write(text)
                os.replace(name, self.folder / f"{key}.json")
            except BaseException:
                os.unlink(name)
                raise

    def prune(self) -> None:
        """Remove the oldest rows beyond MOST_ENTRIES."""
        with contextlib.suppress(OSError):
            if self._is_own():
                kept = sorted(self.folder.iterdir(), key=lambda path: path.lstat().st_mtime)
                for path in kept[: max(0, len(kept) - MOST_ENTRIES)]:
                    path.unlink()

    def _is_own(self) -> bool:
        """Return whether the cache is a folder, no link, that nobody else may write to. Raises OSError."""
        about = os.lstat(self.folder)
        return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022


def _digest(key: str, table: Any) -> str:
    return hashlib.sha256(f"{key} {json.dumps(table, sort_keys=True)}".encode()).hexdigest()


def _row(table: Any) -> Row | None:
    """Return the row of a table with just its keys, each of its type and every number finite."""
    kinds = {key.name: _TYPES[str(key.type)] for key in fields(Row)}
    if not isinstance(table, dict) or table.keys() != kinds.keys():
        return None
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, kinds[name]):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
    return Row(**table)
