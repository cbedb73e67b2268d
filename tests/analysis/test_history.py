"""A history of earlier records: the reading that it adds, and the alarm of too little spread."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.history import HistoryError
from analysis.evidence.options import Options
from analysis.verdict.judge import judge
from tests.analysis.verdicts import SEEDS

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]


def history(folder: Path, *records: dict[str, Any], name: str = "history.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(list(records)))
    return path


EARLIER = [{"n": 3, "mean": 1.21 - i / 1000, "sd": 0.0007 + i / 1e5} for i in range(8)]


def test_a_history_adds_a_reading(record: Folder, tmp_path: Path) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, history=history(tmp_path, *EARLIER)))
    (reading,) = [also for also in verdict.also if also.test.name == "history-assisted t"]
    assert reading.test.df == 2 + 16
    assert verdict.test is not None
    assert reading.test.p_value < verdict.test.p_value
    assert "8 earlier records" in reading.assumes
    assert "spread-too-small" not in [finding.code for finding in verdict.findings]


def test_the_record_itself_is_not_its_own_history(record: Folder, tmp_path: Path) -> None:
    itself = {"n": 3, "mean": 1.20136009, "sd": 0.0018731289880037877}
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, history=history(tmp_path, itself, *EARLIER)))
    (reading,) = [also for also in verdict.also if also.test.name == "history-assisted t"]
    assert reading.test.df == 2 + 16


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "neither CSV nor JSON"), ("[1]", "list of records"), ('[{"n": 3}]', "columns n and sd"), ("n,sd\nx,1\n", "must be numbers"),
        ("n,sd\n1,0.1\n", "holds no record"), ("n,sd\n3,-1\n", "cannot be meant"), ("n,sd\n3,1e200\n", "cannot be meant"),
        ("n,sd\n3,1e-200\n", "cannot be meant"), (f"n,sd\n{10**400},1\n", "cannot be meant"), ("n,mean,sd\n3,0,0.1\n", "cannot be meant"), ("", "holds no record"),
        ("n,mean,sd\n3,2.03,0.001\n", "same metric"), ("n,sd\n3,1e999\n", "cannot be meant"),
        ("n,mean,sd\n3,1.20136009,0.0018731289880\n", "no record but what"),
    ],
)  # fmt: skip
def test_a_history_that_says_nothing_is_a_usage_error(record: Folder, tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(HistoryError, match=f"--history .*{word}"):
        judge((record(SEEDS),), Options(sota=1.3, history=path))


def test_the_leaderboards_table_is_a_history(command: Run, record: Folder, tmp_path: Path) -> None:
    for i in range(3):
        record({1: 1.21 + i / 1e4, 2: 1.2111, 3: 1.2104}, f"records-{i}")
    path = tmp_path / "table.csv"
    assert command("analysis.leaderboard", tmp_path, "--format", "csv", "--output", path).returncode == 0
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, history=path))
    assert any(also.test.name == "history-assisted t" for also in verdict.also)


def test_a_history_is_also_shared_by_candidate_and_control(record: Folder, tmp_path: Path) -> None:
    control = record({1: 1.2161, 2: 1.2166, 3: 1.2157}, "control")
    mean, sd = statistics.mean((1.2161, 1.2166, 1.2157)), statistics.stdev((1.2161, 1.2166, 1.2157))
    itself = {"n": 3, "mean": mean, "sd": sd}
    verdict = judge((record(SEEDS),), Options(control=control, history=history(tmp_path, itself, *EARLIER)))
    (reading,) = [also for also in verdict.also if also.kind == "history"]
    assert reading.test is not None
    assert reading.test.df == 2 + 2 + 16  # the control is not its own history
    assert verdict.test is not None
    assert reading.test.p_value < verdict.test.p_value


def test_too_little_spread_raises_the_alarm(record: Folder, tmp_path: Path) -> None:
    past = history(tmp_path, *EARLIER)
    narrow = {1: 1.20000, 2: 1.20001, 3: 1.20002}
    verdict = judge((record(narrow),), Options(sota=1.3, history=past))
    (finding,) = [finding for finding in verdict.findings if finding.code == "spread-too-small"]
    assert (finding.severity, finding.file, finding.message.startswith("Found an sd of 0.00001000")) == (
        "warning",
        "train_seed1.log",
        True,
    )
    usual = judge((record({1: 1.2000, 2: 1.2001, 3: 1.2002}, "usual"),), Options(sota=1.3, history=past))
    assert "spread-too-small" not in [finding.code for finding in usual.findings]


def test_a_history_stays_beside_a_pooled_verdict(record: Folder, tmp_path: Path) -> None:
    own = record({7: 1.2005, 8: 1.2021, 9: 1.2009}, "own", bare=True)
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=own, history=history(tmp_path, *EARLIER)))
    assert any(also.test.name == "history-assisted t" for also in verdict.also)
