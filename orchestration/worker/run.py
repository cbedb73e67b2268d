"""One run: one torchrun of one seed in its own attempt folder, from the first file to the final state.

Runs inside a Ray task, and needs nothing of Ray itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import RUN_MANIFEST, STACKS, STATES, TRAIN_LOG, SweepError, read_json
from orchestration.disk.files import file_digest, now, write_json
from orchestration.plan.secrets import secret_name, secret_value
from orchestration.worker import supervisor
from orchestration.worker.outcome import judge
from orchestration.worker.preflight import MARKER, end_leftovers, marker, no_room, take_gpus
from orchestration.worker.provenance import provenance
from orchestration.worker.transfer import Message, Outbox, scratch, shares
from orchestration.worker.watchdog import Watchdog, dump_stacks

# names, and beginnings of names, that a run inherits, but for secrets; a recipe or --env gives the rest, so that the plan says all that may
# change a result
INHERITED = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH",
             "HF_HOME"}  # fmt: skip
INHERITED_BEGINNINGS = ("LC_", "CONDA_", "XDG_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH_", "TRITON_", "SSL_CERT_")
# and what of that goes into run.json; anything else might be a secret
RECORDED = ("OMP_", "NCCL_", "GLOO_", "CUDA_VISIBLE_DEVICES", "TORCH_", "TRITON_")
WATCH_S, GPU_POLL_S = 0.2, 10.0
END_S = supervisor.GRACE_S + 30.0


@dataclass(frozen=True, slots=True, eq=False)  # an order is itself: it keys the states of a sweep
class RunOrder:
    """All that a worker must know to make one run."""

    arm: str
    seed: int
    attempt: int
    folder: Path
    script: Path
    script_sha256: str
    script_bytes: bytes = field(repr=False)
    env: dict[str, str]
    ranks: int
    rules: Ruleset
    sweep: str
    driver: str
    stall_timeout_s: float
    deadline_s: float | None

    @property
    def name(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def sweep_directory(self) -> Path:
        return self.folder.parents[2]


def command(order: RunOrder, script: Path) -> list[str]:
    """torchrun of the script with the order's ranks. Where the system can arrange it, torchrun dies with its supervisor and the ranks
    with torchrun, whatever kills them."""
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={order.ranks}"]
    return [*tied, *torchrun, "--no-python", *tied, sys.executable, "-u", str(script)]


def run_environment(order: RunOrder) -> dict[str, str]:
    """The machine's part of the worker's environment, the recipe and the seed; nothing that Ray set for itself.

    One thread a rank, as torchrun itself sets for several ranks: runs side by side with a thread a core each would
    slow each other down fivefold.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in INHERITED or name.startswith(INHERITED_BEGINNINGS))
        and not (secret_name(name, value) or secret_value(value))
    }
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **order.env, "SEED": str(order.seed),
            MARKER: f"{marker(order.sweep, order.arm, order.seed)}{order.attempt}"}  # fmt: skip


def execute(order: RunOrder, node_id: str) -> Iterator[Message]:
    """Make the run. Yields ("say", text) while it waits, then ("ended", manifest), which is also in run.json.

    ("refused", reason) where this node cannot take the run; nothing was started then. Where the node does not share the
    sweep's directory, ("began", manifest) and what a transfer.Inbox takes come before the end.
    """
    with contextlib.ExitStack() as held:
        if shares(order.sweep_directory, order.driver):
            yield from make(order, node_id, held, None)
            return
        room = scratch(order.sweep)
        held.callback(shutil.rmtree, room, ignore_errors=True)
        here = replace(order, folder=room / order.arm / f"seed-{order.seed}" / order.folder.name)
        for kind, content in make(here, node_id, held, Outbox(here.folder)):
            if kind in ("began", "ended") and content["reason"]:
                content["reason"] = content["reason"].replace(str(here.folder), str(order.folder))
            yield kind, content


def make(order: RunOrder, node_id: str, held: contextlib.ExitStack, outbox: Outbox | None) -> Iterator[Message]:
    """Make the run in the order's folder, and send it away through the outbox where there is one.

    Its GPUs are taken until `held` is closed.
    """
    order.folder.parent.mkdir(parents=True, exist_ok=True)
    if reason := no_room(order.folder.parent):
        yield "refused", reason
        return
    end_leftovers(order.sweep, order.arm, order.seed)
    environment = run_environment(order)
    waited = 0.0
    while reason := take_gpus(environment, held):
        if waited >= order.stall_timeout_s:
            yield "refused", reason
            return
        yield "say", f"waits: {reason}"
        time.sleep(GPU_POLL_S)
        waited += GPU_POLL_S
    order.folder.mkdir()
    script = frozen_script(order)
    try:
        manifest = manifest_of(order, script, environment, node_id)
        write_json(order.folder / RUN_MANIFEST, manifest)
        if outbox is not None:
            yield "began", manifest
        started = time.monotonic()
        code, fault = yield from supervise(order, manifest["command"], environment, outbox)
        manifest |= {"exit_code": code, "wall_s": round(time.monotonic() - started, 3)}
    finally:
        if script != order.script:
            shutil.rmtree(script.parent, ignore_errors=True)
    log = order.folder / TRAIN_LOG
    state, why, run, metric = (*fault, None, None) if fault else judge(log, code or 0, order.seed, order.rules)
    if metric is not None and run is not None:
        manifest["metric"] = {"label": metric.label, "val_loss": _json(metric.val_loss), "val_bpb": _json(metric.val_bpb),
                              "line": metric.line}  # fmt: skip
        manifest["train_time_ms"] = run.train_time_ms
    manifest = finish(order, manifest, state, why)
    if outbox is not None:
        yield from outbox.files(manifest["files"])
    yield "ended", manifest


def frozen_script(order: RunOrder) -> Path:
    """The script as it was when the plan was frozen: in its place, or, where that is changed or not there, a copy."""
    with contextlib.suppress(OSError):
        if file_digest(order.script) == order.script_sha256:
            return order.script
    copy = scratch(order.sweep) / order.script.name
    copy.write_bytes(order.script_bytes)
    return copy


def supervise(
    order: RunOrder, arguments: list[str], environment: dict[str, str], outbox: Outbox | None = None
) -> Generator[Message, None, tuple[int | None, tuple[str, str] | None]]:
    """Run torchrun below the supervisor; (exit code, (state, reason) where the watchdog ended it).

    The code is None where the watchdog could not end it.
    """
    log, fault = order.folder / TRAIN_LOG, None
    with open(log, "ab") as out:  # appending: what is written after somebody cut the log has no hole before it
        process = subprocess.Popen(
            [sys.executable, supervisor.__file__, *arguments],
            stdin=subprocess.PIPE,  # its end tells the supervisor that this worker is gone
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=order.folder,
            env=environment,
            start_new_session=True,  # Ray kills the process group of a worker that ends
        )
    try:
        watchdog = Watchdog(log, order.stall_timeout_s, order.deadline_s)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(WATCH_S)
                break
            if outbox is not None:
                yield from outbox.log()
            if fault := watchdog.fault():
                dumped = dump_stacks(process.pid, order.folder / STACKS)
                fault = fault[0], fault[1] + (f"; {STACKS} says where its processes stood" if dumped else "")
                process.terminate()
                break
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process in the kernel's hands may never end
            process.wait(END_S)
    if fault and process.returncode is None:
        return None, (fault[0], f"{fault[1]}; its processes cannot be ended")
    if process.returncode < 0:  # the supervisor was killed, and what is not torchrun or a rank may have been left
        end_leftovers(order.sweep, order.arm, order.seed)
    return process.returncode, fault or watchdog.fault_at_the_end()


def manifest_of(order: RunOrder, script: Path, environment: dict[str, str], node_id: str) -> dict[str, Any]:
    """What run.json says when the run starts."""
    recorded = {n: v for n, v in environment.items() if n in order.env or n.startswith((*RECORDED, "SEED"))}
    recorded.pop(MARKER, None)
    return {
        "state": "running",
        "reason": None,
        "arm": order.arm,
        "seed": order.seed,
        "attempt": order.attempt,
        "started": now(),
        "host": socket.gethostname(),
        "ray_node_id": node_id,
        "pid": os.getpid(),
        "command": command(order, script),
        "ranks": order.ranks,
        "env": dict(sorted(recorded.items())),
        "script": {
            "path": str(order.script),
            "sha256": order.script_sha256,
            "bytes": len(order.script_bytes),
        },
        **provenance(order.script, environment),
    }


def finish(order: RunOrder, manifest: dict[str, Any], state: str, reason: str | None) -> dict[str, Any]:
    """Write the final run.json, with digests of everything that the run left behind.

    Where the driver has given the run up meanwhile, its word stands: a seed has one result.
    """
    path = order.folder / RUN_MANIFEST
    files = {
        str(path.relative_to(order.folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(order.folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != RUN_MANIFEST
    }
    written = read_manifest(order)
    if written is not None and written["state"] in ("lost", "stopped"):
        return written
    manifest |= {"state": state, "reason": reason, "ended": now(), "files": files}
    write_json(path, manifest)
    return manifest


def read_manifest(order: RunOrder) -> dict[str, Any] | None:
    """What run.json says of the attempt; None where it is not there, or is another file that the script has written."""
    path = order.folder / RUN_MANIFEST
    try:
        found = read_json(path) if path.is_file() else None
    except SweepError:
        return None
    if found is None or found.get("state") not in STATES:
        return None
    said = {"arm": order.arm, "seed": order.seed, "attempt": order.attempt}
    return found if all(found.get(name) == value for name, value in said.items()) else None


def _json(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
