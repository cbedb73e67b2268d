"""What the most hostile folders cost `check`: exit code, CPU time and memory for each kind in tests/hostile_folders.py.

    python -m benchmarks.hostile

Each must end with an exit code from 0 to 3, in 10 s and 1 GB. Takes some ten minutes.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.table import publish
from tests.analysis.test_bounds import FOLDERS, run

RESULTS = Path(__file__).parent / "results" / "hostile.md"
MOST_S, MOST_BYTES = 10.0, 2**30


def main() -> None:
    rows, over = [], 0
    for kind, make in FOLDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            ended = run("check", folder)
        within = ended.code in range(4) and ended.cpu_s < MOST_S and ended.memory < MOST_BYTES
        over += not within
        rows.append(
            f"| {kind} | {ended.code} | {ended.cpu_s:.1f} | {ended.memory / 1e6:.0f} | {'' if within else 'over'} |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: {len(rows)} hostile folders, {over} over 10 s or 1 GB",
        "",
        "| folder | exit code | CPU s | MB | |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main()
