"""What a sweep adds to bare torchrun: for every seed, and once for the sweep.

    python -m benchmarks.overhead [--seeds 5] [--no-results]

torchrun alone starts the same script, with two gloo ranks, before and after a sweep of as many seeds that run one at a
time. A seed's time in the sweep is from its start to the next seed's. The table is appended to
benchmarks/results/overhead.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

from benchmarks.table import publish

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "overhead.md"
SCRIPT = """\
import os

import torch.distributed as dist

dist.init_process_group("gloo")
dist.barrier()
if dist.get_rank() == 0:
    bpb = 1.2 + int(os.environ["SEED"]) / 1000
    print(f"final_score val_loss:{bpb / 0.6:.8f} val_bpb:{bpb:.8f}", flush=True)
dist.destroy_process_group()
"""


def bare(script: Path, environment: dict[str, str]) -> float:
    """Return the seconds that one torchrun takes."""
    began = time.monotonic()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(seeds: int) -> dict[str, float]:
    """Return medians in seconds: bare torchrun, a seed of the sweep, its torchrun, and what the sweep itself takes."""
    with tempfile.TemporaryDirectory(prefix="sp", dir="/tmp") as name:  # short, because Ray puts its sockets there
        folder = Path(name)
        script, output = folder / "train.py", folder / "sweep"
        script.write_text(SCRIPT)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment = kept | {"RAY_TMPDIR": name, "PYTHONPATH": str(ROOT)}
        environment |= {"OMP_NUM_THREADS": "1", "SEED": "1", "CI": "1"}
        bare(script, environment)  # fills the caches
        alone = [bare(script, environment) for _ in range(seeds // 2)]
        began = time.monotonic()
        command = ["-m", "orchestration.sweep", "run", "--script", str(script), "--output", str(output)]
        command += ["--sota", "1.3", "--seeds", ",".join(map(str, range(1, seeds + 2))), "--cpus-per-run", "2"]
        subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - began
        alone += [bare(script, environment) for _ in range(seeds - seeds // 2)]
        events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
        manifests = [json.loads(path.read_text()) for path in output.glob("candidate/seed-*/attempt-1/run.json")]
    times = [(datetime.fromisoformat(event["time"]), event["state"]) for event in events]
    starts = [when for when, state in times if state == "running"]
    each = [(later - earlier).total_seconds() for earlier, later in pairwise(starts)]
    return {
        "bare": statistics.median(alone),
        "seed": statistics.median(each),
        "torchrun": statistics.median(manifest["wall_s"] for manifest in manifests),
        "sweep": wall - (times[-1][0] - times[0][0]).total_seconds(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=5, help="how many of each are timed; medians are shown (default 5)"
    )
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    found = measure(options.seeds)
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: medians of {options.seeds}, two gloo ranks",
        "",
        "| bare torchrun | torchrun in the sweep | a seed of the sweep | added a seed | added a sweep |",
        "|---:|---:|---:|---:|---:|",
        f"| {found['bare']:.2f} s | {found['torchrun']:.2f} s | {found['seed']:.2f} s | {found['seed'] - found['bare']:.2f} s | "
        f"{found['sweep']:.1f} s |",
    ]
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)


if __name__ == "__main__":
    main()
