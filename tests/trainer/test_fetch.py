"""Fetching from a local server with the Hub's endpoints.

After a fault the command continues if the server allows it. Otherwise it says what failed, leaves no part of that file
under its final name, and completes from where it stopped once the server works again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

from tests.conftest import ROOT, clean_environment, until
from tests.trainer.hub import COMMIT, MODEL, NAME, VALIDATION, Hub, assert_whole, part, train
from trainer import fetch
from trainer.dataset import main
from trainer.shards import read_manifest, shard_bytes


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # a shard is many chunks
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(output: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["fetch", "--output", str(output), *options])


def test_everything_is_fetched_several_at_a_time_and_described(hub: Hub, tmp_path: Path) -> None:
    hub.gate = threading.Barrier(5)  # each of the five files waits until all are asked for
    result = run(tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert_whole(tmp_path / "data", hub)
    (entry,) = read_manifest(tmp_path / "data")["datasets"]
    assert entry["source"] == {"repository": fetch.REPOSITORY, "revision": "main", "commit": COMMIT}
    assert entry["stats"] == {"files_train": 3, "files_val": 1, "tokens_train": 27000, "tokens_val": 700}
    assert "[5/5]" in result.stdout
    assert "3 training and 1 validation shards" in result.stdout.splitlines()[-1]


def test_some_shards_then_more_and_nothing_twice(hub: Hub, tmp_path: Path) -> None:
    assert run(tmp_path, "--shards", "1").exit_code == 0
    assert_whole(tmp_path, hub, shards=1)
    assert run(tmp_path, "--shards", "2").exit_code == 0
    assert_whole(tmp_path, hub, shards=2)
    assert run(tmp_path, "--shards", "1").exit_code == 0  # extra shards stay and are checked
    assert_whole(tmp_path, hub, shards=2)
    assert sorted(hub.sent) == sorted(f"datasets/{name}" for name in (MODEL, VALIDATION, train(0), train(1)))


def test_damaged_local_files_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    hub.sent.clear()
    (tmp_path / train(0)).write_bytes(b"half")
    (tmp_path / train(1)).write_bytes(hub.files[f"datasets/{train(1)}"][:-1] + b"\xff")
    (tmp_path / train(2)).unlink()
    result = run(tmp_path)
    assert "is fetched again: it has 4 bytes, the published file has 19024" in result.stdout
    assert "is fetched again: its digest is" in result.stdout
    assert_whole(tmp_path, hub)
    assert sorted(hub.sent) == [f"datasets/{train(number)}" for number in range(3)]


def test_the_part_of_a_stopped_fetch_is_continued_whatever_it_holds(hub: Hub, tmp_path: Path) -> None:
    whole, half, long, damaged = (part(tmp_path, hub, name) for name in (train(0), train(1), train(2), VALIDATION))
    whole.parent.mkdir()
    whole.write_bytes(hub.files[f"datasets/{train(0)}"])
    half.write_bytes(hub.files[f"datasets/{train(1)}"][:5000])
    long.write_bytes(bytes(20_000))
    damaged.write_bytes(bytes(500))
    (whole.parent / "fineweb_train_000000.bin.of-another-commit").write_text("x")
    (whole.parent / "datasets").mkdir()  # as earlier versions made it
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("it arrived damaged: its digest is") == 1
    assert_whole(tmp_path, hub)
    assert f"datasets/{train(0)}" not in hub.sent
    assert sorted(hub.continued) == [(f"datasets/{train(1)}", 5000), (f"datasets/{VALIDATION}", 500)]


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_fetch_killed_at_60_percent_of_a_large_shard_resumes_there(
    hub: Hub, tmp_path: Path, by: signal.Signals
) -> None:
    size, path = 50 << 20, f"datasets/{train(1)}"
    hub.files[path] = shard_bytes(np.arange((size - 1024) // 2))
    hub.listed[path] = hashlib.sha256(hub.files[path]).hexdigest()
    hub.faults = {path: ["stall"]}
    command = [sys.executable, "-m", "trainer.dataset", "fetch", "--output", str(tmp_path / "data")]
    environment = clean_environment() | {"HF_ENDPOINT": hub.url}
    growing = part(tmp_path / "data", hub, train(1))
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        until(lambda: growing.exists() and growing.stat().st_size == size * 6 // 10)
        killed.send_signal(by)
        assert killed.wait(5) == -by
    hub.sent.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (path, size * 6 // 10) in hub.continued
    assert hub.sent.count(path) == 1
    assert_whole(tmp_path / "data", hub)


def test_other_datasets_of_the_directory_stay_in_the_manifest(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "demo.model").write_bytes(b"demo")
    other = {"bytes": 4, "sha256": hashlib.sha256(b"demo").hexdigest()}
    before = {"datasets": [{"name": "demo"}], "tokenizers": [{"name": "d"}], "files": {"tokenizers/demo.model": other}}
    (tmp_path / "manifest.json").write_text(json.dumps(before))
    assert run(tmp_path).exit_code == 0
    manifest = read_manifest(tmp_path)
    assert [entry["name"] for entry in manifest["datasets"]] == ["demo", NAME]
    assert manifest["files"]["tokenizers/demo.model"] == other
    assert CliRunner().invoke(main, ["verify", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize("fault", ["500", "cut", "lost", "short", "cut whole"])
def test_a_fault_that_passes_is_waited_out(hub: Hub, tmp_path: Path, fault: str) -> None:
    hub.faults = {f"datasets/{train(1)}": fault.split(), "revision": ["500"]}
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert_whole(tmp_path, hub)
    if fault in ("cut", "short"):
        ((path, start),) = hub.continued
        half = len(hub.files[path]) // 2
        assert path == f"datasets/{train(1)}"
        assert half - constants.DOWNLOAD_CHUNK_SIZE < start <= half


@pytest.mark.parametrize(
    ("path", "fault", "words"),
    [
        (train(1), "404 always", "the server answered 404"),
        (train(1), "cut 404", "the server answered 404"),
        (train(1), "500 always", "the server answered 500"),
        (train(1), "short always", "file should be of size 19024"),
        (train(1), "lost lost lost", "reset by peer"),
        (train(1), "cut always", "arrived damaged: the server does not continue it"),
        (train(1), "wrong always", "arrived damaged: its digest is"),
        (MODEL, "wrong always", "arrived damaged: its digest is"),
        (MODEL, "500 always", "the server answered 500"),
        ("revision", "500 always", "the server answered 500"),
        ("revision", "page", "the answer is not a Hub's"),
    ],
)
def test_a_fault_that_stays_is_named_and_leaves_nothing(
    hub: Hub, tmp_path: Path, path: str, fault: str, words: str
) -> None:
    faults = [fault] if fault.endswith("always") else fault.split()
    hub.faults = {path if path == "revision" else f"datasets/{path}": faults}
    result = run(tmp_path)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "un the same command again" in result.stderr
    if path != "revision":
        assert path in result.stderr
        assert not (tmp_path / path).exists()
    complete = [name for name in (MODEL, VALIDATION, train(0), train(1), train(2)) if (tmp_path / name).exists()]
    if complete:
        verified = CliRunner().invoke(main, ["verify", str(tmp_path)])
        assert verified.stdout == f"{tmp_path}: {len(complete)} files match the manifest.\n"
    left = {f"datasets/{name}": part(tmp_path, hub, name) for name in (train(1), MODEL)}
    arrived = [(name, each.stat().st_size) for name, each in left.items() if each.exists() and name in hub.faults]
    hub.faults, hub.sent, hub.continued = {}, [], []
    assert run(tmp_path).exit_code == 0
    assert_whole(tmp_path, hub)
    assert hub.continued == [(name, size) for name, size in arrived if size]
    assert not set(hub.sent) & {f"datasets/{name}" for name in complete}


def test_a_file_that_is_not_a_shard_is_refused(hub: Hub, tmp_path: Path) -> None:
    path = f"datasets/{train(0)}"
    hub.files[path] = b"<html>" * 400
    hub.listed[path] = hashlib.sha256(hub.files[path]).hexdigest()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "it is not a shard: magic" in result.stderr
    assert not (tmp_path / train(0)).exists()


def test_disk_space_is_checked_before_any_transfer(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000))
        result = run(tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path} needs 0.1 MB for 5 files and has 0.0 MB free" in result.stderr
    assert hub.sent == []
    assert run(tmp_path).exit_code == 0
    assert_whole(tmp_path, hub)


def test_without_a_server(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free, monkeypatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        patch.setenv("HF_ENDPOINT", url := f"http://127.0.0.1:{free.getsockname()[1]}")
        result = run(tmp_path / "data")
    assert result.exit_code == 1
    assert url in result.stderr
    assert "refused" in result.stderr
    assert not (tmp_path / "data").exists()


def test_offline_mode_is_respected(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = run(tmp_path / "data")
    assert result.exit_code == 1
    assert "`HF_HUB_OFFLINE`" in result.stderr
    assert hub.tokens == set()


def test_a_disk_that_fills_up_during_the_fetch(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: fetch.Wanted, path: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fetch.Wanted, "entry", full)
        result = run(tmp_path)
    assert result.exit_code == 1
    assert f"Cannot write the dataset to {tmp_path}: [Errno 28]" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [fetch.STAGING]


def test_one_fetch_a_directory(hub: Hub, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    result = run(tmp_path)
    os.close(handle)
    assert result.exit_code == 1
    assert "Another fetch is writing" in result.stderr
    assert hub.sent == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shards", "4"], "has 3 training shards; got --shards 4"),
        (["--shards", "0"], "0 is not in the range"),
        (["--variant", "sp9"], "has no variant 'sp9'. It has: sp1024."),
        (["--revision", "v9"], "at 'v9': no such revision"),
    ],
)
def test_usage(hub: Hub, tmp_path: Path, options: list[str], words: str) -> None:
    result = run(tmp_path, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert hub.sent == []


@pytest.mark.parametrize(
    "manifest",
    ["{", "[]", '{"files": []}', '{"datasets": []}', '{"datasets": [{"name": "fineweb10B_sp1024"}], "tokenizers": []}'],
)
def test_a_manifest_that_lacks_what_is_needed(hub: Hub, tmp_path: Path, manifest: str) -> None:
    hub.files["datasets/manifest.json"] = manifest.encode()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"manifest.json does not describe {NAME}: " in result.stderr


def test_a_commit_can_be_named_and_the_hub_alone_gets_the_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run(tmp_path, "--revision", COMMIT, "--shards", "1").exit_code == 0
    assert_whole(tmp_path, hub, shards=1)
    assert hub.tokens == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}
    assert not [agent for agent in hub.agents if "torch/" in agent]  # the server is not told what is installed


def test_no_other_command_loads_the_hub_client() -> None:
    program = "import sys, trainer.dataset; print('huggingface_hub' in sys.modules, 'trainer.fetch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "False False\n"
