"""Arrange the logs for comparison with claims: the runs of each seed, and the samples that a mean may belong to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from analysis.reading.metric import Metric
from analysis.reading.run import Run
from analysis.record.fit import mean
from analysis.record.folder import Record, seed_of
from analysis.record.metrics import labelled, labels_of, metrics_of
from analysis.record.selection import Selection
from analysis.record.stated.said import Holds, Said, Statement
from analysis.rules.ruleset import Ruleset

MOST_ENDS = 50  # metrics of one run
MOST_OF_SEED = 500  # metrics of one seed's runs
MOST_LABELS = 20
MOST_SAMPLES = 200
MOST_ROUNDED = 5.1e-4  # three decimals; a tenth of the usual margin
ROUNDED = (3, 4, 5, 6)  # decimals that people round values to before they take an sd
METRICS = ("val_bpb", "val_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A metric that a run prints at its end, and the run."""

    run: Run
    metric: Metric

    @property
    def rounded(self) -> float:
        """Return how much rounding changed the printed value. A README may quote the program's own value, with more decimals."""
        return min(self.metric.rounding, MOST_ROUNDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Runs that a claim may mean together, with one metric. sds: of the exact values, and of values rounded first."""

    metric: str
    ends: Sequence[End]
    mean: float
    sds: Sequence[float]

    @classmethod
    def of(cls, ends: Sequence[End], metric: str) -> Sample:
        """Return the sample of the runs that have this metric."""
        own = [end for end in ends if getattr(end.metric, metric) is not None]
        values = [getattr(end.metric, metric) for end in own]
        tried = (values, *([round(value, digits) for value in values] for digits in ROUNDED))
        sds = [deviation(one, ddof) for one in tried for ddof in (1, 0)]
        return cls(metric=metric, ends=own, mean=mean(values) if own else math.nan, sds=sds)

    @property
    def n(self) -> int:
        return len(self.ends)


def deviation(values: Sequence[float], ddof: int) -> float:
    """Return the standard deviation; NaN if values are too few or infinite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    middle = mean(values)
    return math.hypot(*(value - middle for value in values)) / math.sqrt(len(values) - ddof)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What claims are compared with.

    ends: the final metrics of each seed's runs; the one that counts comes first. samples: runs that a claim may mean together,
    each with one metric. The claimed runs come first, then the runs of each folder under each label. better: by how much a
    claimed value may be better than the logs.
    """

    record: Record
    selection: Selection
    ends: Mapping[int | None, Sequence[End]]
    samples: Sequence[Sample]
    better: float

    @classmethod
    def of(cls, record: Record, selection: Selection, rules: Ruleset) -> Logs:
        """Arrange the runs of a folder."""
        counted = [End(run=one.run, metric=one.metric) for one in selection.claimed]
        ends: dict[int | None, list[End]] = {}
        for end in counted:
            ends.setdefault(seed_of(end.run), []).append(end)
        for run in record.runs:
            of_seed = ends.setdefault(seed_of(run), [])
            of_seed += islice(_ends(run), max(0, MOST_OF_SEED - len(of_seed)))
        complete = [run for run in record.runs if metrics_of(run, rules)]
        meant = (counted, *_together(complete, rules))
        samples = [sample for sample in (Sample.of(one, what) for one in meant for what in METRICS) if sample.ends]
        return cls(record=record, selection=selection, ends=ends, samples=samples, better=rules.margin / 10)

    def seen(self, said: Said, holds: Holds, evidence: str, end: End, *, worse_by: float = 0.0) -> Statement:
        """Return a claim together with the final metric that it was compared with."""
        return Statement(
            claim=said,
            holds=holds,
            evidence=evidence,
            log=self.record.shown(end.run.log),
            log_line=end.metric.line,
            worse_by=worse_by,
        )


def metrics_meant(said: Said) -> Sequence[str]:
    """Return the metrics that a value may belong to. If the claim names none, bpb is tried before loss."""
    return METRICS if said.metric is None else (said.metric,)


def _ends(run: Run) -> Iterator[End]:
    kept = [*reversed(run.finals), *reversed(run.metrics)][:MOST_ENDS]
    for metric in (*kept, *([run.validation] if run.validation is not None else [])):
        yield End(run=run, metric=metric)


def _together(complete: Sequence[Run], rules: Ruleset) -> list[list[End]]:
    """Return the runs of each folder, once for each label that they print."""
    folders: dict[Path, list[Run]] = {}
    for run in complete:
        folders.setdefault(run.log.parent, []).append(run)
    found = []
    for runs in list(folders.values())[:MOST_SAMPLES]:
        for label in labels_of(runs, rules)[:MOST_LABELS]:
            ends = [(run, metric) for run in runs if (metric := labelled(run, label, rules)) is not None]
            found.append([End(run=run, metric=metric) for run, metric in ends])
    return found[:MOST_SAMPLES]
