"""The sequential verdict: seeds looked at in their planned order, until the boundary is crossed or the plan is used up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis.evidence.compare import Compared, compare, rules_test
from analysis.evidence.gather import EvidenceError
from analysis.reading.result import Result
from analysis.rules.ruleset import Z_TEST, Ruleset
from analysis.stats import fixed, sequential
from analysis.stats.recursion import Design, log_likelihood_ratio
from analysis.sweepdir.layout import MOST_LOOKS
from analysis.verdict.readings import if_meant, in_both_units, open_ended, reading
from analysis.verdict.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, Looks, Reading, format_p, percent

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
    test: fixed.Test | None = None
    upper_bound: float | None = None


def default_plan(rules: Ruleset, runs: int) -> LookPlan:
    """After each of seeds 3 to 10, or to 30 where there are more than 10 runs; a ruleset may ask for more than 3."""
    first = max(FIRST_LOOK, rules.minimum_runs)
    return LookPlan(tuple(range(first, (LAST_LOOK if runs <= LAST_LOOK and first < LAST_LOOK else MOST_LOOKS) + 1)))


@dataclass(frozen=True, slots=True)
class _Taken:
    """The looks that the runs allow: `ts` up to the last that counts, what was compared there, the first failed run."""

    design: Design
    criticals: tuple[float, ...]
    boundary: str
    good: int
    lost: Result | None
    ts: list[float]
    compared: Compared | None

    @property
    def verdict(self) -> str:
        if self.ts and self.ts[-1] >= self.criticals[len(self.ts) - 1]:
            return SUPPORTED
        return NOT_SUPPORTED if self.lost is not None or len(self.ts) == len(self.criticals) else CONTINUE

    @property
    def runs(self) -> int:
        """At the last look that counts; 0 before the first."""
        return self.design.looks[len(self.ts) - 1] if self.ts else 0

    def test(self) -> fixed.Test:
        p = sequential.sequential_p(self.design, self.ts, self.boundary)
        return fixed.Test("group-sequential t", -self.ts[-1], self.design.degrees(self.runs), p)


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
    taken = _take(rules, results, sota, control, plan)
    looks = Looks(plan.looks, plan.boundary, taken.runs)
    return _before_the_first(taken, plan, looks) if taken.compared is None else _at_a_look(rules, taken, plan, looks)


def _take(rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan) -> _Taken:
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
    lost = next((run for run in [*results, *(control if pairs else [])] if run.state == "failed"), None)
    return _Taken(design, criticals, plan.boundary, good, lost, ts, compared)


def other_readings(
    rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan, looked: Looked
) -> list[Reading]:
    """The same looks with the margin in the other unit, Welch's test at this look, all runs at once, the open-ended test."""
    mine = looked.compared
    if mine is None:
        return []
    found = []
    for one in in_both_units(rules, results[: looked.looks.taken])[1:]:
        other = _take(one, results, sota, control, plan)
        if other.compared is not None:
            name = f"margin of {one.margin:g} {one.unit}, after {other.runs} runs"
            read = reading(one, name, if_meant(one.unit), other.compared.threshold, other.test(), False)
            found.append(replace(read, verdict=other.verdict))
    if mine.control is not None and looked.looks.nominal_p is not None:
        nominal, welch = looked.looks.nominal_p, fixed.welch_t(mine.sample, mine.control, mine.margin)
        assumes = f"spreads may differ; at this look's own {nominal:.4g}"
        found.append(reading(rules, "Welch at this look", assumes, mine.threshold, welch, welch.p_value < nominal))
    if looked.looks.taken < len(results) and all(run.state == "succeeded" for run in results):
        whole = compare(rules, results, sota, control)
        test, _, passed = rules_test(rules, whole)
        assumes = "the number of runs was fixed beforehand; those after the verdict count too"
        found.append(reading(rules, f"all {len(results)} runs at once", assumes, whole.threshold, test, passed))
    return [*found, open_ended(rules, mine)]


def _unbroken(results: list[Result]) -> int:
    """How many runs there are before the first that failed."""
    return next((i for i, run in enumerate(results) if run.state == "failed"), len(results))


def _t(compared: Compared, df: float) -> float:
    """t in the direction of improvement. Against a control of another size Welch's test must pass too: then the t whose p
    is the larger of the two, since pooling is loose when the smaller sample scatters more."""
    sample, control = compared.sample, compared.control
    if control is None:
        return -fixed.one_sample_t(sample, compared.threshold).statistic
    pooled = fixed.pooled_t(sample, control, compared.margin)
    if sample.n == control.n:
        return -pooled.statistic
    welch = fixed.welch_t(sample, control, compared.margin)
    return min(-pooled.statistic, -float(stdtrit(df, max(welch.p_value, 1e-300))))


def _before_the_first(taken: _Taken, plan: LookPlan, looks: Looks) -> Looked:
    if taken.lost is not None:
        return Looked(taken.verdict, _loss(taken.lost), looks)
    first, most, good = plan.looks[0], plan.looks[-1], taken.good
    looks = replace(looks, next_look=first, next_seeds=list(plan.seeds[good:first]))
    there = f"{good} of at most {most} seeds {'is' if good == 1 else 'are'} there; the first look is at {first}."
    return Looked(taken.verdict, f"{there} {_next(looks, good)}", looks)


def _at_a_look(rules: Ruleset, taken: _Taken, plan: LookPlan, looks: Looks) -> Looked:
    compared, design, criticals = taken.compared, taken.design, taken.criticals
    assert compared is not None, "a look was taken"
    k, t, n, test = len(taken.ts) - 1, taken.ts[-1], taken.runs, taken.test()
    df = design.degrees(n)
    bound = compared.sample.mean + criticals[k] * fixed.standard_error(compared.sample, compared.control)
    own, nominal = float(stdtr(df, -t)), float(stdtr(df, -criticals[k]))
    looks = replace(looks, p_value=own, critical=-criticals[k], nominal_p=nominal)
    against = f" against {compared.control.n} control runs" if compared.control else ""
    at = f"the look at {n} of at most {design.looks[-1]} runs{against}"
    mean = f"The mean {rules.metric}, {compared.sample.mean:.8f},"
    numbers = f"t = {-t:.4f}, df {df:g}, its own p {format_p(own)}"
    tail = f"sequential p {format_p(test.p_value)}; {percent(1 - rules.alpha)} upper bound {bound:.8f}, valid at every look."
    if taken.verdict == SUPPORTED:
        looks = replace(looks, stagewise_p=sequential.stagewise_p(design, criticals, k, t))
        reason = f"{mean} is below {compared.threshold:.8f} at {at}: {numbers} is below {nominal:.4g}; {tail}"
    elif taken.lost is not None:
        reason = _loss(taken.lost)
    elif taken.verdict == NOT_SUPPORTED:
        reason = f"{mean} is not below {compared.threshold:.8f} at {at}, the last: {numbers} is not below {nominal:.4g}; {tail}"
    else:
        looks = replace(
            looks,
            next_look=design.looks[k + 1],
            next_seeds=list(plan.seeds[n : design.looks[k + 1]]),
            chance=chance_of_passing(design, criticals, k, t),
        )
        reason = f"Not yet: at {at} {numbers} is not below {nominal:.4g}; {tail} {_next(looks, n)}"
    return Looked(taken.verdict, reason, looks, compared, test, bound)


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
