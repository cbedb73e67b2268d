"""Tables as plain text and as Markdown. A row is its cells by column; all rows have the same. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.untrusted.escape import markdown

Table = Sequence[Mapping[str, str]]


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with columns as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def text_table(table: Table) -> list[str]:
    return aligned([[*table[0]], *([*row.values()] for row in table)]) if table else []


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table. What others wrote must be escaped already: see `literal_table`."""
    head = list(head)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def literal_table(table: Table) -> list[str]:
    """Return the lines of a Markdown table that shows its cells literally."""
    return markdown_table(table[0], (map(markdown, row.values()) for row in table)) if table else []


def or_dash(value: object, form: str = "{}") -> str:
    return "-" if value is None else form.format(value)
