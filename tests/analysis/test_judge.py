"""Verdicts look by look, by a plan, with a history, against a control, and after a second lab's runs."""

from __future__ import annotations

import json
import math
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis import render, sequential, statements, sweepdir
from analysis.chain import Design
from analysis.decide import decide
from analysis.evidence import EvidenceError
from analysis.judge import judge
from analysis.look_by_look import LookPlan, chance_of_passing, default_plan
from analysis.page import page
from analysis.rules import load
from analysis.runs import Result
from analysis.sweepdir import derive_seeds
from analysis.verdict import Verdict
from tests.conftest import RATIO, SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]
SEEDS = {1337: 1.20143417, 1338: 1.19945102, 1339: 1.20319508}
CONTROL = {1: 1.20576485, 2: 1.20617460, 3: 1.20715923}
TEN = list(range(1, 11))
RULES = load("parameter-golf")


def runs(*values: float, arm: str = "candidate", first: int = 1) -> list[Result]:
    return [
        Result(arm, seed, "succeeded", value / RATIO, value, "final", f"{arm}{seed}.log", 9)
        for seed, value in enumerate(values, start=first)
    ]


def everywhere(verdict: Verdict, tmp_path: Path) -> str:
    """What all formats print; none of them may fail on a verdict."""
    return render.text(verdict) + render.markdown(verdict) + render.as_json(verdict) + render.gate(verdict) + page(
        verdict, tmp_path, "command"
    )  # fmt: skip


# -- look by look ------------------------------------------------------------------------------------------------------


def test_the_source_record_is_not_there_yet_when_ten_seeds_were_allowed(record: Folder, tmp_path: Path) -> None:
    verdict = judge((record(SEEDS),), sota=1.21613611, design="sequential")
    looks = verdict.sequential
    assert (verdict.verdict, verdict.exit_code, verdict.n, verdict.design) == ("continue", 1, 3, "sequential")
    assert verdict.test is not None
    assert verdict.test.p_value == pytest.approx(0.02496932627346427, rel=1e-9)
    assert verdict.upper_bound == pytest.approx(1.2178531424374208, rel=1e-9)
    assert looks is not None
    assert (looks.taken, looks.next_look, looks.looks) == (3, 4, tuple(range(3, 11)))
    assert (looks.p_value, looks.nominal_p) == (
        pytest.approx(0.006008638100610005, rel=1e-9), pytest.approx(0.0021359554137944216, rel=1e-9)
    )  # fmt: skip
    assert looks.critical == pytest.approx(-15.250847633272107, rel=1e-9)
    assert 0.9 < (looks.chance or 0) < 1
    assert "run seed 4 of at most 10" in verdict.reason
    assert "No plan fixes looks and order" in everywhere(verdict, tmp_path)


def test_a_planned_sequential_sweep_goes_on_and_names_the_next_seed(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),))
    assert verdict.verdict == "continue"
    assert verdict.sequential is not None
    assert (verdict.sequential.next_seeds, verdict.sequential.next_look) == ([4], 4)
    assert "SEED=4" in verdict.reason
    assert verdict.plan is not None
    assert (verdict.plan.exact, verdict.plan.missing) == (True, [])
    assert "the runs are exactly its runs" in render.gate(verdict)
    assert 0.5 < (verdict.sequential.chance or 0) < 1


def test_before_the_first_look_there_is_no_test(sweep: Folder, tmp_path: Path) -> None:
    verdict = judge((sweep({1: 1.2}, seeds=TEN, looks=TEN[2:]),))
    assert (verdict.verdict, verdict.test, verdict.mean) == ("continue", None, None)
    assert "1 of at most 10 seeds is there" in verdict.reason
    assert "SEED=2, 3" in verdict.reason
    everywhere(verdict, tmp_path)
    assert judge((sweep({}, "none", seeds=TEN, looks=TEN[2:]),)).verdict == "continue"


def test_it_stops_at_the_first_look_that_crosses_and_counts_no_later_run(sweep: Folder, tmp_path: Path) -> None:
    values = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:6]}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:]),))
    assert (verdict.verdict, verdict.n, len(verdict.runs)) == ("supported", 3, 6)
    assert verdict.test is not None
    assert verdict.upper_bound is not None
    assert verdict.threshold is not None
    assert verdict.test.p_value < 0.01
    assert verdict.upper_bound < verdict.threshold
    assert verdict.sequential is not None
    assert (verdict.sequential.stagewise_p or 1) <= verdict.test.p_value
    assert "supported" in everywhere(verdict, tmp_path)


def test_the_last_look_is_the_end(sweep: Folder) -> None:
    values = {seed: 1.2945 + seed % 5 / 1e3 for seed in TEN}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:]),))
    assert (verdict.verdict, verdict.n) == ("not_supported", 10)
    assert "the last" in verdict.reason


@pytest.mark.parametrize(("lost", "expected"), [(2, "not_supported"), (5, "supported")])
def test_a_failed_run_is_a_loss_unless_the_boundary_was_crossed_before_it(
    sweep: Folder, lost: int, expected: str
) -> None:
    values: dict[int, float | None] = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:6]}
    values[lost] = None
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:]),))
    assert verdict.verdict == expected
    assert ("counts as a loss" in verdict.reason) == (expected == "not_supported")


def test_looks_need_not_follow_each_other(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031, 4: 1.2}
    verdict = judge((sweep(values, seeds=TEN[:8], looks=[3, 5, 8], sota=1.2161),))
    assert (verdict.verdict, verdict.n) == ("continue", 3)
    assert verdict.sequential is not None
    assert (verdict.sequential.next_look, verdict.sequential.next_seeds) == (5, [4, 5])
    assert verdict.sequential.nominal_p == pytest.approx(0.0037488103039187534, rel=1e-8)


@pytest.mark.parametrize("boundary", sequential.BOUNDARIES)
def test_a_sequential_p_below_alpha_is_a_crossing(sweep: Folder, boundary: str) -> None:
    values = {1: 1.2905, 2: 1.2893, 3: 1.2899, 4: 1.2901, 5: 1.2897, 6: 1.2899, 7: 1.2904}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], boundary=boundary),))
    assert verdict.test is not None
    assert (verdict.verdict == "supported") == (verdict.test.p_value < 0.01)


def test_control_runs_in_step_with_the_candidate_count_with_their_noise(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031}
    folder = sweep(values, seeds=TEN, looks=TEN[2:], sota=None, control={1: 1.3001, 2: 1.2994, 3: 1.3011})
    verdict = judge((folder,))
    design = Design(tuple(TEN[2:]), paired=True)
    assert verdict.sequential is not None
    assert verdict.test is not None
    assert verdict.sequential.critical == pytest.approx(-sequential.boundary(design, 0.01)[0])
    assert verdict.test.df == 4
    late = sweep(values, "late", seeds=TEN, looks=TEN[2:], sota=None, control={1: 1.3001})
    assert "1 of at most 10 seeds is there" in judge((late,)).reason


def test_a_control_that_is_there_already_keeps_its_number(record: Folder) -> None:
    verdict = judge((record(SEEDS),), control=record(CONTROL, "control"), design="sequential")
    design = Design(tuple(TEN[2:]), control=3)
    assert verdict.sequential is not None
    assert verdict.sequential.critical == pytest.approx(-sequential.boundary(design, 0.01)[0])
    assert verdict.verdict == "continue"


def test_a_sequential_design_needs_a_t_test(command: Run, record: Folder) -> None:
    found = command(
        "analysis.significance", "check", record(SEEDS), "--rules", "nanogpt-track-3", "--design", "sequential"
    )
    assert (found.returncode, "needs a t-test" in found.stderr) == (2, True)


# -- plans -------------------------------------------------------------------------------------------------------------


def test_exactly_the_plans_runs(sweep: Folder, tmp_path: Path) -> None:
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}),), require_plan=True)
    assert verdict.verdict == "supported"
    assert verdict.plan is not None
    assert (verdict.plan.exact, verdict.plan.seeds) == (True, [1, 2, 3])
    table = json.loads(render.as_json(verdict))
    assert (table["plan"]["exact"], table["plan"]["missing"], table["plan"]["extra"]) == (True, [], [])
    assert "plan-not-followed" not in [finding.code for finding in verdict.findings]
    everywhere(verdict, tmp_path)


def deviating(verdict: Verdict) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(render.as_json(verdict))["plan"]
    assert not table["exact"]
    assert [finding.severity for finding in verdict.findings if finding.code == "plan-not-followed"] == ["warning"]
    return table


def test_a_missing_planned_run_of_a_fixed_plan_cannot_be_told(sweep: Folder) -> None:
    verdict = judge((sweep({1: 1.20, 2: 1.201}, seeds=[1, 2, 3]),))
    assert (verdict.verdict, deviating(verdict)["missing"]) == ("unusable", [3])


def test_a_gap_in_a_sequential_plan_ends_what_counts(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031, 5: 1.2, 6: 1.21}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),))
    assert (verdict.verdict, verdict.n, deviating(verdict)["missing"]) == ("continue", 3, [4])
    assert [log.split("/")[1] for log in verdict.not_counted] == ["seed-5", "seed-6"]


def test_a_gap_beyond_the_verdict_is_none(sweep: Folder) -> None:
    values = {
        1: 1.2014,
        2: 1.2013,
        3: 1.2015,
        5: 1.2,
    }  # 4 and 5 were under way together; 5 ended before the verdict was in
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),), require_plan=True)
    assert verdict.plan is not None
    assert (verdict.verdict, verdict.n, verdict.plan.exact) == ("supported", 3, True)
    assert [log.split("/")[1] for log in verdict.not_counted] == ["seed-5"]


def test_runs_that_were_not_planned_are_extra(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    attempt = folder / "candidate/seed-9/attempt-1"
    attempt.mkdir(parents=True)
    (attempt / "train.log").write_text(make_log(9, 1.1))
    verdict = judge((folder,))
    assert (verdict.verdict, deviating(verdict)["extra"]) == ("supported", [9])
    strict = judge((folder,), require_plan=True)
    assert (strict.verdict, strict.exit_code) == ("not_supported", 1)
    assert "not planned: seed 9" in strict.reason


def test_a_seed_that_was_started_after_a_later_ones_result_is_out_of_order(sweep: Folder) -> None:
    verdict = judge((sweep({1: 1.20, 3: 1.201, 2: 1.202}, seeds=[1, 2, 3]),))
    assert (verdict.verdict, deviating(verdict)["out_of_order"]) == ("supported", [2])


def test_a_retry_is_in_order_by_its_first_attempt_and_a_second_result_is_none(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    first = folder / "candidate/seed-1/attempt-1/run.json"
    lost = json.loads(first.read_text()) | {"state": "lost"}
    again = folder / "candidate/seed-1/attempt-2"
    again.mkdir()
    (again / "train.log").write_text(make_log(1, 1.2))
    times = {"started": "2026-04-05T11:00:00+00:00", "ended": "2026-04-05T11:10:00+00:00"}
    (again / "run.json").write_text(json.dumps({"state": "succeeded", "seed": 1} | times))
    assert deviating(judge((folder,)))["rerun"] == [1]
    first.write_text(json.dumps(lost))
    plan = judge((folder,)).plan
    assert plan is not None
    assert plan.exact


@pytest.mark.parametrize("started", [None, 7, "yesterday", "2026-04-05T10:00:00"])
def test_an_order_that_cannot_be_told_is_not_exact(sweep: Folder, started: object) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    path = folder / "candidate/seed-2/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    assert "the order cannot be told" in " ".join(deviating(judge((folder,)))["differs"])


def test_times_are_compared_across_time_zones(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    path = folder / "candidate/seed-1/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "2026-04-05T09:00:00-12:00"}))
    assert deviating(judge((folder,)))["out_of_order"] == [1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"alpha": 0.02}, "alpha 0.02 instead of the plan's 0.01"),
        ({"margin": 0.001}, "margin 0.001"),
        ({"sota": 1.31}, "SOTA 1.31 instead of the plan's 1.3"),
        ({"unit": "nats"}, "unit nats"),
        (
            {"rules": "nanogpt-track-1"},
            "judged by the rules nanogpt-track-1, planned by parameter-golf, which differ in metric, margin",
        ),
    ],
)
def test_a_claim_that_is_not_the_plans_is_said(sweep: Folder, asked: dict[str, Any], words: str) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    assert any(words in clause for clause in deviating(judge((folder,), **asked))["differs"])


def test_derived_seeds_are_derived_again(sweep: Folder, tmp_path: Path) -> None:
    basis = json.loads((sweep({1: 1.2, 2: 1.21, 3: 1.22}, "basis") / "plan.json").read_text())
    basis = {key: value for key, value in basis.items() if key != "sha256"} | {"seeds_are": "derived"}
    seeds = derive_seeds(basis, 3)
    good = sweep(dict(zip(seeds, (1.2, 1.201, 1.202), strict=True)), "good", seeds_are="derived")
    verdict = judge((good,), require_plan=True)
    assert verdict.verdict == "supported"
    assert verdict.plan is not None
    assert verdict.plan.seeds_are == "derived"
    picked = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "picked", seeds_are="derived")
    assert "its seeds do not follow from it" in " ".join(deviating(judge((picked,)))["differs"])
    broken = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "broken", seeds_are="derived", script={"path": "x"})
    assert "cannot be derived again" in " ".join(deviating(judge((broken,)))["differs"])


def test_another_control_or_script_than_the_planned_one_is_said(sweep: Folder, record: Folder) -> None:
    control = record(CONTROL, "control")
    folder = sweep({1: 1.19, 2: 1.191, 3: 1.192})
    assert "other control runs" in " ".join(deviating(judge((folder,), control=control))["differs"])
    own = sweep({1: 1.19, 2: 1.191, 3: 1.192}, "own", sota=None, control={1: 1.21, 2: 1.211, 3: 1.212})
    assert "SOTA 1.3 instead of what the plan compares with" in deviating(judge((own,), sota=1.3))["differs"]
    path = folder / "candidate/seed-2/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"script": {"sha256": "0"}}))
    assert "candidate seed 2 ran another script than the planned one" in deviating(judge((folder,)))["differs"]


def test_runs_of_another_path_are_not_planned(sweep: Folder, record: Folder) -> None:
    more = record({11: 1.2, 12: 1.201}, bare=True)
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}), more))
    assert (verdict.n, deviating(verdict)["extra"]) == (5, [11, 12])


OWN_RULES: list[dict[str, Any]] = [
    {"alpha": 0.4, "margin": 0.0},
    {"name": "my-golf"},
    {"findings": {"rules-changed": "off"}},
]


def test_a_sweep_that_brings_its_own_rules_passes_no_gate_unless_they_are_named(
    command: Run, sweep: Folder, tmp_path: Path
) -> None:
    for number, changes in enumerate(OWN_RULES):
        folder = sweep({1: 1.20, 2: 1.201, 3: 1.202}, f"sweep-{number}", ruleset=load_table() | changes)
        found = command("analysis.significance", "check", folder)
        assert (found.returncode, "error: rules-changed: plan.json:1: Found the rules" in found.stdout) == (1, True)
        assert judge((folder,)).verdict == "supported"
        named = command("analysis.significance", "check", folder, "--rules", "parameter-golf")
        assert (named.returncode, "error: rules-changed" in named.stdout) == (0, False)
    asked = command("analysis.significance", "check", tmp_path / "sweep-0", "--alpha", "0.4", "--margin", "0")
    assert asked.returncode == 0
    shipped = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "as shipped")
    assert command("analysis.significance", "check", shipped).returncode == 0


def test_a_ruleset_is_never_looked_for_outside_the_shipped_ones(sweep: Folder, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text("version = 1\n")
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}, ruleset=load_table() | {"name": str(rules)}),))
    assert "which are not shipped" in " ".join(finding.message for finding in verdict.findings)


def test_a_sweep_with_a_record_beside_its_runs_cannot_be_told(sweep: Folder) -> None:
    for name in ("train_seed9.log", "submission.json"):
        folder = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "with " + name)
        (folder / name).write_text(make_log(9, 1.3))
        verdict = judge((folder,), sota=1.3)
        assert (verdict.verdict, f"and {name} beside its runs" in verdict.reason) == ("unusable", True)


def with_plan(folder: Path, sweep: Folder, seeds: list[int], **changes: Any) -> Path:
    plan = sweep({}, "of " + folder.name, seeds=seeds, ruleset=load_table(), **changes) / "plan.json"
    (folder / "plan.json").write_bytes(plan.read_bytes())
    return folder


def load_table() -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(RULES)


def test_a_record_folder_may_hold_the_plan_of_its_runs(record: Folder, sweep: Folder, command: Run) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS), sota=1.21613611)
    found = command("analysis.significance", "check", folder, "--sota", "1.21613611", "--require-plan")
    assert found.returncode == 0, found.stdout
    assert "the runs are exactly its runs" in found.stdout
    four = with_plan(record(SEEDS, "four"), sweep, [*SEEDS, 1340], sota=1.21613611)
    verdict = judge((four,), sota=1.21613611)
    assert (verdict.verdict, deviating(verdict)["missing"]) == ("supported", [1340])
    assert judge((four,), sota=1.21613611, require_plan=True).verdict == "not_supported"
    other = with_plan(record(SEEDS, "other"), sweep, list(SEEDS), script={"sha256": "0" * 64}, sota=1.21613611)
    assert deviating(judge((other,), sota=1.21613611))["differs"] == ["its script is not in the folder"]
    edited = with_plan(record(SEEDS, "edited"), sweep, list(SEEDS), sota=1.21613611)
    log = edited / "train_seed1338.log"
    log.write_text(make_log(1338, SEEDS[1338], SOURCE + "# better\n"))
    differs = deviating(judge((edited,), sota=1.21613611))["differs"]
    assert differs == ["a log embeds another program than the planned script"]


def test_logs_that_the_claim_leaves_out_were_not_planned(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record({1: 1.2, 2: 1.201, 3: 1.202, 4: 1.3, 5: 1.31}), sweep, [1, 2, 3])
    claim = json.loads((folder / "submission.json").read_text())
    claim |= {"val_bpb": 1.201, "val_loss": 1.201 / RATIO, "seeds": [1, 2, 3]}
    (folder / "submission.json").write_text(json.dumps(claim))
    verdict = judge((folder,), sota=1.3)
    assert (verdict.n, deviating(verdict)["extra"]) == (3, [4, 5])
    assert "not counted: train_seed4.log, train_seed5.log" in render.gate(verdict)


def test_a_plan_above_logs_in_folders_is_a_records(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS), sota=1.21613611)
    (folder / "logs").mkdir()
    for log in folder.glob("*.log"):
        log.rename(folder / "logs" / log.name)
    for content in (None, '{"my": "plan for the weekend"}'):
        if content:
            (folder / "plan.json").write_text(content)
            (folder / "submission.json").unlink()
        verdict = judge((folder,), sota=1.21613611)
        assert verdict.verdict == "supported"
        assert (verdict.plan is None) == bool(content)


def test_the_plan_of_a_record_gives_the_looks_and_the_order(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, [1339, 1338, 1337, *TEN[:7]], looks=TEN[2:], sota=1.21613611)
    verdict = judge((folder,), sota=1.21613611)
    assert (verdict.verdict, verdict.design) == ("continue", "sequential")
    assert [run.seed for run in verdict.runs] == [1339, 1338, 1337]
    assert verdict.sequential is not None
    assert verdict.sequential.next_seeds == [1]
    assert not verdict.notes


def test_a_plan_that_was_changed_cannot_be_told_and_a_file_of_that_name_is_none(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS))
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"sota": 1.3', '"sota": 1.4'))
    verdict = judge((folder,), sota=1.3)
    assert (verdict.verdict, "changed after it was frozen" in verdict.reason) == ("unusable", True)
    (folder / "plan.json").write_text('{"my": "plan for the weekend"}')
    assert judge((folder,), sota=1.3).plan is None


def test_require_plan_without_a_plan_does_not_pass(command: Run, record: Folder) -> None:
    folder = record(SEEDS)
    for verb in ("report", "check"):
        found = command("analysis.significance", verb, folder, "--sota", "1.21613611", "--require-plan")
        assert found.returncode == 1
        assert "NOT SUPPORTED: --require-plan asks" in found.stdout
        assert "there is no plan.json in the PATH" in found.stdout
    assert judge((folder,), sota=1.1, require_plan=True).reason.startswith("The mean")


def test_the_plan_decides_on_the_design(command: Run, sweep: Folder) -> None:
    for folder, design, planned in (
        (sweep({1: 1.2, 2: 1.21, 3: 1.22}), "sequential", "fixed"),
        (sweep({1: 1.2}, "other", seeds=TEN, looks=TEN[2:]), "fixed", "sequential"),
    ):
        found = command("analysis.significance", "check", folder, "--design", design)
        assert (found.returncode, f"the plan is {planned}" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("design", "word"),
    [
        ("sequential", "design is 'sequential'"),
        ({"name": "bayes"}, "must be 'fixed' or 'sequential'"),
        ({"name": "sequential", "looks": [3, 3], "boundary": "flat"}, "rising list"),
        ({"name": "sequential", "looks": [3, True], "boundary": "flat"}, "rising list"),
        ({"name": "sequential", "looks": [1, 2, 3], "boundary": "flat"}, "begin at 2"),
        ({"name": "sequential", "looks": [2], "boundary": "flat"}, "end at the 3 planned seeds"),
        ({"name": "sequential", "looks": [3], "boundary": "haybittle"}, "allowed: flat, pocock, obrien-fleming"),
    ],
)
def test_a_design_that_cannot_be_meant(sweep: Folder, design: object, word: str) -> None:
    verdict = judge((sweep({1: 1.2, 2: 1.21, 3: 1.22}, design=design),))
    assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sota": 10**400}, "sota is"),
        ({"sota": True}, "sota is True"),
        ({"arms": {}}, "arms is {}"),
        ({"arms": {"candidate": {}, "other": {}}}, "arms is"),
        ({"arms": {"candidate": 1}}, "arms is"),
        ({"seeds": [10**4000, 1, 2]}, "seeds is"),
        ({"seeds": list(range(2000))}, "at most 1000"),
        ({"seeds": [1, 1]}, "different"),
        ({"seeds_are": "given\n::error file=x::pwned\n\x1b[31m"}, "allowed: given, derived"),
    ],
)
def test_a_plan_that_cannot_be_meant(sweep: Folder, record: Folder, changes: dict[str, Any], word: str) -> None:
    folder = sweep({1: 1.2, 2: 1.21, 3: 1.22}, **({"seeds": [1, 2, 3]} | changes))
    beside = record(SEEDS)
    (beside / "plan.json").write_bytes((folder / "plan.json").read_bytes())
    for path in (folder, beside):
        verdict = judge((path,), sota=1.3)
        assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason
        assert "\x1b" not in render.gate(verdict)


# -- a history ---------------------------------------------------------------------------------------------------------


def history(folder: Path, *records: dict[str, Any], name: str = "history.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(list(records)))
    return path


EARLIER = [{"n": 3, "mean": 1.21 - i / 1000, "sd": 0.0007 + i / 1e5} for i in range(8)]


def test_a_history_adds_a_reading(record: Folder, tmp_path: Path) -> None:
    verdict = judge((record(SEEDS),), sota=1.21613611, history=history(tmp_path, *EARLIER))
    (reading,) = [also for also in verdict.also if also.test.name == "history-assisted t"]
    assert reading.test.df == 2 + 16
    assert verdict.test is not None
    assert reading.test.p_value < verdict.test.p_value
    assert "8 earlier records" in reading.assumes
    assert "spread-too-small" not in [finding.code for finding in verdict.findings]


def test_the_record_itself_is_not_its_own_history(record: Folder, tmp_path: Path) -> None:
    itself = {"n": 3, "mean": 1.20136009, "sd": 0.0018731289880037877}
    verdict = judge((record(SEEDS),), sota=1.21613611, history=history(tmp_path, itself, *EARLIER))
    (reading,) = [also for also in verdict.also if also.test.name == "history-assisted t"]
    assert reading.test.df == 2 + 16


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "neither CSV nor JSON"), ("[1]", "list of records"), ('[{"n": 3}]', "columns n and sd"), ("n,sd\nx,1\n", "must be numbers"),
        ("n,sd\n1,0.1\n", "holds no record"), ("n,sd\n3,-1\n", "cannot be meant"), ("n,sd\n3,1e200\n", "cannot be meant"),
        ("n,sd\n3,1e-200\n", "cannot be meant"), (f"n,sd\n{10**400},1\n", "cannot be meant"), ("n,mean,sd\n3,0,0.1\n", "cannot be meant"), ("", "holds no record"),
        ("n,mean,sd\n3,2.03,0.001\n", "same metric"), ("n,sd\n3,1e999\n", "cannot be meant"),
        ("n,mean,sd\n3,1.20136009,0.0018731289880\n", "no record but the one"),
    ],
)  # fmt: skip
def test_a_history_that_says_nothing_is_a_usage_error(record: Folder, tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(click.UsageError, match=f"--history .*{word}"):
        judge((record(SEEDS),), sota=1.3, history=path)


def test_the_leaderboards_table_is_a_history(command: Run, record: Folder, tmp_path: Path) -> None:
    for i in range(3):
        record({1: 1.21 + i / 1e4, 2: 1.2111, 3: 1.2104}, f"records-{i}")
    path = tmp_path / "table.csv"
    assert command("analysis.leaderboard", tmp_path, "--format", "csv", "--output", path).returncode == 0
    verdict = judge((record(SEEDS),), sota=1.21613611, history=path)
    assert any(also.test.name == "history-assisted t" for also in verdict.also)


def test_too_little_spread_raises_the_alarm(record: Folder, tmp_path: Path) -> None:
    past = history(tmp_path, *EARLIER)
    narrow = {1: 1.20000, 2: 1.20001, 3: 1.20002}
    verdict = judge((record(narrow),), sota=1.3, history=past)
    (finding,) = [finding for finding in verdict.findings if finding.code == "spread-too-small"]
    assert (finding.severity, finding.file, finding.message.startswith("Found an sd of 0.00001000")) == (
        "warning",
        "train_seed1.log",
        True,
    )
    usual = judge((record({1: 1.2000, 2: 1.2001, 3: 1.2002}, "usual"),), sota=1.3, history=past)
    assert "spread-too-small" not in [finding.code for finding in usual.findings]


# -- a second lab ------------------------------------------------------------------------------------------------------


def test_a_second_lab_that_agrees_is_pooled(record: Folder, tmp_path: Path) -> None:
    own = record({7: 1.2005, 8: 1.2021, 9: 1.2009}, "own", bare=True)
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=own)
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
    text = everywhere(verdict, tmp_path)
    assert "The verifier does not contradict the author" in text
    assert "author against verifier, two-sided p" in text
    assert "inside the author's 99% prediction interval" in text
    assert "verifier\n" in text


def test_one_run_of_a_second_lab_is_enough(record: Folder) -> None:
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=record({7: 1.2005}, "own", bare=True))
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
    same = judge((record(SEEDS),), sota=1.21613611, verify=record({1337: 1.2012, 1338: 1.1997}, "own", bare=True))
    assert same.verification is not None
    assert (same.n, same.verification.pooled_n, same.verification.agrees) == (3, 3, True)
    assert "all its seeds are the author's" in same.reason
    some = judge((record(SEEDS, "again"),), sota=1.21613611, verify=record({1337: 1.2012, 5: 1.1997}, "two", bare=True))
    assert some.n == 4


def test_a_sequential_verdict_stays_the_authors(sweep: Folder, record: Folder) -> None:
    folder = sweep({1: 1.2014, 2: 1.1994, 3: 1.2031}, seeds=TEN, looks=TEN[2:], sota=1.2161)
    verdict = judge((folder,), verify=record({70: 1.2005, 80: 1.2021}, "own", bare=True))
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
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=own)
    assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason


def test_the_second_labs_spread_raises_the_alarm_too(record: Folder) -> None:
    author = record({1: 1.200000, 2: 1.200001, 3: 1.200002, 4: 1.200001, 5: 1.200003}, "author")
    own = record({11: 1.2010, 12: 1.1990, 13: 1.2004, 14: 1.1996, 15: 1.2002}, "own", bare=True)
    verdict = judge((author,), sota=1.3, verify=own)
    assert "spread-too-small" in [finding.code for finding in verdict.findings]


# -- what holds for every verdict --------------------------------------------------------------------------------------

metrics = st.lists(st.floats(1.1, 1.3), min_size=3, max_size=8, unique=True).filter(lambda v: max(v) - min(v) > 1e-4)


def p_of(verdict: Verdict) -> float:
    assert verdict.test is not None
    return verdict.test.p_value


@given(metrics, st.randoms(use_true_random=False))
def test_the_order_of_runs_never_matters_in_a_fixed_test(values: list[float], shuffle: random.Random) -> None:
    mixed = shuffle.sample(values, len(values))
    for sota, control in ((1.21, []), (None, runs(1.22, 1.23, 1.215, arm="control"))):
        one, other = (decide(RULES, runs(*these), [], sota, control) for these in (values, mixed))
        assert p_of(one) == pytest.approx(p_of(other), rel=1e-9)
        assert one.verdict == other.verdict


@given(metrics, st.floats(1e-4, 0.05))
def test_a_better_mean_at_the_same_spread_never_hurts(values: list[float], gain: float) -> None:
    for control in ([], runs(1.22, 1.23, 1.215, arm="control")):
        sota = None if control else 1.21
        before = decide(RULES, runs(*values), [], sota, control)
        after = decide(RULES, runs(*(value - gain for value in values)), [], sota, control)
        assert p_of(after) <= p_of(before) * (1 + 1e-6)
        assert not (before.verdict == "supported" and after.verdict != "supported")


@given(metrics, st.floats(0, 0.01), st.floats(1e-5, 0.01))
def test_a_larger_margin_never_helps(values: list[float], margin: float, more: float) -> None:
    for sota, control in ((1.21, []), (None, runs(1.22, 1.23, 1.215, arm="control"))):
        small, large = (
            decide(replace(RULES, margin=m), runs(*values), [], sota, control) for m in (margin, margin + more)
        )
        assert p_of(small) <= p_of(large) * (1 + 1e-9)


@given(metrics, st.floats(1e-4, 0.01))
def test_a_margin_goes_to_the_other_unit_and_back(values: list[float], margin: float) -> None:
    in_bpb = decide(replace(RULES, margin=margin), runs(*values), [], 1.21, [])
    in_nats = decide(replace(RULES, margin=margin / RATIO, unit="nats"), runs(*values), [], 1.21, [])
    assert p_of(in_bpb) == pytest.approx(p_of(in_nats), rel=1e-6)
    assert in_bpb.threshold == pytest.approx(in_nats.threshold, rel=1e-12)


@settings(deadline=None, max_examples=6)
@given(metrics, st.floats(1e-4, 0.05))
def test_a_better_mean_never_hurts_look_by_look(values: list[float], gain: float) -> None:
    plan = LookPlan(tuple(range(3, 9)))
    before = decide(RULES, runs(*values), [], 1.21, [], plan)
    after = decide(RULES, runs(*(value - gain for value in values)), [], 1.21, [], plan)
    assert not (before.verdict == "supported" and after.verdict != "supported")
    assume(before.n == after.n)
    assert p_of(after) <= p_of(before) * (1 + 1e-6)


def test_against_more_control_runs_both_tests_must_pass() -> None:
    control = runs(1.3, 1.301, 1.2995, arm="control")
    many = runs(*(1.29 + i / 1e4 for i in range(10)))
    verdict = decide(RULES, many, [], None, control)
    both = {
        also.test.name: also.test.p_value
        for also in verdict.also
        if also.unit == "bpb" and " against 3" in also.reading
    }
    assert verdict.test is not None
    assert verdict.test.p_value == max(both.values())


def test_known_sigma_against_control_runs_is_the_tracks_pairwise_form() -> None:
    rules = load("nanogpt-track-3")
    control = [replace(run, val_loss=run.val_bpb) for run in runs(*(3.2793 for _ in range(16)), arm="control")]
    for gain, expected in ((0.0016, "not_supported"), (0.0017, "supported")):
        mine = [replace(run, val_loss=run.val_bpb) for run in runs(*(3.2793 - gain for _ in range(10)))]
        verdict = decide(rules, mine, [], None, control)
        assert verdict.verdict == expected
        assert f"(it is {gain / math.sqrt(1 / 10 + 1 / 16):.6f})" in verdict.reason


def test_a_bare_sota_says_what_rerunning_it_would_change() -> None:
    verdict = decide(RULES, runs(*SEEDS.values()), [], 1.21613611, [])
    assert verdict.rerun_at_least == pytest.approx(1.212090676, abs=1e-8)
    said = " ".join(statements.assumptions(verdict))
    assert "its own noise and its hardware are ignored" in said
    assert "came out at 1.21209068 or above" in said
    for shift, expected in ((1e-7, "supported"), (-1e-7, "not_supported")):
        centre = verdict.rerun_at_least + shift - math.fsum(SEEDS.values()) / 3
        rerun = runs(*(value + centre for value in SEEDS.values()), arm="control")
        assert decide(RULES, runs(*SEEDS.values()), [], None, rerun).verdict == expected


def test_what_does_not_fit_in_the_second_labs_runs_is_no_error_of_the_authors(record: Folder) -> None:
    own = record({7: 1.2005, 8: 1.2021}, "own", bare=True)
    for log in own.glob("*.log"):
        other = SOURCE + "# on one GPU\n"
        log.write_text(
            make_log(int(log.stem[-1]), 1.2 + int(log.stem[-1]) / 1e4, other).replace("world_size:8", "world_size:1")
        )
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=own)
    theirs = [finding for finding in verdict.findings if finding.code == "world-size"]
    assert [(finding.severity, Path(finding.file)) for finding in theirs] == [
        ("warning", own / "train_seed7.log"), ("warning", own / "train_seed8.log")
    ]  # fmt: skip
    assert verdict.notes == ["the verifier's logs embed another program than the author's"]
    assert verdict.verification is not None
    assert Path(verdict.verification.runs[0].log) == own / "train_seed7.log"


def test_a_second_try_does_not_rescue_a_claim(record: Folder) -> None:
    author = record({1: 1.2, 2: 1.2052, 3: 1.2041}, "author")
    alone = judge((author,), sota=1.2161)
    together = judge((author,), sota=1.2161, verify=record({7: 1.2022, 8: 1.2031, 9: 1.2028}, "own", bare=True))
    assert (alone.verdict, together.verdict, together.n) == ("not_supported", "not_supported", 3)
    assert "a second try would not keep the level" in together.reason
    assert together.also[1].reading == "the verifier's runs alone"


def test_a_verifier_on_the_wrong_side_of_the_threshold_verifies_nothing(record: Folder) -> None:
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=record({1337: 1.2170}, "own", bare=True))
    assert verdict.verification is not None
    assert (verdict.verdict, verdict.verification.agrees) == ("unusable", True)
    assert verdict.reason.startswith("Not verified: the verifier's own mean does not lie below the threshold")


def test_runs_without_a_seed_may_be_the_authors(record: Folder) -> None:
    own = record({7: 1.2005, 8: 1.2021}, "own", bare=True)
    for log in own.glob("*.log"):
        log.write_text(log.read_text().replace(f"seed:{log.stem[-1]}", ""))
        log.rename(own / f"run{log.stem[-1]}.log")
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=own)
    assert (verdict.verdict, verdict.n) == ("supported", 3)
    assert "or unknown" in verdict.reason


def test_a_second_lab_before_the_first_look_is_not_passed_over(sweep: Folder, record: Folder) -> None:
    folder = sweep({1: 1.2}, seeds=TEN, looks=TEN[2:])
    verdict = judge((folder,), verify=record({70: 1.2005, 80: 1.2021}, "own", bare=True))
    assert verdict.verdict == "continue"
    assert "nothing was compared" in " ".join(verdict.notes)


def test_a_history_stays_beside_a_pooled_verdict(record: Folder, tmp_path: Path) -> None:
    own = record({7: 1.2005, 8: 1.2021, 9: 1.2009}, "own", bare=True)
    verdict = judge((record(SEEDS),), sota=1.21613611, verify=own, history=history(tmp_path, *EARLIER))
    assert any(also.test.name == "history-assisted t" for also in verdict.also)


# -- looks without a plan, and against a control of another size -------------------------------------------------------


def test_without_a_plan_the_order_of_the_runs_does_not_matter(record: Folder) -> None:
    best_first = {1: 1.2000, 2: 1.2001, 3: 1.2002, 4: 1.2161, 5: 1.2202, 6: 1.2150, 7: 1.2171}
    worst_first = dict(zip(best_first, reversed(best_first.values()), strict=True))
    found = [
        judge((record(values, f"record-{n}", bare=True),), sota=1.21613611, design="sequential")
        for n, values in enumerate((best_first, worst_first))
    ]
    assert [verdict.verdict for verdict in found] == ["continue", "continue"]
    assert found[0].n == 7
    assert p_of(found[0]) == pytest.approx(p_of(found[1]))


def test_more_than_ten_runs_without_a_plan_have_a_further_horizon() -> None:
    assert default_plan(RULES, 10).looks[-1] == 10
    assert default_plan(RULES, 11).looks[-1] == default_plan(RULES, 30).looks[-1] == 30
    with pytest.raises(EvidenceError, match="at most 30 runs"):
        decide(RULES, runs(*(1.2 + i / 1e4 for i in range(31))), [], 1.3, [], default_plan(RULES, 31))


def test_runs_after_the_verdict_are_named_and_read_too(sweep: Folder) -> None:
    values = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:3]} | {4: 1.28, 5: 1.29, 6: 1.295}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:]),))
    assert (verdict.verdict, verdict.n) == ("supported", 3)
    assert [log.split("/")[1] for log in verdict.not_counted] == ["seed-4", "seed-5", "seed-6"]
    (all_runs,) = [also for also in verdict.also if also.reading == "all 6 runs at once"]
    assert all_runs.verdict == "not_supported"
    assert ("n", "3 of 6 runs") in statements.facts(verdict)


def test_against_a_control_of_another_size_a_look_asks_welchs_test_too() -> None:
    control = runs(1.31, 1.30, 1.32, arm="control")
    mine = runs(*(1.285 + i / 1e6 for i in range(12)))
    verdict = decide(RULES, mine, [], None, control, LookPlan((12,), seeds=tuple(range(1, 13))))
    both = [also for also in decide(RULES, mine, [], None, control).also if " against 3 control runs" in also.reading]
    fixed = {also.test.name: also for also in both if also.unit == "bpb"}
    assert fixed["pooled t"].verdict == "supported"
    assert verdict.verdict == "not_supported"
    assert p_of(verdict) == pytest.approx(fixed["Welch t"].test.p_value)


@pytest.mark.parametrize("alpha", [1e-300, 1e-7, 0.45])
def test_a_level_that_no_boundary_can_be_made_for(sweep: Folder, alpha: float) -> None:
    verdict = judge((sweep({1: 1.2, 2: 1.21, 3: 1.22}, seeds=TEN, looks=TEN[2:]),), alpha=alpha)
    assert (verdict.verdict, "needs an alpha from 1e-06 to 0.4" in verdict.reason) == ("unusable", True)


@settings(deadline=None, max_examples=5)
@given(st.floats(-3, 10))
def test_the_chance_of_passing_is_one_and_rises_with_t(t: float) -> None:
    design = Design((3, 4, 5))
    criticals = sequential.boundary(design, 0.01)
    chance = chance_of_passing(design, criticals, 0, t)
    assert 0 <= chance < 1
    assert chance <= chance_of_passing(design, criticals, 0, t + 0.5) + 1e-3


def test_plans_and_the_sequential_test_know_the_same_boundaries() -> None:
    assert sweepdir.BOUNDARIES == sequential.BOUNDARIES


def test_runs_after_the_verdict_that_undo_it_make_the_gate_refuse(sweep: Folder) -> None:
    good = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:3]}
    for later, codes in (({4: 1.28, 5: 1.29, 6: 1.295}, ["plan-not-followed"]), ({4: 1.2004, 5: 1.2}, [])):
        verdict = judge((sweep(good | later, f"sweep of {len(later)}", seeds=TEN, looks=TEN[2:]),))
        errors = [finding.code for finding in verdict.findings if finding.severity == "error"]
        assert (verdict.verdict, errors) == ("supported", codes)


def test_a_sweep_needs_its_script_and_one_run_a_log(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    (folder / "script.py").write_text("other")
    train_log = folder / "candidate" / "seed-2" / "attempt-1" / "train.log"
    train_log.write_text(make_log(2, 1.3) + make_log(2, 1.201))
    found = {finding.code: finding.severity for finding in judge((folder,)).findings}
    assert found == {"missing-file": "error", "several-runs-in-log": "warning"}
