"""When a sequential sweep looks, what is due before, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.options import Options
from analysis.report.text import text
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import read_plan
from analysis.verdict.answer import NOT_SUPPORTED, UNUSABLE
from analysis.verdict.judge import judge
from orchestration.driver.looks import Looks

Folder = Callable[..., Path]
SEEDS = [1, 2, 3, 4, 5, 6]
CLOSE = {1: 1.2014, 2: 1.1994, 3: 1.2031}  # not enough against 1.2161 at the first look
CLEAR = {1: 1.2014, 2: 1.2013, 3: 1.2015}


def looks(folder: Path) -> tuple[Looks, list[str]]:
    said: list[str] = []
    return Looks(folder, read_plan(folder), said.append), said


def succeeded(*seeds: int, arm: str = "candidate") -> dict[tuple[str, int], str]:
    return {(arm, seed): "succeeded" for seed in seeds}


@pytest.mark.parametrize(("ahead", "due"), [(1, [1, 2, 3]), (2, [1, 2, 3, 4]), (9, SEEDS)])
def test_what_is_due_before_the_first_look(sweep: Folder, ahead: int, due: list[int]) -> None:
    one, _ = looks(sweep(CLOSE, seeds=SEEDS, looks=[3, 4, 5, 6], sota=1.2161))
    assert list(one.due(ahead)) == due


def test_a_fixed_sweep_is_due_as_a_whole_and_looks_at_nothing(sweep: Folder) -> None:
    one, said = looks(sweep(CLEAR))
    assert list(one.due(1)) == [1, 2, 3]
    assert not one.over(succeeded(1, 2, 3))
    assert not said


def test_it_looks_when_the_seeds_of_the_look_are_there_and_goes_on(sweep: Folder) -> None:
    one, said = looks(sweep(CLOSE, seeds=SEEDS, looks=[3, 4, 5, 6], sota=1.2161))
    assert not one.over(succeeded(1, 2) | {("candidate", 3): "running"})
    assert not said
    assert not one.over(succeeded(1, 2, 3))
    assert said[0].startswith("Look at 3 seeds: not yet. ")
    assert list(one.due(1)) == [1, 2, 3, 4]
    assert not one.over(succeeded(1, 2, 3) | {("candidate", 4): "lost"})
    assert len(said) == 1


def test_it_is_over_at_the_verdict_and_says_what_was_saved(sweep: Folder) -> None:
    folder = sweep(CLEAR, seeds=SEEDS, looks=[3, 4, 5, 6], sota=1.2161, gpus_per_run=8)
    for path in folder.glob("candidate/*/attempt-1/run.json"):
        path.write_text(path.read_text().replace("{", '{"wall_s": 900, ', 1))
    one, said = looks(folder)
    assert one.over(succeeded(1, 2, 3))
    assert said[0].startswith("Look at 3 seeds: supported.")
    assert said[1] == "3 of at most 6 seeds need not be run: about 6.00 GPU-hours saved."


def test_a_failed_run_ends_it(sweep: Folder) -> None:
    one, said = looks(sweep({1: 1.2, 2: None}, seeds=SEEDS, looks=[3, 4, 5, 6]))
    assert one.over(succeeded(1) | {("candidate", 2): "failed"})
    assert not said


def test_a_failed_run_loses_a_fixed_claim_so_nothing_more_is_run(sweep: Folder) -> None:
    folder = sweep({1: 1.2, 2: None}, seeds=[1, 2, 3])
    states = succeeded(1) | {("candidate", 2): "failed", ("candidate", 3): "running"}
    one, said = looks(folder)
    assert one.over(states)
    assert one.over(states)
    assert one.why == "another run failed"
    assert said == ["candidate seed 2 failed, so the claim cannot pass and no more runs start. --keep-going runs them."]
    assert not Looks(folder, read_plan(folder), said.append, keep_going=True).over(states)


@pytest.mark.parametrize(
    ("sota", "rules", "lost"),
    [
        (None, {}, True),
        (1.3, {}, True),
        (1.3, {"test": "known-sigma z", "sigma": 0.0013}, True),
        (None, {"target": 1.3, "against": "target"}, False),
    ],
)
def test_a_failed_control_loses_only_where_it_is_to_be_beaten(
    sweep: Folder, sota: float | None, rules: dict[str, Any], lost: bool
) -> None:
    one, _ = looks(sweep(CLEAR, sota=sota, control={1: 1.25}, ruleset=asdict(load("parameter-golf")) | rules))
    assert one.over(succeeded(1, 2) | {("control", 1): "failed", ("candidate", 3): "running"}) is lost


@pytest.mark.parametrize("sota", [1.3, None])
def test_the_verdict_of_a_claim_that_is_lost_needs_no_further_runs(sweep: Folder, sota: float | None) -> None:
    folder = sweep({1: 1.2, 2: None}, seeds=[1, 2, 3], sota=sota, control=None if sota else {1: 1.25})
    verdict = judge((folder,), Options(own_sweep=True))
    assert verdict.verdict is NOT_SUPPORTED
    planned = 3 if sota else 6
    assert f"1 of {planned} planned runs failed (first: seed 2" in verdict.reason
    assert text(verdict).startswith(f"NOT SUPPORTED: 1 of {planned}")
    assert verdict.to_json()["sota"] == sota


@pytest.mark.parametrize("looks", [None, [3, 4]])
@pytest.mark.parametrize("sota", [None, 1.3])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("waiting", [False, True])
def test_a_failed_control_has_one_answer_by_any_plan(
    sweep: Folder, looks: list[int] | None, sota: float | None, paired: bool, waiting: bool
) -> None:
    values = {1: 1.2, 2: 1.2011, 3: 1.2023} | ({} if waiting else {4: 1.2005})
    control = {1: 1.224, 2: None, 3: 1.2251, 4: 1.2243}
    folder = sweep(values, seeds=[1, 2, 3, 4], looks=looks, sota=sota, control=control, paired=paired)
    verdict = judge((folder,))
    assert verdict.verdict is NOT_SUPPORTED
    assert "seed 2, control/seed-2" in verdict.reason


def test_a_failed_control_that_a_reviewer_brings_is_no_loss_of_the_claim(sweep: Folder) -> None:
    """Its author did not plan it, and could not keep it from failing."""
    theirs = sweep({1: 1.224, 2: None, 3: 1.2251}, "theirs")
    verdict = judge((sweep(CLEAR),), Options(control=theirs))
    assert verdict.verdict is UNUSABLE


def test_a_control_whose_first_seed_is_missing_is_waited_for(sweep: Folder) -> None:
    folder = sweep(CLEAR, seeds=SEEDS, looks=[3, 4, 5, 6], sota=None, control={2: 1.25, 3: 1.251})
    one, said = looks(folder)
    assert not one.over(succeeded(1, 2, 3) | succeeded(2, 3, arm="control") | {("control", 1): "lost"})
    assert not said
    assert list(one.due(1)) == [1, 2, 3]
