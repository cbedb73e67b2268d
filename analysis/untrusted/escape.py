"""Text from outside, made harmless for where it is printed: a terminal, Markdown, a GitHub workflow command."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any

from analysis.rules.findings import ERROR, WARNING, Finding

_CONTROL_CODES = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|#(?=#\[)"
)  # fe0f, with which a sign is drawn as a coloured one, is left


def tolerate_any_text() -> None:
    """Let stdout show what its encoding lacks as an escape, instead of ending with an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Control codes, invisible characters and changes of direction shown instead of obeyed, and so is `##[`, the start of
    an older form of GitHub's workflow commands, which is looked for anywhere in a line."""
    return _CONTROL_CODES.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def line_start(text: str) -> str:
    """Printable text that a line may begin with: `::` there would begin one of GitHub's workflow commands."""
    return re.sub(r"^(\s*):(?=:)", r"\1\\x3a", printable(text))


def json_text(table: Any) -> str:
    """JSON in which the start of GitHub's older commands is written as an escape: the same value to every reader."""
    return json.dumps(table, indent=1, allow_nan=False).replace("##[", "#\\u0023[") + "\n"


def markdown(content: str) -> str:
    """Literal text in a Markdown table cell or paragraph."""
    content = printable(content).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    content = re.sub(r"([\\`*_{}\[\]()#!|~])", r"\\\1", content)
    return (
        content.replace("@", "&#64;&#8203;").replace("://", "&#58;//").replace("www.", "www&#46;")
    )  # no mention, no address (GitHub links one even so, but for the space of no width), no link


def finding_lines(findings: list[Finding]) -> list[str]:
    """One line a finding; the same sentence on several logs is one line."""
    return [
        f"{f.severity}: {f.code}: {printable(f.file)}:{f.line}{and_others(others)}: {printable(f.message)}"
        for f, *others in alike(findings)
    ]


def finding_items(findings: list[Finding]) -> list[str]:
    """The same as items of a Markdown list."""
    return [
        f"- **{f.severity}** `{f.code}` {markdown(f.file)}:{f.line}{markdown(and_others(others))}: {markdown(f.message)}"
        for f, *others in alike(findings)
    ]


def alike(findings: list[Finding]) -> list[list[Finding]]:
    """Findings of one code that say the same of several files, together."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.code, finding.message), []).append(finding)
    return list(groups.values())


def and_others(others: list[Finding]) -> str:
    """The other files that a sentence is said of."""
    return (
        f" and {len(others)} more files"
        if len(others) > 1
        else f" and {printable(others[0].file)}:{others[0].line}"
        if others
        else ""
    )


def annotation(finding: Finding, folder: str) -> str:
    """A finding as a GitHub workflow command, at its file (a path below `folder`) and line."""
    kind = {ERROR: "error", WARNING: "warning"}.get(finding.severity, "notice")
    below = os.path.join(folder, finding.file)
    named = below if os.path.lexists(below) or not os.path.lexists(finding.file) else finding.file  # one of a control
    place = command_property(printable(os.path.normpath(named)))
    return f"::{kind} file={place},line={finding.line},title={finding.code}::{command_data(printable(finding.message))}"


def command_data(content: str) -> str:
    return content.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(content: str) -> str:
    return command_data(content).replace(":", "%3A").replace(",", "%2C")
