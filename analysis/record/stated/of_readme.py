"""Read the numbers that a README claims in an unambiguous form: tables by seed, lists of losses, a mean in a sentence.

Text under a heading about other work, or in a sentence that compares, may be about other runs and is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from pathlib import Path

from analysis.record.folder import Record
from analysis.record.keys import is_bpb, is_loss, is_of_others
from analysis.record.stated.said import Kind, Said
from analysis.record.stated.sentences import said_in_sentence, words
from analysis.record.stated.tables import MOST_COLUMNS, MOST_ROWS, Cells, said_in_table
from analysis.rules.findings import Place
from analysis.untrusted.files import FileError, read_bounded

LIMIT = 2**20  # bytes
LONGEST_LINE = 2000  # characters; a longer one is not read
MOST = 300  # claims of one file
MOST_LISTS = 20
MOST_VALUES = 1000  # of a list
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.{0,200})")
_LIST = re.compile(
    r"^[ \t]{0,12}([A-Za-z_]\w{0,40})[ \t]{0,4}=[ \t]{0,4}(?:\w{1,12}\.\w{1,12}\()?\[([^\[\]]{0,20000})\]", re.MULTILINE
)
_OF_VALUES = re.compile(r"(?:^|_)(?:loss(?:es)?|bpbs?|vals?|values?|scores?|accs?|results?)(?:_|$)")
_NUMBER = re.compile(r"[-+]?\d{1,6}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,2})?")


def readme_of(record: Record) -> Path | None:
    """Return the README at the top of a folder, README.md before others."""
    found = [
        path for path in record.listing.files if path.parent == record.base and path.name.lower().startswith("readme")
    ]
    return min(found, key=lambda path: (path.suffix.lower() != ".md", path.name), default=None)


def said_in_readme(file: Path, shown: str) -> Iterator[Said]:
    """Yield what a README claims, and at its end that it claims more than is read, or could not be read."""
    try:
        if file.stat().st_size > LIMIT:
            raise FileError(f"is larger than {LIMIT} bytes")
        text = read_bounded(file, LIMIT).decode("utf-8", "replace")
    except (FileError, OSError):
        yield Said(kind=Kind.FILE, text="too large, or not readable", at=Place(shown), strict=False)
        return
    said = list(islice(_all(text, shown), MOST + 1))
    alone = "welch" not in text.lower()
    for one in said[:MOST]:
        yield one if alone or one.kind not in (Kind.T, Kind.P) else replace(one, strict=False)
    if len(said) > MOST:
        yield Said(kind=Kind.FILE, text=f"more than {MOST} numbers", at=said[MOST].at, strict=False)


def _all(text: str, shown: str) -> Iterator[Said]:
    lines = [line if len(line) <= LONGEST_LINE else "" for line in text.split("\n")]
    others = _of_others(lines)
    yield from _in_lists(text, shown, others)
    group, number = MOST, 0
    while number < len(lines):
        table = _table_at(lines, number)
        if table is not None:
            group += MOST_COLUMNS
            if not others[number]:
                yield from said_in_table(table, shown, group)
            number += table.height
            continue
        if not others[number]:
            yield from said_in_sentence(lines[number], Place(shown, number + 1))
        number += 1


def _of_others(lines: list[str]) -> list[bool]:
    """Return for each line whether the headings above it are about other work."""
    above: dict[int, bool] = {}
    fenced, said = False, []
    for line in lines:
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if not fenced and (heading := _HEADING.match(line)):
            level = len(heading[1])
            above = {depth: other for depth, other in above.items() if depth < level}
            above[level] = level > 1 and is_of_others(words(heading[2])) is not None
        said.append(any(above.values()))
    return said


# -- tables and lists --------------------------------------------------------------------------------------------------


def _table_at(lines: list[str], first: int) -> Cells | None:
    """Return the Markdown table whose head is this line."""
    if "|" not in lines[first] or first + 1 == len(lines):
        return None
    if not re.fullmatch(r"[\s|:-]{3,}", lines[first + 1]) or "-" not in lines[first + 1] or "|" not in lines[first + 1]:
        return None
    end = first + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    kept = [lines[first], *lines[first + 2 : min(end, first + 2 + MOST_ROWS)]]
    rows = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in kept]
    places = [first + 1, *range(first + 3, first + 2 + len(rows))]
    return Cells(rows=rows, lines=places, height=end - first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """The numbers of a Python list, as written."""

    values: tuple[Decimal, ...]

    @classmethod
    def of(cls, text: str) -> _Items:
        """Read a list that holds nothing but numbers; any other is empty."""
        items = [item.strip() for item in re.sub(r"#[^\n]*", "", text).split(",")]
        items = items[:-1] if items[-1] == "" else items
        if not 1 < len(items) <= MOST_VALUES or not all(map(_NUMBER.fullmatch, items)):
            return cls(values=())
        return cls(values=tuple(map(Decimal, items)))


def _in_lists(text: str, shown: str, others: list[bool]) -> Iterator[Said]:
    """Yield lists such as losses = [3.2781, 3.2769]."""
    for group, found in enumerate(islice(_LIST.finditer(text), MOST_LISTS), start=1):
        name, line = words(found[1]), text.count("\n", 0, found.start()) + 1
        if not _OF_VALUES.search(name) or "train" in name or is_of_others(name) or others[line - 1]:
            continue
        values = _Items.of(found[2]).values
        if values:
            metric = "val_bpb" if is_bpb(name.replace("bpbs", "bpb")) else "val_loss" if is_loss(name) else None
            shown_values = f"{found[1]} = [{', '.join(map(str, values[:3]))}{', ...' if len(values) > 3 else ''}]"
            at = Place(shown, line)
            yield Said(kind=Kind.VALUES, text=shown_values, at=at, values=values, metric=metric, group=group)
