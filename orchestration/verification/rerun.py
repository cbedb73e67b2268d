"""One record in the queue: an ordinary driver on its own sweep directory, and what its files say so far."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from analysis.evidence.options import Options
from analysis.reading.reader import read_log
from analysis.record.sweep import sweep_results
from analysis.sweepdir.layout import CANDIDATE, EVENTS, TRAIN_LOG, attempt_folder
from analysis.sweepdir.manifest import PlannedRun, planned_runs
from analysis.sweepdir.plan import Plan
from analysis.untrusted.files import FileError
from analysis.verdict.judge import judge
from analysis.verdict.verdict import CONTINUE
from orchestration.disk.lock import Lock
from orchestration.driver.care import Care
from orchestration.driver.job import Job
from orchestration.driver.loop import Driver
from orchestration.verification.answer import Fresh
from orchestration.worker.order import Sandbox

Key = tuple[str, int, int]  # arm, seed, attempt


class Rerun(Driver):
    """A driver among others. may_spend: whether the budget pays for so many more runs. unpaid: whether it refused some."""

    def __init__(
        self, directory: Path, plan: Plan, *, name: str, sandbox: Sandbox, may_spend: Callable[[int], bool]
    ) -> None:
        lock = Lock(directory)
        try:
            lock.beat()
            super().__init__(directory, plan, Care(), lock, None)
            self.progress.name, self.progress.bars = name, None
            self.sandbox, self.may_spend, self.unpaid = sandbox, may_spend, False
            self.settle()
        except BaseException:
            lock.release()
            raise

    def submit_due(self) -> None:
        """Queue the runs up to the next look, all or none: a part of them would buy no answer."""
        new = sum(not job.queued for job in self.missing())
        self.unpaid = new > 0 and not self.may_spend(new)
        if not self.unpaid:
            super().submit_due()

    def missing(self) -> list[Job]:
        """Return the runs that have no result and are needed for the next look."""
        due = [self.jobs[arm, seed] for seed in self.looks.due(self.care.parallel) for arm in self.plan.arms]
        return [job for job in due if not job.has_result]

    @property
    def waits_for_room(self) -> bool:
        return self.pool.open > len(self.running())

    @property
    def complete(self) -> bool:
        return self.progress.done == len(self.jobs) or self.is_over()

    def why_over(self) -> str:
        """Return why a sweep without an answer gets no more runs."""
        lost = next((job for job in self.missing() if job.state == "lost"), None)
        if lost is not None:
            return f"{lost.arm} seed {lost.seed} was lost on the machine's side ({lost.reason})"
        return "The budget does not pay for the next look" if self.unpaid else "Its runs are over"


def fresh_of(directory: Path, plan: Plan, over: str | None) -> Fresh:
    """Return what the fresh runs of a sweep directory say. Raises SeedproofError where its files are damaged."""
    runs = planned_runs(directory, plan)
    failed = next((run for run in runs if run.state == "failed"), None)
    rules = plan.rules()
    found = [
        run.value(rules.metric) for run in sweep_results(directory, plan) if run.succeeded and run.arm == CANDIDATE
    ]
    values = tuple(value for value in found if value is not None)
    first = plan.design.looks[0] if plan.design.sequential else len(plan.seeds)
    verdict = judge((directory,), Options(own_sweep=True)) if len(values) >= first and failed is None else None
    if verdict is not None and verdict.verdict is not CONTINUE and verdict.sequential is not None:
        values = values[: verdict.sequential.taken]  # those beyond the look that decided do not count
    return Fresh(
        values=values,
        verdict=verdict,
        failed=None if failed is None else f"{failed.arm} seed {failed.seed}: {failed.reason}",
        trained=bool(values) or any(map(_has_trained, runs)),
        over=over,
    )


def _has_trained(run: PlannedRun) -> bool:
    if run.folder is None:
        return False
    try:
        return any(one.trained or one.finals for one in read_log(run.folder / TRAIN_LOG))
    except (OSError, FileError):
        return False


# -- what it cost ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a sweep took, in wall seconds: all attempts, those that ended with a result, those that go on."""

    all_s: float
    done_s: tuple[float, ...]
    running_s: tuple[float, ...]

    @property
    def mean_s(self) -> float | None:
        return math.fsum(self.done_s) / len(self.done_s) if self.done_s else None


def spent_of(directory: Path, *, driven: bool) -> Spent:
    """Return what a sweep has taken so far, by its journal.

    An attempt without an end goes on if the sweep is driven; else its driver died, and its log says when it was last alive.
    """
    begun: dict[Key, float] = {}
    total, done = 0.0, []
    for key, state, at in _events(directory / EVENTS):
        if state == "running":
            begun[key] = at
        elif key in begun:
            seconds = at - begun.pop(key)
            if state == "lost":  # told by a later driver, maybe
                seconds = min(seconds, _alive_s(directory, key, at - seconds))
            total += seconds
            done += [seconds] if state in ("succeeded", "failed") else []
    if not driven:
        total += sum(_alive_s(directory, key, at) for key, at in begun.items())
        begun = {}
    running = tuple(max(0.0, time.time() - at) for at in begun.values())
    return Spent(all_s=total + math.fsum(running), done_s=tuple(done), running_s=running)


def _events(path: Path) -> Iterator[tuple[Key, str, float]]:
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            at = datetime.fromisoformat(event["time"]).timestamp()
            yield (event["arm"], event["seed"], event["attempt"]), event["state"], at


def _alive_s(directory: Path, key: Key, since: float) -> float:
    """Return how long an attempt's log grew; 0 if there is none."""
    with suppress(OSError):
        return max(0.0, (attempt_folder(directory, *key) / TRAIN_LOG).stat().st_mtime - since)
    return 0.0
