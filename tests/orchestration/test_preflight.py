"""Before a run starts: what an earlier one left is ended, a full disk and a busy GPU refuse it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.worker import preflight
from orchestration.worker.preflight import MARKER, end_leftovers, no_room, take_gpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

Usage = namedtuple("Usage", "total used free")


def sleeper(mark: str) -> subprocess.Popen[bytes]:
    """A process of a run, in a session of its own."""
    return subprocess.Popen(["sleep", "60"], env=os.environ | {MARKER: mark}, start_new_session=True)


def test_leftovers_of_the_seed_and_orphans_of_the_sweep_are_ended() -> None:
    sweep = f"test{os.getpid()}"
    marks = {"own": f"{sweep}/candidate/7/1", "orphan": f"{sweep}/candidate/8/1", "other": f"{sweep}x/candidate/7/1"}
    processes = {name: sleeper(mark) for name, mark in marks.items()}
    try:
        ended = end_leftovers(sweep, "candidate", 7)
        assert sorted(ended) == sorted([processes["own"].pid, processes["orphan"].pid])
        assert processes["other"].poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_a_supervised_run_of_another_seed_is_left_alone(tmp_path: Path) -> None:
    sweep = f"test{os.getpid()}"
    supervisor = tmp_path / "supervisor.py"
    supervisor.write_text(
        "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, supervisor], env=os.environ | {MARKER: f"{sweep}/control/7/1"}, stdout=subprocess.PIPE
    )
    assert process.stdout
    child = int(process.stdout.readline())
    try:
        assert end_leftovers(sweep, "candidate", 7) == []
        assert end_leftovers(sweep, "control", 7) == sorted([process.pid, child])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_full_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_room(tmp_path) is None
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(1, 1, 63 * 2**20))
    assert no_room(tmp_path) == f"{tmp_path} has 63 MiB of free disk; a run needs 64 MiB"
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(1, 1, 64 * 2**20))
    assert no_room(tmp_path) is None


def test_a_read_only_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.os, "statvfs", lambda path: namedtuple("V", "f_flag")(os.ST_RDONLY | os.ST_NOATIME))
    assert no_room(tmp_path) == f"{tmp_path} is on a read-only file system"


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """An environment with two GPUs of which so much memory is in use, and of which a run sees `mine`."""
    monkeypatch.setattr(preflight, "GPU_LOCKS", tmp_path)

    def make(first: object = 400, second: object = 400, mine: str | None = None) -> dict[str, str]:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '0, GPU-a, {first}'\necho '1, GPU-b, {second}'\n")
        tool.chmod(0o755)
        return {"PATH": str(tmp_path)} | ({} if mine is None else {"CUDA_VISIBLE_DEVICES": mine})

    return make


@pytest.mark.parametrize(
    ("memory", "mine", "found"),
    [
        ((400, 400), None, None),
        ((400, 3000), None, "GPU 1 has 3000 MiB in use by another process"),
        ((400, 3000), "0", None),
        ((400, 3000), "0,1", "GPU 1 has 3000 MiB in use by another process"),
        ((400, 3000), "GPU-b", "GPU 1 has 3000 MiB in use by another process"),
        (("[N/A]", "[N/A]"), None, None),
    ],
)
def test_a_gpu_that_somebody_uses_refuses_the_run(
    gpus: Callable[..., dict[str, str]], memory: tuple[object, object], mine: str | None, found: str | None
) -> None:
    with contextlib.ExitStack() as held:
        assert take_gpus(gpus(*memory, mine=mine), held) == found


def test_two_sweeps_of_one_machine_do_not_take_the_same_gpu(gpus: Callable[..., dict[str, str]]) -> None:
    with contextlib.ExitStack() as one, contextlib.ExitStack() as other:
        assert take_gpus(gpus(mine="1"), one) is None
        assert take_gpus(gpus(), other) == "GPU 1 is taken by another sweep"
        assert take_gpus(gpus(mine="0"), other) is None  # which the refused one has given back
        one.close()
        assert take_gpus(gpus(mine="GPU-b"), other) is None
        assert take_gpus(gpus(mine=""), one) is None  # a run on CPUs


@pytest.mark.parametrize("mine", [None, "", "0"])
def test_a_tool_that_finds_no_gpu_takes_none(
    tmp_path: Path, gpus: Callable[..., dict[str, str]], mine: str | None
) -> None:
    environment = gpus(mine=mine)
    text = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\necho 'NVML library version: 1'\nexit 18\n"
    (tmp_path / "nvidia-smi").write_text(text)
    with contextlib.ExitStack() as one, contextlib.ExitStack() as other:
        assert take_gpus(environment, one) is None
        assert take_gpus(environment, other) is None


def test_without_nvidia_smi_no_gpu_is_busy(tmp_path: Path) -> None:
    assert shutil.which("nvidia-smi", path=str(tmp_path)) is None
    with contextlib.ExitStack() as held:
        assert take_gpus({"PATH": str(tmp_path)}, held) is None
