"""Read what a registry holds of one plan: objects below a URL, or all that was ever added to a git branch.

In a branch whatever a commit added counts, even if a later commit removed it.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from analysis.sweepdir.registry import LARGEST_ENTRY, MOST_ENTRIES, Branch, Entry, RegistryError, branch_of, git
from analysis.untrusted.secrets import redacted

NO_FOLDER = "there is no such folder"
_ADDED = re.compile(r":000000 100644 0+ ([0-9a-f]{40,64}) A\t(\S+)")


def read_entries(url: str, plan: str) -> list[Entry]:
    """Return the entries of a plan, by its SHA-256. Raises RegistryError."""
    branch = branch_of(url)
    try:
        found = _objects(url, plan) if branch is None else _added(branch, plan)
    except (OSError, ValueError) as error:
        why = redacted(str(error).strip().partition("\n")[0])[:300]
        raise RegistryError(f"--registry {redacted(url)} cannot be read: {why}") from None
    return [entry for entry in found if entry is not None]


def _objects(url: str, plan: str) -> list[Entry | None]:
    """Read the objects below a URL. Their path and the store's clock say it all, so only a plan's own are listed."""
    if url.startswith("file:"):
        return _files(url, plan)
    from pyarrow import fs

    store, root = fs.FileSystem.from_uri(url.rstrip("/"))
    if store.get_file_info(root).type is not fs.FileType.Directory:
        raise OSError(NO_FOLDER)
    folder = posixpath.join(root, plan)
    infos = [
        info
        for info in store.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        if info.is_file
    ]
    _check_number(infos)
    found = []
    for info in infos:
        stored = None if info.mtime is None else info.mtime.isoformat(timespec="seconds")
        content = b""
        if stored is None and info.size <= LARGEST_ENTRY:
            with store.open_input_stream(info.path) as file:
                content = file.read(LARGEST_ENTRY)
        found.append(Entry.of(plan, posixpath.relpath(info.path, folder), content, stored))
    return found


def _files(url: str, plan: str) -> list[Entry | None]:
    """Read the files below a file:// URL, which needs no pyarrow."""
    from urllib.request import url2pathname  # loads http and ssl

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise OSError("a file:// URL has three slashes before its path")
    root = Path(url2pathname(parts.path))
    if not root.is_dir():
        raise OSError(NO_FOLDER)
    found = [path for path in islice((root / plan).rglob("*"), 10 * MOST_ENTRIES) if path.is_file()]
    _check_number(found)
    times = [datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds") for path in found]
    below = [path.relative_to(root / plan).as_posix() for path in found]
    return [Entry.of(plan, name, b"", stored) for name, stored in zip(below, times, strict=True)]


def _added(branch: Branch, plan: str) -> list[Entry | None]:
    with tempfile.TemporaryDirectory(prefix="seedproof-registry-") as room:
        folder = Path(room) / "git"
        git(folder, "init", "--quiet", "--bare")
        git(folder, "fetch", "--quiet", "--no-tags", branch.remote, branch.reference)
        words = (
            "log",
            "--no-renames",
            "--full-history",  # a merge that drops what its other side added hides it otherwise
            "--diff-filter=A",
            "--raw",
            "--no-abbrev",
            "--format=",
            "FETCH_HEAD",
            "--",
            plan,
        )
        lines = git(folder, *words).decode("utf-8", "replace").splitlines()
        blobs = {match[2]: match[1] for line in lines if (match := _ADDED.fullmatch(line))}
        _check_number(blobs)
        contents = _contents(folder, list(blobs.values()))
        return [Entry.of(plan, path.removeprefix(f"{plan}/"), contents.get(blob, b"")) for path, blob in blobs.items()]


def _contents(folder: Path, blobs: list[str]) -> dict[str, bytes]:
    """Return the content of each blob that is no larger than an entry."""
    listed = git(folder, "cat-file", "--batch-check=%(objectname) %(objectsize)", given="\n".join(blobs).encode())
    small = [
        name for name, size in (line.split() for line in listed.decode().splitlines()) if int(size) <= LARGEST_ENTRY
    ]
    return {name: git(folder, "cat-file", "blob", name) for name in dict.fromkeys(small)}


def _check_number(found: Sequence[object] | dict[str, str]) -> None:
    if len(found) > MOST_ENTRIES:
        raise OSError(f"it holds {len(found)} entries of this plan; at most {MOST_ENTRIES} are read")
