"""What the driver makes of a run's end, without Ray: which runs are retried, and how often."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.sweepdir.layout import SweepError
from analysis.sweepdir.manifest import RunManifest, planned_runs
from analysis.sweepdir.plan import read_plan
from orchestration.disk import patient
from orchestration.disk.journal import DRIVER_GONE, JournalError
from orchestration.disk.lock import HEARTBEAT_S, Lock
from orchestration.disk.patient import GoneError
from orchestration.driver import drive, loop
from orchestration.driver.care import Care, not_complete
from orchestration.driver.dealing import Size
from orchestration.driver.drive import carry_out
from orchestration.driver.loop import Driver, StopError
from orchestration.plan.freeze import freeze
from orchestration.worker.order import Began, Ended, Part, RunOrder
from tests.orchestration.orders import plan_of

LOST = Ended(state="lost", reason="its node went away")


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """A driver of two seeds that may each be lost once; `submitted` are the runs that it queues."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    freeze(plan_of(script, "1,2", max_attempts=2), tmp_path / "sweep")
    lock = Lock(tmp_path / "sweep")
    found: Any = Driver(tmp_path / "sweep", read_plan(tmp_path / "sweep"), Care(), lock, None)
    found.settle()
    found.submitted = []
    found.pool = SimpleNamespace(submit=lambda order, **more: found.submitted.append((order, more)), clear=lambda: None)
    yield found
    found.lock.release()


def order_of(driver: Any, attempt: int = 1) -> RunOrder:
    made: RunOrder = driver.orders.of(job_of(driver), attempt)
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


def test_the_limit_counts_lost_attempts_over_all_drivers_but_those_whose_driver_went_away(driver: Any) -> None:
    driver.started(begin(order_of(driver)), "A")  # its driver dies
    again = next_driver(driver)
    job = job_of(again)
    ended = again.journal.of("candidate", 1)[1]
    assert ended.wall_s == pytest.approx(HEARTBEAT_S, abs=5)  # until it was last heard of, and a heartbeat more
    assert (job.state, job.reason, job.next_attempt) == ("lost", DRIVER_GONE, 2)
    for attempt in (2, 3):
        assert again.may_run(job)
        again.ended(begin(again.orders.of(job, attempt)), "A", LOST)
    assert [order.attempt for order, _ in again.submitted] == [3]
    third = next_driver(again)
    assert not third.may_run(job_of(third))
    third.submit_due()
    assert [order.seed for order, _ in third.submitted] == [2]


def next_driver(driver: Any) -> Any:
    """The driver that goes on after another has ended."""
    again: Any = Driver(driver.directory, driver.plan, driver.care, driver.lock, None)
    again.settle()
    again.submitted = []
    again.pool = SimpleNamespace(submit=lambda order, **more: again.submitted.append((order, more)))
    return again


def test_a_run_that_never_begins_is_not_retried_for_ever(driver: Any) -> None:
    driver.submitted.append((order_of(driver), {}))
    for order, _ in islice(driver.submitted, 20):  # which grows meanwhile
        driver.ended(order, "A", LOST)
    assert len(driver.submitted) == 2
    assert job_of(driver).state == "lost"


def test_no_run_starts_once_the_frozen_script_was_changed(driver: Any) -> None:
    script = driver.directory / "script.py"
    script.chmod(0o644)
    script.write_text("print(2)\n")
    with pytest.raises(StopError, match=r"script.py was changed after the plan was frozen"):
        driver.started(order_of(driver), "A")
    assert not driver.journal.tells


def test_a_run_that_cannot_be_started_twice_for_the_same_cause_is_not_tried_again(driver: Any) -> None:
    driver.plan = replace(driver.plan, max_attempts=9)
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
    driver.plan = replace(driver.plan, max_attempts=9)
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
    another = driver.orders.of(driver.jobs["candidate", 2], 1)
    late = threading.Thread(target=driver.started, args=(another, "A"), daemon=True)
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


FORGED = (
    '{"state": "succeeded", "arm": "candidate", "seed": 1, "attempt": 1, "metric": {"val_bpb": 1.0}, "exit_code": 0}'
)


@pytest.mark.parametrize("content", ['{"lr": 1}', FORGED, "no JSON", "[]"])
def test_a_manifest_that_the_script_wrote_decides_nothing(driver: Any, content: str) -> None:
    order = begin(order_of(driver))
    (order.folder / "run.json").write_text(content)
    assert driver.give_up(order, "lost", "why").state == "lost"
    table = json.loads((order.folder / "run.json").read_text())
    assert (table["state"], table["attempt"], table["metric"], table["exit_code"]) == ("lost", 1, None, None)
    (order.folder / "run.json").write_text(content)  # once more, after its end
    again = next_driver(driver)
    assert (job_of(again).state, job_of(again).reason) == ("lost", "why")
    assert planned_runs(driver.directory, driver.plan)[0].state == "lost"


def test_the_event_that_ends_an_attempt_says_what_its_log_was(driver: Any) -> None:
    order = order_of(driver)
    driver.started(begin(order), "A")
    log = b"step:5/10 val_loss:2.2 val_bpb:1.31 train_time:1ms step_avg:1ms\nsome more\n"
    (order.folder / "train.log").write_bytes(log)
    driver.ended(order, "A", LOST)
    event = json.loads(driver.journal.path.read_text().splitlines()[-1])
    assert event.pop("wall_s") >= 0
    del event["time"]
    digest = hashlib.sha256(log).hexdigest()
    assert event == {
        "arm": "candidate", "seed": 1, "attempt": 1, "state": "lost", "reason": LOST.reason, "node": "A",
        "log_sha256": digest, "log_bytes": len(log), "metric": None, "last": 1.31,
    }  # fmt: skip


def test_a_journal_that_somebody_else_has_written_to_ends_the_sweep(driver: Any) -> None:
    order = begin(order_of(driver))
    driver.started(order, "A")
    before = driver.journal.path.read_bytes()
    driver.journal.check_content()
    driver.journal.path.write_bytes(before.replace(b"running", b"failed "))  # as long as before
    driver.journal.check()
    with pytest.raises(JournalError, match="holds other lines than the driver wrote"):
        driver.journal.check_content()
    driver.journal.path.write_bytes(before + b"{}\n")
    with pytest.raises(JournalError, match=f"has {len(before) + 3} bytes, and the driver left {len(before)}") as raised:
        driver.ended(order, "A", LOST)
    assert raised.value.exit_code == 3
    driver.journal.path.unlink()
    driver.pool = SimpleNamespace(open=1, poll=lambda: None, submit=lambda order, **_: None)
    with pytest.raises(JournalError, match="has 0 bytes"):
        driver.run_out()
    driver.journal.path.write_bytes(before + b"no JSON\n")  # the next driver reads what is there
    assert job_of(next_driver(driver)).state == "lost"


def test_a_sweep_that_was_handed_over_without_its_journal_is_read_from_its_files(driver: Any) -> None:
    order = begin(order_of(driver))
    write(order, "succeeded", started="2026-04-05T10:00:00+00:00", ended="2026-04-05T10:01:00+00:00", wall_s=60.0)
    (order.folder / "train.log").write_text(
        "Total submission size int8+zlib: 15820 bytes\nfinal_x val_loss:2.0 val_bpb:1.2\n"
    )
    again = next_driver(driver)
    assert (job_of(again).state, again.progress.done) == ("succeeded", 1)
    planned = planned_runs(driver.directory, driver.plan)[0]
    assert planned.state == "succeeded"
    ((minute,),) = [[(one.ended - one.started).seconds for one in planned.attempts if one.ended and one.started]]
    assert minute == 60


def test_without_gpus_a_run_sees_none(driver: Any) -> None:
    assert order_of(driver).env == {"CUDA_VISIBLE_DEVICES": ""}
    driver.orders.size = Size(gpus=8, cpus=8)
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


def test_a_ray_job_says_what_its_client_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_JOB_SUBMISSION_ID", raising=False)
    assert not_complete(tmp_path, Care()) == 4
    assert "ray job" not in capsys.readouterr().err
    monkeypatch.setenv("RAY_JOB_SUBMISSION_ID", "raysubmit_1")
    assert not_complete(tmp_path, Care()) == 4
    assert "The exit code is 4, but `ray job submit` exits with 0 after `ray job stop`." in capsys.readouterr().err


def test_a_driver_whose_lock_is_another_ones_stops(driver: Any) -> None:
    driver.lock.taken = True
    driver.pool = SimpleNamespace(open=1, poll=lambda: None, submit=lambda order, **_: None)
    with pytest.raises(StopError, match="another driver has taken over the sweep at "):
        driver.run_out()
    driver.lock.taken = False


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_with_a_result_is_never_retried(driver: Any, state: str) -> None:
    order = begin(order_of(driver))
    driver.ended(order, "A", write(order, state, reason="why", ended="now", wall_s=1.0))
    assert driver.submitted == []
    assert job_of(driver).state == state


def test_the_log_tells_how_a_run_ended_whose_worker_could_not(driver: Any) -> None:
    """Its run.json does not: the script can write one."""
    order = begin(order_of(driver))
    write(order, "succeeded", metric={"val_bpb": 1.0})
    driver.ended(order, "A", LOST)
    assert job_of(driver).state == "lost"
    again = begin(driver.submitted[0][0])
    (again.folder / "train.log").write_text(
        "step:9/9 a:1\nTotal submission size int8+zlib: 15820 bytes\nfinal_x val_bpb:1.3 val_loss:2.3\n"
    )
    driver.ended(again, "A", LOST)
    assert len(driver.submitted) == 1
    assert job_of(driver).state == "succeeded"
    driver.ended(again, "A", write(again, "failed"))  # too late
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


def test_the_options_that_differ_from_the_usual_are_named() -> None:
    assert Care().words() == []
    care = Care(deadline=90.0, wait_for_nodes=0.5, storage="s3://a b", keep_going=True)
    assert care.words() == [
        "--deadline",
        "90",
        "--wait-for-nodes",
        "0.5",
        "--storage",
        "s3://a b",
        "--keep-going",
    ]


def test_a_full_disk_is_waited_for_with_all_that_the_driver_writes(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of a run's end fails once, whether its worker told of it or not."""
    monkeypatch.setattr(patient, "RETRY_S", 0.01)
    sync: Callable[[int], None] = os.fsync
    failed: set[str] = set()

    def fsync(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        if name not in failed:
            failed.add(name)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    said: list[str] = []
    driver.disk._say = said.append
    order = begin(order_of(driver))
    monkeypatch.setattr(os, "fsync", fsync)
    driver.ended(order, "A", LOST)
    failed.clear()
    again = begin(driver.submitted[0][0])
    driver.ended(again, "A", write(again, "succeeded", ended="now", wall_s=1.0))
    events = [json.loads(line) for line in driver.journal.path.read_text().splitlines()]
    assert [(event["attempt"], event["state"]) for event in events] == [(1, "lost"), (2, "succeeded")]
    assert json.loads((again.folder / "run.json").read_text())["state"] == "succeeded"
    once = [f"{name} cannot be written: No space left on device; waiting" for name in ("run.json", "events.jsonl")]
    assert [line for line in said if "waiting" in line] == once * 2
    assert len(said) == 8


def test_a_driver_whose_sweep_is_deleted_stops_and_does_not_make_it_anew(driver: Any) -> None:
    order = begin(order_of(driver))
    driver.started(order, "A")
    closed = []
    driver.pool = SimpleNamespace(
        open=1, poll=lambda: None, submit=lambda order, **_: None, close=lambda: closed.append(1)
    )
    shutil.rmtree(driver.directory)
    for act in (driver.run_out, lambda: driver.ended(order, "A", LOST), lambda: driver.stop("why")):
        with pytest.raises(GoneError, match=" is gone: it was deleted or moved while the sweep ran"):
            act()
    assert closed == [1]
    assert not driver.directory.exists()


@pytest.mark.parametrize("storage", [None, "file:///elsewhere"])
def test_a_deleted_sweep_goes_on_only_from_its_storage(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], storage: str | None
) -> None:
    def gone(*arguments: object, **options: object) -> int:
        raise GoneError("it is gone.")

    driver.lock.release()
    driver.lock = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr(drive, "_locked", gone)
    if storage is None:
        with pytest.raises(GoneError) as error:
            carry_out(driver.directory, Care())
        assert error.value.exit_code == 4
    else:
        assert carry_out(driver.directory, Care(storage=storage)) == 4
        assert f"resume {driver.directory} --storage {storage}" in capsys.readouterr().err


def test_a_sweep_that_cannot_be_locked_is_one_sentence(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(directory: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(drive, "Lock", read_only)
    with pytest.raises(SweepError, match=r"sweep\.lock cannot be written: Read-only file system\. Nothing") as error:
        carry_out(driver.directory, Care())
    assert error.value.exit_code == 2


def test_the_next_driver_computes_the_digests_that_are_missing(driver: Any) -> None:
    order = begin(order_of(driver))
    (order.folder / "big").write_bytes(b"x")
    (order.folder / "train.log").touch()
    files, unknown = {"big": {"bytes": 1, "sha256": None}}, {"files.big.sha256": "later"}
    driver.digests.add = lambda folder, table: None  # it is killed before
    driver.ended(order, "A", write(order, "succeeded", files=files, unknown=unknown, ended="now", wall_s=1.0))
    again = next_driver(driver)
    again.digests.wait()
    found = json.loads((order.folder / "run.json").read_text())
    assert found["files"]["big"]["sha256"] == hashlib.sha256(b"x").hexdigest()
    assert found["unknown"] == {}
