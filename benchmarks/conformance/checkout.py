"""A checkout of a leaderboard: the trials of every log below a folder, and the sets of trials that a row may speak of.

A row is a folder, or one arm of it: the logs of a subfolder, of one program, of one name, or a single log.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.reading.metric import Metric
from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record.metrics import OWN
from analysis.untrusted.files import FileError, files_below

EVERY = 100  # logs between two lines of progress
MOST = 300  # trials of a folder of which parts are looked at
_NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[-_. ]*\d+$")
_BEGINNING = re.compile(r"[-_. ]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a log. validations: those in training, by step. ends: what it ends with, by the metric's name."""

    log: Path
    program: str | None
    total_steps: int | None
    last_step: int | None
    validations: Mapping[int, Metric] = field(repr=False)
    ends: Mapping[str, float | None]

    def value(self, metric: str, step: int | None) -> float | None:
        """Return the metric at a step, or at the run's end where none is named."""
        if step is None:
            return self.ends.get(metric)
        return self.validations[step].value(metric) if step in self.validations else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Trials that one row may speak of. part: which part of the folder they are, empty for all of it."""

    folder: Path
    part: str
    trials: tuple[Trial, ...] = field(repr=False)

    def logs(self, metric: str, step: int | None) -> list[Path]:
        """Return the logs of those trials that have the metric at the step."""
        return list(dict.fromkeys(trial.log for trial in self.trials if trial.value(metric, step) is not None))

    def sample(self, metric: str, step: int | None) -> list[float]:
        """Return the metric of those trials that have it at the step."""
        return [value for trial in self.trials if (value := trial.value(metric, step)) is not None]


def trials_below(directory: Path, metrics: Iterable[str]) -> list[Trial]:
    """Read every log below a folder, and what its runs end with; say on stderr how far it is.

    A log that cannot be read holds no trial.
    """
    logs = files_below(directory).logs
    trials: list[Trial] = []
    for number, log in enumerate(logs, 1):
        try:
            trials += [_trial(run, metrics) for run in read_log(log) if run.trained]
        except FileError as error:
            print(f"{log} {error}", file=sys.stderr)
        if number % EVERY == 0:
            print(f"read {number} of {len(logs)} logs", file=sys.stderr)
    return trials


def _trial(run: Run, metrics: Iterable[str]) -> Trial:
    return Trial(
        log=run.log,
        program=run.source.sha256 if run.source is not None else None,
        total_steps=run.total_steps,
        last_step=run.last_step,
        validations=run.validations,
        ends={metric: _end(run, metric) for metric in metrics},
    )


def _end(run: Run, metric: str) -> float | None:
    final = run.finals[-1] if run.finals else run.validation
    if metric in OWN and final is not None:
        return final.value(metric)
    last = run.value(metric)
    return last.number if last is not None else None


def _name(trial: Trial) -> str:
    """Return the name of a log without its number: muon_3.txt and muon_12.txt are one name."""
    return _NUMBER.sub("", trial.log.stem)


def _beginning(trial: Trial) -> str:
    return _BEGINNING.split(trial.log.stem, maxsplit=1)[0]


PARTS: Mapping[str, Callable[[Trial], object]] = {
    "of one program": lambda trial: trial.program,
    "of one planned length": lambda trial: trial.total_steps,
    "of one length": lambda trial: trial.last_step,
    "of one name": _name,
    "of one beginning": _beginning,
    "in subfolders of one name": lambda trial: trial.log.parent.name,
    "in one log": lambda trial: trial.log,
}


def units_below(directory: Path, trials: Sequence[Trial]) -> list[Unit]:
    """Return every folder with trials in it or below, and the parts of each: whole folders first."""
    direct = [trial for trial in trials if trial.log.parent == directory]
    folders = {directory: direct} if direct else {}
    for trial in trials:
        for folder in trial.log.parents:
            if folder == directory:
                break
            folders.setdefault(folder, []).append(trial)
    whole = [Unit(folder=folder, part="", trials=tuple(inside)) for folder, inside in folders.items()]
    return whole + [part for unit in whole for part in _parts(unit)]


def _parts(unit: Unit) -> Iterator[Unit]:
    """Yield the parts of a folder: of the logs that are directly in it, then of all. One with more is no record's."""
    direct = tuple(trial for trial in unit.trials if trial.log.parent == unit.folder)
    if len(unit.trials) > MOST:
        return
    if direct and len(direct) < len(unit.trials):
        yield Unit(folder=unit.folder, part="not in its subfolders", trials=direct)
    for part, key in PARTS.items():
        for trials in (direct, unit.trials) if direct != unit.trials else (direct,):
            groups: dict[object, list[Trial]] = {}
            for trial in trials:
                groups.setdefault(key(trial), []).append(trial)
            if len(groups) > 1:
                yield from (Unit(folder=unit.folder, part=part, trials=tuple(group)) for group in groups.values())
