"""The sequential verdict: seeds looked at in their planned order, until the boundary is crossed or the plan is used up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.special import gammaln, stdtr

from analysis import sequential, stats
from analysis.compare import Compared, compare
from analysis.evidence import EvidenceError
from analysis.readings import in_both_units, open_ended
from analysis.rules import Z_TEST, Ruleset
from analysis.runs import Result
from analysis.verdict import CONTINUE, NOT_SUPPORTED, SUPPORTED, Looks, Reading, format_p, percent

FIRST_LOOK, LAST_LOOK = 3, 10  # where no plan says otherwise
SURE = 30.0  # sd; a larger gain has no larger chance


@dataclass(frozen=True, slots=True)
class LookPlan:
    """When to look: after so many seeds. seeds: the planned ones in order, empty where no plan names them; paired: the
    control's seeds are run in step with the candidate's."""

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
    """After each of seeds 3 to 10 (or the ruleset's fewest, or as many as there are)."""
    first = max(FIRST_LOOK, rules.minimum_runs)
    return LookPlan(tuple(range(first, max(LAST_LOOK, first, runs) + 1)))


def look(rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan) -> Looked:
    """The verdict at the runs that are there, in order. Raises EvidenceError when they cannot be tested.

    A failed run counts as a loss, unless the boundary was crossed before it. Runs after the crossing do not count.
    """
    if rules.test == Z_TEST:
        raise EvidenceError(f"A sequential design needs a t-test; the rules {rules.name} have a {Z_TEST}-test.")
    against = bool(control) and sota is None
    pairs = plan.paired and against
    good = _unbroken(results)
    if pairs:
        good = min(good, _unbroken(control))
    design = sequential.Design(plan.looks, 0 if pairs or not against else len(control), pairs)
    criticals = sequential.boundary(design, rules.alpha, plan.boundary)
    seen: list[tuple[Compared, stats.Test]] = []
    for n, critical in zip(design.looks, criticals, strict=True):
        if n > good:
            break
        compared = compare(rules, results[:n], sota, control[:n] if pairs else control)
        seen.append((compared, _test(compared)))
        if -seen[-1][1].statistic >= critical:
            break
    looks = Looks(design.looks, plan.boundary, design.looks[len(seen) - 1] if seen else 0)
    lost = next((run for run in [*results, *(control if pairs else [])] if run.state == "failed"), None)
    if not seen:
        return _before_the_first(rules, results, good, lost, plan, looks)
    return _at_a_look(rules, design, criticals, plan, seen, lost, looks)


def other_readings(
    rules: Ruleset, results: list[Result], sota: float | None, control: list[Result], plan: LookPlan, looked: Looked
) -> list[Reading]:
    """The same looks with the margin in the other unit, and the open-ended test."""
    if looked.compared is None or looked.test is None:
        return []
    found = []
    for one in in_both_units(rules, results[: looked.looks.taken])[1:]:
        other = look(one, results, sota, control, plan)
        if other.compared is not None and other.test is not None:
            reading = f"margin of {one.margin:g} {one.unit}, after {other.looks.taken} seeds"
            assumes = f"the leaderboard meant {one.unit}; converted by the runs' own val_bpb / val_loss"
            found.append(
                Reading(reading, assumes, one.margin, one.unit, other.compared.threshold, other.verdict, other.test)
            )
    return [*found, open_ended(rules, looked.compared)]


def _unbroken(results: list[Result]) -> int:
    """How many runs there are before the first that failed."""
    return next((i for i, run in enumerate(results) if run.state == "failed"), len(results))


def _test(compared: Compared) -> stats.Test:
    if compared.control is None:
        return stats.one_sample_t(compared.sample, compared.threshold)
    return stats.pooled_t(compared.sample, compared.control, compared.margin)


def _before_the_first(
    rules: Ruleset, results: list[Result], good: int, lost: Result | None, plan: LookPlan, looks: Looks
) -> Looked:
    if lost is not None:
        return Looked(NOT_SUPPORTED, _loss(lost), looks)
    following = list(plan.seeds[good : plan.looks[0]])
    looks = replace(looks, next_look=plan.looks[0], next_seeds=following)
    reason = f"{good} of at most {plan.looks[-1]} seeds {'is' if good == 1 else 'are'} there; the first look is at {plan.looks[0]}. {_next(looks)}"
    return Looked(CONTINUE, reason, looks)


def _at_a_look(
    rules: Ruleset, design: sequential.Design, criticals: tuple[float, ...], plan: LookPlan,
    seen: list[tuple[Compared, stats.Test]], lost: Result | None, looks: Looks,
) -> Looked:  # fmt: skip
    compared, test = seen[-1]
    k, t, n = len(seen) - 1, -test.statistic, looks.taken
    p = sequential.sequential_p(design, [-one.statistic for _, one in seen], plan.boundary)
    bound = compared.sample.mean + criticals[k] * stats.standard_error(compared.sample, compared.control)
    looks = replace(
        looks, p_value=test.p_value, critical=-criticals[k], nominal_p=float(stdtr(design.degrees(n), -criticals[k]))
    )
    test = stats.Test("group-sequential t", test.statistic, test.df, p)
    crossed, last = t >= criticals[k], k == len(design.looks) - 1
    values = f"t = {test.statistic:.4f}, df {test.df:g}"
    mean = f"The mean {rules.metric} of {n} seeds, {compared.sample.mean:.8f},"
    of_most = f"the look at {n} of at most {design.looks[-1]} seeds"
    tail = f"sequential p {format_p(p)}; {percent(1 - rules.alpha)} upper bound {bound:.8f}, valid at every look."
    if crossed:
        looks = replace(looks, stagewise_p=sequential.stagewise_p(design, criticals, k, t))
        reason = (
            f"{mean} is below {compared.threshold:.8f} at {of_most}: {values} has reached {-criticals[k]:.4f}, {tail}"
        )
        return Looked(SUPPORTED, reason, looks, compared, test, bound)
    if lost is not None:
        return Looked(NOT_SUPPORTED, _loss(lost), looks, compared, test, bound)
    if last:
        reason = f"{mean} is not below {compared.threshold:.8f} at {of_most}, the last: {values} has not reached {-criticals[k]:.4f}, {tail}"
        return Looked(NOT_SUPPORTED, reason, looks, compared, test, bound)
    gain = max(0.0, t / math.sqrt(design.information(n)) * _small_sample(design.degrees(n)))
    looks = replace(
        looks,
        next_look=design.looks[k + 1],
        next_seeds=list(plan.seeds[n : design.looks[k + 1]]),
        gain_sd=gain,
        chance=sequential.conditional_power(design, criticals, k, t, min(gain, SURE)),
    )
    reason = f"Not yet: at {of_most} {values} has not reached {-criticals[k]:.4f}, {tail} {_next(looks)}"
    return Looked(CONTINUE, reason, looks, compared, test, bound)


def _small_sample(df: float) -> float:
    """What makes t / sqrt(I) an unbiased estimate of the gain in sd: Hedges 1981. df 2: 0.5642; 0 for one df."""
    if df <= 1:
        return 0.0
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def _next(looks: Looks) -> str:
    """What to do next: "Next: seed 6 of at most 10 (1342); ..."."""
    assert looks.next_look is not None, "the plan is not used up"
    first, last = looks.taken + 1, looks.next_look
    which = f"seed {last}" if first == last else f"seeds {first} to {last}"
    which += f" of at most {looks.looks[-1]}"
    if looks.next_seeds:
        which += f" (SEED={', '.join(map(str, looks.next_seeds))})"
    chance = ""
    if looks.chance is not None and looks.gain_sd is not None:
        chance = (
            f" Chance of passing by seed {looks.looks[-1]}: {chance_in_words(looks.chance)}, if the true gain beyond the threshold is "
            f"the {looks.gain_sd:.2f} sd that these runs suggest."
        )
    return f"Next: run {which}, and look again.{chance}"


def chance_in_words(chance: float) -> str:
    """A probability to two digits, which never reads as certain."""
    return "over 0.99" if chance > 0.99 else "under 0.01" if chance < 0.01 else f"{chance:.2f}"


def _loss(lost: Result) -> str:
    return f"A planned run failed (seed {lost.seed}, {lost.log}); a failed run counts as a loss."
