"""The sequential verdict: seeds looked at in their planned order, until the boundary is crossed or the plan is used up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis import sequential, stats
from analysis.chain import Design, log_likelihood_ratio
from analysis.compare import Compared, compare, rules_test
from analysis.evidence import EvidenceError
from analysis.readings import in_both_units, open_ended
from analysis.rules import Z_TEST, Ruleset
from analysis.runs import Result
from analysis.sweepdir import MOST_LOOKS
from analysis.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, Looks, Reading, format_p, outcome, percent

FIRST_LOOK, LAST_LOOK = 3, 10  # where no plan says otherwise
SURE = 30.0  # sd; a larger gain has no larger chance
SMALLEST_ALPHA, LARGEST_ALPHA = 1e-6, 0.4  # of a boundary
GAINS = 10  # that the chance of passing is averaged over


@dataclass(frozen=True, slots=True)
class LookPlan:
    """When to look: after so many seeds. seeds: the planned ones in order, empty where no plan names them; paired: the
    control's seeds are run in step with the candidate's.

    Without a plan the order of the runs is anybody's choice: all of them are then taken at one look.
    """

    looks: tuple[int, ...]
    boundary: str = sequential.FLAT
    seeds: tuple[int, ...] = ()
    paired: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """What looking has come to: a verdict, the numbers at the last look that counts (None before the first), and why."""

    verdict: str
    reason: str
    looks: Looks
    compared: Compared | None = None
    test: stats.Test | None = None
    upper_bound: float | None = None


def default_plan(rules: Ruleset, runs: int) -> LookPlan:
    """After each of seeds 3 to 10, or to 30 where there are more than 10 runs; a ruleset may ask for more than 3."""
    first = max(FIRST_LOOK, rules.minimum_runs)
    return LookPlan(tuple(range(first, (LAST_LOOK if runs <= LAST_LOOK and first < LAST_LOOK else MOST_LOOKS) + 1)))


def look(rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan) -> Looked:
    """The verdict at the runs that are there, in order. Raises EvidenceError when they cannot be tested.

    A failed run counts as a loss, unless the boundary was crossed before it. Runs after the crossing do not count.
    """
    if rules.test == Z_TEST:
        raise EvidenceError(f"A sequential design needs a t-test; the rules {rules.name} have a {Z_TEST}-test.")
    if not SMALLEST_ALPHA <= rules.alpha <= LARGEST_ALPHA:
        raise EvidenceError(
            f"A sequential design needs an alpha from {SMALLEST_ALPHA:g} to {LARGEST_ALPHA:g}; it is {rules.alpha:g}."
        )
    if not plan.seeds and len(results) > plan.looks[-1]:
        raise EvidenceError(f"Without a plan at most {plan.looks[-1]} runs can be looked at; there are {len(results)}.")
    against = bool(control) and sota is None
    pairs = plan.paired and against
    good = min(_unbroken(results), _unbroken(control)) if pairs else _unbroken(results)
    design = Design(plan.looks, 0 if pairs or not against else len(control), pairs)
    criticals = sequential.boundary(design, rules.alpha, plan.boundary)
    compared: Compared | None = None
    ts: list[float] = []
    for n, critical in zip(design.looks, criticals, strict=True):
        if n > good:
            break
        ts.append(-math.inf)
        if not plan.seeds and n < good:
            continue
        compared = compare(rules, results[:n], sota, control[:n] if pairs else control)
        ts[-1] = _t(compared, design.degrees(n))
        if ts[-1] >= critical:
            break
    looks = Looks(design.looks, plan.boundary, design.looks[len(ts) - 1] if ts else 0)
    lost = next((run for run in [*results, *(control if pairs else [])] if run.state == "failed"), None)
    if compared is None:
        return _before_the_first(good, lost, plan, looks)
    return _at_a_look(rules, design, criticals, plan, compared, ts, lost, looks)


def other_readings(
    rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan, looked: Looked
) -> list[Reading]:
    """The same looks with the margin in the other unit, Welch's test at this look, all runs at once, the open-ended test."""
    if looked.compared is None or looked.test is None:
        return []
    found = []
    for one in in_both_units(rules, results[: looked.looks.taken])[1:]:
        other = look(one, results, sota, control, plan)
        if other.compared is not None and other.test is not None:
            reading = f"margin of {one.margin:g} {one.unit}, after {other.looks.taken} runs"
            assumes = f"the leaderboard meant {one.unit}; converted by the runs' own val_bpb / val_loss"
            found.append(
                Reading(reading, assumes, one.margin, one.unit, other.compared.threshold, other.verdict, other.test)
            )
    mine = looked.compared
    if mine.control is not None and looked.looks.nominal_p is not None:
        welch = stats.welch_t(mine.sample, mine.control, mine.margin)
        passed = outcome(welch.p_value < looked.looks.nominal_p)
        assumes = f"spreads may differ; at this look's own {looked.looks.nominal_p:.4g}"
        found.append(Reading("Welch at this look", assumes, rules.margin, rules.unit, mine.threshold, passed, welch))
    if looked.looks.taken < len(results) and all(run.state == "succeeded" for run in results):
        whole = compare(rules, results, sota, control)
        test, _, passed_all = rules_test(rules, whole)
        assumes = "the number of runs was fixed beforehand; those after the verdict count too"
        found.append(
            Reading(
                f"all {len(results)} runs at once",
                assumes,
                rules.margin,
                rules.unit,
                whole.threshold,
                outcome(passed_all),
                test,
            )
        )
    return [*found, open_ended(rules, mine)]


def _unbroken(results: list[Result]) -> int:
    """How many runs there are before the first that failed."""
    return next((i for i, run in enumerate(results) if run.state == "failed"), len(results))


def _t(compared: Compared, df: float) -> float:
    """t in the direction of improvement. Against a control of another size Welch's test must pass too: then the t whose p
    is the larger of the two, since pooling is loose when the smaller sample scatters more."""
    sample, control = compared.sample, compared.control
    if control is None:
        return -stats.one_sample_t(sample, compared.threshold).statistic
    pooled = stats.pooled_t(sample, control, compared.margin)
    if sample.n == control.n:
        return -pooled.statistic
    welch = stats.welch_t(sample, control, compared.margin)
    return min(-pooled.statistic, -float(stdtrit(df, max(welch.p_value, 1e-300))))


def _before_the_first(good: int, lost: Result | None, plan: LookPlan, looks: Looks) -> Looked:
    if lost is not None:
        return Looked(NOT_SUPPORTED, _loss(lost), looks)
    first, most = plan.looks[0], plan.looks[-1]
    looks = replace(looks, next_look=first, next_seeds=list(plan.seeds[good:first]))
    there = f"{good} of at most {most} seeds {'is' if good == 1 else 'are'} there; the first look is at {first}."
    return Looked(CONTINUE, f"{there} {_next(looks, good)}", looks)


def _at_a_look(
    rules: Ruleset, design: Design, criticals: tuple[float, ...], plan: LookPlan, compared: Compared,
    ts: list[float], lost: Result | None, looks: Looks,
) -> Looked:  # fmt: skip
    k, t, n = len(ts) - 1, ts[-1], looks.taken
    df = design.degrees(n)
    bound = compared.sample.mean + criticals[k] * stats.standard_error(compared.sample, compared.control)
    own, nominal = float(stdtr(df, -t)), float(stdtr(df, -criticals[k]))
    looks = replace(looks, p_value=own, critical=-criticals[k], nominal_p=nominal)
    test = stats.Test("group-sequential t", -t, df, sequential.sequential_p(design, ts, plan.boundary))
    against = f" against {compared.control.n} control runs" if compared.control else ""
    at = f"the look at {n} of at most {design.looks[-1]} runs{against}"
    mean = f"The mean {rules.metric}, {compared.sample.mean:.8f},"
    numbers = f"t = {-t:.4f}, df {df:g}, its own p {format_p(own)}"
    tail = f"sequential p {format_p(test.p_value)}; {percent(1 - rules.alpha)} upper bound {bound:.8f}, valid at every look."
    if t >= criticals[k]:
        looks = replace(looks, stagewise_p=sequential.stagewise_p(design, criticals, k, t))
        reason = f"{mean} is below {compared.threshold:.8f} at {at}: {numbers} is below {nominal:.4g}; {tail}"
        return Looked(SUPPORTED, reason, looks, compared, test, bound)
    if lost is not None:
        return Looked(NOT_SUPPORTED, _loss(lost), looks, compared, test, bound)
    if k == len(design.looks) - 1:
        reason = f"{mean} is not below {compared.threshold:.8f} at {at}, the last: {numbers} is not below {nominal:.4g}; {tail}"
        return Looked(NOT_SUPPORTED, reason, looks, compared, test, bound)
    looks = replace(
        looks,
        next_look=design.looks[k + 1],
        next_seeds=list(plan.seeds[n : design.looks[k + 1]]),
        chance=chance_of_passing(design, criticals, k, t),
    )
    reason = f"Not yet: at {at} {numbers} is not below {nominal:.4g}; {tail} {_next(looks, n)}"
    return Looked(CONTINUE, reason, looks, compared, test, bound)


def chance_of_passing(design: Design, criticals: tuple[float, ...], look: int, t: float) -> float:
    """The chance that a later look crosses, averaged over the gains that t allows: each by the likelihood of t.

    The gain that fits best would promise too much after a good start and too little after a bad one.
    """
    n = design.looks[look]
    df, root = design.degrees(n), math.sqrt(design.information(n))
    reach = 3 * (1 + abs(t) / math.sqrt(2 * df)) / root
    nodes, weights = np.polynomial.legendre.leggauss(GAINS)
    gains = t / root + reach * nodes
    v = np.array([t / math.sqrt(df + t * t)])
    likelihoods = np.array([math.exp(float(log_likelihood_ratio(v, df, gain * root)[0])) for gain in gains])
    chances = [
        sequential.conditional_power(design, criticals, look, t, min(gain, SURE)) if gain > 0 else 0.0 for gain in gains
    ]
    return float(np.sum(weights * likelihoods * chances) / np.sum(weights * likelihoods))


def _next(looks: Looks, there: int) -> str:
    """What to do next: "Next: run seed 6 of at most 10 (SEED=1342), and look again." with the chance of passing."""
    assert looks.next_look is not None, "the plan is not used up"
    first, last = there + 1, looks.next_look
    which = f"seed {last}" if first == last else f"seeds {first} to {last}"
    which += f" of at most {looks.looks[-1]}"
    if looks.next_seeds:
        which += f" (SEED={', '.join(map(str, looks.next_seeds))})"
    chance = ""
    if looks.chance is not None:
        chance = f" Chance of passing by seed {looks.looks[-1]}: {chance_in_words(looks.chance)}, averaged over the gains that these runs allow."
    return f"Next: run {which}, and look again.{chance}"


def chance_in_words(chance: float) -> str:
    """A probability to two digits, which never reads as certain."""
    return "over 0.99" if chance > 0.99 else "under 0.01" if chance < 0.01 else f"{chance:.2f}"


def _loss(lost: Result) -> str:
    return f"A planned run failed (seed {lost.seed}, {lost.log}); a failed run counts as a loss."
