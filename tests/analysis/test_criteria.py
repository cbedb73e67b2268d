"""Rules of version 2: directions, statistics without a test, further criteria, a step that the runs choose."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.evidence.case import Case
from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.report.said.statements import facts
from analysis.rules.findings import Code
from analysis.rules.ruleset import RulesError, Ruleset, from_table, load
from analysis.significance import main
from analysis.stats import fixed, summary
from analysis.stats.fixed import Sample
from analysis.verdict.answer import NOT_SUPPORTED, SUPPORTED, UNUSABLE
from analysis.verdict.judge import decide
from analysis.verdict.verdict import Verdict
from tests.analysis.verdicts import everywhere

RULER = "=" * 100


def named(
    values: Sequence[float], metric: str = "score", times: Sequence[float] = (), arm: str = "candidate"
) -> tuple[Result, ...]:
    """Return a result for each value of a metric, and its training time in seconds where there is one."""
    found = []
    for i, value in enumerate(values):
        log = f"{arm}{i}.log"
        time = times[i] * 1000 if times else None
        run = Run(log=Path(log), line=1, train_time_ms=time)
        own = {"val_loss": None, "val_bpb": None} | ({metric: value} if metric.startswith("val_") else {})
        others = {} if metric.startswith("val_") else {metric: value}
        one = Metric(label=metric, decimals=6, line=3, others=others, **own)
        found.append(Result(log=log, run=run, metric=one, arm=arm))
    return tuple(found)


def rules_of(**keys: object) -> Ruleset:
    return from_table(
        "ours", {"version": 2, "metric": "score", "test": "one-sample t", "alpha": 0.01} | keys, "ours.toml"
    )


def decided(rules: Ruleset, runs: Sequence[Result], control: Sequence[Result] = (), **of_case: object) -> Verdict:
    return decide(Case(rules=rules, where="here", runs=tuple(runs), control=tuple(control), **of_case))


VALUES = st.lists(st.floats(1.0, 2.0), min_size=3, max_size=7, unique=True).filter(lambda v: max(v) - min(v) > 1e-3)
TESTS = ("one-sample t", "both", "welch", "pooled", "known-sigma z", "comparison")


@given(values=VALUES, control=VALUES, test=st.sampled_from(TESTS), margin=st.sampled_from((0.0, 0.01)), data=st.data())
def test_higher_is_better_is_the_mirror_of_lower_is_better(
    values: list[float], control: list[float], test: str, margin: float, data: st.DataObject
) -> None:
    statistic = (
        data.draw(st.sampled_from(("mean", "median", "trimmed mean", "each run"))) if test == "comparison" else "mean"
    )
    keys: dict[str, object] = {"test": test, "margin": margin, "statistic": statistic}
    keys |= {"sigma": 0.1} if test == "known-sigma z" else {}
    low, high = (
        decided(rules_of(direction=way, **keys), named(a), named(b, arm="control"))
        for way, a, b in (
            ("lower", values, control),
            ("higher", [3 - one for one in values], [3 - one for one in control]),
        )
    )
    assert low.verdict is high.verdict
    assert (low.test is None) == (high.test is None) == (test == "comparison")
    if low.test is not None and high.test is not None:
        assert high.test.p_value == pytest.approx(low.test.p_value, rel=1e-6, abs=1e-12)
        assert high.upper_bound == pytest.approx(3 - (low.upper_bound or 0))
    assert high.value == pytest.approx(3 - (low.value or 0))
    assert high.threshold == pytest.approx(3 - (low.threshold or 0))
    assert [one.verdict for one in low.also] == [one.verdict for one in high.also]


@given(VALUES, VALUES, st.sampled_from((0.01, 0.25)))
def test_each_two_sample_bound_agrees_with_its_test(values: list[float], control: list[float], alpha: float) -> None:
    sample, other = Sample.of(values), Sample.of(control)
    for test in (fixed.welch_t(sample, other, 0.0, alpha), fixed.pooled_t(sample, other, 0.0, alpha)):
        assert test.bound is not None
        if abs(test.p_value - alpha) > 1e-9:
            assert (test.bound < other.mean) == (test.p_value < alpha)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12))
def test_statistics_agree_with_scipy_and_numpy(values: list[float]) -> None:
    assert summary.trimmed_mean(values) == pytest.approx(stats.trim_mean(values, 1.001 / len(values)), abs=1e-12)
    assert summary.STATISTICS["median"](values) == pytest.approx(np.median(values), abs=1e-12)
    assert summary.STATISTICS["each run"](values) == max(values)


@pytest.mark.parametrize(
    ("statistic", "passes", "fails"),
    [
        ("median", [0.58, 0.58, 0.10], [0.56, 0.56, 0.9]),
        ("each run", [0.57, 0.58, 0.90], [0.569, 0.9, 0.9]),
        ("trimmed mean", [0.1, 0.58, 0.58, 0.9], [0.1, 0.56, 0.56, 9.0]),
        ("mean", [0.57, 0.57, 0.58], [0.1, 0.58, 0.58]),
    ],
)
def test_a_statistic_is_compared_without_a_test(statistic: str, passes: list[float], fails: list[float]) -> None:
    rules = rules_of(direction="higher", test="comparison", statistic=statistic, target=0.57)
    good, bad = (decided(rules, named(values)) for values in (passes, fails))
    assert (good.verdict, bad.verdict) == (SUPPORTED, NOT_SUPPORTED)
    assert good.test is None
    assert everywhere(good)


def test_a_trimmed_mean_of_two_runs_is_unknown() -> None:
    verdict = decided(rules_of(test="comparison", statistic="trimmed mean", target=2.0), named([1.0, 1.1]))
    assert verdict.verdict is UNUSABLE
    assert "trimmed mean" in verdict.reason


def test_one_run_is_a_test_where_the_spread_is_known_and_none_where_it_is_not() -> None:
    one = named([3.2752], "val_loss")
    keys = {"metric": "val_loss", "target": 3.28, "seeds": "unprinted"}
    known = decided(rules_of(test="known-sigma z", sigma=0.0013, scaled_gain=0.004, **keys), one)
    assert known.verdict is SUPPORTED
    assert known.test is not None
    assert known.test.p_value == pytest.approx(stats.norm.sf(0.0048 / 0.0013))
    assert (known.n, known.sd, known.sd_low, known.level_at_own_sd) == (1, None, None, None)
    assert everywhere(known)
    assert decided(rules_of(**keys), one).verdict is UNUSABLE


# -- further criteria ---------------------------------------------------------------------------------------------------

LOSSES, OTHERS = [3.2781, 3.2768, 3.2777, 3.2795, 3.2779], [3.2768, 3.2764, 3.2783, 3.2786, 3.2784]
FAST, SLOW = [180.1, 180.4, 179.9, 180.2, 180.0], [183.4, 183.9, 183.5, 183.7, 184.0]


def track_1(
    losses: Sequence[float], times: Sequence[float], *, control: bool = True, waive: str | None = None
) -> Verdict:
    waived = frozenset([waive] if waive else [])
    runs, other = named(losses, "val_loss", times), named(OTHERS, "val_loss", SLOW, arm="control")
    return decided(load("nanogpt-track-1"), runs, other if control else (), waived=waived)


def test_a_time_claim_needs_a_loss_below_the_target_and_a_faster_time() -> None:
    verdict = track_1(LOSSES, FAST)
    assert verdict.verdict is SUPPORTED
    assert verdict.sota == 3.28
    (time,) = verdict.criteria
    assert (time.name, time.metric, time.verdict) == ("time", "train_time_s", SUPPORTED)
    assert time.test is not None
    reference = stats.ttest_ind(FAST, SLOW, equal_var=False, alternative="less")
    assert time.test.p_value == pytest.approx(reference.pvalue)
    assert time.test.statistic == pytest.approx(reference.statistic)
    slow = track_1(LOSSES, [one + 1 for one in SLOW])
    assert slow.verdict is NOT_SUPPORTED
    assert slow.reason.startswith("time: ")  # what fails comes first
    assert f"{slow.criteria[0].mean:.2f}" in slow.reason
    assert track_1(LOSSES, SLOW).verdict is NOT_SUPPORTED
    assert track_1([one + 0.01 for one in LOSSES], FAST).verdict is NOT_SUPPORTED
    assert everywhere(verdict)


def test_a_time_that_cannot_be_compared_is_a_finding_and_no_pass() -> None:
    verdict = track_1(LOSSES, FAST, control=False)
    assert verdict.verdict is SUPPORTED
    assert [one.code for one in verdict.findings] == [Code.CRITERION_NOT_TESTED]
    assert verdict.criteria[0].verdict is UNUSABLE
    assert not track_1(LOSSES, FAST).findings
    strict = replace(load("nanogpt-track-1"), findings={"criterion-not-tested": "error"})
    refused = decided(strict, named(LOSSES, "val_loss", FAST))
    assert refused.gate == "refused"


def test_a_waived_loss_must_not_be_worse_than_the_prior_records() -> None:
    above = [3.2812, 3.2799, 3.2808, 3.2806, 3.2803]
    assert track_1(above, FAST).verdict is NOT_SUPPORTED
    near = named(above, "val_loss", FAST)
    other = named([one + 0.0005 for one in above], "val_loss", SLOW, arm="control")
    rules, waived = load("nanogpt-track-1"), frozenset(["val_loss"])
    verdict = decided(rules, near, other, waived=waived)
    assert verdict.verdict is SUPPORTED
    assert {one.name: one.verdict for one in verdict.criteria} == {"time": SUPPORTED, "loss-not-worse": SUPPORTED}
    worse = decided(rules, named([one + 0.004 for one in above], "val_loss", FAST), other, waived=waived)
    assert worse.verdict is NOT_SUPPORTED
    assert decided(rules, near, waived=waived).verdict is UNUSABLE  # nothing to be not worse than
    assert "--waive val_loss" in everywhere(verdict)
    assert "waived" in dict(facts(verdict))["val_loss"]  # next to the numbers that do not decide


def test_only_what_another_criterion_replaces_can_be_waived(tmp_path: Path) -> None:
    log(tmp_path / "a.txt", {100: 3.27})
    for rules, name, may in (("nanogpt-track-1", "time", "val_loss"), ("nanogpt-track-3", "val_loss", "nothing")):
        shown = CliRunner().invoke(main, ["check", str(tmp_path), "--rules", rules, "--waive", name])
        assert shown.exit_code == 2
        assert may in shown.output


# -- the step that counts -----------------------------------------------------------------------------------------------


def log(path: Path, losses: dict[int, float], total: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    total = total or max(losses)
    lines = [f"step:{step}/{total} val_loss:{loss:.5f} train_time:{step * 100}ms" for step, loss in losses.items()]
    path.write_text("\n".join(["import torch", "print(1)", RULER, *lines]) + "\n")


def reported(*arguments: object) -> tuple[int, dict[str, object]]:
    shown = CliRunner().invoke(main, ["report", *map(str, arguments), "--format", "json"])
    return shown.exit_code, json.loads(shown.stdout) if shown.exit_code in (0, 1) else {"output": shown.output}


def trials(folder: Path, *means: float, first: int = 2000) -> Path:
    """Write four trials whose mean is `means` at each validation, 100 steps apart."""
    steps = [first + 100 * i for i in range(len(means))]
    for i, apart in enumerate((-0.0006, -0.0002, 0.0002, 0.0006)):
        log(folder / f"t{i}.txt", {step: mean + apart for step, mean in zip(steps, means, strict=True)})
    return folder


def test_the_earliest_step_at_which_all_trials_pass_is_the_claim(tmp_path: Path) -> None:
    folder = trials(tmp_path, 3.29, 3.279, 3.2775, 3.277)
    code, found = reported(folder, "--rules", "nanogpt-track-3")
    assert (code, found["at_step"], found["n"]) == (0, 2200, 4)
    assert found["mean"] == pytest.approx(3.2775)
    runs = found["runs"]
    assert isinstance(runs, list)
    assert {run["line"] for run in runs} == {6}
    code, found = reported(folder, "--rules", "nanogpt-track-3", "--at-step", 2100)
    assert (code, found["at_step"]) == (1, 2100)
    changed = found["rules_changed"]
    assert isinstance(changed, dict)
    assert changed["at_step"] == {"ruleset": "earliest", "asked": 2100}
    code, found = reported(trials(tmp_path / "never", 3.29, 3.2795), "--rules", "nanogpt-track-3")
    assert (code, found["at_step"]) == (1, 2100)


def test_a_step_belongs_to_rules_whose_result_is_a_validation(tmp_path: Path) -> None:
    folder = trials(tmp_path, 3.27)
    code, found = reported(folder, "--rules", "parameter-golf", "--sota", 1.2, "--at-step", 2000)
    assert code == 2
    assert "--at-step" in str(found["output"])
    code, found = reported(folder, "--rules", "nanogpt-track-3", "--at-step", 1999)
    assert code == 3


def test_against_a_control_steps_saved_are_worth_what_the_track_says(tmp_path: Path) -> None:
    """Pairwise: (3.2786 - 3.2780 + 300 steps of 4.5e-5) / sqrt(1/4 + 1/4) = 0.0199 with, 0.0008 without the steps."""
    prior = trials(tmp_path / "prior", 3.29, 3.281, 3.2778, first=2300)
    ours = trials(tmp_path / "ours", 3.29, 3.2785, 3.2778)
    code, found = reported(ours, "--rules", "nanogpt-track-3", "--control", prior)
    assert (code, found["at_step"]) == (
        0,
        2200,
    )  # where it passes the target, though 200 steps before it would pass here
    code, found = reported(ours, "--rules", "nanogpt-track-3", "--control", prior, "--at-step", 2200)
    assert code == 0
    test = found["test"]
    assert isinstance(test, dict)
    assert test["statistic"] * 0.0013 == pytest.approx((3.2778 - 3.2778 + 300 * 4.5e-5) / (1 / 4 + 1 / 4) ** 0.5)
    code, found = reported(prior, "--rules", "nanogpt-track-3", "--control", ours, "--at-step", 2500)
    assert code == 1


def test_what_options_change_of_a_fixed_target_or_of_whole_runs_is_said(tmp_path: Path) -> None:
    folder = trials(tmp_path / "a", 3.29, 3.2785)
    code, found = reported(folder, "--rules", "nanogpt-track-1", "--sota", 3.30)
    assert (code, found["sota"], found["sota_is"]) == (0, 3.30, "target")
    assert found["rules_changed"] == {"target": {"ruleset": 3.28, "asked": 3.3}}
    code, found = reported(folder, "--rules", "nanogpt-track-1", "--at-step", 2000)
    assert code == 2
    assert "time" in str(found["output"])


def test_a_control_that_holds_several_arms_is_named_by_one(tmp_path: Path) -> None:
    ours = trials(tmp_path / "ours", 3.29, 3.2785)
    for arm, mean in (("first", 3.279), ("second", 3.2792)):
        trials(tmp_path / "prior" / arm, 3.29, mean)
    code, found = reported(ours, "--rules", "nanogpt-track-3", "--control", tmp_path / "prior")
    assert code == 3
    assert "first" in str(found["output"])
    code, _ = reported(ours, "--rules", "nanogpt-track-3", "--control", tmp_path / "prior" / "first")
    assert code in (0, 1)


def test_runs_are_not_compared_with_themselves(tmp_path: Path) -> None:
    folder = trials(tmp_path / "a", 3.29, 3.2785)
    code, found = reported(folder, "--rules", "nanogpt-track-3", "--control", tmp_path / "b" / ".." / "a")
    assert code == 2  # b does not exist
    code, found = reported(folder, "--rules", "nanogpt-track-3", "--control", folder)
    assert code == 2
    assert "--control" in str(found["output"])


# -- other metrics ------------------------------------------------------------------------------------------------------


def test_runs_without_a_loss_are_not_taken_for_copies(tmp_path: Path) -> None:
    for i, value in enumerate((0.9401999, 0.9402001, 0.9402003)):
        (tmp_path / f"seed{i}.log").write_text(f"seed {i}\nmean accuracy: {value}\n")
    _, found = reported(tmp_path, "--rules", "nanogpt-track-1", "--metric", "mean_accuracy", "--sota", 0.93)
    assert "same-trajectory" not in [one["code"] for one in found["findings"]]


def test_metric_names_another_metric_and_its_usual_direction(tmp_path: Path) -> None:
    for i, value in enumerate((0.94, 0.941, 0.943)):
        (tmp_path / f"seed{i}.log").write_text(f"seed {i}\nstep:10/10 val_loss:3.0\nmean accuracy: {value}\n")
    code, found = reported(tmp_path, "--rules", "nanogpt-track-1", "--metric", "mean_accuracy", "--sota", 0.93)
    assert (code, found["metric"], found["direction"], found["n"]) == (0, "mean_accuracy", "higher", 3)
    assert found["mean"] == pytest.approx((0.94 + 0.941 + 0.943) / 3)
    code, found = reported(tmp_path, "--rules", "nanogpt-track-1", "--metric", "mean_accuracy", "--sota", 0.95)
    assert code == 1


GOOD = {"version": 2, "metric": "score", "test": "one-sample t", "alpha": 0.01}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "Val Loss"}, ["metric", "'Val Loss'", "lower-case"]),
        ({"direction": "up"}, ["direction", "'up'", "'lower'", "'higher'"]),
        ({"test": "mann-whitney"}, ["test", "'mann-whitney'", "'welch'", "'comparison'"]),
        ({"statistic": "mode"}, ["statistic", "'mode'", "'trimmed mean'"]),
        ({"statistic": "median"}, ["statistic", "'median'", "'comparison'"]),
        ({"against": "sota"}, ["against", "'sota'", "'standing'"]),
        ({"against": "target"}, ["against", "no target"]),
        ({"test": "welch", "against": "target", "target": 1.0}, ["'welch'", "runs"]),
        ({"alpha": None}, ["'alpha'", "missing", "'one-sample t'"]),
        ({"unit": "nats", "metric": "train_time_s"}, ["unit", "'nats'", "'s'"]),
        ({"step_value": 1e-5}, ["step_value", "'known-sigma z'"]),
        ({"at_step": 0}, ["at_step", "0", "'earliest'"]),
        ({"at_step": True}, ["at_step", "True"]),
        ({"at_step": "earliest"}, ["at_step", "'labelled line'"]),
        ({"rank_by": "Time"}, ["rank_by", "'Time'"]),
        ({"criteria": 7}, ["criteria", "7", "[[criteria]]"]),
        ({"criteria": [{"metric": "steps"}]}, ["criterion 1", "'test'", "missing"]),
        (
            {"criteria": [{"metric": "steps", "test": "comparison", "minimum_runs": 2}]},
            ["criterion 1", "'minimum_runs'"],
        ),
        ({"criteria": [{"metric": "score", "test": "comparison"}]}, ["'score'", "name of its own"]),
        ({"criteria": [{"metric": "steps", "test": "comparison", "waives": "time"}]}, ["waives", "'time'", "'score'"]),
        ({"version": 1, "unit": "nats", "margin": 0.0}, ["metric", "'score'", "version = 2"]),
        (
            {"version": 1, "metric": "val_loss", "unit": "nats", "margin": 0.0, "test": "welch"},
            ["'welch'", "version = 2"],
        ),
        (
            {
                "version": 1,
                "metric": "val_loss",
                "unit": "nats",
                "margin": 0.0,
                "at_step": 3,
                "final": "last validation",
            },
            ["'at_step'", "version = 2"],
        ),
        ({"version": 1, "metric": "val_loss", "unit": "nats", "margin": -0.1}, ["margin", "0 or more"]),
    ],
)
def test_a_wrong_key_is_said_with_file_key_and_what_is_allowed(change: dict[str, object], words: list[str]) -> None:
    with pytest.raises(RulesError) as error:
        from_table("wrong", GOOD | change, "wrong.toml")
    for word in itertools.chain(["wrong.toml"], words):
        assert word in str(error.value)
