"""What the driver makes of a run's end, without Ray: which runs are made again, and how often."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.rules.ruleset import load
from analysis.sweepdir.layout import read_plan
from orchestration.disk.lock import Lock
from orchestration.driver.drive import Care, StopError, _Driver, carry_out
from orchestration.plan.freeze import freeze, make_plan

LOST = {"state": "lost", "reason": "its node went away"}


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """A driver of two seeds that may be started twice each; `submitted` are the runs that it queues."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    claim = {"ruleset": asdict(load("parameter-golf")), "sota": 1.2}
    freeze(make_plan(script, None, None, [1, 2], {}, 0, 1, claim, {"name": "fixed"}), tmp_path / "sweep")
    lock = Lock(tmp_path / "sweep")
    found = _Driver(tmp_path / "sweep", read_plan(tmp_path / "sweep"), Care(max_attempts=2), lock, None)
    found.settle()
    found.submitted = []
    found.pool = SimpleNamespace(submit=lambda order, **more: found.submitted.append((order, more)))
    yield found
    found.lock.release()


def begin(order: Any) -> Any:
    order.folder.mkdir(parents=True)
    write(order, "running")
    return order


def write(order: Any, state: str) -> None:
    said = {"arm": order.arm, "seed": order.seed, "attempt": order.attempt, "state": state, "reason": None}
    (order.folder / "run.json").write_text(json.dumps(said))


def test_a_lost_run_is_made_again_until_the_attempts_are_over(driver: Any) -> None:
    driver.ended(begin(driver.order("candidate", 1, 1)), "A", LOST)
    ((again, more),) = driver.submitted
    assert (again.seed, again.attempt, more) == (1, 2, {"lost_on": "A", "first": True})
    driver.ended(begin(again), "B", LOST)
    assert len(driver.submitted) == 1
    events = [json.loads(line) for line in driver.journal.path.read_text().splitlines()]
    assert [(event["attempt"], event["state"]) for event in events] == [(1, "lost"), (2, "lost")]


def test_a_run_whose_node_died_before_it_began_has_lost_no_attempt(driver: Any) -> None:
    driver.ended(driver.order("candidate", 1, 1), "A", LOST)
    driver.ended(begin(driver.submitted[-1][0]), "B", LOST)
    third = driver.submitted[-1][0]
    assert (len(driver.submitted), third.attempt) == (2, 3)
    driver.ended(begin(third), "A", LOST)
    assert len(driver.submitted) == 2


def test_a_run_that_never_begins_is_not_made_again_for_ever(driver: Any) -> None:
    driver.submitted.append((driver.order("candidate", 1, 1), {}))
    for order, _ in islice(driver.submitted, 20):  # which grows meanwhile
        driver.ended(order, "A", LOST)
    assert len(driver.submitted) == 4  # two that are no attempts of the seed's, and the two that it may have
    assert driver.states["candidate", 1] == "lost"


def test_a_result_is_copied_before_the_journal_tells_of_it(driver: Any) -> None:
    copied = []

    def put(*paths: Path) -> None:
        told = "succeeded" in driver.journal.path.read_text() if driver.journal.path.exists() else False
        copied.append(([path.name for path in paths], told))

    driver.storage = SimpleNamespace(put=put)
    order = begin(driver.order("candidate", 1, 1))
    driver.ended(order, "A", {"state": "succeeded", "reason": None, "ended": "now", "wall_s": 1.0})
    assert copied == [(["attempt-1"], False), (["events.jsonl"], True)]


def test_a_file_of_the_scripts_own_is_no_manifest(driver: Any) -> None:
    order = begin(driver.order("candidate", 1, 1))
    for content in ('{"lr": 1}', '{"state": "succeeded", "seed": 1}', "no JSON"):
        (order.folder / "run.json").write_text(content)
        assert driver.end(order, LOST)["state"] == "lost"
        assert json.loads((order.folder / "run.json").read_text())["attempt"] == 1


def test_without_gpus_a_run_sees_none(driver: Any) -> None:
    assert driver.order("candidate", 1, 1).env == {"CUDA_VISIBLE_DEVICES": ""}
    driver.plan["gpus_per_run"] = 8
    assert driver.order("candidate", 1, 1).env == {}


def test_a_driver_that_breaks_down_has_no_verdict(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(driver: object) -> None:
        raise KeyError("state")

    driver.lock.release()
    driver.lock = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr(_Driver, "drive", broken)
    assert carry_out(driver.directory, Care()) == 4
    said = capsys.readouterr().err
    assert "Error: the driver broke down (KeyError)" in said
    assert "Go on with: python -m orchestration.sweep resume" in said


def test_a_driver_whose_lock_is_another_ones_stops(driver: Any) -> None:
    driver.lock.taken = True
    driver.pool = SimpleNamespace(open=1, poll=lambda: None, submit=lambda order: None)
    with pytest.raises(StopError, match="another driver has taken over the sweep at "):
        driver.run_out()
    driver.lock.taken = False


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_with_a_result_is_never_made_again(driver: Any, state: str) -> None:
    order = begin(driver.order("candidate", 1, 1))
    driver.ended(order, "A", {"state": state, "reason": "why", "ended": "now", "wall_s": 1.0})
    assert driver.submitted == []
    assert driver.states["candidate", 1] == state


def test_what_the_worker_wrote_last_stands_though_it_could_not_tell(driver: Any) -> None:
    order = begin(driver.order("candidate", 1, 1))
    write(order, "succeeded")
    driver.ended(order, "A", LOST)
    assert driver.submitted == []
    assert driver.states["candidate", 1] == "succeeded"


def test_a_run_that_finds_no_room_waits_and_is_the_same_attempt(driver: Any) -> None:
    order = driver.order("candidate", 1, 1)
    driver.ended(order, "A", {"state": "pending", "reason": "full"})
    assert driver.submitted == [(order, {"first": True})]
