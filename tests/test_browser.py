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
from analysis.report.html.site import write_site
from analysis.rules.ruleset import load
from analysis.verdict.board.row import Row
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.judge import judge
from tests.conftest import ROOT, make_log

pytestmark = pytest.mark.slow
CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
AXE = ROOT / "build" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (1280, 390)
ASK = """
window.addEventListener("load", async () => {
  const texts = [...document.querySelectorAll("svg text")].map(text => getComputedStyle(text).fill);
  const own = getComputedStyle(document.querySelector(".sp")).color;
  const wide = document.documentElement.scrollWidth;
  document.querySelectorAll("details").forEach(one => { one.open = true; });
  const seen = await axe.run();
  const found = {violations: seen.violations, wide, opened: document.documentElement.scrollWidth, own: window.innerWidth,
                 obeyed: window.obeyed || null, title: document.title, texts: texts.length,
                 unlike: texts.filter(fill => fill !== own), colour: own, name: location.pathname.split("/").pop(),
                 scripts: document.querySelectorAll("script").length, requests: performance.getEntriesByType("resource").length};
  parent.postMessage(JSON.stringify(found), "*");
});
"""
# a window of Chromium's has at least 500 pixels, a frame has not
FRAME = """<!doctype html><html lang="en"><title>frame</title><body style="margin:0">
<script>window.addEventListener("message", event => {
  const out = document.createElement("pre"); out.className = "answer"; out.textContent = event.data; document.body.append(out);
});</script>
%s</body></html>
"""
INSIDE = '<iframe src="%s.html" style="width:%dpx;height:900px;border:0"></iframe>'


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page: axe's serious violations, widths, whether its content ran, what the console says."""

    serious: list[str]
    answer: dict[str, Any]
    console: list[str]


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., list[Shown]]:
    """Show pages, by name, in one browser: each at every width."""
    if CHROMIUM is None or not AXE.is_file():
        pytest.skip("needs Chromium (Debian's package chromium) and axe-core (npm install --prefix build axe-core)")

    def render(pages: dict[str, str], dark: bool = False) -> list[Shown]:
        out = tmp_path / "shown"
        out.mkdir()
        for name, content in pages.items():
            shown = f"{content}<script>{AXE.read_text()}</script><script>{ASK}</script>"
            (out / f"{name}.html").write_text(shown, encoding="utf-8")
        frames = "\n".join(INSIDE % (name, width) for name in pages for width in WIDTHS)
        (out / "frame.html").write_text(FRAME % frames, encoding="utf-8")
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,1000", "--enable-logging=stderr", "--virtual-time-budget=20000",
            *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom",
            (out / "frame.html").as_uri(),
        ]  # fmt: skip
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        answers = re.findall(r'<pre class="answer">(.*?)</pre>', found.stdout, re.DOTALL)
        console = [line for line in found.stderr.splitlines() if ":CONSOLE" in line]
        tables = [json.loads(html.unescape(answer)) for answer in answers]
        assert {(one["name"], one["own"]) for one in tables} == {(f"{name}.html", w) for name in pages for w in WIDTHS}
        return [Shown(serious(one), one, console) for one in tables]

    return render


def serious(table: dict[str, Any]) -> list[str]:
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in table["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def check(shown: Shown, *, dark: bool = False) -> None:
    at = (shown.answer["name"], shown.answer["own"])
    assert (at, shown.serious) == (at, [])
    assert shown.console == []
    assert max(shown.answer["wide"], shown.answer["opened"]) <= at[1], at  # only a table scrolls sideways, in its frame
    assert shown.answer["scripts"] == 2  # the test's own
    assert shown.answer["requests"] == 0
    assert shown.answer["unlike"] == []  # a plot's text has the page's own colour
    assert (min(map(int, re.findall(r"\d+", shown.answer["colour"]))) > 200) == dark


def dated(record: Callable[..., Path]) -> None:
    for number, name in enumerate(("first", "second", "third")):
        folder = record({1: 1.2 - number / 50, 2: 1.201 - number / 50, 3: 1.202 - number / 50}, f"board/{name}")
        claim = json.loads((folder / "submission.json").read_text()) | {"date": f"2026-04-0{number + 1}"}
        (folder / "submission.json").write_text(json.dumps(claim))


@pytest.mark.parametrize("dark", [False, True])
def test_every_page_at_every_width(
    show: Callable[..., list[Shown]], record: Callable[..., Path], tmp_path: Path, dark: bool
) -> None:
    folder, control = record({1: 1.2, 2: 1.201, 3: 1.202}, claim=1.1), record({1: 1.3, 2: 1.301, 3: 1.302}, "control")
    alone = record({1: 1.2}, "alone", bare=True)
    (tmp_path / "board").mkdir()
    dated(record)
    rules = load("parameter-golf")
    rows = leaderboard(tmp_path / "board", rules)
    write_site(tmp_path / "site", tmp_path / "board", rows, rules, "command", lambda *words: None)
    found = show({
        "report": page(judge((folder,), Options(control=control)), "python -m analysis.significance report " + "x" * 300),
        "cannot-tell": page(judge((alone,), Options(sota=1.3)), "command"),
        "board": board_page([*rows, Row(record="no value " * 30)], rules, "command"),
        "index": (tmp_path / "site" / "index.html").read_text(encoding="utf-8"),
        "record": (tmp_path / "site" / "third.html").read_text(encoding="utf-8"),
    }, dark)  # fmt: skip
    for shown in found:
        check(shown, dark=dark)
        assert shown.answer["texts"] > 5


def test_nothing_of_a_hostile_folder_is_obeyed(show: Callable[..., list[Shown]], tmp_path: Path) -> None:
    obey = "window.obeyed=1;document.title='obeyed'"
    name, later = f"<img src=x onerror={obey}><script>{obey}", f"~<b onclick={obey}>"
    for better, one in enumerate((name, later)):
        folder = tmp_path / "records" / one
        folder.mkdir(parents=True)
        for seed in (1, 2, 3):
            text = make_log(seed, 1.2 + seed / 1000 - better / 10)
            text = text.replace("seed:", f"<svg onload={obey}>\nseed:", 1).replace(
                "import", f"# <script>{obey}{one}\nimport", 1
            )
            (folder / f"<title><style>*{{display:none}}<{seed}.log").write_text(text)
        claim = {
            "name": f"</script><script>{obey}",
            "author": "javascript:obey()",
            "val_bpb": 1.1,
            "date": f"<b {os.sep}>",
        }
        (folder / "submission.json").write_text(json.dumps(claim))
    rules, records = load("parameter-golf"), tmp_path / "records"
    rows = leaderboard(records, rules)
    write_site(tmp_path / "site", records, rows, rules, f"leaderboard {name}", lambda *words: None)
    (compared,) = [text for path in (tmp_path / "site").iterdir() if "+# &lt;script" in (text := path.read_text())]
    found = show({
        "report": page(judge((records / name,), Options(sota=1.3)), f"report {name}"),
        "board": board_page(rows, rules, f"leaderboard {name}", name),
        "record": compared,
    })  # fmt: skip
    for shown in found:
        check(shown)
        assert shown.answer["obeyed"] is None
        assert "seedproof" in shown.answer["title"]
