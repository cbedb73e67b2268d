"""What action.yml runs: the gate on every record folder that a pull request touches.

    SEEDPROOF_PATH=records SEEDPROOF_SOTA=1.2161 SEEDPROOF_BASE=<commit> python -I -m analysis.action

Configured by environment variables only, in the root of a checkout that is somebody else's: nothing of it is executed,
and its names and contents are printed escaped. Each record is judged as `analysis.significance check` does, with its
annotations and its part of the step summary; the exit code is that of the worst.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from analysis import escape
from analysis.escape import printable
from analysis.leaderboard import is_record, record_folders
from analysis.significance import check, exit_code, gate

OPTIONS = ("rules", "sota", "control", "margin", "unit", "alpha")


class ChangeError(click.UsageError):
    """The change itself cannot be judged, as full sentences."""


def main() -> None:
    escape.tolerate_any_text()
    try:
        folders = to_check(os.environ)
        options = [f"--{name}={value}" for name in OPTIONS if (value := os.environ.get(f"SEEDPROOF_{name.upper()}"))]
        if not folders:
            print("::notice title=seedproof::This change touches no record folder: there is nothing to check.")
            publish("none", None)
            raise SystemExit(0)
        outcomes = [judged(folder, options) for folder in folders]
    except click.ClickException as error:
        outcomes = [refused(error)]
    code, verdict, p_value = max(outcomes, key=lambda one: one[0])
    publish(verdict, p_value)
    raise SystemExit(code)


def judged(folder: Path, options: list[str]) -> tuple[int, str, float | None]:
    """(exit code, verdict, p-value) of one record folder, after printing what `check` prints of it."""
    print(f"{printable(str(folder))}:", flush=True)
    try:
        with check.make_context("seedproof", [*options, "--", str(folder)]) as context:
            verdict, errors = gate(**context.params)
    except click.ClickException as error:
        return refused(error)
    word = "refused" if verdict.verdict == "supported" and errors else verdict.verdict
    return exit_code(verdict, errors), word, verdict.test.p_value if verdict.test is not None else None


def refused(error: click.ClickException) -> tuple[int, str, float | None]:
    """Say why nothing could be judged, as an annotation."""
    print(f"::error title=seedproof::{escape.command_data(printable(error.format_message()))}", flush=True)
    return 2, "usage", None


def publish(verdict: str, p_value: float | None) -> None:
    """The action's outputs."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"verdict={verdict}\np_value={'' if p_value is None else repr(p_value)}\n")


# -- what a pull request touches ---------------------------------------------------------------------------------------


def to_check(environment: Mapping[str, str]) -> list[Path]:
    """The record folders to judge: of a pull request those it touches, else all below the path.

    A path that is itself a record folder is judged in any case. Raises ChangeError where the path is not there, and
    where the change touches what it is judged by: the ruleset's file or the control's runs.
    """
    top = Path(os.path.normpath(environment.get("SEEDPROOF_PATH") or "records"))
    if top.is_absolute() or ".." in top.parts:
        raise ChangeError(f"path: {top} must lie in the repository. Give it relative to its root.")
    base = environment.get("SEEDPROOF_BASE", "")
    changed = changed_files(base) if base else []
    for name in ("rules", "control"):
        measure = environment.get(f"SEEDPROOF_{name.upper()}") or ""
        touched = [path for path in changed if measure and path.is_relative_to(os.path.normpath(measure))]
        if touched:
            raise ChangeError(
                f"{name}: this change touches {touched[0]}, which it would be judged by. Change that in a pull request "
                f"of its own, or look at this one by hand."
            )
    if not top.is_dir():
        if any(path.is_relative_to(top) for path in changed) or not changed:
            raise ChangeError(f"path: {top} is no folder of this checkout. Name the folder that holds the records.")
        return []
    if not changed or is_record(top, _entries(top)):
        return list(record_folders(top))
    found = (record_around(path, top) for path in changed)
    return sorted({folder for folder in found if folder is not None})


def record_around(path: Path, top: Path) -> Path | None:
    """The record folder below `top` that a file lies in, as the leaderboard would find it; links are not followed.

    A file in no record folder, such as a README and a script without any log, stands for the folder it lies in, which then
    has no evidence to show, unless that holds whole records.
    """
    if not path.is_relative_to(top):
        return None
    folder = top
    for part in path.relative_to(top).parts[:-1]:
        if (folder / part).is_symlink() or not (folder / part).is_dir():
            return None
        folder = folder / part
        if is_record(folder, _entries(folder)):
            return folder
    return folder if folder != top and next(record_folders(folder), None) is None else None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def changed_files(base: str) -> list[Path]:
    """The files that differ between the checkout and `base`, removed ones too.

    Where the checkout is GitHub's own merge of the pull request, its first parent is what it would be merged into. Any other
    merge may be the author's, and its parents prove nothing.
    """
    parents = git("rev-parse", "HEAD^@").split()
    merged = git("rev-parse", "HEAD").strip() == os.environ.get("GITHUB_SHA") and len(parents) == 2
    if merged and git_can("cat-file", "-e", parents[0]):
        base = parents[0]
    elif not git_can("cat-file", "-e", f"{base}^{{commit}}"):
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", base)
    names = git("diff", "--name-only", "--no-renames", "-z", base, "HEAD", "--")
    return [Path(name) for name in names.split("\0") if name]


def git(*arguments: str) -> str:
    found = _run_git(arguments)
    if found.returncode:
        said = (os.fsdecode(found.stderr).strip().splitlines() or ["no reason given"])[-1]
        raise ChangeError(
            f"git {arguments[0]} failed ({said}). Run actions/checkout with fetch-depth: 2 before this action."
        )
    return os.fsdecode(found.stdout)


def git_can(*arguments: str) -> bool:
    return _run_git(arguments).returncode == 0


def _run_git(arguments: Iterable[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "--no-pager", *arguments], capture_output=True, check=False)
    except OSError as error:
        raise ChangeError(f"git cannot be started: {error.strerror}.") from None


if __name__ == "__main__":
    main()
