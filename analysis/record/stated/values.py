"""Compare claimed values, their mean and their spread with the logs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice

from analysis.record.fit import agrees, half_a_unit, reach, within_a_unit
from analysis.record.stated.counts import seed
from analysis.record.stated.logs import End, Logs, Sample, metrics_meant
from analysis.record.stated.said import Holds, Kind, Said, Statement

FITTING = 2  # values of a list that are in the logs: it is a list of these runs
NEAR = 0.2  # of the logs' value: a README's number that is further away is about something else


def headline(said: Said, logs: Logs) -> Statement:
    """Compare a headline with the mean of the claimed runs and with each run."""
    assert said.metric is not None
    assert said.value is not None
    counted = next((one for one in logs.samples if one.metric == said.metric), None)
    if counted is None or not logs.selection.claimed:
        return Statement(claim=said)
    if agrees(said.value, counted.mean, logs.better):
        return logs.seen(said, Holds.YES, f"{counted.mean:.8f} (mean of {counted.n})", counted.ends[0])
    for end in counted.ends:
        value = getattr(end.metric, said.metric)
        if agrees(said.value, value, logs.better):
            return logs.seen(said, Holds.YES, f"{value:.8f} (one run)", end)
    return _differs(said, counted.mean, counted.ends[0], logs)


def value_of_seed(said: Said, logs: Logs) -> Statement:
    """Compare a seed's value with every final metric of its runs."""
    assert said.value is not None
    ends = logs.ends.get(said.seed, ())
    if not ends:
        return Statement(claim=said) if said.of_json else seed(replace(said, kind=Kind.SEED, text=str(said.seed)), logs)
    others: list[tuple[float, End]] = []
    for end in ends:
        for what in metrics_meant(said):
            value = getattr(end.metric, what)
            if agrees(said.value, value, logs.better, max(end.rounded, cut_off(said, logs))):
                return logs.seen(said, Holds.YES, f"{value:.8f}", end)
            if value is not None:
                others.append((value, end))
    if not others:
        return Statement(claim=said)
    if None in logs.ends:  # its run may be the one that prints no seed
        return Statement(claim=said)
    return _differs(said, *_meant(said, others), logs)


def cut_off(said: Said, logs: Logs) -> float:
    """Return how far off a README's number may be because its last digits were cut off instead of rounded."""
    assert said.value is not None
    return 0.0 if said.of_json else min(2 * half_a_unit(said.value), logs.better)


def values(said: Said, logs: Logs) -> Statement:
    """Compare a list of values with the final metrics. Each value uses up one run."""
    known = sorted(
        {
            (value, str(end.run.log), end.run.line)
            for ends in logs.ends.values()
            for end in ends
            for what in metrics_meant(said)
            if (value := getattr(end.metric, what)) is not None and math.isfinite(value)
        }
    )
    used: set[tuple[str, int]] = set()
    missing = [value for value in said.values if not _take(value, known, used)]
    if not missing:
        return Statement(claim=said, holds=Holds.YES, evidence=f"{len(said.values)} runs end in them")
    more = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
    near = [value for value, *_ in known if _is_near(missing[0], value)]
    runs = {place[1:] for place in known}
    return Statement(
        claim=said,
        holds=Holds.NO if near else Holds.UNKNOWN,
        evidence=f"a run for each; {missing[0]} is in no log{more}",
        worse_by=min(near) - float(missing[0]) if near else 0.0,
        share=len(said.values) / len(runs) if runs else None,
        sure=len(said.values) - len(missing) >= FITTING,
    )


def _take(claimed: Decimal, known: Sequence[tuple[float, str, int]], used: set[tuple[str, int]]) -> bool:
    """Remove a run with this final value, and return whether there was one."""
    first = bisect_left(known, (float(claimed) - reach(claimed),))
    for value, log, line in islice(known, first, None):
        if float(value) > float(claimed) + reach(claimed):
            return False
        if (log, line) not in used:
            used.add((log, line))
            return True
    return False


def mean_of(said: Said, logs: Logs) -> Statement:
    """Compare a mean with the mean of every sample."""
    assert said.value is not None
    samples = _of_metric(said, logs)
    for one in samples:
        if agrees(said.value, one.mean, logs.better, max(one.ends[0].rounded, cut_off(said, logs))):
            return logs.seen(said, Holds.YES, f"{one.mean:.8f} ({one.n} runs)", one.ends[0])
    known = [(one.mean, one.ends[0]) for one in samples]
    return _differs(said, *_meant(said, known), logs) if known else Statement(claim=said)


def sd_of(said: Said, logs: Logs) -> Statement:
    """Compare an sd with that of every sample: divided by n - 1 or n, from values as printed or rounded first."""
    assert said.value is not None
    samples = [one for one in _of_metric(said, logs) if one.n > 1]
    for one in samples:
        for sd in one.sds:
            errors = () if said.of_json else (sd / math.sqrt(one.n),)  # a README's +- may be the standard error
            if any(within_a_unit(said.value, value) for value in (sd, *errors)):
                return logs.seen(said, Holds.YES, f"{sd:.8f} ({one.n} runs)", one.ends[0])
    known = [(one.sds[0], one.ends[0]) for one in samples]
    if not known:
        return Statement(claim=said)
    sd, end = _meant(said, known)
    return replace(_differs(said, sd, end, logs), share=float(said.value) / sd if sd > 0 else None)


def _of_metric(said: Said, logs: Logs) -> list[Sample]:
    return [one for one in logs.samples if one.metric in metrics_meant(said)]


def _meant(said: Said, known: Sequence[tuple[float, End]]) -> tuple[float, End]:
    """Return what the claim should have said: for a JSON the number that counts, for a README the nearest one."""
    assert said.value is not None
    claimed = float(said.value)
    return known[0] if said.of_json else min(known, key=lambda one: abs(one[0] - claimed))


def _differs(said: Said, value: float, end: End, logs: Logs) -> Statement:
    """Return that the logs contradict a number. A README's number that is far away is unknown instead."""
    assert said.value is not None
    near = said.of_json or said.kind is Kind.SD or _is_near(said.value, value)
    holds = Holds.NO if said.strict and near and math.isfinite(value) else Holds.UNKNOWN
    worse_by = 0.0 if said.kind is Kind.SD or holds is not Holds.NO else value - float(said.value)
    return logs.seen(said, holds, f"{value:.8f}", end, worse_by=worse_by)


def _is_near(said: Decimal, value: float) -> bool:
    return abs(float(said) - value) <= NEAR * abs(value)
