"""What a terminal shows: tables and sentences of its width, one screen, findings together, waits that are said."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from click import UsageError

from analysis.evidence.options import Options
from analysis.report.counting import Counting
from analysis.report.grid import Width, fitted, shortened, text_table, wrapped
from analysis.report.said.explained import explanation, listing
from analysis.report.said.findings import MOST_ANNOTATIONS, alike, annotated, finding_lines
from analysis.report.text import text
from analysis.rules.findings import ERROR, WARNING, Code, Finding, counts, in_words
from analysis.significance import report
from analysis.untrusted.files import read_bounded
from analysis.verdict.judge import judge
from tests.conftest import ROOT, clean_environment, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]

SEEDS = {1: 1.2, 2: 1.201, 3: 1.202}
LONG = "a_folder_with_a_name_that_somebody_thought_about_for_long"


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Three logs whose names do not fit a terminal."""
    folder = tmp_path / "deep" / LONG
    folder.mkdir(parents=True)
    for seed, value in SEEDS.items():
        (folder / f"train_of_seed_{seed}.log").write_text(make_log(seed, value))
    return tmp_path / "deep"


def finding(message: str, file: str, line: int = 1, severity: str = ERROR, code: Code = Code.TIME_OVER_CAP) -> Finding:
    return Finding(code=code, severity=severity, file=file, line=line, message=f"{message} Stop.", do="Stop.")


def on_a_terminal(words: tuple[str, ...], **env: str) -> str:
    """Run a command with a terminal as its stdout, and return what it prints."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in clean_environment().items() if name not in ("NO_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=slave, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment | env
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(master, 65536):
            shown += part
    process.wait()
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


# -- widths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("train.log:76", 12, "train.log:76"),
        ("candidate/seed-1337/train.log:1052", 20, "candidate...log:1052"),
        ("a_very_long_name:123456", 10, "...:123456"),
        ("runs/exported_of_a_tracker.csv:2 (tracker)", 22, "runs/ex...:2 (tracker)"),
    ],
)
def test_a_name_loses_its_middle_and_never_its_line(text: str, most: int, shown: str) -> None:
    assert shortened(text, most) == shown


def test_columns_go_before_a_name_gets_too_short() -> None:
    row = {"seed": "1337", "val_loss": "2.01000000", "log": f"{LONG}/train.log:1052"}
    assert fitted([row], None, "log", ("val_loss",)) == [row]
    wide, narrow = (text_table(fitted([row], width, "log", ("val_loss",))) for width in (44, 36))
    assert "val_loss" in wide[0]
    assert "val_loss" not in narrow[0]
    assert all(line.endswith(":1052") for line in (wide[1], narrow[1]))
    assert [max(map(len, lines)) for lines in (wide, narrow)] == [44, 36]


def test_what_continues_a_line_is_indented() -> None:
    assert wrapped(["  one two three"], 10) == ["  one two", "    three"]
    assert wrapped(["one two three"], None) == ["one two three"]


@pytest.mark.parametrize("width", [80, 60])
def test_a_report_is_as_wide_as_the_terminal_and_one_screen(record: Record, deep: Path, width: int) -> None:
    for path, options in ((record(SEEDS), Options(sota=1.3)), (deep, Options(sota=1.3))):
        lines = text(judge((path,), options), Width(prose=width, table=width)).splitlines()
        assert max(map(len, lines)) <= width
        if width == 80 and path != deep:
            assert len(lines) <= 40


def test_a_report_with_a_control_is_one_screen(record: Record) -> None:
    control = record({4: 1.3, 5: 1.301, 6: 1.3015}, "control")
    lines = text(judge((record(SEEDS),), Options(control=control)), Width(prose=80, table=80)).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


def test_a_pipe_gets_whole_lines(command: Run, deep: Path) -> None:
    found = command("analysis.significance", "report", deep, "--sota", "1.3")
    assert f"{LONG}/train_of_seed_1.log:" in found.stdout
    narrow = command("analysis.significance", "report", deep, "--sota", "1.3", env={"COLUMNS": "80"})
    assert f"{LONG}/train_of_seed_1.log:" not in narrow.stdout
    assert max(len(line) for line in narrow.stdout.splitlines() if line.startswith(("1 ", "2 ", "3 "))) <= 80


@pytest.mark.parametrize("width", [80, 60])
def test_what_explains_is_as_wide_as_the_terminal(width: int) -> None:
    listed = listing(width).splitlines()
    assert max(map(len, listed)) <= width
    assert len(listed) == len(Code)
    lines = explanation(Code.DATA_UNEXPECTED, width).splitlines()
    assert max(len(line) for line in lines if "https://" not in line) <= width
    assert "..." not in listing()


def test_html_is_not_poured_into_a_terminal(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Mock(isatty=lambda: True))
    with pytest.raises(UsageError, match="--output"):
        report.make_context("report", ["--format", "html", "--sota", "1.3", str(record(SEEDS))])


@pytest.mark.slow
def test_a_terminal_is_filled_and_coloured_unless_it_is_told_not_to_be(record: Record) -> None:
    words = ("analysis.significance", "check", str(record(SEEDS)), "--sota", "1.3")
    shown = on_a_terminal(words, COLUMNS="60", TERM="xterm")
    assert max(map(len, re.sub(r"\x1b\[\d*m", "", shown).splitlines())) <= 60
    assert shown.startswith("\x1b[")
    for plain in ({"NO_COLOR": "1", "TERM": "xterm"}, {"CI": "true", "TERM": "xterm"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_a_terminal(words, **plain)


@pytest.mark.parametrize(
    "words",
    [
        ("analysis.leaderboard", "."),
        ("analysis.logs", "."),
        ("analysis.logs", ".", "--curves"),
        ("analysis.significance", "plan", "--sd", "0.0014", "--gain", "0.004", "--price", "2.5"),
    ],
)
def test_tables_have_80_columns_in_a_pipe(
    command: Run, record: Record, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(record(SEEDS, f"2026-01-01_{LONG}").parent)
    found = command(*words)
    assert found.returncode == 0
    table = next(part for part in found.stdout.split("\n\n") if re.match(r"rank|seed|design", part)).splitlines()
    assert len(table) > 1
    assert max(map(len, table)) <= 80
    wide = command(*words, env={"COLUMNS": "250"}).stdout
    assert max(map(len, wide.splitlines())) > 80 or "plan" in words


def test_a_board_for_people_is_ranked_and_names_what_it_leaves_out(
    command: Run, record: Record, tmp_path: Path
) -> None:
    record({1: 1.2, 2: 1.201, 3: 1.202}, "2026-01-01_b")
    record({1: 1.1, 2: 1.101, 3: 1.102}, "2026-02-01_a")
    found = command("analysis.leaderboard", tmp_path).stdout
    head, *rows = found.split("\n\n")[0].splitlines()
    assert head.split()[:3] == ["rank", "record", "n"]
    assert [row.split()[:3] for row in rows] == [["1", "2026-02-01_a", "3"], ["2", "2026-01-01_b", "3"]]
    assert "+0.100000" in rows[0]
    narrow = command("analysis.leaderboard", tmp_path, env={"COLUMNS": "70"}).stdout
    assert "Not shown: p, date, " in narrow
    assert " p " not in narrow.splitlines()[0]
    assert len(command("analysis.leaderboard", tmp_path, "--format", "csv").stdout.splitlines()) == 3


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "begins", "said"),
    [
        (("analysis.significance", "report", "mine", "--sota", "1.3"), "a.json", "{", "supported"),
        (("analysis.significance", "report", "mine", "--sota", "1.3"), "a.html", "<!doctype", "supported"),
        (("analysis.significance", "report", "mine", "--sota", "1.3"), "a.md", "## seedproof", "supported"),
        (("analysis.significance", "report", "mine", "--sota", "1.3"), "a", "SUPPORTED: ", "supported"),
        (("analysis.logs", "mine"), "a.csv", "arm,seed,", ""),
        (("analysis.logs", "mine"), "a.txt", "seed  ", ""),
        (("analysis.leaderboard", "."), "a.json", "[", ""),
        (("analysis.leaderboard", "."), "a.md", "| rank |", ""),
    ],
)
def test_the_name_of_the_output_says_its_format_and_what_was_written_is_said(
    command: Run,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    name: str,
    begins: str,
    said: str,
) -> None:
    monkeypatch.chdir(record(SEEDS, "mine").parent)
    found = command(*words, "--output", name)
    assert found.returncode == 0
    assert found.stdout == ""
    assert Path(name).read_text().startswith(begins)
    assert f"Wrote {name}" in found.stderr
    assert said in found.stderr


def test_check_has_the_formats_of_report_and_an_exit_code_of_its_own(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    (folder / "README.md").unlink()
    for form in ("json", "markdown", "sarif"):
        check, report = (
            command("analysis.significance", verb, folder, "--sota", "1.3", "--format", form)
            for verb in ("check", "report")
        )
        assert check.stdout == report.stdout
        assert (check.returncode, report.returncode) == (1, 0)


# -- findings ----------------------------------------------------------------------------------------------------------

MANY = [
    finding("Found 1.", "a.log", 1),
    finding("Found no README.", "b.md", 2, WARNING, Code.MISSING_FILE),
    finding("Found 2.", "b.log", 3),
    finding("Found 2.", "c.log", 4),
    finding("Found 2.", "c.log", 5),
]


def test_findings_of_one_code_are_together_and_counted_as_listed() -> None:
    assert finding_lines(MANY) == [
        "error: time-over-cap: 2 findings. Stop.",
        "  a.log:1: Found 1.",
        "  b.log:3 and 2 more places: Found 2.",
        "warning: missing-file: b.md:2: Found no README. Stop.",
    ]
    assert in_words(MANY) == "2 errors, 1 warning"
    assert counts(MANY)[ERROR] == sum(one[0].severity is ERROR for one in alike(MANY))


def test_a_number_of_errors_is_the_same_everywhere(command: Run, record: Record, tmp_path: Path) -> None:
    """One fact in three logs is one error."""
    (tmp_path / "records").mkdir()
    folder = record(SEEDS, "records/2026-01-01_a")
    for log in folder.glob("*.log"):
        log.write_text(log.read_text().replace("world_size:8", "world_size:4"))
    words = (folder, "--sota", "1.3")
    report, audit = command("analysis.significance", "report", *words).stdout, command("analysis.audit", folder).stdout
    listed = len(re.findall(r"^error: ", report, re.MULTILINE))
    assert listed == 1
    assert "findings: 1 error" in report
    assert "1 error in the evidence" in report
    assert ": 1 error (" in audit
    assert "### Findings: 1 error" in command("analysis.significance", "report", *words, "--format", "markdown").stdout
    (row,) = json.loads(command("analysis.leaderboard", folder.parent, "--format", "json").stdout)
    assert row["errors"] == 1


def test_github_gets_ten_annotations_errors_first_and_the_number_of_the_others(
    python: Run, record: Record, tmp_path: Path
) -> None:
    commands = [*(f"::warning file=a,line={line}::w" for line in range(20)), "::notice ::n", "::error ::e"]
    shown = annotated(commands)
    assert shown[0] == "::error ::e"
    assert len([line for line in shown if line.startswith("::")]) == MOST_ANNOTATIONS == 10
    assert shown[-1].startswith("12 more of 22 ")
    assert annotated(commands[:9]) == commands[:9]
    folder, summary = record(SEEDS), tmp_path / "summary.md"
    for number in range(12):
        (folder / f"copy{number}.log").write_bytes((folder / "train_seed1.log").read_bytes())
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    found = python("-m", "analysis.significance", "check", folder, "--sota", "1.3", env=env)
    assert len(re.findall(r"^::", found.stdout, re.MULTILINE)) == 10
    for said in (found.stdout, summary.read_text()):
        assert "3 more of 13 annotations" in said


# -- waits -------------------------------------------------------------------------------------------------------------


def test_logs_that_are_read_are_counted_where_somebody_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record: Record
) -> None:
    logs = sorted(record(SEEDS).glob("*.log"))
    clock = iter([0.0, 1.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr("analysis.report.counting.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with Counting():
        for log in logs:
            read_bounded(log)
    read_bounded(logs[0])  # nobody waits
    assert capsys.readouterr().err == f"1 log read, now {logs[1]}\n"


# -- first guesses -----------------------------------------------------------------------------------------------------


def test_a_readme_that_quotes_a_log_is_no_log(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    quoted = make_log(9, 1.9)
    (folder / "README.txt").write_text("\n".join(quoted.splitlines()[-1:]) + "\n")
    rows = json.loads(command("analysis.logs", folder, "--format", "json").stdout)
    assert sorted(row["seed"] for row in rows) == [1, 2, 3]
    assert judge((folder,), Options(sota=1.3)).n == 3
    (folder / "README.txt").write_text(quoted)  # a whole run is no quotation
    assert "run-not-read" in [one.code for one in judge((folder,), Options(sota=1.3)).findings]
    named = json.loads(command("analysis.logs", folder / "README.txt", "--format", "json").stdout)
    assert [row["seed"] for row in named] == [9]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sota", "1,3"), "Did you mean 1.3?"),
        (("--sota", "1.2014bpb"), "Did you mean 1.2014?"),
        (("--sota", "1.3", "--alpha", "1%"), "Did you mean 0.01?"),
        (("--sota", "1.3", "--format", "jsn"), "Did you mean 'json'?"),
        (("--sota", "1.3", "--unit", "nat"), "Did you mean 'nats'?"),
        (("--sota", "1.3", "--metric", "val_bbp"), "Did you mean 'val_bpb'?"),
        (("https://example.com/x", "--sota", "1.3"), "is a URL"),
    ],
)
def test_a_mistyped_value_is_told_what_may_be_meant(
    command: Run, record: Record, words: tuple[str, ...], said: str
) -> None:
    found = command("analysis.significance", "check", record(SEEDS), *words)
    assert found.returncode in (2, 3)
    assert said in found.stderr


def test_the_json_of_a_record_means_its_folder(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    found = command("analysis.significance", "check", folder / "submission.json", "--sota", "1.3")
    assert found.returncode == 0
    assert "3 seeds" in found.stdout
    assert "Reading its folder" in found.stderr


def test_runs_of_different_metrics_are_told_which_option_and_labels(record: Record) -> None:
    folder = record(SEEDS)
    log = folder / "train_seed1.log"
    log.write_text(log.read_text().replace("\nfinal_int8", "\nother_int4"))
    (folder / "submission.json").unlink()
    reason = judge((folder,), Options(sota=1.3)).reason
    assert "--metric " in reason
    assert "other_int4" in reason
