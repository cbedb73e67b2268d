"""Record folders in the order of their dates, each against the one that stood before it."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.report.html.board import board_page
from analysis.report.html.frontier import frontier_plot, small_plots
from analysis.report.said.standing import card, cells, in_order, names, subject, title
from analysis.rules.ruleset import Ruleset, load
from analysis.stats.fixed import welch_t
from analysis.verdict.board.row import Row, half_width, sample, tied_for_best, together
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


def test_the_page_sorts_by_rank_and_its_links_lead_to_numbers(board: Path, command: Run) -> None:
    rows = leaderboard(board, RULES)
    page = board_page(rows, RULES, "the command", "records")
    assert "<title>Best: 1.1961 (records) - seedproof</title>" in page
    assert "5 records, 1 March to 5 March 2026" in page
    links = re.findall(r'<a href="#(record-\d+)" title="([^"]+)">', page)
    assert [rows[int(anchor[7:]) - 1].record for anchor, _ in links] == [html.unescape(name) for _, name in links]
    assert [rows[int(anchor[7:]) - 1].rank for anchor, _ in links] == [1, 2, 3, 4, None]
    assert all(f'<tr id="{anchor}">' in page for anchor, _ in links)
    assert "broken|&lt;b&gt;" in page
    assert '<b>"' not in page
    assert "the command" in page
    found = command("analysis.leaderboard", board, "--format", "html")
    assert found.returncode == 0
    assert found.stdout.startswith("<!doctype html>")


def test_the_card_counts_what_the_rows_say(board: Path) -> None:
    rows = leaderboard(board, RULES)
    best, passed, bad, luck = (number for number, _ in card(rows, RULES))
    assert best == "1.1961"
    assert passed == f"{sum(row.verdict == 'supported' for row in rows)} of 3" == "1 of 3"
    assert card(rows, RULES)[1][1].endswith("(2 in nats)")
    assert bad == "1 of 5"
    assert float(luck) == pytest.approx(rows[3].shrinkage, rel=0.05, abs=1e-9)


def row(record: str, n: int, mean: float, sd: float | None, **more: Any) -> Row:
    return Row(record=record, n=n, mean=mean, sd=sd, **{"ranked": mean, "ranked_sd": sd} | more)


def test_a_tie_is_what_welchs_test_cannot_tell_apart() -> None:
    """scipy.stats.ttest_ind_from_stats(1.2, .001, 3, 1.2028, .0012, 4, equal_var=False): p 0.020891; 1.2035: 0.0089708."""
    best = row("a", 3, 1.2, 0.001)
    tie = row("b", 4, 1.2028, 0.0012)
    other = row("c", 4, 1.2035, 0.0012)
    single = row("d", 1, 1.2, None)
    assert tied_for_best([other, tie, best, single], RULES) == [best, tie]
    p_values = [2 * welch_t(sample(best), sample(one), 0.0, 0.01).p_value for one in (tie, other)]
    assert p_values == pytest.approx([0.020890933823506083, 0.008970835454155321], rel=1e-9)
    assert half_width(best, 0.01) == pytest.approx(9.92484 * 0.001 / 3**0.5, rel=1e-5)  # t of 0.995 at 2 df
    assert half_width(single, 0.01) is None
    assert title([best, tie, other], RULES) == "Best: 1.2000, tied with the next"
    assert title([best, row("between", 1, 1.2001, None), tie, other], RULES) == "Best: 1.2000, tied with 1 other"
    assert title([single, other], RULES) == "Best: 1.2000, of one run"
    assert (
        title([row("refused", 3, 1.2, 0.001, errors=1), other], RULES) == "Best: 1.2000, with 1 error in its evidence"
    )


# -- the page of any board ---------------------------------------------------------------------------------------------


def board_of(*means: float | None, **more: Any) -> list[Row]:
    """Return a board of a record a day with these values; None is a record without one."""
    days = [{"date": f"2026-03-{number + 1:02}"} for number in range(len(means))]
    made = [
        Row(record=f"r{number}", errors=3, why="damaged", **days[number])
        if mean is None
        else row(f"r{number}", 3, mean, 0.001, **days[number] | more)
        for number, mean in enumerate(means)
    ]
    return together(made, RULES)


def heights(rows: list[Row], rules: Ruleset) -> dict[str, float]:
    """Return how far from the top each record's point is, by its name."""
    drawn = frontier_plot(rows, rules, names(rows)) or ""
    found = re.findall(r'cy="([\d.]+)"[^>]*><title>(\w+):', drawn)
    return {name: float(y) for y, name in found}


def test_up_is_better_and_every_ranked_record_is_drawn() -> None:
    rows = board_of(1.22, 1.20, 1.21, None)
    lower = heights(rows, RULES)
    assert lower.keys() == {"r0", "r1", "r2"}
    assert lower["r1"] < lower["r2"] < lower["r0"]
    higher = heights(rows, replace(RULES, direction="higher"))
    assert higher["r0"] < higher["r2"] < higher["r1"]
    assert in_order(rows, RULES) == [1, 2, 0, 3]
    assert in_order(rows, replace(RULES, direction="higher")) == [0, 2, 1, 3]


def test_the_small_plots_share_a_scale_whose_right_is_better() -> None:
    drawn = small_plots([*board_of(1.22, 1.20, 1.21, None), row("one run", 1, 1.215, None)], RULES)
    assert drawn.keys() == {0, 1, 2, 4}
    at = {number: float(re.findall(r'cx="([\d.]+)%', plot)[0]) for number, plot in drawn.items()}
    assert at[0] < at[4] < at[2] < at[1]
    assert at[1] - at[2] == pytest.approx(at[2] - at[0])
    assert ["<rect" in plot for plot in drawn.values()] == [True, True, True, False]


def test_a_record_far_off_does_not_flatten_the_rest() -> None:
    found = heights(board_of(1.22, 1.20, 7.0), RULES)
    assert found["r0"] - found["r1"] > 100
    assert found["r2"] == max(found.values())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "No record yet"),
        (board_of(None, None), "No record has a value"),
        (board_of(1.2), "Best: 1.2000"),
        (board_of(1.2, 1.1, date=None), "Best: 1.1000"),
        (board_of(*(1.3 - n / 1000 for n in range(30))), "Best: 1.2710, tied with the next 3"),
    ],
)
def test_a_board_of_any_size_has_a_page(rows: list[Row], said: str) -> None:
    assert title(rows, RULES) == said
    page = board_page(rows, RULES, "command")
    assert f"<title>{said} - seedproof</title>" in page
    assert page.count('<td class="rec">') == page.count('<tr id="record-') == len(rows)


def test_records_with_and_without_dates_are_side_by_side() -> None:
    rows = [replace(one, date=None) if one.record == "r0" else one for one in board_of(1.22, 1.21, 1.20)]
    assert "no date" in (frontier_plot(rows, RULES, names(rows)) or "")
    assert subject(rows, RULES, "w") == ["rules parameter-golf", "w", "3 records, 2 March to 3 March 2026"]


def test_a_track_says_seconds_and_steps() -> None:
    track_1, track_3 = load("nanogpt-track-1"), load("nanogpt-track-3")
    rows = together(
        [row("2025-01-01_a", 3, 3.27, 0.001, ranked=119.7614, ranked_sd=0.08, verdict="supported")], track_1
    )
    assert title(rows, track_1) == "Best: 119.76 s"
    assert card(rows, track_1)[1] == ("1 of 1", "pass every test of nanogpt-track-1")
    assert "mean val_loss" in cells(rows[0], track_1, rows)
    rows = together([row("2025-01-01_a", 3, 3.27, 0.001, ranked=3325.0, ranked_sd=None)], track_3)
    assert title(rows, track_3) == "Best: 3325 steps"


def test_names_are_short_where_they_stay_apart() -> None:
    records = ["2026-03-01_11L_a", "20260302_b", "x/2026-03-03_c", "y/2026-03-04_c", "2026-03-05", "d_e"]
    assert [*names([Row(record=one) for one in records]).values()] == [
        "11L a", "b", "x/2026-03-03_c", "y/2026-03-04_c", "2026-03-05", "d e",
    ]  # fmt: skip


def test_hostile_names_are_text_everywhere() -> None:
    bad = [
        "2026-03-01_<script>obey()</script>",
        '2026-03-02_"onload="obey()',
        "長" * 200,
        "x" * 200,
        "2026-03-03_a\u202eb",
    ]
    rows = together([row(name, 3, 1.2 + n / 100, 0.001, predecessor=bad[0]) for n, name in enumerate(bad)], RULES)
    page = board_page(rows, RULES, bad[0], bad[1])
    assert "<script" not in page
    assert "\u202e" not in page
    assert not re.search(r"<[^>]*\sonload=", page)
