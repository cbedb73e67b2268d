"""What holds for every verdict, whatever its design."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence.options import Options
from analysis.report.said import statements
from analysis.rules.ruleset import load
from analysis.verdict.judge import judge
from tests.analysis.verdicts import METRICS, SEEDS, decided, p_of, runs
from tests.conftest import RATIO, make_log

Folder = Callable[..., Path]
RULES = load("parameter-golf")


@given(METRICS, st.randoms(use_true_random=False))
def test_the_order_of_runs_never_matters_in_a_fixed_test(values: list[float], shuffle: random.Random) -> None:
    mixed = shuffle.sample(values, len(values))
    for sota, control in ((1.21, []), (None, runs(1.22, 1.23, 1.215, arm="control"))):
        one, other = (decided(RULES, runs(*these), sota, control) for these in (values, mixed))
        assert p_of(one) == pytest.approx(p_of(other), rel=1e-9)
        assert one.verdict == other.verdict


@given(METRICS, st.floats(1e-4, 0.05))
def test_a_better_mean_at_the_same_spread_never_hurts(values: list[float], gain: float) -> None:
    for control in ([], runs(1.22, 1.23, 1.215, arm="control")):
        sota = None if control else 1.21
        before = decided(RULES, runs(*values), sota, control)
        after = decided(RULES, runs(*(value - gain for value in values)), sota, control)
        assert p_of(after) <= p_of(before) * (1 + 1e-6)
        assert not (before.verdict == "supported" and after.verdict != "supported")


@given(METRICS, st.floats(0, 0.01), st.floats(1e-5, 0.01))
def test_a_larger_margin_never_helps(values: list[float], margin: float, more: float) -> None:
    for sota, control in ((1.21, []), (None, runs(1.22, 1.23, 1.215, arm="control"))):
        small, large = (
            decided(replace(RULES, margin=m), runs(*values), sota, control) for m in (margin, margin + more)
        )
        assert p_of(small) <= p_of(large) * (1 + 1e-9)


@given(METRICS, st.floats(1e-4, 0.01))
def test_a_margin_goes_to_the_other_unit_and_back(values: list[float], margin: float) -> None:
    in_bpb = decided(replace(RULES, margin=margin), runs(*values), 1.21, [])
    in_nats = decided(replace(RULES, margin=margin / RATIO, unit="nats"), runs(*values), 1.21, [])
    assert p_of(in_bpb) == pytest.approx(p_of(in_nats), rel=1e-6)
    assert in_bpb.threshold == pytest.approx(in_nats.threshold, rel=1e-12)


def test_against_more_control_runs_both_tests_must_pass() -> None:
    control = runs(1.3, 1.301, 1.2995, arm="control")
    many = runs(*(1.29 + i / 1e4 for i in range(10)))
    verdict = decided(RULES, many, None, control)
    both = {
        also.test.name: also.test.p_value
        for also in verdict.also
        if also.unit == "bpb" and " against 3" in also.reading
    }
    assert verdict.test is not None
    assert verdict.test.p_value == max(both.values())


def test_known_sigma_against_control_runs_is_the_tracks_pairwise_form() -> None:
    rules = load("nanogpt-track-3")
    control = runs(*(3.2793 * RATIO for _ in range(16)), arm="control")  # so that 3.2793 is their val_loss
    for gain, expected in ((0.0016, "not_supported"), (0.0017, "supported")):
        mine = runs(*((3.2793 - gain) * RATIO for _ in range(10)))
        verdict = decided(rules, mine, None, control)
        assert verdict.verdict == expected
        assert f"(it is {gain / math.sqrt(1 / 10 + 1 / 16):.6g})" in verdict.reason


def test_a_bare_sota_says_what_rerunning_it_would_change() -> None:
    verdict = decided(RULES, runs(*SEEDS.values()), 1.21613611, [])
    assert verdict.rerun_at_least == pytest.approx(1.212090676, abs=1e-8)
    assert "1.2121" in " ".join(statements.assumptions(verdict))
    for shift, expected in ((1e-7, "supported"), (-1e-7, "not_supported")):
        centre = verdict.rerun_at_least + shift - math.fsum(SEEDS.values()) / 3
        rerun = runs(*(value + centre for value in SEEDS.values()), arm="control")
        assert decided(RULES, runs(*SEEDS.values()), None, rerun).verdict == expected


def test_a_sweep_needs_its_script_and_one_run_a_log(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    (folder / "script.py").write_text("other")
    train_log = folder / "candidate" / "seed-2" / "attempt-1" / "train.log"
    train_log.write_text(make_log(2, 1.3) + make_log(2, 1.201))
    found = {finding.code: finding.severity for finding in judge((folder,)).findings}
    assert found == {"missing-file": "error", "several-runs-in-log": "warning"}


@pytest.mark.parametrize(("apart", "severity"), [(1e-6, "error"), (1e-5, "warning"), (5e-4, None)])
def test_a_spread_that_no_training_has_is_an_error(
    record: Callable[..., Path], apart: float, severity: str | None
) -> None:
    folder = record({1: 1.2, 2: 1.2 + apart, 3: 1.2 + 2 * apart})
    found = [one.severity for one in judge((folder,), Options(sota=1.3)).findings if one.code == "spread-too-small"]
    assert found == ([] if severity is None else [severity])
