"""What pairs are worth, and `plan` with a control: exact numbers, brute force, and designs that follow from them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from click.testing import CliRunner
from numpy.typing import NDArray

import orchestration.sweep
from analysis.report.said.advice import commands, recommendation, recommended
from analysis.significance import main
from analysis.stats import sequential
from analysis.stats.fixed import StatisticsError, power_against
from analysis.stats.power import MOST_SEEDS, Arms, Normal, Question, Row, designs, seeds_needed
from analysis.stats.recursion import Design
from analysis.stats.two_arms import power_of_pairs, power_unpaired, share_of, simulated
from tests.analysis.test_planning import asked, call, plan

GOLF = ("--sd", "0.00073", "--gain", "0.002")
DELTA = 0.002 / 0.00073
BOTH_WAYS = (Arms.PAIRS, Arms.UNPAIRED)
Pairs = Callable[[int, float], tuple[NDArray[np.float64], NDArray[np.float64]]]

# share, and at 1 % and five pairs: chance in pairs at 2 sd, the unpaired test's, and its level. Simulated: see below.
KNOWN = [(0.0, 0.43, 0.57, 0.0083), (0.5, 0.73, 0.61, 0.0018), (0.8, 0.98, 0.65, 0.0003)]


@pytest.mark.parametrize(("share", "paired", "unpaired", "level"), KNOWN)
def test_what_pairs_are_worth(share: float, paired: float, unpaired: float, level: float) -> None:
    assert power_of_pairs(5, 0.01, 2, share) == pytest.approx(paired, abs=0.006)
    mu = 2 * math.sqrt(5) / math.sqrt(2 * (1 - share))
    assert power_of_pairs(5, 0.01, 2, share) == pytest.approx(scipy.stats.nct.sf(scipy.stats.t.isf(0.01, 4), 4, mu))
    assert power_of_pairs(5, 0.01, 0, share) == pytest.approx(0.01)
    assert power_unpaired(5, 0.01, 2, share) == pytest.approx(unpaired, abs=0.006)
    assert power_unpaired(5, 0.01, 0, share) == pytest.approx(level, abs=0.0002)


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.01), (3, 1e-5), (3, 0.001), (5, 1e-6), (10, 0.01)])
def test_a_large_gain_of_pairs_is_not_called_sure(n: int, alpha: float) -> None:
    """Pairs that share much need no large gain, and a strict level of few pairs asks for a large t."""
    critical, scale = scipy.stats.t.isf(alpha, n - 1), math.sqrt(n) / math.sqrt(2 * (1 - 0.99))
    for delta in (3.0, 4.0, 6.0):
        passes, _ = scipy.integrate.quad(
            lambda s, mu=delta * scale: scipy.stats.norm.cdf(mu - critical * s) * scipy.stats.chi.pdf(s * math.sqrt(n - 1), n - 1),
            0, math.inf,
        )  # fmt: skip
        assert power_of_pairs(n, alpha, delta, 0.99) == pytest.approx(passes * math.sqrt(n - 1), abs=1e-6)


def test_a_look_at_as_many_runs_as_the_control_is_the_pooled_test_alone() -> None:
    design = Design(looks=(3,), control=3)
    criticals = tuple(sequential.boundary(design, 0.01, "flat"))
    pooled = scipy.stats.nct.sf(criticals[0], 4, 3 / math.sqrt(2 / 3))
    assert simulated(design, criticals).power(3) == pytest.approx(pooled, abs=0.006)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_pairs_that_share_nothing_are_two_samples(n: int) -> None:
    for delta in (0.0, 2.0):
        assert power_unpaired(n, 0.01, delta, 0) == pytest.approx(power_against(n, n, 0.01, delta), rel=3e-3)


@pytest.fixture
def pairs() -> Pairs:
    rng = np.random.default_rng(1)

    def draw(n: int, share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        own = math.sqrt(1 - share) * rng.standard_normal((2, 200_000, n))
        both = own + math.sqrt(share) * rng.standard_normal((200_000, n))
        return both[0], both[1]

    return draw


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_simulated_pairs_pass_as_often_as_computed(share: float, n: int, pairs: Pairs) -> None:
    x, y = pairs(n, share)
    for delta in (0, 2):
        options: dict[str, Any] = {"axis": 1, "alternative": "less"}
        paired = np.mean(scipy.stats.ttest_rel(x, y + delta, **options).pvalue < 0.01)
        unpaired = np.mean(scipy.stats.ttest_ind(x, y + delta, equal_var=False, **options).pvalue < 0.01)
        for found, stated in (
            (paired, power_of_pairs(n, 0.01, delta, share)),
            (unpaired, power_unpaired(n, 0.01, delta, share)),
        ):
            assert found == pytest.approx(stated, abs=3.3 * math.sqrt(stated * (1 - stated) / 200_000))


@pytest.mark.slow
def test_the_limit_of_a_share_holds_as_often_as_it_says(pairs: Pairs) -> None:
    x, y = pairs(4, 0.5)
    below = [share_of([*a], [*b], 0.8).low <= 0.5 for a, b in zip(x[:5000], y[:5000], strict=True)]
    assert np.mean(below) == pytest.approx(0.8, abs=0.018)


def test_the_share_of_a_pilot() -> None:
    x, y = [1.0, 2, 4, 3], [2.1, 2.9, 5.2, 4.3]
    found = share_of(x, y, 0.8)
    between, within = np.var(np.add(x, y), ddof=1) / 2, np.var(np.subtract(x, y), ddof=1) / 2
    assert found.found == pytest.approx((between - within) / (between + within))
    ratio = between / within / scipy.stats.f.ppf(0.8, 3, 3)
    assert found.low == pytest.approx((ratio - 1) / (ratio + 1))
    assert found.pairs == 4
    with pytest.raises(StatisticsError):
        share_of([1.0, 2, 3], [1.0, 2, 3], 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 6])
def test_simulated_looks_against_runs_that_exist(k: int) -> None:
    design = Design((3, 4, 5, 6), control=k)
    criticals = sequential.boundary(design, 0.01)
    found, sweeps = simulated(design, criticals), 20_000
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((sweeps, 6)), rng.standard_normal((sweeps, k))
    for delta in (0, 3):
        seeds, passed = np.full(sweeps, 6), np.zeros(sweeps, dtype=bool)
        for n, critical in zip(design.looks, criticals, strict=True):
            nominal = scipy.stats.t.sf(critical, n + k - 2)
            ps = [
                scipy.stats.ttest_ind(x[:, :n], y + delta, axis=1, equal_var=equal, alternative="less").pvalue
                for equal in ((True,) if n == k else (True, False))
            ]
            now = np.max(ps, axis=0) < nominal
            seeds[now & ~passed] = n
            passed |= now
        assert found.power(delta) == pytest.approx(passed.mean(), abs=4 * math.sqrt(0.25 / sweeps) if delta else 0.003)
        assert found.expected_seeds(delta) == pytest.approx(seeds.mean(), abs=0.05)
    assert found.power(0) <= 0.011
    assert found.power(3) < sequential.power(design, criticals, 3)


# -- the designs ---------------------------------------------------------------------------------------------------------


def rows_of(table: dict[str, Any], arms: str) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the rows of a JSON by their numbers of looks and of seeds."""
    return {(len(row["looks"]), row["at_most"]): row for row in table["designs"] if row["arms"] == arms}


def test_a_control_that_is_rerun_is_planned_in_pairs_and_unpaired_and_both_arms_are_paid() -> None:
    table = plan(*GOLF, "--control", "--gpus", "1", "--minutes", "60")
    paired, unpaired = rows_of(table, "pairs"), rows_of(table, "unpaired")
    assert set(paired) == set(unpaired) == {*((1, n) for n in range(3, 11)), (8, 10)}
    assert unpaired[1, 6]["power"] == pytest.approx(0.95, abs=0.001)
    for n in range(3, 11):
        assert unpaired[1, n]["power"] == pytest.approx(power_against(n, n, 0.01, DELTA), rel=1e-9)
        assert paired[1, n]["power"] == pytest.approx(power_of_pairs(n, 0.01, DELTA, 0), rel=1e-9)
        assert paired[1, n]["gpu_hours_at_most"] == unpaired[1, n]["gpu_hours_at_most"] == 2 * n
        assert paired[1, n]["control_seeds"] == unpaired[1, n]["control_seeds"] == n
    for rows, design, delta in (
        (paired, Design(tuple(range(3, 11))), DELTA / math.sqrt(2)),
        (unpaired, Design(tuple(range(3, 11)), in_step=True), DELTA),
    ):
        row, criticals = rows[8, 10], sequential.boundary(design, 0.01)
        assert row["critical_t"] == pytest.approx(list(criticals))
        assert row["power"] == pytest.approx(sequential.power(design, criticals, delta))
        seeds = sequential.expected_seeds(design, criticals, delta)
        assert row["gpu_hours_expected"] == pytest.approx(2 * seeds)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_pairs_from_share_is_where_both_ways_pass_equally_often(n: int) -> None:
    rows = {
        row.at_most: row for row in designs(asked(rerun=BOTH_WAYS)) if row.arms is Arms.PAIRS and len(row.looks) == 1
    }
    share = rows[n].pairs_from_share
    assert share is not None
    assert power_of_pairs(n, 0.01, 2, share) == pytest.approx(power_against(n, n, 0.01, 2), abs=1e-6)
    assert n != 5 or share == pytest.approx(0.2917, abs=0.0005)


def test_three_control_runs_never_reach_what_six_against_six_do() -> None:
    table = plan(*GOLF, "--control-seeds", "3", "--gpus", "1", "--minutes", "60")
    existing = rows_of(table, "existing control")
    assert existing[1, 3]["power"] == pytest.approx(power_against(3, 3, 0.01, DELTA), rel=1e-9)
    assert existing[1, 10]["gpu_hours_at_most"] == 10  # those that exist cost nothing
    assert max(row["power"] for row in existing.values()) < 0.58
    assert [*rows_of(table, "unpaired")] == [(1, 6), (8, 10)]
    assert "more control seeds: 6 against 6 have 0.95" in table["recommendation"]
    assert "larger gain" not in table["recommendation"]


def test_a_larger_gain_is_named_only_where_no_number_of_seeds_helps() -> None:
    few = plan(*GOLF, "--control-seeds", "3", "--max-seeds", "5")
    assert "6 against 6" in few["recommendation"]
    assert "larger gain" not in few["recommendation"]
    assert few["commands"] == []
    hopeless = plan("--sd", "0.00073", "--gain", "0.00002", "--control")
    assert f"not even {MOST_SEEDS} seeds" in hopeless["recommendation"]
    assert "larger gain" in hopeless["recommendation"]


@pytest.mark.parametrize(("control", "delta", "wanted"), [(3, 2.74, 0.57), (3, 2.74, 0.58), (5, 2, 0.55), (20, 1, 0.6)])
def test_the_search_finds_the_first_of_all_numbers_of_seeds(control: int, delta: float, wanted: float) -> None:
    numbers = [*range(3, 40), 60, 100, 200, MOST_SEEDS]
    enough = [n for n in numbers if power_against(n, control, 0.01, delta) >= wanted]
    found = seeds_needed(asked(gain=delta * 0.001, control_seeds=control, power=wanted), Arms.EXISTING)
    assert found == (enough[0] if enough else None)


def test_a_search_goes_to_the_bound_that_is_stated() -> None:
    question = asked(gain=0.0003, control_seeds=400, rerun=BOTH_WAYS)
    assert power_against(232, 400, 0.01, 0.3) >= 0.9 > power_against(231, 400, 0.01, 0.3)
    assert seeds_needed(question, Arms.EXISTING) == 232


# -- the decision --------------------------------------------------------------------------------------------------------


def best_of(**changes: Any) -> Row:
    question = asked(**{"gain": 0.00274, "rerun": BOTH_WAYS, "max_seeds": 7} | changes)
    best = recommended(question, designs(question))
    assert best is not None
    return best


def test_pairs_are_planned_unless_they_are_known_to_share_too_little() -> None:
    assert best_of().arms is Arms.PAIRS
    assert best_of(share=0.1).arms is Arms.UNPAIRED
    assert best_of(share=0.6).arms is Arms.PAIRS
    assert best_of(share=0.1, share_shown=0.6).arms is Arms.PAIRS
    assert best_of(max_seeds=6).arms is Arms.UNPAIRED  # six pairs that may share nothing have 0.86


def test_what_three_pairs_cost_is_said_where_the_share_is_unknown() -> None:
    known, unknown = (asked(gain=0.002, rerun=BOTH_WAYS, share=share) for share in (0.6, None))
    said = recommendation(unknown, designs(unknown))
    assert (
        f"3 pairs that share nothing have {power_of_pairs(3, 0.01, unknown.delta, 0):.2f}, 3 against 3 {power_against(3, 3, 0.01, unknown.delta):.2f}."
        in said
    )
    assert "that share nothing" not in recommendation(known, designs(known))


def test_a_pilot_of_both_arms_tells_the_share(sweep: Callable[..., Path]) -> None:
    ours, theirs = [1.20, 1.21, 1.19, 1.23], [1.221, 1.229, 1.212, 1.249]
    folder = sweep(dict(enumerate(ours, 1)), sota=None, control=dict(enumerate(theirs, 1)))
    table = plan("--pilot", folder, "--gain", "0.02", "--control")
    assert table["share"] == pytest.approx(share_of(ours, theirs, 0.8).low, rel=1e-6)
    assert "4 pairs" in table["share_is"]
    assert table["spread"]["df"] == 3
    given = plan("--pilot", folder, "--gain", "0.02", "--control", "--share", "0.25")
    assert given["share"] == 0.25


def test_a_pilot_of_one_arm_tells_no_share(record: Callable[..., Path]) -> None:
    table = plan("--pilot", record({1: 1.201, 2: 1.199, 3: 1.2032}), "--gain", "0.004", "--control")
    assert table["share"] is None
    assert "no pairs" in table["share_is"]


# -- targets, known spreads, other tests -----------------------------------------------------------------------------------


def test_a_target_is_planned_against() -> None:
    table = plan("--sd", "0.0013", "--gain", "0.003", "--rules", "nanogpt-track-1")
    assert table["target"] == 3.28
    assert not any("SOTA" in line for line in table["assumes"])
    assert any("train_time_s" in line for line in table["assumes"])
    assert "--sota" not in table["commands"][0]
    assert "the target 3.28" in call("--sd", "0.0013", "--gain", "0.003", "--rules", "nanogpt-track-1").output


@pytest.mark.parametrize("sd", [None, 0.0025])
def test_a_known_spread_is_planned_with_a_z_test(sd: float | None) -> None:
    table = plan("--gain", "0.002", "--rules", "nanogpt-track-3", *([] if sd is None else ["--sd", str(sd)]))
    assert [row["at_most"] for row in table["designs"] if row["at_most"] <= 10] == [*range(1, 11)]
    assert all(len(row["looks"]) == 1 for row in table["designs"])
    for row in table["designs"]:
        n = row["at_most"]
        mean = scipy.stats.norm(0.002, (sd or 0.0013) / math.sqrt(n))
        assert row["power"] == pytest.approx(mean.sf(0.004 / math.sqrt(n)))
        found = scipy.stats.norm(row["detectable_gain"], (sd or 0.0013) / math.sqrt(n)).sf(0.004 / math.sqrt(n))
        assert found == pytest.approx(0.9, abs=1e-4)


def test_a_known_spread_against_control_runs() -> None:
    known = Normal(sigma=0.001, critical=3.0)
    rows = designs(
        asked(gain=0.005, known=known, control_seeds=4, rerun=(Arms.UNPAIRED,), may_look=False, first_look=1)
    )
    row = next(row for row in rows if row.arms is Arms.EXISTING and row.at_most == 2)
    assert row.power == pytest.approx(scipy.stats.norm.sf(3 - 5 / math.sqrt(1 / 2 + 1 / 4)))


def test_rules_that_compare_with_runs_are_planned_with_a_control() -> None:
    table = plan("--sd", "0.001", "--gain", "0.001", "--rules", "parameter-golf-frontier")
    assert {row["arms"] for row in table["designs"]} == {"unpaired"}  # its test is Welch's
    assert all(len(row["looks"]) == 1 for row in table["designs"])
    existing = plan("--sd", "0.001", "--gain", "0.001", "--rules", "parameter-golf-frontier", "--control-seeds", "3")
    row = rows_of(existing, "existing control")[1, 10]
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((100_000, 10)), rng.standard_normal((100_000, 3)) + 1
    passed = np.mean(scipy.stats.ttest_ind(x, y, axis=1, equal_var=False, alternative="less").pvalue < 0.25)
    assert row["power"] == pytest.approx(passed, abs=0.005)


def test_the_pooled_test_is_planned_exactly() -> None:
    question = asked(rerun=(Arms.UNPAIRED,), control_seeds=3, against_runs="pooled", may_look=False)
    row = next(row for row in designs(question) if row.arms is Arms.EXISTING and row.at_most == 8)
    mu = 2 / math.sqrt(1 / 8 + 1 / 3)
    assert row.power == pytest.approx(scipy.stats.nct.sf(scipy.stats.t.isf(0.01, 9), 9, mu))


# -- the commands --------------------------------------------------------------------------------------------------------

FILLED = {
    "SCRIPT": "train.py",
    "RECIPE": "mine.toml",
    "CONTROL": "theirs.toml",
    "SOTA": "1.2244",
    "SWEEP": "sweeps/mine",
}


def parsed(line: str) -> dict[str, Any]:
    """Return the options that `sweep run` reads from a command line, its placeholders filled."""
    words = [FILLED.get(word, word) for word in shlex.split(line)]
    run = orchestration.sweep.main.commands["run"]  # type: ignore[attr-defined]
    return run.make_context("run", words[words.index("run") + 1 :]).params


def command_of(question: Question) -> dict[str, Any]:
    return parsed(commands(question, designs(question))[0])


def test_the_command_carries_what_plan_was_asked() -> None:
    rules = ("--rules", "nanogpt-track-1", "--alpha", "0.02", "--boundary", "pocock", "--gpus", "4")
    found = parsed(plan("--sd", "0.0013", "--gain", "0.003", *rules)["commands"][0])
    wanted = {
        "rules": "nanogpt-track-1",
        "alpha": 0.02,
        "boundary": "pocock",
        "gpus_per_run": 4,
        "design": "sequential",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["max_seeds"] == 10
    assert found["sota"] is None


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"gain": 0.00274}, {"design": "fixed", "seeds": "5", "sota": 1.2244, "control": None}),
        ({"gain": 0.0017}, {"design": "sequential", "max_seeds": 10, "seeds": None}),
        ({"gain": 0.00274, "rerun": BOTH_WAYS}, {"control": Path("theirs.toml"), "sota": None}),
        ({"gain": 0.004, "control_seeds": 6, "rerun": BOTH_WAYS}, {"control": None, "sota": 1.2244, "design": "fixed"}),
    ],
)
def test_the_command_is_one_that_sweep_run_reads(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = command_of(asked(**changes))
    assert {name: found[name] for name in wanted} == wanted
    assert found["gpus_per_run"] == 8


def test_independent_runs_are_asked_for() -> None:
    question = asked(gain=0.00274, rerun=BOTH_WAYS, share=0.0)
    line = commands(question, designs(question))[0]
    assert "--unpaired" in shlex.split(line)
    found = parsed(line)
    assert found["unpaired"] is True


def test_runs_that_exist_are_compared_by_check(sweep: Callable[..., Path], record: Callable[..., Path]) -> None:
    question = asked(gain=0.004, control_seeds=6, rerun=BOTH_WAYS)
    _, then = commands(question, designs(question))
    ours, theirs = {1: 1.2, 2: 1.201, 3: 1.1995}, {1: 1.22, 2: 1.2206, 3: 1.219, 4: 1.2212}
    named = {"SWEEP": sweep(ours, sota=1.22), "CONTROL_RUNS": record(theirs, name="theirs"), "SOTA": 1.22}
    words = [str(named.get(word, word)) for word in shlex.split(then)]
    found = CliRunner().invoke(main, [*words[words.index("check") :], "--format", "json"])
    welch, pooled = (
        scipy.stats.ttest_ind(
            [*ours.values()], [one - 0.005 for one in theirs.values()], equal_var=equal, alternative="less"
        )
        for equal in (False, True)
    )
    verdict = json.loads(found.stdout)
    (control,) = verdict["criteria"]
    assert control["test"]["p_value"] == pytest.approx(max(welch.pvalue, pooled.pvalue), rel=1e-4)
    one_sample = scipy.stats.ttest_1samp([*ours.values()], 1.215, alternative="less")
    assert verdict["test"]["p_value"] == pytest.approx(one_sample.pvalue, rel=1e-4)
    assert verdict["plan"]["exact"]  # whoever follows the advice is not warned
