"""A board as a folder of pages: index.html and one page a record, which need no network, no script and no server."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.report.html.board import board_page
from analysis.report.html.record import OnBoard, record_page
from analysis.rules.findings import ERROR, INFO, WARNING, counts
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import UsageError
from analysis.verdict.board.again import judged_again
from analysis.verdict.board.row import Row

INDEX = "index.html"
HEAD = "<head>\n"
MARK = f'{HEAD}<meta name="generator" content="seedproof board">\n'  # what makes a page ours to overwrite and to remove
MARKED_WITHIN = 500  # bytes
PART = ".part"
LONGEST_NAME = 80
NO_FILES = ("con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in range(10)))  # on Windows
_OURS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html(\.part)?")


def page_names(records: Sequence[str]) -> list[str]:
    """Return a file name for each record's page: its name if it is plain, else what is plain of it and a digest."""
    taken, found = {Path(INDEX).stem}, []
    for record in records:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", record).strip("-._")[:LONGEST_NAME] or "record"
        if name.lower().partition(".")[0] in NO_FILES:
            name = f"record-{name}"
        if name != record or name.lower() in taken:
            name += "-" + hashlib.sha256(record.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        number = 1
        while (unique := name if number == 1 else f"{name}-{number}").lower() in taken:
            number += 1
        taken.add(unique.lower())
        found.append(f"{unique}.html")
    return found


def check_folder(folder: Path) -> None:
    """Raise UsageError where a folder holds anything but a former site's pages."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--site {folder} is not a folder. Name a new or an empty one.")
    try:
        other = next((path.name for path in _entries(folder) if not _is_ours(path)), None)
    except OSError as error:
        raise UsageError(f"--site {folder} cannot be read: {error.strerror}.") from None
    if other is not None:
        raise UsageError(
            f"--site {folder} holds {printable(other)}, which is no page of a former site. Name a new or an empty folder."
        )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_ours(path: Path) -> bool:
    """Return whether a file is a page that we wrote, or the part of one that a broken call left, be it empty."""
    if _OURS.fullmatch(path.name) is None or not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        begins = file.read(MARKED_WITHIN)
    return MARK.encode() in begins or (path.name.endswith(PART) and not begins)


def write_site(
    folder: Path,
    directory: Path,
    rows: Sequence[Row],
    rules: Ruleset,
    command: str,
    tell: Callable[[int, int, str], None],
) -> str:
    """Write the pages of a board and remove those of records that are gone; return what was written, in a sentence.

    The index comes last: its links lead to pages that are there. Raises UsageError, EvidenceError.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _pages(directory, rows, rules, command, tell):
            _write(folder / name, content)
        removed = _prune(folder, {INDEX, *page_names([row.record for row in rows])})
    except OSError as error:
        raise UsageError(f"--site {folder} cannot be written: {error.strerror}.") from None
    gone = f", and removed {removed} of records that are gone" if removed else ""
    return f"Wrote {folder / INDEX} and {len(rows)} page{'s' if len(rows) != 1 else ''} of records{gone}."


def _pages(
    directory: Path, rows: Sequence[Row], rules: Ruleset, command: str, tell: Callable[[int, int, str], None]
) -> Iterator[tuple[str, str]]:
    """Yield every page with its name. What only a verdict shows counts on the index too, so that both say the same."""
    names = page_names([row.record for row in rows])
    where = directory.resolve().name
    by_record = {row.record: name for row, name in zip(rows, names, strict=True)}
    shown: list[Row] = []
    for row, name, again in zip(rows, names, judged_again(directory, rows, rules, tell), strict=True):
        board = OnBoard(rows=rows, row=row, rules=rules, where=where, index=INDEX, pages=by_record)
        yield name, record_page(again, board, command)
        found = counts(again.verdict.findings)
        shown.append(replace(row, errors=found[ERROR], warnings=found[WARNING], infos=found[INFO]))
    yield INDEX, board_page(shown, rules, command, where, dict(enumerate(names)))


def _write(path: Path, content: str) -> None:
    """Write a page so that it appears whole. Its part is a new file: a link of that name is not followed."""
    part = path.with_name(path.name + PART)
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf-8") as file:
        file.write(content.replace(HEAD, MARK, 1))
    os.replace(part, path)


def _prune(folder: Path, kept: Collection[str]) -> int:
    gone = [path for path in _entries(folder) if path.name not in kept and _is_ours(path)]
    for path in gone:
        path.unlink()
    return len(gone)
