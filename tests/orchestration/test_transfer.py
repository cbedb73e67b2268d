"""Runs on a node that does not share the sweep's directory: everything comes over as it was there, or the run is lost."""

from __future__ import annotations

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
from orchestration.worker.order import Began, Ended, Message, Part, RunOrder
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


def bring_over(order: RunOrder) -> Brought:
    messages, inbox = [], None
    for message in execute(order, "node"):
        message = pickle.loads(pickle.dumps(message))  # noqa: S301  as Ray does
        messages.append(message)
        if isinstance(message, Ended):
            assert inbox
            assert message.manifest
            return Brought(inbox.close(message.manifest), messages)
        if isinstance(message, Began):
            assert message.manifest.state == "running"
            inbox = Inbox(order.folder, message.manifest)
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


def filled(folder: Path) -> dict[str, Any]:
    """Fill a run's folder on its node; return what its run.json says at the end."""
    folder.mkdir(parents=True)
    files = {"train.log": b"a\nb\n", "weights.bin": bytes(CHUNK_BYTES + 1)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    return {"reason": None, "host": "far", "files": digests, "ended": "now"}


@pytest.mark.parametrize("lost", [None, 0, 2], ids=["nothing", "a piece of the log", "a piece of a file"])
def test_what_is_missing_makes_the_run_lost(tmp_path: Path, lost: int | None) -> None:
    table = filled(tmp_path / "there")
    inbox = Inbox(tmp_path / "here", manifest(**table))
    parts = list(Outbox(tmp_path / "there").files(table["files"]))
    assert [part.name for part in parts] == ["train.log", "weights.bin", "weights.bin"]
    for number, part in enumerate(parts):
        if number != lost:
            inbox.take(part)
    found = inbox.close(manifest("succeeded", **table))
    assert found.state == ("succeeded" if lost is None else "lost")
    assert lost is None or "did not come over from far" in str(found.reason)
    kept = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert kept == [
        "run.json",
        *(["train.log"] if lost != 0 else []),
        *(["weights.bin"] if lost != 2 else []),
    ]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "run.json", "a/../../x", ""])
def test_no_file_leaves_the_attempts_folder(tmp_path: Path, name: str) -> None:
    inbox = Inbox(tmp_path / "here", manifest())
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
