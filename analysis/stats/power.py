"""What a design of a test can do: its chance of passing, the gain it can detect, its seeds and its GPU hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.stats import fixed, sequential
from analysis.stats.recursion import Design
from analysis.stats.sequential import FLAT
from analysis.stats.spread import Spread

MOST_SEEDS = 500  # the search for a fixed test ends here
LARGEST_GAIN = 30.0  # in sd; a larger one is a mistake in the unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is planned.

    - gain: how far the true mean is expected beyond the threshold, in the metric's unit, like spread.sd.
    - power: the chance of passing that is wanted.
    - control_seeds: runs of the SOTA itself; 0 where the SOTA is a number.
    - gpus, minutes: of one run. gpu_hour: the price of a GPU hour; None counts hours alone.
    - history: how many degrees of freedom earlier records are worth; 0 where there are none.
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
    control_seeds: int
    gpus: int
    minutes: float
    gpu_hour: float | None
    history: float = 0.0

    @property
    def delta(self) -> float:
        """Return the gain in standard deviations between seeds."""
        return self.gain / self.spread.sd

    def gpu_hours(self, seeds: float, design: Design) -> float:
        """Return the GPU hours of so many candidate seeds and of the control's."""
        return (seeds + (seeds if design.in_step else design.control)) * self.gpus * self.minutes / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One design and what it does.

    - power: the chance of passing at the gain that was asked for.
    - detectable_gain: the smallest gain with the wanted chance, in the metric's unit.
    - is_reading: the spread comes from earlier records, which no ruleset accepts.
    """

    design: str
    looks: tuple[int, ...]
    critical_t: tuple[float, ...]
    power: float
    detectable_gain: float | None
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
    and, given a history, the two designs it would make cheaper.

    Against control seeds, a fixed test is Welch's and the pooled one together. A sequential sweep runs the control in
    step with the candidate, with as many seeds.
    """
    looks = tuple(range(asked.first_look, asked.max_seeds + 1))
    needed = seeds_needed(asked)
    more = [needed] if needed is not None and needed > asked.max_seeds else []
    rows = [_Choice(asked=asked, looks=(n,)).row("fixed") for n in (*looks, *more)]
    in_sequence = f"sequential, {asked.boundary}"
    if len(looks) > 1:
        rows.append(_Choice(asked=asked, looks=looks, boundary=asked.boundary).row(in_sequence))
    if asked.history > 0:
        n = seeds_needed(asked, asked.history) or asked.max_seeds
        rows.append(_Choice(asked=asked, looks=(n,), history=asked.history).row("fixed, history-assisted"))
        if len(looks) > 1:
            assisted = _Choice(asked=asked, looks=looks, boundary=asked.boundary, history=asked.history)
            rows.append(assisted.row(f"{in_sequence}, history-assisted"))
    return rows


def seeds_needed(asked: Question, history: float = 0.0) -> int | None:
    """Return the fewest seeds that give a fixed test the wanted power; None when not even MOST_SEEDS do."""

    def power(n: int) -> float:
        return _Choice(asked=asked, looks=(n,), history=history).chance()(asked.delta)

    if asked.control_seeds and not history:  # more seeds against few control runs may pass less often, by Welch's df
        return next((n for n in range(2, 101) if power(n) >= asked.power), None)
    low, high = 1 if history and not asked.control_seeds else 2, MOST_SEEDS
    if power(high) < asked.power:
        return None
    while low < high:  # power rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= asked.power else (middle + 1, high)
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One design to choose from, for a question. `history`: degrees of freedom taken from earlier records."""

    asked: Question
    looks: tuple[int, ...]
    boundary: str = FLAT
    history: float = 0.0

    @property
    def design(self) -> Design:
        in_step = self.asked.control_seeds > 0 and len(self.looks) > 1
        control = 0 if in_step else self.asked.control_seeds
        return Design(looks=self.looks, control=control, in_step=in_step, history_df=self.history)

    @property
    def criticals(self) -> tuple[float, ...]:
        return sequential.boundary(self.design, self.asked.alpha, self.boundary)

    def chance(self) -> Callable[[float], float]:
        """Return the chance of passing as a function of the gain in sd."""
        asked = self.asked
        if len(self.looks) == 1 and asked.control_seeds and not self.history:
            return lambda delta: fixed.power_against(self.looks[0], asked.control_seeds, asked.alpha, delta)
        design, criticals = self.design, self.criticals
        return lambda delta: sequential.power(design, criticals, delta)

    def detectable_gain(self) -> float | None:
        """Return the smallest gain with the wanted chance, in the metric's unit; None beyond LARGEST_GAIN."""
        from scipy.optimize import brentq
        from scipy.special import ndtri

        chance = self.chance()

        def excess(delta: float) -> float:
            """Return how much likelier than wanted, as normal quantiles: nearly a straight line."""
            power = min(max(chance(delta), 1e-12), 1 - 1e-12)
            return float(ndtri(power) - ndtri(self.asked.power))

        low, high = 0.0, 2.0
        while excess(high) < 0 and high < LARGEST_GAIN:
            low, high = high, high * 3
        return brentq(excess, low, high, xtol=1e-6) * self.asked.spread.sd if excess(high) >= 0 else None

    def row(self, name: str) -> Row:
        """Return what the design does, under the name it is shown by."""
        asked, design, criticals = self.asked, self.design, self.criticals
        seeds = sequential.expected_seeds(design, criticals, asked.delta)
        expected, at_most = asked.gpu_hours(seeds, design), asked.gpu_hours(self.looks[-1], design)
        price = asked.gpu_hour
        return Row(
            design=name,
            looks=self.looks,
            critical_t=criticals,
            power=self.chance()(asked.delta),
            detectable_gain=self.detectable_gain(),
            expected_seeds=seeds,
            gpu_hours_expected=expected,
            gpu_hours_at_most=at_most,
            cost_expected=None if price is None else expected * price,
            cost_at_most=None if price is None else at_most * price,
            is_reading=self.history > 0,
        )
