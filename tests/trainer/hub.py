"""A local server with the Hub's endpoints, which can also fail in every way we know."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from click.testing import CliRunner

from trainer import fetch
from trainer.dataset import main
from trainer.shards import shard_bytes

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
            "datasets": [entry],
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
            case "lost":  # promise it, send nothing, reset the connection
                self.answer(200, length=len(content))
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
            case "whole":  # whatever range was asked for
                self.answer(200, content)
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


def part(output: Path, hub: Hub, name: str) -> Path:
    content = hub.files[f"datasets/{name}"]
    return output / fetch.STAGING / f"{Path(name).name}.{hashlib.sha256(content).hexdigest()}"


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
