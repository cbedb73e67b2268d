"""Ways of deciding a claim: how often each passes a false one, exactly, and simulated sweeps that it decides.

Sweeps have normal seeds whose true mean is exactly on the threshold: the false claim most likely to pass. NumPy makes the
seeds' values, their means and standard deviations. The project's own functions then decide every sweep at every look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr

from analysis.stats import sequential
from analysis.stats.fixed import (
    Sample,
    Test,
    against_control,
    critical_t,
    known_sigma_level,
    known_sigma_z,
    moderated_t,
    one_sample_t,
    pooled_t,
    power_against,
    welch_t,
)
from analysis.stats.recursion import Design
from analysis.stats.sequential import BOUNDARIES, FLAT, e_value

OURS, THEIRS = "seedproof", "others"
ALPHA = 0.01  # the level asked for
CRITICAL = 0.004 / 0.0013  # the z of the speedrun's track 3
THRESHOLD, MARGIN, SD = 1.2, 0.005, 0.001  # like a leaderboard's; no rate depends on them
LOOKS, FAR = Design(tuple(range(3, 11))), Design(tuple(range(3, 31)))
HISTORY = 8  # degrees of freedom
Decide = Callable[[np.random.Generator, int], Sequence[int]]  # each sweep's answer, 0 where it does not pass


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
    rng: np.random.Generator,
    sweeps: int,
    n: int,
    n0: int,
    test: Callable[..., Test],
    scatter: float = 1,
    margin: float = MARGIN,
) -> list[bool]:
    """Test against a control whose true mean is the margin above the runs'; below 0 it is how much worse they may be."""
    mine, theirs = draw(rng, sweeps, n), draw(rng, sweeps, n0)
    theirs = THRESHOLD + margin + scatter * (theirs - THRESHOLD)
    pairs = zip(samples(mine), samples(theirs), strict=True)
    return [test(sample, control, margin, ALPHA).p_value < ALPHA for sample, control in pairs]


def of_known_spread(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Test with the spread that is true, at track 3's own critical value."""
    test = known_sigma_z(sample, control.mean - margin, SD, alpha, control)
    return replace(test, p_value=0.0 if test.statistic >= CRITICAL else 1.0)


def with_history(rng: np.random.Generator, sweeps: int, n: int, n0: int) -> list[bool]:
    """Test runs whose spread is drawn from the prior that the history says, against a number or a control."""
    sds = np.sqrt(HISTORY / rng.chisquare(HISTORY, sweeps))[:, None]
    mine, theirs = (THRESHOLD + sds * (draw(rng, sweeps, many) - THRESHOLD) for many in (n, n0))
    if not n0:
        return [moderated_t(one, THRESHOLD, SD, HISTORY, ALPHA).p_value < ALPHA for one in samples(mine)]
    pairs = zip(samples(mine), samples(theirs), strict=True)
    return [moderated_t(one, other.mean, SD, HISTORY, ALPHA, other).p_value < ALPHA for one, other in pairs]


def best_label(rng: np.random.Generator, sweeps: int, n: int, labels: int) -> np.ndarray:
    """Choose of several labels with independent noise the one that passes."""
    passed = [t_test(draw(rng, sweeps, n)) for _ in range(labels)]
    return np.logical_or.reduce(passed)


def exact_number(sample: Sample, control: Sample, margin: float, alpha: float) -> Test:
    """Test against the control's mean as if it had no noise."""
    return one_sample_t(sample, control.mean - margin, alpha)


def stops(
    rng: np.random.Generator,
    sweeps: int,
    design: Design,
    criticals: tuple[float, ...] | None,
    gain: float = 0.0,
    scatter: float = 1.0,
) -> np.ndarray:
    """Look until a sweep passes; return at how many seeds each does, 0 for never. Without criticals the e-value decides."""
    values, stopped = draw(rng, sweeps, design.looks[-1], gain), np.zeros(sweeps, dtype=int)
    control = draw(rng, sweeps, design.looks[-1] if design.in_step else design.control, above=MARGIN)
    control = THRESHOLD + MARGIN + scatter * (control - THRESHOLD - MARGIN)
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
def e_value_criticals(design: Design = LOOKS) -> tuple[float, ...]:
    """Return the t of each look at which the e-value, which rises with t, reaches 1 / alpha."""
    scale = [(design.degrees(n), design.information(n)) for n in design.looks]
    return tuple(float(brentq(lambda t, *to: e_value(t, *to) - 1 / ALPHA, 1, 50, args=to)) for to in scale)


def e_value_of_a_wild_control() -> float:
    """Return the level of the e-value where only the control's three runs scatter: their t decides at every look."""
    design = Design(LOOKS.looks, control=3)
    criticals = zip(design.looks, e_value_criticals(design), strict=True)
    needed = [t * math.sqrt((1 / n + 1 / 3) * 3 * 2 / (n + 1)) for n, t in criticals]
    return float(stdtr(2, -min(needed)))


def switched_horizon() -> tuple[float, ...]:
    """Return the criticals where the last look is at 10, and at 30 once there are more than 10 runs."""
    ten, thirty = sequential.boundary(LOOKS, ALPHA), sequential.boundary(FAR, ALPHA)
    return (*ten, *thirty[len(ten) :])


def ours() -> Iterator[tuple[str, float, Decide]]:
    for n in (3, 5, 8):
        yield f"one-sample t, n = {n}", ALPHA, partial(lowest, n=n, of=n)
    yield "Welch, 3 v 3", 0.00600324, partial(two_samples, n=3, n0=3, test=welch_t)
    for n, scatter, words in ((3, 1, ""), (10, 1, ""), (10, 2, ", the control scatters twice as much")):
        level = power_against(n, 3, ALPHA, 0, scatter)
        both = partial(two_samples, n=n, n0=3, test=against_control, scatter=scatter)
        yield f"Welch and pooled, {n} v 3{words}", level, both
    for n, n0, ratio, who in ((3, 3, 7.275, "control"), (3, 10, 3.4706, "candidate"), (10, 3, 3.4706, "control")):
        scatter = ratio if who == "control" else 1 / ratio
        both = partial(two_samples, n=n, n0=n0, test=against_control, scatter=scatter)
        name = f"Welch and pooled, {n} v {n0}, at the worst: the {who} scatters {ratio:.3g} times as much"
        yield name, power_against(n, n0, ALPHA, 0, scatter), both
    yield (
        "not worse by d, Welch, 10 v 10",
        power_against(10, 10, ALPHA, 0),
        partial(two_samples, n=10, n0=10, test=welch_t, margin=-0.002),
    )
    yield (
        "not worse by d, known sigma, track 3's own critical value, 8 v 8",
        known_sigma_level(CRITICAL, 1, 1),
        partial(two_samples, n=8, n0=8, test=of_known_spread, margin=-0.002),
    )
    for n0, words in ((0, ""), (3, " v 3")):
        name = f"history-assisted t, 3{words} seeds, a history of 8 degrees of freedom"
        yield name, ALPHA, partial(with_history, n=3, n0=n0)
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
    in_step = Design(LOOKS.looks, in_step=True)
    criticals = sequential.boundary(in_step, ALPHA)
    level = sequential.type_one_error(LOOKS, criticals)  # the t of both is then the candidate's own
    alone = partial(stops, design=in_step, criticals=criticals, scatter=0.0)
    yield "sequential 3..10, flat, v as many control seeds, only the candidate scatters", level, alone
    level = sequential.type_one_error(LOOKS, e_value_criticals())
    yield "e-value after each of seeds 3..10", level, partial(stops, design=LOOKS, criticals=None)
    wild = partial(stops, design=Design(LOOKS.looks, control=3), criticals=None, scatter=1e6)
    yield (
        "e-value after each of seeds 3..10, v 3 control seeds, only the control scatters",
        e_value_of_a_wild_control(),
        wild,
    )


def theirs() -> Iterator[tuple[str, float, Decide]]:
    naive = sequential.at_nominal(LOOKS, ALPHA)
    level = sequential.type_one_error(LOOKS, naive)
    yield "add seeds until p < 0.01, n = 3..10", level, partial(stops, design=LOOKS, criticals=naive)
    for words, looks in (("10 in all", (3, 10)), ("3 each time, up to 21", tuple(range(3, 22, 3)))):
        design = Design(looks)
        criticals = sequential.at_nominal(design, ALPHA)
        level = sequential.type_one_error(design, criticals)
        yield (
            f"3 seeds, and more seeds where they fail: {words}",
            level,
            partial(stops, design=design, criticals=criticals),
        )
    level = sequential.type_one_error(FAR, switched_horizon())
    yield (
        "a last look at 10 that moves to 30 once there are 11",
        level,
        partial(stops, design=FAR, criticals=switched_horizon()),
    )
    for labels in (2, 3):
        name = f"the best of {labels} independent labels, n = 3"
        yield name, 1 - (1 - ALPHA) ** labels, partial(best_label, n=3, labels=labels)
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
