"""Where benchmarks.faults runs its sweeps: on a local Ray, on a cluster of nodes, as a job of a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = '''\
"""Two ranks that meet at every step. The first attempt of a seed trains until a fault hits it; the next one ends."""
import os
import random
import signal
import subprocess
import sys
import time

import torch
import torch.distributed as dist

seed, ledger = int(os.environ["SEED"]), os.environ["LEDGER"]
first = not os.path.exists(f"{ledger}.{seed}")  # no fault has hit this seed yet
if seed % 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
def reroll(*_):
    print("step:9/6000 val_loss:3.0 val_bpb:1.8", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGUSR1, lambda *_: b"x" * 2**29)
signal.signal(signal.SIGUSR2, lambda *_: [os.write(1, (b"x" * 99 + b"\\n") * 10_000) for _ in range(200)])
signal.signal(signal.SIGRTMIN, reroll)  # what a script would do that does not like its value
dist.init_process_group("gloo")
if first and dist.get_rank() == 0:  # a daemon: forked twice, in a session of its own
    subprocess.run([sys.executable, "-c", "import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    if os.fork() == 0:\\n        time.sleep(300)"])
for step in range(6000 if first else 3):
    end = torch.tensor([float(os.path.exists(f"{ledger}.{seed}.end"))])  # a fault that comes after the result
    dist.all_reduce(end)
    if end.item():
        break
    if dist.get_rank() == 0:
        print(f"step:{step}/6000 train_loss:{3 - step / 6000:.4f}{' ' * 300}", flush=True)
    time.sleep(0.2)
dist.barrier()
if dist.get_rank() == 0:
    print("Total submission size int8+zlib: 15820 bytes", flush=True)
    bpb = 1.2 + random.Random(seed).gauss(0, 0.001)
    print(f"final_score val_loss:{bpb / 0.6:.8f} val_bpb:{bpb:.8f}", flush=True)
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{seed}\\n")
if end.item():
    time.sleep(300)
dist.destroy_process_group()
'''
# The sweep's own command. SIGUSR1 makes it cancel all its Ray tasks by force.
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
    """Return the environment of a private Ray, without anything from a cluster or a job around us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SEED"))}
    kept |= {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "CI": "1"}
    return kept | {"RAY_TMPDIR": str(folder / "ray"), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def processes(text: str) -> dict[int, str]:
    """Return the command lines of living processes with `text` in their environment, by process id."""
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
    """Return the condition's value once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {within_s:g} s")
        time.sleep(0.05)
    return found


class Local:
    """A Ray that the sweep starts for itself.

    room: where the sweep is. options: what the sweep is run and resumed with, besides the usual.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.environment = folder, environment(folder)
        self.room = folder
        self.options: list[str] = []
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


class Small(Local):
    """The same, with the sweep on a tmpfs that has room for two runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.room = folder / "disk"
        self.room.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "none", str(self.room)], check=True)

    def stop(self) -> None:
        super().stop()
        subprocess.run(["umount", "--lazy", str(self.room)], check=True)


class Stored(Local):
    """The same, with a copy of the sweep at a URL."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.storage = folder / "storage"
        self.options = ["--storage", f"file://{self.storage}"]


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
        """Restore the head and the number of nodes."""
        head = self.cluster.head_node
        if head is not None:
            _end_if_stopped(head.all_processes["gcs_server"][0].process)
        if head is None or not head.any_processes_alive() or head.dead_processes():
            self.stop()
            self.begin()
        for node in list(self.cluster.worker_nodes):
            if node.dead_processes():
                self.cluster.remove_node(node, allow_graceful=False)
        while len(self.cluster.worker_nodes) < 2:
            self.cluster.add_node(num_cpus=2)


def _end_if_stopped(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that a fault has stopped, so that it counts as dead."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T":
            process.kill()
            process.wait()


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
        start = [self.ray, "start", "--head", "--num-cpus=2", f"--port={ports[0]}", f"--dashboard-port={ports[1]}"]
        start += [f"--dashboard-agent-listen-port={ports[2]}", f"--ray-client-server-port={ports[3]}"]
        subprocess.run([*start, f"--temp-dir={folder / 'ray'}"], env=self.environment, check=True, capture_output=True)
        self.environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{ports[1]}"
        self.submitted = 0

    def start(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        self.submitted += 1
        submit = [self.ray, "job", "submit", "--submission-id", self.job, "--", sys.executable]
        submit += ["-m", "orchestration.sweep"]
        return subprocess.Popen([*submit, *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log)

    @property
    def job(self) -> str:
        return f"sweep-{self.submitted}"
