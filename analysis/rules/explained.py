"""What docs/findings.md says of each finding. findings.md here is a link to it, so the wheel holds it too."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from analysis.rules.findings import Code

PAGE = Path(__file__).with_name("findings.md")
ADDRESS = "https://github.com/OWNER/seedproof/blob/main/docs/findings.md"


def address(code: Code) -> str:
    """Return the address of the page on a finding."""
    return f"{ADDRESS}#{code}"


@cache
def explained() -> dict[Code, str]:
    """Return the section of each code as Markdown, without its heading; it begins with when the code is raised."""
    _, *found = re.split(r"^### `([a-z-]+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = dict(zip(found[::2], found[1::2], strict=True))
    return {code: re.split(r"^## ", sections[code], flags=re.MULTILINE)[0].strip() for code in Code}
