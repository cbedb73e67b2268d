"""Find the record folders that a change touches. The checkout is a stranger's, and nothing in it is executed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from analysis.record.change.attributes import NAME as ATTRIBUTES
from analysis.record.change.attributes import check_attributes
from analysis.record.change.evidence import Side, Standing, Touched, is_evidence, touched_records
from analysis.record.change.git import ChangeError, changed_files, check_as_committed, start_of, tree
from analysis.record.claim import is_submission
from analysis.record.discover import may_be_log, record_folders
from analysis.sweepdir.layout import CONTROL, is_log, is_sweep
from analysis.untrusted.files import files_below


def records_to_judge(top: str, target: str, measures: Mapping[str, str]) -> list[Touched]:
    """Return the records below `top` that the change touches. Without a target, return all of them as new.

    target: the commit that the change would be merged into. measures: the paths that the change is judged by, under the names of
    their inputs. Raises ChangeError if the change touches one of these, if it is unclear what a record holds (links,
    submodules, records inside records), or if the checkout differs from the commit.
    """
    folder = _path_of_checkout("path", top)
    since = start_of(target) if target else ""
    changed = changed_files(since) if target else []
    _check_measures(changed, measures)
    before, after = (tree(commit, folder) if target else {} for commit in (since, "HEAD"))
    if not folder.is_dir() and not before:
        raise ChangeError(f"path: {folder} is not a folder in this checkout. Name the folder that holds the records.")
    if not target:
        return [Touched(folder=one) for one in _listed(folder)]
    found = _touched_records(changed, folder) if folder.is_dir() else {}
    _check_attributes(changed, since, [folder, *map(Path, measures.values())])
    side = Side(files=after)
    touched = touched_records(Side(files=before), side, found, folder)
    for one in touched:
        if one.standing in (Standing.NEW, Standing.CLAIMS_MORE, Standing.STOOD):
            files = {one.folder / path: blob for path, blob in side.below(one.folder).items()}
            check_as_committed(files, filter(is_evidence, files_below(one.folder).files))
    return touched


def _listed(folder: Path) -> list[Path]:
    try:
        return list(record_folders(folder))
    except OSError as error:
        raise ChangeError(f"{error.filename} cannot be read: {error.strerror}.") from None


def _check_measures(changed: Iterable[Path], measures: Mapping[str, str]) -> None:
    """Raise ChangeError if a change touches what it would be judged by."""
    for name, value in measures.items():
        measure = _path_of_checkout(name, value)
        if touched := [path for path in changed if path.is_relative_to(measure) or measure.is_relative_to(path)]:
            raise ChangeError(
                f"{name}: this change touches {touched[0]}, which it would be judged by. Change that in a pull request "
                f"of its own, or look at this one by hand."
            )


def _check_attributes(changed: Sequence[Path], since: str, places: Sequence[Path]) -> None:
    """Raise ChangeError if a changed .gitattributes affects the records or what they are judged by."""
    attributes = [path for path in changed if path.name == ATTRIBUTES]
    if attributes:
        before, after = tree(since, Path(".")), tree("HEAD", Path("."))
        below = [path for path in {*before, *after} if any(path.is_relative_to(place) for place in places)]
        evidence = [path for path in below if is_evidence(path) or path.suffix == ".toml"]
        check_attributes(attributes, before, after, evidence)


def _path_of_checkout(name: str, value: str) -> Path:
    """Return an input as a path in the checkout. Links are refused, so that each file has one name. Raises ChangeError."""
    path = Path(os.path.normpath(value))
    if path.is_absolute() or ".." in path.parts:
        raise ChangeError(f"{name}: {path} must be inside the repository. Give it relative to its root.")
    if link := _first_link(path):
        raise ChangeError(f"{name}: {link} is a link. Name its target.")
    return path


def _first_link(path: Path) -> Path | None:
    """Return the first symbolic link on the way to a path, itself included."""
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink()), None)


# -- records -----------------------------------------------------------------------------------------------------------


def _touched_records(changed: list[Path], top: Path) -> dict[Path, list[Path]]:
    """Return the record folders that hold changed files, as the leaderboard finds them, with these files."""
    for path in changed:
        if (link := _first_link(path)) and (link.is_relative_to(top) or top.is_relative_to(link)):
            raise ChangeError(f"{link} is a link. A record must hold its own files: put them in its place.")
        if path.is_dir() and path.is_relative_to(top):
            raise ChangeError(f"{path} is a submodule. A record must hold its own files: put them in its place.")
    found: dict[Path, list[Path]] = {_alone(top): []} if top in _below(top) else {}
    for path in changed:
        for record in _records_of(path, top) if path.is_relative_to(top) else ():
            found.setdefault(record, []).append(path)
    return found


def _records_of(path: Path, top: Path) -> set[Path]:
    """Return the records that a changed file belongs to: the record that holds it, else those below its folder."""
    folder = path.parent
    if record := _around(folder, top):
        return {_alone(record)}
    if not folder.is_dir():
        return set()
    below = _below(folder)
    if (folder == top or below) and path.exists() and _may_be_evidence(path):
        raise ChangeError(f"{path} is not in a record folder. Move it into one.")
    if folder == top:
        return set()
    if not below:
        return {folder}  # a folder without any evidence is judged as that
    return set() if path.suffix.lower() == ".md" else below


@cache
def _below(folder: Path) -> set[Path]:
    return set(record_folders(folder))


def _around(folder: Path, top: Path) -> Path | None:
    """Return the record folder below `top` that holds `folder` or is it."""
    return next((one for one in (folder, *folder.parents) if one != top and one in _below(top)), None)


@cache
def _alone(record: Path) -> Path:
    """Return a record folder. Raises ChangeError if a folder inside it is a record too: by a submission JSON, or a sweep's plan.

    The folder `control`, in which seedproof's own records keep their control runs, is allowed.
    """
    for folder, _, names in os.walk(record):
        inner = Path(folder)
        if inner in (record, record / CONTROL):
            continue
        if any(map(is_submission, names)) or (is_sweep(inner) and not is_sweep(record)):
            raise ChangeError(
                f"{record} is a record folder and holds another one, {inner}. Put them next to each other."
            )
    return record


def _may_be_evidence(path: Path) -> bool:
    return is_submission(path.name) or is_log(path) or may_be_log(path)
