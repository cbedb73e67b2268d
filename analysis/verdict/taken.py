"""The looks that the runs of a Case allow: t at each, up to the first at which every test that is asked has crossed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy.special import stdtr, stdtrit

from analysis.evidence.case import Case, Source
from analysis.evidence.look_plan import LookPlan
from analysis.reading.result import Result
from analysis.rules.keys import LOOKING, PAIRED, POOLED
from analysis.rules.ruleset import Criterion
from analysis.stats import sequential
from analysis.stats.fixed import Test
from analysis.stats.recursion import Design
from analysis.verdict.answer import CONTINUE, NOT_SUPPORTED, SUPPORTED, Answer
from analysis.verdict.tested import rules_test
from analysis.verdict.verdict import Looks


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """When one test of a sequential Case crosses: its design and the critical t of each look."""

    case: Case
    plan: LookPlan

    @cached_property
    def design(self) -> Design:
        if self.case.source is not Source.CONTROL or self.case.rules.test == PAIRED:
            return Design(looks=self.plan.looks)
        in_step = self.case.in_step
        return Design(looks=self.plan.looks, control=0 if in_step else len(self.case.control), in_step=in_step)

    @cached_property
    def criticals(self) -> tuple[float, ...]:
        return sequential.boundary(self.design, self.case.rules.alpha, self.plan.boundary)

    def nominal(self, look: int) -> float:
        """Return what the p-value of a look (counted from 0) must be below."""
        return float(stdtr(self.design.degrees(self.plan.looks[look]), -self.criticals[look]))

    def at(self, look: int) -> Case:
        """Return the Case at a look, fixed, with the look's level as its alpha and the test that the look makes.

        Arms in step are pooled, which the boundary assumes. Against a control that was there before Welch's test must pass
        too, because pooling is loose when the smaller sample scatters more.
        """
        at = self.case.at_look(self.plan.looks[look])
        pools = at.source is Source.CONTROL and at.in_step and at.rules.test != PAIRED
        test = POOLED if pools else at.rules.test
        return replace(at, rules=replace(at.rules, alpha=self.nominal(look), test=test), looks=None)

    def test(self, look: int) -> Test:
        """Return the test at a look, with the t of the boundary's degrees of freedom that has its p."""
        test, df = rules_test(self.at(look)).test, self.design.degrees(self.plan.looks[look])
        assert test is not None, "a Case that looks has a t-test"
        return test if test.df == df else replace(test, statistic=float(stdtrit(df, max(test.p_value, 1e-300))), df=df)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The looks that the runs allow: `ts` up to the last that counts, the Case there, the first failed run.

    crossed: whether every test crossed at the last of them. good: how many runs there are before the first that failed.
    """

    plan: LookPlan
    boundary: Boundary
    good: int
    lost: Result | None
    ts: tuple[float, ...]
    crossed: bool
    at: Case | None

    @property
    def design(self) -> Design:
        return self.boundary.design

    @property
    def criticals(self) -> tuple[float, ...]:
        return self.boundary.criticals

    @property
    def first_crossed(self) -> bool:
        """Whether the rules' first test crossed at the last look that counts."""
        return bool(self.ts) and self.ts[-1] >= self.criticals[len(self.ts) - 1]

    @property
    def answer(self) -> Answer:
        if self.crossed:
            return SUPPORTED
        return NOT_SUPPORTED if self.lost is not None or len(self.ts) == len(self.criticals) else CONTINUE

    @property
    def runs(self) -> int:
        """At the last look that counts; 0 before the first."""
        return self.design.looks[len(self.ts) - 1] if self.ts else 0

    @property
    def looks(self) -> Looks:
        return Looks(looks=self.plan.looks, boundary=self.plan.boundary, taken=self.runs)

    def test(self) -> Test:
        """Return the last look's test, with the sequential p and a bound that is valid at every look."""
        p = sequential.sequential_p(self.design, self.ts, self.plan.boundary)
        return replace(self.boundary.test(len(self.ts) - 1), name="group-sequential t", p_value=p)


def take(case: Case, plan: LookPlan) -> Taken:
    """Look at the runs in order: t at each look, up to the first at which all tests cross or the last that the runs allow."""
    own, others = Boundary(case=case, plan=plan), [Boundary(case=one, plan=plan) for one in _further(case)]
    both = case.in_step and any(one.case.source is Source.CONTROL for one in (own, *others))
    good = min(_unbroken(case.runs), _unbroken(case.control)) if both else _unbroken(case.runs)
    at: Case | None = None
    ts: list[float] = []
    crossed = False
    for look, n in enumerate(plan.looks):
        if n > good:
            break
        if ts and ts[-1] >= own.criticals[look - 1]:
            ts[-1] = -math.inf  # another test had not crossed there, so this one's p of that look decides nothing
        ts.append(-math.inf)
        if not plan.seeds and n < good:
            continue
        at = case.at_look(n)
        ts[-1] = -own.test(look).statistic
        crossed = ts[-1] >= own.criticals[look]
        crossed = crossed and all(-one.test(look).statistic >= one.criticals[look] for one in others)
        if crossed:
            break
    lost = next((run for run in [*case.runs, *(case.control if both else ())] if run.state == "failed"), None)
    return Taken(plan=plan, boundary=own, good=good, lost=lost, ts=tuple(ts), crossed=crossed, at=at)


def decides_when_to_stop(case: Case, criterion: Criterion) -> bool:
    """Return whether a further criterion is asked at every look: it tests the mean of the same metric."""
    return criterion.metric == case.rules.metric and criterion.test in LOOKING


def at_its_look(case: Case, criterion: Criterion, taken: int) -> Case:
    """Return the Case of so many runs asked this criterion, at the level of that look where it is asked at every look."""
    if case.looks is None or not taken or not decides_when_to_stop(case, criterion):
        return (case.at_look(taken) if taken else case).asking(criterion)
    return at_level_of(replace(case.asking(criterion), looks=case.looks), taken)


def at_level_of(case: Case, taken: int) -> Case:
    """Return the Case of so many runs at the level of that look, with the test that the look makes."""
    assert case.looks is not None, "a fixed Case has no looks"
    return Boundary(case=case, plan=case.looks).at(case.looks.looks.index(taken))


def _further(case: Case) -> Iterator[Case]:
    """Yield the Case asked each further criterion that decides when to stop."""
    for one in case.further:
        if decides_when_to_stop(case, one):
            yield replace(case.asking(one), looks=case.looks)


def _unbroken(results: Sequence[Result]) -> int:
    """Return how many runs there are before the first that failed."""
    return next((i for i, run in enumerate(results) if run.state == "failed"), len(results))
