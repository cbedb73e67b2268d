"""What docs/findings.md and the rulesets say of a finding, for a terminal."""

from __future__ import annotations

import re
from textwrap import shorten

from analysis.report.grid import BETWEEN, GAP, LEAST, wrapped
from analysis.rules.explained import address, explained
from analysis.rules.findings import Code
from analysis.rules.ruleset import known, load


def listing(width: int | None = None) -> str:
    """Return a line for each code: its severity unless a ruleset says otherwise, and as much of what it means as fits."""
    wide = [
        max(map(len, column)) + BETWEEN
        for column in zip(*((code.value, code.severity.value) for code in Code), strict=True)
    ]
    heads = [f"{code.value:{wide[0]}}{code.severity.value:{wide[1]}}" for code in Code]
    means = [_lines(explained()[code].partition("\n\n")[0])[0].partition(". ")[0].rstrip(".:") for code in Code]
    room = None if width is None else max(width - len(heads[0]), LEAST)
    lines = [
        head + (one if room is None else shorten(one, room, placeholder=GAP))
        for head, one in zip(heads, means, strict=True)
    ]
    return "\n".join(lines) + "\n"


def explanation(code: Code, width: int | None = None) -> str:
    """Return when a code is raised, an example, why it matters, what to do, and how severe it is by each ruleset."""
    paragraphs = ["\n".join(wrapped(_lines(part), width)) for part in explained()[code].split("\n\n")]
    others: dict[str, list[str]] = {}
    for name in known():
        if (severity := load(name).findings.get(code, code.severity)) != code.severity:
            others.setdefault(severity, []).append(name)
    by = "".join(f"; {severity} by {', '.join(names)}" for severity, names in others.items())
    last = "\n".join(wrapped([f"severity: {code.severity}{by}", f"page: {address(code)}"], width))
    return "\n\n".join([code.value, *paragraphs, last]) + "\n"


def _lines(paragraph: str) -> list[str]:
    """Return a paragraph of Markdown as text, a line for each item of a list; an example stays as it is."""
    if paragraph.startswith("    "):
        return paragraph.splitlines()
    return [" ".join(_as_is(part).split()) for part in re.split(r"\n(?=\*\*|- |\|)", paragraph)]


def _as_is(text: str) -> str:
    """Return Markdown without emphasis and the targets of links."""
    return re.sub(r"\*\*|`", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
