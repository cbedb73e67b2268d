"""The Case: every run that was found, the rules as they apply, and what must be beaten."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.case import Case, Source
from analysis.evidence.make import make_case
from analysis.evidence.options import Options, resolve
from analysis.record.selection import Why
from analysis.untrusted.refusal import EvidenceError, UsageError
from analysis.verdict.judge import decide, judge
from tests.analysis.verdicts import SEEDS, TEN, runs
from tests.conftest import make_log

Folder = Callable[..., Path]


def case_of(path: Path, **options: object) -> Case:
    return make_case(resolve([path], Options(**options)))  # type: ignore[arg-type]


def test_a_case_is_frozen_and_has_the_same_verdict_each_time(record: Folder) -> None:
    case = case_of(record(SEEDS), sota=1.21613611)
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.sota = 1.0  # type: ignore[misc]
    assert case.compared is case.compared
    assert decide(case) == decide(case)


def test_every_run_of_a_folder_counts_or_has_a_reason(record: Folder) -> None:
    folder = record(SEEDS)
    (folder / "train_seed1337.log").write_text(make_log(1337, 1.3) + make_log(1337, SEEDS[1337]))
    (folder / "older").mkdir()
    (folder / "older" / "train_seed5.log").write_text(make_log(5, 1.25))
    case = case_of(folder, sota=1.21613611)
    assert sorted(run.seed or 0 for run in case.runs) == [1337, 1338, 1339]
    assert {(one.result.log, one.result.val_bpb, one.why) for one in case.left_out} == {
        ("train_seed1337.log", 1.3, Why.OTHER_RUN_OF_LOG),
        ("older/train_seed5.log", 1.25, Why.DEEPER),
    }
    said = judge([folder], Options(sota=1.21613611)).to_json()["left_out"]
    assert {(one["log"], one["value"]) for one in said} == {
        ("train_seed1337.log", 1.3),
        ("older/train_seed5.log", 1.25),
    }


def test_a_sweeps_control_is_left_out_when_another_is_brought(sweep: Folder, record: Folder) -> None:
    folder = sweep({1: 1.2, 2: 1.201, 3: 1.202}, sota=None, control={1: 1.3, 2: 1.301, 3: 1.302})
    assert case_of(folder).source is Source.CONTROL
    other = record({7: 1.29, 8: 1.291, 9: 1.292}, "other", bare=True)
    case = case_of(folder, control=other)
    assert [run.seed for run in case.control] == [7, 8, 9]
    assert [(one.result.seed, one.why) for one in case.left_out] == [(seed, Why.OTHER_CONTROL) for seed in (1, 2, 3)]


def test_runs_after_a_gap_and_after_the_verdict_say_so(sweep: Folder) -> None:
    gap = case_of(sweep({1: 1.2, 2: 1.21, 3: 1.22, 5: 1.2}, "gap", seeds=TEN, looks=TEN[2:], sota=1.21))
    assert [(one.result.seed, one.why) for one in gap.left_out] == [(5, Why.BEYOND_GAP)]
    values = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:3]} | {4: 1.28}
    verdict = judge([sweep(values, "late", seeds=TEN, looks=TEN[2:])])
    assert [(one.result.seed, one.why) for one in verdict.left_out] == [(4, Why.AFTER_VERDICT)]


def test_an_option_that_changes_the_rules_is_in_every_verdict(record: Folder) -> None:
    verdict = judge([record(SEEDS)], Options(sota=1.21613611, alpha=0.3, margin=0.005))
    assert verdict.to_json()["rules_changed"] == {"alpha": {"ruleset": 0.01, "asked": 0.3}}
    assert verdict.alpha == 0.3


@pytest.mark.parametrize(
    ("options", "source", "number"),
    [({"sota": 1.3}, Source.GIVEN, 1.3), ({"rules": "nanogpt-track-1"}, Source.TARGET, 3.28)],
)
def test_where_the_number_to_beat_comes_from(
    record: Folder, options: dict[str, object], source: Source, number: float
) -> None:
    case = case_of(record(SEEDS), **options)
    assert case.source is source
    assert case.number_to_beat == number


def test_nothing_to_beat_is_a_usage_error_and_a_broken_option_too(record: Folder) -> None:
    for options in (Options(), Options(sota=-1), Options(sota=1.3, alpha=2), Options(sota=1.3, margin=-1)):
        with pytest.raises(UsageError):
            judge([record(SEEDS, f"of {options.sota} {options.alpha}")], options)


def test_evidence_that_no_verdict_can_rest_on_is_a_fault_of_the_case(tmp_path: Path) -> None:
    case = case_of(tmp_path, sota=1.3)
    assert case.fault is not None
    assert decide(case).verdict == "unusable"
    assert json.loads(json.dumps(decide(case).to_json()))["n"] == 0


def test_a_case_without_values_of_the_metric_cannot_be_compared() -> None:
    case = case_of_runs()
    with pytest.raises(EvidenceError):
        _ = case.compared
    assert decide(case).verdict == "unusable"


def case_of_runs() -> Case:
    from analysis.rules.ruleset import load

    bare = tuple(dataclasses.replace(run, metric=None) for run in runs(1.2, 1.21))
    return Case(rules=load("parameter-golf"), where="here", runs=bare, sota=1.3)
