"""What docs/findings.md and the rulesets say of a finding, for a terminal."""

from __future__ import annotations

import re

from analysis.report.grid import aligned
from analysis.rules.explained import address, explained
from analysis.rules.findings import Code
from analysis.rules.ruleset import known, load


def listing() -> str:
    """Return every code in a line: how bad it is unless a ruleset says otherwise, and the beginning of what it means."""
    rows = [(code.value, code.severity.value, _plain(explained()[code]).partition(". ")[0]) for code in Code]
    return "\n".join(line if len(line) <= 100 else f"{line[:97]}..." for line in aligned(rows)) + "\n"


def explanation(code: Code) -> str:
    """Return when a code is raised, an example, why it matters, what to do, and how bad it is by each ruleset."""
    paragraphs = [part if part.startswith("    ") else _as_is(part) for part in explained()[code].split("\n\n")]
    others: dict[str, list[str]] = {}
    for name in known():
        if (severity := load(name).findings.get(code, code.severity)) != code.severity:
            others.setdefault(severity, []).append(name)
    by = "".join(f"; {severity} by {', '.join(names)}" for severity, names in others.items())
    last = f"severity: {code.severity}{by}\npage: {address(code)}"
    return "\n\n".join([code.value, *paragraphs, last]) + "\n"


def _as_is(text: str) -> str:
    """Return Markdown as text: its lines stay, without emphasis and the targets of links."""
    return re.sub(r"\*\*|`", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))


def _plain(text: str) -> str:
    return " ".join(_as_is(text).split())
