"""A second lab's runs beside the author's: pooled, compared, or no verification at all."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.options import Options
from analysis.verdict.judge import judge
from tests.analysis.verdicts import SEEDS, TEN, everywhere
from tests.conftest import SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]


def test_a_second_lab_that_agrees_is_pooled(record: Folder, tmp_path: Path) -> None:
    own = record({7: 1.2005, 8: 1.2021, 9: 1.2009}, "own", bare=True)
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=own))
    second = verdict.verification
    assert second is not None
    assert (verdict.verdict, verdict.n, second.agrees, second.n, second.pooled_n) == ("supported", 6, True, 3, 6)
    assert second.low < second.mean < second.high
    assert verdict.test is not None
    assert verdict.test.df == 5
    assert [also.reading for also in verdict.also[:2]] == ["the author's runs alone", "the verifier's runs alone"]
    assert verdict.also[0].test.p_value == pytest.approx(0.006008638100610005)
    assert verdict.also[1].test.df == 2
    assert len(verdict.runs) == 3
    text = everywhere(verdict)
    assert "The verifier does not contradict the author" in text
    assert "author against verifier, two-sided p" in text
    assert "inside the author's 99% prediction interval" in text
    assert "verifier\n" in text


def test_one_run_of_a_second_lab_is_enough(record: Folder) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=record({7: 1.2005}, "own", bare=True)))
    assert verdict.verification is not None
    assert verdict.verification.low == pytest.approx(1.179893616361012, rel=1e-9)
    assert verdict.verification.high == pytest.approx(1.2228265636389877, rel=1e-9)
    assert (verdict.verification.agrees, verdict.n) == (True, 4)


def test_a_second_lab_that_disagrees_leaves_nothing_to_pool(command: Run, record: Folder) -> None:
    own = record({7: 1.2405, 8: 1.2421, 9: 1.2409}, "own", bare=True)
    found = command("analysis.significance", "report", record(SEEDS), "--sota", "1.21613611", "--verify", own)
    assert found.returncode == 3
    assert "CANNOT TELL: Author and verifier do not agree" in found.stdout
    assert "Not reproduced" in found.stdout


def test_the_authors_own_seeds_are_compared_and_not_pooled(record: Folder) -> None:
    same = judge(
        (record(SEEDS),), Options(sota=1.21613611, verify=record({1337: 1.2012, 1338: 1.1997}, "own", bare=True))
    )
    assert same.verification is not None
    assert (same.n, same.verification.pooled_n, same.verification.agrees) == (3, 3, True)
    assert "all its seeds are the author's" in same.reason
    some = judge(
        (record(SEEDS, "again"),), Options(sota=1.21613611, verify=record({1337: 1.2012, 5: 1.1997}, "two", bare=True))
    )
    assert some.n == 4


def test_a_sequential_verdict_stays_the_authors(sweep: Folder, record: Folder) -> None:
    folder = sweep({1: 1.2014, 2: 1.1994, 3: 1.2031}, seeds=TEN, looks=TEN[2:], sota=1.2161)
    verdict = judge((folder,), Options(verify=record({70: 1.2005, 80: 1.2021}, "own", bare=True)))
    assert (verdict.verdict, verdict.n) == ("continue", 3)
    assert "the author's looks are over" in verdict.reason


def test_copies_of_the_authors_logs_verify_nothing(command: Run, record: Folder) -> None:
    folder = record(SEEDS)
    found = command(
        "analysis.significance", "check", folder, "--sota", "1.3", "--verify", record(SEEDS, "copy", bare=True)
    )
    assert (found.returncode, "is the author's" in found.stderr) == (3, True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda folder: [log.unlink() for log in folder.glob("*.log")], "No training log"),
        (lambda folder: (folder / "dead.log").write_text(""), "is empty"),
        (
            lambda folder: [
                log.write_text(log.read_text() + "final_x val_loss:2.0 val_bpb:1.2\n") for log in folder.glob("*.log")
            ],
            "different metrics",
        ),
    ],
)
def test_a_second_lab_that_cannot_be_read(record: Folder, change: Callable[[Path], Any], word: str) -> None:
    own = record({7: 1.2005, 8: 1.2021}, "own", bare=True)
    change(own)
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=own))
    assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason


def test_the_second_labs_spread_raises_the_alarm_too(record: Folder) -> None:
    author = record({1: 1.200000, 2: 1.200001, 3: 1.200002, 4: 1.200001, 5: 1.200003}, "author")
    own = record({11: 1.2010, 12: 1.1990, 13: 1.2004, 14: 1.1996, 15: 1.2002}, "own", bare=True)
    verdict = judge((author,), Options(sota=1.3, verify=own))
    assert "spread-too-small" in [finding.code for finding in verdict.findings]


def test_what_does_not_fit_in_the_second_labs_runs_is_no_error_of_the_authors(record: Folder) -> None:
    own = record({7: 1.2005, 8: 1.2021}, "own", bare=True)
    for log in own.glob("*.log"):
        other = SOURCE + "# on one GPU\n"
        log.write_text(
            make_log(int(log.stem[-1]), 1.2 + int(log.stem[-1]) / 1e4, other).replace("world_size:8", "world_size:1")
        )
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=own))
    theirs = [finding for finding in verdict.findings if finding.code == "world-size"]
    assert [(finding.severity, Path(finding.file)) for finding in theirs] == [
        ("warning", own / "train_seed7.log"), ("warning", own / "train_seed8.log")
    ]  # fmt: skip
    assert verdict.notes == ("the verifier's logs embed another program than the author's",)
    assert verdict.verification is not None
    assert Path(verdict.verification.runs[0].log) == own / "train_seed7.log"


def test_a_second_try_does_not_rescue_a_claim(record: Folder) -> None:
    author = record({1: 1.2, 2: 1.2052, 3: 1.2041}, "author")
    alone = judge((author,), Options(sota=1.2161))
    together = judge(
        (author,), Options(sota=1.2161, verify=record({7: 1.2022, 8: 1.2031, 9: 1.2028}, "own", bare=True))
    )
    assert (alone.verdict, together.verdict, together.n) == ("not_supported", "not_supported", 3)
    assert "a second try would not keep the level" in together.reason
    assert together.also[1].reading == "the verifier's runs alone"


def test_a_verifier_on_the_wrong_side_of_the_threshold_verifies_nothing(record: Folder) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=record({1337: 1.2170}, "own", bare=True)))
    assert verdict.verification is not None
    assert (verdict.verdict, verdict.verification.agrees) == ("unusable", True)
    assert verdict.threshold is not None
    assert verdict.verification.mean >= verdict.threshold


def test_runs_without_a_seed_may_be_the_authors(record: Folder) -> None:
    own = record({7: 1.2005, 8: 1.2021}, "own", bare=True)
    for log in own.glob("*.log"):
        log.write_text(log.read_text().replace(f"seed:{log.stem[-1]}", ""))
        log.rename(own / f"run{log.stem[-1]}.log")
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, verify=own))
    assert (verdict.verdict, verdict.n) == ("supported", 3)
    assert "or unknown" in verdict.reason


def test_a_second_lab_before_the_first_look_is_not_passed_over(sweep: Folder, record: Folder) -> None:
    folder = sweep({1: 1.2}, seeds=TEN, looks=TEN[2:])
    verdict = judge((folder,), Options(verify=record({70: 1.2005, 80: 1.2021}, "own", bare=True)))
    assert verdict.verdict == "continue"
    assert "nothing was compared" in " ".join(verdict.notes)
