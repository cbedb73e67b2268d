"""How long a board takes, the first time and again.

    python -m benchmarks.board [--records 60] [--kilobytes 160]

Makes a tree of dated record folders, three logs each, and calls `analysis.leaderboard` on it: without a cache, with an
empty one, with a full one, and after one more record. All outputs must be the same bytes. The table is appended to
benchmarks/results/board.md with date and machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from benchmarks.made_logs import make_source, write_speedrun
from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "board.md"
RULES, RUNS = "nanogpt-track-1", 3
FIRST = date(2025, 1, 1)


def make_record(tree: Path, number: int, kilobytes: int) -> None:
    folder = tree / f"{FIRST + timedelta(days=number)}_record"
    folder.mkdir(parents=True)
    rng = random.Random(number)  # noqa: S311 - the same logs every time
    source = make_source(rng, 450 * kilobytes)
    for run in range(RUNS):
        write_speedrun(folder / f"{run}.txt", rng, source, 1000 * kilobytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: its output, and the time that passed."""

    output: bytes
    seconds: float


def board(tree: Path, cache: Path, *words: str) -> Call:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "analysis.leaderboard", str(tree), "--rules", RULES, "--format", "json", *words],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    )
    return Call(output=done.stdout, seconds=time.monotonic() - start)


def measure(records: int, kilobytes: int) -> dict[str, float]:
    """Return the seconds of each call. Raises SystemExit where a cache changes the output."""
    with tempfile.TemporaryDirectory() as name:
        tree, cache = Path(name, "records"), Path(name, "cache")
        for number in range(records):
            make_record(tree, number, kilobytes)
        calls = {
            "`--no-cache`": board(tree, cache, "--no-cache"),
            "empty cache": board(tree, cache),
            "full cache": board(tree, cache),
        }
        if len({call.output for call in calls.values()}) != 1:
            raise SystemExit("The cache changes the board: nothing was measured.")
        make_record(tree, records, kilobytes)
        calls["full cache, one more record"] = board(tree, cache)
        if calls["full cache, one more record"].output != board(tree, cache, "--no-cache").output:
            raise SystemExit("The cache changes the board of one more record: nothing was measured.")
        return {what: call.seconds for what, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--kilobytes", type=int, default=160)
    options = parser.parse_args()
    if options.records < 1 or options.kilobytes < 20:
        parser.error("at least 1 record of logs of 20 kB")
    found = measure(options.records, options.kilobytes)
    about = (
        f"{options.records} records of {RUNS} logs of {options.kilobytes} kB, rules {RULES}, the same bytes each time."
    )
    publish(
        [
            f"## {date.today().isoformat()}",
            f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, one call each, {about}",
            "",
            "| whole command | s |",
            "| --- | --- |",
            *(f"| {what} | {seconds:.2f} |" for what, seconds in found.items()),
        ],
        RESULTS,
    )


if __name__ == "__main__":
    main()
