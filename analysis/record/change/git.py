"""Read what commits hold, trees and blobs, from git's objects. No filter, attribute or hook is involved."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analysis.untrusted.files import LIMIT
from analysis.untrusted.refusal import UsageError

REGULAR = ("100644", "100755")
LONGEST_POINTER = 1024  # bytes of a file of Git LFS that names the real one
POINTER = b"version https://git-lfs.github.com/spec/"


class ChangeError(UsageError):
    """A change that cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A regular file of a commit: the digest of its content, and its size."""

    digest: str
    size: int


Tree = Mapping[Path, Blob]


def git(*arguments: str, given: bytes = b"") -> str:
    """Run git and return what it prints. Raises ChangeError."""
    return os.fsdecode(_git(arguments, given))


def _git(arguments: tuple[str, ...], given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ["git", "--no-pager", "--literal-pathspecs", *arguments], input=given, capture_output=True, check=True
        )
    except OSError as error:
        raise ChangeError(f"git cannot be started: {error.strerror}.") from None
    except subprocess.CalledProcessError as error:
        lines = os.fsdecode(error.stderr).strip().splitlines() or ["no reason given"]
        said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
        raise ChangeError(
            f"git {arguments[0]} failed ({said}). Run actions/checkout with fetch-depth: 2 before this action."
        ) from None
    return done.stdout


def git_has(thing: str) -> bool:
    with suppress(ChangeError):
        git("cat-file", "-e", thing)
        return True
    return False


def target_of(base: str) -> str:
    """Return the commit that the change would be merged into, and fetch it if it is missing. Raises ChangeError.

    If the checkout is GitHub's own merge of the pull request, that commit is the merge's first parent. Any other merge may be
    the author's, and its parents prove nothing. Then the commit is `base`.
    """
    parents = git("rev-parse", "HEAD^@").split()
    merged = git("rev-parse", "HEAD").strip() == os.environ.get("GITHUB_SHA") and len(parents) == 2
    if merged and git_has(parents[0]):
        return parents[0]
    if not git_has(f"{base}^{{commit}}"):
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", base)
    return base


def start_of(target: str) -> str:
    """Return the commit where the change began. What was merged into the target later is not part of the change."""
    with suppress(ChangeError):  # a shallow checkout does not know
        return git("merge-base", target, "HEAD").strip()
    return target


def changed_files(base: str) -> list[Path]:
    """Return the files that differ between the checkout's commit and `base`, removed ones too."""
    names = git("diff", "--name-only", "--no-renames", "--ignore-submodules=none", "-z", base, "HEAD", "--")
    return [Path(name) for name in names.split("\0") if name]


def tree(commit: str, below: Path) -> Tree:
    """Return the regular files of a commit below a folder."""
    where = [] if below == Path(".") else [str(below)]
    listed = git("ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", *where)
    found: dict[Path, Blob] = {}
    for entry in listed.split("\0"):
        about, _, name = entry.partition("\t")
        if about.startswith(REGULAR):
            _, _, digest, size = about.split()
            found[Path(name)] = Blob(digest=digest, size=int(size))
    return found


def content(blob: Blob | None) -> bytes:
    """Return the content of a blob, empty if the blob is missing or larger than a log may be."""
    return _git(("cat-file", "blob", blob.digest)) if blob is not None and blob.size <= LIMIT else b""


def write_out(files: Mapping[Path, Blob], folder: Path) -> None:
    """Write files of a commit into a folder. Files larger than a log may be are left out."""
    command = ["git", "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as batch:
        assert batch.stdin is not None
        assert batch.stdout is not None
        for path, blob in files.items():
            if blob.size <= LIMIT:
                batch.stdin.write(f"{blob.digest}\n".encode())
                batch.stdin.flush()
                batch.stdout.readline()  # digest, kind, size
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(batch.stdout.read(blob.size))
                batch.stdout.read(1)
        batch.stdin.close()


def check_as_committed(files: Mapping[Path, Blob], on_disk: Iterable[Path]) -> None:
    """Raise ChangeError unless the checkout has exactly the files of the commit, byte by byte."""
    for path in on_disk:
        if path not in files:
            raise ChangeError(f"{path} is not in the commit: an earlier step made it. Judge before anything else runs.")
    for path, blob in files.items():
        if not os.path.lexists(path):
            raise ChangeError(f"{path} is not in the checkout. Check out the whole folder, without sparse-checkout.")
        if _digest(path, blob) != blob.digest and not _is_of_lfs(path, blob):
            raise ChangeError(
                f"{path} differs from the commit: a filter, a conversion of line endings or an earlier step "
                f"changed it. Keep the bytes of the commit, for example with `* -text` in .gitattributes."
            )


def _digest(path: Path, blob: Blob) -> str:
    """Return git's digest of a file, by the algorithm that the blob's digest uses."""
    size = path.stat().st_size
    digest = hashlib.sha256() if len(blob.digest) == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(f"blob {size}\0".encode())
    return _hashed(path, digest)


def _hashed(path: Path, digest: hashlib._Hash) -> str:
    for part in _parts(path):
        digest.update(part)
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while part := file.read(2**20):
            yield part


def _is_of_lfs(path: Path, blob: Blob) -> bool:
    """Return whether the commit holds a Git LFS pointer to exactly this file."""
    pointer = content(blob) if blob.size <= LONGEST_POINTER else b""
    if not pointer.startswith(POINTER):
        return False
    return f"oid sha256:{_hashed(path, hashlib.sha256())}".encode() in pointer.split(b"\n")
