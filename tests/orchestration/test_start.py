"""How a sweep gets to a Ray: its folder, its address, and what Ray's own logs say of a worker that cannot start."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis.untrusted.refusal import UsageError
from orchestration.driver.start import address, connect, logs, place

# -- the folder ----------------------------------------------------------------------------------------------------------


def test_a_short_tmpdir_is_used_and_cleaned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "unusable", lambda folder, more: None)
    with place.ray_folder({"TMPDIR": str(tmp_path)}, own=True) as found:
        assert found.ray.parent == tmp_path
        (found.ray / "session").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 90, "é"])
def test_a_folder_that_ray_cannot_use_is_passed_over(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert place.short_folder({"TMPDIR": str(folder)}) in place.USUAL


def test_where_no_folder_can_be_used_all_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "USUAL", (str(tmp_path / "none"),))
    monkeypatch.setattr(place, "LONGEST_SOCKET", 1000)
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"file \(it cannot be written to\), \S+none \(it does not exist\)\. Name a short"
    ):
        place.short_folder({"TMPDIR": str(tmp_path / "file")})
    monkeypatch.setattr(place, "LONGEST_SOCKET", 107)
    with pytest.raises(UsageError, match=r"aaa \(it has \d+ bytes and a socket's name leaves room for 31\)"):
        place.short_folder({"TMPDIR": "/" + "a" * 90})


def test_a_folder_that_the_user_named_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = {"RAY_TMPDIR": str(tmp_path / ("a" * 90))}
    with (
        pytest.raises(UsageError, match=r"RAY_TMPDIR=\S+ cannot be used: it has \d+ bytes"),
        place.ray_folder(long, own=True),
    ):
        pass
    with place.ray_folder(long, own=False) as found:  # a cluster has its sockets elsewhere
        assert not str(found.printed).startswith(long["RAY_TMPDIR"])
    monkeypatch.setattr(place, "LONGEST_SOCKET", 1000)
    with place.ray_folder({"RAY_TMPDIR": str(tmp_path / "mine")}, own=True) as found:
        assert found.ray == tmp_path / "mine" / "ray"
    assert found.ray.is_dir()


# -- the address ---------------------------------------------------------------------------------------------------------


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Listen at an address; answer whoever greets, if there is an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(64)
                connection.sendall(answer)
                time.sleep(0.3)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "given", ["garbage", "http://127.0.0.1:8265", "ray://127.0.0.1:10001", "127.0.0.1:port", ":1", "a:99999"]
)
def test_an_address_of_another_form_is_refused(given: str) -> None:
    assert f"RAY_ADDRESS={given} is not HOST:PORT" in (address.refusal(given) or "")


def test_a_port_that_is_closed_silent_or_anothers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANSWER_S", 0.2)
    with server(b"") as silent:
        assert "nothing answers within 0.2 s. Start it with" in (address.refusal(silent) or "")
    assert "Connection refused" in (address.refusal(silent) or "")
    with server(b"HTTP/1.1 400 Bad Request\r\n") as web:
        assert "what listens there is not Ray's head" in (address.refusal(web) or "")


def test_a_server_that_speaks_as_ray_does_is_not_refused() -> None:
    with server(bytes((0, 0, 0, address.SETTINGS))) as head:
        assert address.refusal(head) is None
    assert address.refusal("auto") is None


# -- Ray's logs ----------------------------------------------------------------------------------------------------------

SAID = {
    "interpreter": "bash: line 1: /tmp/My: No such file or directory\n",
    "processes": "bash: fork: retry: Resource temporarily unavailable\n",
    "files": "[2026-11-29 23:43:07,065 E 27379 27379] (raylet) worker_pool.cc:587: Too many workers, failed to create a file.\n",
    "version": "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.10.13\n",
    "memory": "(raylet) node_manager.cc:1: 1 Workers (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed\n",
    "shm": "ValueError: The object store is too big. You may be able to free up space by deleting files in /dev/shm.\n",
    "disk": "OSError: [Errno 28] No space left on device: '/tmp/ray'\n",
    "environment": "(raylet) worker_pool.cc:1: Couldn't create a runtime environment for job 01000000.\n",
    "module": "Traceback (most recent call last):\n  import ray\nModuleNotFoundError: No module named 'ray'\n",
    "busy": "Exception: The current node timed out during startup. This could happen because some of the raylet failed\n",
    "crash": "(raylet) worker_pool.cc:1: Some workers of the worker process(7) have not registered within the timeout. \n",
}


def test_every_cause_is_read_from_a_text_of_its_shape() -> None:
    assert list(SAID) == [kind for kind, *_ in logs.PATTERNS]
    for kind, text in SAID.items():
        found = logs.cause_in(f"something else\n{text}more\n", "raylet.err")
        assert found is not None, kind
        assert found.kind == kind
        assert '(raylet.err: "' in found.sentence
        assert "\n" not in found.sentence


@pytest.mark.parametrize(
    "text",
    [
        "bash: line 1: /tmp/h17b/noexec: Permission denied",
        "bash: line 1: exec: /tmp/h17b/noexec: cannot execute: Permission denied",
        "bash: line 1: /tmp/h17b/badbang: cannot execute: required file not found",
    ],
)
def test_an_interpreter_that_cannot_be_executed_is_named(text: str) -> None:
    found = logs.cause_in(text, "raylet.err")
    assert found is not None
    assert "Ray cannot start Python at /tmp/h17b/" in found.sentence


HEALTHY = """\
[state-dump] - num PYTHON pending registration requests: 0
[2026-11-29 23:43:07,060 I 27379 27379] (raylet) worker_pool.cc:821: [Eagerly] Start install runtime environment for job 01000000.
[2026-11-29 23:43:07,085 I 27379 27379] (raylet) worker_pool.cc:832: [Eagerly] Create runtime env successful for job 01000000.
[2026-11-29 23:43:10,560 W 27379 27388] (raylet) store.cc:366: Disconnecting client due to connection error with code 2
"""


def test_only_what_is_new_in_the_logs_counts_and_the_exact_cause_comes_first(tmp_path: Path) -> None:
    (tmp_path / "raylet.err").write_text(SAID["memory"])
    found = logs.RayLogs(tmp_path)
    (tmp_path / "raylet.out").write_text(HEALTHY)
    assert found.cause() is None
    (tmp_path / "raylet.out").write_text(HEALTHY + SAID["crash"])
    (tmp_path / "worker-1-2.err").write_text(SAID["module"])
    assert (cause := found.cause()) is not None
    assert cause.kind == "module"
    assert found.cause() is None  # each line is read once
    assert logs.RayLogs(tmp_path / "none").cause() is None


# -- the terminal --------------------------------------------------------------------------------------------------------


def test_what_ray_prints_stays_off_the_terminal_and_what_we_say_arrives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_is_terminal_of_ours", lambda stream: True)
    with open(os.dup(2), "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with connect.quiet(tmp_path / "said"):
            os.write(2, b"a line of Ray's\n")
            connect.worker.print_to_stdstream({"lines": ["[state-dump]"], "pid": "raylet", "is_err": False}, False)
            print("a word of ours", file=sys.stderr)
        os.write(2, b"afterwards\n")
    assert capfd.readouterr() == ("", "a word of ours\nafterwards\n")
    assert (tmp_path / "said").read_text() == "a line of Ray's\n[state-dump]\n"
