"""Before paying: how many seeds are needed, what chance they have, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from analysis.evidence.compare import sample_of
from analysis.evidence.gather import EvidenceError, check_results, gather
from analysis.evidence.history import HistoryError, read_history
from analysis.reading.frame import finite_or_null
from analysis.report.text import text_table
from analysis.rules.ruleset import T_TEST, RulesError, Ruleset, load
from analysis.stats import fixed, sequential
from analysis.stats.recursion import Design
from analysis.stats.sequential import FLAT
from analysis.stats.spread import Spread, sd_limit
from analysis.untrusted.escape import json_text, printable
from analysis.verdict.looks import chance_in_words

MOST_SEEDS = 500  # a fixed test that needs more is not looked for
LARGEST_GAIN = 30.0  # in sd; a larger one is a mistake in the unit
PILOT_LIMIT = 0.8  # a pilot's sd is as likely too small as too large, and too small costs the power


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned. gain: how much better than the threshold the true mean is, in the metric's unit, like spread.sd;
    power: the chance of passing that is wanted; control_seeds: runs of the SOTA itself, 0 where it is a number.

    gpus and minutes are a run's, gpu_hour is the price of a GPU hour (None: hours alone are counted). history: how
    many degrees of freedom earlier records are worth, 0 where there are none.
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
        """The gain in standard deviations between seeds."""
        return self.gain / self.spread.sd

    def gpu_hours(self, seeds: float, design: Design) -> float:
        """Of so many candidate seeds and the control's."""
        return (seeds + (seeds if design.paired else design.control)) * self.gpus * self.minutes / 60


@dataclass(frozen=True, slots=True)
class Row:
    """One design. power: at the gain that was asked for; detectable_gain: what it passes with the wanted chance, in the
    metric's unit; is_reading: it takes the spread from earlier records, which no ruleset does."""

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
    """Every fixed number of seeds up to the most, the number needed where it is more, the sequential design, and with a
    history the two that it would make cheaper.

    Against control seeds a fixed test is Welch's and the pooled one together, and a sequential sweep runs the control in
    step, with as many seeds as the candidate.
    """
    looks = tuple(range(asked.first_look, asked.max_seeds + 1))
    rows = [_row(asked, "fixed", (n,)) for n in looks]
    if (needed := seeds_needed(asked)) is not None and needed > asked.max_seeds:
        rows.append(_row(asked, "fixed", (needed,)))
    if len(looks) > 1:
        rows.append(_row(asked, f"sequential, {asked.boundary}", looks, asked.boundary))
    if asked.history > 0:
        needed = seeds_needed(asked, asked.history)
        rows.append(_row(asked, "fixed, history-assisted", (needed or asked.max_seeds,), history=asked.history))
        if len(looks) > 1:
            rows.append(
                _row(asked, f"sequential, {asked.boundary}, history-assisted", looks, asked.boundary, asked.history)
            )
    return rows


def seeds_needed(asked: Question, history: float = 0.0) -> int | None:
    """The fewest seeds of a fixed test with the wanted power; None when not even MOST_SEEDS have it."""

    def power(n: int) -> float:
        return _chance(asked, (n,), FLAT, history)(asked.delta)

    if asked.control_seeds and not history:  # more seeds against few control runs may pass less often, by Welch's df
        return next((n for n in range(2, 101) if power(n) >= asked.power), None)
    low, high = 1 if history and not asked.control_seeds else 2, MOST_SEEDS
    if power(high) < asked.power:
        return None
    while low < high:  # power rises with n
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= asked.power else (middle + 1, high)
    return low


def _chance(asked: Question, looks: tuple[int, ...], kind: str, history: float) -> Callable[[float], float]:
    """The chance of passing, as a function of the gain in sd."""
    if len(looks) == 1 and asked.control_seeds and not history:
        return lambda delta: fixed.power_against(looks[0], asked.control_seeds, asked.alpha, delta)
    design = _design(asked, looks, history)
    criticals = sequential.boundary(design, asked.alpha, kind)
    return lambda delta: sequential.power(design, criticals, delta)


def _design(asked: Question, looks: tuple[int, ...], history: float) -> Design:
    in_step = asked.control_seeds > 0 and len(looks) > 1
    return Design(looks, 0 if in_step else asked.control_seeds, in_step, history)


def _row(asked: Question, name: str, looks: tuple[int, ...], kind: str = FLAT, history: float = 0.0) -> Row:
    from scipy.optimize import brentq
    from scipy.special import ndtri

    design, chance = _design(asked, looks, history), _chance(asked, looks, kind, history)
    criticals = sequential.boundary(design, asked.alpha, kind)

    def excess(delta: float) -> float:
        """How much likelier than wanted, as normal quantiles: nearly a straight line."""
        power = min(max(chance(delta), 1e-12), 1 - 1e-12)
        return float(ndtri(power) - ndtri(asked.power))

    low, high = 0.0, 2.0
    while excess(high) < 0 and high < LARGEST_GAIN:
        low, high = high, high * 3
    detectable = brentq(excess, low, high, xtol=1e-6) * asked.spread.sd if excess(high) >= 0 else None
    seeds = sequential.expected_seeds(design, criticals, asked.delta)
    hours = asked.gpu_hours(seeds, design), asked.gpu_hours(looks[-1], design)
    costs = [None if asked.gpu_hour is None else one * asked.gpu_hour for one in hours]
    power = chance(asked.delta)
    return Row(name, looks, criticals, power, detectable, seeds, *hours, costs[0], costs[1], history > 0)


def recommendation(asked: Question, rows: list[Row]) -> str:
    """What to do, in a sentence: the design that is expected to cost least of those with the wanted power."""
    usable = [row for row in rows if not row.is_reading]
    enough = [row for row in usable if row.power >= asked.power and row.at_most <= asked.max_seeds]
    fixed = next((row for row in enough if len(row.looks) == 1), None)
    if not enough:
        best = max((row for row in usable if row.at_most <= asked.max_seeds), key=lambda row: row.power)
        needed = next((row.at_most for row in usable if len(row.looks) == 1 and row.at_most > asked.max_seeds), None)
        more = (
            f"a fixed test needs {needed} seeds" if needed else f"not even {MOST_SEEDS} seeds of a fixed test have it"
        )
        return (
            f"No design of at most {asked.max_seeds} seeds passes with a chance of {asked.power:g}: the best, "
            f"{_named(best)}, has {chance_in_words(best.power)}; {more}. Look for a larger gain or a smaller spread."
        )
    best = min(enough, key=lambda row: (row.gpu_hours_expected, len(row.looks)))
    words = f"Plan {_named(best)}: it passes with a chance of {chance_in_words(best.power)}"
    if len(best.looks) == 1:
        words += f" and takes {_costs(asked, best.at_most, best.cost_at_most, best.gpu_hours_at_most)}"
        other = next((row for row in enough if len(row.looks) > 1 and row.power > best.power), None)
        if other is None:
            return f"{words}."
        return (
            f"{words}. {_named(other).capitalize()} take {_costs(asked, other.expected_seeds, other.cost_expected, other.gpu_hours_expected)} "
            f"on average, {other.at_most} seeds at most, and pass with a chance of {chance_in_words(other.power)}."
        )
    words += f" and takes {_costs(asked, best.expected_seeds, best.cost_expected, best.gpu_hours_expected)} on average"
    words += f", {_costs(asked, best.at_most, best.cost_at_most, best.gpu_hours_at_most)} at most"
    if fixed is None:
        return f"{words}; no fixed test of at most {asked.max_seeds} seeds has {asked.power:g}."
    return f"{words}; a fixed test needs {_costs(asked, fixed.at_most, fixed.cost_at_most, fixed.gpu_hours_at_most)}."


def _named(row: Row) -> str:
    if len(row.looks) == 1:
        return f"a fixed test of {row.at_most} seeds"
    return f"looks after each of seeds {row.looks[0]} to {row.looks[-1]} ({row.design.removeprefix('sequential, ')} boundary)"


def _costs(asked: Question, seeds: float, cost: float | None, hours: float) -> str:
    seeds_in_words = f"{seeds:.1f}".removesuffix(".0") + " seeds"
    if asked.control_seeds:
        seeds_in_words += " and the control's"
    return f"{seeds_in_words} ({hours:.4g} GPU hours)" if cost is None else f"{seeds_in_words} ({cost:.2f})"


def as_text(asked: Question, rows: list[Row]) -> str:
    """The table for people, and what to do."""
    per_run = asked.gpus * asked.minutes / 60
    price = "" if asked.gpu_hour is None else f", {per_run * asked.gpu_hour:.2f} at {asked.gpu_hour:g} a GPU hour"
    against = (
        f"{asked.control_seeds} control seed{'s' * (asked.control_seeds > 1)}"
        if asked.control_seeds
        else "a SOTA number, taken as exact"
    )
    df = "" if math.isinf(asked.spread.df) else f", {asked.spread.df:g} degrees of freedom"
    facts = [
        ("gain beyond the threshold", f"{asked.gain:g} {asked.metric}, {asked.delta:.3f} sd"),
        ("sd between seeds", f"{asked.spread.sd:.6g} ({asked.spread_is}{df})"),
        ("test", f"p < {asked.alpha:g} by the rules {printable(asked.rules)}, against {against}"),
        ("one run", f"{asked.gpus} GPUs x {asked.minutes:g} min = {per_run:.4g} GPU hours{price}"),
    ]
    unit = "GPU hours" if asked.gpu_hour is None else "cost"
    head = ("design", "seeds at most", "chance of passing", "expected seeds", f"{unit} expected", f"{unit} at most",
            f"smallest gain with chance {asked.power:g}")  # fmt: skip
    cells = [
        (row.design, str(row.at_most), f"{row.power:.4f}", f"{row.expected_seeds:.2f}",
         _amount(row.gpu_hours_expected, row.cost_expected), _amount(row.gpu_hours_at_most, row.cost_at_most),
         "-" if row.detectable_gain is None else f"{row.detectable_gain:.6f}")
        for row in rows
    ]  # fmt: skip
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    lines += ["", *text_table(head, cells), "", recommendation(asked, rows)]
    return "\n".join([*lines, *(f"assumes: {one}" for one in assumptions(asked, rows))]) + "\n"


def _amount(hours: float, cost: float | None) -> str:
    return f"{hours:.2f}" if cost is None else f"{cost:.2f}"


def assumptions(asked: Question, rows: list[Row]) -> list[str]:
    """What must be true for the table to come true."""
    lines = ["The sd is the true one; if it is twice as large, the gain is half as many sd."]
    if asked.control_seeds:
        lines.append("The control scatters like the candidate; a sequential sweep runs it in step, seed by seed.")
    if asked.history > 0:
        lines.append("Records that passed have small spreads by selection: the true sd is larger than the pooled one.")
    if not asked.control_seeds:
        lines.append("The SOTA's own noise does not count; --control-seeds N plans with its rerun.")
    if any(row.is_reading for row in rows):
        lines.append(
            "History-assisted: the spread is like the earlier records'. No ruleset accepts it as the verdict; report shows it beside a fixed one."
        )
    return lines


def as_json(asked: Question, rows: list[Row]) -> str:
    table = {
        "schema_version": 1,
        **asdict(asked),
        "delta": asked.delta,
        "designs": [asdict(row) | {"at_most": row.at_most} for row in rows],
        "recommendation": recommendation(asked, rows),
        "assumes": assumptions(asked, rows),
    }
    return json_text(finite_or_null(table))


def question(
    gain: float, sd: float | None, pilot: Path | None, history: Path | None, rules: str, alpha: float | None,
    power: float, max_seeds: int, control_seeds: int, boundary: str, gpus: int | None, minutes: float | None,
    price: float | None,
) -> Question:  # fmt: skip
    """What was asked on the command line, checked. Raises click.UsageError."""
    try:
        ruleset = load(rules)
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    if ruleset.test != T_TEST:
        raise click.UsageError(f"--rules {rules}: its spread is known ({ruleset.sigma}); planning is for t-tests.")
    level = ruleset.alpha if alpha is None else alpha
    wrong = [
        f"--{name} is {value:g}; it must {what}."
        for name, value, fits, what in (
            ("gain", gain, 0 < gain < math.inf, "be above 0"),
            ("sd", sd, sd is None or 0 < sd < math.inf, "be above 0"),
            ("alpha", level, 1e-6 <= level <= 0.4, "lie between 1e-6 and 0.4"),
            ("power", power, level < power <= 0.999, f"lie between --alpha ({level:g}) and 0.999"),
            ("minutes", minutes, minutes is None or 0 < minutes < 1e6, "be above 0, and less than a million"),
            ("price", price, price is None or 0 <= price < 1e6, "be 0 or more, and less than a million"),
        )
        if not fits
    ]
    if wrong:
        raise click.UsageError(wrong[0])
    if control_seeds == 1:
        raise click.UsageError("--control-seeds is 1; a spread takes 2 or more.")
    if sum(source is not None for source in (sd, pilot, history)) != 1:
        raise click.UsageError(
            "How far do seeds scatter? Give one of --sd S, --pilot PATH (runs) and --history FILE (records)."
        )
    spread, spread_is, worth = _spread(ruleset, sd, pilot, history)
    if gain / spread.sd > LARGEST_GAIN:
        raise click.UsageError(
            f"--gain {gain:g} is {gain / spread.sd:.0f} sd of {spread.sd:g}: any test shows it. Is the unit right?"
        )
    return Question(
        ruleset.name, ruleset.metric, level, gain, spread, spread_is, power, min(max(3, ruleset.minimum_runs), max_seeds),
        max_seeds, boundary, control_seeds, gpus or ruleset.world_size or 1, minutes or (ruleset.train_time_s or 600) / 60,
        price, worth,
    )  # fmt: skip


def _spread(rules: Ruleset, sd: float | None, pilot: Path | None, history: Path | None) -> tuple[Spread, str, float]:
    """The spread to plan with, where it is from, and how many degrees of freedom a history is worth."""
    if sd is not None:
        return Spread(sd, math.inf), "given", 0.0
    try:
        if history is not None:
            past = read_history(history)
            sds = [one.sd for one in past.records]
            range_ = f"{min(sds):.2g} to {max(sds):.2g}"
            return past.pooled, f"pooled over {len(sds)} records of {range_}", past.prior.df
        assert pilot is not None, "one source of the spread was given"
        evidence = gather([pilot], rules)
        if evidence.fault is not None:
            raise EvidenceError(f"--pilot {pilot}: {evidence.fault}")
        check_results(evidence.results, str(pilot))
        sample = sample_of(rules, evidence.results)
    except HistoryError as error:
        raise click.UsageError(str(error)) from None
    limit = sd_limit(sample.sd, sample.n, PILOT_LIMIT)
    return (
        Spread(limit, sample.n - 1),
        f"the upper 80% limit of {sample.n} pilot runs, whose sd is {sample.sd:.6g}",
        0.0,
    )
