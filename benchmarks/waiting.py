"""How long people wait for a command, as a ratio to a bare `import scipy.stats` in the same run.

    python -m benchmarks.waiting [--rounds 7]

The commands take turns, so that a busy machine slows all of them alike. The table shows medians; it is appended to
benchmarks/results/waiting.md with date and machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.table import publish

SEEDS = (1337, 1338, 1339)
RESULTS = Path(__file__).with_name("results") / "waiting.md"
YARDSTICK = "import scipy.stats"


def make_record(folder: Path) -> None:
    """Write a record folder without findings, whose three logs are about as large as real ones."""
    source = 'import os\nprint("final_int8_zlib_roundtrip_exact")\n' + "# a line of the trainer's source\n" * 1400
    losses = [2.03 + math.sin(seed) / 500 for seed in SEEDS]
    for seed, loss in zip(SEEDS, losses, strict=True):
        steps = "".join(
            f"step:{i}/9000 train_loss:2.5 train_time:{60 * i}ms step_avg:60.00ms\n" for i in range(1, 9001, 25)
        )
        final = f"final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{loss * 0.592256:.8f}\n"
        (folder / f"train_seed{seed}.log").write_text(f"{source}\n{'=' * 100}\nseed:{seed}\n{steps}{final}")
    claim = {"name": "a", "author": "b", "date": "2026-04-05", "val_bpb": statistics.mean(losses) * 0.592256}
    (folder / "submission.json").write_text(json.dumps(claim))
    (folder / "train_gpt.py").write_text(source)
    (folder / "README.md").write_text("# A record\n")


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Return the median wall time of each command in ms."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        make_record(Path(name))
        claim = [name, "--sota", "1.25"]
        seedproof = ["-m", "seedproof"]
        medians = measure(
            {
                YARDSTICK: ["-c", YARDSTICK],
                "python -c pass": ["-c", "pass"],
                "--help": [*seedproof, "--help"],
                "check --help": [*seedproof, "check", "--help"],
                "check": [*seedproof, "check", *claim],
                "report": [*seedproof, "report", *claim],
                "report, html": [*seedproof, "report", *claim, "--format", "html"],
                "audit": [*seedproof, "audit", name],
                "logs, csv": [*seedproof, "logs", name, "--format", "csv"],
            },
            rounds,
        )
    lines = [
        f"## {date.today().isoformat()}",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, medians of {rounds}.",
        "",
        f"| command | ms | ratio to `{YARDSTICK}` |",
        "| --- | --- | --- |",
        *(f"| {name} | {ms:.0f} | {ms / medians[YARDSTICK]:.2f} |" for name, ms in medians.items()),
    ]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main()
