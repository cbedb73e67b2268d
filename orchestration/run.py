"""One run: one torchrun of one seed in its own attempt folder, from the first file to the final state.

Runs inside a Ray task, and needs nothing of Ray itself.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.files import FileError
from analysis.reader import Run, read_log
from analysis.sweepdir import RUN_MANIFEST, TRAIN_LOG
from orchestration import supervisor
from orchestration.files import file_digest, write_json

# names, or their beginnings, that a run inherits; a recipe or --env gives the rest, so that the plan says all that may
# change a result
INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_", "TZ", "TMPDIR", "VIRTUAL_ENV", "CONDA_", "XDG_",
    "LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH_", "TRITON_", "HF_HOME", "SSL_CERT_",
)  # fmt: skip
# and what of that goes into run.json; anything else might be a secret
RECORDED = ("OMP_", "NCCL_", "GLOO_", "CUDA_VISIBLE_DEVICES", "TORCH_", "TRITON_")
HINT_BYTES = 16384


@dataclass(frozen=True, slots=True, eq=False)  # an order is itself: it keys the states of a sweep
class RunOrder:
    """All that a worker must know to make one run."""

    arm: str
    seed: int
    attempt: int
    folder: Path
    script: Path
    script_sha256: str
    env: dict[str, str]
    ranks: int

    @property
    def name(self) -> str:
        return f"{self.arm} seed {self.seed}"


def command(order: RunOrder) -> list[str]:
    """torchrun of the order's script. Where the system can arrange it, torchrun dies with its supervisor and the ranks
    with torchrun, whatever kills them."""
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={order.ranks}"]
    return [*tied, *torchrun, "--no-python", *tied, sys.executable, "-u", str(order.script)]


def run_environment(order: RunOrder) -> dict[str, str]:
    """The machine's part of the worker's environment, the recipe and the seed; nothing that Ray set for itself.

    One thread a rank, as torchrun itself sets for several ranks: runs side by side with a thread a core each would
    slow each other down fivefold.
    """
    kept = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **order.env, "SEED": str(order.seed)}


def execute(order: RunOrder, node_id: str) -> dict[str, Any]:
    """Make the run and return its manifest, which is also in run.json; its state is succeeded, failed or lost."""
    order.folder.mkdir(parents=True)
    environment = run_environment(order)
    recorded = {n: v for n, v in environment.items() if n in order.env or n.startswith((*RECORDED, "SEED"))}
    manifest: dict[str, Any] = {
        "state": "running",
        "reason": None,
        "arm": order.arm,
        "seed": order.seed,
        "attempt": order.attempt,
        "started": now(),
        "host": socket.gethostname(),
        "ray_node_id": node_id,
        "pid": os.getpid(),
        "command": command(order),
        "ranks": order.ranks,
        "env": dict(sorted(recorded.items())),
        "script": {
            "path": str(order.script),
            "sha256": file_digest(order.script),
            "bytes": order.script.stat().st_size,
        },
        "versions": versions(),
        "gpus": gpu_names(environment),
    }
    write_json(order.folder / RUN_MANIFEST, manifest)
    if manifest["script"]["sha256"] != order.script_sha256:
        return finish(order, manifest, "failed", f"{order.script} was changed after the plan was frozen.")
    log = order.folder / TRAIN_LOG
    started = time.monotonic()
    with (
        open(log, "wb") as out,
        subprocess.Popen(
            [sys.executable, supervisor.__file__, *manifest["command"]],
            stdin=subprocess.PIPE,  # its end tells the supervisor that this worker is gone
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=order.folder,
            env=environment,
        ) as process,
    ):
        code = process.wait()
    manifest |= {"exit_code": code, "wall_s": round(time.monotonic() - started, 3)}
    state, reason, best = judge(log, code, order.seed)
    if best is not None:
        final = best.finals[-1]
        manifest["metric"] = {"label": final.label, "val_loss": _json(final.val_loss), "val_bpb": _json(final.val_bpb),
                              "line": final.line}  # fmt: skip
        manifest["train_time_ms"] = best.train_time_ms
    return finish(order, manifest, state, reason)


def judge(log: Path, code: int, seed: int) -> tuple[str, str | None, Run | None]:
    """(state, why, the run as read) of a torchrun that has ended."""
    if code < 0:
        return "lost", f"the run's supervisor was killed by signal {-code}", None
    if code != 0:
        return "failed", f"torchrun left with exit code {code}{failure_hint(log)}; see {log}", None
    try:
        finals = [run for run in read_log(log) if run.finals]
    except FileError as error:
        return "failed", f"{log} {error}", None
    if not finals:
        expected = '"LABEL val_loss:2.0286 val_bpb:1.2014"'
        return "failed", f"no final metric, a line such as {expected}, was printed; see {log}", None
    run = finals[-1]
    metric = run.finals[-1]
    if run.seed not in (None, seed):
        return "failed", f"the script printed seed {run.seed}, SEED was {seed}; see {log}", run
    if not all(value is not None and math.isfinite(value) for value in (metric.val_loss, metric.val_bpb)):
        return "failed", f"the final metric is not a finite number; see {log}, line {metric.line}", run
    return "succeeded", None, run


def failure_hint(log: Path) -> str:
    """What the log's end says of the cause: the script's exit code and the last error that is not torchrun's own."""
    end = log.read_bytes()[-HINT_BYTES:].decode("utf-8", "replace")
    codes = re.findall(r"exitcode\s*:\s*(-?\d+)", end)
    errors = re.findall(
        r"^(?:\[rank\d+\]: ?)?(?!torch\.distributed)([\w.]*(?:Error|Exception): .*|\S+\.py: .*)$", end, re.MULTILINE
    )
    return (f", the script with {codes[-1]}" if codes else "") + (f" ({errors[-1][:200]})" if errors else "")


def finish(order: RunOrder, manifest: dict[str, Any], state: str, reason: str | None) -> dict[str, Any]:
    """Write the final run.json, with digests of everything that the run left behind."""
    files = {
        str(path.relative_to(order.folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(order.folder.rglob("*"))
        if path.is_file() and path.name != RUN_MANIFEST
    }
    manifest |= {"state": state, "reason": reason, "ended": now(), "files": files}
    write_json(order.folder / RUN_MANIFEST, manifest)
    return manifest


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def versions() -> dict[str, str | None]:
    """Python and the packages that decide a run's numbers; None when not installed."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for package in ("torch", "numpy", "sentencepiece", "ray"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def gpu_names(environment: dict[str, str]) -> list[str]:
    """One line a GPU of this node, by nvidia-smi; empty where there is none."""
    if not (tool := shutil.which("nvidia-smi")):
        return []
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, env=environment, timeout=60, check=False)
    return found.stdout.strip().splitlines()


def _json(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
