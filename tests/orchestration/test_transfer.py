"""Runs on a node that does not share the sweep's directory: everything comes over as it was there, or its absence is named."""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analysis.sweepdir.code import digests_of
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk import patient
from orchestration.disk.digests import completed
from orchestration.disk.patient import Disk
from orchestration.worker import transfer
from orchestration.worker.order import Alive, Began, Ended, Message, Part, RunOrder
from orchestration.worker.run import execute
from orchestration.worker.transfer import CHUNK_BYTES, Inbox, Outbox, scratch, shares
from tests.orchestration.orders import make_order

SCRIPT = b"""
import os, time
from helper.deep import BPB
os.makedirs("deep")
open("deep/weights.bin", "wb").write(bytes(5 * 2**20))
open("empty", "w").close()
os.symlink("/etc/hostname", "link")
print("first line", flush=True)
time.sleep(1)
print(f"final_x val_loss:2.0 val_bpb:{BPB}", flush=True)
if os.environ.get("FAIL"):
    raise SystemExit(1)
"""
CODE = {"script.py": SCRIPT, "modules/helper/__init__.py": b"", "modules/helper/deep.py": b"BPB = 1.2\n"}


@pytest.fixture
def afar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunOrder]:
    """Make an order whose sweep directory this node does not see, with a temporary folder of the node's own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))

    def make(**env: str) -> RunOrder:
        script = tmp_path / "nowhere" / "train_gpt.py"
        return make_order(tmp_path / "sweep", script=script, code=CODE, env=env)

    return make


@dataclass
class Brought:
    """What the driver makes of a run's messages: its manifest, and the messages that came."""

    manifest: RunManifest
    messages: list[Message]

    @property
    def parts(self) -> list[tuple[str, bool]]:
        return [(one.name, one.first) for one in self.messages if isinstance(one, Part)]


def disk_at(folder: Path, wait_s: float = 0.0) -> Disk:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").touch()
    return Disk(folder, wait_s, print)


def bring_over(order: RunOrder) -> Brought:
    messages, inbox = [], None
    for message in execute(order, "node"):
        message = pickle.loads(pickle.dumps(message))  # noqa: S301  as Ray does
        if message == Alive():
            continue
        messages.append(message)
        if isinstance(message, Ended):
            assert inbox
            assert message.manifest
            return Brought(inbox.close(message.manifest), messages)
        if isinstance(message, Began):
            assert message.manifest.state == "running"
            inbox = Inbox(order, message.manifest, disk_at(order.sweep_directory))
        else:
            assert inbox
            assert isinstance(message, Part)
            inbox.take(message)
    raise AssertionError("the run did not end")


@pytest.mark.slow
def test_a_run_on_another_disk_comes_over_whole(afar: Callable[..., RunOrder], tmp_path: Path) -> None:
    order = afar()
    found = bring_over(order)
    assert found.manifest.state == "succeeded"
    assert found.manifest.metric["val_bpb"] == 1.2
    assert isinstance(found.messages[0], Began)
    assert found.parts.count(("train.log", False)) >= 2  # while it ran, and the rest
    assert found.parts[-3:] == [("deep/weights.bin", True), ("deep/weights.bin", False), ("empty", True)]
    assert (order.folder / "deep" / "weights.bin").stat().st_size == 5 * 2**20
    assert (order.folder / "train.log").read_text() == "first line\nfinal_x val_loss:2.0 val_bpb:1.2\n"
    assert json.loads((order.folder / "run.json").read_text()) == found.manifest.table
    assert found.manifest.code == digests_of(CODE)
    names = sorted(path.name for path in order.folder.rglob("*"))
    assert names == ["deep", "empty", "run.json", "train.log", "weights.bin"]  # no link, nothing half-written
    assert not list((tmp_path / "disk").iterdir())


@pytest.mark.slow
def test_a_failed_run_names_the_log_where_the_driver_has_it(afar: Callable[..., RunOrder]) -> None:
    order = afar(FAIL="1")
    found = bring_over(order)
    assert found.manifest.state == "failed"
    assert str(order.folder / "train.log") in str(found.manifest.reason)
    assert found.messages[-1].reason == found.manifest.reason  # type: ignore[union-attr]


def manifest(state: str = "running", **table: Any) -> RunManifest:
    return RunManifest.of({"state": state, **table}, Path("run.json"))


WHOLE = b"step:9/9 a:1\nTotal submission size int8+zlib: 15820 bytes\nfinal_x val_bpb:1.3 val_loss:2.3\n"


def filled(folder: Path, log: bytes) -> dict[str, Any]:
    """Fill a run's folder on its node; return what its run.json says at the end."""
    folder.mkdir(parents=True)
    files = {"train.log": log, "weights.bin": bytes(CHUNK_BYTES + 1)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    return {"reason": None, "host": "far", "files": digests, "ended": "now", "exit_code": 0}


def inbox_at(folder: Path, began: RunManifest, wait_s: float = 0.0) -> Inbox:
    return Inbox(make_order(folder.parent, folder=folder), began, disk_at(folder.parent, wait_s))


@pytest.mark.parametrize(
    ("lost", "log", "state"),
    [
        (None, WHOLE, "succeeded"),
        (2, WHOLE, "succeeded"),  # without its weights, a run has its result
        (2, WHOLE.replace(b"Total", b"A"), "failed"),  # the rules cap what is not there, and the log does not tell it
        (2, b"a\nb\n", "lost"),
        (0, WHOLE, "lost"),
    ],
    ids=["nothing", "a piece of a file", "a piece of an unknown size", "a piece and no result", "a piece of the log"],
)
def test_what_is_missing_is_named_and_the_log_decides(tmp_path: Path, lost: int | None, log: bytes, state: str) -> None:
    table = filled(tmp_path / "there", log)
    inbox = inbox_at(tmp_path / "here", manifest(**table))
    parts = list(Outbox(tmp_path / "there").files(table["files"]))
    assert [part.name for part in parts] == ["train.log", "weights.bin", "weights.bin"]
    for number, part in enumerate(parts):
        if number != lost:
            inbox.take(part)
    found = inbox.close(manifest("succeeded", **table))
    assert found.state == state
    assert (found.reason is None) == (lost is None)
    assert lost is None or "did not arrive from far" in str(found.reason)
    kept = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert kept == [
        "run.json",
        *(["train.log"] if lost != 0 else []),
        *(["weights.bin"] if lost != 2 else []),
    ]


def test_what_the_script_wrote_as_run_json_decides_nothing(tmp_path: Path) -> None:
    table = filled(tmp_path / "there", WHOLE)
    inbox = inbox_at(tmp_path / "here", manifest(**table))
    for part in Outbox(tmp_path / "there").files(table["files"]):
        inbox.take(part)
    (tmp_path / "here" / "run.json").write_text('{"state": "stopped"}')
    assert inbox.close(manifest("succeeded", **table)).state == "succeeded"


def test_nothing_of_a_log_is_sent_that_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MOST_LOG_BYTES", 10)
    log, outbox = tmp_path / "train.log", Outbox(tmp_path)
    log.write_bytes(b"12345")
    assert [part.content for part in outbox.log()] == [b"12345"]
    log.write_bytes(b"x" * 2**20)
    assert [part.content for part in outbox.log()] == [b"xxxxx"]
    assert list(outbox.log()) == []


def test_a_large_file_is_hashed_while_it_is_sent(tmp_path: Path) -> None:
    table = filled(tmp_path / "there", WHOLE)
    known = {name: entry["sha256"] for name, entry in table["files"].items()}
    table["files"]["weights.bin"] |= {"sha256": None}
    table["unknown"] = {"files.weights.bin.sha256": "later"}
    inbox = inbox_at(tmp_path / "here", manifest(**table))
    sending = Outbox(tmp_path / "there").files(table["files"])
    try:
        while True:
            inbox.take(next(sending))
    except StopIteration as end:
        digests = end.value
    assert digests == {"weights.bin": known["weights.bin"]}
    found = inbox.close(manifest("succeeded", **completed(table, digests)))
    assert found.state == "succeeded"
    assert found.part("files")["weights.bin"]["sha256"] == known["weights.bin"]
    assert found.part("unknown") == {}


def test_a_part_that_a_full_disk_took_half_of_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient, "RETRY_S", 0.01)
    table = filled(tmp_path / "there", WHOLE)
    inbox = inbox_at(tmp_path / "here", manifest(**table), wait_s=60.0)
    put, tries = inbox._put, []

    def half(path: Path, position: int, content: bytes) -> None:
        tries.append(path)
        if len(tries) % 2:
            put(path, position, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        put(path, position, content)

    monkeypatch.setattr(inbox, "_put", half)
    for part in Outbox(tmp_path / "there").files(table["files"]):
        inbox.take(part)
    assert inbox.close(manifest("succeeded", **table)).state == "succeeded"
    for name in table["files"]:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "run.json", "a/../../x", ""])
def test_no_file_leaves_the_attempts_folder(tmp_path: Path, name: str) -> None:
    inbox = inbox_at(tmp_path / "here", manifest())
    with pytest.raises(ValueError, match="cannot be the name of a run's file"):
        inbox.take(Part(name=name, content=b"x", first=True))


def test_a_node_shares_a_directory_when_it_reads_the_drivers_own_lock(tmp_path: Path) -> None:
    assert not shares(tmp_path, "D")
    (tmp_path / "sweep.lock").write_text('{"sweep": "S", "driver": "an earlier one"}')  # a stale copy of the sweep
    assert not shares(tmp_path, "D")
    (tmp_path / "sweep.lock").write_text('{"sweep": "S", "driver": "D"}')
    assert shares(tmp_path, "D")


def test_rooms_of_dead_workers_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = scratch("S")
    dead = tmp_path / "seedproof-S-999999999-x"
    other = tmp_path / "seedproof-T-999999999-x"
    dead.mkdir()
    other.mkdir()
    again = scratch("S")
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, again])
