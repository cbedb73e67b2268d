"""The options of `plan` to the question it answers: checked, with the spread from a number, pilot runs or history."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.special import ndtri

from analysis.evidence.compared import sample_of, values_of
from analysis.evidence.gather import Gathered, gather
from analysis.evidence.history import read_history
from analysis.evidence.usable import check_results
from analysis.rules.keys import AGAINST_RUNS, COMPARISON, EARLIEST, PAIRED, POOLED, TARGET, WELCH, Z_TEST
from analysis.rules.ruleset import USUAL, Ruleset, load
from analysis.stats.fixed import StatisticsError
from analysis.stats.power import LARGEST_GAIN, Arms, Normal, Question
from analysis.stats.spread import Spread, sd_limit
from analysis.stats.two_arms import share_of
from analysis.untrusted.refusal import EvidenceError, UsageError

PILOT_LIMIT = 0.8  # a pilot's sd is as likely too small as too large, and one too small costs power


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What `plan` was asked. None means not given.

    sd, pilot, history: the spread between seeds, from one of them. control: the SOTA is rerun. control_seeds: its runs that
    exist. share: the part of the variance that a pair shares. price: of a GPU hour. minutes: of one run.
    """

    gain: float
    sd: float | None
    pilot: Path | None
    history: Path | None
    rules: str
    alpha: float | None
    power: float
    max_seeds: int
    control: bool
    control_seeds: int | None
    share: float | None
    boundary: str
    gpus: int | None
    minutes: float | None
    price: float | None


def question(options: PlanOptions) -> Question:
    """Return what was asked, checked, with the ruleset's values where an option is not given.

    Raises UsageError, RulesError, HistoryError, and EvidenceError for pilot runs that cannot be used.
    """
    rules = load(options.rules)
    _check_rules(options, rules)
    alpha = rules.alpha if options.alpha is None else options.alpha
    _check(options, rules, alpha)
    rerun = _rerun(options, rules)
    pilot = _gathered(options.pilot, rules) if options.pilot is not None else None
    planned = _planned_spread(options, rules, pilot)
    share = _share(options, rules, pilot) if Arms.PAIRS in rerun else _PlannedShare()
    _check_gain(options.gain, planned.spread.sd)
    return Question(
        rules=rules.name,
        metric=rules.metric,
        alpha=alpha,
        gain=options.gain,
        spread=planned.spread,
        spread_is=planned.words,
        power=options.power,
        first_look=min(max(3 if rules.is_t_test else 1, rules.minimum_runs), options.max_seeds),
        max_seeds=options.max_seeds,
        boundary=options.boundary,
        gpus=options.gpus or rules.world_size or 1,
        minutes=options.minutes or (rules.train_time_s or 600) / 60,
        gpu_hour=options.price,
        target=rules.target if not rerun else None,
        rerun=rerun,
        control_seeds=options.control_seeds or 0,
        **asdict(share),
        known=_known(rules, alpha),
        against_runs=rules.test if rules.test in (WELCH, POOLED) else "both",
        may_look=rules.may_look,
        history=planned.history,
        notes=tuple(_notes(rules)),
        options=_shared_with_sweep(options),
    )


# -- what the rules ask --------------------------------------------------------------------------------------------------


def _check_rules(options: PlanOptions, rules: Ruleset) -> None:
    """Raise UsageError for rules without a test to plan, and for options that do not fit the test they have."""
    named = f"--rules {options.rules}"
    if not rules.has_test:
        raise UsageError(f"{named}: it has no test, so one run is enough.")
    if rules.test == COMPARISON:
        raise UsageError(
            f"{named}: it compares the {rules.statistic} of the runs with {rules.against or 'what must be beaten'}, and has no "
            f"level. There is no test to plan: one lucky run passes, and more runs only make luck rarer."
        )
    if rules.minimum_runs > options.max_seeds:
        raise UsageError(
            f"--max-seeds is {options.max_seeds}; {rules.name} asks for {rules.minimum_runs} runs or more."
        )
    if options.alpha is not None and rules.scaled_gain is not None:
        raise UsageError(f"--alpha: {rules.name} passes at its own critical value (scaled_gain), not at a level.")


def _known(rules: Ruleset, alpha: float) -> Normal | None:
    if rules.sigma is None:
        return None
    critical = -float(ndtri(alpha)) if rules.scaled_gain is None else rules.scaled_gain / rules.sigma
    return Normal(sigma=rules.sigma, critical=critical)


def _notes(rules: Ruleset) -> Iterator[str]:
    if also := [f"{one.name} ({one.metric})" for one in rules.criteria if one.waives is None]:
        yield f"Only the first test is planned. {rules.name} also asks for {', '.join(also)}."
    if rules.at_step == EARLIEST:
        yield "The chance is that of one step, named beforehand. A claim of the earliest step that passes has more chances."


def _rerun(options: PlanOptions, rules: Ruleset) -> tuple[Arms, ...]:
    """Return how the control may be run with the candidate, the usual way first; nothing where a number must be beaten.

    Rules that compare with runs need a control without being asked. Raises UsageError where they have no use for one.
    """
    is_asked = options.control or options.control_seeds or rules.test in AGAINST_RUNS
    ways = {PAIRED: (Arms.PAIRS,)} | dict.fromkeys((WELCH, POOLED, Z_TEST), (Arms.UNPAIRED,))
    rerun = ways.get(rules.test, (Arms.PAIRS, Arms.UNPAIRED)) if is_asked else ()
    _check_control(options, rules, rerun)
    return rerun


def _check_control(options: PlanOptions, rules: Ruleset, rerun: tuple[Arms, ...]) -> None:
    """Raise UsageError for a control, or a share, that the test of the rules has no use for."""
    k = options.control_seeds
    if k is not None and k < rules.fewest_runs:
        needed = f"{rules.name} needs {rules.fewest_runs} or more"
        raise UsageError(f"--control-seeds is {k}; {needed}. Leave it out if no control run exists.")
    if rerun and rules.against == TARGET:
        asked = "--control" if options.control else "--control-seeds"
        raise UsageError(
            f"{asked}: {rules.name} tests against its own target, {rules.target:g}, not against a control."
        )
    if k is not None and rules.test == PAIRED:
        raise UsageError(f"--control-seeds: {rules.name} tests pairs, and no pair exists yet. Plan with --control.")
    if options.share is not None and Arms.PAIRS not in rerun:
        why = f"the test of {rules.name} is {rules.test!r}" if rerun else "add --control to plan a rerun of the SOTA"
        raise UsageError(f"--share is what the two runs of a pair have in common, and no pairs are planned: {why}.")


def _shared_with_sweep(options: PlanOptions) -> tuple[str, ...]:
    """Return the options that `sweep run` has too, where they are not the usual ones."""
    alpha = [] if options.alpha is None else ["--alpha", f"{options.alpha:g}"]
    return (*([] if options.rules == USUAL else ["--rules", str(options.rules)]), *alpha)


def _check(options: PlanOptions, rules: Ruleset, alpha: float) -> None:
    """Raise UsageError for numbers that cannot be meant, or unless one source of the spread is given."""
    gain, sd, power, share = options.gain, options.sd, options.power, options.share
    for name, value, fits, what in (
        ("gain", gain, 0 < gain < math.inf, "be above 0, and finite"),
        ("sd", sd, sd is None or 0 < sd < math.inf, "be above 0, and finite"),
        ("alpha", alpha, 1e-6 <= alpha <= 0.4, "be between 1e-6 and 0.4"),
        ("power", power, alpha < power <= 0.999, f"be between --alpha ({alpha:g}) and 0.999"),
        ("share", share, share is None or 0 <= share < 1, "be 0 or more, and less than 1"),
        ("minutes", options.minutes, options.minutes is None or 0 < options.minutes < 1e6, _UP_TO_A_MILLION),
        (
            "price",
            options.price,
            options.price is None or 0 <= options.price < 1e6,
            _UP_TO_A_MILLION.replace("above 0", "0 or more"),
        ),
    ):
        if not fits:
            raise UsageError(f"--{name} is {value:g}; it must {what}.")
    sources = sum(source is not None for source in (sd, options.pilot, options.history))
    if sources > 1 or (sources == 0 and rules.sigma is None):
        raise UsageError(
            "How far do seeds scatter? Give one of --sd S, --pilot PATH (runs) and --history FILE (records)."
        )


_UP_TO_A_MILLION = "be above 0, and less than a million"


# -- the spread, and what pairs share ------------------------------------------------------------------------------------


def _check_gain(gain: float, sd: float) -> None:
    if gain / sd > LARGEST_GAIN:
        raise UsageError(f"--gain {gain:g} is {gain / sd:.0f} sd of {sd:g}: any test shows it. Is the unit right?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedSpread:
    """The spread to plan with, where it is from, and how many degrees of freedom a history is worth."""

    spread: Spread
    words: str
    history: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedShare:
    """The share to plan with, None where it is unknown, and where it is from. share_shown: by a pilot, which decides about pairs."""

    share: float | None = None
    share_shown: float | None = None
    share_is: str = "unknown"


def _gathered(pilot: Path, rules: Ruleset) -> Gathered:
    """Read pilot runs. Raises EvidenceError where they are no sample."""
    gathered = gather([pilot], rules)
    if gathered.fault is not None:
        raise EvidenceError(f"--pilot {pilot}: {gathered.fault}")
    check_results(gathered.runs, str(pilot))
    return gathered


def _planned_spread(options: PlanOptions, rules: Ruleset, pilot: Gathered | None) -> _PlannedSpread:
    """Return the spread of its one source. Raises HistoryError and EvidenceError."""
    if options.sd is not None:
        return _PlannedSpread(spread=Spread(options.sd, math.inf), words="given")
    if options.history is not None:
        past = read_history(options.history)
        sds = [one.sd for one in past.records]
        words = f"pooled over {len(sds)} records of {min(sds):.2g} to {max(sds):.2g}"
        return _PlannedSpread(spread=past.pooled, words=words, history=past.prior.df)
    if pilot is None:
        assert rules.sigma is not None, "one source of the spread was given"
        return _PlannedSpread(spread=Spread(rules.sigma, math.inf), words=f"known by {rules.name}")
    sample = sample_of(rules, pilot.runs)
    return _PlannedSpread(
        spread=Spread(sd_limit(sample.sd, sample.n, PILOT_LIMIT), sample.n - 1),
        words=f"the upper 80% limit of {sample.n} pilot runs, whose sd is {sample.sd:.6g}",
    )


def _share(options: PlanOptions, rules: Ruleset, pilot: Gathered | None) -> _PlannedShare:
    """Return the share that is given, or the lower limit of what a pilot of two arms with the same seeds shows.

    A share that is planned too large costs power, like an sd that is too small. Whether to pair is decided by the share
    that the pilot shows: four pairs whose true share is 0.5 have a limit below 0.28 in two of three cases.
    """
    if options.share is not None:
        return _PlannedShare(share=options.share, share_is="given")
    if pilot is None:
        return _PlannedShare()
    control = {run.seed: run for run in pilot.control if run.succeeded and run.seed is not None}
    pairs = [(run, control[run.seed]) for run in pilot.runs if run.succeeded and run.seed in control]
    if len(pairs) < 2:
        return _PlannedShare(share_is="unknown: the pilot has no pairs, runs of both arms with the same seeds")
    ours, theirs = (values_of(rules, arm) for arm in zip(*pairs, strict=True))
    try:
        found = share_of(ours, theirs, PILOT_LIMIT)
    except StatisticsError as error:
        raise EvidenceError(f"--pilot {options.pilot}: its pairs show no share. {error}") from None
    return _PlannedShare(
        share=max(found.low, 0.0),
        share_shown=max(found.found, 0.0),
        share_is=f"the lower 80% limit of {found.pairs} pairs of the pilot, which show {found.found:.2f}",
    )
