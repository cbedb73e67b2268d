"""No folder, ruleset, history or frame costs more than ten seconds and a gigabyte, whatever is in it; what is not read is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from analysis.evidence.audit import audit
from analysis.evidence.history import HistoryError, read_history
from analysis.evidence.options import Options
from analysis.logs import Found, curve_rows
from analysis.reading import frame
from analysis.reading.frame import FrameError, read_frame
from analysis.reading.reader import read_log
from analysis.reading.result import COLUMNS
from analysis.rules.findings import Code
from analysis.rules.ruleset import LARGEST_FILE, RulesError, load
from analysis.untrusted import files, packed
from analysis.untrusted.files import FileError, OverBudgetError, files_below, lines_at, one_budget, read_small
from analysis.verdict.judge import judge
from tests.conftest import ROOT, clean_environment, make_log
from tests.hostile_folders import LOGS, OTHERS, Make, small

Record = Callable[..., Path]
CPU_S, MEMORY = 30, 2**30  # of a noisy machine; 10 s of a quiet one, by benchmarks.hostile
FOLDERS: dict[str, Make] = LOGS | OTHERS  # benchmarks.hostile measures all of them
DEAREST = ("nine large logs", "a JSON of a million keys", "packed seeds")
COMMANDS = {
    "check": ("analysis.significance", "check", "--sota", "1.3"),
    "html": ("analysis.significance", "report", "--sota", "1.3", "--format", "html"),
    "logs": ("analysis.logs", "--curves"),
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, its CPU time and memory, and what it said."""

    code: int
    cpu_s: float
    memory: int
    said: str


# a process between this one and the command: what the kernel counts for a child begins with its parent's memory
MEASURE = """
import json, os, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
said = process.stdout.read()
_, status, usage = os.wait4(process.pid, 0)
memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, memory, said.decode("utf-8", "replace")]))
"""


def run(command: str, *paths: object) -> Ended:
    arguments = [sys.executable, "-c", MEASURE, *COMMANDS[command], *map(str, paths)]
    done = subprocess.run(arguments, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True)
    code, cpu_s, memory, said = json.loads(done.stdout)
    return Ended(code=code, cpu_s=cpu_s, memory=memory, said=said)


def within_bounds(ended: Ended) -> None:
    assert ended.code in (0, 1, 2, 3), ended.said[-500:]
    assert "Traceback" not in ended.said
    assert ended.cpu_s < CPU_S
    assert ended.memory < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEAREST)
def test_no_folder_takes_more_than_its_share(tmp_path: Path, kind: str) -> None:
    FOLDERS[kind](tmp_path)
    within_bounds(run("check", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["html", "logs"])
def test_no_other_command_does(tmp_path: Path, command: str) -> None:
    LOGS["five hundred curves"](tmp_path)
    within_bounds(run(command, tmp_path))


# -- one budget, with a small one ------------------------------------------------------------------------------------------


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> int:
    """Give every folder a budget of 2 MiB, which three logs of the tests fit in many times."""
    most = 2**21
    monkeypatch.setattr(files.one_budget.__wrapped__, "__defaults__", (most,))  # type: ignore[attr-defined]
    return most


def test_a_log_beyond_the_budget_refuses_the_claim(record: Record, little: int) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    assert judge([folder], Options(sota=1.3)).verdict == "supported"
    (folder / "zz.log").write_bytes(b"seed:5\n" * 5000)
    verdict = judge([folder], Options(sota=1.3))
    assert verdict.exit_code == 3
    assert "zz.log exceeds what is read of one folder" in verdict.reason
    assert ("zz.log", Code.FILE_NOT_READ) in [(one.file, one.code) for one in verdict.findings]


def test_other_files_beyond_the_budget_are_named_and_the_claim_is_judged(record: Record, little: int) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    (folder / "notes.md").write_bytes(b"seed:5\n" * 5000)
    verdict = judge([folder], Options(sota=1.3))
    assert verdict.verdict == "supported"
    assert "notes.md" in [one.file for one in verdict.findings if one.code is Code.FILE_NOT_READ]


def test_each_command_and_each_record_of_a_board_has_a_budget_of_its_own(record: Record, little: int) -> None:
    folder = record({1: 1.2, 2: 1.201, 3: 1.202})
    for _ in range(5):
        assert Code.FILE_NOT_READ not in [one.code for one in audit([folder]).findings]


def test_without_a_budget_only_each_file_is_bounded() -> None:
    assert read_log(Path("a.log"), b"abc\n" * 50_000) == []
    with one_budget(2**20), pytest.raises(OverBudgetError):
        read_log(Path("a.log"), b"abc\n" * 50_000)


def test_step_lines_cost_little_and_runs_are_counted() -> None:
    with one_budget(2**20):
        assert len(read_log(Path("a.log"), b"step:1/2 train_loss:3\n" * 10_000)) == 1
    log = b"".join(small(seed) for seed in range(150))
    with one_budget():
        for _ in range(files.MOST_RUNS // 151):
            read_log(Path("a.log"), log)
        with pytest.raises(OverBudgetError, match="runs"):
            read_log(Path("a.log"), log)


def test_rows_of_curves_share_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"step:1/2 train_loss:3\n" * 5000)
    (run,) = read_log(tmp_path / "a.log")
    with one_budget(2**20), pytest.raises(OverBudgetError):
        list(curve_rows(Found(log=tmp_path / "a.log", number=1, run=run)))


def test_more_files_than_are_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 10)
    for number in range(12):
        (tmp_path / f"{number:02}.md").touch()
    listing = files_below(tmp_path)
    assert len(listing.files) == 10
    assert [aside.path.name for aside in listing.left_aside] == ["10.md"]


def test_steps_that_are_not_compared_are_said(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = record({1: 1.2, 2: 1.201})
    assert Code.FILE_NOT_READ not in [one.code for one in audit([folder]).findings]
    monkeypatch.setattr("analysis.checks.consistent.MOST_STEPS", 2)
    assert Code.FILE_NOT_READ in [one.code for one in audit([folder]).findings]


def test_of_very_many_runs_the_twins_are_found_too(tmp_path: Path) -> None:
    for seed in range(40):
        (tmp_path / f"seed{seed}.log").write_text(make_log(seed, 1.2 + seed / 1000))
    text = (tmp_path / "seed3.log").read_text().replace("seed:3", "seed:99").replace("1.203", "1.2031")
    (tmp_path / "seed99.log").write_text(text)
    found = {one.file for one in audit([tmp_path]).findings if one.code is Code.SAME_TRAJECTORY}
    assert "seed99.log" in found


def test_lines_by_number() -> None:
    content = b"a\n\nccc\n" + b"\n" * 3_000_000 + b"last"
    assert lines_at(content, [1, 2, 3, 3_000_004, 3_000_005]) == {1: b"a", 2: b"", 3: b"ccc", 3_000_004: b"last"}


# -- packed files ----------------------------------------------------------------------------------------------------------


def test_all_parts_of_a_packed_file_are_read_up_to_the_limit() -> None:
    import gzip

    both = gzip.compress(b"a" * 10) + gzip.compress(b"b" * 10)
    assert packed.unpacked(both, 20) == b"a" * 10 + b"b" * 10
    assert packed.unpacked(both + b"\0junk", 20) == b"a" * 10 + b"b" * 10
    assert packed.unpacked(b"plain", 2) == b"plain"
    with pytest.raises(FileError, match="unpacks"):
        packed.unpacked(both, 19)
    with pytest.raises(FileError, match="unpacked"):
        packed.unpacked(b"\x1f\x8b" + b"x" * 50, 100)


# -- rulesets, histories and frames ----------------------------------------------------------------------------------------


def odd_file(folder: Path, kind: str) -> Path:
    path = folder / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(10 * 2**30)
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "binary": bytes(range(256)) * 20,
                "deep": b"a = " + b"[" * 10_000,
                "dots": b"a" + b".a" * 8000 + b" = 1",
                "digits": b"version = " + b"9" * 10_000,
                "hex": b'version = 1\nmetric = "val_bpb"\nmargin = 0x' + b"f" * 10_000 + b'\nunit = "bpb"\ntest = "one-sample t"\nalpha = 0.01',
                "codes": b'"\\u001b[31m' + b"x" * 9000 + b'" = 1',
            }[kind]
        )  # fmt: skip
    return path


KINDS = ["pipe", "sparse", "device", "folder", "binary", "deep", "dots", "digits", "hex", "codes"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_as_ruleset_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RulesError) as raised:
        load(str(odd_file(tmp_path, kind)))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_as_history_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(HistoryError) as raised:
        read_history(odd_file(tmp_path, kind))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '[{"n": ' + "9" * 100_000 + "}]", "n,sd\n" + "3,0.001\n" * 20_000, "n,sd\n" + "," * 100_000, "n,sd\n" + "9" * 100_000 + ",1"],
    ids=["deep", "digits", "rows", "columns", "a long number"],
)  # fmt: skip
def test_a_history_of_too_much_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(HistoryError) as raised:
        read_history(tmp_path / "history.csv")
    assert len(str(raised.value)) < 1000


def test_a_ruleset_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text("#" * (LARGEST_FILE + 1))
    with pytest.raises(RulesError, match="MiB"):
        load(str(tmp_path / "long.toml"))
    with pytest.raises(FileError):
        read_small(tmp_path / "long.toml", LARGEST_FILE)


@pytest.mark.parametrize("suffix", frame.SUFFIXES)
@pytest.mark.parametrize("kind", ["pipe", "sparse", "binary", "deep", "digits"])
def test_any_file_as_frame_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = odd_file(tmp_path, kind).rename(tmp_path / f"odd{suffix}")
    with pytest.raises(FrameError):
        read_frame(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", ",".join(COLUMNS) + "\n" + "," * (len(COLUMNS) - 1) + "\n" * 11_000),
        ("returns.csv", ",".join(COLUMNS) + "\n" + "\r" * 11_000),
        ("columns.csv", ",".join(f"c{n}" for n in range(10_000)) + "\n"),
        ("rows.json", "[" + "{}," * 11_000 + "{}]"),
        ("lists.json", "[" + "[]," * 100_000 + "[]]"),
        ("table.json", '{"arm": ' + "[" * 900 + "]" * 900 + "}"),
    ],
)
def test_a_frame_of_too_much_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FrameError):
        read_frame(tmp_path / name)


def parquet(path: Path, rows: int, text: str, codec: str = "snappy") -> Path:
    import pyarrow as pa
    from pyarrow import parquet as pq

    zeros = pa.array([0] * rows, pa.int32())
    arrays = {
        name: pa.DictionaryArray.from_arrays(zeros, pa.array([text])) if kind == "string" else pa.array([1] * rows)
        for name, kind in COLUMNS.items()
    }
    pq.write_table(pa.table(arrays), path, compression=codec)
    return path


@pytest.mark.parametrize(
    ("rows", "text", "codec", "words"),
    [
        (1_000_000, "x", "snappy", "1000000 rows"),
        (5000, "x" * 100_000, "snappy", "a text of more than"),
        (1, "x", "zstd", "packed by ZSTD"),
    ],
)
def test_rows_are_counted_before_they_are_unpacked(
    tmp_path: Path, rows: int, text: str, codec: str, words: str
) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(FrameError, match=words):
        read_frame(parquet(tmp_path / "a.parquet", rows, text, codec))
