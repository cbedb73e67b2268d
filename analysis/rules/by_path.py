"""Rulesets by path: which leaderboard's rules a record folder is judged by.

One line a rule, `GLOB: RULESET`; the first that fits a record folder, or a folder around it, decides. `*` and `?` stay
within a name, `**` is any number of folders. Empty lines and those that begin with # say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from analysis.rules.ruleset import RulesError, load

INPUT = "rules_by_path"
MOST = 100  # lines


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule:
    glob: str
    rules: str


def read_path_rules(text: str) -> list[PathRule]:
    """Read the lines. Raises RulesError, which names the line, where one is not understood or names no ruleset."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        glob, colon, rules = (part.strip() for part in line.rpartition(":"))
        if not (glob and colon and rules):
            raise RulesError(f"{INPUT}, line {number}: {line.strip()!r} is not GLOB: RULESET.")
        try:
            load(rules)
        except RulesError as error:
            raise RulesError(f"{INPUT}, line {number}: {error}") from None
        found.append(PathRule(glob=glob.removeprefix("./").rstrip("/"), rules=rules))
    if len(found) > MOST:
        raise RulesError(f"{INPUT} has {len(found)} rules; at most {MOST} are read.")
    return found


def rules_of(folder: Path, rules: list[PathRule], usual: str) -> str:
    """Return the name or file of the ruleset for a record folder; `usual` where no line fits."""
    ways = [way.parts for way in (folder, *folder.parents) if way.parts]
    return next((one.rules for one in rules if any(_fits(way, tuple(one.glob.split("/"))) for way in ways)), usual)


def _fits(names: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    """Return whether a path fits a glob, name by name."""
    if not globs or not names:
        return not names and set(globs) <= {"**"}
    if globs[0] == "**":
        return any(_fits(names[skipped:], globs[1:]) for skipped in range(len(names) + 1))
    return fnmatchcase(names[0], globs[0]) and _fits(names[1:], globs[1:])
