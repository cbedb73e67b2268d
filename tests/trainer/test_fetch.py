"""Fetching from a local server with the Hub's endpoints, which can also fail in every way we know.

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
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.conftest import ROOT, clean_environment, until
from trainer import fetch
from trainer.dataset import main
from trainer.shards import read_manifest, shard_bytes

constants = pytest.importorskip("huggingface_hub.constants", reason="the trainer extra is not installed")

COMMIT = "c" * 40
NAME = "fineweb10B_sp1024"
MODEL = "tokenizers/fineweb_1024_bpe.model"
VALIDATION = f"datasets/{NAME}/fineweb_val_000000.bin"


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def train(number: int) -> str:
    return f"datasets/{NAME}/fineweb_train_{number:06d}.bin"


class Hub(ThreadingHTTPServer):
    """The Hub's endpoints over `files`. `faults` lists what goes wrong with a file, one fault per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        contents = {MODEL: b"a tokenizer" * 99, VALIDATION: shard_bytes(np.arange(700))}
        contents |= {train(number): shard_bytes(np.arange(9000) + number) for number in range(3)}
        entry = {"name": NAME, "tokenizer_name": "sp", "stats": {"files_train": 3, "files_val": 1}}
        self.manifest: dict[str, Any] = {
            "datasets": [entry, {**entry, "name": "fineweb10B_byte260"}],
            "tokenizers": [{"name": "sp", "model_path": f"./data/{MODEL}"}],
        }
        self.files = {f"datasets/{name}": content for name, content in contents.items()}
        self.listed = {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        self.faults: dict[str, list[str]] = {}
        self.sent: list[str] = []  # paths whose content a client requested
        self.continued: list[tuple[str, int]] = []  # paths that a client continued after a break, and from where
        self.gate: threading.Barrier | None = None  # where contents wait for each other
        self.agents: set[str] = set()
        self.tokens: set[tuple[str, str | None]] = set()  # hosts and the Authorization each got
        self.publish()

    def publish(self) -> None:
        self.files["datasets/manifest.json"] = json.dumps(self.manifest).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that the client drops."""


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.agents.add(self.headers["User-Agent"])
        hub.tokens.add((self.headers["Host"].split(":")[0], self.headers["Authorization"]))
        repository = f"datasets/{fetch.REPOSITORY}"
        if path.startswith(f"/api/{repository}/revision/"):
            if not self.fails("revision"):
                known = path.endswith(("/main", "/" + COMMIT))
                siblings = [self.listed(name) for name in hub.files]
                body = json.dumps({"id": fetch.REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()
                self.answer(200, body) if known else self.answer(404, X_Error_Code="RevisionNotFound")
        elif path.startswith(f"/{repository}/resolve/{COMMIT}/"):
            self.resolve(path.split(f"/{COMMIT}/")[1])
        elif path.startswith("/cdn/"):
            self.content(path.removeprefix("/cdn/"))
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    def listed(self, path: str) -> dict[str, Any]:
        content = self.server.files[path]
        entry = {"rfilename": path, "size": len(content), "blobId": git_blob(content)}
        if path in self.server.listed:
            entry["lfs"] = {"sha256": self.server.listed[path], "size": len(content), "pointerSize": 130}
        return entry

    def resolve(self, path: str) -> None:
        """Redirect large files to another host, as the Hub does; send small ones at once."""
        content = self.server.files[path]
        if path not in self.server.listed:
            self.answer(200, content, ETag=f'"{git_blob(content)}"')
        elif not self.fails(path, "404"):
            place = f"http://localhost:{self.server.server_address[1]}/cdn/{path}"
            tag = f'"{self.server.listed[path]}"'
            self.answer(302, Location=place, X_Linked_Size=str(len(content)), X_Linked_ETag=tag)

    def fails(self, path: str, *only: str) -> bool:
        """Answer with the next fault of the path, if it has one."""
        faults = self.server.faults.get(path, [])
        if not faults or (only and faults[0] not in only):
            return False
        fault = faults[0] if faults[0].endswith("always") else faults.pop(0)
        content = self.server.files.get(path, b"")
        match fault.split()[0]:
            case "404":
                self.answer(404, X_Error_Code="EntryNotFound")
            case "page":
                self.answer(200, b"<html>Please log in</html>")
            case "500":
                self.answer(500)
            case "cut":  # promise the length, send half, close the connection
                self.answer(200, content[: len(content) // 2], length=len(content))
                self.close_connection = True
            case "lost":  # the same, but reset the connection
                self.answer(200, content[: len(content) // 2], length=len(content))
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.shutdown(socket.SHUT_RD)
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
            case "stall":  # send 60 % and then nothing, until the client is gone
                self.answer(200, content[: len(content) * 6 // 10], length=len(content))
                self.wfile.flush()
                self.rfile.read(1)
                self.close_connection = True
            case "short":  # a complete answer with half of the content
                self.answer(200, content[: len(content) // 2])
            case "wrong":
                self.answer(200, content[:-1] + b"\xff")
        return True

    def content(self, path: str) -> None:
        self.server.sent.append(path)
        if self.server.gate:
            self.server.gate.wait(20)
        if self.fails(path):
            return
        content = self.server.files[path]
        if asked := self.headers["Range"]:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            self.server.continued.append((path, start))
            spread = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], Content_Range=spread)
        else:
            self.answer(200, content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub's pauses
    monkeypatch.setattr(fetch, "PAUSES_S", (0, 0))
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


def assert_whole(output: Path, hub: Hub, shards: int = 3) -> None:
    """Assert that every file is there byte for byte, that no other and no part is, and that verify passes."""
    names = {MODEL, VALIDATION, *(train(number) for number in range(shards))}
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert files == names | {"manifest.json"}
    for name in names:
        assert (output / name).read_bytes() == hub.files[f"datasets/{name}"]
    verified = CliRunner().invoke(main, ["verify", str(output)])
    assert verified.exit_code == 0
    assert verified.stdout == f"{output}: {len(names)} files match the manifest.\n"


def test_everything_is_fetched_and_described(hub: Hub, tmp_path: Path) -> None:
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


def part(output: Path, hub: Hub, name: str) -> Path:
    content = hub.files[f"datasets/{name}"]
    return output / fetch.STAGING / f"{Path(name).name}.{hashlib.sha256(content).hexdigest()}"


def test_the_part_of_a_stopped_fetch_is_continued_whatever_it_holds(hub: Hub, tmp_path: Path) -> None:
    parts = [part(tmp_path, hub, train(number)) for number in range(3)]
    parts[0].parent.mkdir()
    contents = [hub.files[f"datasets/{train(number)}"] for number in range(3)]
    parts[0].write_bytes(contents[0])  # whole
    parts[1].write_bytes(contents[1][:5000])
    parts[2].write_bytes(bytes(20_000))  # too long, and wrong
    (parts[0].parent / "fineweb_train_000000.bin.of-another-commit").write_text("x")
    (parts[0].parent / "datasets").mkdir()  # as earlier versions made it
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert_whole(tmp_path, hub)
    assert f"datasets/{train(0)}" not in hub.sent
    assert hub.continued == [(f"datasets/{train(1)}", 5000)]


def test_a_part_that_a_crash_damaged_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    damaged = part(tmp_path, hub, train(1))
    damaged.parent.mkdir()
    damaged.write_bytes(bytes(5000))
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "arrived damaged: its digest is" in result.stdout
    assert_whole(tmp_path, hub)


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


def test_shards_arrive_several_at_a_time(hub: Hub, tmp_path: Path) -> None:
    hub.gate = threading.Barrier(5)  # five files are wanted: each waits until all five are asked for
    assert run(tmp_path).exit_code == 0
    assert_whole(tmp_path, hub)


def test_the_server_is_not_told_which_packages_are_installed(hub: Hub, tmp_path: Path) -> None:
    program = "import sys; from trainer.dataset import main; main(['fetch', '--output', sys.argv[1]])"
    environment = clean_environment() | {"HF_ENDPOINT": hub.url}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, capture_output=True)
    assert hub.agents
    assert not [agent for agent in hub.agents if "torch/" in agent]


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


@pytest.mark.parametrize("fault", ["500", "cut", "lost", "short"])
def test_a_fault_that_passes_is_waited_out(hub: Hub, tmp_path: Path, fault: str) -> None:
    hub.faults = {f"datasets/{train(1)}": [fault], "revision": ["500"]}
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
        (train(1), "500 always", "the server answered 500"),
        (train(1), "short always", "file should be of size 19024"),
        (train(1), "lost lost lost", "reset by peer"),
        (train(1), "cut always", "the connection keeps breaking"),
        (train(1), "wrong always", "arrived damaged: its digest is"),
        (MODEL, "wrong always", "arrived damaged: its digest is"),
        (MODEL, "500 always", "the server answered 500"),
        ("revision", "500 always", "the server answered 500"),
    ],
)
def test_a_fault_that_stays_is_named_and_leaves_nothing(
    hub: Hub, tmp_path: Path, path: str, fault: str, words: str
) -> None:
    faults = fault.split() if fault.startswith("lost") else [fault]
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
    hub.faults, hub.sent = {}, []
    assert run(tmp_path).exit_code == 0
    assert_whole(tmp_path, hub)
    assert not set(hub.sent) & {f"datasets/{name}" for name in complete}


def test_what_arrived_before_a_failure_is_continued(hub: Hub, tmp_path: Path) -> None:
    path = f"datasets/{train(1)}"
    hub.faults = {path: ["cut", "404"]}
    assert run(tmp_path).exit_code == 1
    arrived = part(tmp_path, hub, train(1)).stat().st_size
    assert arrived > 0
    hub.faults, hub.continued = {}, []
    assert run(tmp_path).exit_code == 0
    assert (path, arrived) in hub.continued
    assert_whole(tmp_path, hub)


def test_a_file_that_is_not_a_shard_is_refused(hub: Hub, tmp_path: Path) -> None:
    path = f"datasets/{train(0)}"
    hub.files[path] = b"<html>" * 400
    hub.listed[path] = hashlib.sha256(hub.files[path]).hexdigest()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "it is not a shard: magic" in result.stderr
    assert not (tmp_path / train(0)).exists()


def test_the_manifests_own_digests_count_before_the_servers(hub: Hub, tmp_path: Path) -> None:
    hub.manifest["files"] = {VALIDATION: {"bytes": 2424, "sha256": "0" * 64}}
    hub.publish()
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"that of the published file is {'0' * 64}" in result.stderr


def test_disk_space_is_checked_before_any_transfer(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000))
        result = run(tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path} needs 0.1 MB for 5 files and has 0.0 MB free" in result.stderr
    assert "--shards" in result.stderr
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


def test_a_server_that_is_not_a_hub(hub: Hub, tmp_path: Path) -> None:
    hub.faults = {"revision": ["page"]}
    result = run(tmp_path / "data")
    assert result.exit_code == 1
    assert "the answer is not a Hub's" in result.stderr


def test_a_listing_without_sizes(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "listed", lambda self, path: {"rfilename": path})
    result = run(tmp_path / "data")
    assert result.exit_code == 1
    assert "lists no manifest.json" in result.stderr


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
        (["--variant", "sp9"], "has no variant 'sp9'. It has: byte260, sp1024."),
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
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_commit_can_be_named_and_the_token_stays_with_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run(tmp_path, "--revision", COMMIT, "--shards", "1").exit_code == 0
    assert_whole(tmp_path, hub, shards=1)
    assert hub.tokens == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


def test_no_other_command_loads_the_hub_client() -> None:
    program = "import sys, trainer.dataset; print('huggingface_hub' in sys.modules, 'trainer.fetch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "False False\n"
