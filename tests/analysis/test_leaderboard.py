"""Record folders in the order of their dates, each against the one that stood before it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.report.board import summary
from analysis.report.html.board import board_page
from analysis.rules.ruleset import load
from analysis.stats.fixed import welch_t
from analysis.verdict.board.row import Row, half_width, sample, tied_for_best
from analysis.verdict.board.standings import leaderboard

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]
RULES = load("parameter-golf")


@pytest.fixture
def board(record: Record, tmp_path: Path) -> Path:
    """A baseline of one run, a record, one that is worse, one that beats the record in nats alone, a broken one."""
    record({1: 1.2300}, "2026-03-01_baseline")
    record({1: 1.2001, 2: 1.2000, 3: 1.2003}, "2026-03-02_record")
    record({1: 1.2101, 2: 1.2100, 3: 1.2103}, "2026-03-03_worse")
    record({1: 1.1961, 2: 1.1960, 3: 1.1963}, "2026-03-04_a_little_better")
    broken = record({1: 1.1, 2: 1.2, 3: 1.3}, "2026-03-05_broken|<b>")
    for log in broken.glob("*.log"):
        log.unlink()
    return tmp_path


def test_each_record_is_tested_against_the_one_that_stood(board: Path) -> None:
    first, record, worse, better, broken = leaderboard(board, RULES)
    assert [row.record for row in (first, record, worse, better)] == [
        "2026-03-01_baseline",
        "2026-03-02_record",
        "2026-03-03_worse",
        "2026-03-04_a_little_better",
    ]
    assert first.n == 1
    assert first.mean == 1.23
    assert first.verdict_bpb is None
    assert first.why is not None
    assert record.predecessor == first.record
    assert record.verdict_bpb == "supported"
    assert record.verdict_nats == "supported"
    assert worse.predecessor == record.record
    assert worse.verdict_bpb == "not supported"
    assert better.predecessor == record.record
    assert better.verdict_bpb == "not supported"
    assert better.verdict_nats == "supported"
    assert better.p_nats is not None
    assert better.p_nats < 0.01 < (better.p_bpb or 0)
    assert record.errors == 0
    assert record.warnings == 0
    assert record.date == "2026-03-02"
    assert record.n == 3
    assert record.sd == pytest.approx(0.000153, abs=1e-6)
    assert broken.n == 0
    assert broken.mean is None
    assert broken.errors == 1
    assert "No training log" in (broken.why or "")


def test_the_p_value_is_that_of_a_report(board: Path, command: Run) -> None:
    row = leaderboard(board, RULES)[1]
    folder = board / "2026-03-02_record"
    report = json.loads(command("analysis.significance", "report", folder, "--sota", "1.23", "--format", "json").stdout)
    assert row.p_bpb == report["test"]["p_value"]
    assert row.mean == report["mean"]
    assert row.sd == report["sd"]


def test_the_formats(board: Path, command: Run) -> None:
    found = command("analysis.leaderboard", board, "--format", "markdown")
    assert found.returncode == 0
    lines, (said,) = [part.split("\n") for part in found.stdout.strip().split("\n\n")]
    assert said.startswith("3 tests at p < 0.01: ")
    assert said.endswith("with a probability of 0.03.")
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "<b>" not in found.stdout
    rows = json.loads(command("analysis.leaderboard", board, "--format", "json").stdout)
    table = list(csv.DictReader(io.StringIO(command("analysis.leaderboard", board, "--format", "csv").stdout)))
    assert [row["record"] for row in rows] == [row["record"] for row in table]
    assert float(table[1]["p_bpb"]) == rows[1]["p_bpb"]


def test_runs_of_different_metrics_have_no_mean(board: Path) -> None:
    (board / "2026-03-02_record" / "submission.json").unlink()
    log = board / "2026-03-02_record" / "train_seed1.log"
    log.write_text(log.read_text().replace("\nfinal_int8", "\nother_int4"))
    row = leaderboard(board, RULES)[1]
    assert row.mean is None
    assert row.verdict_bpb is None


def test_speedrun_records_are_tested_against_their_target(tmp_path: Path) -> None:
    for name, losses in (("2024-12-10_a", (3.275, 3.2752, 3.2755)), ("2025-01-01_b", (3.2801, 3.2802, 3.2799))):
        (tmp_path / name / "extra").mkdir(parents=True)
        for number, loss in enumerate(losses):
            text = f"step:0/9 val_loss:10.8 train_time:0ms\nstep:9/9 val_loss:{loss} train_time:99ms step_avg:11ms\n"
            (tmp_path / name / f"{number}.txt").write_text(text)
        (tmp_path / name / "extra" / "other.txt").write_text("step:9/9 val_loss:2.0 train_time:99ms step_avg:11ms\n")
    first, second = leaderboard(tmp_path, load("nanogpt-track-1"))
    assert first.n == 3
    assert first.verdict_nats == "supported"
    assert first.verdict_bpb is None
    assert first.predecessor is None
    assert second.mean == pytest.approx(3.2800667, abs=1e-6)
    assert second.verdict_nats == "not supported"


def test_nothing_to_rank_is_said(command: Run, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "requirements.txt").write_text("torch\n")
    found = command("analysis.leaderboard", tmp_path)
    assert found.returncode == 3
    assert "No record folder below" in found.stderr
    assert command("analysis.leaderboard", tmp_path, "--rules", "nope").returncode == 2


def test_the_page_shows_the_frontier_and_what_ties(board: Path, command: Run) -> None:
    rows = leaderboard(board, RULES)
    page = board_page(rows, RULES, "the command")
    assert "The best mean val_bpb is 1.196133: record 4, 2026-03-04_a_little_better, of 3 runs." in page
    assert "5 records" in page  # the broken one too
    assert "<td>supported, p = " in page
    assert "2026-03-05_broken|&lt;b&gt;" in page
    assert "the command" in page
    found = command("analysis.leaderboard", board, "--format", "html")
    assert found.returncode == 0
    assert found.stdout.startswith("<!doctype html>")


def row(record: str, n: int, mean: float, sd: float | None, **more: Any) -> Row:
    return Row(record=record, n=n, mean=mean, sd=sd, **{"ranked": mean, "ranked_sd": sd} | more)


def test_a_tie_is_what_welchs_test_cannot_tell_apart() -> None:
    """scipy.stats.ttest_ind_from_stats(1.2, .001, 3, 1.2028, .0012, 4, equal_var=False): p 0.020891; 1.2035: 0.0089708."""
    best = row("a", 3, 1.2, 0.001)
    tie = row("b", 4, 1.2028, 0.0012)
    other = row("c", 4, 1.2035, 0.0012)
    single = row("d", 1, 1.2, None)
    assert tied_for_best([other, tie, best, single], RULES) == [best, tie]
    p_values = [2 * welch_t(sample(best), sample(one), 0.0).p_value for one in (tie, other)]
    assert p_values == pytest.approx([0.020890933823506083, 0.008970835454155321], rel=1e-9)
    assert half_width(best, 0.01) == pytest.approx(9.92484 * 0.001 / 3**0.5, rel=1e-5)  # t of 0.995 at 2 df
    assert half_width(single, 0.01) is None
    assert summary([best, tie, other], RULES).endswith("It is tied with record 2.")
