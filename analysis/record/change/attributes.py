"""Refuse changes to .gitattributes that affect how a record's evidence is checked out."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from analysis.record.change.git import ChangeError, Tree, content, git
from analysis.untrusted.escape import printable

NAME = ".gitattributes"
RISKY = {"filter", "text", "crlf", "eol", "ident", "working-tree-encoding", "binary"}
LARGEST = 2**16  # bytes
LONGEST = 120  # characters of a line that are shown
_LINE = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*"|[^ \t\r\n]+)[ \t]+(.*\S)')
_MACRO = "[attr]"


def check_attributes(changed: Iterable[Path], before: Tree, after: Tree, evidence: Iterable[Path]) -> None:
    """Raise ChangeError if a changed .gitattributes affects how some evidence is checked out."""
    evidence = sorted(evidence)
    for path in changed:
        below = [one.relative_to(path.parent) for one in evidence if one.is_relative_to(path.parent)]
        if path.name != NAME or not below:
            continue
        old, new = _lines(before, path), _lines(after, path)
        macros = _macros(old) | _macros(new) | RISKY
        for there, others, verb in ((new, old, "adds"), (old, new, "removes")):
            risky = {number: line for number, line in _only_in(there, others) if _attributes(line) & macros}
            applies = _that_apply(risky, below)
            for number in sorted(applies)[:1]:
                raise ChangeError(
                    f"{path}, line {number}: this change {verb} `{printable(risky[number].strip())[:LONGEST]}`, which may "
                    f"change what is checked out of {path.parent / applies[number]}. Leave it out, or look at this change by hand."
                )


def _lines(tree: Tree, path: Path) -> list[str]:
    blob = tree.get(path)
    if blob is not None and blob.size > LARGEST:
        raise ChangeError(f"{path} has {blob.size} bytes; at most {LARGEST} are read. Shorten it.")
    return content(blob).decode("utf-8", "surrogateescape").split("\n")


def _only_in(lines: list[str], others: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that the other version lacks, with their numbers. If only the order differs, yield all."""
    known = Counter(map(str.strip, others))
    same_lines = known == Counter(map(str.strip, lines))
    for number, line in enumerate(lines, 1):
        if same_lines or not known[line.strip()]:
            yield number, line
        known[line.strip()] -= 1


def _parsed(line: str) -> tuple[str, str]:
    """Return the pattern of a line, or the macro that it defines, and its attributes."""
    match = _LINE.match(line)
    return ("", "") if match is None or line.lstrip().startswith("#") else (match[1], match[2])


def _attributes(line: str) -> set[str]:
    """Return the names of a line's attributes. export-* and lfs* count as filter, which is risky."""
    names = {word.lstrip("-!").partition("=")[0] for word in _parsed(line)[1].split()}
    return {"filter" if name.startswith(("export-", "lfs")) else name for name in names}


def _macros(lines: Iterable[str]) -> set[str]:
    """Return the macros that the lines define and that hold a risky attribute. Macros may hold macros."""
    groups = {name.removeprefix(_MACRO): line for line in lines if (name := _parsed(line)[0]).startswith(_MACRO)}
    risky, found = set(RISKY), set[str]()
    while more := {name for name, line in groups.items() if name not in found and _attributes(line) & risky}:
        found |= more
        risky |= more
    return found


def _that_apply(lines: dict[int, str], evidence: list[Path]) -> dict[int, Path]:
    """Return the numbers of the lines whose pattern matches some evidence, each with such a file. A macro matches all.

    Git itself does the matching. The patterns set an attribute with a random name, so that the checkout cannot set it first.
    """
    patterns = {number: _parsed(line)[0] for number, line in lines.items()}
    applies = {number: evidence[0] for number, pattern in patterns.items() if pattern.startswith(_MACRO)}
    if not patterns:
        return {}
    probe = f"seedproof-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "attributes")
        said = "".join(f"{pattern} {probe}={number}\n" for number, pattern in patterns.items())
        file.write_bytes(said.encode("utf-8", "surrogateescape"))
        given = b"\0".join(str(path).encode("utf-8", "surrogateescape") for path in evidence)
        shown = git("-c", f"core.attributesFile={file}", "check-attr", "--stdin", "-z", probe, given=given).split("\0")
    found = {int(value): Path(path) for path, value in zip(shown[::3], shown[2::3], strict=False) if value.isdecimal()}
    return applies | found
