"""One run of a verdict: whether it counts, and what the test says with it and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.evidence.case import Case, Source
from analysis.reading.result import Result
from analysis.record.selection import Why
from analysis.rules.keys import PAIRED
from analysis.sweepdir.layout import CANDIDATE, CONTROL
from analysis.untrusted.refusal import EvidenceError, UsageError, nearest
from analysis.verdict.criteria import first_counts
from analysis.verdict.taken import at_its_look, at_level_of
from analysis.verdict.tested import Tested, rules_test
from analysis.verdict.verdict import Verdict

VERIFIER = "verifier"
MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The ruleset's test of some runs: how many, their statistic, and the test; or the fault that lets none be made.

    control_n: how many control runs count in it.
    """

    n: int
    control_n: int
    value: float | None = None
    tested: Tested | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one test takes from a run: the test of the runs that count, with it and without it.

    criterion: the further criterion that is tested, None for the rules' first test. metric, statistic: what it compares.
    """

    criterion: str | None
    metric: str
    statistic: str
    with_it: Outcome
    without_it: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a run is to a verdict.

    arm: candidate, control or verifier. why: why it does not count, None where it does. effects: on each test that
    depends on it.
    """

    result: Result
    arm: str
    why: Why | None = None
    effects: tuple[Effect, ...] = ()


def parts_named(case: Case, verdict: Verdict, name: str) -> list[Part]:
    """Return the runs of a seed or, by its name, of a log. Raises UsageError where there is none."""
    every = list(_parts(case, verdict))
    found = [one for one in every if _is_named(one.result, name)]
    if not found:
        raise UsageError(f"--explain {name}: no run has that seed or log. {_there(every)}{_nearest(every, name)}")
    return [_with_tests(case, verdict, one) for one in found]


def _parts(case: Case, verdict: Verdict) -> Iterator[Part]:
    """Yield every run that was found, those that count first."""
    reasons = {id(one.result): one.why for one in verdict.left_out}
    second = case.second.runs if case.second is not None else ()
    shown = {id(run) for run in (*case.runs, *case.control, *second)}
    for arm, runs in ((CANDIDATE, case.runs), (CONTROL, case.control), (VERIFIER, second)):
        yield from (Part(result=run, arm=arm, why=reasons.get(id(run))) for run in runs)
    others = (one for one in verdict.left_out if id(one.result) not in shown)
    yield from (Part(result=one.result, arm=one.result.arm, why=one.why) for one in others)


def _is_named(result: Result, name: str) -> bool:
    by_log = name in (result.log, Path(result.log).name, f"{result.log}:{result.line}")
    return by_log or (result.seed is not None and str(result.seed) == (name.lstrip("0") or "0"))


def _there(parts: Sequence[Part]) -> str:
    seeds = sorted({one.result.seed for one in parts if one.result.seed is not None})
    logs = list(dict.fromkeys(one.result.log for one in parts if one.result.seed is None))
    said = [("Seeds", [*map(str, seeds)]), ("Logs without a seed", logs)]
    named = [
        f"{what}: {', '.join(some[:MOST_NAMED])}{', ...' * (len(some) > MOST_NAMED)}." for what, some in said if some
    ]
    return " ".join(named or ["There is no run."])


def _nearest(parts: Sequence[Part], name: str) -> str:
    return "" if name.isdecimal() else nearest(name, {one.result.log for one in parts})


# -- the test ----------------------------------------------------------------------------------------------------------


def _with_tests(case: Case, verdict: Verdict, part: Part) -> Part:
    """Return the part with every test that depends on it: of the runs that count and it, and of those other than it."""
    if part.arm == VERIFIER or not verdict.is_decided:
        return part
    taken = verdict.sequential.taken if verdict.sequential is not None else 0
    asked: list[tuple[str | None, Case]] = []
    if first_counts(case):
        asked.append((None, at_level_of(case, taken) if taken else case))
    asked += [(one.name, at_its_look(case, one, taken)) for one in case.further]
    effects = [_effect(name, counted, part) for name, counted in asked if _depends(counted, part)]
    return replace(part, effects=tuple(effects))


def _depends(counted: Case, part: Part) -> bool:
    is_in = part.arm != CONTROL or counted.source is Source.CONTROL
    return is_in and part.result.value(counted.rules.metric) is not None


def _effect(name: str | None, counted: Case, part: Part) -> Effect:
    if counted.rules.test == PAIRED and part.why is None:
        with_it, without_it = counted, counted.without_seed(part.result.seed)
    else:
        arm = counted.control if part.arm == CONTROL else counted.runs
        others = tuple(one for one in arm if one is not part.result)
        with_it, without_it = (
            replace(counted, control=some) if part.arm == CONTROL else replace(counted, runs=some)
            for some in ((*others, part.result), others)
        )
    return Effect(
        criterion=name,
        metric=counted.rules.metric,
        statistic=counted.rules.statistic,
        with_it=_outcome(with_it),
        without_it=_outcome(without_it),
    )


def _outcome(case: Case) -> Outcome:
    made = Outcome(n=len(case.runs), control_n=len(case.control) if case.source is Source.CONTROL else 0)
    case = replace(case, looks=None)
    try:
        return replace(made, tested=rules_test(case), value=case.compared.shown(case.compared.value))
    except EvidenceError as error:
        return replace(made, fault=str(error))
