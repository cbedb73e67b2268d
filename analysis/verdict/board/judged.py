"""A record folder to its row: what is in it, and its test against the target or the record that stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from analysis.evidence.case import Case
from analysis.evidence.gather import Gathered, gather
from analysis.evidence.usable import LARGEST, SMALLEST, check_results
from analysis.reading.result import Result
from analysis.record.fit import mean
from analysis.rules.findings import ERROR, INFO, WARNING, counts
from analysis.rules.keys import AGAINST_RUNS, MEAN, STANDING, TARGET
from analysis.rules.metrics import CONVERTIBLE, STEPS
from analysis.rules.ruleset import Ruleset
from analysis.stats.summary import STATISTICS
from analysis.sweepdir.layout import CONTROL
from analysis.untrusted.files import one_budget
from analysis.untrusted.refusal import EvidenceError, SeedproofError
from analysis.verdict.answer import UNUSABLE
from analysis.verdict.board.row import Row, after
from analysis.verdict.judge import decide
from analysis.verdict.verdict import Verdict

CANNOT_TELL = "cannot tell"
FIRST = "the first record: there is nothing to compare it with"
LARGEST_OF_ALL = 1e300
RUNS, NUMBER = "runs", "number"
NOTHING = Gathered()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A record folder as it was read: its row without tests, its runs and its own control's.

    why: what keeps the runs from being tested. gathered: all that was read.
    """

    row: Row
    runs: tuple[Result, ...] = ()
    control: tuple[Result, ...] = ()
    why: str | None = None
    gathered: Gathered = NOTHING


def read(folder: Path, row: Row, rules: Ruleset) -> Read:
    """Read a folder; one that cannot be read is a row that says why."""
    gathered = Gathered()
    try:
        with one_budget():
            gathered = gather([folder], rules)
        row = _filled(row, gathered, rules)
        if gathered.fault is not None:
            raise EvidenceError(gathered.fault)
        check_results(gathered.runs, row.record, rules.fewest_runs, seeds=rules.seeds)
        with one_budget():
            control = _own_control(gathered, rules)
            return Read(row=row, runs=gathered.runs, control=control, gathered=gathered)
    except (SeedproofError, OSError) as error:
        return Read(row=replace(row, why=str(error)), runs=gathered.runs, why=str(error), gathered=gathered)


def _own_control(gathered: Gathered, rules: Ruleset) -> tuple[Result, ...]:
    """Return the record's own control, which ran next to its runs; none if it cannot be tested. Only criteria ask for it."""
    if not rules.criteria or gathered.arms is None or gathered.arms.control is None:
        return gathered.control
    where = gathered.arms.control
    try:
        found = gather([where.folder], rules, of_control=True)
        check_results(found.runs, where.name, rules.fewest_runs, seeds=rules.seeds)
    except (SeedproofError, OSError):
        return ()
    return () if found.fault is not None else tuple(replace(run, arm=CONTROL) for run in found.runs)


def _filled(row: Row, gathered: Gathered, rules: Ruleset) -> Row:
    """Return the row with what was read. Runs of different metrics, or broken ones, have no mean."""
    runs, number = gathered.runs, counts(gathered.findings)
    one_metric = len({run.label for run in runs}) == 1
    values = _values(runs, rules.metric) if one_metric else []
    ranked = _values(runs, rules.ranked) if values else []
    times = [time for run in runs if (time := run.value("train_time_s")) is not None]
    return replace(
        row,
        n=len(runs),
        mean=mean(values) if values else None,
        sd=stdev(values) if len(values) > 1 else None,
        ranked=_statistic(ranked, rules),
        ranked_sd=stdev(ranked) if len(ranked) > 1 else None,
        bytes=max((run.run.artifact_bytes for run in runs if run.run.artifact_bytes is not None), default=None),
        train_time_s=max(times, default=None),
        errors=number[ERROR],
        warnings=number[WARNING],
        infos=number[INFO],
    )


def _statistic(values: Sequence[float], rules: Ruleset) -> float | None:
    """Return the mean of what a board is ranked by; of the ruleset's own metric, its own statistic."""
    if not values or rules.ranked != rules.metric or rules.statistic == MEAN:
        return mean(values) if values else None
    found = rules.sign * STATISTICS[rules.statistic]([rules.sign * value for value in values])
    return found if math.isfinite(found) else None


def _values(runs: Sequence[Result], name: str) -> list[float]:
    """Return each run's value; none if one has none, or one that no run can end with."""
    values = [value for run in runs if (value := run.value(name)) is not None]
    lowest = SMALLEST if name in CONVERTIBLE.values() else -LARGEST_OF_ALL
    highest = LARGEST if name in CONVERTIBLE.values() else LARGEST_OF_ALL
    return values if len(values) == len(runs) and all(lowest < value < highest for value in values) else []


def judged(own: Read, rules: Ruleset, standing: Read | None) -> Row:
    """Return the row with its tests: against the target, else against the standing record's runs, else its number.

    Further criteria that compare with runs take the record's own control, else the standing record's runs.
    """
    fixed = has_fixed_target(rules)
    stood = standing.row if standing is not None else None
    if own.row.mean is None:
        return after(own.row, stood)
    if not fixed and standing is None:
        return replace(own.row, why=own.row.why or FIRST)
    case = case_of(own, rules, standing)
    verdict = decide(case)
    said: dict[str, Any] = {
        "verdict": _said(verdict),
        "p": _p(verdict),
        "tested_against": _what(case, own, fixed=fixed),
    }
    if verdict.verdict is UNUSABLE:
        open_ones = [f"{one.name}: {one.reason}" for one in verdict.criteria if one.verdict is UNUSABLE]
        said["why"] = " ".join(open_ones) or verdict.reason
    for unit in _units(rules, fixed=fixed):
        one = verdict if unit == rules.unit else decide(replace(case, rules=replace(case.rules, unit=unit)))
        said |= {f"verdict_{unit}": _said(one), f"p_{unit}": _p(one)}
        if one.verdict is UNUSABLE:
            said["why"] = one.reason
    return after(replace(_at_its_step(own.row, verdict, rules), **said), stood)


def has_fixed_target(rules: Ruleset) -> bool:
    """Return whether records are tested against a target that the rules fix, and not against what stood before."""
    return rules.target is not None and rules.against != STANDING


def case_of(own: Read, rules: Ruleset, standing: Read | None) -> Case:
    """Return the Case of a record's runs against what the board tests it against."""
    case = Case(rules=rules, where=own.row.record, runs=own.runs, fault=own.why)
    if not has_fixed_target(rules):
        return case if standing is None else _against(case, standing)
    if not rules.criteria:  # only they are compared with runs
        return case
    return replace(case, rules=replace(rules, against=TARGET), control=own.control or _as_control(standing))


def _at_its_step(row: Row, verdict: Verdict, rules: Ruleset) -> Row:
    """Return the row with the values at the step that the rules chose."""
    if verdict.at_step is None or verdict.mean is None:
        return row
    row = replace(row, mean=verdict.mean, sd=verdict.sd if row.n > 1 else None)
    if rules.ranked == STEPS:
        return replace(row, ranked=float(verdict.at_step), ranked_sd=None)
    return replace(row, ranked=row.mean, ranked_sd=row.sd) if rules.ranked == rules.metric else row


def _what(case: Case, own: Read, *, fixed: bool) -> str | None:
    if not fixed:
        return RUNS if case.control else NUMBER if case.sota is not None else None
    if not case.control:
        return TARGET
    return f"{TARGET} and {CONTROL if own.control else RUNS}"


def _units(rules: Ruleset, *, fixed: bool) -> list[str]:
    """Return the units that the margin is read in: both of val_bpb and val_loss, the ruleset's own against a target."""
    if rules.metric not in CONVERTIBLE.values():
        return []
    return [rules.unit] if fixed else [*CONVERTIBLE]


def _against(case: Case, standing: Read) -> Case:
    """Return the Case against the standing record's runs; against its mean where they cannot be tested."""
    with_runs = replace(case, control=_as_control(standing))
    if with_runs.control and decide(with_runs).verdict is not UNUSABLE:
        return with_runs
    if case.rules.test in AGAINST_RUNS:
        why = f"The test {case.rules.test!r} compares with runs, and those of {standing.row.record} cannot be tested."
        return with_runs if with_runs.control else replace(case, fault=case.fault or why)
    return replace(case, sota=standing.row.mean)


def _as_control(standing: Read | None) -> tuple[Result, ...]:
    """Return the standing record's runs as a control; none where they cannot be tested."""
    usable = standing is not None and standing.why is None
    return tuple(replace(run, arm=CONTROL) for run in standing.runs) if standing is not None and usable else ()


def _said(verdict: Verdict) -> str:
    return CANNOT_TELL if verdict.verdict is UNUSABLE else verdict.verdict.replace("_", " ")


def _p(verdict: Verdict) -> float | None:
    return verdict.test.p_value if verdict.test is not None else None
