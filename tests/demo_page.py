"""What README.md and docs/tutorial.md show of the demo, and the picture of its report.

mkdir -p build && make demo > build/demo.txt        # a run whose numbers the documents are to show
python -m tests.demo_page                           # put them there, take the picture, name the lines that were not printed
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial.md")
SAID, REPORT, PICTURE = (
    ROOT / "build" / "demo.txt",
    ROOT / "sweeps" / "demo" / "report.html",
    ROOT / "docs" / "report.png",
)
BLOCK = re.compile(
    r"(?<=^```\n)(?:\[1/4\]|SUPPORTED|threshold|seed  |sensitivity|\$ seedproof \w+ \w+/demo).*?(?=^```$)", re.M | re.S
)
COMMAND = re.compile(r"^\$ seedproof (\w+ (?:sweeps|records)/demo.*)\n((?:(?!\$).*\n)+)", re.M)
PROGRESS = re.compile(r"(candidate|control) seed \d+: (step |starting$)|\d+ of \d+ runs have a result")
ELIDED, CUT = " ...", "...the report, see below..."
CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1280,620"
)


def form(line: str) -> str:
    """Return a line without what differs from run to run: numbers but seeds, digests, signs, widths."""
    words = re.sub(
        r"\b[0-9a-f]{12}\b|\b(?!13[34]\d\b)\d[\d.,e-]*|better|worse|at least|perhaps", "#", line.rstrip(". ")
    )
    return re.sub(r"(?<=\S)[-# ]*#[-# ]*", "#", re.sub(r"(?<=\S) +", " ", words))


def transcript(lines: list[str]) -> Iterator[str]:
    """Yield what `make demo` printed, without progress and without the report, which the tutorial shows in parts."""
    first = next(number for number, line in enumerate(lines) if line.startswith("[1/4]"))
    written = next(number for number, line in enumerate(lines) if line.startswith("Wrote sweeps/demo/"))
    for line in (*lines[first : lines.index("", first)], "", CUT, "", *lines[written:]):
        if not PROGRESS.match(line):
            yield line


def brought_up(old: str, lines: list[str]) -> str:
    """Return a block as the run printed it: its paragraphs or, where it leaves out lines, each line by its form."""
    if CUT in old:
        return "\n".join([*transcript(lines), ""])
    if "..." not in old:
        text = "\n".join(lines)
        start = re.search(rf"^{re.escape(old.split()[0])}", text, re.M)
        assert start is not None, f"not printed: {old}"
        return "\n\n".join(text[start.start() :].split("\n\n")[: 1 + old.count("\n\n")]) + "\n"
    known = {form(line): line for line in reversed(lines) if line} | {form("..."): "..."}
    for line in old.splitlines():
        if form(line) not in known and re.search(r"\d\.\d{4}", line):
            print(f"not printed: {line}", file=sys.stderr)
    new = [known.get(form(line), line) + (ELIDED if line.endswith(ELIDED) else "") for line in old.splitlines()]
    return "\n".join([*new, ""])


def called(words: str, folder: str) -> str:
    command = [sys.executable, "-m", "seedproof", *shlex.split(words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def main() -> None:
    lines = SAID.read_text().replace(f"{ROOT}/", "").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sweeps", "trainer"):
            (Path(folder) / name).symlink_to(ROOT / name)

        def shown(block: re.Match[str]) -> str:
            if "\n...\n" in block[0] or not COMMAND.search(block[0]):
                return brought_up(block[0], lines)
            return COMMAND.sub(lambda one: f"$ seedproof {one[1]}\n{called(one[1], folder)}", block[0])

        for page in PAGES:
            page.write_text(BLOCK.sub(shown, page.read_text()))
    subprocess.run(
        [*shlex.split(CHROMIUM), f"--screenshot={PICTURE}", REPORT.as_uri()], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
