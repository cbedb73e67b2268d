"""How often each way of deciding passes a claim that is false, and how often the sequential ways pass a true one.

    python -m benchmarks.calibration [--sweeps 100000] [--seed 1]

Sweeps are simulated with normal seeds whose true mean is exactly on the threshold: the false claim most likely to pass.
NumPy makes the seeds' values, their means and standard deviations. The project's own functions then decide every sweep at
every look: analysis.stats.fixed gives p-values, analysis.stats.sequential boundaries and e-values. Each row draws from
its own generator, seeded by --seed and the row's name. The exact rate, which needs no simulation, is printed next to the
measured one. The tables are appended to benchmarks/results/calibration.md with date and machine.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr
from scipy.stats import binom

from analysis.stats import sequential
from analysis.stats.fixed import (
    Sample,
    Test,
    against_control,
    critical_t,
    known_sigma_level,
    known_sigma_z,
    one_sample_t,
    pooled_t,
    power_against,
    welch_t,
)
from analysis.stats.recursion import Design
from analysis.stats.sequential import BOUNDARIES, FLAT, e_value
from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "calibration.md"
OURS, THEIRS = "seedproof", "others"
ALPHA = 0.01  # the level asked for
CRITICAL = 0.004 / 0.0013  # the z of the speedrun's track 3
THRESHOLD, MARGIN, SD = 1.2, 0.005, 0.001  # like a leaderboard's; no rate depends on them
LOOKS = Design(tuple(range(3, 11)))
Z99 = -float(ndtri(0.005))
Decide = Callable[[np.random.Generator, int], Sequence[int]]  # each sweep's answer, 0 where it does not pass


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


# -- sweeps, and how they are decided ----------------------------------------------------------------------------------


def draw(rng: np.random.Generator, sweeps: int, n: int, gain: float = 0.0, above: float = 0.0) -> np.ndarray:
    """Draw n values for each sweep. Their true mean is the threshold plus `above`, less `gain` sd."""
    return THRESHOLD + above + SD * (rng.standard_normal((sweeps, n)) - gain)


def samples(values: np.ndarray) -> Iterator[Sample]:
    for mean, sd in zip(values.mean(axis=1).tolist(), values.std(axis=1, ddof=1).tolist(), strict=True):
        yield Sample(values.shape[1], mean, sd)


def t_test(values: np.ndarray) -> list[bool]:
    return [one_sample_t(sample, THRESHOLD, ALPHA).p_value < ALPHA for sample in samples(values)]


def lowest(rng: np.random.Generator, sweeps: int, n: int, of: int) -> list[bool]:
    """Test the n lowest of so many seeds as if there were no others."""
    return t_test(np.sort(draw(rng, sweeps, of), axis=1)[:, :n])


def known_spread(rng: np.random.Generator, sweeps: int, n: int) -> list[bool]:
    return [
        known_sigma_z(sample, THRESHOLD, SD, ALPHA).statistic >= CRITICAL for sample in samples(draw(rng, sweeps, n))
    ]


def two_samples(
    rng: np.random.Generator, sweeps: int, n: int, n0: int, test: Callable[..., Test], scatter: float = 1
) -> list[bool]:
    mine, theirs = draw(rng, sweeps, n), draw(rng, sweeps, n0)
    theirs = THRESHOLD + MARGIN + scatter * (theirs - THRESHOLD)
    pairs = zip(samples(mine), samples(theirs), strict=True)
    return [test(sample, control, MARGIN, ALPHA).p_value < ALPHA for sample, control in pairs]


def exact_number(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Test against the control's mean as if it had no noise."""
    return one_sample_t(sample, control.mean - margin, alpha)


def stops(
    rng: np.random.Generator, sweeps: int, design: Design, criticals: tuple[float, ...] | None, gain: float = 0.0
) -> np.ndarray:
    """Look until a sweep passes; return at how many seeds each does, 0 for never. Without criticals the e-value decides."""
    values, stopped = draw(rng, sweeps, design.looks[-1], gain), np.zeros(sweeps, dtype=int)
    control = draw(rng, sweeps, design.looks[-1] if design.in_step else design.control, above=MARGIN)
    for k, n in enumerate(design.looks):
        running = np.flatnonzero(stopped == 0)
        candidates = samples(values[running, :n])
        if control.size:
            controls = samples(control[running, : n if design.in_step else None])
            tests = [pooled_t(sample, other, MARGIN, ALPHA) for sample, other in zip(candidates, controls, strict=True)]
        else:
            tests = [one_sample_t(sample, THRESHOLD, ALPHA) for sample in candidates]
        t = np.array([-test.statistic for test in tests])
        if criticals is None:
            passed = e_value(t, design.degrees(n), design.information(n)) >= 1 / ALPHA
        else:
            passed = t >= criticals[k]
        stopped[running[passed]] = n
    return stopped


def grouped(rng: np.random.Generator, sweeps: int, groups: int, each: int, shared: float) -> list[bool]:
    """Test runs as if independent, though those of one group (a seed, a machine) share a part of the variance."""
    group, own = rng.standard_normal((sweeps, groups, 1)), rng.standard_normal((sweeps, groups, each))
    values = math.sqrt(shared) * group + math.sqrt(1 - shared) * own
    return t_test(THRESHOLD + SD * values.reshape(sweeps, -1))


# -- what is expected --------------------------------------------------------------------------------------------------


def inflated(n: int, factor: float) -> float:
    """Return the level of a one-sample t-test whose t is too large by this factor."""
    return float(stdtr(n - 1, -critical_t(n - 1, ALPHA) / factor))


@cache
def e_value_criticals() -> tuple[float, ...]:
    """Return the t of each look at which the e-value, which rises with t, reaches 1 / alpha."""
    scale = [(LOOKS.degrees(n), LOOKS.information(n)) for n in LOOKS.looks]
    return tuple(float(brentq(lambda t, *to: e_value(t, *to) - 1 / ALPHA, 1, 50, args=to)) for to in scale)


def ways() -> Iterator[tuple[str, str, float, Decide]]:
    """Yield whose way of deciding it is, its name, how often it passes false claims, and its simulation.

    Rates written as numbers are quadratures over the ratio of two variances, or over the three lowest seeds; the tests
    compute them again.
    """
    for way in _ours():
        yield OURS, *way
    for way in _theirs():
        yield THEIRS, *way


def _ours() -> Iterator[tuple[str, float, Decide]]:
    for n in (3, 5, 8):
        yield f"one-sample t, n = {n}", ALPHA, partial(lowest, n=n, of=n)
    yield "Welch, 3 v 3", 0.00600324, partial(two_samples, n=3, n0=3, test=welch_t)
    for n, scatter, words in ((3, 1, ""), (10, 1, ""), (10, 2, ", the control scatters twice as much")):
        level = power_against(n, 3, ALPHA, 0, scatter)
        both = partial(two_samples, n=n, n0=3, test=against_control, scatter=scatter)
        yield f"Welch and pooled, {n} v 3{words}", level, both
    yield (
        "known sigma, track 3's own critical value, n = 8",
        known_sigma_level(CRITICAL, 1, 1),
        partial(known_spread, n=8),
    )
    designs = [(LOOKS, kind, kind) for kind in BOUNDARIES]
    designs.append((Design(LOOKS.looks, control=3), FLAT, "flat, v 3 control seeds, pooled test alone"))
    designs.append((Design(LOOKS.looks, in_step=True), FLAT, "flat, v as many control seeds"))
    for design, kind, words in designs:
        criticals = sequential.boundary(design, ALPHA, kind)
        yield f"sequential 3..10, {words}", ALPHA, partial(stops, design=design, criticals=criticals)
    level = sequential.type_one_error(LOOKS, e_value_criticals())
    yield "e-value after each of seeds 3..10", level, partial(stops, design=LOOKS, criticals=None)


def _theirs() -> Iterator[tuple[str, float, Decide]]:
    naive = sequential.at_nominal(LOOKS, ALPHA)
    level = sequential.type_one_error(LOOKS, naive)
    yield "add seeds until p < 0.01, n = 3..10", level, partial(stops, design=LOOKS, criticals=naive)
    for k, level in ((6, 0.09407097), (10, 0.24548438)):
        yield f"best 3 of {k} seeds", level, partial(lowest, n=3, of=k)
    for n in (3, 8):
        level = inflated(n, math.sqrt(1 + n / 3))
        name = f"the SOTA's 3-seed mean as an exact number, n = {n}"
        yield name, level, partial(two_samples, n=n, n0=3, test=exact_number)
    yield "Welch alone, 10 v 3", 0.01623211, partial(two_samples, n=10, n0=3, test=welch_t)
    for repeated, words, level in ((0.5, "half", 0.02852759), (1.0, "all", 0.07224122)):
        name = f"4 seeds run twice as n = 8, a rerun repeats {words} of the variance"
        yield name, level, partial(grouped, groups=4, each=2, shared=repeated)
    for n in (3, 5, 8):
        level = inflated(n, math.sqrt((1 + 0.1 * (n - 1)) / 0.9))
        name = f"n = {n} on one machine, a tenth of the variance is the machine's"
        yield name, level, partial(grouped, groups=1, each=n, shared=0.1)


# -- the tables --------------------------------------------------------------------------------------------------------


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
