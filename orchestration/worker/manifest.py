"""run.json as we write it: composed here and nowhere else."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.sweepdir.code import described
from analysis.sweepdir.layout import RUN_MANIFEST
from analysis.sweepdir.manifest import RunManifest
from orchestration.disk.files import file_digest, now, write_json
from orchestration.worker.order import RunOrder
from orchestration.worker.outcome import Outcome
from orchestration.worker.preflight import MARKER
from orchestration.worker.provenance import provenance

# the variables of a run's environment that are recorded besides the recipe's; any other might be a secret
RECORDED = ("OMP_", "NCCL_", "GLOO_", "CUDA_VISIBLE_DEVICES", "TORCH_", "TRITON_", "SEED")


def begin(order: RunOrder, command: list[str], environment: Mapping[str, str], node_id: str) -> dict[str, Any]:
    """Write what is known when the run starts; return the table, to be passed to `finish`."""
    recorded = {n: v for n, v in environment.items() if n in order.env or n.startswith(RECORDED)}
    recorded.pop(MARKER, None)
    table = {
        "state": "running",
        "reason": None,
        **order.key._asdict(),
        "started": now(),
        "host": socket.gethostname(),
        "ray_node_id": node_id,
        "pid": os.getpid(),
        "command": command,
        "ranks": order.ranks,
        "env": dict(sorted(recorded.items())),
        "script": {"path": str(order.script), **described(order.code)},
        **provenance(order.script, environment),
    }
    write_json(order.folder / RUN_MANIFEST, table)
    return table


def finish(order: RunOrder, table: dict[str, Any], outcome: Outcome) -> RunManifest:
    """Write how the run ended, with digests of all its files.

    If the driver has given the run up meanwhile, that stands: a seed has one result.
    """
    path = order.folder / RUN_MANIFEST
    if outcome.metric is not None and outcome.run is not None:
        metric = outcome.metric
        values = {"val_loss": _json(metric.val_loss), "val_bpb": _json(metric.val_bpb)}
        table["metric"] = {"label": metric.label, **values, "line": metric.line}
        table["train_time_ms"] = outcome.run.train_time_ms
    files = {
        str(file.relative_to(order.folder)): {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in sorted(order.folder.rglob("*"))
        if file.is_file() and not file.is_symlink() and file.name != RUN_MANIFEST
    }
    written = order.manifest()
    if written is not None and written.state in ("lost", "stopped"):
        return written
    table |= {"state": outcome.state, "reason": outcome.reason, "ended": now(), "files": files}
    return _write(path, table)


def give_up(order: RunOrder, state: str, reason: str | None) -> RunManifest:
    """Write the end of an attempt whose worker did not report one.

    If the worker wrote run.json but died before reporting, keep what it wrote.
    """
    order.folder.mkdir(parents=True, exist_ok=True)
    written = order.manifest()
    if written is not None and written.state not in ("pending", "running"):
        return written
    unknown = {**order.key._asdict(), "started": now()}
    table = {"state": state, **(unknown if written is None else written.table), "ended": now()}
    return _write(order.folder / RUN_MANIFEST, table | {"state": state, "reason": reason})


def _write(path: Path, table: Mapping[str, Any]) -> RunManifest:
    write_json(path, table)
    return RunManifest.of(table, path)


def _json(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
