"""Runs that are typed or given in memory instead of read from a file: nothing is known of them but numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Origin, Run
from analysis.rules.metrics import TRAIN_TIME, VAL_BPB, VAL_LOSS

TYPED, TYPED_CONTROL = "--values", "--control"  # in place of a file
THE_METRIC = ""  # the name of a number that is the rules' metric, whatever that is


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """One run's numbers by the metric's name. at: what is shown in place of a log."""

    numbers: Mapping[str, float]
    seed: int | None = None
    at: str = TYPED

    def result(self, metric: str) -> Result | None:
        """Return the run, whose metric is that of the rules; None where it has no such number."""
        numbers = {name or metric: number for name, number in self.numbers.items()}
        if metric not in numbers:
            return None
        time_s = numbers.get(TRAIN_TIME)
        run = Run(
            log=Path(self.at),
            line=1,
            seed=self.seed,
            origin=Origin.TYPED,
            train_time_ms=None if time_s is None else 1000 * time_s,
        )
        loss, bpb = numbers.pop(VAL_LOSS, None), numbers.pop(VAL_BPB, None)
        number = Metric(label=metric, val_loss=loss, val_bpb=bpb, decimals=0, line=0, others=numbers)
        return Result.of(run, number, log=self.at)


Given = Typed | Result
