"""What the looks of a sequential design cost in CPU time, as a ratio to a bare `import scipy.stats`.

    python -m benchmarks.looks [--rounds 5]

Every row is a fresh process that has its modules loaded, so nothing is remembered from an earlier look. The table shows
medians; it is appended to benchmarks/results/looks.md with date and machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "looks.md"
YARDSTICK = "import scipy.stats"
LOADED = """
import scipy.optimize
from analysis.stats import sequential
from analysis.stats.recursion import Design
from analysis.verdict.looks import chance_of_passing
ten, thirty = Design(tuple(range(3, 11))), Design(tuple(range(3, 31)))
in_step = Design(thirty.looks, in_step=True)
criticals = sequential.at_nominal(ten, 0.002)
"""
ROWS = {
    f"{kind}, {words}": f"sequential.boundary({design}, 0.01, '{kind}')"
    for kind in ("obrien-fleming", "pocock", "flat")
    for words, design in (
        ("looks 3..10", "ten"),
        ("looks 3..30", "thirty"),
        ("looks 3..30 with a control in step", "in_step"),
    )
}
ROWS |= {
    "sequential p, looks 3..10": "sequential.sequential_p(ten, [9.04])",
    "power at 20 gains, looks 3..10": "[sequential.power(ten, criticals, gain / 4) for gain in range(20)]",
    "chance of passing, looks 3..10": "chance_of_passing(ten, criticals, 0, 3.0)",
}


def cpu_time(loaded: str, code: str) -> float:
    """Return the CPU time in ms of the code in a fresh process, after `loaded`."""
    timed = "import time\nstart = time.process_time()\n" + code + "\nprint(time.process_time() - start)"
    one_core = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"{loaded}\n{timed}"]
    return 1000 * float(subprocess.run(command, check=True, capture_output=True, text=True, env=one_core).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    measured: dict[str, list[float]] = {YARDSTICK: [], **{name: [] for name in ROWS}}
    for _ in range(rounds):
        measured[YARDSTICK].append(cpu_time("", YARDSTICK))
        for name, code in ROWS.items():
            measured[name].append(cpu_time(LOADED, code))
    medians = {name: statistics.median(times) for name, times in measured.items()}
    lines = [
        f"## {date.today().isoformat()}",
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, CPU time, medians of {rounds}.",
        "",
        f"| computed | ms | ratio to `{YARDSTICK}` |",
        "| --- | --- | --- |",
        *(f"| {name} | {ms:.0f} | {ms / medians[YARDSTICK]:.2f} |" for name, ms in medians.items()),
    ]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main()
