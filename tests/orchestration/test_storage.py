"""The copy of a sweep that outlives its machine: what goes there, what comes back, whose it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestration import storage as module
from orchestration.lock import HeldError
from orchestration.storage import Storage, StorageError


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep directory with one run under way."""
    folder = tmp_path / "head" / "mine"
    attempt = folder / "candidate" / "seed-1" / "attempt-1"
    attempt.mkdir(parents=True)
    (folder / "plan.json").write_text('{"a": 1}')
    (folder / "sweep.lock").write_text('{"host": "head", "pid": 1, "user": "u", "since": "then"}')
    (attempt / "run.json").write_text('{"state": "running"}')
    return folder


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path}/bucket"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def silence(url: str, seconds: float) -> None:
    os.utime(Path(url.removeprefix("file://")) / "mine" / "sweep.lock", (time.time() - seconds,) * 2)


def test_a_sweep_comes_back_as_it_was(sweep: Path, url: str, tmp_path: Path) -> None:
    assert Storage(url, sweep).put(sweep) is None
    silence(url, 100)
    again = tmp_path / "new head" / "mine"
    Storage(url, again).fetch()
    assert contents(again) == contents(sweep)
    assert time.time() - (again / "sweep.lock").stat().st_mtime > 60  # or the new driver would think the old one lives
    assert not [name for name in contents(tmp_path / "bucket") if name.endswith(".partial")]


def test_a_living_driver_elsewhere_keeps_its_sweep(sweep: Path, url: str, tmp_path: Path) -> None:
    Storage(url, sweep).put(sweep)
    with pytest.raises(HeldError, match="process 1 of u on head, since then, last heard of"):
        Storage(url, tmp_path / "new" / "mine").fetch()
    assert not (tmp_path / "new" / "mine" / "plan.json").exists()


def test_what_went_on_elsewhere_comes_too(sweep: Path, url: str, tmp_path: Path) -> None:
    Storage(url, sweep).put(sweep)
    silence(url, 100)
    other = tmp_path / "other" / "mine"
    there = Storage(url, other)
    there.fetch()
    run = other / "candidate" / "seed-1" / "attempt-1" / "run.json"
    run.write_text('{"state": "succeeded"}')
    (other / "candidate" / "seed-2").mkdir()
    (other / "candidate" / "seed-2" / "x").write_text("new")
    there.put(other / "candidate")
    Storage(url, sweep).fetch()
    assert contents(sweep / "candidate") == contents(other / "candidate")


def test_another_sweep_of_the_same_name_is_not_written_over(sweep: Path, url: str, tmp_path: Path) -> None:
    Storage(url, sweep).put(sweep)
    silence(url, 100)
    theirs = tmp_path / "theirs" / "mine"
    theirs.mkdir(parents=True)
    (theirs / "plan.json").write_text('{"a": 2}')
    with pytest.raises(StorageError, match="holds another sweep of the name mine"):
        Storage(url, theirs).fetch()


def test_a_storage_that_fails_for_a_while_loses_nothing(
    sweep: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(url, sweep)
    bucket = tmp_path / "bucket" / "mine"
    bucket.rmdir()
    bucket.write_text("in the way")
    assert "cannot be written, 3 files wait" in str(storage.put(sweep))
    assert storage.put(sweep / "plan.json") is None  # not tried again at once
    assert storage.behind == 3
    bucket.unlink()
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
    assert storage.put() is None
    assert (storage.behind, contents(bucket)) == (0, contents(sweep))


@pytest.mark.parametrize("url", ["nonsense", "nosuch://bucket", "file:///proc/nothing/here"])
def test_a_url_that_cannot_be_used_is_named(sweep: Path, url: str) -> None:
    with pytest.raises(StorageError, match=f"--storage {url} cannot be used"):
        Storage(url, sweep)
