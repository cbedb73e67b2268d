"""The logs as claims are compared with them: the runs of each seed, and the samples that a mean may be of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.reading.grammar import Metric
from analysis.reading.run import Run
from analysis.record.folder import Record, seed_of
from analysis.record.metrics import labelled, labels_of, metrics_of
from analysis.record.selection import Selection
from analysis.record.stated.said import Holds, Said, Statement
from analysis.rules.ruleset import Ruleset

MOST_ENDS = 50  # metrics of one run
MOST_LABELS = 20
METRICS = ("val_bpb", "val_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A metric that a run prints at its end, and the run."""

    run: Run
    metric: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What claims are compared with.

    ends: by seed, what its runs end in, first that which counts. samples: runs that may be meant together, each with one
    metric: first those that count, then each folder's under each label. better: how much a claimed value may be better.
    """

    record: Record
    selection: Selection
    ends: Mapping[int | None, Sequence[End]]
    samples: Sequence[Sequence[End]]
    better: float

    @classmethod
    def of(cls, record: Record, selection: Selection, rules: Ruleset) -> Logs:
        """Arrange the runs of a folder."""
        counted = [End(run=one.run, metric=one.metric) for one in selection.claimed]
        ends: dict[int | None, list[End]] = {}
        for end in counted:
            ends.setdefault(seed_of(end.run), []).append(end)
        for run in record.runs:
            ends.setdefault(seed_of(run), []).extend(_ends(run))
        complete = [run for run in record.runs if metrics_of(run, rules)]
        samples = [sample for sample in (counted, *_samples(complete, rules)) if sample]
        return cls(record=record, selection=selection, ends=ends, samples=samples, better=rules.margin / 10)

    def seen(self, said: Said, holds: Holds, evidence: str, end: End, *, worse_by: float = 0.0) -> Statement:
        """Return a claim with what a run ends in."""
        return Statement(
            claim=said,
            holds=holds,
            evidence=evidence,
            log=self.record.shown(end.run.log),
            log_line=end.metric.line,
            worse_by=worse_by,
        )


def metrics_meant(said: Said) -> Sequence[str]:
    """Return which metrics a value may be of: bpb before loss where nothing says."""
    return METRICS if said.metric is None else (said.metric,)


def _ends(run: Run) -> Iterator[End]:
    kept = [*reversed(run.finals), *reversed(run.metrics)][:MOST_ENDS]
    for metric in (*kept, *([run.validation] if run.validation is not None else [])):
        yield End(run=run, metric=metric)


def _samples(complete: Sequence[Run], rules: Ruleset) -> Iterator[list[End]]:
    for folder in dict.fromkeys(run.log.parent for run in complete):
        runs = [run for run in complete if run.log.parent == folder]
        for label in labels_of(runs, rules)[:MOST_LABELS]:
            ends = [(run, metric) for run in runs if (metric := labelled(run, label, rules)) is not None]
            yield [End(run=run, metric=metric) for run, metric in ends]
