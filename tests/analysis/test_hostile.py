"""Files made to harm whoever reads them: no crash, no hang, no execution, no reading outside the folder, no injection."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analysis import audit, leaderboard, logs, significance
from analysis.checks.folder import audit as audit_folder
from analysis.evidence.audit import audit as audit_one
from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record import selection
from analysis.record.claim import read_claim
from analysis.record.folder import read_record
from analysis.report.said.findings import annotation
from analysis.rules.findings import DEFAULTS, SEVERITIES, Code, Finding, Severity
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import plan_digest
from analysis.untrusted import escape, files
from analysis.untrusted.files import FileError, read_bounded
from tests.conftest import ROOT, clean_environment, make_log
from tests.fuzz import SEEDS, TARGETS

Record = Callable[..., Path]
LOG = Path("train.log")
GOOD = {1: 1.20, 2: 1.21, 3: 1.22}
RULES = load("parameter-golf")
NASTY = "::error::a b\n::stop-commands::x\r\x1b[2J\x1b]0;t\x07\u202e|[a](b)<b>@c`"
OWN_COMMAND = re.compile(r"::(?:error|warning|notice) (?:file=[^:,\r\n]*,line=\d+,title=[a-z-]+|title=seedproof)::.")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COMMANDS: dict[str, tuple[click.Command, tuple[str, ...]]] = {
    "logs": (logs.main, ()),
    "logs json": (logs.main, ("--curves", "--format", "json")),
    "audit": (audit.main, ()),
    "audit json": (audit.main, ("--format", "json")),
    "audit github": (audit.main, ("--format", "github")),
    "leaderboard": (leaderboard.main, ()),
    "leaderboard csv": (leaderboard.main, ("--format", "csv")),
    "leaderboard json": (leaderboard.main, ("--format", "json")),
    "check": (significance.main, ("check", "--sota", "1.3")),
    "report": (significance.main, ("report", "--sota", "1.3")),
    "report markdown": (significance.main, ("report", "--sota", "1.3", "--format", "markdown")),
    "report json": (significance.main, ("report", "--sota", "1.3", "--format", "json")),
    "report html": (significance.main, ("report", "--sota", "1.3", "--format", "html")),
    "leaderboard html": (leaderboard.main, ("--format", "html")),
}


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail after so much work of this process, or a minute of waiting; regular expressions look at signals too."""

    def late(*_: object) -> None:
        pytest.fail(f"took longer than {seconds} s")  # no Exception, which a reader might take for its own

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, seconds), (signal.SIGALRM, signal.ITIMER_REAL, 60.0))
    before = [signal.signal(number, late) for number, *_ in timers]
    for _, timer, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def run_all(path: Path, names: tuple[str, ...] = tuple(COMMANDS), seconds: float = 5) -> dict[str, str]:
    """What each command prints on a PATH, after a look at its exit code and at what a terminal or a runner would obey."""
    printed = {}
    for name in names:
        command, options = COMMANDS[name]
        if path.is_file() and command is leaderboard.main:
            continue
        with within(seconds):
            result = CliRunner(env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": None}).invoke(
                command, [*options, str(path)]
            )
        assert result.exception is None or isinstance(result.exception, SystemExit), (name, result.exception)
        assert result.exit_code in (0, 1, 2, 3), name
        printed[name] = result.stdout
        assert not CONTROL.search(result.stdout), (name, CONTROL.search(result.stdout))
        for line in result.stdout.split("\n"):
            assert not line.lstrip().startswith("::") or OWN_COMMAND.match(line), (name, line)
    return printed


def findings(path: Path) -> dict[str, list[str]]:
    """The files of each finding, by its code."""
    found: dict[str, list[str]] = {}
    for finding in audit_one([path], "parameter-golf").findings:
        found.setdefault(finding.code, []).append(finding.file)
    return found


def facts(runs: list[Run]) -> list[tuple[object, ...]]:
    """What a verdict rests on."""
    return [(run.seed, run.metrics, run.validation, run.last_step, run.artifact_bytes, run.gpu, run.steps) for run in runs]  # fmt: skip


def small_log(seed: int, bpb: object, loss: object = 2.0) -> str:
    return f"seed:{seed}\nstep:1/1 train_loss:{seed}\nfinal val_loss:{loss} val_bpb:{bpb}\n"


def small_folder(folder: Path, claim: object, *values: object) -> Path:
    """Short logs, one a value, and a JSON (a text is written as it stands)."""
    for seed, value in enumerate(values, start=1):
        (folder / f"s{seed}.log").write_text(small_log(seed, value))
    (folder / "submission.json").write_text(claim if isinstance(claim, str) else json.dumps(claim))
    return folder


# -- what a log is made of ---------------------------------------------------------------------------------------------


def test_a_binary_file_is_no_log() -> None:
    assert read_log(LOG, bytes(range(256)) * 2000) == []
    assert read_log(LOG, b"\x7fELF" + os.urandom(100_000)) == []


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    ],
    ids=["CRLF", "byte order mark", "UTF-16 LE", "UTF-16 BE"],
)
def test_other_newlines_and_encodings_are_the_same_log(spoilt: Callable[[bytes], bytes]) -> None:
    data = make_log(1337, 1.2).encode()
    assert facts(read_log(LOG, spoilt(data))) == facts(read_log(LOG, data))


def test_colours_change_nothing() -> None:
    plain = small_log(5, 1.2)
    coloured = "".join(f"\x1b[1;32m{line}\x1b[0m\n" for line in plain.splitlines())
    (run,) = read_log(LOG, coloured.encode())
    assert run.seed == 5
    assert run.last_step == 1
    assert [m.val_bpb for m in run.metrics] == [1.2]


@pytest.mark.parametrize("noise", [b"\0" * 5000, b"\xff\xfe\x80\xc3(", b"\xed\xa0\x80" * 50, b"\x1b[" * 5000])
def test_noise_between_the_lines_is_passed_over(noise: bytes) -> None:
    data = make_log(7, 1.2).encode()
    (run,) = read_log(LOG, data.replace(b"\n", b"\n" + noise + b"\n"))
    assert run.seed == 7
    assert [metric.val_bpb for metric in run.finals] == [1.2]


def test_an_odd_utf16_log_ends_quietly() -> None:
    assert read_log(LOG, "seed:1\nstep:1/2\n".encode("utf-16") + b"\x00\xd8\x01") != []


LINES: dict[str, bytes] = {
    "letters": b"a" * 16_000,
    "seed": b"seed " * 3200,
    "blanks": b"x" + b" " * 16_000 + b"x",
    "step": b"step:1/" * 2300,
    "val_loss": b"val_loss" * 2000,
    "val_loss and val_bpb": b"val_loss val_bpb " * 120,
    "digits": b"1" * 16_000,
    "ranks": b"params:1 ws:1 " * 1100,
    "stamps": b"2026-01-01 00:00:00 " * 800,
    "pids": b"(a pid=1" * 2000,
    "escapes": b"\x1b[0;0" * 3000,
    "pairs": b"a:1 " * 4000,
    "table": b"|   0  NVIDIA " + b"a " * 7000,
    "label": b"final_" * 300 + b" val_loss:2 val_bpb:x",
    "artifact": b"artifact: " * 1600,
    "ruler": b"=" * 16_000 + b"x",
    "hyperparameters": b"-" * 16_000 + b"hyper",
    "step with blanks": b"step:" + b" " * 16_000,
    "decimals": b"step:1/1 val_loss:" + b"1." * 8000,
}
SLOW_LINES: dict[str, bytes] = {
    "seed and blanks": b"seed" + b" " * 16_000 + b"x",
    "a number with a tail, in a step": b"step:1/2 a=" + b"1" * 2000 + b"x",
    "a number with a tail, in a metric": b"x val_loss val_bpb a=" + b"1" * 1900 + b"x",
    "serialized model": b"step:1/2\nSerialized model " + b"a" * 16_000,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_no_line_takes_quadratic_time(line: bytes) -> None:
    with within(5):
        for run in read_log(LOG, (line + b"\n") * (4_000_000 // len(line))):
            _ = run.steps, run.finals


@pytest.mark.parametrize("line", SLOW_LINES.values(), ids=SLOW_LINES)
def test_no_line_takes_quadratic_time_either(line: bytes) -> None:
    with within(5):
        for run in read_log(LOG, (line + b"\n") * (2_000_000 // len(line))):
            _ = run.steps, run.finals


@pytest.mark.slow
def test_two_writers_with_two_million_lines() -> None:
    with within(20):
        runs = read_log(LOG, b"step:5/9 \nstep:2/9 \n" * 1_000_000)
    assert [(run.clobbered_at, run.last_step) for run in runs] == [(2, 2)]


@pytest.mark.slow
def test_of_a_hundred_thousand_metrics_the_last_of_each_label_are_kept() -> None:
    text = "".join(f"final_x val_loss:2.0 val_bpb:1.{i}\n" for i in range(100_000)).encode()
    with within(20):
        (run,) = read_log(LOG, text)
    assert len(run.metrics) < 1000
    assert run.metrics[-1].val_bpb == 1.99999
    with within(20), pytest.raises(FileError, match="final metrics"):
        read_log(LOG, "".join(f"final_{i}x val_loss:2.0 val_bpb:1.2\n" for i in range(100_000)).encode())


@pytest.mark.parametrize("line", ["Code size: , bytes", "Code size (uncompressed): ,, bytes", "Serialized model int8: , bytes"])  # fmt: skip
def test_a_size_without_a_digit_is_none(line: str) -> None:
    read_log(LOG, f"step:1/2\n{line}\n".encode())


def test_a_log_with_many_runs_holds_their_hyper_parameters_once() -> None:
    """A copy for each run would make gigabytes of one megabyte."""
    block = "".join(f" a{i}: 1\n" for i in range(5000))
    runs = read_log(LOG, f"hyperparameters:\n{block}x\n{''.join(small_log(i, 1.2) for i in range(200))}".encode())
    assert len(runs) == 200
    assert sum(map(len, {id(run.hyperparameters): run.hyperparameters for run in runs}.values())) < 50_000


def test_the_memory_of_a_large_source_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("import os\n" + "a=1\n" * 80_000 + f"{'=' * 60}\n{small_log(1, 1.2)}")
    assert audited(tmp_path)[1] < 150


# -- files that are no files -------------------------------------------------------------------------------------------


# A process between this one and the audit: what the kernel counts for a child begins with its parent's memory.
MEASURE = """
import os, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
process = subprocess.Popen([sys.executable, "-m", "analysis.audit", sys.argv[1]], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10))
"""


def audited(folder: Path) -> tuple[int, int]:
    """(exit code, peak memory in MiB) of the audit in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True)
    code, memory = map(int, done.stdout.split())
    return code, memory


@pytest.mark.slow
def test_one_line_of_a_gigabyte(tmp_path: Path) -> None:
    with open(tmp_path / "train.log", "wb") as file:
        file.truncate(2**30)
    code, memory = audited(tmp_path)
    assert code == 1
    assert memory < 100


def test_a_file_of_a_terabyte_is_refused_at_once(tmp_path: Path) -> None:
    with open(tmp_path / "train.log", "wb") as file:
        file.truncate(2**40)
    with within(5), pytest.raises(FileError):
        read_bounded(tmp_path / "train.log")


def test_many_newlines_are_read_fast(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\n" * 5_000_000)
    with within(5), pytest.raises(FileError):
        read_bounded(tmp_path / "a.log", limit=4_000_000)


@pytest.mark.parametrize("limit", [2**20, 50])
def test_a_log_that_grows_is_read_up_to_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"seed:1\n" * 7)
    stat = os.fstat

    def grow(handle: int) -> os.stat_result:
        status = stat(handle)
        with open(log, "ab") as file:
            file.write(b"seed:2\n" * 1000)
        return status

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fstat", grow)
        content = read_bounded(log, limit)
    assert content == b"seed:1\n" * 7


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the record with files that its links lead to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.log").write_text(make_log(4, 1.23456789))
    (folder / "submission.json").write_text('{"val_bpb": 1.23456789, "name": "secret"}')
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that is opened, links resolved."""
    paths: list[str] = []
    real = os.open

    def spy(path: Any, *arguments: Any, **options: Any) -> int:
        if not isinstance(path, int):
            paths.append(os.path.realpath(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", spy)
    return paths


def test_links_that_lead_out_are_not_read(record: Record, outside: Path, opened: list[str]) -> None:
    folder = record(GOOD)
    (folder / "linked.log").symlink_to(outside / "secret.log")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "above.log").symlink_to("../outside/secret.log")
    (folder / "endless.log").symlink_to("endless.log")
    (folder / "device.log").symlink_to("/dev/zero")
    assert sorted(findings(folder)["file-not-read"]) == ["above.log", "device.log", "endless.log", "linked", "linked.log"]  # fmt: skip
    printed = run_all(folder, tuple(name for name in COMMANDS if "leaderboard" not in name))
    assert not [name for name, text in printed.items() if "1.2345" in text or "secret" in text]
    assert not [path for path in opened if path.startswith((str(outside), "/dev"))]


def test_a_json_that_leads_out_is_not_read(record: Record, outside: Path, opened: list[str]) -> None:
    folder = record(GOOD, bare=True)
    (folder / "submission.json").symlink_to(outside / "submission.json")
    found = findings(folder)
    assert found["file-not-read"] == ["submission.json"]
    assert "missing-file" in found
    assert "secret" not in "".join(run_all(folder).values())
    assert not [path for path in opened if path.startswith(str(outside))]


def test_the_leaderboard_opens_no_link_that_leads_out(record: Record, outside: Path, opened: list[str]) -> None:
    folder = record(GOOD, bare=True)
    (folder / "a.log").symlink_to(outside / "secret.log")
    run_all(folder, ("leaderboard",))
    assert not [path for path in opened if path.startswith(str(outside))]


def test_a_pipe_is_not_waited_for(record: Record) -> None:
    folder = record(GOOD)
    for name in ("train.log", "notes.txt", "more.py"):
        os.mkfifo(folder / name)
    assert "train.log" in findings(folder)["file-not-read"]
    run_all(folder)
    run_all(folder / "train.log")


def test_a_pipe_instead_of_the_json_is_not_waited_for(record: Record) -> None:
    folder = record(GOOD)
    (folder / "submission.json").unlink()
    os.mkfifo(folder / "submission.json")
    assert "missing-file" in findings(folder)
    run_all(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_log_is_a_finding(record: Record) -> None:
    folder = record(GOOD)
    (folder / "train_seed1.log").chmod(0)
    assert findings(folder)["file-not-read"] == ["train_seed1.log"]
    run_all(folder)


@pytest.mark.parametrize("name", ["a.log", "plan.json"])
def test_a_link_to_a_name_that_is_too_long(record: Record, name: str) -> None:
    folder = record(GOOD)
    (folder / name).symlink_to("x" * 300)
    run_all(folder)


def test_folders_a_thousand_deep(tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    deep = str(tmp_path / "deep")
    os.mkdir(deep)
    for _ in range(1010):
        deep += "/a"
        os.mkdir(deep)
    try:
        done = python("-m", "analysis.audit", tmp_path / "deep")
    finally:
        subprocess.run(["rm", "-r", tmp_path / "deep"], check=True)
    assert "Traceback" not in done.stderr


# -- nothing is executed -----------------------------------------------------------------------------------------------


def test_nothing_of_a_folder_is_executed(
    record: Record, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder, marker = record(GOOD), tmp_path / "executed"
    source = f'import os\nopen({str(marker)!r}, "w")\nprint("final_int8_zlib_roundtrip_exact")\n'
    for seed, bpb in GOOD.items():
        (folder / f"train_seed{seed}.log").write_text(make_log(seed, bpb, source))
    for name in ("train_gpt.py", "conftest.py", "__init__.py", "sitecustomize.py", "json.py", "click.py", "setup.py"):
        (folder / name).write_text(source)
    (folder / ".pth").write_text(f"import os; open({str(marker)!r}, 'w')")
    run_all(folder)
    assert python("-m", "analysis.audit", folder).returncode in (0, 1)
    assert not marker.exists()


# -- names and texts that are commands to whoever prints them ----------------------------------------------------------


def nasty_names(folder: Path) -> None:
    for seed, name in enumerate(("::error::x.log", "a b.log", "x|y `z` [l](u) <b>.log", "@team #1 ~~s~~.log", "-rf.log")):  # fmt: skip
        (folder / name).write_text(small_log(seed, 1.2 + seed / 100))
    (folder / "::warning file=a::b").mkdir()
    (folder / "::warning file=a::b" / "t.log").write_text(small_log(9, 1.3))


def names_with_codes(folder: Path) -> None:
    (folder / "a\n::error::b\r\x1b[31m\u202ex.log").write_text(small_log(1, 1.2))
    (folder / "train\x07.log").write_text(small_log(2, 1.2))
    os.mkfifo(folder / "b\n::error::c\x1b[2J.log")


def names_that_are_no_text(folder: Path) -> None:
    for seed in (1, 2):
        Path(os.fsdecode(os.fsencode(folder / f"a{seed}") + b"\xff\xfe.log")).write_text(
            small_log(seed, 1.2 + seed / 100)
        )


def texts_in_the_json(folder: Path) -> None:
    small_folder(folder, dict.fromkeys(("name", "author", "date", "val_bpb", NASTY), NASTY), 1.2, 1.21)


def texts_in_the_log(folder: Path) -> None:
    said = NASTY.replace("\n", " ").replace("\r", " ")
    lines = f"data_path={said}\ntokenizer_path=./x\x1b]0;t\x07{said}\nRunning Python 3.11{said}\nhyperparameters:\n  lr: {said}\nx\n"
    for seed in (1, 2):
        (folder / f"s{seed}.log").write_text(lines.replace("lr: ", f"lr: {seed}") + small_log(seed, 1.2 + seed / 100))


@pytest.mark.parametrize(
    ("make", "printing"),
    [
        pytest.param(nasty_names, "all", id="names"),
        pytest.param(names_with_codes, "plain", id="names with codes"),
        pytest.param(names_with_codes, "listing", id="names with codes, listed"),
        pytest.param(names_that_are_no_text, "all", id="names that are no text"),
        pytest.param(texts_in_the_json, "all", id="texts in the JSON"),
        pytest.param(texts_in_the_log, "plain", id="texts in the log"),
        pytest.param(texts_in_the_log, "listing", id="texts in the log, listed"),
    ],
)
def test_what_is_printed_is_no_command(tmp_path: Path, make: Callable[[Path], None], printing: str) -> None:
    make(tmp_path)
    plain = ("logs json", "audit json", "leaderboard", "leaderboard json", "report json")
    listing = tuple(name for name in COMMANDS if name not in plain)
    run_all(tmp_path, {"all": tuple(COMMANDS), "plain": plain, "listing": listing}[printing])


def test_no_text_is_a_command_of_the_older_kind(tmp_path: Path) -> None:
    """GitHub's runner obeys ##[command] anywhere in a line."""
    small_folder(tmp_path, {"name": "x", "date": "##[error]x"}, 1.2)
    (tmp_path / "a##[stop-commands]b.log").write_text(small_log(7, 1.2))
    for name, printed in run_all(tmp_path).items():
        assert "json" in name or "##[" not in printed


FORMATS = [
    (logs.main, ("--format", "csv")), (logs.main, ("--format", "json")), (logs.main, ("--curves",)), (audit.main, ("--format", "json")),
    (leaderboard.main, ("--format", "csv")), (leaderboard.main, ("--format", "json")), (leaderboard.main, ("--format", "html")),
    (significance.main, ("report", "--sota", "1.3", "--format", "json")), (significance.main, ("report", "--sota", "1.3", "--format", "html")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "options"), FORMATS, ids=lambda value: "-".join(value[-1:]) if isinstance(value, tuple) else ""
)
@pytest.mark.parametrize("to_file", [False, True])
def test_files_hold_no_codes_either(
    tmp_path: Path, command: click.Command, options: tuple[str, ...], to_file: bool
) -> None:
    """Somebody prints a file too: control codes, changes of direction, invisible signs and commands are shown in every format."""
    folder, output = tmp_path / "r##[error]", tmp_path / "output"
    folder.mkdir()
    said = "x\x1b[31m\u202e\u200b\x7f##[error]"
    for seed in (1, 2):
        log = f"Running Python 3.11\nHyperparameters:\n  lr: {said}\ntokenizer_path=./{said}.model\n{small_log(seed, 1.2 + seed / 100)}"
        (folder / f"s{seed}\u202e\x1b[31m##[error].log").write_text(log)
    (folder / "submission.json").write_text(json.dumps({"val_bpb": 1.21, "date": said, "name": said}))
    where = ["--output", str(output)] if to_file and command is not audit.main else []
    result = CliRunner().invoke(command, [*options, *where, str(folder)])
    shown = output.read_text() if where else result.stdout
    assert shown
    assert not CONTROL.search(shown)
    assert "##[" not in shown
    assert not [line for line in shown.split("\n") if line.lstrip().startswith("::")]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", " =", "\uff1d"])
def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path, begin: str) -> None:
    text = f"{begin}HYPERLINK(1)"
    assert not escape.cell(text).lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
    for seed in (1, 2):
        (tmp_path / f"s{seed}.log").write_text(f"tokenizer_path=/{text.strip()}\n{small_log(seed, 1.2)}")
    shown = CliRunner().invoke(logs.main, [str(tmp_path), "--format", "csv"]).stdout
    assert "HYPERLINK" in shown
    assert f",{text.strip()}" not in shown
    assert f',"{text.strip()}' not in shown


def test_numbers_of_a_csv_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(small_log(1, "-1.5"))
    assert ",-1.5," in CliRunner().invoke(logs.main, [str(tmp_path), "--format", "csv"]).stdout


def test_no_command_prints_a_secret(tmp_path: Path) -> None:
    secret = "hf_" + "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"
    for seed in (1, 2):
        block = f"Hyperparameters:\n  HF_TOKEN: {secret}{seed}\n  lr: 0.1\n"
        log = small_log(seed, 1.2 + seed / 100).rstrip("\n") + f' "HF_TOKEN": "{secret}"\n'
        (tmp_path / f"s{seed}.log").write_text(block + log)
    (tmp_path / "submission.json").write_text(json.dumps({"val_bpb": 1.21, "date": secret}))
    for name, printed in run_all(tmp_path).items():
        assert secret[3:] not in printed, name


@pytest.mark.parametrize("name", ["::error::x", "a\n::error::x", "a\x1b[31m"])
def test_the_name_of_a_folder_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    folder.mkdir()
    small_folder(folder, {}, 1.2, 1.21)
    run_all(folder)
    run_all(Path(), ("leaderboard csv",))


# -- the submission JSON -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"val_bpb":' + "[" * 900 + "]" * 900 + "}",
        '{"val_bpb": ' + "9" * 100_000 + "}",
        '{"val_bpb": 1e999999999999999999999}',
        '{"val_bpb": 1e-999999999, "bytes_total": 1e999999}',
        '{"val_bpb": NaN, "val_loss": -Infinity, "seeds": [1e400, -1, 0.5, true, null, "0"]}',
        '{"val_bpb": "' + "9" * 100_000 + '"}',
        '{"val_bpb": "\\ud800", "name": "\\u0000\\u001b[31m", "date": "\\udfff\\n::error::x"}',
        '{"seeds": {"999999999999999999": {"val_bpb": 1.2}, "seed_1": []}, "val_bpbs": [1, 2]}',
        "",
        "null",
        "\ufeff{}",
        " " * 2_000_000,
    ],
    ids=lambda text: text[:24] or "nothing",
)  # fmt: skip
def test_any_json_ends_in_an_answer(tmp_path: Path, text: str) -> None:
    run_all(small_folder(tmp_path, text.encode("utf-8", "surrogatepass").decode(), 1.2, 1.21, 1.22), ("audit", "check"))


def test_a_json_in_other_bytes_is_a_finding(tmp_path: Path) -> None:
    small_folder(tmp_path, {}, 1.2)
    for data in (b"\xff\xfe{\0}\0", b"\x80", b"\0" * 100, os.urandom(1000)):
        (tmp_path / "submission.json").write_bytes(data)
        assert "missing-file" in findings(tmp_path)


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param({"val_bpb": " " * 20_000 + "x"}, id="a text of blanks"),
        pytest.param({"a" * 400_000: {f"b{i}": 1 for i in range(300)}}, id="a long key"),
        pytest.param({"bytesx_" + "total_" * 60_000: 5}, id="a key of totals"),
        pytest.param({f"seed{i}": 1 for i in range(20_000)}, id="many seeds"),
    ],
)
def test_no_json_takes_quadratic_time(tmp_path: Path, claim: dict[str, Any]) -> None:
    run_all(small_folder(tmp_path, claim, 1.2, 1.21), ("audit",), seconds=5)


def test_a_number_of_a_million_digits_is_not_printed(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, '{"val_bpb": 1.' + "1" * 900_000 + "}", 1.2, 1.21)
    assert len(run_all(folder, ("audit",))["audit"]) < 10_000


def test_a_loss_that_is_no_float_is_no_crash(tmp_path: Path) -> None:
    run_all(small_folder(tmp_path, '{"val_bpb": 1.2, "val_loss": 1e-400}', 1.2, 1.21))


# -- values that no run ends in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ("nan", "inf"),
        ("0", "0.0"),
        ("-1.2", "1.2"),
        ("1" * 400, "1." + "1" * 400),
        pytest.param(("1e308", "1.1e308", "1.2e308")),
        pytest.param(("inf", "-inf")),
        pytest.param(("1e-200", "2e-200")),
        pytest.param(("1e-322", "2e-322")),
    ],
    ids=str,
)
def test_any_value_ends_in_an_answer(tmp_path: Path, values: tuple[str, ...]) -> None:
    run_all(small_folder(tmp_path, {"val_bpb": 1.2}, *values))


@pytest.mark.parametrize("what", ["metrics", "hyper-parameters", "runs", "literals"])
def test_the_audit_of_one_large_log_takes_no_quadratic_time(tmp_path: Path, what: str) -> None:
    """Each is far below what a log may hold."""
    log = {
        "metrics": "seed:1\nstep:1/1\n" + "".join(f"f{i} val_loss:2 val_bpb:1.2\n" for i in range(2000)),
        "hyper-parameters": "hyperparameters:\n" + "".join(f" a{i}: 1\n" for i in range(10_000)) + small_log(1, 1.2),
        "runs": "".join(small_log(seed, 1.2) for seed in range(6000)),
        "literals": "import os\n" + "".join(f'"a{i}"\n' for i in range(8000)) + f"{'=' * 60}\n"
        + small_log(1, 1.2).replace("final", "f" * 1900),
    }[what]  # fmt: skip
    (tmp_path / "a.log").write_text(log)
    (tmp_path / "b.log").write_text(log.replace(": 1\n", ": 2\n").replace("seed:1\n", "seed:2\n"))
    (tmp_path / "submission.json").write_text('{"val_bpb": 7}')
    run_all(tmp_path, ("audit",), seconds=5)


# -- a folder that says it is a sweep ----------------------------------------------------------------------------------


def planned(folder: Path, **keys: object) -> Path:
    rules = {
        "name": "x",
        "version": 1,
        "metric": "val_bpb",
        "margin": 0.005,
        "unit": "bpb",
        "test": "one-sample t",
        "alpha": 0.01,
    }
    plan: dict[str, Any] = {"ruleset": rules, "arms": {"candidate": {}}, "seeds": [1], "script": {}} | keys
    (folder / "plan.json").write_text(json.dumps(plan | {"sha256": plan_digest(plan)}))
    return folder


@pytest.mark.parametrize("seeds", [["a\0b"], ["a" * 300], [{}], ["*"]], ids=str)
def test_a_plan_with_strange_seeds(tmp_path: Path, seeds: list[object]) -> None:
    run_all(planned(tmp_path, seeds=seeds))


def test_a_deep_plan_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[" * 100_000)
    run_all(tmp_path)


def test_a_plan_names_no_terminal_codes(tmp_path: Path) -> None:
    planned(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    planned(tmp_path, ruleset=plan["ruleset"] | {"name": "\x1b[31m"})
    run_all(tmp_path)


def test_a_plan_with_a_sota_that_is_no_number(tmp_path: Path) -> None:
    planned(tmp_path, sota="x")
    result = CliRunner().invoke(significance.main, ["check", str(tmp_path)])
    assert isinstance(result.exception, SystemExit)


def test_a_sweep_reads_nothing_outside(tmp_path: Path, outside: Path, opened: list[str]) -> None:
    """Neither by a seed that is a path nor by a link."""
    folder = tmp_path / "sweep"
    attempt = folder / "candidate" / "seed-1" / "attempt-1"
    attempt.mkdir(parents=True)
    (attempt / "run.json").write_text('{"state": "succeeded"}')
    (attempt / "train.log").symlink_to(outside / "secret.log")
    printed = run_all(planned(folder), ("audit", "report"))
    assert "1.2345" not in "".join(printed.values())
    assert not [path for path in opened if path.startswith(str(outside))]


@pytest.mark.parametrize("linked", ["run.json", ""])
def test_a_manifest_outside_is_not_read(tmp_path: Path, outside: Path, opened: list[str], linked: str) -> None:
    (outside / "run.json").write_text('{"state": "secret"}')
    folder = tmp_path / "sweep"
    link = folder / "candidate" / "seed-1" / "attempt-1" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / linked)
    printed = "".join(run_all(planned(folder), ("audit", "report")).values())
    assert "is a link that leads out of the folder" in printed
    assert "secret" not in printed
    assert not [path for path in opened if path.startswith(str(outside))]


def test_rulers_in_a_quote_that_never_ends(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(b'import os\n"""\n' + (b"=" * 20 + b"\n") * 60_000)
    run_all(tmp_path, ("audit", "report"))


def test_a_source_does_not_choose_its_codec(tmp_path: Path) -> None:
    """Python's punycode takes a second for 30 kB."""
    source = "# coding: punycode\n" + "x = 1  # \u00fc\n" * 20_000
    log = make_log(1, 1.2, source="@@@@").replace("@@@@", source)
    (tmp_path / "train.log").write_bytes(log.encode("latin-1"))
    run_all(tmp_path, ("audit",))


def test_thousands_of_folders_that_begin_a_submission(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "submission").touch()
    run_all(tmp_path, ("audit",))


# -- by chance ---------------------------------------------------------------------------------------------------------

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
REAL = [
    *make_log(1337, 1.2).encode().split(b"\n"),
    b"[rank0]: step 3/9 val_loss 2.1", b"seed is 5", b"params:1 ws:8 s:44", b"Hyperparameters:", b"  lr: 0.1", b"budget:15870/16000",
    b"stopping_early train_time:12ms step:2/2", b"pre-quant val_loss:2 val_bpb:nan", b"1700000000: s:3 tel:2.0 t:3s",
]  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """One folder for all examples."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def read_whole(data: bytes) -> list[Run]:
    runs = read_log(LOG, data)
    for run in runs:
        assert 1 <= run.line <= data.count(b"\n") + 1
        assert all(1 <= metric.line <= data.count(b"\n") + 1 for metric in run.metrics)
        _ = run.steps, run.finals
    return runs


@QUICK
@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    read_log(LOG, data)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Lines of a real log, shuffled, repeated and left out, with some bytes changed."""
    lines = draw(st.lists(st.sampled_from(REAL), max_size=60))
    data = bytearray(b"\n".join(lines))
    for _ in range(draw(st.integers(0, 8)) if data else 0):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=4) | st.sampled_from(REAL))
        if not data:
            break
    return bytes(data)


@QUICK
@given(mutated())
def test_any_order_of_real_lines(data: bytes) -> None:
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        read_whole(data)


KEYS = st.sampled_from(
    ["name", "author", "date", "val_bpb", "val_loss", "mean_val_bpb", "bytes_total", "code_bytes", "seeds", "seed", "seed_results", "1", "2",
     "seed_1_val_bpb", "val_bpbs", "metrics", "results", "log", "delta", "artifact_bytes"],
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([1, 2, 1.2, 1.21, 1.205, "1.2 +- 0.1", "15,870 bytes", NASTY, "train_seed1.log", 15870])
)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6), max_leaves=25
)  # fmt: skip


@QUICK
@given(JSON)
@example({"val_bpb": NASTY, "date": NASTY, "name": NASTY})
@example({"seeds": [[[[[[[[1]]]]]]]], "seed": {"seed": {"seed": 1}}})
def test_any_json_value(place: Path, value: Any) -> None:
    file = place / "alone.json"
    file.write_text(json.dumps(value))
    claim = read_claim(file)
    for what in claim.keys:
        assert claim.line_of(what) >= 1


@settings(QUICK, max_examples=25)
@given(st.dictionaries(KEYS, JSON, max_size=10))
def test_any_json_value_through_the_whole_audit(place: Path, value: dict[str, Any]) -> None:
    if not (place / "s1.log").exists():
        small_folder(place, {}, 1.2, 1.21)
    (place / "submission.json").write_text(json.dumps(value, indent=1))
    record = read_record([place])
    for finding in audit_folder(record, selection.select(record, RULES), RULES):
        assert finding.code in DEFAULTS
        assert finding.line >= 1
        assert "\n" not in annotation(finding, "")


ANY_TEXT = st.text(max_size=60) | st.text(alphabet="|\\`<>&:@#[]()!*_~-\n\r\x1b%,. a", max_size=30)


@QUICK
@given(ANY_TEXT)
def test_a_markdown_cell_stays_a_cell(text: str) -> None:
    cell = escape.markdown(text)
    assert not CONTROL.search(cell)
    assert not set(re.sub(r"\\.", "", cell)) & set("\n|<>`*_[]@")


@QUICK
@given(ANY_TEXT)
def test_printable_text_moves_no_cursor(text: str) -> None:
    assert not CONTROL.search(escape.printable(text))
    assert "\n" not in escape.printable(text)


def no_logs(severity: Severity, file: str, message: str) -> Finding:
    return Finding(code=Code.NO_LOGS, severity=severity, file=file, line=1, message=message)


@QUICK
@given(ANY_TEXT, ANY_TEXT, st.sampled_from(SEVERITIES))
def test_an_annotation_is_one_line(file: str, message: str, severity: Severity) -> None:
    line = annotation(no_logs(severity, file, message), "folder")
    assert re.match(r"::(?:error|warning|notice) file=[^:,\r\n]*,line=1,title=no-logs::", line)
    assert "\n" not in line
    assert "\r" not in line


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202e", "\udcff", "\x85"])
def test_the_file_of_an_annotation_holds_no_codes(text: str) -> None:
    assert not CONTROL.search(annotation(no_logs(Severity.ERROR, text, ""), ""))


@pytest.mark.parametrize("text", ["\u061c", "\U000e0041", "\u00ad", "\u180e", "\u3164", "\u206f", "\U000e01ef"])
def test_invisible_characters_are_shown(text: str) -> None:
    assert text not in escape.printable(text)


# -- what the fuzzer starts from and has found -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "seed"), [(name, seed) for name in TARGETS for seed in sorted((SEEDS / name).iterdir())],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_a_seed_of_the_fuzzer(tmp_path: Path, target: str, seed: Path) -> None:
    with within(5):
        TARGETS[target](seed.read_bytes(), tmp_path)
