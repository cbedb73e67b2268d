"""`plan`: rows that are the functions' numbers, a recommendation that follows from them, clear refusals."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from click.testing import CliRunner, Result

from analysis.report.said.advice import recommendation
from analysis.significance import main
from analysis.stats import sequential
from analysis.stats.power import Question, designs, seeds_needed
from analysis.stats.recursion import Design
from analysis.stats.spread import Spread

Run = Callable[..., subprocess.CompletedProcess[str]]
ARGUMENTS = ("--sd", "0.00073", "--gain", "0.002")


def call(*arguments: str | Path) -> Result:
    """`plan` in this process: a new one takes a second to start."""
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def plan(*arguments: str | Path) -> dict[str, Any]:
    found = call(*arguments, "--format", "json")
    assert found.exit_code == 0, found.output
    table: dict[str, Any] = json.loads(found.stdout)
    return table


def asked(**changes: Any) -> Question:
    table: dict[str, Any] = {
        "rules": "parameter-golf",
        "metric": "val_bpb",
        "alpha": 0.01,
        "gain": 0.002,
        "spread": Spread(0.001, math.inf),
        "spread_is": "given",
        "power": 0.9,
        "first_look": 3,
        "max_seeds": 10,
        "boundary": "flat",
        "gpus": 8,
        "minutes": 10.0,
        "gpu_hour": None,
    }
    return Question(**(table | changes))


def test_the_rows_are_the_functions_numbers() -> None:
    table = plan(*ARGUMENTS, "--price", "2.5")
    delta = 0.002 / 0.00073
    assert table["delta"] == pytest.approx(delta)
    rows = {(row["design"], row["at_most"]): row for row in table["designs"]}
    for n in range(3, 11):
        row = rows["fixed", n]
        critical = scipy.stats.t.ppf(0.99, n - 1)
        assert row["power"] == pytest.approx(scipy.stats.nct.sf(critical, n - 1, delta * math.sqrt(n)), rel=1e-8)
        assert row["expected_seeds"] == n
        assert row["critical_t"] == [pytest.approx(critical)]
        assert row["cost_at_most"] == pytest.approx(n * 8 * 10 / 60 * 2.5)
        found = scipy.stats.nct.sf(critical, n - 1, row["detectable_gain"] / 0.00073 * math.sqrt(n))
        assert found == pytest.approx(0.9, abs=1e-5)
    design = Design(tuple(range(3, 11)))
    criticals = sequential.boundary(design, 0.01)
    row = rows["sequential, flat", 10]
    assert row["critical_t"] == pytest.approx(list(criticals))
    assert row["power"] == pytest.approx(sequential.power(design, criticals, delta), rel=1e-9)
    assert row["expected_seeds"] == pytest.approx(sequential.expected_seeds(design, criticals, delta), rel=1e-9)
    assert row["cost_expected"] == pytest.approx(row["expected_seeds"] * 8 * 10 / 60 * 2.5)


@pytest.mark.parametrize(("delta", "seeds"), [(2.0, 6.19), (3.0, 4.84), (5.0, 3.92)])
def test_expected_seeds_of_the_default_design(delta: float, seeds: float) -> None:
    row = next(row for row in designs(asked(gain=delta * 0.001)) if len(row.looks) > 1)
    assert row.expected_seeds == pytest.approx(seeds, abs=0.005)


@pytest.mark.parametrize(("delta", "power", "n"), [(0.5, 0.8, 43), (1.0, 0.9, 16), (3.0, 0.8, 4), (5.0, 0.95, 4)])
def test_seeds_needed(delta: float, power: float, n: int) -> None:
    assert seeds_needed(asked(gain=delta * 0.001, power=power)) == n


def test_the_number_needed_is_shown_where_it_is_more_than_can_be_paid() -> None:
    question = asked(gain=0.0005, power=0.8)
    rows = designs(question)
    assert [row.at_most for row in rows if len(row.looks) == 1] == [*range(3, 11), 43]
    said = recommendation(question, rows)
    assert said.startswith("No design of at most 10 seeds passes with a chance of 0.8")
    assert "a fixed test needs 43 seeds" in said
    hopeless = asked(gain=0.00001)
    assert "not even 500 seeds" in recommendation(hopeless, designs(hopeless))


def test_the_cheapest_design_with_the_wanted_chance_is_recommended() -> None:
    near = asked(gain=0.00274)
    assert recommendation(near, designs(near)).startswith(
        "Plan a fixed test of 5 seeds: it passes with a chance of 0.94"
    )
    small = asked(gain=0.0017, gpu_hour=3.0)
    said = recommendation(small, designs(small))
    assert said.startswith("Plan a look after each of seeds 3 to 10 (flat boundary): it passes with a chance of 0.9")
    assert "(40.00) at most" in said
    assert "a fixed test needs 8 seeds (32.00)" in said


@pytest.mark.parametrize("boundary", sequential.BOUNDARIES)
def test_every_boundary(boundary: str) -> None:
    row = plan(*ARGUMENTS, "--boundary", boundary, "--max-seeds", "6")["designs"][-1]
    design = Design((3, 4, 5, 6))
    assert row["critical_t"] == pytest.approx(list(sequential.boundary(design, 0.01, boundary)))


def test_the_spread_of_pilot_runs_is_their_upper_limit(record: Callable[..., Path]) -> None:
    folder = record({1337: 1.20143417, 1338: 1.19945102, 1339: 1.20319508})
    table = plan("--pilot", folder, "--gain", "0.002")
    assert table["spread"]["sd"] == pytest.approx(0.0018731289880037877 * math.sqrt(2 / scipy.stats.chi2.ppf(0.2, 2)))
    assert "the upper 80% limit of 3 pilot runs" in table["spread_is"]
    found = call("--pilot", folder / "train_gpt.py", "--gain", "0.002")
    assert found.exit_code == 3
    assert "Cannot tell" in found.output


def test_the_spread_of_a_history_is_pooled(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("record,n,mean,sd\na,3,1.2,0.001\nb,3,1.21,0.0012\nc,5,1.19,0.0009\nd,1,1.18,\n")
    table = plan("--history", path, "--gain", "0.002")
    assert table["spread"]["df"] == 8
    assert table["spread"]["sd"] == pytest.approx(math.sqrt((2 * 0.001**2 + 2 * 0.0012**2 + 4 * 0.0009**2) / 8))
    assisted = [row for row in table["designs"] if row["is_reading"]]
    assert [row["design"] for row in assisted] == ["fixed, history-assisted", "sequential, flat, history-assisted"]
    assert "history" not in table["recommendation"]
    assert any(line.startswith("History-assisted") for line in table["assumes"])


def test_the_table_for_people(command: Run) -> None:
    found = command("analysis.significance", "plan", *ARGUMENTS, "--price", "2.5")
    assert found.returncode == 0
    assert "0.002 val_bpb, 2.740 sd" in found.stdout
    assert "8 GPUs x 10 min = 1.333 GPU hours, 3.33 at 2.5 a GPU hour" in found.stdout
    assert "Plan a fixed test of 5 seeds" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gain", "0.002"), ["--sd", "--pilot", "--history"]),
        (("--gain", "0.002", "--sd", "0.1", "--history", __file__), ["Give one of"]),
        (("--sd", "0.1"), ["--gain"]),
        (("--gain", "0", "--sd", "0.1"), ["--gain is 0", "above 0"]),
        (("--gain", "nan", "--sd", "0.1"), ["--gain is nan"]),
        (("--gain", "1", "--sd", "-1"), ["--sd is -1"]),
        (("--gain", "inf", "--sd", "1"), ["--gain is inf", "finite"]),
        (("--gain", "1", "--sd", "1e-6"), ["--gain 1", "Is the unit right?"]),
        ((*ARGUMENTS, "--power", "1"), ["--power is 1"]),
        ((*ARGUMENTS, "--power", "0.001"), ["--alpha (0.01)"]),
        ((*ARGUMENTS, "--alpha", "0.7"), ["--alpha is 0.7"]),
        ((*ARGUMENTS, "--alpha", "1e-17"), ["--alpha is 1e-17"]),
        ((*ARGUMENTS, "--control-seeds", "1"), ["--control-seeds is 1"]),
        ((*ARGUMENTS, "--minutes", "0"), ["--minutes is 0"]),
        ((*ARGUMENTS, "--price", "-3"), ["--price is -3"]),
        ((*ARGUMENTS, "--max-seeds", "1"), ["--max-seeds"]),
        ((*ARGUMENTS, "--max-seeds", "2"), ["--max-seeds is 2", "3 runs"]),
        ((*ARGUMENTS, "--boundary", "haybittle"), ["flat", "obrien-fleming"]),
        ((*ARGUMENTS, "--rules", "nanochat"), ["nanochat", "no test to plan"]),
        ((*ARGUMENTS, "--rules", "parameter-golf-non-record"), ["no test"]),
        ((*ARGUMENTS, "--rules", "nanogpt-track-3", "--alpha", "0.01"), ["--alpha", "critical value"]),
        ((*ARGUMENTS, "--rules", "nanogpt-track-1", "--control"), ["--control", "its own target, 3.28"]),
        ((*ARGUMENTS, "--rules", "nanogpt-track-1", "--control-seeds", "3"), ["--control-seeds", "its own target"]),
        ((*ARGUMENTS, "--share", "0.5"), ["--share", "no pairs", "--control"]),
        ((*ARGUMENTS, "--rules", "parameter-golf-frontier", "--share", "0.5"), ["no pairs", "welch"]),
        ((*ARGUMENTS, "--control", "--share", "1"), ["--share is 1", "less than 1"]),
        ((*ARGUMENTS, "--control", "--share", "-0.1"), ["--share is -0.1"]),
        ((*ARGUMENTS, "--control-seeds", "0"), ["--control-seeds is 0"]),
        ((*ARGUMENTS, "--control-seeds", "1001"), ["1001"]),
        (("--gain", "1", "--sd", "0"), ["--sd is 0"]),
        ((*ARGUMENTS, "--rules", "nope"), ["'nope'"]),
        (("--gain", "0.002", "--history", __file__), ["--history", "columns n and sd"]),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], words: list[str]) -> None:
    found = call(*arguments)
    assert found.exit_code == 2
    for word in words:
        assert word in found.output


def test_the_advice_counts_what_the_design_counts() -> None:
    assert "Plan a fixed test of 1 seed:" in call("--gain", "0.01", "--rules", "nanogpt-track-3").stdout
    assert "10 pairs at most" in call("--sd", "0.001", "--gain", "0.01", "--control").stdout
    assert (
        "Against 1 control run," in call("--gain", "0.004", "--rules", "nanogpt-track-3", "--control-seeds", "1").stdout
    )


def test_an_advice_to_pay_for_more_seeds_names_the_option() -> None:
    shown = call("--sd", "0.0014", "--gain", "0.004", "--max-seeds", "3").stdout
    assert "Pay for more seeds (--max-seeds 5)." in shown
    assert "--max-seeds" not in call("--gain", "0.001", "--rules", "nanogpt-track-3").stdout  # 33 are too many looks


def test_a_row_is_never_cut_at_80_columns(tmp_path: Path) -> None:
    history = tmp_path / "history.json"
    history.write_text(json.dumps([{"n": 3, "mean": 1.2, "sd": sd} for sd in (0.001, 0.0015, 0.002)]))
    shown = call("--history", history, "--gain", "0.004").stdout
    assert "sequential, flat, history " in shown
    assert "..." not in shown


def test_the_other_way_is_of_any_kind() -> None:
    shown = call("--sd", "0.00445", "--gain", "0.01", "--control", "--share", "0").stdout
    assert "In pairs, a fixed test of 9 pairs" in shown  # though looks after unpaired runs are planned
