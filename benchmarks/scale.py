"""Sweep very many seeds on a simulated cluster: is every seed done, how busy are the nodes, how large is the driver?

    python -m benchmarks.scale [--seeds 1000] [--nodes 16] [--losses 0.05] [--no-results]

The driver, its files and Ray are real. The 16 nodes of 8 GPUs are processes of this machine, and a run is a pause of two
seconds that leaves a log. --losses is the share of runs whose node is killed during the run; another node then joins.
The table is appended to benchmarks/results/scale.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from benchmarks.table import publish
from orchestration.disk.files import now, write_json
from orchestration.driver.care import Care
from orchestration.driver.drive import carry_out
from orchestration.plan.asked import Asked
from orchestration.plan.freeze import freeze, make_plan
from orchestration.worker.manifest import finish
from orchestration.worker.order import Ended, RunOrder
from orchestration.worker.outcome import Outcome

RESULTS = Path(__file__).with_name("results") / "scale.md"
RUN_S, GPUS = 2.0, 8


def pretend(order: RunOrder, node: str) -> Iterator[Ended]:
    """Do what `execute` does, except the training."""
    order.folder.mkdir(parents=True)
    manifest = {"state": "running", "reason": None, "arm": order.arm, "seed": order.seed, "attempt": order.attempt,
                "started": now(), "host": platform.node(), "ray_node_id": node}  # fmt: skip
    write_json(order.folder / "run.json", manifest)
    time.sleep(RUN_S)
    bpb = 1.2 + 0.1 * (order.arm == "control") + random.Random(f"{order.arm} {order.seed}").gauss(0, 0.001)  # noqa: S311
    (order.folder / "train.log").write_text(
        f"step:1/1 train_loss:2\nfinal_x val_loss:{bpb / 0.6:.8f} val_bpb:{bpb:.8f}\n"
    )
    ended = finish(order, manifest | {"wall_s": RUN_S, "exit_code": 0}, Outcome(state="succeeded"))
    yield Ended(state=ended.state, reason=ended.reason, manifest=ended)


def drive(directory: Path) -> None:
    """Run the sweep's own driver on pretended runs; write its peak memory in MiB to a file next to the sweep."""
    from orchestration.driver import engine

    engine.Pool = functools.partial(engine.Pool, work=pretend)  # type: ignore[misc, assignment]
    code = carry_out(directory, Care(wait_for_nodes=2.0))
    directory.with_name("driver_mib").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    sys.exit(code)


def lose_nodes(cluster: Any, driver: subprocess.Popen[bytes], events: Path, share: float) -> int:
    """Kill the nodes of this share of runs, let new ones join, until the driver ends; return how many were killed."""
    chance, read, killed = random.Random(1), 0, 0  # noqa: S311
    while driver.poll() is None:
        time.sleep(0.5)
        lines = events.read_text().splitlines() if events.exists() else []
        for event in map(json.loads, lines[read:]):
            hit = event["state"] == "running" and chance.random() < share
            node = next((node for node in cluster.worker_nodes if hit and node.node_id == event["node"]), None)
            if node is not None:
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=GPUS, num_gpus=GPUS)
                killed += 1
        read = len(lines)
    return killed


def simulate(seeds: int, nodes: int, losses: float) -> dict[str, Any]:
    """Run one sweep on a simulated cluster; return what became of it."""
    folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short, because Ray puts its sockets there
    os.environ |= {"RAY_TMPDIR": str(folder / "ray"), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    (folder / "ray").mkdir()
    from ray.cluster_utils import Cluster

    script, control, directory = folder / "train.py", folder / "control.toml", folder / "sweep"
    script.write_text("print('simulated')\n")
    control.write_text("[env]\nA = 1\n")
    named = ",".join(map(str, range(seeds // 2))) + ","
    asked = Asked(
        script=script, control=control, seeds=named, sota=1.3, gpus_per_run=GPUS, cpus_per_run=GPUS, max_attempts=20
    )
    freeze(make_plan(asked), directory)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=GPUS, num_gpus=GPUS)
        began = time.monotonic()
        program = f"from pathlib import Path; from benchmarks.scale import drive; drive(Path({str(directory)!r}))"
        with open(folder / "driver.log", "wb") as log:
            environment = os.environ | {"RAY_ADDRESS": cluster.address}
            driver = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log, env=environment)
            killed = lose_nodes(cluster, driver, directory / "events.jsonl", losses)
        wall = time.monotonic() - began
    finally:
        cluster.shutdown()
    if driver.returncode:
        print((folder / "driver.log").read_text()[-3000:], file=sys.stderr)
    manifests = [json.loads(path.read_text()) for path in directory.glob("*/seed-*/attempt-*/run.json")]
    memory = float((folder / "driver_mib").read_text())
    found = {"code": driver.returncode, "wall_s": wall, "killed": killed, "driver_mib": memory}
    shutil.rmtree(folder, ignore_errors=True)
    return found | summary(manifests, nodes)


def summary(manifests: list[dict[str, Any]], nodes: int) -> dict[str, Any]:
    """Count results and lost attempts; measure how busy the nodes were and how evenly each node ran the two arms."""
    done = [m for m in manifests if m["state"] == "succeeded"]
    times = [(datetime.fromisoformat(m["started"]), datetime.fromisoformat(m["ended"])) for m in done]
    span = (max(end for _, end in times) - min(start for start, _ in times)).total_seconds()
    arms = Counter((m["ray_node_id"], m["arm"]) for m in done)
    uneven = max(abs(arms[node, "candidate"] - arms[node, "control"]) for node, _ in arms)
    return {
        "done": len({(m["arm"], m["seed"]) for m in done}),
        "twice": len(done) - len({(m["arm"], m["seed"]) for m in done}),
        "lost": sum(m["state"] == "lost" for m in manifests),
        "busy": sum((end - start).total_seconds() for start, end in times) / (nodes * span),
        "uneven": uneven,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="runs, half of them the control's (default 1000)")
    parser.add_argument("--nodes", type=int, default=16, help="simulated nodes of 8 GPUs (default 16)")
    parser.add_argument("--losses", type=float, default=0.0, help="share of runs whose node is killed (default 0)")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    found = simulate(options.seeds, options.nodes, options.losses)
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: {options.seeds} runs of {RUN_S:g} s on "
        f"{options.nodes} nodes of {GPUS} GPUs, {options.losses:.0%} of them lose their node",
        "",
        "| runs done | twice | attempts lost | nodes killed | wall | busy share | arms of a node differ by | driver | exit code |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| {found['done']} | {found['twice']} | {found['lost']} | {found['killed']} | {found['wall_s']:.0f} s | {found['busy']:.0%} | "
        f"at most {found['uneven']} | {found['driver_mib']:.0f} MiB | {found['code']} |",
    ]
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)
    sys.exit(
        found["done"] != options.seeds or found["twice"] > 0 or found["code"] > 1
    )  # 1: remade attempts refuse the claim


if __name__ == "__main__":
    main()
