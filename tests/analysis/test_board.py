"""The board: which folders are records, what they are ranked by and tested against, and rows that are kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.gather import gather
from analysis.record.discover import date_in, loose_logs, record_folders
from analysis.report.board import markdown
from analysis.report.counting import Counting
from analysis.report.said.standing import digits
from analysis.rules.metrics import TRAIN_TIME
from analysis.rules.ruleset import load
from analysis.stats.fixed import Sample, welch_t
from analysis.verdict.board import judged, standings
from analysis.verdict.board.cache import Cache, digest_of, usual_folder
from analysis.verdict.board.row import Row
from analysis.verdict.board.standings import leaderboard
from analysis.verdict.numbers import in_metric, in_short

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]
RULES = load("parameter-golf")
TRACK_1, TRACK_3 = load("nanogpt-track-1"), load("nanogpt-track-3")
FRONTIER = load("parameter-golf-frontier")


def logs(folder: Path, losses: Sequence[float], ms: int = 5000, stops: Sequence[int] = (50, 100)) -> Path:
    """Write a speedrun log for each loss, validated at these steps; it falls by 0.001 from each to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, loss in enumerate(losses):
        lines = ["step:0/100 val_loss:10.8 train_time:0ms"]
        for left, step in enumerate(reversed(stops)):
            at = f"step:{step}/{stops[-1]} val_loss:{loss + 0.001 * left:.5f} train_time:{(ms + number) * step // stops[-1]}ms"
            lines.insert(1, f"{at} step_avg:50ms")
        (folder / f"r{number}.txt").write_text("\n".join(lines) + "\n")
    return folder


# -- which folders are records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("2025-12-21_A", "2025-12-21"),
        ("20251221_a", "2025-12-21"),
        ("2025_12_21", "2025-12-21"),
        ("20251321_a", None),
        ("202512211_a", None),
        ("2025-1221", None),
        ("a_2025-12-21", None),
    ],
)
def test_the_date_that_a_name_begins_with(name: str, date: str | None) -> None:
    assert date_in(name) == date


@pytest.mark.parametrize(
    ("files", "records"),
    [
        (["loose", "20260501_a/1", "20260502_b/1"], ["20260501_a", "20260502_b"]),
        (["loose", "track/a/1", "track/b/1"], ["track/a", "track/b"]),
        (["2026-05-01_a/baseline/1", "2026-05-01_a/this_pr/1"], ["2026-05-01_a"]),
        (["2026-05-01_a/1", "2026-05-01_a/ablation/1", "2026-05-01_a/old/1"], ["2026-05-01_a"]),
        (["2026-05-01_a/x/submission.json", "2026-05-01_a/y/submission.json"], ["2026-05-01_a/x", "2026-05-01_a/y"]),
        (["track/1", "track/2", "track/extra/1"], ["track"]),
        (["muon/1", "soap/1"], ["muon", "soap"]),
        (["top/1", "top/mine/submission.json"], ["top/mine"]),
    ],
)
def test_which_folders_are_records(tmp_path: Path, files: list[str], records: list[str]) -> None:
    for file in files:
        path = tmp_path / file
        logs(path.parent, [])
        if path.name == "submission.json":
            path.write_text("{}")
        else:
            path.with_suffix(".txt").write_text("step:9/9 val_loss:3.2 train_time:99ms step_avg:11ms\n")
    assert sorted(str(one.relative_to(tmp_path)) for one in record_folders(tmp_path)) == records


def test_a_loose_log_is_named_and_no_log_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    logs(tmp_path / "2026-05-01_a", [3.27, 3.271])
    (tmp_path / "loose.txt").write_text("step:9/9 val_loss:3.2 train_time:99ms step_avg:11ms\n")
    found = command("analysis.leaderboard", tmp_path, "--rules", "nanogpt-track-1", "--format", "json")
    assert str(tmp_path / "loose.txt") in found.stderr
    assert [row["record"] for row in json.loads(found.stdout)] == ["2026-05-01_a"]
    monkeypatch.setattr("analysis.reading.reader.read_bounded", lambda path: pytest.fail("a log is read whole"))
    assert loose_logs(tmp_path, record_folders(tmp_path)) == [tmp_path / "loose.txt"]


def test_a_record_in_a_dated_folder_has_its_date(tmp_path: Path) -> None:
    for parent in ("2025-12-22_B", "2025-12-21_A"):
        folder = logs(tmp_path / parent / "candidate", [3.27, 3.271])
        (folder / "submission.json").write_text('{"date": "2020-01-01"}')
    rows = leaderboard(tmp_path, TRACK_1)
    assert [(row.date, row.record) for row in rows] == [
        ("2025-12-21", "2025-12-21_A/candidate"),
        ("2025-12-22", "2025-12-22_B/candidate"),
    ]


# -- ranks -------------------------------------------------------------------------------------------------------------


def test_a_track_of_times_ranks_by_time_and_leaves_out_what_misses_the_target(tmp_path: Path) -> None:
    logs(tmp_path / "2025-01-01_slow", [3.275, 3.2752, 3.2755], ms=9000)
    logs(tmp_path / "2025-01-02_fast", [3.277, 3.2772, 3.2775], ms=5000)
    logs(tmp_path / "2025-01-03_stops_early", [3.5, 3.51, 3.52], ms=1000)
    slow, fast, early = leaderboard(tmp_path, TRACK_1)
    assert [row.rank for row in (slow, fast, early)] == [2, 1, None]
    assert early.predecessor == fast.record
    assert fast.ranked == pytest.approx(5.001)
    assert fast.delta_ranked == pytest.approx(-4.0)
    assert fast.delta == pytest.approx(0.002)
    assert fast.tested_against == "target and runs"
    assert (fast.verdict, early.verdict) == ("supported", "not supported")


def test_a_faster_record_must_be_faster_than_the_standing_ones_runs(tmp_path: Path) -> None:
    logs(tmp_path / "2025-01-01_fast", [3.277, 3.2772, 3.2775], ms=5000)
    logs(tmp_path / "2025-01-02_slower", [3.275, 3.2752, 3.2755], ms=9000)
    first, slower = leaderboard(tmp_path, TRACK_1)
    assert (first.verdict, first.tested_against) == ("supported", "target")
    assert slower.p is not None
    assert slower.p < 0.01
    assert slower.verdict == "not supported"


def test_a_records_own_control_is_what_its_time_is_compared_with(tmp_path: Path) -> None:
    logs(tmp_path / "2025-01-01_on_a_fast_node", [3.277, 3.2772, 3.2775], ms=5000)
    logs(tmp_path / "2025-01-02_b/baseline", [3.2771, 3.2773, 3.2774], ms=9000)
    logs(tmp_path / "2025-01-02_b/this_pr", [3.2765, 3.2769, 3.2775], ms=8000)
    _, own = leaderboard(tmp_path, TRACK_1)
    assert (own.n, own.tested_against, own.verdict) == (3, "target and control", "supported")
    assert own.rank == 2  # by its own time


def test_a_track_of_steps_ranks_by_the_step_that_passes(tmp_path: Path) -> None:
    logs(tmp_path / "20260501_a", [3.2772, 3.2770, 3.2769], stops=(100, 200, 300))
    logs(tmp_path / "20260502_b", [3.2752, 3.2750, 3.2749], stops=(100, 200, 300))
    first, second = leaderboard(tmp_path, TRACK_3)
    assert [(row.rank, row.ranked) for row in (first, second)] == [(2, 300.0), (1, 100.0)]
    assert second.mean == pytest.approx(3.2770333, abs=1e-6)  # at step 100
    assert second.delta_ranked == -200.0
    logs(tmp_path / "20260503_c", [3.2772, 3.2770, 3.2769], stops=(100, 200, 300))
    *_, third = leaderboard(tmp_path, TRACK_3)
    assert third.predecessor == "20260502_b"
    assert third.delta_ranked == 200.0  # less the step that the predecessor claims, not its last one
    assert third.mean is not None
    assert third.delta == pytest.approx(third.mean - second.mean)


HIGHER = """version = 2
metric = "mean_accuracy"
direction = "higher"
test = "one-sample t"
alpha = 0.01
margin = 0.001
seeds = "unprinted"
final = "last validation"
"""


def test_higher_is_better_ranks_and_tests_the_other_way(tmp_path: Path, command: Run) -> None:
    (tmp_path / "acc.toml").write_text(HIGHER)
    for name, values in (
        ("2026-01-01_a", (0.90, 0.901, 0.902)),
        ("2026-01-02_b", (0.93, 0.931, 0.932)),
        ("2026-01-03_c", (0.91, 0.911, 0.912)),
    ):
        folder = logs(tmp_path / "records" / name, [3.2] * 3)
        for number, value in enumerate(values):
            with open(folder / f"r{number}.txt", "a") as log:
                log.write(f"mean accuracy: {value}\n")
    rules = load(str(tmp_path / "acc.toml"))
    rows = leaderboard(tmp_path / "records", rules)
    assert [row.rank for row in rows] == [3, 1, 2]
    assert [row.verdict for row in rows] == [None, "supported", "not supported"]
    assert rows[2].predecessor == "2026-01-02_b"
    assert rows[1].delta == pytest.approx(0.03)
    assert rows[1].shrinkage is not None
    assert rows[1].verdict_bpb is None
    page = command("analysis.leaderboard", tmp_path / "records", "--rules", tmp_path / "acc.toml", "--format", "html")
    assert "higher is better" in page.stdout
    assert "<title>Best: 0.9310 (records) - seedproof</title>" in page.stdout


def test_equal_records_share_a_rank(record: Record, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        record({1: 1.2001, 2: 1.2, 3: 1.2003} if day < 3 else {1: 1.3, 2: 1.31}, f"2026-03-0{day}_x")
    assert [row.rank for row in leaderboard(tmp_path, RULES)] == [1, 1, 3]


# -- what a record is tested against -----------------------------------------------------------------------------------


def test_the_test_is_against_the_standing_records_runs_where_it_has_some(record: Record, tmp_path: Path) -> None:
    record({1: 1.2300}, "2026-03-01_of_one_run")
    record({1: 1.2201, 2: 1.22, 3: 1.2203}, "2026-03-02_a")
    record({1: 1.2001, 2: 1.2, 3: 1.2003}, "2026-03-03_b")
    first, second, third = leaderboard(tmp_path, RULES)
    assert [row.tested_against for row in (first, second, third)] == [None, "number", "runs"]
    samples = [Sample.of([1.2001, 1.2, 1.2003]), Sample.of([1.2201, 1.22, 1.2203])]
    assert third.p == pytest.approx(welch_t(*samples, 0.005, 0.01).p_value, rel=1e-5)
    assert third.p_bpb == third.p
    assert third.verdict_nats == "supported"


def test_the_frontier_rule_needs_runs(record: Record, tmp_path: Path) -> None:
    record({1: 1.2300}, "2026-03-01_of_one_run")
    record({1: 1.2201, 2: 1.22, 3: 1.2203}, "2026-03-02_a")
    record({1: 1.2200, 2: 1.2198, 3: 1.2201}, "2026-03-03_b")
    _, second, third = leaderboard(tmp_path, FRONTIER)
    assert second.verdict == "cannot tell"
    assert "2026-03-01_of_one_run" in (second.why or "")
    assert (third.verdict, third.tested_against) == ("supported", "runs")


# -- the luck of the best ----------------------------------------------------------------------------------------------


def test_the_best_of_many_like_it_is_expected_to_shrink(record: Record, tmp_path: Path) -> None:
    for day, value in enumerate((1.2000, 1.2001, 1.1999, 1.2002, 1.1998), start=1):
        record({1: value, 2: value + 0.0008, 3: value - 0.0008}, f"2026-03-0{day}_x")
    rows = leaderboard(tmp_path, RULES)
    assert [row.shrinkage is not None for row in rows] == [True, False, True, False, True]
    assert 0.0003 < (rows[4].shrinkage or 0) < 0.0008  # the largest of 5 normals: 1.163 times 0.0008 / sqrt(3)
    assert (
        f"a rerun of the best record is expected at a val_bpb of {1.1998 + (rows[4].shrinkage or 0):.6f}"
        in markdown(rows, RULES)
    )
    record({1: 1.1, 2: 1.1008, 3: 1.0992}, "2026-03-06_far_ahead")
    assert (leaderboard(tmp_path, RULES)[5].shrinkage or 0) < 1e-6


# -- rows that are kept ------------------------------------------------------------------------------------------------


@pytest.fixture
def board(record: Record, tmp_path: Path) -> Path:
    record({1: 1.2300}, "2026-03-01_baseline")
    record({1: 1.2001, 2: 1.2, 3: 1.2003}, "2026-03-02_record")
    record({1: 1.1961, 2: 1.196, 3: 1.1963}, "2026-03-04_better")
    broken = record({1: 1.1, 2: 1.2}, "2026-03-05_broken")
    (broken / "train_seed1.log").unlink()
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are read, as they are."""
    found: list[str] = []

    def reading(paths: Sequence[Path], *others: Any, **named: Any) -> Any:
        found.append(paths[0].name)
        return gather(paths, *others, **named)

    monkeypatch.setattr(judged, "gather", reading)
    return found


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "html"])
def test_cold_warm_and_without_a_cache_are_the_same_bytes(
    board: Path, tmp_path_factory: pytest.TempPathFactory, command: Run, form: str, reads: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("own") / "cache"
    words, env = ("analysis.leaderboard", board, "--format", form), {"XDG_CACHE_HOME": str(folder)}
    bare = command(*words, "--no-cache", env=env)
    assert not folder.exists()
    assert len(reads) == 4
    cold = command(*words, env=env)
    assert len(reads) == 8
    warm = command(*words, env=env)
    assert len(reads) == 8
    assert bare.stdout == cold.stdout == warm.stdout
    assert bare.returncode == 0
    assert "2026" in warm.stdout


@pytest.mark.parametrize("changed", ["a byte", "a name", "a new file", "an empty folder"])
def test_a_change_in_a_folder_is_read_again_and_in_what_it_is_tested_against_too(
    board: Path, tmp_path_factory: pytest.TempPathFactory, reads: list[str], changed: str
) -> None:
    cache = Cache(tmp_path_factory.mktemp("own"))
    before = leaderboard(board, RULES, cache)
    reads.clear()
    folder = board / "2026-03-02_record"
    if changed == "a byte":
        log = folder / "train_seed1.log"
        log.write_text(log.read_text().replace("1.20010000", "1.20020000"))
    elif changed == "a name":
        (folder / "README.md").rename(folder / "README.txt")
    elif changed == "a new file":
        (folder / "note").write_text("")
    else:
        (folder / "empty").mkdir()
    rows = leaderboard(board, RULES, cache)
    assert {"2026-03-02_record", "2026-03-04_better"} <= set(reads)
    assert "2026-03-05_broken" not in reads
    assert (rows == before) == (changed != "a byte")
    assert rows == leaderboard(board, RULES)


def test_other_rules_and_a_new_record_use_no_wrong_row(
    board: Path, tmp_path_factory: pytest.TempPathFactory, record: Record
) -> None:
    cache = Cache(tmp_path_factory.mktemp("own"))
    leaderboard(board, RULES, cache)
    other = replace(RULES, margin=0.001)
    assert leaderboard(board, other, cache) == leaderboard(board, other)
    record({1: 1.1971, 2: 1.1972, 3: 1.1973}, "2026-03-03_between")
    assert leaderboard(board, RULES, cache) == leaderboard(board, RULES)


def damaged(entry: Path, how: str) -> None:
    table = json.loads(entry.read_text())
    if how == "cut off":
        entry.write_text(entry.read_text()[:40])
    elif how == "a number that is none":
        entry.write_text(entry.read_text().replace('"n": ', '"n": NaN, "x": '))
    elif how == "other values":
        table["row"]["mean"] = 0.5
        entry.write_text(json.dumps(table))
    elif how == "another row's":
        table["key"] = "0" * 64
        entry.write_text(json.dumps(table))
    elif how == "large":
        entry.write_text(entry.read_text() + " " * 2**17)
    elif how == "deep":
        entry.write_text("[" * 60000)
    elif how == "a link":
        entry.rename(entry.with_suffix(".other"))
        entry.symlink_to(entry.with_suffix(".other"))
    elif how == "a pipe":
        entry.unlink()
        os.mkfifo(entry)


@pytest.mark.parametrize(
    "how", ["cut off", "a number that is none", "other values", "another row's", "large", "deep", "a link", "a pipe"]
)
def test_a_kept_row_that_is_odd_is_read_again(
    board: Path, tmp_path_factory: pytest.TempPathFactory, reads: list[str], how: str
) -> None:
    cache = Cache(tmp_path_factory.mktemp("own"))
    wanted = leaderboard(board, RULES, cache)
    reads.clear()
    for entry in list(cache.folder.iterdir()):
        damaged(entry, how)
    assert leaderboard(board, RULES, cache) == wanted
    assert len(reads) == 4


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_cache_that_others_may_write_to_is_not_used(
    board: Path, tmp_path_factory: pytest.TempPathFactory, mode: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("own"))
    wanted = leaderboard(board, RULES, cache)
    kept = next(iter(cache.folder.iterdir())).stem
    assert isinstance(cache.get(kept), Row)
    os.chmod(cache.folder, mode)
    assert cache.get(kept) is None
    assert leaderboard(board, RULES, cache) == wanted


def test_a_cache_that_cannot_be_written_is_none(board: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("own") / "file"
    file.write_text("")
    assert (
        leaderboard(board, RULES, Cache(file))
        == leaderboard(board, RULES, Cache(file / "below"))
        == leaderboard(board, RULES)
    )


def test_what_has_no_digest_is_not_kept(
    board: Path, tmp_path_factory: pytest.TempPathFactory, reads: list[str]
) -> None:
    cache = Cache(tmp_path_factory.mktemp("own"))
    folder = board / "2026-03-04_better"
    (folder / "link").symlink_to("README.md")
    assert digest_of(folder) is None
    leaderboard(board, RULES, cache)
    reads.clear()
    leaderboard(board, RULES, cache)
    assert "2026-03-04_better" in reads


def test_the_cache_keeps_a_bounded_number_of_rows(
    board: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.verdict.board.cache.MOST_ENTRIES", 3)
    cache = Cache(tmp_path_factory.mktemp("own"))
    leaderboard(board, RULES, cache)
    assert len([*cache.folder.iterdir()]) == 3


def test_where_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for named, folder in (("/c", "/c"), ("relative", "/home/me/.cache"), ("", "/home/me/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert usual_folder() == Path(folder, "seedproof/board")


# -- what a waiting person sees ----------------------------------------------------------------------------------------


def test_a_terminal_shows_one_line_and_a_file_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    clock = iter([0.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    monkeypatch.setattr("analysis.report.counting.time.monotonic", lambda: next(clock))
    with Counting() as counting:
        for done, name in enumerate(("quiet", "a\nb", "c")):
            counting.tell(done, 3, name)
    said = capsys.readouterr()
    assert said.out == ""
    assert "\n" not in said.err
    assert said.err.count("\r") == 3  # two lines, and none at the end
    assert "quiet" not in said.err
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    clock = iter([0.0, 1.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr("analysis.report.counting.time.monotonic", lambda: next(clock))
    with Counting() as counting:
        for done in range(3):
            counting.tell(done, 3, "d")
    assert capsys.readouterr().err == "1 of 3 read, now d\n"


def test_a_board_says_which_record_it_reads(board: Path) -> None:
    said: list[tuple[int, int, str]] = []
    standings.leaderboard(board, RULES, None, lambda *words: said.append(words))
    assert said[0] == (0, 4, "2026-03-01_baseline")
    assert said[-1] == (3, 4, "2026-03-05_broken")


def test_no_view_shows_a_negative_zero(record: Record, command: Run, tmp_path: Path) -> None:
    """The later mean is lower by a third of the last digit."""
    record({1: 1.2, 2: 1.201, 3: 1.202}, name="2026-01-01_a")
    record({4: 1.2, 5: 1.201, 6: 1.20199999}, name="2026-01-02_b")
    for form in ("text", "markdown", "html"):
        shown = command("analysis.leaderboard", tmp_path, "--no-cache", "--format", form).stdout
        assert re.search(r"[+]0[.]000", shown), shown
        assert not re.search(r"[-\u2212]0[.]0+\b", shown), shown


@pytest.mark.parametrize("value", [-1e-10, -0.0])
def test_a_number_that_rounds_to_zero_has_no_minus(value: float) -> None:
    found = [in_metric(value, "reward"), in_metric(value, TRAIN_TIME), *in_short(TRAIN_TIME, value)]
    found += [digits(RULES, value), digits(RULES, value, signed=True), digits(TRACK_3, value, signed=True)]
    assert not [said for said in found if said.startswith(("-", "\u2212"))]
