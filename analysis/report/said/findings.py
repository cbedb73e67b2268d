"""Findings as plain lines, as a Markdown list and as GitHub annotations, and which checks were made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from analysis.evidence.checked import NotChecked
from analysis.evidence.gather import TYPED
from analysis.rules.findings import ERROR, WARNING, Finding
from analysis.untrusted.escape import markdown, printable, workflow_command

CHECKS_NAMED = 6  # in a line


def alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return findings in groups: those that differ only in their place are one."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.severity, one.code, one.message), []).append(one)
    return [*groups.values()]


def _rows(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return each group as its severity, code, place and message."""
    return [
        {
            "severity": group[0].severity,
            "code": group[0].code,
            "place": " ".join(filter(None, (place_in_words(group[0]), more_places(group)))),
            "message": printable(group[0].message),
        }
        for group in alike(findings)
    ]


def more_places(group: Sequence[Finding]) -> str:
    """Return the places of a group besides the first, in words."""
    others = [place_in_words(one) for one in group[1:]]
    return f"and {len(others)} more files" if len(others) > 1 else f"and {others[0]}" if others else ""


def place_in_words(one: Finding) -> str:
    """Return file and line; nothing for the whole PATH, and no line for what has none."""
    return printable({".": "", TYPED: TYPED}.get(one.file, f"{one.file}:{one.line}"))


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    return [": ".join(filter(None, row.values())) for row in _rows(findings)]


def finding_items(findings: Iterable[Finding]) -> list[str]:
    """Return findings as items of a Markdown list."""
    return [
        f"- **{row['severity']}** `{row['code']}`{' ' if row['place'] else ''}{markdown(row['place'])}: {markdown(row['message'])}"
        for row in _rows(findings)
    ]


def github_annotations(findings: Iterable[Finding], folder: str) -> str:
    """Return a GitHub workflow command for each finding, at its file, a path below `folder`, and line."""
    return "".join(f"{annotation(finding, folder)}\n" for finding in findings)


def annotation(finding: Finding, folder: str) -> str:
    kind = {ERROR: "error", WARNING: "warning"}.get(finding.severity, "notice")
    place = place_of(finding, folder)
    return workflow_command(kind, finding.message, file=place, line=finding.line, title=finding.code)


def place_of(finding: Finding, folder: str) -> str:
    """Return the file of a finding as a path from the working directory; it is named below `folder`."""
    below = os.path.join(folder, finding.file)
    of_control = os.path.lexists(finding.file) and not os.path.lexists(below)  # named from the working directory
    return os.path.normpath(finding.file if of_control else below)


def checks_made(checks: int, not_checked: Sequence[NotChecked]) -> list[str]:
    """Return a line that says how many checks were made, and why the others could not be."""
    lacking = "; ".join(f"{one.check} ({one.why})" for one in not_checked[:CHECKS_NAMED])
    lacking += f"; and {len(not_checked) - CHECKS_NAMED} more" if len(not_checked) > CHECKS_NAMED else ""
    made = f"{checks - len(not_checked)} of {checks} checks were made"
    return [f"{made}; not checked: {lacking}" if lacking else made] if checks else []
