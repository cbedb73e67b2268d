"""Make text from outside harmless where it is printed: a terminal, Markdown, JSON, a GitHub workflow command."""

from __future__ import annotations

import json
import re
from typing import Any

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # what begins one, also in full width
_CONTROL_CODES = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|#(?=#\[)"
)  # fe0f stays: it only draws a sign in colour


def printable(text: str) -> str:
    """Show control codes, invisible characters and changes of direction instead of obeying them.

    `##[` is shown too: it starts an older form of GitHub's workflow commands, anywhere in a line.
    """
    return _CONTROL_CODES.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def beginning(value: object) -> str:
    """Return the beginning of a value as Python writes it, for use in a sentence."""
    try:
        return repr(value)[:80]
    except ValueError:  # an integer with more digits than Python prints
        return "a number of very many digits"


def line_start(text: str) -> str:
    """Return printable text that is safe at the start of a line, where `::` begins a GitHub workflow command."""
    return re.sub(r"^(\s*):(?=:)", r"\1\\x3a", printable(text))


def json_text(table: Any) -> str:
    """Return JSON with control codes and `##[` as escapes. Readers get the same values, but nothing acts as a command."""
    text = json.dumps(table, indent=1, allow_nan=False)  # which escapes all but ASCII
    return text.replace("##[", "#\\u0023[").replace("\x7f", "\\u007f") + "\n"


def cell(text: str) -> str:
    """Return text for a CSV cell that is no command to a terminal or GitHub, and no formula to a spreadsheet."""
    shown = line_start(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


def markdown(content: str) -> str:
    """Return text that a Markdown cell or paragraph shows literally, without mentions and links.

    GitHub links an e-mail address even if its @ is an entity, unless a zero-width space follows.
    """
    content = printable(content).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    content = re.sub(r"([\\`*_{}\[\]()#!|~])", r"\\\1", content)
    return content.replace("@", "&#64;&#8203;").replace("://", "&#58;//").replace("www.", "www&#46;")


def workflow_command(kind: str, message: str, **properties: object) -> str:
    """Return one of GitHub's workflow commands, such as ::error file=a.log,line=1,title=no-logs::No training log."""
    said = ",".join(f"{name}={_percent(str(value), also=':,')}" for name, value in properties.items())
    return f"::{kind} {said}::{_percent(message)}"


def _percent(text: str, also: str = "") -> str:
    return re.sub(rf"[%\r\n{also}]", lambda match: f"%{ord(match[0]):02X}", printable(text))
