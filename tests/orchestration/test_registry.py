"""What a sweep enters in a registry before it starts, and what it does while that cannot be written."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.evidence.registered.read import read_entries
from analysis.sweepdir.plan import read_plan
from analysis.sweepdir.registry import RegistryError
from orchestration.disk.journal import Attempt
from orchestration.disk.lock import Lock
from orchestration.disk.registry import open_registry
from orchestration.driver.buying import register as module
from orchestration.driver.buying.register import Registrar
from orchestration.driver.care import Care
from orchestration.driver.drive import carry_out
from orchestration.driver.loop import Driver, StopError
from orchestration.plan.freeze import freeze
from tests.conftest import until
from tests.orchestration.orders import plan_of

PLAN = "f" * 64
ONE, TWO = Attempt("candidate", 1, 1), Attempt("candidate", 2, 1)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[[str], Path]:
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")

    def make(place: str) -> Path:
        freeze(plan_of(script, "1,2"), tmp_path / place)
        return tmp_path / place

    return make


@pytest.fixture
def branch(tmp_path: Path) -> str:
    """A bare repository without a commit."""
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "repo.git"], check=True)
    return f"git+file://{tmp_path}/repo.git#registry"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "registry").mkdir()
    return f"file://{tmp_path}/registry"


@pytest.fixture(params=["folder", "branch"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def registrar(url: str | None, folder: Path, lock: Lock) -> tuple[Registrar, list[str]]:
    said: list[str] = []
    return Registrar(url, read_plan(folder), lock, said.append), said


def test_the_plan_and_each_attempt_are_entered_once(url: str, sweep: Callable[[str], Path]) -> None:
    folder = sweep("sweep")
    lock, plan = Lock(folder), read_plan(folder)
    try:
        one, said = registrar(url, folder, lock)
        one.open()
        assert said == [f"Plan {plan.sha256[:12]} is entered in {url}."]
        assert until_has(one, ONE)
        assert one.has(ONE)
        one.open()  # as a driver does that was interrupted
        assert until_has(one, TWO)
    finally:
        lock.release()
    entries = read_entries(url, plan.sha256)
    told = sorted((entry.arm or "plan", entry.seed or 0, entry.attempt or 0) for entry in entries)
    assert told == [("candidate", 1, 1), ("candidate", 2, 1), ("plan", 0, 0)]
    assert {entry.sweep for entry in entries} == {lock.sweep}
    assert all(entry.when for entry in entries)
    assert read_entries(url, PLAN) == []


def until_has(one: Registrar, attempt: Attempt) -> bool:
    until(lambda: one.has(attempt), within_s=60)
    return True


def test_the_same_plan_in_another_place_is_a_second_sweep(url: str, sweep: Callable[[str], Path]) -> None:
    for place in ("here", "there"):
        lock = Lock(sweep(place))
        registrar(url, lock._path.parent, lock)[0].open()
        lock.release()
    assert len({entry.sweep for entry in read_entries(url, read_plan(lock._path.parent).sha256)}) == 2


def test_an_entry_says_what_is_needed_to_recognise_the_plan(
    folder: str, sweep: Callable[[str], Path], tmp_path: Path
) -> None:
    place = sweep("sweep")
    lock = Lock(place)
    registrar(folder, place, lock)[0].open()
    lock.release()
    (path,) = (tmp_path / "registry").rglob("plan.*.json")
    told, plan = json.loads(path.read_text()), read_plan(place)
    assert told["plan"] == plan.sha256
    assert told["rules"] == "parameter-golf"
    assert told["seeds"] == [1, 2]
    assert told["script_sha256"] == plan.script.sha256
    assert [one.name for one in (tmp_path / "registry").rglob("*") if one.is_file()] == [path.name]


def test_an_entry_is_never_written_over(url: str) -> None:
    name = f"{PLAN}/{'a' * 16}/plan.{'b' * 16}.json"
    open_registry(url).write(name, b'{"time": "first"}')
    open_registry(url).write(name, b'{"time": "second"}')
    if url.startswith("file"):
        assert Path(f"{url.removeprefix('file://')}/{name}").read_bytes() == b'{"time": "first"}'
    else:
        assert [entry.time for entry in read_entries(url, PLAN)] == ["first"]


def test_pushes_that_race_all_arrive(branch: str) -> None:
    names = [f"{PLAN}/{'a' * 16}/candidate-seed-{seed}-attempt-1.{'b' * 16}.json" for seed in range(4)]
    writers = [threading.Thread(target=open_registry(branch).write, args=(name, b"{}")) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(entry.seed or 0 for entry in read_entries(branch, PLAN)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "removed",
    [
        ["rm -qr .", "commit -qm Tidy"],
        [
            "checkout -q --orphan clean", "rm -qrf .", "commit -qm Clean --allow-empty",
            "merge -q -s ours --allow-unrelated-histories -m Merge registry", "branch -qM registry",
        ],
    ],
    ids=["by a commit", "by a merge"],
)  # fmt: skip
def test_what_a_later_commit_removed_still_counts(branch: str, tmp_path: Path, removed: list[str]) -> None:
    open_registry(branch).write(f"{PLAN}/{'a' * 16}/candidate-seed-1-attempt-1.{'b' * 16}.json", b"{}")
    git = ["git", "-C", str(tmp_path / "clone"), "-c", "user.name=x", "-c", "user.email=x"]
    repository = branch.removeprefix("git+").partition("#")[0]
    subprocess.run(["git", "clone", "-q", "-b", "registry", repository, str(tmp_path / "clone")], check=True)
    for words in (*removed, "push -q origin registry"):
        subprocess.run([*git, *words.split()], check=True)
    assert not (tmp_path / "clone" / PLAN).exists()
    assert [entry.seed for entry in read_entries(branch, PLAN)] == [1]


# -- a registry that is away ---------------------------------------------------------------------------------------------


class Away:
    """A registry that takes nothing while it is away."""

    def __init__(self) -> None:
        self.away, self.entries = True, list[str]()

    def write(self, name: str, content: bytes) -> None:
        if self.away:
            raise OSError("no route to host")
        self.entries.append(name)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    found = Away()
    monkeypatch.setattr(module, "open_registry", lambda url: found)
    return found


@pytest.fixture
def driver(sweep: Callable[[str], Path], away: Away) -> Iterator[Any]:
    """A driver whose registry took the plan and went away."""
    folder = sweep("sweep")
    lock = Lock(folder)
    found: Any = Driver(folder, read_plan(folder), Care(registry="s3://r", stall_timeout=5.0), lock, None)
    found.settle()
    found.said = []
    found.registrar._say = found.said.append
    away.away = False
    found.registrar.open()
    away.away = True
    found.pool = SimpleNamespace(open=1, submit=lambda order, **_: None, poll=lambda: None, clear=lambda: None)
    yield found
    found.lock.release()


def test_a_run_waits_until_it_is_entered_and_says_so_once(driver: Any, away: Away) -> None:
    order = driver.orders.of(driver.jobs["candidate", 1], 1)
    until(lambda: driver.may_start(order) or len(driver.said) > 1, within_s=60)
    assert not driver.may_start(order)
    assert driver.said[1:] == ["candidate seed 1: waits: the registry s3://r cannot be written: no route to host"]
    away.away = False
    until(lambda: driver.may_start(order), within_s=60)
    assert len(away.entries) == 2
    assert driver.registrar.given_up(0) is None


def test_it_gives_up_after_the_stall_time_out_once_nothing_runs(driver: Any) -> None:
    order = driver.orders.of(driver.jobs["candidate", 1], 1)
    until(lambda: driver.may_start(order) or len(driver.said) > 1, within_s=60)
    driver.registrar._asked[order.key] -= 6
    with pytest.raises(
        StopError, match="no run starts that is not registered, and for 5 s the registry s3://r cannot be"
    ):
        driver.run_out()


def test_a_registry_that_cannot_be_used_buys_nothing(sweep: Callable[[str], Path], away: Away) -> None:
    folder = sweep("sweep")
    with pytest.raises(RegistryError, match="--registry s3://r cannot be written: no route to host"):
        carry_out(folder, Care(registry="s3://r"), fresh=True)
    assert not (folder / "plan.json").exists()  # the corrected command may use the same folder


def test_without_a_registry_every_run_may_start(sweep: Callable[[str], Path]) -> None:
    lock = Lock(sweep("sweep"))
    one, said = registrar(None, lock._path.parent, lock)
    one.open()
    assert one.has(ONE)
    assert one.given_up(0) is None
    assert said == []
    lock.release()
