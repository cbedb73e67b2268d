"""A board as a folder of pages: its links, what a record's page says of its place and recipe, and what is never overwritten."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.options import Options
from analysis.reading.result import Result
from analysis.reading.run import Run as ReadRun
from analysis.reading.source import Source
from analysis.report.html.site import _write, page_names
from analysis.report.said.recipe import (
    MOST_LINES,
    MOST_SHOWN,
    NOT_EMBEDDED,
    OTHER_ORDER,
    SAME,
    TOO_LONG,
    UNSEEN,
    difference,
)
from analysis.rules.ruleset import load
from analysis.verdict.board.again import judged_again
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.judge import judge

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]
RULES = load("parameter-golf")


def silent(done: int, total: int, name: str) -> None:
    pass


@pytest.fixture
def board(record: Record, tmp_path: Path) -> Path:
    """A baseline of one run, a record that beats it, one whose claim its logs refute, and a folder without logs."""
    record({1: 1.2300}, "2026-03-01_baseline")
    record({1: 1.2001, 2: 1.2000, 3: 1.2003}, "2026-03-02_record")
    record({1: 1.1001, 2: 1.1000, 3: 1.1003}, "2026-03-03_<b>claim &", claim=1.05)
    for log in record({1: 1.1}, "2026-03-04_no logs").glob("*.log"):
        log.unlink()
    return tmp_path


@pytest.fixture
def site(board: Path, command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "new" / "site"
    found = command("analysis.leaderboard", board, "--site", folder)
    assert found.returncode == 0
    assert found.stdout == ""
    assert found.stderr == f"Wrote {folder / 'index.html'} and 4 pages of records.\n"
    return folder


def test_every_link_leads_to_a_file_or_a_place_in_it(site: Path) -> None:
    pages = {path.name: path.read_text() for path in site.iterdir()}
    assert len(pages) == 5
    reached = set()
    for text in pages.values():
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            if link.startswith("#"):
                assert f'id="{link[1:]}"' in text
            elif not link.startswith("https://github.com/"):
                assert link in pages
                reached.add(link)
    assert reached == pages.keys()


def test_a_records_page_is_its_row(board: Path, site: Path) -> None:
    rows = leaderboard(board, RULES)
    again = [*judged_again(board, rows, RULES, silent)]
    first, record, claim, empty = (one.verdict for one in again)
    assert [one and one.p_value for one in (record.test, claim.test)] == [rows[1].p, rows[2].p]
    assert [one.mean for one in (record, claim)] == [rows[1].mean, rows[2].mean]
    assert [first.verdict, empty.verdict] == ["unusable", "unusable"]
    index = (site / "index.html").read_text()
    for row, one, name in zip(rows, again, page_names([row.record for row in rows]), strict=True):
        page = (site / name).read_text()
        assert html.escape(row.record) in page
        assert f'href="{name}"' in index
        place = f", rank {row.rank} of 3" if row.rank else "without a rank"
        assert place in page
        count = one.verdict.errors
        line = re.search(rf'href="{name}".*\n(?:.*\n)*?.*data-label="evidence"[^>]*>(.*)\n', index)
        assert line is not None
        assert (f">{count} error" in line[1]) == (count > 0)
    assert "<b>claim" not in index


def test_a_records_page_is_the_report_against_what_stood(board: Path) -> None:
    rows = leaderboard(board, RULES)
    onboard = [*judged_again(board, rows, RULES, silent)][2].verdict
    alone = judge((board / rows[2].record,), Options(rules="parameter-golf", control=board / rows[1].record))
    assert (onboard.gate, onboard.test, onboard.gain) == (alone.gate, alone.test, alone.gain)
    assert {one.code for one in onboard.findings} == {one.code for one in alone.findings}
    assert onboard.checks


def test_pages_of_records_that_are_gone_are_removed(board: Path, site: Path, command: Run) -> None:
    (gone,) = [path for path in site.iterdir() if "no-logs" in path.name]
    (site / "broken.html.part").write_text("")
    (board / "2026-03-04_no logs").rename(board.parent / "elsewhere")
    found = command("analysis.leaderboard", board, "--site", site)
    assert found.returncode == 0
    assert not gone.exists()
    assert len([*site.iterdir()]) == 4
    assert "3 pages of records, and removed 2" in found.stderr


@pytest.mark.parametrize(
    "there",
    ["notes.txt", "index.html", ".git", "a/index.html", "link.html", "2026-03-02_record.html", "film.html.part"],
)
def test_a_folder_with_other_files_is_refused_and_left_alone(
    board: Path, tmp_path_factory: pytest.TempPathFactory, command: Run, there: str
) -> None:
    folder = tmp_path_factory.mktemp("out")
    path = folder / there
    path.parent.mkdir(exist_ok=True)
    if there == "link.html":
        path.symlink_to(board / "2026-03-02_record" / "README.md")
    else:
        path.write_text("<!doctype html>\n<html><head>\nmine")
    found = command("analysis.leaderboard", board, "--site", folder)
    assert found.returncode == 2
    assert Path(there).parts[0] in found.stderr
    assert [one.name for one in folder.iterdir()] == [Path(there).parts[0]]
    assert path.is_symlink() or "mine" in path.read_text()


def test_a_site_is_the_only_output(board: Path, tmp_path_factory: pytest.TempPathFactory, command: Run) -> None:
    folder = tmp_path_factory.mktemp("out")
    for more in (("--output", folder / "x"), ("--format", "json")):
        assert command("analysis.leaderboard", board, "--site", folder / "site", *more).returncode == 2
    (folder / "file").write_text("")
    assert command("analysis.leaderboard", board, "--site", folder / "file").returncode == 2
    assert command("analysis.leaderboard", board, "--site", folder / "file" / "below").returncode == 2
    assert [one.name for one in folder.iterdir()] == ["file"]


def test_a_part_is_a_new_file_and_no_link_is_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (tmp_path / "a.html.part").symlink_to(theirs)
    _write(tmp_path / "a.html", "page")
    assert not theirs.exists()
    assert (tmp_path / "a.html").read_text() == "page"


def test_no_page_has_a_name_that_is_a_device_on_windows() -> None:
    names = page_names(["con", "AUX.x", "com1", "console", "record-con"])
    assert not {name.lower().partition(".")[0] for name in names} & {"con", "aux", "com1"}
    assert "console.html" in names
    assert len({*names}) == 5


def test_every_record_has_a_file_name_of_its_own() -> None:
    records = [
        "2026-03-01_a",
        "2026-03-01_A",
        "a/b",
        "a-b",
        "index",
        "長",
        "長長",
        "x" * 300,
        "",
        "..",
        "../etc",
        "a b",
        "a?b",
    ]
    found = page_names(records)
    assert len({name.lower() for name in found} | {"index.html"}) == len(records) + 1
    assert found[0] == "2026-03-01_a.html"
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.-]{0,100}\.html", name, re.ASCII) for name in found)
    assert page_names(records[:3] + records[4:])[2] == found[2]


# -- what changed in the recipe ----------------------------------------------------------------------------------------


def ran(*settings: dict[str, str], program: str | None = None) -> list[Result]:
    source = Source(program.encode()) if program is not None else None
    return [
        Result.of(ReadRun(log=Path("a.log"), line=1, hyperparameters=one, source=source), None, log="a.log")
        for one in settings
    ]


def test_settings_that_differ_are_shown_and_a_runs_own_are_not() -> None:
    before = ran({"lr": "0.1", "wd": "0.2", "run_id": "a", "seed": "1"}, {"lr": "0.1", "wd": "0.2", "run_id": "b"})
    after = ran(
        {"lr": "0.3", "wd": "0.2", "run_id": "c", "ema": "1", "seed": "7"}, {"lr": "0.4", "run_id": "d", "wd": "0.2"}
    )
    found = [(one.name, one.before, one.after) for one in difference(before, after).settings]
    assert found == [("lr", "0.1", "0.3, 0.4"), ("ema", "", "1")]


def test_a_secret_in_a_setting_or_a_program_is_not_shown() -> None:
    key = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
    found = difference(ran({"a": "1"}, program="x = 1\n"), ran({"a": "2", "hf_token": key}, program=f"x = '{key}'\n"))
    shown = json.dumps([[one.after for one in found.settings], found.code.lines])
    assert key not in shown
    assert shown.count("[secret") == 2


def test_programs_are_compared_by_line() -> None:
    old = "".join(f"line_{n} = {n}\n" for n in range(50))
    new = old.replace("line_7 = 7\n", "line_7 = 8\nnew = '\x1b[31m'\n")
    found = difference(ran({}, program=old), ran({}, program=new)).code
    assert found.said == "2 lines added, 1 removed"
    assert [line for line in found.lines if line[0] in "+-"] == ["-line_7 = 7", "+line_7 = 8", "+new = '\\x1b[31m'"]
    assert len(found.lines) == 1 + 3 + 4
    assert difference(ran({}, program=old), ran({}, program=old)).code.said == SAME
    assert difference(ran({}, program=old), ran({}, program=old.strip())).code.said == UNSEEN
    turned = "".join(reversed(old.splitlines(keepends=True)))
    assert difference(ran({}, program=old), ran({}, program=turned)).code.said == OTHER_ORDER
    assert difference(ran({}), ran({}, program=old)).code.said == NOT_EMBEDDED


def test_what_is_shown_of_programs_is_bounded() -> None:
    some, many = ("".join(f"{letter}{n}\n" for n in range(MOST_LINES)) for letter in "ab")
    found = difference(ran({}, program=some), ran({}, program=many)).code
    assert len(found.lines) == MOST_SHOWN
    assert found.left_out == 2 * MOST_LINES + 1 - MOST_SHOWN
    found = difference(ran({}, program=some), ran({}, program=many + "c\n")).code
    assert TOO_LONG in found.said
    assert found.lines == ()
    assert len(difference(ran({}, program="a"), ran({}, program="b" * 5000)).code.lines[-1]) == 300
