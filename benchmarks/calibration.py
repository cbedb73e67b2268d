"""How often each way of deciding passes a claim that is false, and how often the sequential ways pass a true one.

    python -m benchmarks.calibration [--sweeps 100000] [--seed 1]

Sweeps are simulated and decided as benchmarks/ways.py says. Each row draws from its own generator, seeded by --seed and
the row's name. The exact rate, which needs no simulation, is printed next to the measured one. The tables are appended to
benchmarks/results/calibration.md with date and machine.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from analysis.stats import sequential
from analysis.stats.recursion import Design
from benchmarks import two_arms
from benchmarks import ways as one_arm
from benchmarks.table import publish
from benchmarks.ways import ALPHA, LOOKS, OURS, THEIRS, Decide, e_value_criticals, stops

RESULTS = Path(__file__).with_name("results") / "calibration.md"
Z99 = -float(ndtri(0.005))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How often one way of deciding passes, stated and measured, and for power the seeds a sweep takes."""

    whose: str
    way: str
    stated: float  # the exact rate
    measured: float
    sweeps: int
    seeds: float = 0.0
    measured_seeds: float = 0.0
    seeds_error: float = 0.0

    def limits(self, z: float = Z99) -> tuple[float, float]:
        """Return the rates between which so many sweeps pass if `stated` is true, less a tail of Phi(-z) on each side."""
        tail, n = float(ndtr(-z)), self.sweeps
        return float(binom.ppf(tail, n, self.stated)) / n, float(binom.isf(tail, n, self.stated)) / n

    def within(self, z: float = Z99) -> bool:
        """Whether rate and seeds are measured as stated, within their limits."""
        low, high = self.limits(z)
        return low <= self.measured <= high and abs(self.measured_seeds - self.seeds) <= z * self.seeds_error


# -- the tables --------------------------------------------------------------------------------------------------------


def ways() -> Iterator[tuple[str, str, float, Decide]]:
    """Yield whose way of deciding it is, its name, how often it passes false claims, and its simulation.

    Rates written as numbers are quadratures over the ratio of two variances, or over the three lowest seeds; the tests
    compute them again.
    """
    yield from ((OURS, *way) for way in (*one_arm.ours(), *two_arms.ours()))
    yield from ((THEIRS, *way) for way in (*one_arm.theirs(), *two_arms.theirs()))


def generator(seed: int, name: str) -> np.random.Generator:
    """Return a row's own generator, so that its numbers do not depend on the other rows."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def rows(sweeps: int, seed: int) -> list[Row]:
    """Measure how often false claims pass."""
    return [
        Row(
            whose=whose,
            way=way,
            stated=stated,
            measured=np.count_nonzero(decide(generator(seed, way), sweeps)) / sweeps,
            sweeps=sweeps,
        )
        for whose, way, stated, decide in ways()
    ]


def power_rows(sweeps: int, seed: int, deltas: Sequence[float] = (1, 2, 3, 5)) -> list[Row]:
    """Measure how often claims with a true gain of delta sd pass, and with how many seeds."""
    found = []
    for name, design in (("fixed n = 3", Design((3,))), ("sequential 3..10, flat", LOOKS), ("e-value 3..10", LOOKS)):
        by_e_value = name.startswith("e-value")
        criticals = e_value_criticals() if by_e_value else sequential.boundary(design, ALPHA)
        for delta in deltas:
            way = f"{name}, gain {delta} sd"
            stopped = stops(generator(seed, way), sweeps, design, None if by_e_value else criticals, delta)
            taken = np.where(stopped > 0, stopped, design.looks[-1])
            row = Row(
                whose=OURS,
                way=way,
                stated=sequential.power(design, criticals, delta),
                measured=np.count_nonzero(stopped) / sweeps,
                sweeps=sweeps,
                seeds=sequential.expected_seeds(design, criticals, delta),
                measured_seeds=float(taken.mean()),
                seeds_error=float(taken.std()) / math.sqrt(sweeps),
            )
            found.append(row)
    return found


def table(found: list[Row]) -> list[str]:
    """Return the rows as Markdown, with the seeds where they were counted."""
    counted = found[0].seeds > 0
    names = "by", "way of deciding", "stated, %", "measured, %", "99 % limits", "within"
    names += ("seeds, stated", "seeds, measured") if counted else ()
    lines = [names, ["---"] * len(names)]
    for row in found:
        low, high = row.limits()
        rates = [f"{100 * row.stated:.3f}", f"{100 * row.measured:.3f}", f"{100 * low:.3f} to {100 * high:.3f}"]
        seeds = [f"{row.seeds:.3f}", f"{row.measured_seeds:.3f}"] * counted
        lines.append([row.whose, row.way, *rates, "yes" if row.within() else "no", *seeds])
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=100_000, help="simulated for each row")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.perf_counter()
    false, true = rows(options.sweeps, options.seed), power_rows(options.sweeps, options.seed)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    run = f"{options.sweeps} sweeps a row, seed {options.seed}, {time.perf_counter() - start:.0f} s"
    run += ". By chance one row in a hundred is outside its limits."
    lines = [f"## {date.today().isoformat()}", f"{machine}, {run}", "", "False claims that pass:", "", *table(false)]
    lines += ["", "True claims that pass, and the seeds that a sweep takes:", "", *table(true)]
    publish(lines, RESULTS)


if __name__ == "__main__":
    main()
