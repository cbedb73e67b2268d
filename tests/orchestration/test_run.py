"""One run without Ray: what it sees, what it leaves, and that nothing outlives it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.rules.ruleset import load
from orchestration.disk.digests import LARGE_BYTES
from orchestration.disk.files import file_digest, write_code, write_whole
from orchestration.plan.imports import local_modules
from orchestration.worker import manifest as manifest_module
from orchestration.worker import run as module
from orchestration.worker import supervisor
from orchestration.worker.manifest import finish, give_up, write_manifest
from orchestration.worker.order import Alive, Ended, Message, RunOrder
from orchestration.worker.outcome import Outcome, judge
from orchestration.worker.run import Exit, command, execute, run_environment, supervise
from tests.conftest import clean_environment, kill, make_log, processes_of, until
from tests.orchestration.orders import make_order

RULES = load("parameter-golf")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor's guarantees need Linux")

# a command that starts a child in a session of its own; both ignore SIGTERM when asked
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "stubborn" else signal.SIG_DFL)
subprocess.Popen([sys.executable, "-c", "import signal, sys, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == 'stubborn' else signal.SIG_DFL)\\n"
    "time.sleep(60)", sys.argv[1], sys.argv[2]], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def marker() -> Iterator[str]:
    """A word in the command lines of a test's processes; what is left of them is killed."""
    word = f"seedproof-test-{os.getpid()}-{time.monotonic_ns()}"
    yield word
    kill(word)


@contextlib.contextmanager
def supervised(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The supervisor with its command; what is left of it is killed."""
    arguments = [sys.executable, supervisor.__file__, *command]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("manner", ["polite", pytest.param("stubborn", marks=pytest.mark.slow)])  # waits out the grace
@pytest.mark.parametrize("event", ["end of pipe", "SIGTERM"])
def test_nothing_outlives_the_supervisor(marker: str, manner: str, event: str) -> None:
    with supervised(sys.executable, "-c", STUBBORN, manner, marker) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"ready\n"
        until(lambda: len(processes_of(marker)) >= 3)  # the child may still be between fork and exec
        if event == "SIGTERM":
            process.terminate()
        else:
            process.stdin.close()
        assert process.wait(20) == 128 + (signal.SIGTERM if manner == "polite" else signal.SIGKILL)
        until(lambda: not processes_of(marker), within_s=1)


def test_leftovers_of_a_command_that_ended_are_killed(marker: str) -> None:
    code = f"import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True, env={{'M': '{marker}'}})"
    with supervised(sys.executable, "-c", code) as process:
        assert process.wait(60) == 0
    until(lambda: not processes_of(marker), within_s=1)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs util-linux's setpriv")
def test_a_killed_supervisor_takes_torchrun_and_ranks_along(marker: str, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import time; print('ready', flush=True); time.sleep(60)")
    run = command(order(script, tmp_path, ranks=2), {})
    with supervised(*run, env=clean_environment() | {"MARKER": marker}, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"ready")  # of one of the ranks, or of both
        process.kill()
        until(lambda: not processes_of(marker), within_s=20)


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_is_passed_on(code: str, expected: int) -> None:
    with supervised(sys.executable, "-c", code) as process:
        assert process.wait(60) == expected


def test_a_run_sees_what_a_bare_torchrun_would() -> None:
    code = "import os, signal; print(os.nice(0), signal.SIGINT in signal.pthread_sigmask(0, []))"

    def as_ray_does() -> None:
        os.nice(15)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

    with supervised(sys.executable, "-c", code, preexec_fn=as_ray_does) as process:
        assert process.stdout
        output = process.stdout.read().split()
    assert output[1] == b"False"
    if os.geteuid() == 0:
        assert output[0] == b"0"


def order(script: Path, sweep: Path, ranks: int = 1, **env: str) -> RunOrder:
    """An order of the sweep directory `sweep`, on a node that shares it, with what the script imports."""
    content = script.read_bytes() if script.exists() else b""
    modules = {f"modules/{name}": module for name, module in local_modules(script, content).items()}
    code = {"script.py": content} | modules
    write_code(sweep, code)
    made = make_order(sweep, script=script, code=code, env=env, ranks=ranks)
    (sweep / "sweep.lock").write_text(json.dumps({"sweep": made.sweep, "driver": made.driver}))
    return made


def ended(planned: RunOrder) -> dict[str, Any]:
    """What run.json says of a run that was made here, and nothing more came of it."""
    (end,) = (said for said in execute(planned, "node") if said != Alive())
    assert isinstance(end, Ended)
    assert end.manifest
    assert json.loads((planned.folder / "run.json").read_text()) == end.manifest.table
    return dict(end.manifest.table)


def test_the_environment_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("ITERATIONS", "3")  # left over in somebody's shell
    for name in ("LANGSMITH_API_KEY", "HOMEBREW_GITHUB_API_TOKEN", "NVIDIA_API_KEY", "USERPASSWORD"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("NCCL_PROXY", "https://me:" + "hunter22@proxy")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    env = run_environment(order(tmp_path / "s.py", tmp_path, A="1"))
    assert env["SEED"] == "7"
    assert env["A"] == "1"
    assert env["OMP_NUM_THREADS"] == "1"
    assert not {"RAY_JOB_ID", "ITERATIONS", "NCCL_PROXY"} & set(env)
    assert not [name for name in env if "API" in name or "PASS" in name]
    assert env["NCCL_DEBUG"] == "INFO"
    assert run_environment(order(tmp_path / "s.py", tmp_path, OMP_NUM_THREADS="4"))["OMP_NUM_THREADS"] == "4"


# what torchrun prints at the end when a rank failed
ROOT_CAUSE = """\
/usr/bin/setpriv FAILED
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : {other} (pid: 11098)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : {first} (pid: 11101)
"""


FULL = "OSError: [Errno 28] No space left on device"
FAILED = ROOT_CAUSE.format(first=1, other=-15)
CRASH = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "train.py", line 1, in <module>
[rank1]: {}
"""


SIZED = "Total submission size int8+zlib: 15820 bytes\nfinal_x val_bpb:1.3 val_loss:2.3\n"
ABORTED = f"""\
[rank1]:[E1129 x.cpp:1] Watchdog caught collective operation timeout
terminate called after throwing an instance of 'c10::DistBackendError'
{ROOT_CAUSE.format(first=-6, other=-15)}"""


@pytest.mark.parametrize(
    ("log", "code", "state", "word"),
    [
        (make_log(1, 1.2), 0, "succeeded", None),
        # a result stands, whatever happened afterwards
        (make_log(1, 1.2), 1, "succeeded", "exit code 1"),
        (make_log(1, 1.2), 137, "succeeded", "torchrun was killed by signal 9"),
        (make_log(1, 1.2), -9, "succeeded", "supervisor was killed by signal 9"),
        (make_log(1, 1.2) + CRASH.format(FULL) + FAILED, 1, "succeeded", "the disk was full"),
        (make_log(1, float("nan")), -9, "failed", "not a finite number"),
        (make_log(2, 1.2), -9, "failed", "printed seed 2, SEED was 1"),
        # but not a log that stops on the way, or one without the size that the rules cap
        ("step:9/9 a:1\n" + SIZED.partition("\n")[2], -9, "failed", "does not say the artifact's size"),
        ("step:9/9 a:1\n" + SIZED.rstrip("\n"), -9, "lost", "supervisor was killed"),  # the last number may be cut off
        ("step:1/9 a:1\n" + SIZED + "\nstep:2/9 a:1\n", -9, "lost", "supervisor was killed"),
        ("x val_bpb:1.4 val_loss:2.4\nstep:2/9 a:1\nx val_bpb:1.3 val_loss:2.3\n", -9, "lost", "supervisor was killed"),
        ("step:9/9 a:1\nfinal_prequant val_bpb:1.3 val_loss:2.3\n", -9, "lost", "supervisor was killed"),
        ("step:9/9 a:1\n" + SIZED, 1, "succeeded", "exit code 1"),
        ("Root Cause:\n  exitcode  : -9 (pid: 1)\n", 1, "lost", "a rank was killed by SIGKILL"),
        (ROOT_CAUSE.format(first=1, other=-15), 1, "failed", "the script with 1"),
        (ROOT_CAUSE.format(first=-15, other=1), 1, "lost", "a rank was told to end by SIGTERM"),
        (ROOT_CAUSE.format(first=1, other=-9), 1, "lost", "a rank was killed by SIGKILL"),
        ("forcefully exiting via SIGKILL\n" + ROOT_CAUSE.format(first=1, other=-9), 1, "failed", "the script with 1"),
        (ROOT_CAUSE.format(first=-7, other=1), 1, "lost", "bus error"),
        (ROOT_CAUSE.format(first=-11, other=-15), 1, "failed", "the script with -11"),
        ("SignalException: Process 12 got signal: 15\n", 1, "lost", "torchrun was told to end by SIGTERM"),
        ("DistBackendError: NCCL error: ncclSystemError\n", 1, "lost", "the network between the GPUs broke down"),
        ("DistBackendError: NCCL error: ncclRemoteError: a peer left\n", 1, "failed", "exit code 1 (DistBackendError"),
        (FULL + "\n", 1, "lost", "the disk was full"),
        ("step:1/2 train_loss:3\nstep:2/2 tra", 0, "failed", "no final metric"),  # the watchdog sees a log that was cut
        # words of a breakdown in an error, and before one
        (CRASH.format(FULL) + FAILED, 1, "lost", "the disk was full"),
        (
            f"train_gpt.py: The working directory cannot take the weights: {FULL}.\n{FAILED}",
            1,
            "lost",
            "the disk was full",
        ),
        (f"{FULL}, kept\n{FAILED}", 1, "failed", "exit code 1"),
        ("NCCL WARN NET/OFI no protocol\n" + CRASH.format("AssertionError: nan") + FAILED, 1, "failed", "nan"),
        ("[rank1]: a frame\n" * 900 + f"[rank1]: {FULL}\n{FAILED}", 1, "lost", "the disk was full"),
        (CRASH.format(FULL) + "[rank1]: a long story\n" * 800 + FAILED, 1, "failed", "exit code 1"),
        # and those that nobody survives
        (
            "UserWarning: CUDA driver initialization failed\n" + CRASH.format("RuntimeError: no GPU") + FAILED,
            1,
            "lost",
            "GPUs do not work",
        ),
        (
            f"[rank3]:[E1129 x.cpp:1] CUDA error: uncorrectable ECC error\nterminate called\n{ROOT_CAUSE.format(first=-6, other=-15)}",
            1,
            "lost",
            "a GPU broke down",
        ),
        (make_log(1, 1.2).partition("final_")[0], -9, "lost", "supervisor was killed by signal 9"),
        (ROOT_CAUSE.format(first=-2, other=-15), 1, "lost", "a rank was interrupted by SIGINT"),
        ("SignalException: Process 12 got signal: 2\n", 1, "lost", "torchrun was interrupted by SIGINT"),
        (ABORTED, 1, "failed", "the script with -6 (SIGABRT)"),
        ("NCCL WARN NET/IB: closed\n" + ABORTED.replace("x.cpp", "ncclSystemError"), 1, "lost", "the network between"),
        ("step:1/2 train_loss:3\n", 0, "failed", "no final metric"),
        (make_log(1, float("nan")), 0, "failed", "not a finite number"),
        ("", 0, "failed", "no final metric"),
        (make_log(2, 1.2), 0, "failed", "printed seed 2, SEED was 1"),
        ("[rank0]: ValueError: boom\n  exitcode  : 3 (pid: 1)\n", 1, "failed", "the script with 3 (ValueError: boom)"),
    ],
)
def test_the_state_of_a_run_that_ended(tmp_path: Path, log: str, code: int, state: str, word: str | None) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    found = judge(path, code, 1, RULES)
    assert found.state == state
    assert found.reason is None if word is None else word in str(found.reason)
    assert state != "failed" or str(path) in str(found.reason)


@pytest.mark.slow
def test_a_run_leaves_its_log_its_files_and_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-write-this")
    script = tmp_path / "s.py"
    script.write_text(
        "import os\n"
        "open('weights.bin', 'w').write('x')\n"
        "print('final_x val_loss:2.0 val_bpb:1.2', os.environ['SEED'], os.environ['A'], flush=True)\n"
    )
    planned = order(script, tmp_path, A="b")
    manifest, folder = ended(planned), planned.folder
    assert manifest["state"] == "succeeded"
    assert manifest["exit_code"] == 0
    assert manifest["metric"]["val_bpb"] == 1.2
    assert manifest["files"]["weights.bin"] == {"bytes": 1, "sha256": file_digest(folder / "weights.bin")}
    assert manifest["env"] == {"A": "b", "OMP_NUM_THREADS": "1", "SEED": "7"}
    assert "do-not-write-this" not in (folder / "run.json").read_text()
    assert "final_x val_loss:2.0 val_bpb:1.2 7 b" in (folder / "train.log").read_text()


@pytest.mark.slow
def test_what_runs_is_the_frozen_code(tmp_path: Path) -> None:
    """The script and its helper are edited right after freezing, and again by the run itself, before it loads the helper."""
    script, helper = tmp_path / "s.py", tmp_path / "helper.py"
    script.write_text(
        "import os, sys\n"
        f"open({str(helper)!r}, 'w').write('BPB = 1.0')\n"
        "import helper\n"
        "print(open(__file__).read().count('1.5'), [p for p in sys.path if 'attempt' in p or p == os.getcwd()])\n"
        "print(f'final_x val_loss:2.0 val_bpb:{helper.BPB}')  # 1.5\n"
    )
    helper.write_text("BPB = 1.2\n")
    planned = order(script, tmp_path / "sweep")
    script.write_text("print('final_x val_loss:2.0 val_bpb:1.1')\n")
    helper.write_text("BPB = 1.1\n")
    manifest = ended(planned)
    assert manifest["state"] == "succeeded"
    assert manifest["metric"]["val_bpb"] == 1.2
    assert (planned.folder / "train.log").read_text().startswith("2 []\n")
    assert manifest["script"]["sha256"] == hashlib.sha256(planned.code["script.py"]).hexdigest()
    (file,) = manifest["script"]["files"]
    assert file == {"name": "helper.py", "sha256": hashlib.sha256(b"BPB = 1.2\n").hexdigest(), "bytes": 10}


FINAL = "final_x val_loss:2.0 val_bpb:1.2"


def torchrun_is(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let a run start this shell script instead of torchrun."""
    monkeypatch.setattr(module, "command", lambda order, environment: ["/bin/sh", "-c", body])


@pytest.mark.parametrize(
    "edit", ["chmod u+w ../../../{0}; echo x >> ../../../{0}", "rm ../../../{0}", "touch ../../../modules/more.py"]
)
@pytest.mark.parametrize("name", ["script.py", "modules/helper.py"])
def test_a_run_that_edits_its_frozen_code_is_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, edit: str
) -> None:
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "s.py").write_text("import helper\n")
    planned = order(tmp_path / "s.py", tmp_path / "sweep")
    assert (planned.sweep_directory / name).stat().st_mode & 0o777 == 0o444
    torchrun_is(monkeypatch, f"echo {FINAL}; {edit.format(name)}")
    manifest = ended(planned)
    assert manifest["state"] == "failed"
    assert manifest["reason"].startswith("the frozen code was changed during the run: ")
    again = execute(replace(planned, attempt=2, folder=planned.folder.with_name("attempt-2")), "node")
    (second,) = (said for said in again if said != Alive())
    assert isinstance(second, Ended)
    assert second.manifest is None  # nothing was started
    assert str(planned.sweep_directory) in str(second.reason)


def test_a_log_that_grows_without_end_is_ended_at_once_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = order(tmp_path / "s.py", tmp_path / "sweep")
    torchrun_is(monkeypatch, "trap '' TERM; yes 'a line that nobody will ever read' & wait")
    started = time.monotonic()
    manifest = ended(planned)
    assert manifest["state"] == "failed"
    assert manifest["reason"] == "its log grew beyond 64 MiB, the most that is read: print less"
    assert (planned.folder / "train.log").stat().st_size == 64 * 2**20 + 1
    assert manifest["files"]["train.log"]["sha256"] == file_digest(planned.folder / "train.log")
    assert time.monotonic() - started < 60  # and the machine's other work


@pytest.mark.parametrize("what", ["the folder", "run.json"])
def test_a_run_that_cannot_be_written_waits_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    planned = order(tmp_path / "s.py", tmp_path / "sweep")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "prepare" if what == "the folder" else "begin", full)
    (found,) = (said for said in execute(planned, "node") if said != Alive())
    assert found == Ended(state="pending", reason=f"{planned.folder} cannot be written: No space left on device")
    assert not planned.folder.exists()


def test_a_run_on_a_disk_that_fills_up_tells_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = order(tmp_path / "s.py", tmp_path / "sweep")
    (tmp_path / "log").write_text("step:9/9 a:1\n" + SIZED)
    torchrun_is(monkeypatch, f"cat {tmp_path / 'log'}; truncate -s {LARGE_BYTES + 1} big")

    def full(folder: Path, table: object) -> None:
        if table["state"] != "running":  # type: ignore[index]
            raise OSError(errno.ENOSPC, "No space left on device")
        write_manifest(folder, table)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest_module, "write_manifest", full)
    *_, found = execute(planned, "node")
    assert isinstance(found, Ended)
    assert found.state == "succeeded"
    assert found.manifest
    assert found.manifest.part("files")["big"] == {"bytes": LARGE_BYTES + 1, "sha256": None}
    assert "resume" in found.manifest.part("unknown")["files.big.sha256"]
    assert json.loads((planned.folder / "run.json").read_text())["state"] == "running"  # the driver writes the end


def test_files_appear_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_whole(path, "one")
    write_whole(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_process_that_cannot_be_ended_holds_nobody(
    tmp_path: Path, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = tmp_path / "supervisor.py"
    stuck.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(supervisor, "__file__", str(stuck))
    monkeypatch.setattr(module, "END_S", 0.2)
    planned = replace(order(tmp_path / "s.py", tmp_path), stall_timeout_s=1.0)
    planned.folder.mkdir(parents=True)
    left = []

    def supervised() -> Iterator[Message]:
        left.append((yield from supervise(planned, [], clean_environment() | {"MARKER": marker})))

    with pytest.warns(ResourceWarning):
        assert list(supervised()) == [Alive()]
    fault = Outcome(state="lost", reason="hung: no line for 1 s; its processes cannot be ended")
    assert left == [Exit(code=None, fault=fault)]


def test_a_worker_says_that_it_is_alive(tmp_path: Path, marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "supervisor.py"
    short.write_text("import time\ntime.sleep(0.5)\n")
    monkeypatch.setattr(supervisor, "__file__", str(short))
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    monkeypatch.setattr(module, "WATCH_S", 0.05)
    planned = order(tmp_path / "s.py", tmp_path)
    planned.folder.mkdir(parents=True)
    said = list(supervise(planned, [], clean_environment() | {"MARKER": marker}))
    assert len(said) >= 2
    assert set(said) == {Alive()}


def test_a_manifest_that_the_script_has_written_decides_nothing(tmp_path: Path) -> None:
    planned, succeeded = order(tmp_path / "s.py", tmp_path), Outcome(state="succeeded")
    planned.folder.mkdir(parents=True)
    path = planned.folder / "run.json"
    theirs = {**planned.key._asdict(), "state": "stopped", "metric": {"val_bpb": 1.0}}
    for content in ('{"lr": 1}', '{"state": "lost", "seed": 7}', "[]", json.dumps(theirs)):
        path.write_text(content)
        assert finish(planned, {"seed": 7}, succeeded).state == "succeeded"
        path.write_text(content)
        found = give_up(planned, "lost", "its worker is gone")
        assert (found.state, found.reason, found.metric) == ("lost", "its worker is gone", {})
    (planned.folder / "train.log").write_text(SIZED)
    found = give_up(planned, "lost", "its worker is gone")
    assert found.state == "succeeded"
    assert found.metric["val_bpb"] == 1.3
    assert str(found.reason).endswith("its worker is gone")
    assert found.log_sha256 == file_digest(planned.folder / "train.log")


@pytest.mark.parametrize(
    ("log", "result"),
    [
        ("step:999/1000 train_loss:3.3\nstep:1000/1000 val_loss:3.27\n", 3.27),
        ("step:500/1000 val_loss:3.5\n", None),
        ("step:1000 val_loss:3.27\n", None),  # nobody says that it was the last
        ("step:1000/1000 val_loss:3.27\nstep:1001/1000 train_loss:3.2\n", None),
        ("step:1000/1000 val_loss:3.2", None),
    ],
)
def test_a_last_validation_is_a_result_where_the_log_says_that_it_is_the_last(
    tmp_path: Path, log: str, result: float | None
) -> None:
    path, rules = tmp_path / "train.log", load("nanogpt-track-3")
    path.write_text(log)
    found = judge(path, -9, 1, rules)
    assert found.state == ("lost" if result is None else "succeeded")
    assert (found.metric and found.metric.val_loss) == result
    if log.startswith("step:1000 "):
        assert judge(path, 0, 1, rules).state == "succeeded"


@pytest.mark.parametrize(
    ("tail", "state"), [("sleep 60", "succeeded"), ("kill -9 $PPID; sleep 60", "succeeded"), ("true", "succeeded")]
)
def test_a_final_line_counts_whatever_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: str, state: str
) -> None:
    """The run hangs until the watchdog ends it, its supervisor is killed, or it just ends."""
    planned = replace(order(tmp_path / "s.py", tmp_path / "sweep"), stall_timeout_s=2.0)
    (tmp_path / "log").write_text("step:9/9 a:1\n" + SIZED)
    torchrun_is(monkeypatch, f"cat {tmp_path / 'log'}; {tail}")
    manifest = ended(planned)
    assert manifest["state"] == state
    assert manifest["metric"]["val_bpb"] == 1.3
    assert (manifest["reason"] is None) == (tail == "true")


def test_what_a_log_lacks_is_said_by_the_rules(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("final_x val_loss:2.0 val_bpb:1.2\n")
    found = judge(log, 0, 1, load("nanogpt-track-3"))
    reason = f"no final metric, a validation at the last step, was printed; see {log}"
    assert found == Outcome(state="failed", reason=reason)


def test_a_log_of_any_size_is_described_by_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "LIMIT", 9)
    log = tmp_path / "train.log"
    log.write_bytes(b"0123456789")
    os.truncate(log, 2**40)
    digest = hashlib.sha256(b"0123456789").hexdigest()
    assert manifest_module.described_log(log) == {"train.log": {"bytes": 10, "sha256": digest}}
