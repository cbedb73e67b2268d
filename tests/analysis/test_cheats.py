"""Claims that must not pass: bad controls, times that nobody prints, steps chosen for their value, empty criteria."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.evidence.case import Case
from analysis.evidence.look_plan import LookPlan
from analysis.evidence.options import Options
from analysis.reading.result import Result, Tried
from analysis.record.selection import LeftOut, Why
from analysis.report.html.page import page
from analysis.rules.findings import ERROR, Code
from analysis.rules.ruleset import RulesError, Ruleset, from_table, load
from analysis.untrusted.refusal import UsageError
from analysis.verdict.annotate import annotate
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, UNUSABLE
from analysis.verdict.judge import decide, judge
from analysis.verdict.verdict import ReadingKind, Verdict
from tests.analysis.test_criteria import FAST, LOSSES, OTHERS, SLOW, decided, named, rules_of
from tests.analysis.test_trials import SOURCE, trial

TRACK_1, TRACK_3 = load("nanogpt-track-1"), Options(rules="nanogpt-track-3")
SLOW_RUNS = named(OTHERS, "val_loss", SLOW, arm="control")
TRIALS = (3.2771, 3.2762, 3.2783, 3.2775)
STEPS = (0, 1600, 2000, 3250, 3300)


def compared(**keys: object) -> Ruleset:
    return rules_of(direction="higher", test="comparison", **keys)


def trials(folder: Path, *texts: str) -> Path:
    folder.mkdir(parents=True)
    for i, text in enumerate(texts):
        (folder / f"r{i}.txt").write_text(SOURCE + text)
    return folder


def codes(verdict: Verdict) -> set[str]:
    return {one.code for one in verdict.findings}


# -- without a test -----------------------------------------------------------------------------------------------------


def test_a_record_is_beaten_and_a_target_reached() -> None:
    runs, equal = named([0.57, 0.57]), named([0.57, 0.57], arm="control")
    assert decided(compared(target=0.57), runs).verdict is SUPPORTED
    assert decided(compared(target=0.57, against="target"), runs, sota=0.57).verdict is SUPPORTED
    assert decided(compared(), runs, sota=0.57).verdict is NOT_SUPPORTED
    assert decided(compared(against="standing"), runs, equal).verdict is NOT_SUPPORTED


def test_each_run_must_beat_the_mean_of_a_record_not_its_worst_run() -> None:
    record = named([0.9, 0.9, 0.3], arm="control")
    found = [decided(compared(statistic="each run"), named(own), record).verdict for own in ([0.4, 0.5], [0.71, 0.75])]
    assert found == [NOT_SUPPORTED, SUPPORTED]


# -- criteria -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [None, float("nan"), -180.0, 0.0, 1e200])
def test_a_time_that_a_run_does_not_tell_is_no_faster_one(time: float | None) -> None:
    first, *others = named(LOSSES, "val_loss", FAST)
    odd = replace(first, run=replace(first.run, train_time_ms=None if time is None else 1000 * time))
    verdict = decided(TRACK_1, (odd, *others), SLOW_RUNS)
    assert (verdict.verdict, verdict.criteria[0].verdict) == (UNUSABLE, UNUSABLE)


def test_a_target_of_a_criterion_is_not_reached_in_silence() -> None:
    reaches = {"name": "reaches", "metric": "accuracy", "test": "comparison", "against": "target", "target": 0.7}
    verdict = decided(rules_of(target=0.5, criteria=[reaches]), named([1.0, 1.1, 1.2]))
    assert verdict.verdict is UNUSABLE


def looked(losses: Sequence[float], times: Sequence[float], failed: int | None = None, waive: str = "") -> Verdict:
    seeds = tuple(range(1, 6))
    runs = [replace(one, run=replace(one.run, seed=seed)) for seed, one in zip(seeds, named(losses, "val_loss", times), strict=False)]  # fmt: skip
    if failed is not None:
        runs[failed] = replace(runs[failed], state="failed", metric=None)
    looks = LookPlan(looks=(3, 4, 5), seeds=seeds)
    return decided(TRACK_1, runs, SLOW_RUNS, looks=looks, waived=frozenset([waive] if waive else []))


def test_the_looks_of_a_sequential_design_ask_the_criteria_once() -> None:
    below = [3.2701, 3.2708, 3.2707, 3.2695, 3.2709]
    assert looked(below, FAST, failed=4).verdict is SUPPORTED
    assert looked(below, SLOW, failed=4).verdict is NOT_SUPPORTED  # a failed run after the verdict hides no slow time
    assert looked([3.2801, 3.278, 3.276, 3.2762], SLOW[:4]).verdict is CONTINUE
    assert looked(below, FAST, waive="val_loss").verdict is UNUSABLE


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"criteria": [{"name": "time", "waives": "time"}]}, "waives"),
        ({"criteria": [{"name": "a", "waives": "b"}, {"name": "b", "waives": "score"}]}, "waives"),
        ({"criteria": [{"test": "none"}]}, "asks nothing"),
        ({"test": "none", "criteria": [{}]}, "would not be asked"),
        ({"criteria": [{"name": "\x1b[31m"}]}, "name"),
        ({"criteria": [{"name": f"n{i}"} for i in range(21)]}, "at most 20"),
        ({"unit": "s\nSUPPORTED"}, "unit"),
    ],
)
def test_criteria_that_ask_nothing_are_no_rules(keys: dict[str, object], words: str) -> None:
    table: dict[str, object] = {"version": 2, "metric": "score", "test": "comparison"} | keys
    if isinstance(given := table.get("criteria"), list):
        table["criteria"] = [{"metric": "steps", "test": "comparison"} | one for one in given]
    with pytest.raises(RulesError, match=words):
        from_table("ours", table, "ours.toml")


# -- another metric -----------------------------------------------------------------------------------------------------


def test_a_known_spread_is_that_of_its_own_metric(tmp_path: Path) -> None:
    folder = trials(tmp_path / "a", *(trial(end) for end in TRIALS))
    with pytest.raises(UsageError, match="knows the spread of val_loss"):
        judge([folder], Options(rules="nanogpt-track-3", metric="train_time_s", sota=900.0))


def test_another_metric_is_compared_with_a_control_where_the_rules_have_a_target(tmp_path: Path) -> None:
    ours, theirs = (
        trials(tmp_path / name, *(f"{trial(end)}accuracy: {first + i / 100}\n" for i, end in enumerate(TRIALS)))
        for name, first in (("ours", 0.9), ("theirs", 0.8))
    )
    verdict = judge([ours], Options(rules="nanogpt-track-1", metric="accuracy", control=theirs))
    assert (verdict.verdict, verdict.n) == (SUPPORTED, 4)
    assert "accuracy" in page(verdict, "report")


# -- attempts and runs that are left out -------------------------------------------------------------------------------


def ended(run: Result, last: float) -> Result:
    """Return a run with an attempt before it that ended late."""
    lost = Tried(arm="candidate", seed=1, attempt=1, state="lost", last=last, wall_s=500.0)
    counts = Tried(arm="candidate", seed=1, attempt=2, state="succeeded", wall_s=600.0)
    return replace(run, attempts=(lost, counts))


@pytest.mark.parametrize(
    ("rules", "runs", "control", "last"),
    [
        (TRACK_1, named(LOSSES, "val_loss", FAST), SLOW_RUNS, 3.27),  # the time that it would have had is unknown
        (rules_of(metric="train_time_s", target=190.0), named(LOSSES, "val_loss", FAST), (), 100.0),
        (compared(target=0.0), named([0.0, 0.1]), (), -5.0),
    ],
)
def test_the_worst_case_of_an_ended_attempt(
    rules: Ruleset, runs: Sequence[Result], control: Sequence[Result], last: float
) -> None:
    case = Case(rules=rules, where="here", runs=(ended(runs[0], last), *runs[1:]), control=tuple(control))
    verdict = annotate(case, decide(case))
    worst = next(one for one in verdict.also if one.kind is ReadingKind.WORST_CASE)
    assert (verdict.verdict, worst.verdict) == (SUPPORTED, NOT_SUPPORTED)


def test_runs_that_are_left_out_count_at_the_step_of_the_claim(tmp_path: Path) -> None:
    """Their last validation is better than that at the claimed step."""
    case = judge([trials(tmp_path / "a", *(trial(end, STEPS) for end in TRIALS))], TRACK_3)
    other = judge([trials(tmp_path / "b", *(trial(end + 0.001, STEPS) for end in TRIALS))], TRACK_3).runs
    left_out = tuple(LeftOut(result=one, why=Why.DEEPER) for one in other)
    early = replace(load("nanogpt-track-3"), target=3.29, at_step=3250)
    at_3250 = Case(rules=early, where="here", runs=case.runs, left_out=left_out).at(3250)
    verdict = annotate(at_3250, decide(at_3250))
    assert verdict.all_runs is not None
    assert verdict.all_runs.test is not None
    assert verdict.all_runs.test.statistic == pytest.approx((3.29 - 3.287275 - 0.0005) * 8**0.5 / 0.0013)


# -- folders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 3])
def test_bad_runs_of_the_claim_are_no_control(tmp_path: Path, many: int) -> None:
    folder = trials(tmp_path / "a", *(trial(end) for end in TRIALS))
    trials(folder / "baseline", *(trial(3.2871 + i / 1e4) for i in range(many)))
    verdict = judge([folder], Options(rules="nanogpt-track-1"))
    assert (verdict.n, verdict.gate, Code.RUNS_LEFT_OUT in codes(verdict)) == (len(TRIALS), "refused", True)


def test_an_honest_control_of_one_program_is_said_and_no_more(tmp_path: Path) -> None:
    """A newer library can make the same program faster: then the arms differ in nothing that their logs print."""
    for arm, ms in (("this_pr", 140), ("baseline", 144)):
        timed = (trial(end + ms / 1e6).replace("144.00ms", f"{ms}.00ms") for end in TRIALS)
        trials(
            tmp_path / "a" / arm,
            *(re.sub(r"train_time:(\d+)", rf"train_time:{ms}{i}", one) for i, one in enumerate(timed)),
        )
    verdict = judge([tmp_path / "a"], Options(rules="nanogpt-track-1"))
    said = [one.severity for one in verdict.findings if one.code is Code.RUNS_LEFT_OUT]
    assert (verdict.n, verdict.gate, said) == (len(TRIALS), "supported", ["warning"])
    assert [one.verdict for one in verdict.criteria] == [SUPPORTED]


def test_what_the_rules_fix_is_not_replaced_by_an_arm_of_the_folder(tmp_path: Path) -> None:
    for arm, better in (("this_pr", 0.0), ("baseline", 1e-4)):
        trials(tmp_path / "a" / arm, *(trial(end - better) for end in TRIALS))
    verdict = judge([tmp_path / "a"], TRACK_3)
    assert (verdict.verdict, verdict.sota, verdict.control) == (SUPPORTED, 3.28, ())


def test_a_named_control_is_the_only_one_that_is_said(tmp_path: Path) -> None:
    folder = trials(tmp_path / "a", *(trial(end) for end in TRIALS))
    trials(folder / "baseline", *(trial(3.2871 + i / 1e4) for i in range(3)))
    theirs = trials(tmp_path / "theirs", *(trial(end + 1e-5) for end in TRIALS))
    verdict = judge([folder], Options(rules="nanogpt-track-1", control=theirs))
    assert any("no control: baseline" in note for note in verdict.notes)


def test_each_run_may_not_stop_where_its_loss_is_best(tmp_path: Path) -> None:
    def without_total(end: float, *steps: int) -> str:
        return trial(end, steps).replace("/3300", "")

    alike = trials(tmp_path / "a", *(without_total(end, 0, 1600, 3250) for end in TRIALS))
    apart = trials(tmp_path / "b", *(without_total(end, 0, 3000 + 50 * i) for i, end in enumerate(TRIALS)))
    found = [judge([folder], Options(rules="nanogpt-track-1")) for folder in (alike, apart)]
    assert [Code.CONFIG_DIFFERS in codes(verdict) for verdict in found] == [False, True]
    assert found[1].gate == "refused"


def test_a_loss_without_a_step_is_no_log_of_a_training(tmp_path: Path) -> None:
    for i, loss in enumerate(TRIALS):
        (tmp_path / f"s{i}.txt").write_text(f"seed: {i}\nval_loss: {loss}\n")
    verdict = judge([tmp_path], Options(rules="nanogpt-track-1"))
    assert (verdict.n, verdict.gate, Code.NO_LOGS in codes(verdict)) == (4, "refused", True)


def test_a_better_validation_of_the_same_step_is_refused_where_a_step_is_chosen(tmp_path: Path) -> None:
    def twice(end: float) -> str:
        lines = trial(end, STEPS).splitlines(keepends=True)
        first = lines[2]
        again = first.replace(first.split("val_loss:")[1].split()[0], f"{end:.5f}")
        return "".join([*lines[:3], again, *lines[3:]])

    verdict = judge([trials(tmp_path / "a", *map(twice, TRIALS))], TRACK_3)
    assert (verdict.at_step, verdict.gate) == (2000, "refused")
    assert (Code.METRIC_TWICE, ERROR) in {(one.code, one.severity) for one in verdict.findings}
    assert judge([trials(tmp_path / "b", *(trial(end, STEPS) for end in TRIALS))], TRACK_3).gate == "supported"


@pytest.mark.parametrize(("program", "raised"), [('print(f"CORE metric: {x}")', False), ('print("none")', True)])
def test_a_metric_of_any_name_may_be_spelled_as_the_program_does(tmp_path: Path, program: str, raised: bool) -> None:
    steps = "step:0/9 train_loss:9.0\nstep:9/9 train_loss:3.0 train_time:900ms\n"
    (tmp_path / "a.log").write_text(f"import torch\n{program}\n{'=' * 100}\n{steps}CORE metric: 0.26\n")
    verdict = judge([tmp_path], Options(rules="nanochat"))
    assert (verdict.n, Code.LABEL_NOT_IN_SOURCE in codes(verdict)) == (1, raised)


# -- a second lab -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "answer"), [(3.2820, UNUSABLE), (3.2790, SUPPORTED)])
def test_a_verifier_is_heard_where_the_author_has_one_run(tmp_path: Path, end: float, answer: str) -> None:
    author, second = trials(tmp_path / "a", trial(3.2750)), trials(tmp_path / "b", trial(end))
    assert judge([author], replace(TRACK_3, verify=second)).verdict is answer


def test_a_verifier_is_read_at_the_step_of_the_claim(tmp_path: Path) -> None:
    early = [trial(end, STEPS).replace("step:3250", "step:3299") for end in TRIALS]
    author = trials(tmp_path / "a", *(trial(end, STEPS[:-1]) for end in TRIALS))
    second = trials(tmp_path / "b", *(trial(end + 0.0001, STEPS) for end in TRIALS))
    verdict = judge([author], replace(TRACK_3, verify=second))  # the author's claim is step 3250
    assert verdict.at_step == 3250
    assert verdict.verification is not None
    assert verdict.verification.mean == pytest.approx(3.287375)
    assert judge([author], replace(TRACK_3, verify=trials(tmp_path / "c", *early))).verdict is UNUSABLE
