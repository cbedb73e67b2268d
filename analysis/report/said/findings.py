"""Findings as plain lines, as a Markdown list and as GitHub annotations, and which checks were made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from analysis.evidence.checked import NotChecked
from analysis.reading.importers.typed import IN_MEMORY
from analysis.rules.findings import ERROR, WARNING, Finding
from analysis.untrusted.escape import markdown, printable, workflow_command

CHECKS_NAMED = 6  # in a line
MOST_ANNOTATIONS = 10  # of a step, of all kinds together
KINDS = ("error", "warning", "notice")


def alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return findings in groups: those that differ only in their place are one."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.severity, one.code, one.message), []).append(one)
    return [*groups.values()]


def by_advice(findings: Iterable[Finding]) -> list[list[list[Finding]]]:
    """Return the groups of `alike` whose severity, code and advice are the same next to each other, where the first is."""
    same: dict[tuple[str, str, str], list[list[Finding]]] = {}
    for group in alike(findings):
        same.setdefault((group[0].severity, group[0].code, group[0].do), []).append(group)
    return [*same.values()]


def _places(group: Sequence[Finding]) -> str:
    return " ".join(filter(None, (place_in_words(group[0]), more_places(group))))


def more_places(group: Sequence[Finding]) -> str:
    """Return the places of a group besides the first, in words."""
    first, *others = group
    if len(others) < 2:
        return "".join(f"and {place_in_words(one)}" for one in others)
    files = {first.file, *(one.file for one in others)}
    return f"and {len(others)} more {'files' if len(files) == len(group) else 'places'}"


def place_in_words(one: Finding) -> str:
    """Return file and line; nothing for the whole PATH, and no line for what has none."""
    if one.file in (".", *IN_MEMORY):
        return one.file.removeprefix(".")
    return printable(f"{one.file}:{one.line}")


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Return a line for each finding. Several of one code and advice are below a line that says both once."""
    return [line for groups in by_advice(findings) for line in _lines(groups)]


def _lines(groups: Sequence[Sequence[Finding]]) -> list[str]:
    one = groups[0][0]
    if len(groups) == 1:
        return [": ".join(filter(None, (one.severity, one.code, _places(groups[0]), printable(one.message))))]
    items = [": ".join(filter(None, (_places(group), printable(group[0].found)))) for group in groups]
    return [
        f"{one.severity}: {one.code}: {len(groups)} findings. {printable(one.do)}".rstrip(),
        *(f"  {item}" for item in items),
    ]


def finding_items(findings: Iterable[Finding]) -> list[str]:
    """Return findings as items of a Markdown list."""
    groups = [group for same in by_advice(findings) for group in same]
    return [
        f"- **{group[0].severity}** `{group[0].code}`{' ' if _places(group) else ''}{markdown(_places(group))}: {markdown(group[0].message)}"
        for group in groups
    ]


def github_annotations(findings: Iterable[Finding], folder: str) -> list[str]:
    """Return a GitHub workflow command for each finding, at its file, a path below `folder`, and line."""
    return [annotation(finding, folder) for finding in findings]


def annotated(commands: Iterable[str], made: int = 0) -> list[str]:
    """Return the workflow commands of a step as lines: as many as GitHub shows, the worst first, and how many more there are.

    made: how many the step made already.
    """
    kinds = [f"::{kind} " for kind in KINDS]
    worst = sorted(commands, key=lambda one: next(at for at, kind in enumerate(kinds) if one.startswith(kind)))
    return [*worst[: MOST_ANNOTATIONS - made], *not_annotated(made + len(worst))]


def not_annotated(commands: int) -> list[str]:
    """Return a line that says how many of a step's workflow commands GitHub would not show."""
    more = commands - MOST_ANNOTATIONS
    return (
        [f"{more} more of {commands} annotations are not made, because GitHub shows {MOST_ANNOTATIONS} a step."]
        if more > 0
        else []
    )


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
    by_why: dict[str, list[str]] = {}
    for one in not_checked[:CHECKS_NAMED]:
        by_why.setdefault(one.why, []).append(one.check)
    lacking = "; ".join(f"{', '.join(names)} ({why})" for why, names in by_why.items())
    lacking += f"; and {len(not_checked) - CHECKS_NAMED} more" if len(not_checked) > CHECKS_NAMED else ""
    made = f"{checks - len(not_checked)} of {checks} checks were made"
    return [f"{made}; not checked: {lacking}" if lacking else made] if checks else []
