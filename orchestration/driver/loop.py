"""Drives the runs of a frozen plan: which run is due, which is retried, when to stop.

All state is in the sweep directory: a driver that dies takes nothing along, and the next one continues from the files.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.sweepdir.layout import RUN_MANIFEST, SweepError, attempt_folder, attempt_folders
from analysis.sweepdir.manifest import RunManifest
from analysis.sweepdir.plan import Plan, read_script
from analysis.untrusted.refusal import SeedproofError
from orchestration.disk.journal import Journal
from orchestration.disk.lock import Lock
from orchestration.driver.care import EXIT_RUN_FAILED, Care
from orchestration.driver.dealing import Size
from orchestration.driver.job import Job
from orchestration.driver.looks import Looks
from orchestration.driver.progress import Progress, last_bpb, tail
from orchestration.worker.manifest import give_up
from orchestration.worker.order import Began, Ended, Part, RunOrder

if TYPE_CHECKING:
    from orchestration.disk.storage import Storage
    from orchestration.driver.engine import Pool

GAUGE_S = 5.0
CLOSE_S = 5.0  # Ray cancels a run without its head, too, but gives no room back
EVALUATION_AND_SLACK_S = 2400.0


class StopError(SeedproofError):
    """The sweep ends with what it has; the message says why."""

    exit_code = EXIT_RUN_FAILED


class Driver:
    """One driver's work on one sweep. `pool` is set once Ray runs."""

    pool: Pool

    def __init__(self, directory: Path, plan: Plan, care: Care, lock: Lock, storage: Storage | None) -> None:
        self.directory, self.plan, self.care, self.lock, self.storage = directory, plan, care, lock, storage
        assert plan.gpus_per_run is not None, "a plan that can be driven"
        assert plan.cpus_per_run is not None, "a plan that can be driven"
        self.size = Size(gpus=plan.gpus_per_run, cpus=plan.cpus_per_run, accelerator_type=plan.accelerator_type)
        self.rules = plan.rules()
        self.script = read_script(directory, plan)
        self.jobs = {(arm, seed): Job(arm=arm, seed=seed) for seed in plan.seeds for arm in plan.arms}
        self.progress = Progress(len(self.jobs))
        self.say = self.progress.say
        self.looks = Looks(directory, plan, self.say)
        self.journal = Journal(directory)
        self.writing = threading.RLock()
        self.next_gauge = 0.0

    # -- before the first run ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Read where every run stands; an attempt that a dead driver left without an end is lost."""
        for job in self.jobs.values():
            begun = [number for arm, seed, number in self.journal.begun if (arm, seed) == (job.arm, job.seed)]
            for order in (self.order(job, number) for number in begun):
                if order.key in self.journal.finished and order.manifest() is None:
                    raise SweepError(
                        f"{self.journal.path} says that {order.name} has a result, but {order.folder / RUN_MANIFEST} does not "
                        f"exist: put it back, or plan a new sweep."
                    )
            last = max([*attempt_folders(self.directory, job.arm, job.seed), *begun], default=0)
            job.first_attempt = last + 1
            if last:
                job.order = self.order(job, last)
                manifest = self.give_up(job.order, "lost", "its driver went away")
                job.state, job.reason = manifest.state, manifest.reason
        self.progress.done = sum(job.has_result for job in self.jobs.values())

    def order(self, job: Job, attempt: int) -> RunOrder:
        gpus, deadline = self.size.gpus, self.care.deadline
        if deadline is None and self.rules.train_time_s is not None and gpus:
            deadline = self.rules.train_time_s + EVALUATION_AND_SLACK_S
        hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}  # a run does not use what Ray has not given to it
        return RunOrder(
            arm=job.arm,
            seed=job.seed,
            attempt=attempt,
            folder=attempt_folder(self.directory, job.arm, job.seed, attempt),
            script=Path(self.plan.script.path or ""),
            script_sha256=self.plan.script.sha256 or "",
            script_bytes=self.script,
            env=hidden | dict(self.plan.envs[job.arm]),
            ranks=gpus or self.size.cpus,
            rules=self.rules,
            sweep=self.lock.sweep,
            driver=self.lock.driver,
            stall_timeout_s=self.care.stall_timeout,
            deadline_s=deadline,
        )

    # -- what happens --------------------------------------------------------------------------------------------------

    def event(self, order: RunOrder, state: str, reason: str | None = None, node: str | None = None) -> None:
        job = self.job_of(order)
        job.state, job.reason = state, reason
        with self.writing:
            if state not in ("pending", "running"):
                self.copy(order.folder)  # before the journal tells of it
            self.journal.write(order.key, state, reason, node)
            self.copy(self.journal.path)

    def job_of(self, order: RunOrder) -> Job:
        return self.jobs[order.arm, order.seed]

    def copy(self, *paths: Path) -> None:
        """Copy these files, and those that could not be copied before, to the storage, if there is one."""
        if self.storage is not None and (trouble := self.storage.put(*paths)):
            self.say(trouble)

    def give_up(self, order: RunOrder, state: str, reason: str | None) -> RunManifest:
        """Write the end of an attempt whose worker did not report one; return the manifest that counts."""
        manifest = give_up(order, state, reason)
        if order.key not in self.journal.ended:
            self.event(order, manifest.state, manifest.reason, manifest.ray_node_id)
        return manifest

    def started(self, order: RunOrder, node: str) -> None:
        self.event(order, "running", node=node)
        self.progress.started(order, quiet=self.job_of(order).refused_since is not None)

    def arrived(self, order: RunOrder, message: Began | Part) -> None:
        self.job_of(order).take(order, message)

    def ended(self, order: RunOrder, node: str, end: Ended) -> None:
        job = self.job_of(order)
        if end.state == "pending":
            self.refused(job, order, node, end.reason)
            return
        job.refused_since = None
        job.forgive(order, self.care.max_attempts)
        manifest = job.brought_over(end)
        if manifest is None:
            manifest = self.give_up(order, end.state, end.reason)
        else:
            self.event(order, manifest.state, manifest.reason, node)
        self.progress.ended(order, manifest)
        if self.is_over():
            self.pool.clear()
        elif end.cause is not None and end.cause == job.cause:  # a third time would not help
            if not self.pool.begun:
                raise StopError(f"{end.reason}.")
        elif manifest.state == "lost" and job.has_attempts_left(order, self.care.max_attempts):
            job.order = self.order(job, order.attempt + 1)
            self.say(f"{order.name}: attempt {job.order.attempt} of the same seed follows.")
            job.cause = end.cause
            self.pool.submit(job.order, lost_on=node, first=True)

    def refused(self, job: Job, order: RunOrder, node: str, reason: str | None) -> None:
        """Queue a run again that its node had no room for. Raises StopError where no node has had any for long."""
        self.event(order, "pending", reason, node)
        self.progress.refused(order, reason, quiet=job.refused_since is not None)
        now = time.monotonic()
        job.refused_since = now if job.refused_since is None else job.refused_since
        if now - job.refused_since > self.care.stall_timeout and not self.running():
            raise StopError(f"{order.name} finds no room: {reason}.")
        self.pool.submit(order, first=True)

    # -- the sweep -----------------------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Return whether no more seeds are needed."""
        return self.looks.over({key: job.state for key, job in self.jobs.items()})

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == "running"]

    def run_out(self) -> None:
        """Run until every run that is due has its result, or no more are needed. Raises StopError."""
        self.submit_due()
        while self.pool.open:
            self.pool.poll()
            if where := self.taken_at():
                raise StopError(f"another driver has taken over the sweep at {where}.")
            self.progress.tick()
            self.gauge()
            if self.is_over():
                return
            self.submit_due()

    def submit_due(self) -> None:
        """Queue the runs of the seeds that are due and have no result."""
        for seed in self.looks.due(self.care.parallel):
            for job in (self.jobs[arm, seed] for arm in self.plan.arms):
                if not job.queued and not job.has_result:
                    job.queued, job.order = True, self.order(job, job.first_attempt)
                    self.pool.submit(job.order)

    def stop(self, reason: str) -> None:
        """End what is under way; in the files first, so that a second signal loses nothing."""
        try:
            self._give_up_all(reason)
        finally:
            self.pool.close()

    def abandon(self, reason: str) -> None:
        """Do the same from another thread, when calls of Ray may hang. The caller ends the process then."""
        self.writing.acquire(timeout=CLOSE_S)  # for good: nothing follows what is written now
        try:
            self._give_up_all(reason)
        finally:
            closing = threading.Thread(target=self.pool.close, daemon=True)
            closing.start()
            closing.join(CLOSE_S)

    def _give_up_all(self, reason: str) -> None:
        for job in self.running():
            if job.order is not None:
                self.give_up(job.order, "stopped", reason)

    def taken_at(self) -> str | None:
        """Return where another driver has taken the sweep over, or None."""
        if self.lock.taken:
            return str(self.directory)
        return self.care.storage if self.storage is not None and self.storage.taken else None

    def gauge(self) -> None:
        """Show Ray's metrics where the runs stand."""
        if time.monotonic() < self.next_gauge:
            return
        self.next_gauge = time.monotonic() + GAUGE_S
        for order in self.progress.running:
            if run := tail(order.folder):
                self.pool.show(order, run.last_step, last_bpb(run))
