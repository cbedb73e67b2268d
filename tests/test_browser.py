"""The pages as a browser shows them: no console error, no serious accessibility finding, nothing hostile obeyed.

Needs Chromium, and axe-core from npm below build/ (`.ci/run` installs both); skipped, with the reason, where they are not.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.options import Options
from analysis.report.html.board import board_page
from analysis.report.html.page import page
from analysis.rules.ruleset import load
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.judge import judge
from tests.conftest import ROOT, make_log

pytestmark = pytest.mark.slow
CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
AXE = ROOT / "build" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (1280, 390)
ASK = """
window.addEventListener("load", async () => {
  const seen = await axe.run();
  const wide = document.documentElement.scrollWidth, own = window.innerWidth;
  const found = {violations: seen.violations, wide, own, obeyed: window.obeyed || null, title: document.title,
                 scripts: document.querySelectorAll("script").length, requests: performance.getEntriesByType("resource").length};
  parent.postMessage(JSON.stringify(found), "*");
});
"""
# a window of Chromium's has at least 500 pixels, a frame has not
FRAME = """<!doctype html><html lang="en"><title>frame</title><body style="margin:0">
<script>window.addEventListener("message", event => {
  const out = document.createElement("pre"); out.id = "answer"; out.textContent = event.data; document.body.append(out);
});</script>
<iframe src="page.html" style="width:%dpx;height:900px;border:0"></iframe></body></html>
"""


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page: axe's serious violations, widths, whether its content ran, what the console says."""

    serious: list[str]
    answer: dict[str, Any]
    console: list[str]


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., Shown]:
    if CHROMIUM is None or not AXE.is_file():
        pytest.skip("needs Chromium (Debian's package chromium) and axe-core (npm install --prefix build axe-core)")

    def render(content: str, width: int = 1280, dark: bool = False) -> Shown:
        (tmp_path / "page.html").write_text(f"{content}<script>{AXE.read_text()}</script><script>{ASK}</script>")
        file = tmp_path / "frame.html"
        file.write_text(FRAME % width)
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,1000", "--enable-logging=stderr", "--virtual-time-budget=20000",
            *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom", file.as_uri(),
        ]  # fmt: skip
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        (answer,) = re.findall(r'<pre id="answer">(.*?)</pre>', found.stdout, re.DOTALL)
        table = json.loads(html.unescape(answer))
        serious = [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in table["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        return Shown(serious, table, [line for line in found.stderr.splitlines() if ":CONSOLE" in line])

    return render


def check(shown: Shown, width: int) -> None:
    assert shown.serious == []
    assert shown.console == []
    assert shown.answer["own"] == width
    assert shown.answer["wide"] <= width  # no sideways scrolling but inside a table's own frame
    assert shown.answer["scripts"] == 2  # the test's own
    assert shown.answer["requests"] == 0


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_report(show: Callable[..., Shown], record: Callable[..., Path], width: int, dark: bool) -> None:
    folder, control = record({1: 1.2, 2: 1.201, 3: 1.202}, claim=1.1), record({1: 1.3, 2: 1.301, 3: 1.302}, "control")
    verdict = judge((folder,), Options(control=control))
    check(show(page(verdict, "python -m analysis.significance report " + "x" * 300), width, dark), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_that_cannot_tell(show: Callable[..., Shown], record: Callable[..., Path], width: int) -> None:
    folder = record({1: 1.2}, bare=True)
    check(show(page(judge((folder,), Options(sota=1.3)), "command"), width), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_leaderboard(show: Callable[..., Shown], record: Callable[..., Path], tmp_path: Path, width: int) -> None:
    for number, name in enumerate(("first", "second", "third")):
        folder = record({1: 1.2 - number / 50, 2: 1.201 - number / 50, 3: 1.202 - number / 50}, name)
        claim = json.loads((folder / "submission.json").read_text()) | {"date": f"2026-04-0{number + 1}"}
        (folder / "submission.json").write_text(json.dumps(claim))
    rules = load("parameter-golf")
    check(show(board_page(leaderboard(tmp_path, rules), rules, "command"), width), width)


def test_nothing_of_a_hostile_folder_is_obeyed(show: Callable[..., Shown], tmp_path: Path) -> None:
    obey = "window.obeyed=1;document.title='obeyed'"
    name = f"<img src=x onerror={obey}><script>{obey}"
    folder = tmp_path / "records" / name
    folder.mkdir(parents=True)
    for seed in (1, 2, 3):
        text = make_log(seed, 1.2 + seed / 1000).replace("seed:", f"<svg onload={obey}>\nseed:", 1)
        (folder / f"<title><style>*{{display:none}}<{seed}.log").write_text(text)
    claim = {"name": f"</script><script>{obey}", "author": "javascript:obey()", "val_bpb": 1.1, "date": f"<b {os.sep}>"}
    (folder / "submission.json").write_text(json.dumps(claim))
    rules = load("parameter-golf")
    for content in (
        page(judge((folder,), Options(sota=1.3)), f"report {name}"),
        board_page(leaderboard(tmp_path / "records", rules), rules, f"leaderboard {name}"),
    ):
        shown = show(content)
        check(shown, 1280)
        assert shown.answer["obeyed"] is None
        assert shown.answer["title"].startswith("seedproof")
