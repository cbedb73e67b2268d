"""What the driver makes of a run's end, without Ray: which runs are retried, and how often."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.sweepdir.manifest import RunManifest
from analysis.sweepdir.plan import read_plan
from orchestration.disk.lock import Lock
from orchestration.driver import loop
from orchestration.driver.care import Care
from orchestration.driver.dealing import Size
from orchestration.driver.drive import carry_out
from orchestration.driver.loop import Driver, StopError
from orchestration.plan.freeze import freeze
from orchestration.worker.order import Began, Ended, Part, RunOrder
from tests.orchestration.orders import plan_of

LOST = Ended(state="lost", reason="its node went away")


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """A driver of two seeds that may be started twice each; `submitted` are the runs that it queues."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    freeze(plan_of(script, "1,2"), tmp_path / "sweep")
    lock = Lock(tmp_path / "sweep")
    found: Any = Driver(tmp_path / "sweep", read_plan(tmp_path / "sweep"), Care(max_attempts=2), lock, None)
    found.settle()
    found.submitted = []
    found.pool = SimpleNamespace(submit=lambda order, **more: found.submitted.append((order, more)))
    yield found
    found.lock.release()


def order_of(driver: Any, attempt: int = 1) -> RunOrder:
    made: RunOrder = driver.order(job_of(driver), attempt)
    return made


def job_of(driver: Any) -> Any:
    return driver.jobs["candidate", 1]


def begin(order: RunOrder) -> RunOrder:
    order.folder.mkdir(parents=True)
    write(order, "running")
    return order


def write(order: RunOrder, state: str, **more: Any) -> Ended:
    """Write run.json as a worker does; return what it would tell."""
    said = {"arm": order.arm, "seed": order.seed, "attempt": order.attempt, "state": state, "reason": None} | more
    path = order.folder / "run.json"
    path.write_text(json.dumps(said))
    return Ended(state=state, reason=said["reason"], manifest=RunManifest.of(said, path))


def test_a_lost_run_is_retried_until_the_attempts_are_over(driver: Any) -> None:
    driver.ended(begin(order_of(driver)), "A", LOST)
    ((again, more),) = driver.submitted
    assert again.seed == 1
    assert again.attempt == 2
    assert more == {"lost_on": "A", "first": True}
    driver.ended(begin(again), "B", LOST)
    assert len(driver.submitted) == 1
    events = [json.loads(line) for line in driver.journal.path.read_text().splitlines()]
    assert [(event["attempt"], event["state"]) for event in events] == [(1, "lost"), (2, "lost")]


def test_a_run_whose_node_died_before_it_began_has_lost_no_attempt(driver: Any) -> None:
    driver.ended(order_of(driver), "A", LOST)
    driver.ended(begin(driver.submitted[-1][0]), "B", LOST)
    third = driver.submitted[-1][0]
    assert len(driver.submitted) == 2
    assert third.attempt == 3
    driver.ended(begin(third), "A", LOST)
    assert len(driver.submitted) == 2


def test_a_run_that_never_begins_is_not_retried_for_ever(driver: Any) -> None:
    driver.submitted.append((order_of(driver), {}))
    for order, _ in islice(driver.submitted, 20):  # which grows meanwhile
        driver.ended(order, "A", LOST)
    assert len(driver.submitted) == 4  # two that are no attempts of the seed's, and the two that it may have
    assert job_of(driver).state == "lost"


def test_a_run_that_cannot_be_started_twice_for_the_same_cause_is_not_tried_again(driver: Any) -> None:
    driver.care = Care(max_attempts=9)
    driver.pool.begun = 0
    full = Ended(state="lost", reason="the node is full", cause="memory")
    driver.ended(order_of(driver), "A", full)
    driver.ended(driver.submitted[-1][0], "A", Ended(state="lost", reason="no Python", cause="interpreter"))
    driver.ended(driver.submitted[-1][0], "A", LOST)
    driver.ended(driver.submitted[-1][0], "A", full)
    assert len(driver.submitted) == 4
    with pytest.raises(StopError, match="the node is full"):
        driver.ended(driver.submitted[-1][0], "A", full)
    assert json.loads((driver.submitted[-1][0].folder / "run.json").read_text())["reason"] == "the node is full"


def test_where_other_runs_begin_the_sweep_goes_on_without_the_run_that_cannot(driver: Any) -> None:
    driver.care = Care(max_attempts=9)
    driver.pool.begun = 1
    for _ in range(2):
        driver.ended(
            order_of(driver) if not driver.submitted else driver.submitted[-1][0], "A", replace(LOST, cause="disk")
        )
    assert len(driver.submitted) == 1
    assert job_of(driver).state == "lost"


def test_what_runs_when_the_head_hangs_gets_a_named_state_and_nothing_follows(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CLOSE_S", 0.1)
    hangs, order = threading.Event(), begin(order_of(driver))
    job_of(driver).order = order
    driver.event(order, "running", node="A")
    driver.pool = SimpleNamespace(close=lambda: hangs.wait(60))
    written = threading.Event()

    def watch() -> None:
        driver.abandon("Ray's head no longer answers")
        written.set()
        hangs.wait(60)  # the process would end here

    threading.Thread(target=watch).start()
    assert written.wait(60)
    late = threading.Thread(target=driver.ended, args=(order, "A", write(order, "succeeded")), daemon=True)
    late.start()
    late.join(0.2)
    events = [json.loads(line) for line in driver.journal.path.read_text().splitlines()]
    assert [(event["state"], event["reason"]) for event in events][1:] == [("stopped", "Ray's head no longer answers")]
    assert late.is_alive()
    hangs.set()


def test_a_result_is_copied_before_the_journal_tells_of_it(driver: Any) -> None:
    copied = []

    def put(*paths: Path) -> None:
        told = "succeeded" in driver.journal.path.read_text() if driver.journal.path.exists() else False
        copied.append(([path.name for path in paths], told))

    driver.storage = SimpleNamespace(put=put)
    order = begin(order_of(driver))
    driver.ended(order, "A", write(order, "succeeded", ended="now", wall_s=1.0))
    assert copied == [(["attempt-1"], False), (["events.jsonl"], True)]


def test_a_file_of_the_scripts_own_is_not_a_manifest(driver: Any) -> None:
    order = begin(order_of(driver))
    for content in ('{"lr": 1}', '{"state": "succeeded", "seed": 1}', "no JSON"):
        (order.folder / "run.json").write_text(content)
        assert driver.give_up(order, "lost", "why").state == "lost"
        assert json.loads((order.folder / "run.json").read_text())["attempt"] == 1


def test_without_gpus_a_run_sees_none(driver: Any) -> None:
    assert order_of(driver).env == {"CUDA_VISIBLE_DEVICES": ""}
    driver.size = Size(gpus=8, cpus=8)
    assert order_of(driver).env == {}


def test_a_driver_that_breaks_down_has_no_verdict(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(driver: object) -> None:
        raise KeyError("state")

    driver.lock.release()
    driver.lock = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr(Driver, "settle", broken)
    assert carry_out(driver.directory, Care(stall_timeout=50.0, parallel=1)) == 4
    said = capsys.readouterr().err
    assert "Error: the driver broke down (KeyError)" in said
    assert f"Go on with: python -m orchestration.sweep resume {driver.directory} --stall-timeout 50\n" in said


def test_a_driver_whose_lock_is_another_ones_stops(driver: Any) -> None:
    driver.lock.taken = True
    driver.pool = SimpleNamespace(open=1, poll=lambda: None, submit=lambda order: None)
    with pytest.raises(StopError, match="another driver has taken over the sweep at "):
        driver.run_out()
    driver.lock.taken = False


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_with_a_result_is_never_retried(driver: Any, state: str) -> None:
    order = begin(order_of(driver))
    driver.ended(order, "A", write(order, state, reason="why", ended="now", wall_s=1.0))
    assert driver.submitted == []
    assert job_of(driver).state == state


def test_what_the_worker_wrote_last_stands_though_it_could_not_tell(driver: Any) -> None:
    order = begin(order_of(driver))
    write(order, "succeeded")
    driver.ended(order, "A", LOST)
    assert driver.submitted == []
    assert job_of(driver).state == "succeeded"


def test_a_run_that_finds_no_room_waits_and_is_the_same_attempt(driver: Any) -> None:
    order = order_of(driver)
    driver.ended(order, "A", Ended(state="pending", reason="full"))
    assert driver.submitted == [(order, {"first": True})]


def test_a_run_that_no_node_has_room_for_stops_the_sweep(driver: Any) -> None:
    order = order_of(driver)
    driver.ended(order, "A", Ended(state="pending", reason="full"))
    job_of(driver).refused_since -= driver.care.stall_timeout
    with pytest.raises(StopError, match="candidate seed 1 finds no room: full."):
        driver.ended(order, "A", Ended(state="pending", reason="full"))


def test_a_run_from_another_disk_is_filled_and_what_is_half_there_is_cleared(driver: Any) -> None:
    order = order_of(driver)
    table = {"arm": "candidate", "seed": 1, "attempt": 1, "state": "running", "reason": None}
    driver.arrived(order, Began(manifest=RunManifest.of(table, order.folder)))
    driver.arrived(order, Part(name="weights", content=b"x", first=True))
    driver.arrived(order, Part(name="train.log", content=b"step:1\n"))
    driver.ended(order, "A", LOST)
    assert sorted(path.name for path in order.folder.iterdir()) == ["run.json", "train.log"]
    assert json.loads((order.folder / "run.json").read_text())["state"] == "lost"


def test_a_driver_that_died_left_its_attempt_to_the_next_one(driver: Any) -> None:
    begin(order_of(driver))
    again = Driver(driver.directory, driver.plan, driver.care, driver.lock, None)
    again.settle()
    job = job_of(again)
    assert job.state == "lost"
    assert job.reason == "its driver went away"
    assert job.first_attempt == 2
    assert again.progress.done == 0


def test_the_options_that_differ_from_the_usual_are_named() -> None:
    assert Care().words() == []
    care = Care(max_attempts=5, deadline=90.0, wait_for_nodes=0.5, storage="s3://a b")
    assert care.words() == [
        "--max-attempts",
        "5",
        "--deadline",
        "90",
        "--wait-for-nodes",
        "0.5",
        "--storage",
        "s3://a b",
    ]
