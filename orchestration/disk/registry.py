"""Write entries to a registry (`--registry`): a folder at any URL that pyarrow opens, or a branch of a git repository.

An entry is one small object of its own. Writing one that is there already does nothing.
"""

from __future__ import annotations

import posixpath
import secrets
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Protocol

from analysis.sweepdir.registry import Branch, RegistryError, branch_of, git
from analysis.untrusted.secrets import redacted

TRIES = 20  # of a push, when others push first
PARTIAL = ".partial"


class Registry(Protocol):
    """Where entries are written."""

    def write(self, name: str, content: bytes) -> None:
        """Add an entry; keep one that is there. Raises OSError."""


def open_registry(url: str) -> Registry:
    """Return the registry at a URL. Raises RegistryError."""
    branch = branch_of(url)
    return _Folder(url) if branch is None else _GitBranch(branch)


class _Folder:
    """Objects below a URL."""

    def __init__(self, url: str) -> None:
        from pyarrow import fs

        try:
            self._fs, self._root = fs.FileSystem.from_uri(url.rstrip("/"))
        except (OSError, ValueError) as error:
            raise RegistryError(f"--registry {redacted(url)} cannot be used: {error}") from None

    def write(self, name: str, content: bytes) -> None:
        """Add an entry; keep one that is there. Raises OSError."""
        target = posixpath.join(self._root, name)
        if self._fs.get_file_info(target).is_file:
            return
        objects = self._fs.type_name in ("s3", "gcs", "abfs")  # an object appears when it is complete
        if not objects:
            self._fs.create_dir(posixpath.dirname(target), recursive=True)
        with self._fs.open_output_stream(target if objects else target + PARTIAL) as file:
            file.write(content)
        if not objects:
            self._fs.move(target + PARTIAL, target)


class _GitBranch:
    """A commit for each entry, pushed at once. No checkout is needed: all is done with git's objects."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        self._room = Path(tempfile.mkdtemp(prefix="seedproof-registry-"))
        weakref.finalize(self, shutil.rmtree, self._room, ignore_errors=True)
        self._folder = self._room / "git"
        try:
            git(self._folder, "init", "--quiet", "--bare")
        except OSError as error:
            raise RegistryError(f"--registry git+{redacted(branch.remote)} cannot be used: {error}") from None

    def write(self, name: str, content: bytes) -> None:
        """Add an entry in a commit of its own; where somebody else pushed first, once more on top of theirs."""
        for attempt in range(TRIES):
            base = self._head()
            if base is not None and self._has(base, name):
                return
            commit = self._commit(base, name, content)
            try:
                git(self._folder, "push", "--quiet", self._branch.remote, f"{commit}:{self._branch.reference}")
                return
            except OSError:
                if self._remote_head() == base or attempt + 1 == TRIES:
                    raise
            time.sleep(0.05 + secrets.randbelow(50) / 100)

    def _remote_head(self) -> str | None:
        listed = git(self._folder, "ls-remote", "--heads", self._branch.remote, self._branch.reference)
        return listed.split()[0].decode() if listed else None

    def _head(self) -> str | None:
        """Fetch the branch; return its commit, None if there is no such branch yet."""
        if self._remote_head() is None:
            return None
        arguments = ("fetch", "--quiet", "--depth=1", "--no-tags", self._branch.remote, self._branch.reference)
        git(self._folder, *arguments)
        return git(self._folder, "rev-parse", "FETCH_HEAD").decode().strip()

    def _has(self, commit: str, name: str) -> bool:
        return bool(git(self._folder, "ls-tree", commit, "--", name))

    def _commit(self, base: str | None, name: str, content: bytes) -> str:
        index = self._room / "index"
        git(self._folder, "read-tree", base or "--empty", index=index)
        blob = git(self._folder, "hash-object", "-w", "--stdin", given=content).decode().strip()
        git(self._folder, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", index=index)
        tree = git(self._folder, "write-tree", index=index).decode().strip()
        parent = () if base is None else ("-p", base)
        return git(self._folder, "commit-tree", tree, *parent, "-m", f"Register {name}").decode().strip()
