"""Find every sweep below a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.sweepdir.layout import EVENTS, LOCK, PLAN, SweepError, has_plan, is_sweep
from analysis.untrusted.files import DEEPEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The sweeps below a folder in the order of their paths, and the folders that were not searched, each with the reason."""

    sweeps: Sequence[Path]
    unread: Mapping[Path, str]


def sweeps_below(root: Path) -> Found:
    """Return every sweep below a folder, which may itself be one. Hidden folders, links and sweeps are not entered."""
    sweeps: list[Path] = []
    unread: dict[Path, str] = {}
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            if _holds_sweep(folder):
                sweeps.append(folder)
                continue
            below = [(folder / name, depth + 1) for name in _folders_in(folder)]
        except OSError as error:
            unread[folder] = f"cannot be read: {error.strerror}"
            continue
        if below and depth == DEEPEST:
            unread[folder] = f"is {DEEPEST} folders deep; what is below it was not searched"
            continue
        waiting += reversed(below)
    return Found(sweeps=sweeps, unread=unread)


def find_some(root: Path) -> Found:
    """Return the sweeps below a folder. Raises SweepError where there is none."""
    found = sweeps_below(root)
    if not found.sweeps:
        unread = "".join(f" {path} {why}." for path, why in found.unread.items())
        raise SweepError(
            f"{root} is not a sweep directory: it has no {PLAN}, and no folder below it is one. "
            f"Name the --output of a `sweep run`, or a folder of several.{unread}"
        )
    return found


def _holds_sweep(folder: Path) -> bool:
    """Return whether a folder is a sweep, even one whose plan is lost."""
    if has_plan(folder):
        return is_sweep(folder)
    return os.path.isfile(folder / EVENTS) and os.path.isfile(folder / LOCK)


def _folders_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(one.name for one in entries if not one.name.startswith(".") and one.is_dir(follow_symlinks=False))
