"""What action.yml runs: the gate on every record folder that a pull request touches.

    SEEDPROOF_PATH=records SEEDPROOF_SOTA=1.2161 SEEDPROOF_BASE=<commit> python -I -m analysis.action

Configured by environment variables only, in the root of a checkout that is somebody else's: nothing of it is executed,
and its names and contents are printed escaped. Each record is judged as `analysis.significance check` does, with its
annotations and its part of the step summary; the exit code is that of the worst.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import click

from analysis.record.claim import submission_file
from analysis.record.discover import is_record, record_folders
from analysis.rules.ruleset import RulesError, known, load
from analysis.significance import check, exit_code, gate
from analysis.sweepdir.layout import CONTROL, is_sweep
from analysis.untrusted import escape
from analysis.untrusted.escape import printable
from analysis.untrusted.files import LOG_SUFFIXES

MOST_RECORDS = 20
OPTIONS = ("rules", "sota", "control", "margin", "unit", "alpha")


class ChangeError(click.UsageError):
    """The change itself cannot be judged, as full sentences."""


def main() -> None:
    escape.tolerate_any_text()
    try:
        folders = to_check(os.environ)
        if not folders:
            print("::notice title=seedproof::This change adds or changes no record: there is nothing to check.")
            publish("none", None)
            raise SystemExit(0)
        options = yardstick(os.environ)
        outcomes = [judged(folder, options) for folder in folders]
    except click.ClickException as error:
        outcomes = [refused(error)]
    code, verdict, p_value = max(outcomes, key=lambda one: one[0])
    publish(verdict, p_value)
    raise SystemExit(code)


def yardstick(environment: Mapping[str, str]) -> list[str]:
    """The options of `check` that the workflow gives. What is to be beaten is the workflow's to say: a sweep's own plan, which
    would be taken where nothing is given, is its author's."""
    given = {name: value for name in OPTIONS if (value := environment.get(f"SEEDPROOF_{name.upper()}"))}
    if "sota" not in given and "control" not in given:
        try:
            target = load(given.get("rules", "parameter-golf")).target
        except RulesError as error:
            raise ChangeError(f"rules: {error}") from None
        if target is None:
            raise ChangeError(
                "What is to be beaten? Give the standing record's metric as sota, or its own runs as control."
            )
        given["sota"] = repr(target)
    return [f"--{name}={value}" for name, value in given.items()]


def judged(folder: Path, options: list[str]) -> tuple[int, str, float | None]:
    """(exit code, verdict, p-value) of one record folder, after printing what `check` prints of it."""
    print(f"Record {printable(str(folder))}:", flush=True)
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

    A path that is itself a record folder is judged in any case. Raises ChangeError where the path is not there, where the
    change touches what it is judged by (the ruleset's file or the control's runs), and where it cannot be said what a
    record holds: links, submodules, records within records.
    """
    top = plain_path("path", environment.get("SEEDPROOF_PATH") or "records")
    base = environment.get("SEEDPROOF_BASE", "")
    changed = changed_files(base) if base else []
    for name in ("rules", "control"):
        value = environment.get(f"SEEDPROOF_{name.upper()}") or ""
        if not value or (name == "rules" and value in known()):
            continue
        measure = plain_path(name, value)
        touched = [path for path in changed if path.is_relative_to(measure) or measure.is_relative_to(path)]
        if touched:
            raise ChangeError(
                f"{name}: this change touches {touched[0]}, which it would be judged by. Change that in a pull request "
                f"of its own, or look at this one by hand."
            )
    if not top.is_dir():
        if base and git_can("cat-file", "-e", f"{base}:{top}"):
            return []  # the change removes it
        raise ChangeError(f"path: {top} is no folder of this checkout. Name the folder that holds the records.")
    try:
        found = touched_records(changed, top) if changed else list(record_folders(top))
    except OSError as error:
        raise ChangeError(f"{error.filename} cannot be read: {error.strerror}.") from None
    if len(found) > MOST_RECORDS:
        raise ChangeError(
            f"This change touches {len(found)} record folders; at most {MOST_RECORDS} are judged at once."
        )
    return found


def plain_path(name: str, value: str) -> Path:
    """An input that is a path of the repository, by which a file is the same whatever it is called."""
    path = Path(os.path.normpath(value))
    if path.is_absolute() or ".." in path.parts:
        raise ChangeError(f"{name}: {path} must lie in the repository. Give it relative to its root.")
    if link := first_link(path):
        raise ChangeError(f"{name}: {link} is a link. Name what it leads to.")
    return path


def first_link(path: Path) -> Path | None:
    """The first symbolic link on the way to a path, itself included."""
    return next((one for one in (*reversed(path.parents), path) if one.is_symlink()), None)


def touched_records(changed: list[Path], top: Path) -> list[Path]:
    """The record folders that the changed files lie in, as the leaderboard would find them."""
    outer = is_record(top, _entries(top))
    if outer and (inner := next(claims_below(top), None)):
        raise ChangeError(
            f"{top} is a record folder itself and holds {inner}, another one. Put records beside each other."
        )
    found = {top} if outer else set()
    for path in changed:
        if (link := first_link(path)) and (link.is_relative_to(top) or top.is_relative_to(link)):
            raise ChangeError(f"{link} is a link. A record is judged by files of its own: put them in its place.")
        if path.is_dir() and path.is_relative_to(top):
            raise ChangeError(f"{path} is a submodule. A record is judged by files of its own: put them in its place.")
    by_folder: dict[Path, list[Path]] = {}
    whole: set[Path] = set()  # records with no other in them
    for path in changed:
        if path.is_relative_to(top):
            by_folder.setdefault(path.parent, []).append(path)
    for folder, files in sorted(by_folder.items()):
        if record := around(folder, top):
            if record not in whole and (inner := next(claims_below(record), None)):
                raise ChangeError(
                    f"{record} is a record folder and holds {inner}, another one. Put records beside each other."
                )
            whole.add(record)
            found.add(record)
        elif folder == top:
            if loose := [path for path in files if path.exists() and may_be_evidence(path)]:
                raise ChangeError(f"{loose[0]} lies in no record folder. Put it into one.")
        elif folder.is_dir():
            below = set(record_folders(folder))
            if not below:
                found.add(folder)  # a folder without any evidence, which is judged as that
            elif not all(path.suffix.lower() == ".md" for path in files):
                found |= below
    return sorted(found)


@cache
def around(folder: Path, top: Path) -> Path | None:
    """The outermost record folder below `top` on the way to `folder`, itself included."""
    for one in (*reversed(folder.parents), folder):
        if one != top and one.is_relative_to(top) and one.is_dir() and is_record(one, _entries(one)):
            return one
    return None


def claims_below(folder: Path) -> Iterator[Path]:
    """Folders inside a record that claim to be records themselves: they hold a submission JSON, or a sweep's plan. The
    control runs of our own records are none."""
    for parent, _, names in os.walk(folder):
        inside = Path(parent)
        if inside in (folder, folder / CONTROL):
            continue
        claims = submission_file([inside / name for name in names], inside) is not None
        if claims or (is_sweep(inside) and not is_sweep(folder)):
            yield inside


def may_be_evidence(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(LOG_SUFFIXES) or (name.startswith("submission") and name.endswith(".json"))


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
    names = git("diff", "--name-only", "--no-renames", "--ignore-submodules=none", "-z", base, "HEAD", "--")
    return [Path(name) for name in names.split("\0") if name]


def git(*arguments: str) -> str:
    found = _run_git(arguments)
    if found.returncode:
        lines = os.fsdecode(found.stderr).strip().splitlines() or ["no reason given"]
        said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
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
