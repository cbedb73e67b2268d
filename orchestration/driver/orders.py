"""Write the orders that workers get: what is the same for every run of a sweep, and what a run adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import attempt_folder
from analysis.sweepdir.plan import Plan
from orchestration.disk.lock import Lock
from orchestration.driver.care import Care
from orchestration.driver.dealing import Size
from orchestration.driver.job import Job
from orchestration.worker.order import RunOrder, Sandbox

EVALUATION_AND_SLACK_S = 2400.0


@dataclass(slots=True, kw_only=True)
class Orders:
    """The orders of one sweep. code: the frozen files, by their path in its directory. sandbox: whether its runs have one."""

    directory: Path
    plan: Plan
    care: Care
    lock: Lock
    size: Size
    rules: Ruleset
    code: Mapping[str, bytes] = field(repr=False)
    sandbox: Sandbox = Sandbox.NONE

    def of(self, job: Job, attempt: int) -> RunOrder:
        """Return the order of one attempt of a run."""
        gpus, deadline = self.size.gpus, self.care.deadline
        if deadline is None and self.rules.train_time_s is not None and gpus:
            deadline = self.rules.train_time_s + EVALUATION_AND_SLACK_S
        hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}  # a run must not use GPUs that Ray has not given it
        return RunOrder(
            arm=job.arm,
            seed=job.seed,
            attempt=attempt,
            folder=attempt_folder(self.directory, job.arm, job.seed, attempt),
            script=Path(self.plan.script.path or ""),
            code=self.code,
            env=hidden | dict(self.plan.envs[job.arm]),
            ranks=gpus or self.size.cpus,
            rules=self.rules,
            sweep=self.lock.sweep,
            driver=self.lock.driver,
            stall_timeout_s=self.care.stall_timeout,
            deadline_s=deadline,
            sandbox=self.sandbox,
        )
