"""The sandbox of submitted code: what a command in it can see, write and reach, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.disk.files import write_json
from orchestration.worker import run as module
from orchestration.worker import sandbox, supervisor
from orchestration.worker.order import Ended, Sandbox
from orchestration.worker.provenance import provenance
from orchestration.worker.run import beside, confined, make, run_environment
from tests.conftest import kill, processes_of, until
from tests.orchestration.orders import make_order

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sandbox.fault() is not None, reason="this machine can make no sandbox"
)

LOOK = """
import json, os, socket, subprocess, sys
def of(what):
    try:
        return what() and None
    except OSError as error:
        return error.errno
found = {
    "uid": os.getuid(), "tmp": sorted(os.listdir("/tmp")), "pids": [p for p in os.listdir("/proc") if p.isdigit()],
    "secret": of(lambda: open(sys.argv[1])), "shown": open(sys.argv[2]).read(),
    "beside": of(lambda: open("../beside", "w")), "shown_w": of(lambda: open(sys.argv[2], "a")),
    "own": of(lambda: open("own", "w").write("x")), "shm": of(lambda: open("/dev/shm/x", "w")), "etc": of(lambda: open("/etc/x", "w")),
    "net": of(lambda: socket.create_connection(("192.0.2.1", 9), timeout=2)),
    "pts": os.listdir("/dev/pts"), "home": os.environ["HOME"], "root": of(lambda: os.setuid(0)),
    "again": subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL).returncode,
}
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=2)
print(json.dumps(found))
sys.exit(7)
"""
SLEEPERS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[1]], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def marker() -> Iterator[str]:
    word = f"seedproof-sandbox-{os.getpid()}-{time.monotonic_ns()}"
    yield word
    kill(word)


def test_a_command_sees_and_reaches_nothing_but_its_own(tmp_path: Path) -> None:
    folder, secret, shown = tmp_path / "attempt", tmp_path / "secret", tmp_path / "data" / "shown"
    for path in (folder, shown.parent):
        path.mkdir()
    secret.write_text("secret")
    shown.write_text("shown")
    words = [sys.executable, "-c", LOOK, str(secret), str(shown)]
    command = sandbox.wrapped(words, str(folder), [str(shown.parent)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["uid"] == (sandbox.NOBODY if os.getuid() == 0 else os.getuid())
    assert found["pids"] == ["1"]
    assert found["secret"] == 2  # it does not exist there
    assert found["shown"] == "shown"
    assert {found[name] for name in ("beside", "shown_w", "etc")} <= {13, 30}  # not permitted, read-only
    assert found["own"] is None
    assert found["shm"] is None
    assert found["net"] == 101  # unreachable
    assert found["pts"] == []
    assert found["home"] == "/dev/shm"
    assert found["root"] == 1  # not permitted
    assert found["again"] != 0
    assert (folder / "own").read_text() == "x"
    assert not Path("/dev/shm/x").exists()


@pytest.mark.parametrize("victim", ["supervisor", "launcher", "worker"])
def test_nothing_of_it_is_left(tmp_path: Path, marker: str, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_S", 0.2)
    words = [*module.tied(), *sandbox.wrapped([sys.executable, "-c", SLEEPERS, marker], str(tmp_path), [])]
    code = f"import sys; sys.path.insert(0, {str(module.__file__).rsplit('/orchestration/', 1)[0]!r})\n"
    code += (
        "from orchestration.worker import supervisor\nsupervisor.GRACE_S = 0.2\nsys.exit(supervisor.main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if victim == "supervisor":
            process.kill()
        elif victim == "launcher":
            (launcher,) = [pid for pid, parent in supervisor.parents().items() if parent == process.pid]
            os.kill(launcher, signal.SIGKILL)
        else:
            process.stdin.close()  # what the supervisor sees when its worker is gone
        process.wait(30)
    until(lambda: not processes_of(marker), within_s=10)


@pytest.mark.parametrize("make_trap", [os.mkfifo, lambda path: os.symlink("../target", path)], ids=["pipe", "link"])
def test_what_a_script_puts_in_the_place_of_a_file_is_not_written_to(
    tmp_path: Path, make_trap: Callable[[Path], None]
) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    (tmp_path / "target").write_text("ours")
    make_trap(folder / f".run.json.{os.getpid()}.partial")
    with pytest.raises(OSError, match=r"run\.json"):
        write_json(folder / "run.json", {"state": "running"})
    assert (tmp_path / "target").read_text() == "ours"


def test_a_run_is_confined_where_that_is_asked_for_and_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"DATA_PATH": "/some/data", "A": "/b"}
    orders = {mode: make_order(tmp_path, sandbox=mode, env=recipe) for mode in Sandbox}
    words = ["torchrun", "x"]
    found = {mode: confined(order, words, {"PYTHONPATH": "/lib/a:"}) for mode, order in orders.items()}
    assert found[Sandbox.NONE] == words
    for mode in (Sandbox.AUTO, Sandbox.REQUIRE):
        assert found[mode][-6:] == ["--", "env", "DATA_PATH=/some/data", "A=/b", *words]
        readable = found[mode][-7].split(":")
        assert {str(tmp_path / "script.py"), str(tmp_path / "modules"), "/some/data", "/lib/a"} <= {*readable}
        assert "/b" not in readable
    monkeypatch.setattr(sandbox, "fault", lambda: "not permitted")
    assert confined(orders[Sandbox.AUTO], words, {}) == ["env", "DATA_PATH=/some/data", "A=/b", *words]
    with contextlib.ExitStack() as held:
        (end,) = make(orders[Sandbox.REQUIRE], "node", held, None)
    assert end == Ended(state="pending", reason="this node can make no sandbox: not permitted")
    assert not orders[Sandbox.REQUIRE].folder.exists()


def test_a_recipe_steers_nothing_outside_of_the_sandbox(tmp_path: Path) -> None:
    hostile = {"PYTHONPATH": "../../../modules", "LD_PRELOAD": "/evil.so", "HOME": "/evil", "PATH": "/bad"}
    recipe = hostile | {"CUDA_VISIBLE_DEVICES": "", module.MARKER: "x"}
    order = make_order(tmp_path, sandbox=Sandbox.AUTO, env=recipe)
    around = beside(order, run_environment(order))
    assert not {*hostile.values()} & {*around.values()}
    assert around["CUDA_VISIBLE_DEVICES"] == ""
    words = confined(order, ["torchrun"], around)
    inner, readable = words[words.index("--") + 1 :], words[words.index("--") - 1].split(":")
    assert {"PYTHONPATH=../../../modules", "LD_PRELOAD=/evil.so"} <= {*inner}
    assert f"{module.MARKER}={order.sweep}/candidate/7/1" in inner  # not the recipe's own
    assert "/evil" not in readable
    trusted = make_order(tmp_path, env=hostile)
    assert beside(trusted, run_environment(trusted))["HOME"] == "/evil"


def test_git_does_not_look_at_the_folder_of_submitted_code(tmp_path: Path) -> None:
    found = provenance(None, {"PATH": str(tmp_path)})
    assert found["git"] == {"commit": None, "dirty": None}
    assert "submitted code" in found["unknown"]["git.commit"]
