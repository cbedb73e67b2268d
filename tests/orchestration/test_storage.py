"""The copy of a sweep that outlives its machine: what goes there, what comes back, whose it is."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from orchestration import storage as module
from orchestration.lock import HeldError
from orchestration.storage import Storage, StorageError

HOST = socket.gethostname()


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep directory with one run under way."""
    folder = tmp_path / "head" / "mine"
    attempt = folder / "candidate" / "seed-1" / "attempt-1"
    attempt.mkdir(parents=True)
    (folder / "plan.json").write_text('{"a": 1}')
    (attempt / "run.json").write_text('{"state": "running"}')
    return folder


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path}/bucket"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def copied(url: str, sweep: Path, silent_s: float = 100, **owner: object) -> None:
    """Let the driver on `head` copy its sweep, and then be silent for so long."""
    storage = Storage(url, sweep)
    lock = {"host": "head", "pid": 1, "user": "u", "since": "then", "driver": "first"} | owner
    assert storage.beat(json.dumps(lock).encode())
    assert storage.close(10) == 0
    os.utime(Path(url.removeprefix("file://")) / sweep.name / "sweep.lock", (time.time() - silent_s,) * 2)


def test_a_sweep_comes_back_as_it_was(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    again = tmp_path / "new head" / "mine"
    Storage(url, again).close(0)
    assert contents(again) == contents(sweep) | {"sweep.lock": (again / "sweep.lock").read_text()}
    assert time.time() - (again / "sweep.lock").stat().st_mtime > 60  # or the new driver would think the old one lives
    assert not [name for name in contents(tmp_path / "bucket") if name.endswith(".partial")]


@pytest.mark.parametrize(
    ("owner", "held"),
    [
        ({}, True),
        ({"released": "now"}, False),
        ({"host": HOST, "pid": 1}, True),
        ({"host": HOST, "pid": 999999999}, False),
    ],
)
def test_a_living_driver_keeps_its_sweep(
    sweep: Path, url: str, tmp_path: Path, owner: dict[str, object], held: bool
) -> None:
    copied(url, sweep, 5, **owner)
    if held:
        with pytest.raises(HeldError, match=r"is in use: process \d+ of u on .*, since then, last heard of 5 s ago"):
            Storage(url, tmp_path / "new" / "mine")
    else:
        Storage(url, tmp_path / "new" / "mine").close(0)
    assert (tmp_path / "new" / "mine" / "plan.json").exists() is not held


def test_a_driver_that_was_taken_over_hears_it(sweep: Path, url: str) -> None:
    copied(url, sweep, driver="dead")
    storage = Storage(url, sweep)
    assert storage.beat(b'{"driver": "first"}')  # in the place of the dead one
    assert storage.beat(b'{"driver": "first"}')
    (Path(url.removeprefix("file://")) / "mine" / "sweep.lock").write_text('{"driver": "second"}')
    assert not storage.beat(b'{"driver": "first"}')
    storage.close(0)


def test_what_went_on_elsewhere_comes_too(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    other = tmp_path / "other" / "mine"
    there = Storage(url, other)
    run = other / "candidate" / "seed-1" / "attempt-1" / "run.json"
    run.write_text('{"state": "succeeded"}')
    (other / "candidate" / "seed-2").mkdir()
    (other / "candidate" / "seed-2" / "x").write_text("new")
    there.put(other / "candidate")
    assert there.close(10) == 0
    Storage(url, sweep).close(0)
    assert contents(sweep / "candidate") == contents(other / "candidate")


def test_what_could_not_be_copied_before_is_copied_by_the_next_driver(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    (sweep / "candidate" / "seed-1" / "attempt-1" / "train.log").write_text("came after the storage was away")
    assert Storage(url, sweep).close(10) == 0
    assert contents(tmp_path / "bucket" / "mine" / "candidate") == contents(sweep / "candidate")


def test_another_sweep_of_the_same_name_is_not_written_over(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    theirs = tmp_path / "theirs" / "mine"
    theirs.mkdir(parents=True)
    (theirs / "plan.json").write_text('{"a": 2}')
    with pytest.raises(StorageError, match="holds another sweep of the name mine"):
        Storage(url, theirs)
    assert (tmp_path / "bucket" / "mine" / "plan.json").read_text() == '{"a": 1}'


def test_a_storage_that_fails_for_a_while_loses_nothing(
    sweep: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    bucket = tmp_path / "bucket" / "mine"
    opened = Storage(url, tmp_path / "none" / "mine")  # nothing to copy yet
    opened.close(0)
    bucket.rmdir()
    bucket.write_text("in the way")
    opened._directory, opened._closing = sweep, False
    opened._copier = threading.Thread(target=opened._copy, daemon=True)
    opened._copier.start()
    trouble = opened.put(sweep)
    deadline = time.monotonic() + 10
    while not (trouble := trouble or opened.put()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert f"{url} cannot be written, 2 files wait" in trouble
    bucket.unlink()
    assert opened.close(10) == 0
    assert contents(bucket) == contents(sweep)


def test_a_file_that_has_gone_away_is_not_waited_for(sweep: Path, url: str, tmp_path: Path) -> None:
    storage = Storage(url, sweep)
    assert storage.close(10) == 0
    gone = sweep / "candidate" / "weights.tmp"
    storage = Storage(url, sweep)
    with storage._changed:
        storage._due[gone] = None
    storage.put(sweep / "plan.json")
    assert storage.close(10) == 0


@pytest.mark.parametrize("url", ["nonsense", "nosuch://bucket", "file:///proc/nothing/here"])
def test_a_url_that_cannot_be_used_is_named(sweep: Path, url: str) -> None:
    with pytest.raises(StorageError, match=f"--storage {url} cannot be used"):
        Storage(url, sweep)
