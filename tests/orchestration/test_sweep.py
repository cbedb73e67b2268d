"""Whole sweeps on a private Ray: foreign scripts, failures, jobs, interruption, and the files they leave."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestration.disk.journal import Attempt, Journal
from orchestration.disk.patient import Disk
from orchestration.plan.freeze import freeze
from tests.conftest import ROOT, clean_environment, kill, processes_of, until
from tests.orchestration.orders import plan_of

Run = Callable[..., subprocess.CompletedProcess[str]]

FOREIGN = '''\
"""Somebody else's trainer, which knows nothing of us."""
import os
import random
import time

rank, alone = int(os.environ["RANK"]), os.environ["WORLD_SIZE"] == "1"
if not alone:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    dist.barrier()
random.seed(int(os.environ["SEED"]) + 1000 * ("BASE" in os.environ))  # no two arms of one noise
fault = os.environ.get("FAULT")
value = float(os.environ.get("BASE", "1.2")) + random.gauss(0, 0.001)
if rank == 0:
    print("world_size:8\\nTotal submission size: 12000000 bytes", flush=True)  # what the rules cap
steps = int(os.environ.get("STEPS", "3"))
for step in range(steps):
    if rank == 0:
        print(f"step:{step}/{steps} train_loss:{3 - step} train_time:{step + 1}ms", flush=True)
    time.sleep(float(os.environ.get("PAUSE", "0")))
if fault == "exit" and os.environ["SEED"] == "2":
    raise SystemExit(3)
if rank == 0 and fault != "silent":
    print(f"my_final_score val_loss: {value / 0.6:.8f} val_bpb: {value:.8f}", flush=True)
if not alone:
    dist.destroy_process_group()
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.py"
    path.write_text(FOREIGN)
    return path


def has_stepped(log: Path) -> bool:
    return log.is_file() and b"step:0" in log.read_bytes()


def sweep_arguments(script: Path, output: Path, *more: str) -> list[str]:
    return ["-m", "orchestration.sweep", "run", "--script", str(script), "--output", str(output), *more]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), ["What is to be beaten", "--sota", "--control"]),
        (("--sota", "1.2", "--script", "/nope.py"), ["--script", "/nope.py"]),
        (("--sota", "1.2", "--recipe", "/nope.toml"), ["/nope.toml"]),
        (("--sota", "1.2", "--seeds", "x"), ["--seeds", "'x'"]),
        (("--sota", "1.2", "--rules", "golf"), ["'golf'", "parameter-golf"]),
        (("--sota", "1.2", "--env", "A"), ["KEY=VALUE"]),
        (("--sota", "nan"), ["--sota is nan"]),
        (("--sota", "1,2"), ["'1,2' is not a number", "Did you mean 1.2?"]),
        (("--sota", "1.2", "--storage", "bucket"), ["--storage bucket is no URL"]),
        (("--sota", "1.2", "--registry", "folder"), ["--registry folder is no URL"]),
        (("--sota", "1.2", "--alpha", "5"), ["--alpha is 5"]),
        (("--sota", "1.2", "--margin", "-1"), ["--margin is -1"]),
        (("--sota", "1.2", "--max-seeds", "5"), ["--max-seeds", "--design sequential"]),
        (("--sota", "1.2", "--boundary", "pocock"), ["--boundary belongs to --design sequential"]),
        (("--sota", "1.2", "--seeds", ""), ["--seeds ''", "at least one seed"]),
        (("--sota", "1.2", "--design", "sequential", "--max-seeds", "31"), ["--max-seeds", "3<=x<=30"]),
        (("--sota", "1.2", "--design", "sequential", "--seeds", "31"), ["31 seeds are planned", "at most 30 times"]),
        (("--sota", "1.2", "--design", "sequential", "--seeds", "1,2"), ["first at 3 seeds; 2 are planned"]),
        (("--sota", "1.2", "--design", "sequential", "--seeds", "4", "--max-seeds", "5"), ["--seeds says"]),
    ],
)
def test_usage_errors_come_before_ray(
    command: Run, script: Path, tmp_path: Path, more: tuple[str, ...], words: list[str]
) -> None:
    found = command(*sweep_arguments(script, tmp_path / "out", *more)[1:])
    assert found.returncode == 2
    for word in words:
        assert word in found.stderr
    assert not (tmp_path / "out").exists()


def test_a_storage_that_cannot_be_used_leaves_no_plan(command: Run, script: Path, tmp_path: Path) -> None:
    more = ("--sota", "1.2", "--storage", "nosuch://bucket")
    found = command(*sweep_arguments(script, tmp_path / "out", *more)[1:])
    assert found.returncode == 2, found.stderr
    assert "--storage nosuch://bucket cannot be used" in found.stderr
    assert not (tmp_path / "out" / "plan.json").exists()  # the corrected command may use the same folder


def test_a_result_whose_folder_is_gone_is_not_bought_again(python: Run, script: Path, tmp_path: Path) -> None:
    freeze(plan_of(script, "1,2"), tmp_path / "out")
    journal = Journal(tmp_path / "out", Disk(tmp_path / "out", 0.0, print))
    for state in ("running", "succeeded"):
        journal.write(Attempt("candidate", 1, 1), state, node="node")
    found = python("-m", "orchestration.sweep", "resume", tmp_path / "out")
    assert found.returncode == 2, found.stderr
    assert "attempt-1/train.log does not exist: put it back" in found.stderr


def test_a_folder_with_something_in_it_is_not_written_to(command: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "demo").mkdir(parents=True)
    found = command(*sweep_arguments(script, tmp_path / "out", "--sota", "1.2")[1:])
    assert found.returncode == 2, found.stderr
    assert "already exists and holds demo" in found.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["demo"]
    for name in ("script.py", "sweep.lock", "events.jsonl"):  # what a refused sweep leaves
        (tmp_path / "refused").mkdir(exist_ok=True)
        (tmp_path / "refused" / name).touch()
    more = ("--sota", "1.2", "--seeds", "1", "--storage", "nosuch://bucket")
    found = command(*sweep_arguments(script, tmp_path / "refused", *more)[1:])
    assert "Note: seeds planned: 1; a claim by parameter-golf needs 3." in found.stderr
    assert "--storage nosuch://bucket cannot be used" in found.stderr


@pytest.mark.parametrize("verb", ["status", "collect", "resume"])
def test_a_record_folder_is_no_sweep(command: Run, sweep: Callable[..., Path], verb: str) -> None:
    folder = sweep({1: 1.2, 2: 1.201})
    for number, attempt in enumerate(folder.glob("*/*/attempt-1")):
        (attempt / "train.log").rename(folder / f"train_seed{number}.log")
    shutil.rmtree(folder / "candidate")
    found = command("orchestration.sweep", verb, folder)
    assert found.returncode == 2
    assert "is a record folder, not a sweep directory. Check it with" in found.stderr


@pytest.mark.slow
def test_a_foreign_script_through_to_the_verdict(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    output, control = tmp_path / "out", tmp_path / "control.toml"
    control.write_text("[env]\nBASE = 1.3\n")
    arguments = sweep_arguments(script, output, "--control", str(control), "--seeds", "1,2,3")
    found = python(*arguments, env=private_ray)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "\nSUPPORTED: " in found.stdout
    assert "candidate seed 1: succeeded" in found.stdout
    verdict = json.loads((output / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["n"], len(verdict["control"])) == ("supported", 3, 3)
    assert verdict["runs"][0]["label"] == "my_final_score"
    for name in ("runs.parquet", "report.md", "report.html", "candidate/seed-1/attempt-1/train.log"):
        assert (output / name).is_file(), name
    manifest = json.loads((output / "control/seed-2/attempt-1/run.json").read_text())
    assert (manifest["state"], manifest["ranks"], manifest["env"]["BASE"]) == ("succeeded", 1, "1.3")
    events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    started = [(event["arm"], event["seed"]) for event in events if event["state"] == "running"]
    arms = ("candidate", "control")
    assert started == [(arm, seed) for seed in (1, 2, 3) for arm in arms[:: 1 if seed % 2 else -1]]  # in turns

    for command, word in (("report", "SUPPORTED"), ("check", "SUPPORTED")):
        again = python("-m", "analysis.significance", command, output)
        assert again.returncode == 0
        assert word in again.stdout
    frame = python("-m", "analysis.significance", "report", output / "runs.parquet", "--format", "json")
    assert json.loads(frame.stdout)["mean"] == verdict["mean"]
    assert (verdict["test"]["name"], json.loads(frame.stdout)["test"]["name"]) == (
        "paired t",
        "Welch t",
    )  # it has no plan
    status = python("-m", "orchestration.sweep", "status", output)
    assert "6 of 6 runs succeeded." in status.stdout
    collected = python("-m", "orchestration.sweep", "collect", output, "--format", "json")
    assert len(json.loads(collected.stdout)) == 6
    assert python(*arguments, env=private_ray).returncode == 2  # never twice into one directory

    named = ("--name", "Somebody else's", "--author", "A. Author", "--output", tmp_path / "record")
    recorded = python("-m", "orchestration.record", output, *named)
    assert recorded.returncode == 0, recorded.stderr
    command = shlex.split(recorded.stdout.partition("Check it with: python ")[2])
    check = python(*command)
    assert check.returncode == 0
    assert "SUPPORTED" in check.stdout
    assert re.findall(r"^(?:error|warning): ([\w-]+)", check.stdout, re.MULTILINE) in ([], ["seed-missing"] * 6), (
        check.stdout
    )
    assert (tmp_path / "record" / "train_gpt.py").read_bytes() == script.read_bytes()
    assert not processes_of(str(output))


SELF_KILLER = """\
if os.environ["SEED"] == "1" and os.getcwd().endswith("attempt-1"):
    import signal

    print("step:3/3 val_loss:2.1500 val_bpb:1.2900 train_time:9ms", flush=True)
    open("run.json", "w").write('{"state": "pending"}')
    os.kill(os.getpid(), signal.SIGKILL)
if rank == 0 and fault"""


@pytest.mark.slow
def test_a_script_that_kills_itself_when_its_value_is_bad_is_refused(
    python: Run, command: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    script.write_text(FOREIGN.replace("if rank == 0 and fault", SELF_KILLER))
    output, more = tmp_path / "out", ("--sota", "1.3", "--seeds", "1,2", "--max-attempts", "2")
    found = python(*sweep_arguments(script, output, *more), env=private_ray)
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout.count("REFUSED: ") == 1
    verdict = json.loads((output / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["gate"]) == ("supported", "refused")
    first = verdict["runs"][0]["attempts"][0]
    assert (first["state"], first["last"]) == ("lost", 1.29)
    assert "error: attempts-remade: candidate/seed-1/attempt-1/train.log:" in found.stdout
    assert command("analysis.significance", "check", output).returncode == 1
    assert not processes_of(str(output))


@pytest.mark.slow
def test_a_sequential_sweep_buys_no_seed_after_the_verdict(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ("--sota", "1.204", "--design", "sequential", "--seeds", "1,2,3,4,5,6,7,8", "--margin", "0")
    found = python(*sweep_arguments(script, output, *arguments), env=private_ray)
    assert found.returncode == 0, found.stdout + found.stderr
    verdict = json.loads((output / "verdict.json").read_text())
    n = 5
    assert (verdict["verdict"], verdict["design"], verdict["n"]) == ("supported", "sequential", n)
    for look in (3, 4):
        assert f"Look at {look} seeds: not yet. " in found.stdout
    assert sorted(path.name for path in (output / "candidate").iterdir()) == [
        f"seed-{seed}" for seed in range(1, n + 1)
    ]
    assert re.search(rf"{8 - n} of at most 8 seeds need not be run: about 0\.0\d hours saved\.", found.stdout)
    assert verdict["plan"]["exact"]
    assert "rules-changed" not in [finding["code"] for finding in verdict["findings"]]  # its own maker knows its rules
    assert (output / "report.html").is_file()
    check = python("-m", "analysis.significance", "check", output, "--require-plan", "--margin", "0")
    assert check.returncode == 0, check.stdout
    last = output / "candidate" / f"seed-{n}"
    last.rename(output / "candidate" / "seed-99")  # as if the last seed had been picked
    journal = output / "events.jsonl"
    journal.write_text(journal.read_text().replace(f'"seed": {n},', '"seed": 99,'))
    again = python("-m", "analysis.significance", "check", output, "--require-plan", "--margin", "0")
    assert again.returncode == 1
    assert "not planned: seed 99" in again.stdout


@pytest.mark.slow
def test_seeds_bought_ahead_are_cancelled_when_the_verdict_is_in(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = ("--sota", "1.204", "--design", "sequential", "--seeds", "1,2,3,4,5,6,7,8", "--margin", "0")
    ahead = ("--parallel", "3", "--env", "PAUSE=1")
    found = python(*sweep_arguments(script, output, *arguments, *ahead), env=private_ray)
    assert found.returncode == 0, found.stdout + found.stderr
    manifests = [json.loads(path.read_text()) for path in sorted(output.glob("candidate/seed-*/attempt-1/run.json"))]
    states = {manifest["seed"]: (manifest["state"], manifest["reason"]) for manifest in manifests}
    assert [states[seed] for seed in range(1, 6)] == [("succeeded", None)] * 5
    assert {state for state, _ in states.values()} <= {"succeeded", "stopped"}  # as far as they were by then
    assert any("the verdict was in" in (reason or "") for _, reason in states.values())
    assert 8 not in states  # never bought
    check = python("-m", "analysis.significance", "check", output, "--require-plan", "--margin", "0")
    assert check.returncode == 0, check.stdout
    again = python("-m", "orchestration.sweep", "resume", output, env=private_ray)
    assert again.returncode == 0
    assert "Starting Ray." not in again.stdout  # the verdict stands: nothing is bought


@pytest.mark.slow
def test_failed_runs_leave_with_4_and_name_the_log(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    more = ("--sota", "1.3", "--seeds", "1,2", "--env", "FAULT=exit", "--keep-going")
    found = python(*sweep_arguments(script, output, *more), env=private_ray)
    assert found.returncode == 4, found.stdout + found.stderr
    log = output / "candidate/seed-2/attempt-1/train.log"
    assert re.search(rf"Error: candidate seed 2 has no result: failed: .*exit code 1.*{log}", found.stderr)
    check = python("-m", "analysis.significance", "check", output)
    assert check.returncode == 1
    assert "counts as a loss" in check.stdout


@pytest.mark.slow
def test_a_sweep_is_tried_first_entered_in_a_registry_and_told_of(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    tell, heard, output, url = tmp_path / "tell.py", tmp_path / "heard", tmp_path / "out", f"file://{tmp_path}/registry"
    tell.write_text(f"import sys\nopen({str(heard)!r}, 'a').write(sys.stdin.read())\n")
    more = ("--sota", "1.3", "--seeds", "1,2", "--env", "STEPS=12", "--env", "PAUSE=0.2", "--smoke")
    more += ("--max-gpu-hours", "1", "--registry", url, "--notify", shlex.join([sys.executable, str(tell)]))
    found = python(*sweep_arguments(script, output, *more), env=private_ray)
    assert found.returncode == 1, found.stdout + found.stderr  # the script prints the same losses for every seed
    assert json.loads((output / "smoke/candidate/attempt-1/run.json").read_text())["state"] == "stopped"
    assert b"step:11/" not in (output / "smoke/candidate/attempt-1/train.log").read_bytes()
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [one["event"] for one in told] == ["start", "verdict"]
    assert (told[-1]["verdict"], told[-1]["gate"], told[-1]["exit_code"]) == ("supported", "refused", 1)
    assert told[-1]["text"].startswith("REFUSED: ")
    checked = python("-m", "analysis.significance", "report", output, "--registry", url, "--format", "json")
    registry = json.loads(checked.stdout)["registry"]
    assert [(one["seed"], one["in_evidence"]) for one in registry["attempts"]] in (
        [(1, True), (2, True)],
        [(2, True), (1, True)],
    )
    assert registry["entered"] <= min(one["entered"] for one in registry["attempts"])


@pytest.mark.slow
def test_a_run_larger_than_every_node_is_refused_with_the_sizes(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    more = ("--sota", "1.3", "--gpus-per-run", "8")
    found = python(*sweep_arguments(script, tmp_path / "out", *more), env=private_ray | {"CUDA_VISIBLE_DEVICES": ""})
    assert found.returncode == 2
    assert "8 GPUs and 8 CPUs on one node" in found.stderr
    assert not (tmp_path / "out" / "plan.json").exists()  # the corrected command may use the same folder


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_no_process(private_ray: dict[str, str], script: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    more = ("--sota", "1.3", "--seeds", "1,2", "--env", "PAUSE=60", "--stall-timeout", "50")
    arguments = sweep_arguments(script, output, *more)
    environment = clean_environment() | private_ray
    process = subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, stderr=subprocess.PIPE)
    log = output / "candidate/seed-1/attempt-1/train.log"
    until(lambda: has_stepped(log))
    assert len(processes_of(str(output / "script.py"))) > 2
    process.terminate()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 4
    assert b"Stopped: the sweep is not complete." in stderr
    assert f"Go on with: python -m orchestration.sweep resume {output} --stall-timeout 50\n".encode() in stderr
    manifest = json.loads((log.parent / "run.json").read_text())
    assert (manifest["state"], manifest["env"]["PAUSE"]) == ("stopped", "60")
    until(lambda: not processes_of(str(output / "script.py")), within_s=20)


@pytest.mark.slow
def test_a_killed_rank_is_made_again_and_a_killed_driver_is_resumed(
    python: Run, private_ray: dict[str, str], script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = sweep_arguments(script, output, "--sota", "1.3", "--seeds", "1,2", "--env", "PAUSE=4")
    environment = clean_environment() | private_ray
    process = subprocess.Popen(["nohup", sys.executable, *arguments], env=environment, cwd=ROOT)
    first = output / "candidate/seed-1"
    until(lambda: has_stepped(first / "attempt-1/train.log"))
    ranks = [
        pid
        for pid in processes_of("/candidate/1/1")
        if f"-u\0{output}/script.py\0".encode() in (data := Path(f"/proc/{pid}/cmdline").read_bytes())
        and b"torch.distributed" not in data
    ]
    assert len(ranks) == 1
    process.send_signal(signal.SIGHUP)  # as at a logout
    os.kill(ranks[0], signal.SIGKILL)
    until(lambda: has_stepped(first / "attempt-2/train.log"))
    lost = json.loads((first / "attempt-1/run.json").read_text())
    assert lost["state"] == "lost"
    assert "SIGKILL" in lost["reason"]
    busy = python("-m", "orchestration.sweep", "resume", output)
    assert busy.returncode == 2
    assert "is in use: process" in busy.stderr
    process.kill()
    process.wait()
    status = python("-m", "orchestration.sweep", "status", output)
    assert "its driver went away" in status.stdout
    assert "No driver is running." in status.stdout
    found = python("-m", "orchestration.sweep", "resume", output, env=private_ray)
    assert "2 of 2 runs succeeded." in python("-m", "orchestration.sweep", "status", output).stdout, found.stderr
    assert found.returncode == 1  # the script prints the same losses for every seed
    done = [path for path in first.iterdir() if json.loads((path / "run.json").read_text())["state"] == "succeeded"]
    assert len(done) == 1


@pytest.fixture
def dashboard(private_ray: dict[str, str]):
    """A local cluster with a dashboard on private ports, as `ray start --head` makes it; yields its environment."""
    ports = []
    for _ in range(4):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f00d" * 16}  # as the files of deploy/ have it
    environment = clean_environment() | private_ray | token
    ray = Path(sys.executable).with_name("ray")
    command = [
        ray,
        "start",
        "--head",
        "--num-cpus=2",
        f"--port={ports[0]}",
        f"--dashboard-port={ports[1]}",
        f"--dashboard-agent-listen-port={ports[2]}",
        f"--ray-client-server-port={ports[3]}",
        "--temp-dir",
        private_ray["RAY_TMPDIR"],
    ]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    return environment | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{ports[1]}"}


@pytest.mark.slow
def test_ray_job_submit_leaves_with_the_verdicts_exit_code(
    dashboard: dict[str, str], script: Path, tmp_path: Path
) -> None:
    submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--", sys.executable]
    jobs = {}
    for name, more, code in (
        ("good", ("--sota", "1.3"), 0),
        ("weak", ("--sota", "1.1"), 1),
        ("bad", ("--sota", "1.3", "--env", "FAULT=silent"), 4),
    ):
        arguments = sweep_arguments(script, tmp_path / name, "--seeds", "1,2", *more)
        jobs[name, code] = subprocess.Popen(
            [*submit, *arguments], env=dashboard, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    with pytest.raises(urllib.error.HTTPError, match="401"):  # whoever has no token submits nothing
        urllib.request.urlopen(dashboard["RAY_API_SERVER_ADDRESS"] + "/api/jobs/", timeout=60)  # noqa: S310
    for (name, code), job in jobs.items():
        output, _ = job.communicate(timeout=300)
        assert job.returncode == min(code, 1), output  # all that the client tells is whether the job failed
        assert code == 0 or f"failed with exit code {code}" in output
        assert (tmp_path / name / "verdict.json").is_file()


# -- somebody else's sweep ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sweep.lock", "events.jsonl", "runs.parquet", "report.html"])
def test_nothing_is_written_through_a_link(command: Run, sweep: Callable[..., Path], tmp_path: Path, name: str) -> None:
    folder = sweep({1: 1.2, 2: 1.201})
    (tmp_path / "mine").write_text("mine")
    (folder / name).symlink_to(tmp_path / "mine")
    for arguments in (["status"], ["collect", "--format", "parquet"], ["resume"]):
        found = command("orchestration.sweep", arguments[0], folder, *arguments[1:])
        assert found.returncode == 2, found.stderr
        assert f"{name} is a link" in found.stderr
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_stands_in_a_manifest_is_shown_and_not_obeyed(command: Run, sweep: Callable[..., Path]) -> None:
    folder = sweep({1: 1.2, 2: None})
    path = folder / "candidate" / "seed-2" / "attempt-1" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reason": "x\n::error::pwned\x1b]0;t\x07"}))
    found = command("orchestration.sweep", "status", folder)
    assert found.returncode == 0
    assert not [line for line in found.stdout.split("\n") if line.startswith("::")]
    assert "\x1b" not in found.stdout


def test_a_log_that_is_no_file_is_not_waited_for(command: Run, sweep: Callable[..., Path], tmp_path: Path) -> None:
    folder = sweep({1: 1.2, 2: 1.201})
    for seed in (1, 2):
        attempt = folder / "candidate" / f"seed-{seed}" / "attempt-1"
        (attempt / "run.json").unlink()
        (attempt / "train.log").unlink()
    os.mkfifo(folder / "candidate/seed-1/attempt-1/train.log")
    (tmp_path / "secret.log").write_text("step:7/9 train_loss:2.5\n")
    (folder / "candidate/seed-2/attempt-1/train.log").symlink_to(tmp_path / "secret.log")
    found = command("orchestration.sweep", "status", folder)
    assert found.returncode == 0
    assert "step 7" not in found.stdout


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpus_per_run": "x"},
        {"design": {"name": "fixed", "looks": [3]}},
        {"ruleset": {"name": "x"}},
        {"seeds_are": None},
    ],
)
def test_a_plan_that_cannot_be_driven_is_said(
    command: Run, sweep: Callable[..., Path], changes: dict[str, Any]
) -> None:
    whole = {"gpus_per_run": 0, "cpus_per_run": 1} if changes else {}
    found = command("orchestration.sweep", "resume", sweep({1: 1.2, 2: 1.201}, **(whole | changes)))
    assert found.returncode == 2, found.stdout + found.stderr
    assert "plan.json" in found.stderr


@pytest.mark.slow
def test_a_sweep_runs_where_every_path_has_a_blank_and_an_accent(tmp_path: Path) -> None:
    """And where TMPDIR is too long for Ray's sockets: it finds another folder, and removes what it made there."""
    place = tmp_path / "My Projéct dir"
    clone, home, data = place / "the clöne", place / "the hömé", place / "the dätä"
    for folder in (clone, home, data, long := place / ("a" * 90)):
        folder.mkdir(parents=True)
    for package in ("analysis", "orchestration"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(clone / "the vènv", symlinks=True)
    (packages,) = (clone / "the vènv").glob("lib/*/site-packages")
    (packages / "the.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (place / "träin it.py").write_text(
        FOREIGN.replace("rank, alone", 'print("data", os.environ["DATA_PATH"])\nrank, alone', 1)
    )
    environment = clean_environment() | {"HOME": str(home), "TMPDIR": str(long), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("PYTHONPATH")
    arguments = sweep_arguments(place / "träin it.py", place / "the öutput", "--seeds", "1,", "--sota", "1.3")
    try:
        done = subprocess.run(
            [clone / "the vènv" / "bin" / "python", *arguments, "--env", f"DATA_PATH={data}"],
            cwd=clone, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stdout + done.stderr  # one run cannot tell
        attempt = place / "the öutput" / "candidate" / "seed-1" / "attempt-1"
        said = json.loads((attempt / "run.json").read_text())
        assert (said["state"], said["command"][-1]) == ("succeeded", str(place / "the öutput" / "script.py"))
        assert str(data) in (attempt / "train.log").read_text()
        assert (place / "the öutput" / "verdict.json").is_file()
        assert str(clone / "the vènv") in shlex.join(said["command"])
    finally:
        kill(str(home))
