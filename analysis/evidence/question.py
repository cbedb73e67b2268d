"""The options of `plan` to the question it answers: checked, with the spread from a number, pilot runs or history."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from analysis.evidence.compared import sample_of
from analysis.evidence.gather import gather
from analysis.evidence.history import read_history
from analysis.evidence.usable import check_results
from analysis.rules.ruleset import Ruleset, load
from analysis.stats.power import LARGEST_GAIN, Question
from analysis.stats.spread import Spread, sd_limit
from analysis.untrusted.refusal import EvidenceError, UsageError

PILOT_LIMIT = 0.8  # a pilot's sd is as likely too small as too large, and one too small costs power


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What `plan` was asked. None means not given.

    sd, pilot, history: the spread between seeds, from one of them. price: of a GPU hour. minutes: of one run.
    """

    gain: float
    sd: float | None
    pilot: Path | None
    history: Path | None
    rules: str
    alpha: float | None
    power: float
    max_seeds: int
    control_seeds: int
    boundary: str
    gpus: int | None
    minutes: float | None
    price: float | None


def question(options: PlanOptions) -> Question:
    """Return what was asked, checked, with the ruleset's values where an option is not given.

    Raises UsageError, RulesError, HistoryError, and EvidenceError for pilot runs that cannot be used.
    """
    rules = load(options.rules)
    if not rules.has_test:
        raise UsageError(f"--rules {options.rules}: it has no test, so one run is enough.")
    if not rules.is_t_test:
        raise UsageError(f"--rules {options.rules}: its test is {rules.test!r}; plan is for t-tests.")
    alpha = rules.alpha if options.alpha is None else options.alpha
    _check(options, alpha)
    planned = _planned_spread(options, rules)
    sd = planned.spread.sd
    if options.gain / sd > LARGEST_GAIN:
        raise UsageError(
            f"--gain {options.gain:g} is {options.gain / sd:.0f} sd of {sd:g}: any test shows it. Is the unit right?"
        )
    return Question(
        rules=rules.name,
        metric=rules.metric,
        alpha=alpha,
        gain=options.gain,
        spread=planned.spread,
        spread_is=planned.words,
        power=options.power,
        first_look=min(max(3, rules.minimum_runs), options.max_seeds),
        max_seeds=options.max_seeds,
        boundary=options.boundary,
        control_seeds=options.control_seeds,
        gpus=options.gpus or rules.world_size or 1,
        minutes=options.minutes or (rules.train_time_s or 600) / 60,
        gpu_hour=options.price,
        history=planned.history,
    )


def _check(options: PlanOptions, alpha: float) -> None:
    """Raise UsageError for numbers that cannot be meant, or unless one source of the spread is given."""
    gain, sd, power, minutes, price = options.gain, options.sd, options.power, options.minutes, options.price
    for name, value, fits, what in (
        ("gain", gain, 0 < gain < math.inf, "be above 0"),
        ("sd", sd, sd is None or 0 < sd < math.inf, "be above 0"),
        ("alpha", alpha, 1e-6 <= alpha <= 0.4, "be between 1e-6 and 0.4"),
        ("power", power, alpha < power <= 0.999, f"be between --alpha ({alpha:g}) and 0.999"),
        ("minutes", minutes, minutes is None or 0 < minutes < 1e6, "be above 0, and less than a million"),
        ("price", price, price is None or 0 <= price < 1e6, "be 0 or more, and less than a million"),
    ):
        if not fits:
            raise UsageError(f"--{name} is {value:g}; it must {what}.")
    if options.control_seeds == 1:
        raise UsageError("--control-seeds is 1; a spread needs 2 or more.")
    if sum(source is not None for source in (sd, options.pilot, options.history)) != 1:
        raise UsageError(
            "How far do seeds scatter? Give one of --sd S, --pilot PATH (runs) and --history FILE (records)."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedSpread:
    """The spread to plan with, where it is from, and how many degrees of freedom a history is worth."""

    spread: Spread
    words: str
    history: float = 0.0


def _planned_spread(options: PlanOptions, rules: Ruleset) -> _PlannedSpread:
    """Read the spread from its one source. Raises HistoryError and EvidenceError."""
    if options.sd is not None:
        return _PlannedSpread(spread=Spread(options.sd, math.inf), words="given")
    if options.history is not None:
        past = read_history(options.history)
        sds = [one.sd for one in past.records]
        words = f"pooled over {len(sds)} records of {min(sds):.2g} to {max(sds):.2g}"
        return _PlannedSpread(spread=past.pooled, words=words, history=past.prior.df)
    assert options.pilot is not None, "one source of the spread was given"
    gathered = gather([options.pilot], rules)
    if gathered.fault is not None:
        raise EvidenceError(f"--pilot {options.pilot}: {gathered.fault}")
    check_results(gathered.runs, str(options.pilot))
    sample = sample_of(rules, gathered.runs)
    return _PlannedSpread(
        spread=Spread(sd_limit(sample.sd, sample.n, PILOT_LIMIT), sample.n - 1),
        words=f"the upper 80% limit of {sample.n} pilot runs, whose sd is {sample.sd:.6g}",
    )
