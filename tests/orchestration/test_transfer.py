"""Runs on a node that does not share the sweep's directory: everything comes over as it was there, or the run is lost."""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.rules.ruleset import load
from analysis.sweepdir.layout import attempt_folder
from orchestration.worker.run import RunOrder, execute
from orchestration.worker.transfer import CHUNK_BYTES, Inbox, Outbox, scratch, shares

SCRIPT = b"""
import os, time
os.makedirs("deep")
open("deep/weights.bin", "wb").write(bytes(5 * 2**20))
open("empty", "w").close()
os.symlink("/etc/hostname", "link")
print("first line", flush=True)
time.sleep(1)
print("final_x val_loss:2.0 val_bpb:1.2", flush=True)
if os.environ.get("FAIL"):
    raise SystemExit(1)
"""


@pytest.fixture
def afar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunOrder]:
    """Make an order whose sweep directory this node does not see, with a temporary folder of the node's own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))

    def make(**env: str) -> RunOrder:
        folder = attempt_folder(tmp_path / "sweep", "candidate", 7, 1)
        digest = hashlib.sha256(SCRIPT).hexdigest()
        script = tmp_path / "nowhere" / "train_gpt.py"
        identity = uuid.uuid4().hex  # a run ends what is left of earlier ones of its seed, in tests beside this one too
        rules = load("parameter-golf")
        return RunOrder("candidate", 7, 1, folder, script, digest, SCRIPT, env, 1, rules, identity, "D", 60, None)

    return make


def bring_over(order: RunOrder, messages: Iterator[tuple[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What the driver makes of a run's messages: its manifest and the kinds that came."""
    kinds, inbox = [], None
    for kind, content in messages:
        kinds.append(kind)
        if kind == "ended":
            assert inbox
            return inbox.close(json.loads(json.dumps(content))), kinds
        if kind == "began":
            assert content["state"] == "running"
            inbox = Inbox(order.folder, content)
        else:
            assert inbox
            inbox.take(kind, content)
    raise AssertionError("the run did not end")


@pytest.mark.slow
def test_a_run_on_another_disk_comes_over_whole(afar: Callable[..., RunOrder], tmp_path: Path) -> None:
    order = afar()
    manifest, kinds = bring_over(order, execute(order, "node"))
    assert (manifest["state"], manifest["metric"]["val_bpb"]) == ("succeeded", 1.2)
    assert kinds[0] == "began"
    assert kinds.count("log") >= 2  # while it ran, and the rest
    assert kinds[-4:] == ["file", "more", "file", "ended"]
    assert (order.folder / "deep" / "weights.bin").stat().st_size == 5 * 2**20
    assert (order.folder / "train.log").read_text() == "first line\nfinal_x val_loss:2.0 val_bpb:1.2\n"
    assert json.loads((order.folder / "run.json").read_text()) == manifest
    names = sorted(path.name for path in order.folder.rglob("*"))
    assert names == ["deep", "empty", "run.json", "train.log", "weights.bin"]  # no link, nothing half-written
    assert not list((tmp_path / "disk").iterdir())


@pytest.mark.slow
def test_a_failed_run_names_the_log_where_the_driver_has_it(afar: Callable[..., RunOrder]) -> None:
    order = afar(FAIL="1")
    manifest, _ = bring_over(order, execute(order, "node"))
    assert manifest["state"] == "failed"
    assert str(order.folder / "train.log") in manifest["reason"]


def filled(folder: Path) -> dict[str, Any]:
    """A run's folder on its node, and its manifest."""
    folder.mkdir(parents=True)
    files = {"train.log": b"a\nb\n", "weights.bin": bytes(CHUNK_BYTES + 1)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    return {"state": "succeeded", "reason": None, "host": "far", "files": digests, "ended": "now"}


@pytest.mark.parametrize("lost", [None, 0, 2], ids=["nothing", "a piece of the log", "a piece of a file"])
def test_what_is_missing_makes_the_run_lost(tmp_path: Path, lost: int | None) -> None:
    manifest = filled(tmp_path / "there")
    inbox = Inbox(tmp_path / "here", manifest | {"state": "running"})
    messages = list(Outbox(tmp_path / "there").files(manifest["files"]))
    assert [kind for kind, _ in messages] == ["log", "file", "more"]
    for number, message in enumerate(messages):
        if number != lost:
            inbox.take(*message)
    found = inbox.close(manifest)
    assert found["state"] == ("succeeded" if lost is None else "lost")
    assert lost is None or "did not come over from far" in found["reason"]
    kept = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert kept == [
        "run.json",
        *(["train.log"] if lost != 0 else []),
        *(["weights.bin"] if lost != 2 else []),
    ]


def test_the_drivers_word_stands(tmp_path: Path) -> None:
    manifest = filled(tmp_path / "there")
    inbox = Inbox(tmp_path / "here", manifest | {"state": "running"})
    (tmp_path / "here" / "run.json").write_text('{"state": "stopped"}')
    assert inbox.close(manifest) == {"state": "stopped"}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "run.json", "a/../../x", ""])
def test_no_file_leaves_the_attempts_folder(tmp_path: Path, name: str) -> None:
    inbox = Inbox(tmp_path / "here", {"state": "running"})
    with pytest.raises(ValueError, match="no name of a run's file"):
        inbox.take("file", (name, b"x"))


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
