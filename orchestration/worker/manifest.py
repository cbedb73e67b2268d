"""run.json as we write it: composed here and nowhere else."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.sweepdir.code import described
from analysis.sweepdir.json_files import read_json, table_of
from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG, SweepError
from analysis.sweepdir.manifest import RunManifest
from analysis.untrusted.files import LIMIT
from orchestration.disk.digests import files_of
from orchestration.disk.files import now, write_json
from orchestration.disk.patient import passing
from orchestration.worker.order import RunOrder, Sandbox
from orchestration.worker.outcome import Outcome, last_in, result_in
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
        **provenance(order.script if order.sandbox is Sandbox.NONE else None, environment),
    }
    write_manifest(order.folder, table)
    return table


def finish(order: RunOrder, table: dict[str, Any], outcome: Outcome) -> RunManifest:
    """Write how the run ended, with digests of all but large files; return it for the driver.

    If the disk does not take it, the driver writes it.
    """
    path, found = order.folder / RUN_MANIFEST, files_of(order.folder)
    unknown = table_of(table.get("unknown")) | found["unknown"]
    ended = table | ending(order, outcome) | {"files": found["files"], "unknown": unknown}
    try:
        write_manifest(order.folder, ended)
    except OSError as error:
        if not passing(error):
            raise
    return RunManifest.of(ended, path)


def give_up(order: RunOrder, state: str, reason: str | None) -> RunManifest:
    """Write the end of an attempt whose worker did not report one, as its log tells it.

    What its run.json says is kept for people. It decides nothing, because the script can write to it.
    """
    path, log = order.folder / RUN_MANIFEST, order.folder / TRAIN_LOG
    try:
        written = read_json(path)
    except SweepError:
        written = {"started": None}
    outcome = result_in(log, order.seed, order.rules, Outcome(state=state, reason=reason))
    said = {"exit_code": None, "metric": None, **ending(order, outcome), "files": described_log(log)}
    table = written | order.key._asdict() | said
    write_manifest(order.folder, table)
    return RunManifest.of(table, path)


def described_log(log: Path) -> dict[str, Any]:
    """Return what `files` says of a log, of its beginning where it is longer than what is read of one; nothing if there is none."""
    if log.is_symlink() or not log.is_file():
        return {}
    with open(log, "rb") as file:  # a sparse file of any size costs its script nothing
        content = file.read(LIMIT + 1)
    return {TRAIN_LOG: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}


def ending(order: RunOrder, outcome: Outcome) -> dict[str, Any]:
    """Return how a run ended and what its log holds, as run.json has it."""
    said: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason, "ended": now()}
    if outcome.metric is not None and outcome.run is not None:
        metric = outcome.metric
        others = {name: _json(value) for name, value in metric.others.items()}
        values = {"val_loss": _json(metric.val_loss), "val_bpb": _json(metric.val_bpb)} | others
        said["metric"] = {"label": metric.label, **values, "line": metric.line}
        said["train_time_ms"] = outcome.run.train_time_ms
    last = last_in(order.folder / TRAIN_LOG, order.rules)
    return said | {"last": _json(None if last is None else last.value(order.rules.metric))}


def write_manifest(folder: Path, table: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN_MANIFEST, table)


def _json(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
