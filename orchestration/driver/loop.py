"""Drive the runs of a frozen plan: which run is due, which is retried, when to stop.

All state is in the sweep directory: a driver that dies takes nothing along, and the next one continues from the files.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.sweepdir.code import read_code
from analysis.sweepdir.journal import JournalRead
from analysis.sweepdir.json_files import read_json
from analysis.sweepdir.layout import RUN_MANIFEST, TRAIN_LOG, SweepError, attempt_folders
from analysis.sweepdir.manifest import RunManifest, attempts_of
from analysis.sweepdir.plan import Plan
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.verdict import Verdict
from orchestration.disk.digests import Digests
from orchestration.disk.journal import DRIVER_GONE, Journal
from orchestration.disk.lock import Lock
from orchestration.disk.patient import Disk
from orchestration.driver.buying.budget import Budget, spent_before
from orchestration.driver.buying.notify import LOSSES, Notifier
from orchestration.driver.buying.register import Registrar
from orchestration.driver.care import EXIT_RUN_FAILED, Care
from orchestration.driver.dealing import Size
from orchestration.driver.job import Job
from orchestration.driver.looks import Looks
from orchestration.driver.orders import Orders
from orchestration.driver.progress import Progress, last_bpb, tail
from orchestration.worker.manifest import give_up
from orchestration.worker.order import Began, Ended, Part, RunOrder

if TYPE_CHECKING:
    from orchestration.disk.storage import Storage
    from orchestration.driver.engine import Pool

GAUGE_S = 5.0
CLOSE_S = 5.0  # Ray cancels a run without its head, too, but gives no room back


class StopError(SeedproofError):
    """The sweep ends with what it has; the message says why."""

    exit_code = EXIT_RUN_FAILED


class Driver:
    """One driver's work on one sweep. `pool` is set once Ray runs.

    limit: why no more may be spent, once that is so. verdict: once the sweep has one.
    """

    pool: Pool

    def __init__(self, directory: Path, plan: Plan, care: Care, lock: Lock, storage: Storage | None) -> None:
        self.directory, self.plan, self.care, self.lock, self.storage = directory, plan, care, lock, storage
        assert plan.gpus_per_run is not None, "a plan that can be driven"
        assert plan.cpus_per_run is not None, "a plan that can be driven"
        self.size = Size(gpus=plan.gpus_per_run, cpus=plan.cpus_per_run, accelerator_type=plan.accelerator_type)
        code = read_code(directory, plan.script.digests)
        self.orders = Orders(
            directory=directory, plan=plan, care=care, lock=lock, size=self.size, rules=plan.rules(), code=code
        )
        self.jobs = {(arm, seed): Job(arm=arm, seed=seed) for seed in plan.seeds for arm in plan.arms}
        self.progress = Progress(len(self.jobs))
        self.say = self.progress.say
        self.looks = Looks(directory, plan, self.say, keep_going=care.keep_going)
        self.notifier = Notifier(care.notify, {"sweep": directory.name, "plan": plan.sha256}, self.say)
        self.registrar = Registrar(care.registry, plan, lock, self.say)
        gpus, cpus = self.size.gpus, self.size.cpus
        unit = "GPU-hours" if gpus else "core-hours"
        self.budget = Budget(limit_h=care.max_gpu_hours, units=gpus or cpus, unit=unit, past_s=spent_before(directory))
        self.limit: str | None = None
        self.verdict: Verdict | None = None
        self.disk = Disk(directory, care.stall_timeout, self.say)
        self.journal = Journal(directory, self.disk)
        self.digests = Digests(self.disk, self.say, self.copy)
        self.writing = threading.RLock()
        self.next_gauge = 0.0

    # -- before the first run ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Read where every run stands. If a dead driver left an attempt open, it gets its log's result, or it is lost."""
        if not self.journal.tells:
            for job in self.jobs.values():
                for manifest in attempts_of(self.directory, job.arm, job.seed, JournalRead()):
                    self.journal.adopt(manifest)
        for job in self.jobs.values():
            self._settle(job)
        self.progress.done = sum(job.has_result for job in self.jobs.values())

    def _settle(self, job: Job) -> None:
        for number, entry in self.journal.of(job.arm, job.seed).items():
            job.order, job.state, job.reason = self.orders.of(job, number), entry.state, entry.reason
            if entry.state == "succeeded" and not (job.order.folder / TRAIN_LOG).is_file():
                raise SweepError(
                    f"{self.journal.path} says that {job.order.name} has a result, but {job.order.folder / TRAIN_LOG} does "
                    f"not exist: put it back, or plan a new sweep."
                )
            if not entry.has_ended:
                self.give_up(job.order, "lost", DRIVER_GONE, wall_s=self.lock.lived(entry.started))
            else:
                self._add_digests(job.order)
        begun = [*self.journal.of(job.arm, job.seed), *attempt_folders(self.directory, job.arm, job.seed)]
        job.next_attempt = max(begun, default=0) + 1

    def _add_digests(self, order: RunOrder) -> None:
        """Compute the digests that an earlier driver did not get to."""
        with contextlib.suppress(SweepError):  # no run.json: it is for people, and decides nothing
            self.digests.add(order.folder, read_json(order.folder / RUN_MANIFEST))

    # -- what happens --------------------------------------------------------------------------------------------------

    def event(
        self, order: RunOrder, state: str, reason: str | None = None, node: str | None = None, **end: Any
    ) -> None:
        job = self.job_of(order)
        with self.writing:
            job.state, job.reason = state, reason
            if state not in ("pending", "running"):
                self.copy(order.folder)  # before the journal says that it has ended
            self.journal.write(order.key, state, reason, node, **end)
            self.copy(self.journal.path)
        self.budget.note(order.key, state)
        if state in LOSSES:
            self.notifier.tell(state, f"{order.name}: {state}: {reason}", **order.key._asdict())

    def over(self, order: RunOrder, end: RunManifest, node: str | None = None, **more: Any) -> None:
        """Journal how an attempt ended, as its worker reported it or as the driver judged its log. run.json decides nothing."""
        said = {"log_sha256": end.log_sha256, "log_bytes": end.log_bytes, "metric": dict(end.metric) or None}
        self.event(order, end.state, end.reason, node, **said, last=end.last, **more)

    def job_of(self, order: RunOrder) -> Job:
        return self.jobs[order.arm, order.seed]

    def copy(self, *paths: Path) -> None:
        """Copy these files, and those that could not be copied before, to the storage, if there is one."""
        if self.storage is not None and (trouble := self.storage.put(*paths)):
            self.say(trouble)

    def give_up(self, order: RunOrder, state: str, reason: str | None, **more: Any) -> RunManifest:
        """End an attempt whose worker did not report one; return what counts."""
        manifest = self.disk.write(order.folder / RUN_MANIFEST, lambda: give_up(order, state, reason))
        self.over(order, manifest, **more)
        return manifest

    def may_start(self, order: RunOrder) -> bool:
        """Say whether a run may start: it fits what may be spent, and it is registered."""
        if not self.budget.holds_another:
            self.limit = self.budget.sentence()
            self.pool.clear()
            return False
        return self.registrar.has(order.key)

    def started(self, order: RunOrder, node: str) -> None:
        self.disk.check()
        try:
            read_code(self.directory, self.plan.script.digests)
        except SweepError as error:
            raise StopError(str(error)) from None
        self.event(order, "running", node=node)
        self.progress.started(order, quiet=self.job_of(order).refused_since is not None)

    def arrived(self, order: RunOrder, message: Began | Part) -> None:
        self.job_of(order).take(order, message, self.disk)

    def ended(self, order: RunOrder, node: str, end: Ended) -> None:
        job = self.job_of(order)
        if self.journal.has_ended(order.key):
            return  # it was given up already
        if end.state == "pending":
            self.refused(job, order, node, end.reason)
            return
        job.refused_since, job.next_attempt = None, order.attempt + 1
        manifest = job.brought_over(order, end, self.disk)
        if manifest is None:
            manifest = self.give_up(order, end.state, end.reason)
        else:
            self.over(order, manifest, node)
            self.digests.add(order.folder, manifest.table)
        self.progress.ended(order, manifest)
        if self.is_over():
            self.pool.clear()
        elif end.cause is not None and end.cause == job.cause:  # a third time would not help
            if not self.pool.begun:
                raise StopError(f"{end.reason}.")
        elif self.may_run(job):
            job.order = self.orders.of(job, job.next_attempt)
            self.say(f"{order.name}: attempt {job.order.attempt} of the same seed follows.")
            job.cause = end.cause
            self.pool.submit(job.order, lost_on=node, first=True)

    def may_run(self, job: Job) -> bool:
        """Return whether a run has no result yet, and has attempts left by the plan."""
        return not job.has_result and self.journal.lost(job.arm, job.seed) < self.plan.max_attempts

    def refused(self, job: Job, order: RunOrder, node: str, reason: str | None) -> None:
        """Queue a run again whose node had no room. Raises StopError if no node has had room for too long."""
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

    def has_begun(self) -> bool:
        """Return whether anything of the plan was ever started."""
        return any(path.is_dir() for path in self.directory.glob("*/seed-*"))

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == "running"]

    def run_out(self) -> None:
        """Run until every run that is due has its result, or no more are needed. Raises StopError."""
        self.submit_due()
        while self.pool.open and self.turn():
            pass

    def turn(self) -> bool:
        """Take what has come in and queue what is due now; return whether more runs are needed. Raises StopError."""
        self.pool.poll()
        if where := self.taken_at():
            raise StopError(f"another driver has taken over the sweep at {where}.")
        self.journal.check()
        if (why := self.registrar.given_up(self.care.stall_timeout)) and not self.running():
            raise StopError(why)
        self.progress.tick()
        self.gauge()
        if self.budget.used_up:
            self.limit = self.budget.sentence()
        if self.is_over() or self.budget.used_up:
            return False
        self.submit_due()
        return True

    def submit_due(self) -> None:
        """Queue the runs of the seeds that are due and have no result."""
        for number, seed in enumerate(self.looks.due(self.care.parallel)):
            for job in (self.jobs[arm, seed] for arm in self.plan.arms_of(number)):
                if not job.queued and self.may_run(job):
                    job.queued, job.order = True, self.orders.of(job, job.next_attempt)
                    ran_on = (self.journal.node(arm, seed) for arm in self.plan.arms)
                    self.pool.submit(job.order, partner_on=next(filter(None, ran_on), None))

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
