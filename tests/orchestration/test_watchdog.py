"""When a run has to be ended: every fault of the watchdog, and the runs that have none."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.rules.ruleset import load
from orchestration.worker import watchdog as module
from orchestration.worker.outcome import Outcome, judge
from orchestration.worker.transfer import Outbox
from orchestration.worker.watchdog import Watchdog, dump_stacks


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text("step:1\nstep:2\n")
    return path


def append(log: Path, text: str) -> None:
    with open(log, "a") as file:
        file.write(text)


def test_a_run_that_writes_has_no_fault(log: Path) -> None:
    watchdog = Watchdog(log, 60, 60)
    for step in range(100):
        append(log, f"step:{step} {'x' * step}\n")
        assert watchdog.fault() is None
    assert watchdog.fault_at_the_end() is None


def test_silence_is_a_hang_and_a_line_ends_it(log: Path) -> None:
    watchdog = Watchdog(log, 0.05, None)
    assert watchdog.fault() is None
    time.sleep(0.06)
    append(log, "step:3\n")
    assert watchdog.fault() is None
    time.sleep(0.06)
    assert watchdog.fault() == Outcome(state="lost", reason="hung: no line for 0.05 s")
    assert watchdog.fault_at_the_end() is None  # it came to its end after all


def test_a_run_that_is_not_done_by_its_deadline_failed(log: Path) -> None:
    watchdog = Watchdog(log, 60, 0.01)
    time.sleep(0.02)
    assert watchdog.fault() == Outcome(state="failed", reason="not done after 0.01 s, the deadline")
    assert watchdog.fault_at_the_end() is None


def test_a_log_that_is_too_long_to_be_read_ends_its_run_as_failed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 100)
    watchdog = Watchdog(log, 60, 60)
    append(log, "x" * (100 - log.stat().st_size))
    assert watchdog.fault() is None
    append(log, "x")
    expected = Outcome(state="failed", reason="its log grew beyond 64 MiB, the most that is read: print less")
    assert watchdog.fault() == watchdog.fault_at_the_end() == expected


def test_a_log_that_cannot_be_read_for_a_while_is_no_fault(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(log, 60, 60)
    assert watchdog.fault() is None

    def away(*arguments: object, **more: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", away)
        assert watchdog.fault() is None
    append(log, "step:3\n")
    assert watchdog.fault() is None


@pytest.mark.parametrize("grown", ["", "step:3\nstep:4\nstep:5\n"], ids=["shorter", "longer again"])
def test_a_log_that_was_cut_is_lost(log: Path, grown: str) -> None:
    watchdog = Watchdog(log, 60, 60)
    assert watchdog.fault() is None
    os.truncate(log, 10)
    append(log, grown)
    fault = watchdog.fault()
    assert fault
    assert fault.state == "lost"
    assert "was cut" in str(fault.reason)
    assert watchdog.fault_at_the_end() is not None


def test_a_log_that_was_taken_away_is_lost(log: Path) -> None:
    watchdog = Watchdog(log, 60, 60)
    log.unlink()
    assert watchdog.fault() == Outcome(state="lost", reason=f"{log} was taken away while the run wrote it")


def test_a_run_whose_node_lost_its_ray_is_lost(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(log, 60, 60)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert watchdog.fault() == Outcome(state="lost", reason="the Ray process of its node went away")
    assert watchdog.fault_at_the_end() is None


def test_stacks_of_a_hung_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "py-spy"
    tool.write_text('#!/bin/sh\n[ "$1 $2" = "dump --pid" ] && echo "stack of $3"\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout
        child.stdout.readline()
        assert dump_stacks(os.getpid(), tmp_path / "stacks.txt")
        child.kill()
    assert f"stack of {child.pid}" in (tmp_path / "stacks.txt").read_text()


def test_without_py_spy_there_are_no_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
    assert not dump_stacks(os.getpid(), tmp_path / "stacks.txt")
    assert not (tmp_path / "stacks.txt").exists()


def test_a_link_in_the_place_of_a_log_reaches_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script knows where the data is, and the worker may write there."""
    monkeypatch.setattr(module, "LIMIT", 9)
    monkeypatch.setattr(module, "MOST_LOG_BYTES", 10)
    data, log = tmp_path / "data", tmp_path / "train.log"
    data.write_bytes(b"final_int8_zlib_roundtrip_exact val_loss:2.0 val_bpb:1.0\n")
    log.touch()
    dog = Watchdog(log, 60.0, None)
    log.unlink()
    os.symlink(data, log)
    found = dog.fault()
    assert found is not None
    assert (found.state, found.reason) == ("lost", f"{log} was replaced by a link")
    assert not dog.too_long
    module.cut(log)
    assert data.read_bytes().endswith(b"val_bpb:1.0\n")
    assert judge(log, 0, 7, load("parameter-golf")).state == "failed"
    with pytest.raises(OSError, match="symbolic links"):
        list(Outbox(tmp_path).log())
    module.cut(data)
    assert data.stat().st_size == 10
