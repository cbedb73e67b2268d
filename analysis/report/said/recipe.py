"""What differs between two records' recipes: the settings that their logs print, and the program that they embed."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from analysis.reading.result import Result
from analysis.reading.source import LONGEST, Source
from analysis.untrusted.escape import printable
from analysis.untrusted.secrets import redacted, redacted_value

MOST_LINES = 2000  # that differ, of one program: comparing more may take long
MOST_SHOWN = 500  # lines of a difference
MOST_SETTINGS = 200
LONGEST_SHOWN = 300  # letters of a line or a value
NOT_PRINTED = ""
UNSEEN, OTHER_ORDER = "other ends of lines or secrets, which are not shown", "the same lines in another order"
SAME, NOT_EMBEDDED, TOO_LONG = "same", "not embedded by both", "too long to compare here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that differs. before, after: as printed; empty where a record does not print it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """How two programs differ. said: in a few words; lines: of a unified difference, the first of them."""

    said: str
    lines: tuple[str, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What differs. more: how many further settings do."""

    settings: tuple[Setting, ...]
    more: int
    code: Code


def difference(before: Sequence[Result], after: Sequence[Result]) -> Recipe:
    """Return what differs between the recipes of two records, by their runs."""
    found = _settings(before, after)
    return Recipe(
        settings=tuple(found[:MOST_SETTINGS]), more=max(0, len(found) - MOST_SETTINGS), code=_code(before, after)
    )


def _settings(before: Sequence[Result], after: Sequence[Result]) -> list[Setting]:
    """Return the settings that differ. One that differs between the runs of each record is a run's, such as its seed."""
    old, new = _printed(before), _printed(after)
    return [
        Setting(name=printable(name), before=_shown(name, old.get(name, [])), after=_shown(name, new.get(name, [])))
        for name in dict.fromkeys((*old, *new))
        if old.get(name, []) != new.get(name, []) and not _is_a_runs(old.get(name, []), new.get(name, []))
    ]


def _is_a_runs(old: Sequence[str], new: Sequence[str]) -> bool:
    return min(len(old), len(new)) > 1


def _printed(runs: Sequence[Result]) -> dict[str, list[str]]:
    """Return each setting's values over the runs, each once, by its name."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run.run.hyperparameters.items():
            if name != "seed" and value not in found.setdefault(name, []):
                found[name].append(value)
    return found


def _shown(name: str, values: Sequence[str]) -> str:
    said = ", ".join(redacted_value(name, value) for value in values)
    return printable(said)[:LONGEST_SHOWN] if values else NOT_PRINTED


def _code(before: Sequence[Result], after: Sequence[Result]) -> Code:
    """Return how the embedded programs differ: those of the first runs that embed one."""
    old, new = _source(before), _source(after)
    if old is None or new is None:
        return Code(said=NOT_EMBEDDED)
    if old.text == new.text:
        return Code(said=SAME)
    sizes = f"{old.size_bytes:,} bytes before, {new.size_bytes:,} now"
    if max(old.size_bytes, new.size_bytes) > LONGEST:
        return Code(said=f"{TOO_LONG}: {sizes}")
    then, now = (redacted(one.text.decode("utf-8", "replace")).splitlines() for one in (old, new))
    added = _only_in(now, then)
    removed = _only_in(then, now)
    said = f"{added:,} line{'s' if added != 1 else ''} added, {removed:,} removed"
    if not added and not removed:
        said = UNSEEN if then == now else OTHER_ORDER
    if max(map(len, _without_common_ends(then, now))) > MOST_LINES:
        return Code(said=f"{said}; {TOO_LONG}: {sizes}")
    lines = [_line(line) for line in islice(difflib.unified_diff(then, now, lineterm="", n=2), 2, None)]
    return Code(said=said, lines=tuple(lines[:MOST_SHOWN]), left_out=max(0, len(lines) - MOST_SHOWN))


def _source(runs: Sequence[Result]) -> Source | None:
    return next((run.run.source for run in runs if run.run.source is not None), None)


def _only_in(lines: Sequence[str], others: Sequence[str]) -> int:
    return (Counter(lines) - Counter(others)).total()


def _without_common_ends(old: Sequence[str], new: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    shortest = min(len(old), len(new))
    start = next((n for n in range(shortest) if old[n] != new[n]), shortest)
    end = next((n for n in range(shortest - start) if old[-1 - n] != new[-1 - n]), shortest - start)
    return old[start : len(old) - end], new[start : len(new) - end]


def _line(line: str) -> str:
    return printable(line.expandtabs(4))[:LONGEST_SHOWN]
