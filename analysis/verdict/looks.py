"""The sequential verdict: look at the seeds in their planned order, until the boundary is crossed or the plan is used up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import stdtr

from analysis.evidence.case import Case
from analysis.evidence.compared import control_of_pairs
from analysis.evidence.look_plan import LookPlan
from analysis.reading.result import Result
from analysis.rules.keys import PAIRED, T_TEST
from analysis.stats import fixed, sequential
from analysis.stats.fixed import Test
from analysis.stats.recursion import Design, cosine, log_likelihood_ratio
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.again.readings import if_meant, open_ended
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, Answer
from analysis.verdict.numbers import chance_in_words, format_p, in_short
from analysis.verdict.taken import Taken, take
from analysis.verdict.tested import numbers, rules_test, shown
from analysis.verdict.verdict import Looks, Reading, ReadingKind, Verdict

SURE = 30.0  # sd; a larger gain has no larger chance
SURE_T = 1e6  # no boundary is beyond it
SMALLEST_ALPHA, LARGEST_ALPHA = 1e-6, 0.4  # of a boundary
GAINS = 10  # that the chance of passing is averaged over


def decide_sequential(case: Case) -> Verdict:
    """Decide a Case at the looks that its runs allow. Raises EvidenceError where they cannot be tested.

    A failed run counts as a loss, unless the boundary was crossed before it. Runs after the crossing do not count.
    """
    assert case.looks is not None, "a fixed Case has no looks"
    _check(case, case.looks)
    taken = take(case, case.looks)
    if taken.at is None:
        return _before_the_first(case, taken)
    return _at_a_look(case, taken, taken.at)


def _check(case: Case, plan: LookPlan) -> None:
    rules = case.rules
    if not rules.may_look:
        raise EvidenceError(
            f"A sequential design needs the test {T_TEST!r}; the rules {rules.name} have {rules.test!r}."
        )
    if not SMALLEST_ALPHA <= rules.alpha <= LARGEST_ALPHA:
        raise EvidenceError(
            f"A sequential design needs an alpha from {SMALLEST_ALPHA:g} to {LARGEST_ALPHA:g}; it is {rules.alpha:g}."
        )
    if not plan.seeds and len(case.runs) > plan.looks[-1]:
        raise EvidenceError(
            f"Without a plan the last look is at {plan.looks[-1]} runs, and there are {len(case.runs)}: a later one would be chosen "
            f"by the data. Name the plan, or leave out --design sequential: a fixed report gives the open-ended e-value."
        )
    if not plan.in_step and rules.test == PAIRED:  # whoever leaves out control runs would choose at which look to stop
        control_of_pairs(case.runs, case.control)


# -- before the first look, and at one -----------------------------------------------------------------------------------


def _before_the_first(case: Case, taken: Taken) -> Verdict:
    if taken.lost is not None:
        return Verdict.on(case, taken.answer, _loss(taken.lost), sequential=taken.looks)
    first, most, good = taken.plan.looks[0], taken.plan.looks[-1], taken.good
    looks = replace(taken.looks, next_look=first, next_seeds=list(taken.plan.seeds[good:first]))
    there = f"{good} of at most {most} seeds {'is' if good == 1 else 'are'} there; the first look is at {first}."
    return Verdict.on(case, taken.answer, f"{there} {_next(looks, good)}", sequential=looks)


def _at_a_look(case: Case, taken: Taken, at: Case) -> Verdict:
    design, look = taken.design, len(taken.ts) - 1
    t, critical, df = taken.ts[-1], taken.criticals[look], design.degrees(taken.runs)
    nominal = float(stdtr(df, -critical))
    looks = replace(taken.looks, p_value=float(stdtr(df, -t)), critical=-critical, nominal_p=nominal)
    if taken.answer is SUPPORTED:
        looks = replace(looks, stagewise_p=sequential.stagewise_p(design, taken.criticals, look, t))
    elif taken.answer is CONTINUE:
        looks = replace(
            looks,
            next_look=design.looks[look + 1],
            next_seeds=list(taken.plan.seeds[taken.runs : design.looks[look + 1]]),
            chance=None if taken.first_crossed else chance_of_passing(design, taken.criticals, look, t),
        )
    test = taken.test()
    return Verdict.on(
        case,
        taken.answer,
        _reason(at, taken, looks, test),
        sequential=looks,
        also=tuple(_readings(case, taken, at, nominal)),
        **numbers(at, test),
    )


def _reason(at: Case, taken: Taken, looks: Looks, test: Test) -> str:
    assert looks.p_value is not None, "a look was taken"
    assert looks.nominal_p is not None, "a look was taken"
    if taken.lost is not None and taken.answer is NOT_SUPPORTED:
        return _loss(taken.lost)
    rules, compared, nominal = at.rules, at.compared, looks.nominal_p
    against = f" against {compared.control.n} control runs" if compared.control else ""
    against += " of the same seeds" if compared.differences else ""
    where = f"the look at {taken.runs} of at most {taken.design.looks[-1]} runs{against}"
    found, threshold = in_short(rules.metric, compared.shown(compared.sample.mean), compared.shown(compared.threshold))
    no = "" if taken.first_crossed else "not "
    t = f"t = {test.statistic:z.4g}, df {test.df:g}, p {format_p(looks.p_value)}, {no}below this look's {nominal:.4g}"
    last = ", the last" if taken.answer is NOT_SUPPORTED else ""
    shown_to_be = "" if taken.first_crossed else "not shown to be "
    said = f"The mean {rules.metric}, {found}, is {shown_to_be}{rules.beyond} {threshold} at {where}{last}: {t} (sequential p {format_p(test.p_value)})."
    return f"{said} {_next(looks, taken.runs)}" if taken.answer is CONTINUE else said


def _readings(case: Case, taken: Taken, at: Case, nominal: float) -> Iterator[Reading]:
    """Yield the same looks with the margin in the other unit, Welch at this look, all runs at once, the e-value."""
    whole = case.in_other_unit() if at.in_other_unit() is not None else None
    other = take(whole, taken.plan) if whole is not None else None
    if other is not None and other.at is not None:
        rules = other.at.rules
        yield Reading.of(
            other.at,
            ReadingKind.OTHER_UNIT,
            reading=f"margin of {rules.margin:g} {rules.unit}, after {other.runs} runs",
            assumes=if_meant(rules.unit),
            verdict=other.answer,
            test=shown(other.at, other.test()),
        )
    if at.compared.control is not None:
        welch = fixed.welch_t(at.compared.sample, at.compared.control, at.compared.margin, nominal)
        yield Reading.of(
            at,
            ReadingKind.WELCH_AT_LOOK,
            reading="Welch at this look",
            assumes=f"spreads may differ; at this look's own {nominal:.4g}",
            verdict=Answer.of(passed=welch.p_value < nominal),
            test=shown(at, welch),
        )
    every = case.at_look(taken.good) if case.in_step else case
    if taken.runs < len(every.runs) and all(run.succeeded for run in every.runs):
        tested = rules_test(every)
        yield Reading.of(
            every,
            ReadingKind.ALL_AT_ONCE,
            reading=f"all {len(every.runs)} runs at once",
            assumes="the number of runs was fixed beforehand; those after the verdict count too",
            verdict=Answer.of(passed=tested.passed),
            test=shown(every, tested.test),
        )
    yield open_ended(at)


def chance_of_passing(design: Design, criticals: tuple[float, ...], look: int, t: float) -> float:
    """Return the chance that a later look crosses, averaged over the gains that t allows, each by the likelihood of t.

    The gain that fits best would promise too much after a good start and too little after a bad one.
    """
    n, t = design.looks[look], min(max(t, -SURE_T), SURE_T)
    df, root = design.degrees(n), math.sqrt(design.information(n))
    reach = 3 * (1 + abs(t) / math.sqrt(2 * df)) / root
    nodes, weights = np.polynomial.legendre.leggauss(GAINS)
    gains = t / root + reach * nodes
    v = np.array([cosine(t, df)])
    logs = np.array([float(log_likelihood_ratio(v, df, gain * root)[0]) for gain in gains])
    worth = weights * np.exp(logs - logs.max())
    better = gains > 0
    if not better.any():
        return 0.0
    some = np.minimum(gains[better], SURE).tolist()
    chance = sequential.predictive_power(design, criticals, look, t, some, weights[better].tolist())
    return min(float(chance * worth[better].sum() / worth.sum()), 1.0)


def _next(looks: Looks, there: int) -> str:
    """Return what to do next: "Next: run seed 6 of at most 10 (SEED=1342), and look again." with the chance of passing."""
    assert looks.next_look is not None, "the plan is not used up"
    first, last = there + 1, looks.next_look
    which = f"seed {last}" if first == last else f"seeds {first} to {last}"
    which += f" of at most {looks.looks[-1]}"
    if looks.next_seeds:
        which += f" (SEED={', '.join(map(str, looks.next_seeds))})"
    chance = ""
    if looks.chance is not None:
        chance = (
            f" Chance of passing by seed {looks.looks[-1]}: {chance_in_words(looks.chance)}, averaged over the gains "
            f"that these runs allow."
        )
    return f"Next: run {which}, and look again.{chance}"


def _loss(lost: Result) -> str:
    return f"A planned run failed (seed {lost.seed}, {lost.log}); a failed run counts as a loss."
