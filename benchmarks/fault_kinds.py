"""The faults that benchmarks.faults injects into a run, and what must follow each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fault_places import SCRIPT, Jobs, Local, Nodes, processes, wait_for

GONE_S = 10.0  # nothing of a run may live longer
STALL_S = 30.0  # two sweeps at once share the cores, and torch alone takes ten seconds to load
GCS_S = 150.0


@dataclass
class Scene:
    """One running sweep, and the attempt that is hit next."""

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
        """Return the attempt's processes with all words in their command lines."""
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
    os.truncate(log, log.stat().st_size - 1000)  # some lines; the run goes on writing after them


def out_of_memory(scene: Scene) -> None:
    group = Path(f"/sys/fs/cgroup/memory/seedproof-{os.getpid()}")
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(2**26))
    victim = scene.ranks()[-1]
    (group / "cgroup.procs").write_text(str(victim))
    kill(victim, number=signal.SIGUSR1)


def edit_script(scene: Scene) -> None:
    """Kill a rank, and edit the original script as soon as the next attempt has begun to start."""
    script, number = scene.place.folder / "train.py", int(scene.attempt.name.removeprefix("attempt-"))
    script.write_text(SCRIPT)
    kill(scene.ranks()[-1])
    again = scene.attempt.with_name(f"attempt-{number + 1}")
    wait_for(lambda: (again / "run.json").is_file(), "the next attempt")
    script.write_text("raise SystemExit('this is not the frozen script')\n")


def kill_after_the_result(scene: Scene) -> None:
    """Let the run print its final line and hang; kill its supervisor then."""
    seed = scene.attempt.parent.name.removeprefix("seed-")
    Path(f"{scene.place.folder}/ledger.{seed}.end").touch()
    wait_for(lambda: b"final_score" in (scene.attempt / "train.log").read_bytes(), "the final line")
    kill_supervisor(scene)


def remove_node(*, graceful: bool) -> Callable[[Scene], None]:
    """Return a fault that removes the attempt's node."""

    def inject(scene: Scene) -> None:
        scene.place.cluster.remove_node(scene.place.node(scene.manifest["ray_node_id"]), allow_graceful=graceful)

    return inject


def kill_raylet(scene: Scene) -> None:
    node = scene.place.node(scene.manifest["ray_node_id"])
    kill(node.all_processes["raylet"][0].process.pid)


def hit_gcs(number: int) -> Callable[[Scene], None]:
    """Return a fault that sends a signal to the head's GCS."""

    def inject(scene: Scene) -> None:
        kill(scene.place.cluster.head_node.all_processes["gcs_server"][0].process.pid, number=number)

    return inject


def stop_job(scene: Scene) -> None:
    subprocess.run(
        [scene.place.ray, "job", "stop", scene.place.job], env=scene.place.environment, check=True, capture_output=True
    )


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault, and what must follow.

    - inject: returns what went wrong on our side meanwhile, if it can tell.
    - states: what the attempt's state may become. word: must be in its reason.
    - heal: undoes the fault, once its processes are gone.
    - after: returns what is not as it should be once the attempt has ended.
    - at_end: returns the same once the sweep has ended.
    - ends: the exit code of a sweep that the fault ends; it gets a sweep of its own.
    - rounds: the share of the rounds asked for. within_s: when all processes must be gone.
    """

    name: str
    place: type[Local]
    inject: Callable[[Scene], Any]
    heal: Callable[[Scene], None] = lambda scene: None
    after: Callable[[Scene], str] = lambda scene: ""
    at_end: Callable[[Scene], str] = lambda scene: ""
    ends: int | None = None
    states: tuple[str, ...] = ("lost",)
    word: str = ""
    rounds: float = 1.0
    within_s: float = GONE_S


AWAY = "went away"
FAULTS = {
    "rank": Fault(
        name="kill -9 of a rank",
        place=Local,
        inject=lambda scene: kill(scene.ranks()[-1]),
        word="SIGKILL",
    ),
    "torchrun": Fault(
        name="kill -9 of torchrun",
        place=Local,
        inject=kill_torchrun,
        word="torchrun was killed",
    ),
    "supervisor": Fault(
        name="kill -9 of the supervisor",
        place=Local,
        inject=kill_supervisor,
        word="supervisor was killed",
    ),
    "worker": Fault(
        name="kill -9 of the Ray worker",
        place=Local,
        inject=lambda scene: kill(scene.manifest["pid"]),
        word=AWAY,
    ),
    "driver": Fault(
        name="kill -9 of the driver",
        place=Local,
        inject=lambda scene: kill(scene.driver.pid),
        word="driver went away",
    ),
    "cancel": Fault(
        name="ray.cancel(force=True)",
        place=Local,
        inject=lambda scene: kill(scene.driver.pid, number=signal.SIGUSR1),
        word=AWAY,
    ),
    "interrupt": Fault(
        name="Ctrl-C",
        place=Local,
        inject=lambda scene: kill(scene.driver.pid, number=signal.SIGINT),
        states=("stopped",),
        word="stopped",
    ),
    "hang": Fault(
        name="ranks that hang (SIGSTOP)",
        place=Local,
        inject=lambda scene: kill(*scene.ranks(), number=signal.SIGSTOP),
        word="hung",
        within_s=STALL_S + GONE_S,
    ),
    "log": Fault(
        name="log cut in mid-line",
        place=Local,
        inject=cut_log,
        word="was cut from",
    ),
    "memory": Fault(
        name="out-of-memory kill",
        place=Local,
        inject=out_of_memory,
        word="SIGKILL",
    ),
    "edit": Fault(
        name="script edited during start",
        place=Local,
        inject=edit_script,
        word="SIGKILL",
    ),
    "result": Fault(
        name="final line, hang, supervisor killed",
        place=Local,
        inject=kill_after_the_result,
        states=("succeeded",),
        word="supervisor was killed",
    ),
    "worker-of-nodes": Fault(
        name="kill -9 of the Ray worker",
        place=Nodes,
        inject=lambda scene: kill(scene.manifest["pid"]),
        word=AWAY,
    ),
    "driver-of-nodes": Fault(
        name="kill -9 of the driver",
        place=Nodes,
        inject=lambda scene: kill(scene.driver.pid),
        word="driver went away",
    ),
    "node": Fault(
        name="node removed, announced",
        place=Nodes,
        inject=remove_node(graceful=True),
        word=AWAY,
    ),
    "node-abrupt": Fault(
        name="node removed, unannounced",
        place=Nodes,
        inject=remove_node(graceful=False),
        word=AWAY,
    ),
    "raylet": Fault(
        name="kill -9 of the raylet",
        place=Nodes,
        inject=kill_raylet,
        word=AWAY,
    ),
    "gcs": Fault(
        name="kill -9 of the head's GCS",
        place=Nodes,
        inject=hit_gcs(signal.SIGKILL),
        states=("lost", "stopped"),
        rounds=0.5,
        within_s=GCS_S,
    ),
    "worker-stopped": Fault(
        name="Ray worker that hangs (SIGSTOP)",
        place=Local,
        inject=lambda scene: kill(scene.manifest["pid"], number=signal.SIGSTOP),
        word="said nothing",
        within_s=STALL_S + GONE_S,
    ),
    "gcs-stopped": Fault(
        name="head's GCS that hangs (SIGSTOP)",
        place=Nodes,
        inject=hit_gcs(signal.SIGSTOP),
        states=("lost", "stopped"),
        word="head no longer answers",
        rounds=0.5,
        within_s=GCS_S,
    ),
    "job": Fault(
        name="ray job stop",
        place=Jobs,
        inject=stop_job,
        states=("stopped",),
        word="stopped",
        rounds=0.5,
    ),
}
