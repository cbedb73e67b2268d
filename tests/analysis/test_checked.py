"""Unknown is not clean: a check that lacks its facts is named, in every format."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.audit import audit
from analysis.evidence.options import Options
from analysis.rules.ruleset import load
from analysis.verdict.judge import judge

Record = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]
VALUES = {1337: 1.2014, 42: 1.1994, 7: 1.2031}
LINES = {  # what a log prints for a check
    "the cap on the training time": r" train_time:\d+ms",
    "the cap on the number of ranks": r"^world_size:.*\n",
    "the cap on the evaluation time": r" eval_time:\d+ms",
    "the kind of GPU": r"^.*H100.*\n",
    "different seeds": r"^seed:.*\n",
    "the whole validation set": r"^val_loader.*\n",
    "one version of torch": r"^.*PyTorch.*\n",
}


def without(folder: Path, pattern: str, logs: str = "*.log") -> None:
    for log in folder.glob(logs):
        log.write_text(re.sub(pattern, "", log.read_text(), flags=re.MULTILINE))


def names(folder: Path) -> set[str]:
    return {one.check for one in audit([folder]).not_checked}


def test_a_record_that_prints_everything_is_checked_in_full(record: Record) -> None:
    found = audit([record(VALUES)])
    assert found.checks == 17
    assert found.not_checked == ()


@pytest.mark.parametrize("check", LINES)
def test_a_fact_that_no_log_prints_is_named(record: Record, check: str) -> None:
    folder = record(VALUES)
    without(folder, LINES[check])
    assert check in names(folder)


def test_one_silent_log_is_enough_and_is_named(record: Record) -> None:
    folder = record(VALUES)
    without(folder, LINES["the kind of GPU"], "train_seed42.log")
    (one,) = audit([folder]).not_checked
    assert one.check == "the kind of GPU"
    assert one.why == "train_seed42.log does not print its GPU"


def test_what_the_rules_do_not_ask_is_no_check(record: Record) -> None:
    folder = record(VALUES)
    without(folder, LINES["the cap on the training time"])
    assert load("nanogpt-track-1").train_time_s is None
    asked = {one.check for one in audit([folder], "nanogpt-track-1").not_checked}
    assert "the cap on the training time" not in asked


def test_logs_of_two_lines_are_not_called_clean(tmp_path: Path, command: Run) -> None:
    for seed, bpb in VALUES.items():
        (tmp_path / f"{seed}.log").write_text(f"seed:{seed}\nfinal val_loss:{bpb / 0.6:.6f} val_bpb:{bpb:.6f}\n")
    verdict = judge((tmp_path,), Options(sota=1.3))
    assert verdict.checks == 17
    assert len(verdict.not_checked) == 16
    assert verdict.errors >= 3  # time, size and ranks are capped, and no log tells them
    assert command("analysis.significance", "check", tmp_path, "--sota", "1.3").returncode == 1


def test_every_format_says_it(record: Record, command: Run) -> None:
    folder = record(VALUES)
    without(folder, LINES["the kind of GPU"])
    said = "16 of 17 checks were made; not checked: the kind of GPU"
    page = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", "html").stdout
    assert "<span>16 of 17 made</span>" in page
    assert "the kind of GPU" in page
    for words in (("report", "text"), ("report", "markdown"), ("check", "")):
        form = ("--format", words[1]) if words[1] else ()
        assert said in command("analysis.significance", words[0], folder, "--sota", "1.3", *form).stdout
    assert said in command("analysis.audit", folder).stdout
    page = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", "html").stdout
    assert "Checks \N{EN DASH}</strong><span>16 of 17 made</span>" in page
    assert '<th scope="row">the kind of GPU</th><td class="prose">no log prints its GPU</td>' in page
    for module in (("analysis.significance", "report"), ("analysis.audit",)):
        options = ("--sota", "1.3") if len(module) > 1 else ()
        table = json.loads(command(*module, folder, *options, "--format", "json").stdout)
        of_one = table if "verdict" in table else table["records"][0]
        assert of_one["checks"] == 17
        assert of_one["not_checked"] == [{"check": "the kind of GPU", "why": "no log prints its GPU"}]


def test_candidate_and_control_are_compared_where_both_tell(record: Record) -> None:
    first, control = record(VALUES), record({1: 1.31, 2: 1.312, 3: 1.3141}, name="control")
    assert judge((first,), Options(control=control)).checks == 20
    without(control, LINES["one version of torch"])
    (one,) = judge((first,), Options(control=control)).not_checked
    assert one.check == "torch of candidate and control"
    assert one.why == "the control does not print it"


def test_check_says_what_no_check_can_prove(record: Record, command: Run) -> None:
    first = record(VALUES)
    said = "not proven: that these logs come from real runs"
    assert said in command("analysis.significance", "check", first, "--sota", "1.3").stdout
    second = record({8: 1.2011, 9: 1.2021}, name="theirs")
    assert said not in command("analysis.significance", "check", first, "--sota", "1.3", "--verify", second).stdout
