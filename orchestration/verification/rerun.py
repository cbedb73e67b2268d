"""One record in the queue: an ordinary driver on its own sweep directory, and what its files say so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from analysis.evidence.options import Options
from analysis.reading.reader import read_log
from analysis.record.sweep import sweep_results
from analysis.sweepdir.journal import read_journal
from analysis.sweepdir.layout import CANDIDATE, DONE, TRAIN_LOG
from analysis.sweepdir.manifest import PlannedRun, planned_runs
from analysis.sweepdir.plan import Plan
from analysis.untrusted.files import FileError
from analysis.verdict.answer import CONTINUE
from analysis.verdict.judge import judge
from orchestration.disk.lock import Lock
from orchestration.driver.buying.budget import spent_before
from orchestration.driver.care import Care
from orchestration.driver.job import Job
from orchestration.driver.loop import Driver
from orchestration.verification.answer import Fresh
from orchestration.verification.planning import Asked


class Rerun(Driver):
    """A driver among others. may_spend: whether the budget pays for so many more runs. unpaid: whether it refused some."""

    def __init__(self, directory: Path, plan: Plan, *, asked: Asked, may_spend: Callable[[int], bool]) -> None:
        lock = Lock(directory)
        try:
            lock.beat()
            super().__init__(directory, plan, Care(), lock, None)
            self.progress.name, self.progress.bars = directory.name, None
            self.size = replace(self.size, image=asked.image)
            self.orders.sandbox = asked.sandbox
            self.may_spend, self.unpaid = may_spend, False
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
        return [job for job in due if self.may_run(job)]

    @property
    def waits_for_room(self) -> bool:
        """Return whether a run waits for any node; the second of a pair waits for the node of the first."""
        waiting = [job for job in self.jobs.values() if job.queued and job.state == "pending"]
        seconds = [job for job in waiting if self.plan.design.paired and self._has_begun(job.seed)]
        return self.pool.open > len(self.running()) + len(seconds)

    def _has_begun(self, seed: int) -> bool:
        return any(self.jobs[arm, seed].state in ("running", *DONE) for arm in self.plan.arms)

    @property
    def complete(self) -> bool:
        return not any(map(self.may_run, self.jobs.values())) or self.is_over()

    def why_over(self) -> str:
        """Return why a sweep without an answer gets no more runs."""
        lost = next((job for job in self.jobs.values() if job.state == "lost" and not self.may_run(job)), None)
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


def spent_of(directory: Path, rerun: Rerun | None) -> Spent:
    """Return what a sweep has taken so far, over all its drivers: by its journal and by the driver that runs now, if any."""
    entries = [one for attempts in read_journal(directory).runs.values() for one in attempts.values()]
    done = tuple(one.wall_s for one in entries if one.state in DONE and one.wall_s is not None)
    if rerun is None:
        return Spent(all_s=spent_before(directory), done_s=done, running_s=())
    now = datetime.now(UTC)
    running = [(now - one.started).total_seconds() for one in entries if not one.has_ended and one.started is not None]
    return Spent(all_s=rerun.budget.spent_h * 3600 / rerun.budget.units, done_s=done, running_s=tuple(running))
