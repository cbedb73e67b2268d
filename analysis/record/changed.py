"""Which record folders a change touches, in a checkout that is somebody else's: nothing of it is executed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from analysis.record.claim import is_submission
from analysis.record.discover import is_record, record_folders
from analysis.sweepdir.layout import CONTROL, is_sweep
from analysis.untrusted.files import LOG_SUFFIXES
from analysis.untrusted.refusal import UsageError


class ChangeError(UsageError):
    """A change that cannot be judged."""


def records_to_check(top: str, base: str, measures: Mapping[str, str]) -> list[Path]:
    """Return the record folders below `top` that the change since `base` touches; without a change, all of them.

    measures: by the name of their input, the paths that the change is judged by. Raises ChangeError where the change
    touches one of these, and where it is unclear what a record holds: links, submodules, records inside records.
    """
    folder = _path_of_checkout("path", top)
    changed = _changed_files(base) if base else []
    for name, value in measures.items():
        measure = _path_of_checkout(name, value)
        if touched := [path for path in changed if path.is_relative_to(measure) or measure.is_relative_to(path)]:
            raise ChangeError(
                f"{name}: this change touches {touched[0]}, which it would be judged by. Change that in a pull request "
                f"of its own, or look at this one by hand."
            )
    if not folder.is_dir():
        if base and _git_has(f"{base}:{folder}"):
            return []  # the change removes it
        raise ChangeError(f"path: {folder} is no folder of this checkout. Name the folder that holds the records.")
    try:
        return _touched_records(changed, folder) if changed else list(record_folders(folder))
    except OSError as error:
        raise ChangeError(f"{error.filename} cannot be read: {error.strerror}.") from None


def _path_of_checkout(name: str, value: str) -> Path:
    """Return an input that is a path of the checkout. Without links a file has one name. Raises ChangeError."""
    path = Path(os.path.normpath(value))
    if path.is_absolute() or ".." in path.parts:
        raise ChangeError(f"{name}: {path} must be inside the repository. Give it relative to its root.")
    if link := _first_link(path):
        raise ChangeError(f"{name}: {link} is a link. Name what it leads to.")
    return path


def _first_link(path: Path) -> Path | None:
    """Return the first symbolic link on the way to a path, itself included."""
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink()), None)


# -- records -----------------------------------------------------------------------------------------------------------


def _touched_records(changed: list[Path], top: Path) -> list[Path]:
    """Return the record folders that the changed files belong to, as the leaderboard would find them."""
    for path in changed:
        if (link := _first_link(path)) and (link.is_relative_to(top) or top.is_relative_to(link)):
            raise ChangeError(f"{link} is a link. A record is judged by files of its own: put them in its place.")
        if path.is_dir() and path.is_relative_to(top):
            raise ChangeError(f"{path} is a submodule. A record is judged by files of its own: put them in its place.")
    found = {_alone(top)} if is_record(top, list(top.iterdir())) else set()
    for path in changed:
        if path.is_relative_to(top):
            found |= _records_of(path, top)
    return sorted(found)


def _records_of(path: Path, top: Path) -> set[Path]:
    """Return the records that a changed file belongs to: the one around it, else those below its folder."""
    folder = path.parent
    if record := _around(folder, top):
        return {_alone(record)}
    if folder == top:
        if path.exists() and _may_be_evidence(path):
            raise ChangeError(f"{path} is in no record folder. Put it into one.")
        return set()
    if not folder.is_dir():
        return set()
    below = _below(folder)
    if not below:
        return {folder}  # a folder without any evidence is judged as that
    return set() if path.suffix.lower() == ".md" else below


@cache
def _below(folder: Path) -> set[Path]:
    return set(record_folders(folder))


@cache
def _around(folder: Path, top: Path) -> Path | None:
    """Return the outermost record folder below `top` on the way to `folder`, itself included."""
    for one in (*reversed(folder.parents), folder):
        if one != top and one.is_relative_to(top) and one.is_dir() and is_record(one, list(one.iterdir())):
            return one
    return None


@cache
def _alone(record: Path) -> Path:
    """Return a record folder if none inside it claims to be one too: by a submission JSON, or a sweep's plan.

    The folder `control`, where our own records keep their control runs, is not one. Raises ChangeError.
    """
    for folder, _, names in os.walk(record):
        inner = Path(folder)
        if inner in (record, record / CONTROL):
            continue
        if any(map(is_submission, names)) or (is_sweep(inner) and not is_sweep(record)):
            raise ChangeError(
                f"{record} is a record folder and holds {inner}, another one. Put them next to each other."
            )
    return record


def _may_be_evidence(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(LOG_SUFFIXES) or (name.startswith("submission") and name.endswith(".json"))


# -- git ---------------------------------------------------------------------------------------------------------------


def _changed_files(base: str) -> list[Path]:
    """Return the files that differ between the checkout and `base`, removed ones too. Raises ChangeError.

    If the checkout is GitHub's own merge of the pull request, its first parent is what the change would be merged into.
    Any other merge may be the author's, and its parents prove nothing.
    """
    parents = _git("rev-parse", "HEAD^@").split()
    merged = _git("rev-parse", "HEAD").strip() == os.environ.get("GITHUB_SHA") and len(parents) == 2
    if merged and _git_has(parents[0]):
        base = parents[0]
    elif not _git_has(f"{base}^{{commit}}"):
        _git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", base)
    names = _git("diff", "--name-only", "--no-renames", "--ignore-submodules=none", "-z", base, "HEAD", "--")
    return [Path(name) for name in names.split("\0") if name]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "--no-pager", *arguments], capture_output=True, check=True)
    except OSError as error:
        raise ChangeError(f"git cannot be started: {error.strerror}.") from None
    except subprocess.CalledProcessError as error:
        lines = os.fsdecode(error.stderr).strip().splitlines() or ["no reason given"]
        said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
        raise ChangeError(
            f"git {arguments[0]} failed ({said}). Run actions/checkout with fetch-depth: 2 before this action."
        ) from None
    return os.fsdecode(done.stdout)


def _git_has(thing: str) -> bool:
    with suppress(ChangeError):
        _git("cat-file", "-e", thing)
        return True
    return False
