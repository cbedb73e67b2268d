"""What a design of a test can do: its chance of passing, the gain it can detect, its seeds and its GPU hours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from analysis.stats import fixed, sequential
from analysis.stats.recursion import Design
from analysis.stats.sequential import FLAT
from analysis.stats.spread import Spread
from analysis.stats.two_arms import scatter_of_pairs, simulated

MOST_SEEDS = 500  # the search for a fixed test ends here
LARGEST_GAIN = 30.0  # in sd; a larger one is a mistake in the unit
SURE = 1 - 1e-6  # two chances above this are the same


class Arms(StrEnum):
    """What runs next to the candidate, as the end of a design's name."""

    NONE = ""
    PAIRS = "pairs"  # a control run of the same seed on the same node
    UNPAIRED = "unpaired"  # as many control runs, independent of the candidate's
    EXISTING = "existing control"  # runs that are there already


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """A z-test of a ruleset that knows the spread: it passes at gain / standard error >= critical, in units of sigma."""

    sigma: float
    critical: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is planned.

    - gain: how far the true mean is expected beyond the threshold, in the metric's unit, like spread.sd.
    - power: the chance of passing that is wanted.
    - target: the number that the rules fix; None where the SOTA or its control must be beaten.
    - rerun: how the control may be run with the candidate, the usual way first; empty where the SOTA is a number.
    - control_seeds: runs of the control that exist; 0 without them.
    - share: of the variance, what a pair has in common; None, unknown, is planned as 0. share_shown: what decides on pairs.
    - known: the z-test, where the rules know the spread. against_runs: the t-test against as many or existing control
      runs, "welch", "pooled" or "both". may_look: whether the rules allow a sequential design.
    - gpus, minutes: of one run. gpu_hour: the price of a GPU hour; None counts hours alone.
    - history: how many degrees of freedom earlier records are worth; 0 where there are none.
    - notes: what of the rules is not planned, in sentences. options: those that `sweep run` shares, as typed.
    """

    rules: str
    metric: str
    alpha: float
    gain: float
    spread: Spread
    spread_is: str
    power: float
    first_look: int
    max_seeds: int
    boundary: str
    gpus: int
    minutes: float
    gpu_hour: float | None
    target: float | None = None
    rerun: tuple[Arms, ...] = ()
    control_seeds: int = 0
    share: float | None = None
    share_shown: float | None = None
    share_is: str = "unknown"
    known: Normal | None = None
    against_runs: str = "both"
    may_look: bool = True
    history: float = 0.0
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def delta(self) -> float:
        """Return the gain in standard deviations between seeds."""
        return self.gain / self.spread.sd


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One design and what it does.

    - control_seeds: runs of the control at the last look, 0 against a number. They are paid unless they exist.
    - power: the chance of passing at the gain that was asked for.
    - detectable_gain: the smallest gain with the wanted chance, in the metric's unit.
    - pairs_from_share: the share of the variance above which pairs pass more often than as many independent runs.
    - is_reading: the spread comes from earlier records, which no ruleset accepts.
    """

    design: str
    arms: Arms
    looks: tuple[int, ...]
    control_seeds: int
    critical_t: tuple[float, ...]
    power: float
    detectable_gain: float | None
    pairs_from_share: float | None
    expected_seeds: float
    gpu_hours_expected: float
    gpu_hours_at_most: float
    cost_expected: float | None
    cost_at_most: float | None
    is_reading: bool

    @property
    def at_most(self) -> int:
        return self.looks[-1]


def designs(asked: Question) -> list[Row]:
    """Return the designs to choose from.

    They are: every fixed number of seeds up to the most; the number needed, where it is more; the sequential design;
    and, given a history, the two designs it would make cheaper. With a control that is rerun these are both in pairs and
    unpaired. Where control runs exist, they are against these, and of those with a rerun only the number needed and the
    sequential ones follow.
    """
    if asked.control_seeds:
        rows = _rows(asked, Arms.EXISTING, all_numbers=True)
        return rows + [row for arms in asked.rerun for row in _rows(asked, arms, all_numbers=False)]
    return [row for arms in asked.rerun or (Arms.NONE,) for row in _rows(asked, arms, all_numbers=True)]


def _rows(asked: Question, arms: Arms, *, all_numbers: bool) -> list[Row]:
    looks = tuple(range(asked.first_look, asked.max_seeds + 1))
    needed = seeds_needed(asked, arms)
    more = [needed] if needed is not None and (needed > asked.max_seeds or not all_numbers) else []
    rows = [_Choice(asked=asked, arms=arms, looks=(n,)).row() for n in (*(looks if all_numbers else ()), *more)]
    several = asked.may_look and len(looks) > 1
    if several:
        rows.append(_Choice(asked=asked, arms=arms, looks=looks, boundary=asked.boundary).row())
    if asked.history > 0 and arms is Arms.NONE and asked.known is None:
        n = seeds_needed(asked, arms, asked.history) or asked.max_seeds
        rows.append(_Choice(asked=asked, arms=arms, looks=(n,), history=asked.history).row())
        if several:
            assisted = _Choice(asked=asked, arms=arms, looks=looks, boundary=asked.boundary, history=asked.history)
            rows.append(assisted.row())
    return rows


def seeds_needed(asked: Question, arms: Arms = Arms.NONE, history: float = 0.0) -> int | None:
    """Return the fewest seeds that give a fixed test the wanted power; None when none up to MOST_SEEDS do.

    Power rises with n. Against few control runs it falls again, once Welch's test has hardly more df than theirs.
    """

    def power(n: int) -> float:
        return _Choice(asked=asked, arms=arms, looks=(n,), history=history).chance(asked.delta)

    low, peak = 1 if history else asked.first_look, MOST_SEEDS
    if arms is Arms.EXISTING and power(peak) < asked.power:
        peak = _first(lambda n: power(n + 1) <= power(n), low, MOST_SEEDS)
    if power(peak) < asked.power:
        return None
    return _first(lambda n: power(n) >= asked.power, low, peak)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first number from `low` on for which it holds; it holds from there to `high`, where it is not asked."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """One design to choose from, for a question. `history`: degrees of freedom taken from earlier records."""

    asked: Question
    arms: Arms
    looks: tuple[int, ...]
    boundary: str = FLAT
    history: float = 0.0

    @property
    def design(self) -> Design:
        existing = self.asked.control_seeds if self.arms is Arms.EXISTING else 0
        in_step = self.arms is Arms.UNPAIRED
        return Design(looks=self.looks, control=existing, in_step=in_step, history_df=self.history)

    @property
    def name(self) -> str:
        kind = "fixed" if len(self.looks) == 1 else f"sequential, {self.boundary}"
        return ", ".join(word for word in (kind, self.arms, "history-assisted" if self.history else "") if word)

    @property
    def control(self) -> int:
        """Return the runs of the control at the last look."""
        return {Arms.NONE: 0, Arms.EXISTING: self.asked.control_seeds}.get(self.arms, self.looks[-1])

    @cached_property
    def criticals(self) -> tuple[float, ...]:
        if self.asked.known is not None:
            return (self.asked.known.critical,)
        return sequential.boundary(self.design, self.asked.alpha, self.boundary)

    def chance(self, delta: float) -> float:
        """Return the chance of passing with this gain in sd."""
        asked, n = self.asked, self.looks[-1]
        if asked.known is not None:
            return self._chance_of_z(asked.known, delta)
        if self.arms is Arms.PAIRS:
            return self.chance_of_pairs(delta, asked.share or 0.0)
        if self.arms is Arms.EXISTING and len(self.looks) > 1:
            return simulated(self.design, self.criticals).power(delta)
        if self.control and len(self.looks) == 1 and asked.against_runs != "pooled":
            both = asked.against_runs == "both"
            return fixed.power_against(n, self.control, asked.alpha, delta, also_pooled=both)
        return sequential.power(self.design, self.criticals, delta)

    def chance_of_pairs(self, delta: float, share: float) -> float:
        """Return the chance where pairs share so much of the variance."""
        return sequential.power(self.design, self.criticals, delta / scatter_of_pairs(share))

    def _chance_of_z(self, known: Normal, delta: float) -> float:
        from scipy.special import ndtr

        error = math.sqrt(1 / self.looks[-1] + (1 / self.control if self.control else 0))
        return float(ndtr(delta / error - known.critical * known.sigma / self.asked.spread.sd))

    def expected_seeds(self) -> float:
        delta = self.asked.delta
        if len(self.looks) == 1:
            return self.looks[0]
        if self.arms is Arms.EXISTING:
            return simulated(self.design, self.criticals).expected_seeds(delta)
        scatter = scatter_of_pairs(self.asked.share or 0.0) if self.arms is Arms.PAIRS else 1.0
        return sequential.expected_seeds(self.design, self.criticals, delta / scatter)

    def detectable_gain(self) -> float | None:
        """Return the smallest gain with the wanted chance, in the metric's unit; None beyond LARGEST_GAIN."""
        found = _least(self.chance, self.asked.power)
        return None if found is None else found * self.asked.spread.sd

    def pairs_from_share(self) -> float | None:
        """Return the share from which pairs pass as often as independent runs; None where the chances are too near 1.

        Pairs at share s have the chance of gain / sqrt(2 (1 - s)): find the gain that has the independent runs' chance.
        """
        if self.arms is not Arms.PAIRS or Arms.UNPAIRED not in self.asked.rerun:
            return None
        apart = _Choice(asked=self.asked, arms=Arms.UNPAIRED, looks=self.looks, boundary=self.boundary)
        wanted = apart.chance(self.asked.delta)
        enough = _least(lambda delta: self.chance_of_pairs(delta, 0.0), wanted) if wanted < SURE else None
        if enough is None:
            return None
        return max(1 - (self.asked.delta / enough) ** 2, 0.0) if enough > 0 else 0.0

    def row(self) -> Row:
        """Return what the design does."""
        asked, seeds = self.asked, self.expected_seeds()
        arms = 2 if self.arms in (Arms.PAIRS, Arms.UNPAIRED) else 1
        expected, at_most = (arms * n * asked.gpus * asked.minutes / 60 for n in (seeds, self.looks[-1]))
        price = asked.gpu_hour
        return Row(
            design=self.name,
            arms=self.arms,
            looks=self.looks,
            control_seeds=self.control,
            critical_t=self.criticals,
            power=self.chance(asked.delta),
            detectable_gain=self.detectable_gain(),
            pairs_from_share=self.pairs_from_share(),
            expected_seeds=seeds,
            gpu_hours_expected=expected,
            gpu_hours_at_most=at_most,
            cost_expected=None if price is None else expected * price,
            cost_at_most=None if price is None else at_most * price,
            is_reading=self.history > 0,
        )


def _least(chance: Callable[[float], float], wanted: float) -> float | None:
    """Return the least gain in sd with this chance; None beyond LARGEST_GAIN."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    def excess(delta: float) -> float:
        """Return how much likelier than wanted, as normal quantiles: nearly a straight line."""
        power = min(max(chance(delta), 1e-12), 1 - 1e-12)
        return float(ndtri(power) - ndtri(wanted))

    low, high = 0.0, 2.0
    if excess(low) >= 0:
        return low
    while excess(high) < 0 and high < LARGEST_GAIN:
        low, high = high, high * 3
    return float(brentq(excess, low, high, xtol=1e-8)) if excess(high) >= 0 else None
