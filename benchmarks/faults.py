"""Injects faults into real sweeps of 2-rank runs and counts what is lost, run twice or left behind.

    python -m benchmarks.faults [--rounds 7] [--kinds rank,driver] [--no-results]

Every seed of a sweep gets one fault when its ranks are training. Then: is the attempt's state
named as it should be, how long until no process of it lives, and, once the sweep is through (resumed where its driver
died), does every seed have exactly one result? Half of the seeds have ranks that ignore SIGTERM, and all start a daemon
that has left its process tree. The table is appended to benchmarks/results/faults.md.

Linux; a full disk and an out-of-memory kill are real ones, and need root (a tmpfs, a memory control group).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.table import publish

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "faults.md"
GONE_S = 10.0  # within this time nothing of a run may live
STALL_S = 15.0
GCS_S = 150.0

SCRIPT = '''\
"""Two ranks that meet at every step. They train until something happens to them, then once through."""
import os
import random
import signal
import subprocess
import sys
import time

import torch
import torch.distributed as dist

seed, ledger = int(os.environ["SEED"]), os.environ["LEDGER"]
first = not os.path.exists(f"{ledger}.{seed}")  # nothing has happened yet
if seed % 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: b"x" * 2**29)
dist.init_process_group("gloo")
if first and dist.get_rank() == 0:  # a daemon: forked twice, in a session of its own
    subprocess.run([sys.executable, "-c", "import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    if os.fork() == 0:\\n        time.sleep(300)"])
for step in range(6000 if first else 3):
    dist.all_reduce(torch.ones(1))
    if dist.get_rank() == 0:
        print(f"step:{step}/6000 train_loss:{3 - step / 6000:.4f}{' ' * 300}", flush=True)
    time.sleep(0.2)
dist.barrier()
if dist.get_rank() == 0:
    bpb = 1.2 + random.Random(seed).gauss(0, 0.001)
    print(f"final_score val_loss:{bpb / 0.6:.8f} val_bpb:{bpb:.8f}", flush=True)
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{seed}\\n")
dist.destroy_process_group()
'''
# the sweep's own command, and on SIGUSR1 the cancelling of all its Ray tasks by force
DRIVER = """\
import signal, sys
import ray
from orchestration.driver import engine
from orchestration.sweep import main
start = engine.Pool.__init__
def noted(pool, *arguments, **more):
    start(pool, *arguments, **more)
    signal.signal(signal.SIGUSR1, lambda *_: [ray.cancel(task, force=True) for task in list(pool._busy)])
engine.Pool.__init__ = noted
main()
"""


def environment(folder: Path) -> dict[str, str]:
    """A private Ray's; nothing of a cluster or a job around us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SEED"))}
    return kept | {
        "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder / "ray"), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
        "NO_COLOR": "1", "CI": "1",
    }  # fmt: skip


def processes(text: str) -> dict[int, str]:
    """Living processes with `text` in their environment, and their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if (
                pid != os.getpid()
                and text.encode() in (entry / "environ").read_bytes()
                and b") Z" not in (entry / "stat").read_bytes()
            ):
                found[pid] = (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ")
    return found


def wait_for(condition: Callable[[], Any], what: str, within_s: float = 120.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {within_s:g} s")
        time.sleep(0.05)
    return found


# -- where sweeps run --------------------------------------------------------------------------------------------------


class Local:
    """A Ray that the sweep starts for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.environment = folder, environment(folder)
        (folder / "ray").mkdir(parents=True)

    def start(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log
        )

    def stop(self) -> None:
        while left := processes(f"RAY_TMPDIR={self.folder}/ray"):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


class Nodes(Local):
    """A cluster of a head that runs nothing and two nodes, all on this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ |= {name: value for name, value in self.environment.items() if name.startswith("RAY_")}
        self.begin()

    def begin(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.environment["RAY_ADDRESS"] = self.cluster.address
        for _ in range(2):
            self.cluster.add_node(num_cpus=2)

    def node(self, node_id: str) -> Any:
        return next(node for node in self.cluster.list_all_nodes() if node.node_id == node_id)

    def heal(self) -> None:
        """As many nodes as before, and a head."""
        head = self.cluster.head_node
        if head is None or not head.any_processes_alive() or head.dead_processes():
            self.stop()
            self.begin()
        for node in list(self.cluster.worker_nodes):
            if node.dead_processes():
                self.cluster.remove_node(node, allow_graceful=False)
        while len(self.cluster.worker_nodes) < 2:
            self.cluster.add_node(num_cpus=2)


class Jobs(Local):
    """A cluster with a job server; every sweep is a job."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ports = []
        for _ in range(4):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
        self.ray = str(Path(sys.executable).with_name("ray"))
        subprocess.run(
            [self.ray, "start", "--head", "--num-cpus=2", f"--port={ports[0]}", f"--dashboard-port={ports[1]}",
             f"--dashboard-agent-listen-port={ports[2]}", f"--ray-client-server-port={ports[3]}",
             "--temp-dir", str(folder / "ray")],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self.environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{ports[1]}"
        self.submitted = 0

    def start(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        self.submitted += 1
        submit = [
            self.ray,
            "job",
            "submit",
            "--submission-id",
            self.job,
            "--",
            sys.executable,
            "-m",
            "orchestration.sweep",
        ]
        return subprocess.Popen([*submit, *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log)

    @property
    def job(self) -> str:
        return f"sweep-{self.submitted}"


# -- faults ------------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """One sweep under way, and the attempt that is about to be hit."""

    place: Any
    sweep: Path
    driver: subprocess.Popen[bytes] = field(init=False)
    attempt: Path = field(init=False)

    @property
    def manifest(self) -> dict[str, Any]:
        content = (self.attempt / "run.json").read_text() if (self.attempt / "run.json").is_file() else "{}"
        return json.loads(content) if content else {}

    @property
    def mark(self) -> str:
        sweep = json.loads((self.sweep / "sweep.lock").read_text())["sweep"]
        arm, seed, attempt = self.attempt.parts[-3:]
        return f"SEEDPROOF_RUN={sweep}/{arm}/{seed.removeprefix('seed-')}/{attempt.removeprefix('attempt-')}\0"

    def pids(self, *words: str, without: str = " no such word ") -> list[int]:
        """The attempt's processes with all words in their command lines."""
        found = processes(self.mark)
        return sorted(pid for pid, line in found.items() if all(word in line for word in words) and without not in line)

    def ranks(self) -> list[int]:
        return self.pids(" -u ", without="torch.distributed.run")


def kill(*pids: int, number: int = signal.SIGKILL) -> None:
    for pid in pids:
        os.kill(pid, number)


def kill_supervisor(scene: Scene) -> None:
    kill(*scene.pids("supervisor.py"))


def kill_torchrun(scene: Scene) -> None:
    kill(*scene.pids("torch.distributed.run", without="supervisor.py"))


def cut_log(scene: Scene) -> None:
    log = scene.attempt / "train.log"
    os.truncate(log, log.stat().st_size - 1000)  # some lines; the run goes on writing behind it


def out_of_memory(scene: Scene) -> None:
    group = Path(f"/sys/fs/cgroup/memory/seedproof-{os.getpid()}")
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(2**26))
    victim = scene.ranks()[-1]
    (group / "cgroup.procs").write_text(str(victim))
    kill(victim, number=signal.SIGUSR1)


def fill_disk(scene: Scene) -> None:
    with contextlib.suppress(OSError), open(scene.sweep.parent / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))


def remove_node(graceful: bool) -> Callable[[Scene], None]:
    def inject(scene: Scene) -> None:
        scene.place.cluster.remove_node(scene.place.node(scene.manifest["ray_node_id"]), allow_graceful=graceful)

    return inject


def kill_raylet(scene: Scene) -> None:
    node = scene.place.node(scene.manifest["ray_node_id"])
    kill(node.all_processes["raylet"][0].process.pid)


def kill_gcs(scene: Scene) -> None:
    kill(scene.place.cluster.head_node.all_processes["gcs_server"][0].process.pid)


def stop_job(scene: Scene) -> None:
    subprocess.run(
        [scene.place.ray, "job", "stop", scene.place.job], env=scene.place.environment, check=True, capture_output=True
    )


@dataclass(frozen=True)
class Fault:
    name: str
    place: type[Local]
    inject: Callable[[Scene], None]
    states: tuple[str, ...]
    word: str  # in the reason
    rounds: float = 1.0  # of those asked for
    within_s: float = GONE_S


AWAY = "went away"
FAULTS = {
    "rank": Fault("kill -9 of a rank", Local, lambda scene: kill(scene.ranks()[-1]), ("lost",), "SIGKILL"),
    "torchrun": Fault("kill -9 of torchrun", Local, kill_torchrun, ("lost",), "torchrun was killed"),
    "supervisor": Fault("kill -9 of the supervisor", Local, kill_supervisor, ("lost",), "supervisor was killed"),
    "worker": Fault("kill -9 of the Ray worker", Local, lambda scene: kill(scene.manifest["pid"]), ("lost",), AWAY),
    "driver": Fault("kill -9 of the driver", Local, lambda scene: kill(scene.driver.pid), ("lost",), "driver went away"),
    "cancel": Fault("ray.cancel(force=True)", Local, lambda scene: kill(scene.driver.pid, number=signal.SIGUSR1), ("lost",), AWAY),
    "interrupt": Fault("Ctrl-C", Local, lambda scene: kill(scene.driver.pid, number=signal.SIGINT), ("stopped",), "stopped"),
    "hang": Fault("ranks that hang (SIGSTOP)", Local, lambda scene: kill(*scene.ranks(), number=signal.SIGSTOP), ("lost",), "hung", 1, STALL_S + GONE_S),
    "log": Fault("log cut in mid-line", Local, cut_log, ("lost",), "was cut from"),
    "memory": Fault("out-of-memory kill", Local, out_of_memory, ("lost",), "SIGKILL"),
    "disk": Fault("full disk (tmpfs)", Local, fill_disk, ("lost",), "", 0.5),
    "worker-of-nodes": Fault("kill -9 of the Ray worker", Nodes, lambda scene: kill(scene.manifest["pid"]), ("lost",), AWAY),
    "driver-of-nodes": Fault("kill -9 of the driver", Nodes, lambda scene: kill(scene.driver.pid), ("lost",), "driver went away"),
    "node": Fault("node removed, announced", Nodes, remove_node(True), ("lost",), AWAY),
    "node-abrupt": Fault("node removed, unannounced", Nodes, remove_node(False), ("lost",), AWAY),
    "raylet": Fault("kill -9 of the raylet", Nodes, kill_raylet, ("lost",), AWAY),
    "gcs": Fault("kill -9 of the head's GCS", Nodes, kill_gcs, ("lost", "stopped"), "", 0.5, GCS_S),
    "job": Fault("ray job stop", Jobs, stop_job, ("stopped",), "stopped", 0.5),
}  # fmt: skip


# -- the experiment ----------------------------------------------------------------------------------------------------


class LostError(RuntimeError):
    """A seed without a result, or with two."""


@dataclass
class Trial:
    fault: Fault
    gone_s: float | None = None
    fault_of_ours: str = ""


def hit(scene: Scene, fault: Fault, whole: set[int], resume: Callable[[], None]) -> Trial:
    """Inject one fault into the running attempt of the first seed that had none yet; go on until its state is known.

    A node's end may take a seed along that was not meant; it comes again when the seeds on the other nodes had their
    faults, so that no seed can be waited for by number.
    """

    def training() -> int | None:
        for seed in sorted(whole):
            attempts = (scene.sweep / "candidate" / f"seed-{seed}").glob("attempt-*")
            scene.attempt = max(attempts, key=lambda path: path.name, default=scene.sweep)
            log = scene.attempt / "train.log"
            if scene.manifest.get("state") == "running" and log.is_file() and b"step:3/" in log.read_bytes():
                return seed
        return None

    seed = wait_for(training, f"{fault.name}: the training of one of seeds {sorted(whole)}")
    whole.remove(seed)
    Path(f"{scene.place.folder}/ledger.{seed}").touch()
    trial = Trial(fault)
    fault.inject(scene)
    since = time.monotonic()
    try:
        wait_for(lambda: not processes(scene.mark), "the end", fault.within_s)
        trial.gone_s = time.monotonic() - since
    except TimeoutError:
        trial.fault_of_ours = f"left behind: {list(processes(scene.mark).values())}"
        kill(*processes(scene.mark))
    (scene.sweep.parent / "filler").unlink(missing_ok=True)

    def over() -> bool:
        return scene.manifest.get("state") not in ("running", None) or scene.driver.poll() is not None

    wait_for(over, "the attempt's end")
    with contextlib.suppress(subprocess.TimeoutExpired):
        scene.driver.wait(2 if fault.place is not Jobs and fault.states == ("lost",) else 30)
    if isinstance(scene.place, Nodes):
        scene.place.heal()
    if scene.driver.poll() is not None:
        resume()
    wait_for(lambda: scene.manifest.get("state") != "running", "the attempt's end")
    found = scene.manifest
    if found["state"] not in fault.states or fault.word not in str(found["reason"]):
        trial.fault_of_ours = f"{found['state']}: {found['reason']}"
    return trial


def sweep(place: Any, folder: Path, faults: list[Fault]) -> Iterator[Trial]:
    """One sweep with a seed for every fault; raises LostError where a seed was lost or run twice."""
    script, ledger = place.folder / "train.py", place.folder / "ledger"
    script.write_text(SCRIPT)
    ledger.touch()
    scene = Scene(place, folder)
    seeds = list(range(1, len(faults) + 1))
    care = ["--stall-timeout", str(STALL_S)]
    with open(place.folder / "driver.log", "ab") as log:
        scene.driver = place.start(
            ["run", "--script", str(script), "--sota", "1.3", "--seeds", ",".join(map(str, seeds)) + ",", "--cpus-per-run", "2",
             "--env", f"LEDGER={ledger}", "--output", str(folder), *care], log,
        )  # fmt: skip

        def resume() -> None:
            scene.driver = place.start(["resume", str(folder), *care], log)

        try:
            whole = set(seeds)
            for fault in faults:
                yield hit(scene, fault, whole, resume)
            code = scene.driver.wait(180)
        except BaseException:
            said = (place.folder / "driver.log").read_text().splitlines()
            print(*[line for line in said if "state-dump" not in line][-60:], sep="\n", file=sys.stderr)
            raise
    done = sorted(map(int, ledger.read_text().split()))
    manifests = [json.loads(path.read_text()) for path in folder.glob("candidate/seed-*/attempt-*/run.json")]
    succeeded = sorted(manifest["seed"] for manifest in manifests if manifest["state"] == "succeeded")
    if not set(done) == set(seeds) or succeeded != seeds:  # the last attempt's end may be hit, after its last line
        raise LostError(f"seeds {seeds}; ran to their end: {done}; have a result: {succeeded}")
    cannot_tell = 1 if isinstance(place, Jobs) else 3  # all that Ray tells of a job is whether it failed
    if code != (0 if len(seeds) > 1 else cannot_tell):
        raise LostError(f"the sweep left with {code}; see {place.folder / 'driver.log'}")


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A tmpfs that a run fits on twice."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def experiment(kinds: list[str], rounds: int) -> list[Trial]:
    """All trials: one sweep for every place that the kinds need."""
    trials: list[Trial] = []
    for name in ("disk", "Local", "Nodes", "Jobs"):
        chosen = [FAULTS[kind] for kind in kinds if (kind == "disk") == (name == "disk")]
        chosen = [fault for fault in chosen if name in ("disk", fault.place.__name__)]
        faults = [fault for turn in range(rounds) for fault in chosen if turn < max(1, fault.rounds * rounds)]
        if not faults:
            continue
        with contextlib.ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short: Ray's sockets live below it
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            place = faults[0].place(folder)
            stack.callback(place.stop)
            room = stack.enter_context(small_disk(folder / "disk")) if name == "disk" else folder
            for trial in sweep(place, room / "sweep", faults):
                gone = f"gone after {trial.gone_s:.1f} s" if trial.gone_s is not None else ""
                print(f"{len(trials) + 1:>4} {name:<6} {trial.fault.name:<28} {gone} {trial.fault_of_ours}", flush=True)
                trials.append(trial)
    return trials


def table(trials: list[Trial], minutes: float) -> list[str]:
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: {len(trials)} faults in {minutes:.0f} minutes",
        "",
    ]
    lines += ["| fault | Ray | times | state named rightly | all processes gone, longest | left behind |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    names = {Local: "local", Nodes: "3 nodes", Jobs: "job"}
    for fault in dict.fromkeys(trial.fault for trial in trials):
        own = [trial for trial in trials if trial.fault is fault]
        right = sum(not trial.fault_of_ours or trial.fault_of_ours.startswith("left") for trial in own)
        gone = [trial.gone_s for trial in own if trial.gone_s is not None]
        longest = f"{max(gone):.1f} s" if gone else "-"
        lines.append(
            f"| {fault.name} | {names[fault.place]} | {len(own)} | {right} | {longest} | {len(own) - len(gone)} |"
        )
    return [*lines, "", f"Every one of the {len(trials)} seeds ended with exactly one result: 0 lost, 0 run twice."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each kind is tried (default 7)")
    parser.add_argument("--kinds", default=",".join(FAULTS), help=f"of: {','.join(FAULTS)}")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(FAULTS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
    began = time.monotonic()
    trials = experiment(kinds, options.rounds)
    lines = table(trials, (time.monotonic() - began) / 60)
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)
    sys.exit(any(trial.fault_of_ours for trial in trials))


if __name__ == "__main__":
    main()
