"""Sequential verdicts: looks, boundaries, losses, a control in step or there before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.evidence.look_plan import LookPlan, asked_looks
from analysis.evidence.options import Options
from analysis.report.said import statements
from analysis.rules.ruleset import load
from analysis.stats import sequential
from analysis.stats.recursion import Design
from analysis.sweepdir.plan import BOUNDARIES
from analysis.verdict.judge import judge
from analysis.verdict.looks import chance_of_passing
from tests.analysis.verdicts import CONTROL, METRICS, SEEDS, TEN, decided, everywhere, p_of, runs

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]
RULES = load("parameter-golf")


def test_the_source_record_is_not_there_yet_when_ten_seeds_were_allowed(record: Folder, tmp_path: Path) -> None:
    verdict = judge((record(SEEDS),), Options(sota=1.21613611, design="sequential"))
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
    assert "No plan fixes looks and order" in everywhere(verdict)


def test_a_planned_sequential_sweep_goes_on_and_names_the_next_seed(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),))
    assert verdict.verdict == "continue"
    assert verdict.sequential is not None
    assert (verdict.sequential.next_seeds, verdict.sequential.next_look) == ([4], 4)
    assert "SEED=4" in verdict.reason
    assert verdict.plan is not None
    assert (verdict.plan.exact, verdict.plan.missing) == (True, [])
    assert 0.5 < (verdict.sequential.chance or 0) < 1


def test_before_the_first_look_there_is_no_test(sweep: Folder, tmp_path: Path) -> None:
    verdict = judge((sweep({1: 1.2}, seeds=TEN, looks=TEN[2:]),))
    assert (verdict.verdict, verdict.test, verdict.mean) == ("continue", None, None)
    assert "1 of at most 10 seeds is there" in verdict.reason
    assert "SEED=2, 3" in verdict.reason
    everywhere(verdict)
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
    assert "supported" in everywhere(verdict)


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
    design = Design(tuple(TEN[2:]), in_step=True)
    assert verdict.sequential is not None
    assert verdict.test is not None
    assert verdict.sequential.critical == pytest.approx(-sequential.boundary(design, 0.01)[0])
    assert verdict.test.df == 4
    late = sweep(values, "late", seeds=TEN, looks=TEN[2:], sota=None, control={1: 1.3001})
    assert "1 of at most 10 seeds is there" in judge((late,)).reason


def test_a_control_that_is_there_already_keeps_its_number(record: Folder) -> None:
    verdict = judge((record(SEEDS),), Options(control=record(CONTROL, "control"), design="sequential"))
    design = Design(tuple(TEN[2:]), control=3)
    assert verdict.sequential is not None
    assert verdict.sequential.critical == pytest.approx(-sequential.boundary(design, 0.01)[0])
    assert verdict.verdict == "continue"


def test_a_sequential_design_needs_a_t_test(command: Run, record: Folder) -> None:
    found = command(
        "analysis.significance", "check", record(SEEDS), "--rules", "nanogpt-track-3", "--design", "sequential"
    )
    assert (found.returncode, "needs a t-test" in found.stderr) == (2, True)


@settings(deadline=None, max_examples=6)
@given(METRICS, st.floats(1e-4, 0.05))
def test_a_better_mean_never_hurts_look_by_look(values: list[float], gain: float) -> None:
    plan = LookPlan(looks=tuple(range(3, 9)))
    before = decided(RULES, runs(*values), 1.21, [], plan)
    after = decided(RULES, runs(*(value - gain for value in values)), 1.21, [], plan)
    assert not (before.verdict == "supported" and after.verdict != "supported")
    assume(before.n == after.n)
    assert p_of(after) <= p_of(before) * (1 + 1e-6)


def test_without_a_plan_the_order_of_the_runs_does_not_matter(record: Folder) -> None:
    best_first = {1: 1.2000, 2: 1.2001, 3: 1.2002, 4: 1.2161, 5: 1.2202, 6: 1.2150, 7: 1.2171}
    worst_first = dict(zip(best_first, reversed(best_first.values()), strict=True))
    found = [
        judge((record(values, f"record-{n}", bare=True),), Options(sota=1.21613611, design="sequential"))
        for n, values in enumerate((best_first, worst_first))
    ]
    assert [verdict.verdict for verdict in found] == ["continue", "continue"]
    assert found[0].n == 7
    assert p_of(found[0]) == pytest.approx(p_of(found[1]))


def test_without_a_plan_the_horizon_does_not_depend_on_the_runs() -> None:
    looks = asked_looks("sequential", RULES)
    assert looks is not None
    assert looks.looks == tuple(range(3, 11))
    ten, eleven = (decided(RULES, runs(*(1.2 + i / 1e4 for i in range(n))), 1.3, [], looks) for n in (10, 11))
    assert (ten.verdict, eleven.verdict) == ("supported", "unusable")
    many = asked_looks("sequential", replace(RULES, minimum_runs=10))
    assert many is not None
    assert many.looks == tuple(range(10, 31))


def test_an_interval_of_the_sd_is_given_where_no_look_chose_the_number_of_runs() -> None:
    three = runs(1.2, 1.201, 1.202)
    fixed, looked = (decided(RULES, three, 1.21, [], plan) for plan in (None, asked_looks("sequential", RULES)))
    assert fixed.sd_low is not None
    assert fixed.sd_high is not None
    assert fixed.sd_low < 0.001 < fixed.sd_high
    assert (looked.sd, looked.sd_low, looked.sd_high) == (fixed.sd, None, None)
    assert all(statements.facts(one) for one in (fixed, looked))


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
    verdict = decided(RULES, mine, None, control, LookPlan(looks=(12,), seeds=tuple(range(1, 13))))
    both = [also for also in decided(RULES, mine, None, control).also if " against 3 control runs" in also.reading]
    fixed = {also.test.name: also for also in both if also.unit == "bpb"}
    assert fixed["pooled t"].verdict == "supported"
    assert verdict.verdict == "not_supported"
    assert p_of(verdict) == pytest.approx(fixed["Welch t"].test.p_value)


@pytest.mark.parametrize("alpha", [1e-300, 1e-7, 0.45])
def test_a_level_that_no_boundary_can_be_made_for(sweep: Folder, alpha: float) -> None:
    verdict = judge((sweep({1: 1.2, 2: 1.21, 3: 1.22}, seeds=TEN, looks=TEN[2:]),), Options(alpha=alpha))
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
    assert BOUNDARIES == sequential.BOUNDARIES


def test_runs_after_the_verdict_that_undo_it_make_the_gate_refuse(sweep: Folder) -> None:
    good = {seed: 1.2 + seed % 3 / 1e4 for seed in TEN[:3]}
    for later, codes in (({4: 1.28, 5: 1.29, 6: 1.295}, ["plan-not-followed"]), ({4: 1.2004, 5: 1.20005}, [])):
        verdict = judge((sweep(good | later, f"sweep of {len(later)}", seeds=TEN, looks=TEN[2:]),))
        errors = [finding.code for finding in verdict.findings if finding.severity == "error"]
        assert (verdict.verdict, errors) == ("supported", codes)


def test_the_bound_agrees_with_the_verdict_at_every_look_against_a_control_of_another_size() -> None:
    """Five runs against ten, of unlike spreads: 297 of 600 such cases contradicted each other while the bound was pooled."""
    draw, passed = np.random.default_rng(20), 0
    plan = LookPlan(looks=tuple(range(3, 11)), boundary="flat", seeds=(), in_step=False)
    for _ in range(15):
        sd, gain = draw.choice([(0.001, 0.004), (0.002, 0.006), (0.0005, 0.003)])
        candidate = runs(*(1.2 + sd * draw.standard_normal(5)))
        control = runs(*(1.205 + gain + 3 * sd * draw.standard_normal(10)), arm="control")
        verdict = decided(RULES, candidate, None, control, plan)
        gained = verdict.gain
        assert gained is not None
        assert gained.low is not None
        passed += verdict.verdict == "supported"
        assert (verdict.verdict == "supported") == (gained.low > gained.needed)
    assert 0 < passed < 15


def test_a_fixed_verdict_against_a_control_says_its_level_at_the_worst_ratio_of_spreads() -> None:
    mine, control = runs(1.2, 1.201, 1.202), runs(1.25, 1.251, 1.2545, arm="control")
    against = decided(RULES, mine, None, control)
    assert against.level_at_worst == pytest.approx(0.0142, abs=1e-4)
    assert any("1.4 %" in sentence for sentence in statements.assumptions(against))
    welch = decided(replace(RULES, test="welch"), mine, None, control)
    assert welch.level_at_worst == against.level_at_worst  # with equal numbers Welch's decides
    number = decided(RULES, mine, 1.3, [])
    looked = decided(RULES, mine, None, control, LookPlan(looks=(3, 4), seeds=(1, 2, 3, 4)))
    assert [one.level_at_worst for one in (number, looked)] == [None, None]
    assumed = [one.assumes for verdict in (against, number) for one in verdict.also if one.kind == "open-ended"]
    assert ["alike" in one for one in assumed] == [True, False]
