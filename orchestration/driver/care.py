"""How runs are looked after: the options that `run` and `resume` share. None of them changes what a run computes."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

import click

from analysis.sweepdir.layout import SweepError
from analysis.sweepdir.plan import Plan
from analysis.sweepdir.registry import branch_of
from analysis.untrusted.invoked import command

EXIT_RUN_FAILED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """The options by their names: stall_timeout and deadline in seconds, wait_for_nodes in minutes, parallel in seeds.

    dashboard: whether our own Ray has its dashboard. max_gpu_hours: in core-hours where a run has no GPU. notify: a command line. registry: where attempts are entered.
    """

    stall_timeout: float = 300.0
    deadline: float | None = None
    wait_for_nodes: float = 0.0
    storage: str | None = None
    parallel: int = 1
    dashboard: bool = False
    keep_going: bool = False
    smoke: bool = False
    max_gpu_hours: float | None = None
    notify: str | None = None
    registry: str | None = None

    def check(self, plan: Plan) -> None:
        """Raise SweepError where an option does not fit the plan."""
        if self.parallel != 1 and not plan.design.sequential:
            raise SweepError("--parallel belongs to --design sequential; a fixed sweep runs all that fit.")
        if self.keep_going and plan.design.sequential:
            raise SweepError("--keep-going belongs to --design fixed; a sequential sweep ends with its verdict.")
        if self.storage is not None and "://" not in self.storage:
            raise SweepError(f"--storage {self.storage} is no URL: write file:///FOLDER, s3://... or gs://...")
        if self.registry is not None:
            branch_of(self.registry)  # which refuses a text that is no URL
        try:
            empty = self.notify is not None and not shlex.split(self.notify)
        except ValueError as error:
            raise SweepError(f"--notify {self.notify!r} is no command line: {error}.") from None
        if empty:
            raise SweepError("--notify is empty; give a command, for example 'python tell.py'.")

    def words(self) -> list[str]:
        """Return the options that differ from the defaults, as on a command line."""
        usual = Care()
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        words = []
        for name, value in given.items():
            if value is not None and value != getattr(usual, name):
                words.append(f"--{name.replace('_', '-')}")
                if value is not True:
                    words.append(f"{value:g}" if isinstance(value, float) else str(value))
        return words


def not_complete(directory: Path, care: Care, why: str | None = None) -> int:
    """Say why a sweep is not complete, and how to go on with it; return its exit code."""
    if why is not None:
        click.echo(why, err=True)
    again = command("orchestration.sweep", "resume", str(directory), *care.words())
    click.echo(f"Go on with: {again}", err=True)
    if "RAY_JOB_SUBMISSION_ID" in os.environ:
        click.echo(
            f"The exit code is {EXIT_RUN_FAILED}, but `ray job submit` exits with 0 after `ray job stop`.", err=True
        )
    return EXIT_RUN_FAILED
