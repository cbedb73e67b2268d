"""Claimed values, their mean and their spread against the logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from analysis.record.fit import agrees, half_a_unit, mean
from analysis.record.stated.counts import seed
from analysis.record.stated.logs import End, Logs, metrics_meant
from analysis.record.stated.said import Holds, Kind, Said, Statement

NEAR = 0.2  # of the logs' value: a README's number that is further away is one of something else
ROUNDED = (3, 4, 5, 6)  # decimals that people round values to before they take a mean or an sd


def headline(said: Said, logs: Logs) -> Statement:
    """Compare a headline with the mean of the claimed runs, and with each of them."""
    assert said.metric is not None
    assert said.value is not None
    counted = logs.samples[:1] if logs.selection.claimed else []
    for sample in _of_metric(counted, said):
        for value, end, what in (
            (mean(sample.values), sample.ends[0], f"mean of {len(sample.values)}"),
            *((value, end, "one run") for value, end in zip(sample.values, sample.ends, strict=True)),
        ):
            if agrees(said.value, value, logs.better):
                return logs.seen(said, Holds.YES, f"{value:.8f} ({what})", end)
        return _differs(said, mean(sample.values), sample.ends[0], logs)
    return Statement(claim=said)


def value_of_seed(said: Said, logs: Logs) -> Statement:
    """Compare a seed's value with everything that its runs end in."""
    assert said.value is not None
    ends = logs.ends.get(said.seed, ())
    if not ends:
        return Statement(claim=said) if said.of_json else seed(replace(said, kind=Kind.SEED, text=str(said.seed)), logs)
    others: list[tuple[float, End]] = []
    for end in ends:
        for what in metrics_meant(said):
            value = getattr(end.metric, what)
            if agrees(said.value, value, logs.better):
                return logs.seen(said, Holds.YES, f"{value:.8f}", end)
            if value is not None:
                others.append((value, end))
    if not others:
        return Statement(claim=said)
    return _differs(said, *_meant(said, others), logs)


def values(said: Said, logs: Logs) -> Statement:
    """Compare a list of values with what the runs end in, one run for each."""
    left: dict[int, list[float | None]] = {id(end.run): [] for ends in logs.ends.values() for end in ends}
    for ends in logs.ends.values():
        for end in ends:
            left[id(end.run)] += [getattr(end.metric, what) for what in metrics_meant(said)]
    known = [value for run in left.values() for value in run if value is not None]
    missing = []
    for value in said.values:
        fit = next((run for run, ends in left.items() if any(agrees(value, one) for one in ends)), None)
        if fit is None:
            missing.append(value)
        else:
            del left[fit]
    if not missing:
        return Statement(claim=said, holds=Holds.YES, evidence=f"{len(said.values)} runs end in them")
    more = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
    near = any(_is_near(missing[0], value) for value in known)
    return Statement(
        claim=said,
        holds=Holds.NO if near else Holds.UNKNOWN,
        evidence=f"a run for each; {missing[0]} is in no log{more}",
    )


def mean_of(said: Said, logs: Logs) -> Statement:
    """Compare a mean with that of every sample."""

    def fits(found: Sequence[float]) -> bool:
        return agrees(said.value or Decimal(0), mean(found), logs.better)

    return _of_sample(said, logs, fits, mean)


def sd_of(said: Said, logs: Logs) -> Statement:
    """Compare an sd that divides by n - 1 or by n, of values as printed or rounded before."""
    assert said.value is not None
    claimed, near = float(said.value), 2.04 * half_a_unit(said.value)

    def fits(found: Sequence[float]) -> bool:
        tried = (found, *([round(value, digits) for value in found] for digits in ROUNDED))
        return any(abs(claimed - deviation(one, ddof)) <= near for one in tried for ddof in (0, 1))

    return _of_sample(said, logs, fits, lambda found: deviation(found, 1))


def deviation(found: Sequence[float], ddof: int) -> float:
    """Return the standard deviation; NaN of too few or infinite values."""
    if len(found) <= max(ddof, 1) or not all(map(math.isfinite, found)):
        return math.nan
    middle = mean(found)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in found) / (len(found) - ddof))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The values of one metric, and the run of each."""

    values: Sequence[float]
    ends: Sequence[End]


def _of_metric(samples: Sequence[Sequence[End]], said: Said) -> Iterator[_Sample]:
    for what in metrics_meant(said):
        for sample in samples:
            ends = [end for end in sample if getattr(end.metric, what) is not None]
            if ends:
                yield _Sample(values=[getattr(end.metric, what) for end in ends], ends=ends)


def _of_sample(
    said: Said, logs: Logs, fits: Callable[[Sequence[float]], bool], value_of: Callable[[Sequence[float]], float]
) -> Statement:
    """Return whether one of the samples fits; the first sample is what a claim should have fitted."""
    samples = list(_of_metric(logs.samples, said))
    for sample in samples:
        if fits(sample.values):
            shown = f"{value_of(sample.values):.8f} ({len(sample.values)} runs)"
            return logs.seen(said, Holds.YES, shown, sample.ends[0])
    known = [(value, sample.ends[0]) for sample in samples if math.isfinite(value := value_of(sample.values))]
    return _differs(said, *_meant(said, known), logs) if known else Statement(claim=said)


def _meant(said: Said, known: Sequence[tuple[float, End]]) -> tuple[float, End]:
    """Return what a claim should have been: of a JSON the number that counts, of a README the nearest one."""
    assert said.value is not None
    claimed = float(said.value)
    return known[0] if said.of_json else min(known, key=lambda one: abs(one[0] - claimed))


def _differs(said: Said, value: float, end: End, logs: Logs) -> Statement:
    """Return that a claimed number is not the logs'; of a README, only where the two are near each other."""
    assert said.value is not None
    near = said.of_json or said.kind is Kind.SD or _is_near(said.value, value)
    holds = Holds.NO if said.strict and near and math.isfinite(value) else Holds.UNKNOWN
    worse_by = 0.0 if said.kind is Kind.SD or holds is not Holds.NO else value - float(said.value)
    return logs.seen(said, holds, f"{value:.8f}", end, worse_by=worse_by)


def _is_near(said: Decimal, value: float) -> bool:
    return abs(float(said) - value) <= NEAR * abs(value)
