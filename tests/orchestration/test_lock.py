"""One driver a sweep: the lock's owner, its death, and owners on other hosts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestration.disk import lock as module
from orchestration.disk.lock import SILENT_S, HeldError, Lock, Owner, living_owner, read_owner
from tests.conftest import ROOT, until


def elsewhere(directory: Path, silent_s: float, **changes: object) -> None:
    """A lock that another host holds, and that was last touched so long ago."""
    owner = {"sweep": "S", "host": "other", "pid": 1, "user": "u", "since": "then"} | changes
    path = directory / "sweep.lock"
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() - silent_s,) * 2)


def test_a_second_driver_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(
        HeldError, match=rf"is in use: process {os.getpid()} of .* on {socket.gethostname()}, since .*, last heard of"
    ):
        Lock(tmp_path)
    assert (living_owner(tmp_path) or Owner()).pid == os.getpid()
    lock.release()
    assert living_owner(tmp_path) is None
    again = Lock(tmp_path)
    assert again.sweep == lock.sweep  # the sweep outlives its drivers
    again.release()


def test_a_dead_owner_is_taken_over_at_once(tmp_path: Path) -> None:
    code = f"import os, sys; from pathlib import Path; from orchestration.disk.lock import Lock; l = Lock(Path({str(tmp_path)!r})); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert read_owner(tmp_path).pid != os.getpid()
    assert living_owner(tmp_path) is None
    lock = Lock(tmp_path)
    assert read_owner(tmp_path).pid == os.getpid()
    lock.release()


def test_an_owner_on_another_host_lives_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    elsewhere(tmp_path, SILENT_S - 10)
    assert (living_owner(tmp_path) or Owner()).host == "other"
    with pytest.raises(HeldError, match=r"on other, since then, last heard of 50 s ago"):
        Lock(tmp_path)
    elsewhere(tmp_path, SILENT_S + 10)
    assert living_owner(tmp_path) is None
    lock = Lock(tmp_path)
    assert lock.sweep == "S"
    lock.release()
    elsewhere(tmp_path, 0, released="now")
    Lock(tmp_path).release()


def test_a_lock_that_another_driver_has_taken_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    lock = Lock(tmp_path)
    lock.beat()
    elsewhere(tmp_path, 0, driver="another")
    until(lambda: lock.taken)
    lock.release()
    assert read_owner(tmp_path).released is None


def test_two_machines_may_have_one_name(tmp_path: Path) -> None:
    elsewhere(tmp_path, 5, host=socket.gethostname(), space="another-kernelpid:[1]")
    assert (living_owner(tmp_path) or Owner()).pid == 1
    with pytest.raises(HeldError, match="last heard of 5 s ago"):
        Lock(tmp_path)


def test_the_heart_beats_until_the_lock_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    path = tmp_path / "sweep.lock"
    lock = Lock(tmp_path)
    lock.beat()
    for _ in range(2):
        os.utime(path, (0, 0))
        until(lambda: time.time() - path.stat().st_mtime < 5)
    lock.release()
    os.utime(path, (0, 0))
    time.sleep(0.05)
    assert path.stat().st_mtime == 0


@pytest.mark.parametrize("living", [True, False])
def test_without_locks_of_the_file_system_the_heartbeat_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, living: bool
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    pid = os.getpid() if living else 999999999
    elsewhere(tmp_path, 5, host=socket.gethostname(), pid=pid, space=module._space())
    if living:
        assert (living_owner(tmp_path) or Owner()).pid == pid
        with pytest.raises(HeldError, match=f"process {pid} of u"):
            Lock(tmp_path)
    else:
        assert living_owner(tmp_path) is None
        Lock(tmp_path).release()


def test_a_full_disk_does_not_take_the_sweeps_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lock(tmp_path)
    first.release()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            Lock(tmp_path)
    second = Lock(tmp_path)
    assert second.sweep == first.sweep
    assert second.driver != first.driver
    second.release()


@pytest.mark.parametrize("content", ["", "nonsense", "[1]"])
def test_a_damaged_lock_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.lock").write_text(content)
    assert living_owner(tmp_path) is None
    Lock(tmp_path).release()
