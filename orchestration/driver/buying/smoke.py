"""Run a few steps of each recipe before anything is bought (`--smoke`), outside the plan and its evidence."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Protocol

from analysis.sweepdir.layout import TRAIN_LOG, smoke_folder
from analysis.untrusted.refusal import SeedproofError
from orchestration.disk.patient import Disk
from orchestration.driver.care import EXIT_RUN_FAILED
from orchestration.driver.dealing import Listener
from orchestration.driver.job import Job
from orchestration.driver.progress import tail
from orchestration.worker.manifest import give_up
from orchestration.worker.order import Began, Ended, Part, RunOrder

ENOUGH_STEPS = 3  # beyond step 0


class SmokeError(SeedproofError):
    """A recipe that does not train, as one sentence with the log."""

    exit_code = EXIT_RUN_FAILED


class Runs(Protocol):
    """What a smoke run needs of the pool."""

    def submit(self, order: RunOrder, *, lost_on: str | None = None, first: bool = False) -> None:
        """Queue the run."""

    def poll(self) -> None:
        """Take what has come in."""

    def close(self) -> None:
        """End the run."""


class _SmokeListener:
    """Record what becomes of one smoke run. since: when it was given to a node. end: how it ended by itself."""

    def __init__(self, job: Job, disk: Disk, say: Callable[[str], None]) -> None:
        self.job, self.disk, self.say = job, disk, say
        self.since: float | None = None
        self.end: Ended | None = None

    def may_start(self, order: RunOrder) -> bool:
        return True

    def started(self, order: RunOrder, node: str) -> None:
        self.since = self.since or time.monotonic()

    def arrived(self, order: RunOrder, message: Began | Part) -> None:
        self.job.take(order, message, self.disk)

    def ended(self, order: RunOrder, node: str, end: Ended) -> None:
        self.end = end
        self.job.brought_over(order, end, self.disk)


def smoke(
    order_of: Callable[[Job], RunOrder],
    arms: dict[str, int],
    disk: Disk,
    say: Callable[[str], None],
    pool_of: Callable[[Listener], Runs],
) -> None:
    """Try each arm with its seed for a few steps, one after the other. Raises SmokeError at the first that fails.

    arms: the seed of each, which is not in the plan.
    """
    for arm, seed in arms.items():
        job = Job(arm=arm, seed=seed)
        order = order_of(job)
        number = next(n for n in count(1) if not smoke_folder(order.sweep_directory, arm, n).exists())
        order = replace(order, folder=smoke_folder(order.sweep_directory, arm, number), attempt=number)
        say(f"Trying {arm} for {ENOUGH_STEPS} steps.")
        listener = _SmokeListener(job, disk, say)
        pool = pool_of(listener)
        try:
            why = _try(order, pool, listener)
        finally:
            pool.close()
            if listener.since is not None and listener.end is None:
                give_up(order, "stopped", "a smoke run ends after its first steps")
        if why is not None:
            raise SmokeError(
                f"{arm} does not train, so nothing was bought: {why}. Its log is {order.folder / TRAIN_LOG}"
            )


def seed_outside(planned: tuple[int, ...]) -> int:
    """Return the smallest seed that a plan does not have."""
    return next(seed for seed in count() if seed not in planned)


def _try(order: RunOrder, pool: Runs, listener: _SmokeListener) -> str | None:
    """Run until there are enough steps, the run's end or the stall time-out; return what went wrong, or None."""
    pool.submit(order)
    reason = None
    while True:
        pool.poll()
        if listener.end is not None and listener.end.state == "pending":  # its node had no room
            reason, listener.end = listener.end.reason, None
            pool.submit(order, first=True)
        if listener.end is not None:
            return (
                None
                if listener.end.state == "succeeded"
                else f"{listener.end.state}: {listener.end.reason or 'no reason given'}"
            )
        steps = _steps(order)
        if steps >= ENOUGH_STEPS:
            return None
        if listener.since is not None and time.monotonic() - listener.since > order.stall_timeout_s:
            late = f"it printed no training step within {order.stall_timeout_s:g} s (--stall-timeout)"
            return None if steps else reason or late


def _steps(order: RunOrder) -> int:
    run = tail(order.folder)
    return 0 if run is None else len({step.step for step in run.steps if step.step > 0})
