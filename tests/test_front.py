"""The command `seedproof`: its commands are those of the modules, and what a new user types first works."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

import seedproof
from analysis.rules.explained import address
from analysis.rules.findings import Code
from analysis.rules.ruleset import known
from analysis.untrusted.invoked import WORDS, command, this_command
from seedproof import __version__
from seedproof.__main__ import COMMANDS, main
from tests.conftest import ROOT

Folder = Callable[..., Path]
VALUES = {1: 1.2, 2: 1.201, 3: 1.202}


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="seedproof")


def found(name: str) -> click.Command:
    one = main.get_command(click.Context(main), name)
    assert one is not None
    return one


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_very_object_of_its_module_and_the_list_says_the_same(name: str) -> None:
    module, says = COMMANDS[name]
    theirs = import_module(module).main
    assert found(name) is getattr(theirs, "commands", {}).get(name, theirs)
    assert " ".join((found(name).help or "").split()).startswith(says)
    assert WORDS[module] in ((), (name,))


def test_seedproof_of_a_path_is_report(record: Folder) -> None:
    folder = record(VALUES)
    short, long = run(folder, "--sota", "1.3"), run("report", folder, "--sota", "1.3")
    assert (short.exit_code, short.stdout) == (0, long.stdout)


@pytest.mark.parametrize("path", ["nowhere/", "./check", "values.csv", r"C:\logs"])
def test_a_word_that_looks_like_a_path_is_asked_of_report(path: str) -> None:
    answer = run(path)
    assert answer.exit_code == 2
    assert "does not exist" in answer.stderr
    assert "seedproof report" in answer.stderr


def test_a_word_that_is_neither_gets_the_nearest_command() -> None:
    answer = run("chekc", "x")
    assert answer.exit_code == 2
    assert "'check'" in answer.stderr
    assert "explain" in run("xyzzy").stderr
    assert "--site is an option of board." in run("site").stderr


def test_help_is_help_and_the_version_is_the_projects() -> None:
    assert run("help").stdout == run("--help").stdout
    assert run("help", "check").stdout == run("check", "--help").stdout
    assert run().exit_code == 2
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run("--version").stdout.split() == ["seedproof", version] == ["seedproof", __version__]


def test_python_m_seedproof_is_the_same() -> None:
    words = [sys.executable, "-m", "seedproof", "--version"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout == run("--version").stdout


# -- what a new user tries first ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("check mine --sota 1.3", 0, "SUPPORTED"),
        ("mine --sota 1.3", 0, "SUPPORTED"),
        ("--sota 1.3 mine", 0, "SUPPORTED"),
        ("./mine --sota=1.3", 0, "SUPPORTED"),
        ("mine", 2, "--sota X"),
        ("mine --sota", 2, "requires an argument"),
        ("mine --sotta 1.3", 2, "--sota"),
        ("report values.csv --sota 1.3", 0, "values.csv:2"),
        ("check values.csv --sota 1.3", 1, "no-logs"),
        ("check mine --format json --sota 1.3", 0, '"gate": "supported"'),
        ("mine --sota 1.3 --explain 2", 0, "seed 2, candidate"),
        ("mien --sota 1.3", 2, "'mine'"),
        ("audit mine", 0, "nothing found"),
        ("logs mine", 0, "val_bpb"),
        ("board .", 0, "mine"),
        ("plan", 2, "threshold"),
        ("sweep run", 2, "--output"),
        ("plan --gain 0.004 --sd 0.0014", 0, "Plan a look"),
        ("explain source-differs", 0, "different programs"),
        ("explain", 0, "source-differs"),
        ("plan --control their.toml", 2, "--control takes no value; got 'their.toml'"),
        ("plan --control=their.toml", 2, "--control-seeds"),
        ("sweep", 2, "status"),
        ("sweep plan", 2, "'seedproof plan'"),
        ("sweep stauts .", 2, "Did you mean 'status'?"),
        ("sweep status .", 2, "sweep directory"),
        ("mine --sota 1.3 --format html", 0, "<!doctype html>"),
        ("help", 0, "Commands:"),
        ("help sweep", 0, "resume"),
        ("--help", 0, "Commands:"),
        ("-h", 0, "Commands:"),
        ("--version", 0, __version__),
        ("version", 0, __version__),
    ],
)
def test_a_first_guess_works_or_says_what_to_type(
    typed: str, code: int, said: str, record: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = record(VALUES, "mine")
    (folder.parent / "values.csv").write_text("seed,val_bpb\n1,1.2\n2,1.201\n3,1.202\n")
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(sys, "argv", ["seedproof"])
    answer = run(*typed.split())
    assert (answer.exit_code, said in answer.output) == (code, True), answer.output


def test_a_first_guess_in_python_works(record: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record(VALUES, "mine").parent)
    logs = seedproof.judge("mine", sota=1.3)
    assert logs
    for values in (VALUES, [*VALUES.values()], pd.DataFrame({"seed": VALUES.keys(), "val_bpb": VALUES.values()})):
        assert seedproof.judge(values, sota=1.3).test == logs.test
        assert seedproof.judge("mine", control=values).test is not None


# -- printed commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "board", "check"),
    [
        ("/x/bin/seedproof", "seedproof board D", "seedproof check D"),
        (r"/x/seedproof.exe", "seedproof board D", "seedproof check D"),
        ("/x/seedproof/__main__.py", "python -m seedproof board D", "python -m seedproof check D"),
        ("/x/analysis/audit.py", "python -m analysis.leaderboard D", "python -m analysis.significance check D"),
        ("", "python -m analysis.leaderboard D", "python -m analysis.significance check D"),
    ],
)
def test_commands_are_printed_as_the_user_types_them(
    program: str, board: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "x"])
    assert command("analysis.leaderboard", "D") == board
    assert command("analysis.significance", "check", "D") == check
    assert this_command("analysis.significance") == check.removesuffix(" check D").removesuffix(" D") + " x"


def test_a_command_on_a_page_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["seedproof", "report", "a b", "--registry", "https://me:hunter2secret@x.org/r"])
    shown = this_command("analysis.significance")
    assert shown.startswith("seedproof report 'a b' --registry https://")
    assert "hunter2secret" not in shown


def test_advice_names_the_command_that_the_user_has(record: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    record(VALUES, "inside")
    above = record(VALUES, "above")
    for name in ("one", "two"):
        record(VALUES, f"above/{name}")
    for log in above.glob("*.*"):
        log.unlink()
    monkeypatch.setattr(sys, "argv", ["/x/bin/seedproof", "audit", str(above)])
    assert f"seedproof board {above}" in run("audit", above).stderr


# -- completion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "ch", {"check"}),
        (["check", "--rules"], "", {*known()}),
        (["board", "--rules"], "nanogpt", {name for name in known() if name.startswith("nanogpt")}),
        (["explain"], "source-d", {Code.SOURCE_DIFFERS, Code.SOURCE_DOES_NOT_COMPILE}),
    ],
)
def test_a_shell_completes_commands_rulesets_and_codes(words: list[str], incomplete: str, expected: set[str]) -> None:
    completed = BashComplete(main, {}, "seedproof", "_SEEDPROOF_COMPLETE").get_completions(words, incomplete)
    assert {one.value for one in completed} == expected


def test_a_shell_is_asked_for_files_where_no_command_begins_so() -> None:
    completed = BashComplete(main, {}, "seedproof", "_SEEDPROOF_COMPLETE").get_completions([], "runs")
    assert [one.type for one in completed] == ["file"]


# -- explain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", Code)
def test_every_code_is_explained_with_its_severities_and_its_page(code: Code) -> None:
    said = run("explain", code).stdout
    assert said.startswith(f"{code}\n")
    assert f"severity: {code.severity}" in said
    assert address(code) in said


def test_explain_names_the_rulesets_that_grade_it_otherwise_and_alone_lists_all() -> None:
    assert "off by" in run("explain", Code.CAP_UNKNOWN).stdout
    assert "nanogpt-track-1" in run("explain", Code.CAP_UNKNOWN).stdout
    lines = run("explain").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[code, code.severity] for code in Code]


def test_explain_of_a_part_of_a_code_gives_the_codes_with_it() -> None:
    assert "time-over-cap, eval-time-over-cap" in run("explain", "time").stderr


def test_explain_of_a_mistyped_code_gives_the_nearest() -> None:
    answer = run("explain", "sorce-differs")
    assert answer.exit_code == 2
    assert "'source-differs'" in answer.stderr


# -- stdout --------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_or_closed_stdout_is_no_answer_of_its_own(record: Folder) -> None:
    words = f"{sys.executable} -m seedproof check {record({1: 1.2, 2: 1.201, 3: 1.202})} --sota 1.3"
    for end, code, said in ((">/dev/full", 2, "cannot be written: No space left"), (">&-", 0, "")):
        found = subprocess.run(f"{words} {end}", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602
        assert found.returncode == code
        assert said in found.stderr
        assert "Traceback" not in found.stderr
        assert "Exception" not in found.stderr
