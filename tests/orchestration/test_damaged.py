"""A sweep whose files are damaged or gone, and a shell in a deleted folder: one sentence with the path, and exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.disk.lock import Lock, living_owner

Run = Callable[..., subprocess.CompletedProcess[str]]
GARBAGE = bytes(range(256)) * 3
SWEEP = "orchestration.sweep"


@pytest.fixture
def damaged(sweep: Callable[..., Path]) -> Callable[[str, bytes], Path]:
    def make(name: str, content: bytes) -> Path:
        folder = sweep({1: 1.2, 2: 1.201, 3: 1.202}, gpus_per_run=0, cpus_per_run=1)
        (folder / name).write_bytes(content)
        return folder

    return make


def sentence(found: subprocess.CompletedProcess[str]) -> str:
    """The refusal, which must be the only one."""
    assert found.returncode == 2, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize("verb", ["status", "resume", "collect"])
@pytest.mark.parametrize("content", [GARBAGE, b"[" * 100_000, b"[]\n"], ids=["bytes", "deep", "list"])
@pytest.mark.parametrize("name", ["plan.json", "events.jsonl"])
def test_a_damaged_file_of_the_sweep_is_named(
    damaged: Callable[[str, bytes], Path], command: Run, verb: str, name: str, content: bytes
) -> None:
    folder = damaged(name, content)
    assert f"{folder / name} " in sentence(command(SWEEP, verb, folder))


def test_a_damaged_run_json_of_a_sweep_without_a_journal_is_named(
    damaged: Callable[[str, bytes], Path], command: Run
) -> None:
    folder = damaged("candidate/seed-2/attempt-1/run.json", GARBAGE)
    for verb in ("status", "collect"):
        assert "seed-2/attempt-1/run.json cannot be read as JSON" in sentence(command(SWEEP, verb, folder))


@pytest.mark.parametrize("content", [GARBAGE, b"[" * 100_000, b"[]", b"x" * 2**17])
def test_a_damaged_lock_holds_nobody_up(damaged: Callable[[str, bytes], Path], content: bytes) -> None:
    folder = damaged("sweep.lock", content)
    assert living_owner(folder) is None
    lock = Lock(folder)
    assert lock.was_damaged
    lock.release()
    again = Lock(folder)
    assert not again.was_damaged
    again.release()


@pytest.mark.parametrize("verb", ["status", "resume", "collect"])
def test_a_deleted_sweep_is_named(damaged: Callable[[str, bytes], Path], command: Run, verb: str) -> None:
    folder = damaged("x", b"")
    shutil.rmtree(folder)
    assert str(folder) in sentence(command(SWEEP, verb, folder))
    assert not folder.exists()


def test_a_sweep_that_is_read_only_is_not_resumed(
    damaged: Callable[[str, bytes], Path], command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = damaged("x", b"")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # what a read-only disk says
    assert f"{folder} cannot be written: it is read-only" in sentence(command(SWEEP, "resume", folder))


@pytest.mark.parametrize(
    ("module", "words"),
    [(SWEEP, ("status", "x")), (SWEEP, ("resume", "x")), (SWEEP, ("run",)), ("analysis.significance", ("check", "x"))],
)
def test_a_working_directory_that_was_deleted_is_said(
    command: Run, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...]
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert "working directory was deleted" in sentence(command(module, *words))
