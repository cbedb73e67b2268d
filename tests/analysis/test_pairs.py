"""Pairs on nodes, and a control beside a SOTA: what the plan decided is tested, whatever the results are."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence.look_plan import LookPlan
from analysis.evidence.options import Options
from analysis.reading.frame import write_rows
from analysis.reading.result import COLUMNS
from analysis.report.said.chips import chips
from analysis.report.said.headline import beaten, title
from analysis.report.said.statements import assumptions
from analysis.report.text import text
from analysis.rules.keys import PAIRED
from analysis.rules.ruleset import from_table, load
from analysis.stats import fixed, sequential
from analysis.stats.fixed import Sample
from analysis.stats.recursion import Design
from analysis.verdict.again.one_run import parts_named
from analysis.verdict.judge import case_of, judge
from tests.analysis.verdicts import decided, everywhere, runs
from tests.conftest import make_log

Folder = Callable[..., Path]
RULES = load("parameter-golf")
IN_PAIRS = replace(RULES, test=PAIRED)
MINE = {1: 1.2044, 2: 1.1967, 3: 1.2061, 4: 1.1955, 5: 1.2008}
THEIRS = {1: 1.2113, 2: 1.20465, 3: 1.21345, 4: 1.20225, 5: 1.2086}  # 0.0074 worse, on the same nodes
SOTA = 1.2161


def paired_p(mine: dict[int, float], theirs: dict[int, float], margin: float = 0.005) -> float:
    """Return scipy's p of the same test."""
    moved = [theirs[seed] - margin for seed in mine]
    return float(scipy.stats.ttest_rel(list(mine.values()), moved, alternative="less").pvalue)


def test_a_planned_pair_is_tested_by_its_difference(sweep: Folder) -> None:
    verdict = judge((sweep(MINE, sota=None, control=THEIRS, paired=True),))
    assert (verdict.verdict, verdict.n) == ("supported", 5)
    assert verdict.test is not None
    assert (verdict.test.name, verdict.test.df) == ("paired t", 4)
    assert verdict.test.p_value == pytest.approx(paired_p(MINE, THEIRS), rel=1e-9)
    assert verdict.pair_sd == pytest.approx(np.std([MINE[s] - THEIRS[s] for s in MINE], ddof=1))
    assert verdict.gain is not None
    assert verdict.gain.mean == pytest.approx(0.00735)
    assert verdict.plan is not None
    assert (verdict.plan.paired, verdict.plan.exact) == (True, True)
    assert "in pairs" in everywhere(verdict)


def test_the_unpaired_readings_stay_beside_it(sweep: Folder) -> None:
    paired = judge((sweep(MINE, sota=None, control=THEIRS, paired=True),))
    plain = judge((sweep(MINE, "plain", sota=None, control=THEIRS),))
    assert plain.verdict == "not_supported"
    assert plain.pair_sd is None
    named = {one.reading: one for one in paired.also}
    for test in ("Welch", "pooled"):
        reading = named[f"{test} against 5 control runs, margin of 0.005 bpb"]
        assert reading.test is not None
        assert reading.verdict == "not_supported"
        assert reading.test.p_value == pytest.approx(0.2225, abs=1e-4)
    e_value = next(one for one in paired.also if one.kind == "open-ended")
    assert e_value.test is not None
    assert e_value.test.statistic == pytest.approx(float(sequential.e_value(9.9084698, 4, 5)), rel=1e-6)


def test_nobody_chooses_pairs_when_the_results_are_known(sweep: Folder) -> None:
    folder = sweep(MINE, sota=None, control=THEIRS, paired=True)
    verdict = judge((folder / "candidate",), Options(control=folder / "control"))
    assert verdict.test is not None
    assert verdict.test.name == "Welch t"
    other = judge((folder,), Options(control=folder / "control"))
    assert other.test is not None
    assert other.test.name == "Welch t"
    assert other.plan is not None
    assert not other.plan.exact


def test_pairs_go_by_seed_and_not_by_place(sweep: Folder) -> None:
    turned = dict(reversed(THEIRS.items()))
    verdict = judge((sweep(MINE, sota=None, control=turned, paired=True),))
    assert verdict.test is not None
    assert verdict.test.p_value == pytest.approx(paired_p(MINE, THEIRS), rel=1e-9)


def test_looks_at_pairs(sweep: Folder) -> None:
    verdict = judge((sweep(MINE, sota=None, control=THEIRS, paired=True, looks=[3, 4, 5]),))
    looks = verdict.sequential
    assert looks is not None
    assert looks.nominal_p is not None
    assert (verdict.verdict, looks.taken) == ("supported", 4)
    assert looks.nominal_p == pytest.approx(0.00422827, abs=1e-8)  # of looks 3..5 at one sample
    assert looks.p_value == pytest.approx(paired_p(dict(list(MINE.items())[:4]), THEIRS), rel=1e-6)
    assert verdict.test is not None
    assert verdict.test.df == 3
    assert {one.kind for one in verdict.also} >= {"welch at this look", "all at once"}
    everywhere(verdict)


def test_a_missing_pair_is_waited_for(sweep: Folder) -> None:
    some = {seed: THEIRS[seed] for seed in (1, 2)}
    fixed_sweep = judge((sweep(MINE, sota=None, control=some, paired=True, seeds=[1, 2, 3, 4, 5]),))
    assert fixed_sweep.verdict == "unusable"
    looking = judge((sweep(MINE, "looking", sota=None, control=some, paired=True, looks=[3, 4, 5]),))
    assert (looking.verdict, looking.sequential and looking.sequential.next_look) == ("continue", 3)


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ([1.1, 1.2, 1.3], [1.2, 1.25], "candidate3.log has no control run of its seed"),
        ([1.1, 1.2, 1.3], [1.2, 1.3, 1.4], "The differences of 3 pairs"),
    ],
)
def test_pairs_that_cannot_be_tested(mine: list[float], theirs: list[float], words: str) -> None:
    verdict = decided(IN_PAIRS, runs(*mine), None, runs(*theirs, arm="control"))
    assert verdict.verdict == "unusable"
    assert words in verdict.reason


def test_a_seed_that_is_there_twice_or_not_printed_has_no_pair() -> None:
    mine, control = runs(1.1, 1.2, 1.31), runs(1.2, 1.3, 1.4, arm="control")
    twice = [*control, replace(control[0], log="again.log")]
    assert "candidate1.log has 2 control runs of its seed" in decided(IN_PAIRS, mine, None, twice).reason
    again = [*mine, replace(mine[0], log="again.log", metric=mine[1].metric)]
    assert "candidate1.log is one of several of seed 1" in decided(IN_PAIRS, again, None, control).reason
    unprinted = [replace(run, run=replace(run.run, seed=None)) for run in mine]
    assert "candidate1.log does not print its seed" in decided(IN_PAIRS, unprinted, None, control).reason


def test_rules_may_ask_for_pairs(record: Folder) -> None:
    folder, control = record(MINE), record(THEIRS, "control")
    rules = folder.parent / "ours.toml"
    rules.write_text('version = 2\nmetric = "val_bpb"\ntest = "paired by node"\nmargin = 0.005\nalpha = 0.01\n')
    verdict = judge((folder,), Options(rules=str(rules), control=control))
    assert verdict.test is not None
    assert verdict.test.name == "paired t"
    looking = judge((folder,), Options(rules=str(rules), control=control, design="sequential"))
    assert looking.test is not None
    assert (looking.test.name, looking.test.df) == ("group-sequential t", 4)
    assert from_table("x", {"version": 2, "metric": "val_bpb", "test": PAIRED, "alpha": 0.01}, "x").may_look


def test_control_runs_do_not_choose_the_look(record: Folder) -> None:
    """Three control runs beside five candidate runs were a look at the three best ones."""
    rules = record(MINE).parent / "ours.toml"
    rules.write_text('version = 2\nmetric = "val_bpb"\ntest = "paired by node"\nmargin = 0.005\nalpha = 0.01\n')
    asked = Options(rules=str(rules), design="sequential")
    few = record({seed: value + 0.1 for seed, value in list(THEIRS.items())[:3]}, "few")
    verdict = judge((rules.parent / "record",), replace(asked, control=few))
    assert verdict.verdict == "unusable"
    assert "train_seed4.log has no control run of its seed" in verdict.reason
    more = judge((rules.parent / "record",), replace(asked, control=record({0: 1.3, **THEIRS}, "more")))
    assert more.n == 5
    assert more.test is not None
    assert more.sequential is not None
    assert more.sequential.p_value == pytest.approx(paired_p(MINE, THEIRS), rel=1e-9)


def planned_record(record: Folder, planned: Path, control: dict[int, float]) -> Path:
    """Make a record with the plan of a sweep and its control's logs."""
    folder = record(MINE, f"{planned.name}-{len(control)}")
    shutil.copy(planned / "plan.json", folder)
    (folder / "control").mkdir()
    for seed, value in control.items():
        (folder / f"control/train_seed{seed}.log").write_text(make_log(seed, value))
    return folder


def test_a_record_folder_brings_the_plan_of_its_pairs(sweep: Folder, record: Folder) -> None:
    folder = planned_record(record, sweep(MINE, sota=None, control=THEIRS, paired=True), THEIRS)
    verdict = judge((folder,), Options(control=folder / "control"))
    assert verdict.test is not None
    assert verdict.test.name == "paired t"
    assert verdict.test.p_value == pytest.approx(paired_p(MINE, THEIRS), rel=1e-9)


def test_a_record_that_planned_a_sota_and_a_control_must_beat_both(sweep: Folder, record: Folder) -> None:
    """A reviewer who names the SOTA alone, or a record without its control, does not choose the easier one of two."""
    planned = sweep(MINE, sota=SOTA, control=THEIRS, paired=True)
    folder = planned_record(record, planned, THEIRS)
    alone, both = (judge((folder,), Options(sota=SOTA, control=one)) for one in (None, folder / "control"))
    assert [one.name for one in alone.criteria] == [one.name for one in both.criteria] == ["control"]
    assert alone.criteria[0].test is not None
    assert alone.criteria[0].test.name == "paired t"
    assert alone.plan is not None
    assert alone.plan.exact
    without = planned_record(record, planned, {})
    shutil.rmtree(without / "control")
    for link in (False, True):
        if link:  # that leads out is no folder of the record
            (without / "control").symlink_to(folder / "control")
        verdict = judge((without,), Options(sota=SOTA))
        assert verdict.verdict == "unusable"
        assert "no folder control" in verdict.reason
        assert verdict.n == len(MINE)
    (without / "control").unlink()
    elsewhere = judge((without,), Options(sota=SOTA, control=folder / "control"))
    assert [one.test is not None for one in elsewhere.criteria] == [True]
    assert elsewhere.plan is not None
    assert elsewhere.plan.differs == ["not tested against the plan's control"]


def test_a_run_is_explained_with_its_pair(sweep: Folder) -> None:
    folder = sweep(MINE, sota=None, control=THEIRS, paired=True)
    case = case_of((folder,), Options())
    candidate, control = parts_named(case, judge((folder,)), "4")
    for part in (candidate, control):
        (effect,) = part.effects
        assert effect.without_it.tested is not None
        assert effect.without_it.tested.test is not None
        assert effect.without_it.n == 4
        others = {seed: value for seed, value in MINE.items() if seed != 4}
        assert effect.without_it.tested.test.p_value == pytest.approx(paired_p(others, THEIRS), rel=1e-9)


def test_a_frame_says_that_it_has_no_plan_of_pairs(sweep: Folder, tmp_path: Path) -> None:
    folder = sweep(MINE, sota=None, control=THEIRS, paired=True)
    planned = judge((folder,))
    frame = tmp_path / "runs.csv"
    write_rows([run.row() for run in (*planned.runs, *planned.control)], list(COLUMNS), "csv", frame)
    verdict = judge((frame,))
    assert verdict.test is not None
    assert verdict.test.name in ("Welch t", "pooled t")
    (found,) = [one for one in verdict.findings if one.code == "no-logs"]
    assert "A frame has no plan" in found.do


def test_a_second_lab_is_pooled_without_pairs(sweep: Folder, record: Folder) -> None:
    rng = random.Random(1)
    folder = sweep(MINE, sota=None, control={seed: value + 0.01 for seed, value in THEIRS.items()}, paired=True)
    fresh = record({seed: 1.2 + rng.gauss(0, 0.004) for seed in (11, 12, 13)}, "fresh")
    verdict = judge((folder,), Options(verify=fresh))
    assert verdict.verification is not None
    assert verdict.verification.agrees
    assert verdict.test is not None
    assert verdict.test.name in ("Welch t", "pooled t")
    assert verdict.n == 8


# -- a SOTA and a control ------------------------------------------------------------------------------------------------


def test_a_sota_and_pairs_must_both_be_beaten(sweep: Folder) -> None:
    verdict = judge((sweep(MINE, sota=SOTA, control=THEIRS, paired=True),))
    assert verdict.verdict == "supported"
    assert verdict.test is not None
    assert verdict.test.name == "one-sample t"
    (control,) = verdict.criteria
    assert control.test is not None
    assert (control.name, control.test.name) == ("control", "paired t")
    assert control.test.p_value == pytest.approx(paired_p(MINE, THEIRS), rel=1e-9)
    weak = judge((sweep(MINE, "weak", sota=1.2059, control=THEIRS, paired=True),))
    assert (weak.verdict, [one.verdict for one in weak.criteria]) == ("not_supported", ["supported"])


def test_looks_stop_where_both_cross(sweep: Folder) -> None:
    """The control is beaten after four seeds, the SOTA after five."""
    alone = judge((sweep(MINE, "alone", sota=None, control=THEIRS, paired=True, looks=[3, 4, 5]),))
    both = judge((sweep(MINE, sota=SOTA, control=THEIRS, paired=True, looks=[3, 4, 5]),))
    assert (alone.n, both.n, both.verdict) == (4, 5, "supported")
    (control,) = both.criteria
    assert control.alpha == pytest.approx(0.00422827, abs=1e-8)
    far = {seed: value - 0.01 for seed, value in THEIRS.items()}
    lost = judge((sweep(MINE, "lost", sota=1.5, control=far, paired=True, looks=[3, 4, 5]),))
    assert (lost.verdict, lost.n) == ("not_supported", 5)
    assert lost.reason.startswith("control: ")  # what fails comes first: the SOTA is beaten
    started = {seed: MINE[seed] for seed in (1, 2, 3)}
    going = judge(
        (sweep(started, "going", sota=1.5, control=far, paired=True, looks=[3, 4, 5], seeds=[1, 2, 3, 4, 5]),)
    )
    assert (going.verdict, going.sequential and going.sequential.next_seeds) == ("continue", [4])
    assert going.sequential is not None
    assert going.sequential.chance is None
    assert "is below" in going.reason


def test_every_view_says_which_of_two_tests_fails(sweep: Folder) -> None:
    far = {seed: value - 0.004 for seed, value in THEIRS.items()}
    no_sota = judge((sweep(MINE, "no-sota", sota=1.2059, control=THEIRS, paired=True),))
    no_control = judge((sweep(MINE, "no-control", sota=SOTA, control=far, paired=True),))
    assert (title(no_sota), title(no_control)) == (
        ": the gain over the SOTA is not shown at p < 0.01",
        ": the gain over the control is not shown",
    )
    assert [chip.name for chip in chips(no_sota)[:2]] == ["SOTA", "Control"]
    assert [one.verdict for one in no_sota.criteria] == ["supported"]
    assert no_sota.reason.startswith("SOTA: ")
    assert no_control.reason.startswith("control: ")  # what fails comes first
    one = judge((sweep(MINE, "one", sota=None, control=far, paired=True),))
    assert chips(one)[0].name == "Significance"


def test_a_control_that_a_later_look_may_beat_is_not_yet_beaten(sweep: Folder) -> None:
    started = {seed: MINE[seed] for seed in (1, 2, 3)}
    going = judge((sweep(started, sota=SOTA, control=THEIRS, paired=True, looks=[3, 4, 5], seeds=[1, 2, 3, 4, 5]),))
    assert [going.verdict, *(one.verdict for one in going.criteria)] == ["continue", "continue"]
    assert "SEED=4" in going.reason.rpartition("SOTA: ")[2]  # what to run next is said last


def test_a_count_and_its_noun_agree(sweep: Folder) -> None:
    far = {seed: value - 0.004 for seed, value in THEIRS.items()}
    assert "1 of 6 other readings says supported too" in text(
        judge((sweep(MINE, "a", sota=SOTA, control=THEIRS, paired=True),))
    )
    assert "5 of 6 other readings say not" in text(judge((sweep(MINE, "b", sota=SOTA, control=far, paired=True),)))
    for missing, said in ((4, "no result for seed 5"), (3, "no result for seeds 4, 5")):
        started = {seed: MINE[seed] for seed in range(1, missing + 1)}
        (found,) = [
            one
            for one in judge((sweep(started, str(missing), seeds=[1, 2, 3, 4, 5]),)).findings
            if one.code == "plan-not-followed"
        ]
        assert f"{said};" in found.message


def test_a_control_run_is_traced_to_the_test_that_it_is_in(sweep: Folder) -> None:
    verdict = judge((folder := sweep(MINE, sota=SOTA, control=THEIRS, paired=True),))
    found = {part.arm: part for part in parts_named(case_of((folder,), Options()), verdict, "2")}
    for effect in (found["control"].effects[0], found["candidate"].effects[1]):
        assert effect.with_it.tested is not None
        assert effect.with_it.tested.test == verdict.criteria[0].test


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("sota", [1.3, None])
@pytest.mark.parametrize("control", [{}, {2: 1.21}, {1: 1.2, 2: 1.21}])
def test_a_look_waits_for_the_planned_control(
    sweep: Folder, control: dict[int, float], sota: float | None, paired: bool
) -> None:
    """Nobody passes against the SOTA alone while the control that was planned beside it is not there."""
    looking = sweep(MINE, sota=sota, control=control, paired=paired, looks=[3, 4, 5])
    verdict = judge((looking,))
    assert (verdict.verdict, verdict.n, verdict.criteria) == ("continue", 0, ())
    assert verdict.sequential is not None
    assert verdict.sequential.next_look == 3
    everywhere(verdict)


def test_a_look_that_only_one_test_crossed_decides_nothing(sweep: Folder) -> None:
    """The SOTA is beaten after three seeds, when the control is not, and no longer after five."""
    mine = {1: 1.2000, 2: 1.2010, 3: 1.1990, 4: 1.2600, 5: 1.1400}
    theirs = {1: 1.2100, 2: 1.2112, 3: 1.2195, 4: 1.2702, 5: 1.1499}
    verdict = judge((sweep(mine, sota=1.25, control=theirs, paired=True, looks=[3, 4, 5]),))
    assert (verdict.verdict, verdict.n) == ("not_supported", 5)
    assert verdict.test is not None
    assert verdict.test.p_value > verdict.alpha
    assert title(verdict).startswith(": the gain")


def test_a_verdict_of_pairs_says_how_many_control_runs_it_rests_on() -> None:
    verdict = decided(IN_PAIRS, runs(*MINE.values()), None, runs(*THEIRS.values(), 1.3, arm="control"))
    assert (beaten(verdict) or "").endswith("(5 runs)")


def test_a_control_in_step_beside_a_sota_is_pooled_as_alone(sweep: Folder) -> None:
    alone = judge((sweep(MINE, "alone", sota=None, control=THEIRS, looks=[3, 4, 5]),))
    both = judge((sweep(MINE, sota=1.5, control=THEIRS, looks=[3, 4, 5]),))
    (control,) = both.criteria
    assert control.test is not None
    assert alone.sequential is not None
    assert alone.sequential.nominal_p == pytest.approx(control.alpha)
    assert alone.sequential.p_value == pytest.approx(control.test.p_value)
    assert control.test.name == "pooled t"
    assert any("same spread" in one for one in assumptions(both))
    paired = judge((sweep(MINE, "paired", sota=1.5, control=THEIRS, looks=[3, 4, 5], paired=True),))
    assert not any("spread" in one for one in assumptions(paired))


def test_a_second_lab_is_pooled_without_pairs_also_beside_a_sota(sweep: Folder, record: Folder) -> None:
    worse = {seed: value + 0.01 for seed, value in THEIRS.items()}
    folder, fresh = (
        sweep(MINE, sota=SOTA, control=worse, paired=True),
        record({11: 1.2004, 12: 1.2021, 13: 1.1991}, "fresh"),
    )
    verdict = judge((folder,), Options(verify=fresh))
    (control,) = verdict.criteria
    assert control.test is not None
    assert (verdict.verdict, verdict.n, control.n) == ("supported", 8, 8)
    assert control.test.name in ("Welch t", "pooled t")


def test_an_edited_plan_does_not_replace_a_target_by_pairs(sweep: Folder, record: Folder) -> None:
    rules = replace(RULES, target=1.2, against="target")
    folder = sweep(MINE, sota=None, control=THEIRS, paired=True, ruleset=asdict(rules))
    verdict = judge((folder,), Options(own_sweep=True))
    assert (verdict.verdict, verdict.sota, verdict.sota_is) == ("not_supported", 1.2, "target")
    assert verdict.test is not None
    assert verdict.test.name == "one-sample t"


@pytest.mark.parametrize("test", ["welch", "pooled", "comparison"])
def test_a_plan_pairs_only_by_rules_that_can_test_pairs(sweep: Folder, test: str) -> None:
    folder = sweep(MINE, sota=None, control=THEIRS, paired=True, ruleset=asdict(replace(RULES, test=test)))
    verdict = judge((folder,), Options(own_sweep=True))
    assert verdict.verdict == "unusable"
    assert "which is of no pairs" in verdict.reason


def test_a_plans_control_does_not_replace_the_target_of_the_reviewers_rules(sweep: Folder) -> None:
    folder = sweep(MINE, sota=None, control={seed: value + 0.05 for seed, value in THEIRS.items()}, paired=True)
    rules = folder.parent / "target.toml"
    rules.write_text('version = 2\nmetric = "val_bpb"\ntarget = 1.2\ntest = "one-sample t"\nalpha = 0.01\n')
    verdict = judge((folder,), Options(rules=str(rules)))
    assert (verdict.verdict, verdict.sota, verdict.sota_is) == ("not_supported", 1.2, "target")


def test_a_reviewers_sota_and_control_must_both_be_beaten(record: Folder) -> None:
    mine, weak = record(MINE), record(THEIRS, "weak")
    strong = record({seed: value - 0.02 for seed, value in THEIRS.items()}, "strong")
    for control in (weak, strong):
        verdict = judge((mine,), Options(sota=1.3, control=control))
        assert [(one.name, one.verdict) for one in verdict.criteria] == [("control", "not_supported")]
        assert verdict.verdict == "not_supported"
    far = record({seed: value + 0.05 for seed, value in THEIRS.items()}, "far")
    assert judge((mine,), Options(sota=1.3, control=far)).verdict == "supported"


@pytest.mark.parametrize("test", [{"test": "known-sigma z", "sigma": 0.004}, {"test": "comparison"}])
def test_both_must_be_beaten_by_any_test(sweep: Folder, test: dict[str, object]) -> None:
    """The number is far off; the candidate is better than the first control, and not than the second."""
    better = {seed: value - 0.01 for seed, value in THEIRS.items()}
    rules = asdict(load("parameter-golf")) | test
    for name, control, answer in (
        ("worse", {seed: value + 0.01 for seed, value in THEIRS.items()}, "supported"),
        ("better", better, "not_supported"),
    ):
        verdict = judge((sweep(MINE, name, sota=1.3, control=control, ruleset=rules),))
        assert [one.verdict for one in verdict.criteria] == [answer]
        assert verdict.verdict == answer
        assert verdict.criteria[0].sota == pytest.approx(sum(control.values()) / 5)


# -- the numbers ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(1.1, 1.3), st.floats(1.1, 1.3)), min_size=3, max_size=8, unique_by=lambda one: one[0]),
    st.floats(0, 0.01),
)
def test_the_paired_test_is_scipys_and_takes_its_bound_along(values: list[tuple[float, float]], margin: float) -> None:
    mine, theirs = ([one[i] for one in values] for i in (0, 1))
    differences = [own - other for own, other in values]
    if np.std(differences) < 1e-6:
        return
    sample, control = Sample.of(mine), sum(theirs) / len(theirs)
    test = fixed.paired_t(sample, Sample.of(differences), margin, 0.01)
    expected = scipy.stats.ttest_rel(mine, [other - margin for other in theirs], alternative="less")
    assert test.p_value == pytest.approx(float(expected.pvalue), rel=1e-6, abs=1e-12)
    assert test.bound is not None
    if abs(test.p_value - 0.01) > 1e-6:
        assert (test.bound < control - margin) == (test.p_value < 0.01)


def test_verdict_and_bound_agree_at_looks() -> None:
    rng = np.random.default_rng(7)
    plan = LookPlan(looks=(3, 4, 5, 6), seeds=(1, 2, 3, 4, 5, 6), in_step=True)
    for _ in range(200):
        node = rng.normal(0, 0.003, 6)
        mine, theirs = 1.2 + node + rng.normal(0, 0.001, 6), 1.2067 + node + rng.normal(0, 0.001, 6)
        verdict = decided(IN_PAIRS, runs(*mine), None, runs(*theirs, arm="control"), plan)
        assert verdict.gain is not None
        assert verdict.gain.low is not None
        assert (verdict.verdict == "supported") == (verdict.gain.low > 0.005)


def test_boundaries_of_pairs_are_those_of_one_sample() -> None:
    plan = LookPlan(looks=(3, 4, 5), seeds=(1, 2, 3, 4, 5), in_step=True)
    verdict = decided(IN_PAIRS, runs(*MINE.values()), None, runs(*THEIRS.values(), arm="control"), plan)
    assert verdict.sequential is not None
    assert verdict.sequential.critical == pytest.approx(-sequential.boundary(Design((3, 4, 5)), 0.01)[1])


def test_a_plan_without_a_control_has_no_pairs(sweep: Folder) -> None:
    folder = sweep(MINE)
    table = json.loads((folder / "plan.json").read_text())
    table["design"]["paired"] = True
    del table["sha256"]
    digest = hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (folder / "plan.json").write_text(json.dumps(table | {"sha256": digest}))
    verdict = judge((folder,))
    assert verdict.verdict == "unusable"
    assert "true only with a control" in verdict.reason


# -- what does not fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sota", [None, SOTA])
def test_logs_of_one_arm_that_were_made_from_the_others_are_found(sweep: Folder, sota: float | None) -> None:
    made = {seed: round(value - 0.0074 + 0.000001 * (seed % 2), 8) for seed, value in THEIRS.items()}
    copied, honest = (
        judge((sweep(mine, name, sota=sota, control=THEIRS, paired=True),))
        for name, mine in (("copied", made), ("honest", MINE))
    )
    assert "spread-too-small" in {one.code for one in copied.findings}
    assert "spread-too-small" not in {one.code for one in honest.findings}


def test_a_left_out_run_is_tested_without_a_pair(sweep: Folder, record: Folder) -> None:
    planned = sweep(MINE, sota=None, control={seed: value + 0.02 for seed, value in THEIRS.items()}, paired=True)
    folder = record(MINE)
    shutil.copy(planned / "plan.json", folder)
    shutil.copytree(planned / "control", folder / "control")
    (folder / "more").mkdir()
    (folder / "more/train_seed9.log").write_text(make_log(9, 1.2001))
    verdict = judge((folder,), Options(control=folder / "control"))
    assert verdict.test is not None
    assert verdict.all_runs is not None
    assert verdict.all_runs.test is not None
    assert (verdict.test.name, verdict.all_runs.test.name) == ("paired t", "Welch t")
    assert verdict.all_runs.verdict == "supported"
