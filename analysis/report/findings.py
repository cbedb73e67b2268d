"""Findings as plain lines, as a Markdown list and as GitHub annotations."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.rules.findings import ERROR, WARNING, Finding
from analysis.untrusted.escape import markdown, printable, workflow_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Findings of one code that say the same of several files: the first one, and the other files in words."""

    first: Finding
    others: str


def alike(findings: Iterable[Finding]) -> list[Alike]:
    """Group findings that differ only in their place."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.code, finding.message), []).append(finding)
    return [Alike(first=first, others=_and_others(others)) for first, *others in groups.values()]


def _and_others(others: list[Finding]) -> str:
    if len(others) > 1:
        return f" and {len(others)} more files"
    return f" and {printable(others[0].file)}:{others[0].line}" if others else ""


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Return one line a finding; the same sentence about several files is one line."""
    return [
        f"{one.first.severity}: {one.first.code}: {printable(one.first.file)}:{one.first.line}{one.others}: "
        f"{printable(one.first.message)}"
        for one in alike(findings)
    ]


def finding_items(findings: Iterable[Finding]) -> list[str]:
    """Return the same as items of a Markdown list."""
    return [
        f"- **{one.first.severity}** `{one.first.code}` {markdown(one.first.file)}:{one.first.line}"
        f"{markdown(one.others)}: {markdown(one.first.message)}"
        for one in alike(findings)
    ]


def annotation(finding: Finding, folder: str) -> str:
    """Return a GitHub workflow command that shows a finding at its file, a path below `folder`, and line."""
    kind = {ERROR: "error", WARNING: "warning"}.get(finding.severity, "notice")
    below = os.path.join(folder, finding.file)
    of_control = os.path.lexists(finding.file) and not os.path.lexists(below)  # named from the working directory
    place = os.path.normpath(finding.file if of_control else below)
    return workflow_command(kind, finding.message, file=place, line=finding.line, title=finding.code)
