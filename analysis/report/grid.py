"""Tables as plain text, as wide as a terminal is, and as Markdown. A row is its cells by column; all rows have the same.

Loads nothing heavy.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.untrusted.escape import markdown

Table = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Width:
    """How wide sentences and tables may be; None for any width."""

    prose: int | None = None
    table: int | None = None


WHOLE = Width()
BETWEEN = 2  # blanks between columns
READABLE, LEAST = 24, 12  # characters of a shortened cell: while columns can still be left out, and at last
GAP = "..."
_END = re.compile(r"(:\d+)?( \(\w+\))?$")  # of a place: its line, and what it was read from


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with columns as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [(" " * BETWEEN).join(map(str.ljust, row, widths)).rstrip() for row in rows]


def text_table(table: Table) -> list[str]:
    return aligned([[*table[0]], *([*row.values()] for row in table)]) if table else []


def fitted(table: Table, width: int | None, shorten: str, spare: Sequence[str] = ()) -> Table:
    """Return a table that is at most `width` wide, or the table itself where the width is None.

    Names in the column `shorten` lose their middle. Before they get too short to be read, the columns in `spare` are left
    out, the first one first.
    """
    if width is None or not table:
        return table
    left = [*table[0]]
    for gone in (*spare, None):
        wide = {name: max(len(name), *(len(row[name]) for row in table)) for name in left}
        room = width - sum(wide.values()) - BETWEEN * (len(left) - 1) + wide.get(shorten, 0)
        if room >= min(wide.get(shorten, 0), READABLE) or gone is None:
            break
        left = [name for name in left if name != gone]
    most = max(room, LEAST)
    return [{name: shortened(row[name], most) if name == shorten else row[name] for name in left} for row in table]


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters without its middle. The line number that a place ends with stays."""
    if len(text) <= most:
        return text
    found = _END.search(text)
    end = max(len(found[0]) if found else 0, (most - len(GAP)) // 2)
    return text[: max(most - len(GAP) - end, 0)] + GAP + text[len(text) - end :]


def named(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Return a line for each name and its value, wrapped to the width."""
    first = max((len(name) for name, _ in rows), default=0) + BETWEEN
    room = None if width is None else max(width - first, LEAST)
    values = [wrapped([value], room) for _, value in rows]
    indent = f"\n{' ' * first}"
    return "\n".join(
        f"{name:{first}}{indent.join(lines)}" for (name, _), lines in zip(rows, values, strict=True)
    ).splitlines()


def wrapped(lines: Iterable[str], width: int | None) -> list[str]:
    """Return lines wrapped to the width, their continuations two blanks deeper; the lines themselves where it is None."""
    if width is None:
        return [*lines]
    return [part for line in lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    begin = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, width, subsequent_indent=f"{begin}  ", break_long_words=False, break_on_hyphens=False
    ) or [line]


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table. What others wrote must be escaped already: see `literal_table`."""
    head = list(head)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def literal_table(table: Table) -> list[str]:
    """Return the lines of a Markdown table that shows its cells literally."""
    return markdown_table(table[0], (map(markdown, row.values()) for row in table)) if table else []


def or_dash(value: object, form: str = "{}") -> str:
    return "-" if value is None else form.format(value)
