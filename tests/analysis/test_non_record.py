"""Submissions that claim no record: which rules apply, whose run the claim is about, and what is said."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.audit import audit
from analysis.evidence.options import Options
from analysis.rules.ruleset import load
from analysis.untrusted.refusal import UsageError
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from tests.conftest import make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
NON_RECORD = "parameter-golf-non-record"
RATES = {"a": (0.02, 1, 1.21), "b": (0.03, 1, 1.205), "c": (0.03, 2, 1.207), "d": (0.04, 1, 1.22)}


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Make a study of three learning rates, longer than a record may train: study(val_bpb=1.205, track="...")."""

    def make(below: str = ".", **claim: object) -> Path:
        folder = tmp_path / below / "study"
        folder.mkdir(parents=True)
        for name, (rate, seed, bpb) in RATES.items():
            text = (
                make_log(seed, bpb)
                .replace("train_time:", "train_time:99")
                .replace("seed:", f"matrix_lr:{rate} seed:", 1)
            )
            (folder / f"{name}.log").write_text(text)
        if claim:
            (folder / "submission.json").write_text(json.dumps(claim))
        return folder

    return make


def of(verdict: Verdict) -> tuple[str, str, int]:
    return verdict.verdict, verdict.rules, verdict.exit_code


@pytest.mark.parametrize("track", ["non-record-16mb", "track_non_record_16mb", "Non Record (16 MB)"])
def test_the_jsons_track_chooses_the_rules_and_is_named(study: Callable[..., Path], track: str) -> None:
    folder = study(val_bpb=1.205, track=track)
    verdict = judge((folder,))
    assert of(verdict) == ("evidence_fits", NON_RECORD, 0)
    assert verdict.rules_because is not None
    assert track in verdict.rules_because
    assert verdict.to_json()["rules_because"] == verdict.rules_because
    assert audit([folder]).rules == NON_RECORD


@pytest.mark.parametrize("track", ["10min_16mb", "nonrecorded", "", None, 16])
def test_any_other_track_is_that_of_records(study: Callable[..., Path], track: object) -> None:
    assert audit([study(val_bpb=1.205, track=track)]).rules == "parameter-golf"


def test_a_folder_on_the_way_chooses_the_rules(study: Callable[..., Path]) -> None:
    verdict = judge((study("records/track_non_record_16mb", val_bpb=1.205),), Options(sota=1.3))
    assert of(verdict) == ("evidence_fits", NON_RECORD, 0)
    assert verdict.rules_because == "the folder track_non_record_16mb"
    assert verdict.test is None
    assert verdict.sota is None


def test_the_claimant_cannot_choose_against_a_reviewer_who_asks_for_a_test(study: Callable[..., Path]) -> None:
    folder = study(val_bpb=1.205, track="non-record-16mb")
    assert judge((folder,), Options(sota=1.3)).rules == "parameter-golf"
    assert judge((folder,), Options(rules="parameter-golf", sota=1.3)).rules == "parameter-golf"


def test_a_claim_of_one_run_judges_that_run(study: Callable[..., Path]) -> None:
    verdict = judge((study("track_non_record_16mb", val_bpb=1.205),))
    assert [run.log for run in verdict.runs] == ["b.log"]
    assert [one.result.log for one in verdict.left_out] == ["a.log", "c.log", "d.log"]
    assert verdict.mean == 1.205
    assert verdict.errors == 0  # nothing is compared between configurations, and 990 s of training are allowed


def test_a_number_that_no_run_has_does_not_fit(study: Callable[..., Path], command: Run) -> None:
    folder = study("track_non_record_16mb", val_bpb=1.2031)
    verdict = judge((folder,))
    assert of(verdict) == ("evidence_does_not_fit", NON_RECORD, 1)
    assert [one.code for one in verdict.findings if one.severity == "error"] == ["headline-unsupported"]
    found = command("analysis.significance", "check", folder)
    assert found.returncode == 1
    assert found.stdout.startswith("EVIDENCE DOES NOT FIT: ")


def test_16_megabytes_are_the_cap(study: Callable[..., Path]) -> None:
    folder = study("track_non_record_16mb", val_bpb=1.205)
    log = folder / "b.log"
    size = judge((folder,)).runs[0].run.artifact_bytes
    log.write_text(log.read_text().replace(f"{size} bytes", "16000001 bytes"))
    assert [one.code for one in judge((folder,)).findings if one.severity == "error"] == ["size-over-cap"]


def test_without_a_json_nothing_is_claimed(study: Callable[..., Path]) -> None:
    folder = study("track_non_record_16mb")
    verdict = judge((folder,))
    assert of(verdict) == ("unusable", NON_RECORD, 3)
    assert verdict.runs == ()
    assert len(verdict.left_out) == 4
    assert audit([folder]).runs == 0


def test_the_other_runs_are_listed_by_configuration_in_every_report(study: Callable[..., Path], command: Run) -> None:
    folder = study("track_non_record_16mb", val_bpb=1.205)
    for form in ("text", "markdown", "html"):
        shown = command("analysis.significance", "report", folder, "--format", form).stdout.replace("\\", "")
        for rate, value in ((0.02, "1.210000"), (0.03, "1.207000"), (0.04, "1.220000")):
            assert f"matrix_lr {rate}" in shown
            assert value in shown


def test_no_board_and_no_plan_without_a_test(tmp_path: Path, command: Run) -> None:
    with pytest.raises(UsageError, match="has no test"):
        leaderboard(tmp_path, load(NON_RECORD))
    words = ("analysis.significance", "plan", "--rules", NON_RECORD, "--sd", "0.001", "--gain", "0.001")
    assert command(*words).returncode == 2
