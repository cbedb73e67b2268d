"""What a sweep has spent, and whether the next run fits its limit (`--max-gpu-hours`)."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from analysis.sweepdir.journal import Entry, read_journal
from analysis.sweepdir.layout import TRAIN_LOG, attempt_folder


@dataclass(slots=True, kw_only=True)
class Budget:
    """The wall times of all attempts, times the GPUs of a run or, without GPUs, its cores.

    limit_h: None sets none. units, unit: how many one run takes, and their name. past_s: what earlier drivers' attempts took.
    """

    limit_h: float | None
    units: int
    unit: str
    past_s: float = 0.0
    _began: dict[Hashable, float] = field(default_factory=dict)
    _walls: list[float] = field(default_factory=list)  # of the runs that succeeded

    def note(self, key: Hashable, state: str) -> None:
        """Record a run's new state."""
        now = time.monotonic()
        if state == "running":
            self._began[key] = now
        elif (began := self._began.pop(key, None)) is not None and state != "pending":  # its node refused it
            self.past_s += now - began
            if state == "succeeded":
                self._walls.append(now - began)

    @property
    def spent_h(self) -> float:
        """Return what has been spent, running attempts included."""
        now = time.monotonic()
        return self._hours(self.past_s + sum(now - began for began in self._began.values()))

    @property
    def used_up(self) -> bool:
        return self.limit_h is not None and self.spent_h >= self.limit_h

    @property
    def holds_another(self) -> bool:
        """Return whether one more run fits, if it and the running ones take as long as the earlier ones."""
        if self.limit_h is None:
            return True
        now, usual = time.monotonic(), mean(self._walls) if self._walls else 0.0
        left = sum(max(0.0, usual - (now - began)) for began in self._began.values())
        return not self.used_up and self.spent_h + self._hours(left + usual) <= self.limit_h

    def sentence(self) -> str:
        """Return the sentence that ends the sweep."""
        return (
            f"--max-gpu-hours {self.limit_h:g}: {self.spent_h:.2f} {self.unit} are spent, and one more run does not fit. "
            f"The sweep ends with what it has. `sweep resume` with a higher limit goes on."
        )

    def _hours(self, seconds: float) -> float:
        return seconds * self.units / 3600


def spent_before(directory: Path) -> float:
    """Return how many seconds the attempts in a sweep's journal ran, all together. Raises SweepError.

    One whose driver went away ran until its log ended; one without a log never began.
    """
    runs = read_journal(directory).runs
    return sum(
        _log_took(attempt_folder(directory, arm, seed, number), entry) if entry.wall_s is None else entry.wall_s
        for (arm, seed), entries in runs.items()
        for number, entry in entries.items()
    )


def _log_took(folder: Path, entry: Entry) -> float:
    try:
        ended = (folder / TRAIN_LOG).stat().st_mtime
    except OSError:
        return 0.0
    return 0.0 if entry.started is None else max(0.0, ended - entry.started.timestamp())
