"""The copy of a sweep that outlives its machine: what goes there, what comes back, whose it is."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.disk import storage as module
from orchestration.disk.lock import HeldError, _space
from orchestration.disk.storage import Storage, StorageError
from orchestration.driver.care import Care
from orchestration.driver.drive import carry_out
from orchestration.plan.freeze import freeze
from tests.conftest import until
from tests.orchestration.orders import plan_of

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


def lock_of(driver: str, **more: object) -> bytes:
    return json.dumps(
        {"host": "head", "pid": 1, "user": "u", "since": "then", "sweep": "S", "driver": driver} | more
    ).encode()


def there(url: str) -> Path:
    return Path(url.removeprefix("file://")) / "mine"


def opened(url: str, sweep: Path, driver: str = "first") -> Storage:
    """The storage of a driver that has shown itself there."""
    storage = Storage(url, sweep)
    storage.beat(lock_of(driver))
    lock = there(url) / "sweep.lock"
    until(lambda: storage.taken or (lock.is_file() and json.loads(lock.read_text())["driver"] == driver))
    return storage


def copied(url: str, sweep: Path, silent_s: float = 100, driver: str = "first", **owner: object) -> None:
    """Let a driver on `head` copy its sweep, and then be silent for so long."""
    storage = opened(url, sweep, driver)
    storage.put(sweep)
    assert storage.close(lock_of(driver, **owner), 10) is None
    os.utime(there(url) / "sweep.lock", (time.time() - silent_s,) * 2)


def test_a_sweep_comes_back_as_it_was_but_for_its_lock(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    again = tmp_path / "new head" / "mine"
    assert Storage(url, again).sweep == "S"
    assert contents(again) == contents(sweep)
    assert sorted(contents(there(url))) == sorted([*contents(sweep), "sweep.lock"])  # and nothing half-written


def test_the_lock_of_the_directory_stays_the_file_that_it_is(sweep: Path, url: str) -> None:
    copied(url, sweep)
    (sweep / "sweep.lock").write_text("{}")
    before = (sweep / "sweep.lock").stat().st_ino
    Storage(url, sweep)
    assert (sweep / "sweep.lock").stat().st_ino == before


@pytest.mark.parametrize(
    ("owner", "held"),
    [
        ({}, True),
        ({"released": "now"}, False),
        ({"host": HOST, "pid": 1, "space": _space()}, True),
        ({"host": HOST, "pid": 999999999, "space": _space()}, False),
        ({"host": HOST, "pid": 999999999, "space": "x"}, True),
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
        Storage(url, tmp_path / "new" / "mine")
    assert (tmp_path / "new" / "mine" / "plan.json").exists() is not held


def test_a_driver_that_was_taken_over_stops_copying(sweep: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    copied(url, sweep, driver="dead")
    storage = opened(url, sweep)  # in the place of the dead one

    def taken() -> bool:
        (there(url) / "sweep.lock").write_bytes(lock_of("second"))  # a beat between a look and a write goes over it
        return storage.taken

    until(taken)
    (sweep / "late").write_text("of the first")
    storage.put(sweep)
    assert storage.close(lock_of("first", released="now"), 10) is None
    assert not (there(url) / "late").exists()
    assert json.loads((there(url) / "sweep.lock").read_text())["driver"] == "second"


def test_the_journal_comes_after_the_runs_that_it_tells_of(
    sweep: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(url, sweep)
    order: list[str] = []
    monkeypatch.setattr(storage, "_copy_one", lambda path: order.append(path.name))
    monkeypatch.setattr(storage, "_copier", object())  # nothing is copied yet
    (sweep / "events.jsonl").write_text("1")
    for name in ("one", "two"):
        (sweep / name).mkdir()
        for file in ("run.json", "train.log", "weights"):
            (sweep / name / file).write_text(name)
        storage.put(sweep / name, sweep / "events.jsonl")
    monkeypatch.setattr(storage, "_copier", None)
    storage.put()
    assert storage.close(lock_of("first", released="now"), 60) is None
    assert order[-7:] == ["train.log", "weights", "run.json", "train.log", "weights", "run.json", "events.jsonl"]


def test_one_that_began_while_we_fetched_is_left_alone(sweep: Path, url: str) -> None:
    copied(url, sweep)
    storage = Storage(url, sweep)
    (there(url) / "sweep.lock").write_bytes(lock_of("quicker"))
    storage.beat(lock_of("first"))
    until(lambda: storage.taken)
    assert json.loads((there(url) / "sweep.lock").read_text())["driver"] == "quicker"


def test_the_heart_goes_on_when_the_lock_was_taken_away(sweep: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    storage = opened(url, sweep)
    (there(url) / "sweep.lock").unlink()
    until((there(url) / "sweep.lock").is_file)
    storage.close(lock_of("first", released="now"), 0)
    assert json.loads((there(url) / "sweep.lock").read_text())["released"] == "now"


def test_what_went_on_elsewhere_comes_too(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    other = tmp_path / "other" / "mine"
    storage = opened(url, other, "second")
    run = other / "candidate" / "seed-1" / "attempt-1" / "run.json"
    run.write_text('{"state": "succeeded"}')
    (other / "candidate" / "seed-2").mkdir()
    (other / "candidate" / "seed-2" / "x").write_text("new")
    storage.put(other / "candidate")
    assert storage.close(lock_of("second", released="now"), 10) is None
    Storage(url, sweep)
    assert contents(sweep / "candidate") == contents(other / "candidate")


def test_what_could_not_be_copied_before_is_copied_by_the_next_driver(sweep: Path, url: str) -> None:
    copied(url, sweep)
    (sweep / "candidate" / "seed-1" / "attempt-1" / "train.log").write_text("came after the storage was away")
    storage = opened(url, sweep)
    assert not (there(url) / "candidate" / "seed-1" / "attempt-1" / "train.log").exists()  # before the first put
    storage.put()
    assert storage.close(lock_of("first"), 10) is None
    assert contents(there(url) / "candidate") == contents(sweep / "candidate")


def test_another_sweep_of_the_same_name_is_not_written_over(sweep: Path, url: str, tmp_path: Path) -> None:
    copied(url, sweep)
    theirs = tmp_path / "theirs" / "mine"
    theirs.mkdir(parents=True)
    (theirs / "plan.json").write_text('{"a": 2}')
    with pytest.raises(StorageError, match=f"^{url} holds another sweep with the name mine"):
        Storage(url, theirs)
    assert (there(url) / "plan.json").read_text() == '{"a": 1}'


def test_a_storage_that_fails_for_a_while_loses_nothing(sweep: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    storage = opened(url, sweep)
    away = there(url).with_name("away")
    there(url).rename(away)
    there(url).write_text("in the way")
    said = [storage.put(sweep)]
    until(lambda: said.append(storage.put()) or said[-1])
    assert f"{url} cannot be written: " in str(said[-1])
    assert "2 files were not copied to" in str(storage.close(lock_of("first"), 0.2))
    there(url).unlink()
    away.rename(there(url))
    until(lambda: contents(sweep).keys() <= contents(there(url)).keys())


def test_a_file_that_has_gone_or_has_no_name_in_text_holds_up_no_other(sweep: Path, url: str) -> None:
    storage = opened(url, sweep)
    (sweep / os.fsdecode(b"weights-\xff")).write_text("x")
    with storage._changed:
        storage._due[sweep / "gone"] = None
    storage.put(sweep)
    assert str(storage.close(lock_of("first"), 10)).startswith("1 files were not copied to")
    assert (there(url) / "plan.json").is_file()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://bucket", "file:///proc/nothing/here"])
def test_a_url_that_cannot_be_used_is_named(sweep: Path, url: str) -> None:
    with pytest.raises(StorageError, match=f"--storage {url} cannot be used"):
        Storage(url, sweep)


# -- a new sweep where one lies already ----------------------------------------------------------------------------------


@pytest.fixture
def frozen(tmp_path: Path) -> Callable[[str], Path]:
    """A sweep directory of one user, with the same plan as everybody's."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")

    def make(user: str) -> Path:
        freeze(plan_of(script, "1,2"), tmp_path / user / "mine")
        return tmp_path / user / "mine"

    return make


@pytest.mark.parametrize("there_is", [["plan.json"], ["events.jsonl"], ["plan.json", "candidate/seed-1/run.json"]])
def test_a_new_sweep_takes_over_nothing_though_the_plans_are_one(
    frozen: Callable[[str], Path], url: str, there_is: list[str]
) -> None:
    for name in there_is:
        (there(url) / name).parent.mkdir(parents=True, exist_ok=True)
        (there(url) / name).write_bytes((frozen("first") / "plan.json").read_bytes() if name == "plan.json" else b"{}")
    before, second = contents(there(url)), frozen("second")
    with pytest.raises(
        StorageError, match=r"already holds a sweep with the name mine: continue it with `sweep resume "
    ):
        carry_out(second, Care(storage=url), fresh=True)
    assert contents(there(url)) == before
    assert not (second / "plan.json").exists()  # nothing ran: another --storage may be named
    assert not (second / "candidate").exists()
    assert not (second / "events.jsonl").exists()


def test_a_new_sweep_leaves_a_complete_one_alone_and_resume_takes_it(
    frozen: Callable[[str], Path], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, told = frozen("first"), []
    for seed in (1, 2):
        attempt = first / "candidate" / f"seed-{seed}" / "attempt-1"
        attempt.mkdir(parents=True)
        (attempt / "train.log").write_text("of the first user\n")
        (attempt / "run.json").write_text(
            json.dumps({"state": "succeeded", "arm": "candidate", "seed": seed, "attempt": 1})
        )
    copied(url, first)
    monkeypatch.setattr("orchestration.driver.drive._conclude", lambda driver: told.append(driver.progress.done) or 0)
    with pytest.raises(StorageError, match="already holds a sweep"):
        carry_out(frozen("second"), Care(storage=url), fresh=True)
    assert told == []
    assert carry_out(first.parents[1] / "third" / "mine", Care(storage=url)) == 0
    assert told == [2]


def test_a_lock_without_a_plan_is_of_no_sweep(frozen: Callable[[str], Path], url: str) -> None:
    there(url).mkdir()
    (there(url) / "sweep.lock").write_bytes(lock_of("first", released="now"))
    assert Storage(url, frozen("second"), fresh=True).sweep is None
    (there(url) / "sweep.lock").write_bytes(lock_of("first"))
    with pytest.raises(HeldError):
        Storage(url, frozen("third"), fresh=True)
