"""Drives the runs of a frozen plan to the verdict: which run is due, what is made again, when to stop.

All state lies in the sweep directory: a driver that dies takes nothing along, and the next one goes on from the files.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import shlex
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.rules.ruleset import RulesError, from_plan
from analysis.sweepdir.layout import (
    FIXED,
    PLAN,
    RUN_MANIFEST,
    SEQUENTIAL,
    SweepError,
    attempt_folder,
    attempt_folders,
    read_json,
    read_script,
    read_sweep_plan,
)
from analysis.verdict.verdict import SUPPORTED
from orchestration.disk.files import now, write_json
from orchestration.disk.journal import Journal
from orchestration.disk.lock import HeldError, Lock
from orchestration.driver.conclude import write_reports
from orchestration.driver.looks import Looks
from orchestration.driver.progress import Progress, last_bpb, tail
from orchestration.worker.run import RunOrder, read_manifest
from orchestration.worker.transfer import Inbox

if TYPE_CHECKING:
    from orchestration.disk.storage import Storage

EXIT_USAGE, EXIT_RUN_FAILED = 2, 4
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DONE = ("succeeded", "failed")
GAUGE_S = 5.0
EVALUATION_AND_SLACK_S = 2400.0
FLUSH_S = 60.0  # for what has still to be copied at the end


@dataclass(frozen=True, slots=True)
class Care:
    """How runs are looked after: nothing of it changes what they compute."""

    max_attempts: int = 3
    stall_timeout_s: float = 300.0
    deadline_s: float | None = None
    wait_s: float = 0.0
    ahead: int = 1
    storage: str | None = None
    again: tuple[str, ...] = ()  # the options that `resume` needs, too
    fresh: bool = False  # the plan was frozen just now


class StopError(RuntimeError):
    """The sweep ends with what it has; the message says why."""


def prepare_ray() -> None:
    """What Ray reads once, when it is imported: no usage reports, and, for a Ray of our own, a secret and no workers ahead.

    Left to itself Ray writes a secret to the home folder, and from then on every `ray start` asks for it while
    `ray job submit` does not send it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # ours have an environment of their own
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def carry_out(directory: Path, care: Care) -> int:
    """Make every run of a frozen plan that has no result yet; returns the exit code.

    Raises SweepError, lock.HeldError, OSError, KeyboardInterrupt.
    """
    if care.storage is None:
        read_sweep_plan(directory)  # nothing is written to a folder that is no sweep
    lock, storage, code = Lock(directory), None, EXIT_RUN_FAILED
    lock.beat()
    try:
        if care.storage is not None:
            storage = _opened(care.storage, directory, care.fresh)
            if storage.sweep is not None:
                lock.adopt(storage.sweep)
            storage.beat(lock.content)
        plan = _drivable(directory)
        if care.ahead != 1 and plan.get("design", {}).get("name") != SEQUENTIAL:
            raise SweepError("--parallel belongs to --design sequential; a fixed sweep runs all that fit.")
        code = _Driver(directory, plan, care, lock, storage).drive()
    except (SweepError, HeldError, OSError):
        raise
    except Exception as error:  # of Ray, or a bug of ours: no verdict, so not the exit code of one
        traceback.print_exc()
        click.echo(f"Error: the driver broke down ({type(error).__name__}); every run's files are kept.", err=True)
        code = go_on(directory, care)
    finally:
        try:
            lock.release()
        except OSError as error:
            click.echo(f"Error: {directory}: the lock cannot be given back: {error.strerror}.", err=True)
        if storage is not None and (missing := storage.close(lock.content, FLUSH_S)):
            click.echo(f"Error: {missing}", err=True)
            code = go_on(directory, care)
    return code


def _drivable(directory: Path) -> dict[str, Any]:
    """The plan, with all that a driver needs of it; it may be somebody else's. Raises SweepError."""
    plan, path = read_sweep_plan(directory), directory / PLAN
    try:
        from_plan(plan)
    except RulesError as error:
        raise SweepError(f"{path}: {error}") from None
    whole = [plan.get("gpus_per_run"), plan.get("cpus_per_run")]
    texts = [plan["script"].get("path"), plan.get("seeds_are")]
    tables = [arm.get("env") for arm in plan["arms"].values()]
    for kind, values in ((int, whole), (str, texts), (dict, tables)):
        if not all(type(value) is kind for value in values):
            raise SweepError(
                f"{path} cannot be driven: it needs gpus_per_run, cpus_per_run, seeds_are, the script's path and each arm's env."
            )
    if plan.get("design", {}).get("name", FIXED) == FIXED and "looks" in plan.get("design", {}):
        raise SweepError(f"{path} cannot be driven: its design is fixed, and has looks.")
    return plan


def _opened(url: str, directory: Path, fresh: bool) -> Storage:
    from orchestration.disk.storage import Storage  # loads pyarrow

    try:
        return Storage(url, directory)
    except (SweepError, HeldError):
        if fresh:
            (directory / PLAN).unlink()  # nothing ran: the corrected command may use the same folder
        raise


def go_on(directory: Path, care: Care) -> int:
    """Say how to go on with a sweep that is not complete; its exit code."""
    words = ["python", "-m", "orchestration.sweep", "resume", str(directory), *care.again]
    click.echo(f"Go on with: {shlex.join(words)}", err=True)
    return EXIT_RUN_FAILED


class _Driver:
    """One driver's work on one sweep."""

    def __init__(self, directory: Path, plan: dict[str, Any], care: Care, lock: Lock, storage: Storage | None) -> None:
        self.directory, self.plan, self.care, self.lock, self.storage = directory, plan, care, lock, storage
        self.arms: list[str] = list(plan["arms"])
        self.rules = from_plan(plan)
        self.script = read_script(directory, plan)
        self.states: dict[tuple[str, int], str] = {}
        self.orders: dict[tuple[str, int], RunOrder] = {}
        self.first_attempt: dict[tuple[str, int], int] = {}
        self.unbegun: Counter[tuple[str, int]] = Counter()  # attempts that did not come as far as to a folder
        self.refused: dict[tuple[str, int], float] = {}  # since when a run finds no room
        self.inboxes: dict[RunOrder, Inbox] = {}  # of runs on nodes that do not share the directory
        self.looks = Looks(directory, plan, self.say)
        self.next_gauge = 0.0
        self.journal = Journal(directory)
        self.progress = Progress(len(plan["seeds"]) * len(self.arms))
        self.queued: set[tuple[str, int]] = set()

    # -- before the first run ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Read where every run stands; an attempt that a dead driver left without an end is lost."""
        for seed in self.plan["seeds"]:
            for arm in self.arms:
                there = attempt_folders(self.directory, arm, seed)
                begun = [number for a, s, number in self.journal.begun if (a, s) == (arm, seed)]
                for number in begun:
                    order = self.order(arm, seed, number)
                    if (arm, seed, number) in self.journal.finished and read_manifest(order) is None:
                        raise SweepError(f"{self.journal.path} says that {arm} seed {seed} has a result, and "
                                         f"{order.folder / RUN_MANIFEST} is not there: put it back, or plan a new sweep.")  # fmt: skip
                last = max([*there, *begun], default=0)
                self.first_attempt[arm, seed] = last + 1
                if last == 0:
                    continue
                order = self.order(arm, seed, last)
                manifest = self.end(order, {"state": "lost", "reason": "its driver went away"})
                self.states[arm, seed] = manifest["state"]
                self.orders[arm, seed] = order

    def order(self, arm: str, seed: int, attempt: int) -> RunOrder:
        plan = self.plan
        deadline = self.care.deadline_s
        if deadline is None and self.rules.train_time_s is not None and plan["gpus_per_run"]:
            deadline = self.rules.train_time_s + EVALUATION_AND_SLACK_S
        # a run does not use what Ray has not given to it
        hidden = {} if plan["gpus_per_run"] else {"CUDA_VISIBLE_DEVICES": ""}
        return RunOrder(
            arm, seed, attempt, attempt_folder(self.directory, arm, seed, attempt), Path(plan["script"]["path"]),
            plan["script"]["sha256"], self.script, hidden | plan["arms"][arm]["env"], plan["gpus_per_run"] or plan["cpus_per_run"],
            self.rules, self.lock.sweep, self.lock.driver, self.care.stall_timeout_s, deadline,
        )  # fmt: skip

    # -- what happens --------------------------------------------------------------------------------------------------

    def event(self, order: RunOrder, state: str, reason: str | None = None, node: str | None = None) -> None:
        self.states[order.arm, order.seed] = state
        if state not in ("pending", "running"):
            self.copy(order.folder)  # before the journal tells of it
        self.journal.write((order.arm, order.seed, order.attempt), state, reason, node)
        self.copy(self.journal.path)

    def copy(self, *paths: Path) -> None:
        """Copy to the storage, where there is one, what has come and what could not be copied before."""
        if self.storage is not None and (trouble := self.storage.put(*paths)):
            self.say(trouble)

    def end(self, order: RunOrder, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the end of an attempt whose worker did not come to say it; the manifest that stands then.

        Where the worker came to write it, but not to tell, that stands.
        """
        path = order.folder / RUN_MANIFEST
        order.folder.mkdir(parents=True, exist_ok=True)
        beginning: dict[str, Any] = {
            "state": "pending",
            "arm": order.arm,
            "seed": order.seed,
            "attempt": order.attempt,
            "started": now(),
        }
        written = read_manifest(order) or beginning
        if written["state"] in ("pending", "running"):
            written = written | {"ended": now()} | manifest
            write_json(path, written)
        if (order.arm, order.seed, order.attempt) not in self.journal.ended:
            self.event(order, written["state"], written.get("reason"), written.get("ray_node_id"))
        return written

    def started(self, order: RunOrder, node: str) -> None:
        self.event(order, "running", node=node)
        self.progress.started(order, quiet=(order.arm, order.seed) in self.refused)

    def arrived(self, order: RunOrder, kind: str, content: Any) -> None:
        """Take what comes over from a node that does not share the directory."""
        if kind == "began":
            self.inboxes[order] = Inbox(order.folder, content)
        else:
            self.inboxes[order].take(kind, content)

    def ended(self, order: RunOrder, node: str, manifest: dict[str, Any]) -> None:
        key = order.arm, order.seed
        if manifest["state"] == "pending":  # the node had no room
            self.event(order, "pending", manifest["reason"], node)
            self.progress.refused(order, manifest["reason"], quiet=key in self.refused)
            since = self.refused.setdefault(key, time.monotonic())
            if time.monotonic() - since > self.care.stall_timeout_s and "running" not in self.states.values():
                raise StopError(f"{order.name} finds no room: {manifest['reason']}.")
            self.pool.submit(order, first=True)
            return
        self.refused.pop(key, None)
        if not order.folder.exists() and self.unbegun[key] < self.care.max_attempts:
            self.unbegun[key] += 1  # its node died before it began: that is no attempt of the seed's
            self.first_attempt[key] += 1
        inbox = self.inboxes.pop(order, None)
        if inbox is not None and manifest.get("ended"):
            manifest = inbox.close(manifest)
        elif inbox is not None:
            inbox.clear()
        if manifest.get("ended"):
            self.event(order, manifest["state"], manifest["reason"], node)
        else:
            manifest = self.end(order, manifest)
        self.progress.ended(order, manifest)
        if self.looks.over(self.states):
            self.pool.clear()
            return
        if manifest["state"] == "lost" and order.attempt - self.first_attempt[key] + 1 < self.care.max_attempts:
            again = replace(order, attempt=order.attempt + 1,
                            folder=attempt_folder(self.directory, order.arm, order.seed, order.attempt + 1))  # fmt: skip
            self.orders[key] = again
            self.say(f"{order.name}: attempt {again.attempt} of the same seed follows.")
            self.pool.submit(again, lost_on=node, first=True)

    def say(self, text: str) -> None:
        self.progress.say(text)

    # -- the sweep -----------------------------------------------------------------------------------------------------

    def drive(self) -> int:
        self.settle()
        prepare_ray()
        from orchestration.driver.engine import EngineError, Pool, Size, cluster

        plan = self.plan
        size = Size(plan["gpus_per_run"], plan["cpus_per_run"], plan.get("accelerator_type"))
        runs = len(plan["seeds"]) * len(self.arms)
        at_most = (
            f"at most {runs} runs, {plan['design']['boundary']} boundary" if self.looks.sequential else f"{runs} runs"
        )
        click.echo(f"Plan {plan['sha256'][:12]}: {at_most} ({', '.join(self.arms)}; {plan['seeds_are']} seeds "
                   f"{', '.join(map(str, plan['seeds']))}), each on {size}. Everything goes to {self.directory}")  # fmt: skip
        there = sum(state in DONE for state in self.states.values())
        if there:
            click.echo(f"{there} of {runs} runs have a result already.")
        self.progress.done = there
        if there == runs or self.looks.over(self.states):
            return self.conclude()
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        try:
            click.echo("Starting Ray.")
            threading.Thread(target=load_reports, daemon=True).start()
            with cluster(self.head_gone):
                self.pool = Pool(size, self, self.care.wait_s)
                for number in STOP_SIGNALS:
                    if number != signal.SIGHUP or not nohup:
                        signal.signal(number, _stop)  # after Ray has set its own
                try:
                    self.run_out()
                except BaseException as error:
                    why = "the sweep was stopped" if isinstance(error, KeyboardInterrupt) else str(error)
                    self.give_up(why)
                    raise
                self.give_up(self.looks.why)
        except EngineError as error:
            click.echo(f"Error: {error}", err=True)
            if self.care.fresh and not any(path.is_dir() for path in self.directory.glob("*/seed-*")):
                (self.directory / PLAN).unlink()  # nothing ran: the corrected command may use the same folder
                return EXIT_USAGE
            return go_on(self.directory, self.care)
        except StopError as error:
            click.echo(f"Error: {error}", err=True)
            return EXIT_RUN_FAILED if self.taken_at() else go_on(self.directory, self.care)
        except OSError as error:
            click.echo(f"Error: {error.filename or self.directory} cannot be written: {error.strerror}.", err=True)
            return go_on(self.directory, self.care)
        except KeyboardInterrupt:
            click.echo("Stopped: the sweep is not complete.", err=True)
            return go_on(self.directory, self.care)
        return self.conclude()

    def head_gone(self) -> None:
        """Leave with the exit code of a sweep that is not complete, before Ray leaves with that of a verdict."""
        click.echo("Error: Ray's head does not answer any more; its workers will end, too.", err=True)
        code = go_on(self.directory, self.care)
        sys.stdout.flush()
        os._exit(code)

    def give_up(self, reason: str) -> None:
        """End what is under way; first in the files, so that a second signal loses nothing."""
        running = [key for key, state in self.states.items() if state == "running"]
        try:
            for key in running:
                self.end(self.orders[key], {"state": "stopped", "reason": reason})
        finally:
            self.pool.close()

    def run_out(self) -> None:
        """Run until every run that is due has its result, or the verdict is in."""
        self.submit_due()
        while self.pool.open:
            self.pool.poll()
            if where := self.taken_at():
                raise StopError(f"another driver has taken over the sweep at {where}.")
            self.progress.tick()
            self.gauge()
            if self.looks.over(self.states):
                return
            self.submit_due()

    def taken_at(self) -> str | None:
        """Where another driver has taken the sweep over, None while nowhere."""
        if self.lock.taken:
            return str(self.directory)
        return self.care.storage if self.storage is not None and self.storage.taken else None

    def gauge(self) -> None:
        """Tell Ray's metrics where the runs stand."""
        if time.monotonic() < self.next_gauge:
            return
        self.next_gauge = time.monotonic() + GAUGE_S
        for order in self.progress.running:
            if run := tail(order.folder):
                self.pool.show(order, run.last_step, last_bpb(run))

    def submit_due(self) -> None:
        """Queue the runs of the seeds that are due and have no result."""
        for seed in self.looks.due(self.care.ahead):
            for arm in self.arms:
                key = arm, seed
                if key in self.queued or self.states.get(key) in DONE:
                    continue
                self.queued.add(key)
                self.orders[key] = self.order(arm, seed, self.first_attempt[key])
                self.pool.submit(self.orders[key])

    def conclude(self) -> int:
        """Write the verdict of a finished sweep and what has no result; returns the exit code."""
        verdict, written = write_reports(self.directory, self.plan)
        self.copy(*written)
        counted = self.plan["seeds"]
        if verdict.sequential is not None and verdict.verdict == SUPPORTED:
            counted = counted[: verdict.sequential.taken]
        bad = [
            self.orders[key] for key, state in self.states.items() if key[1] in counted and state in ("failed", "lost")
        ]
        for order in bad:
            manifest = read_json(order.folder / RUN_MANIFEST)
            click.echo(f"Error: {order.name} has no result: {manifest['state']}: {manifest.get('reason')}", err=True)
        if any(self.states[order.arm, order.seed] == "lost" for order in bad):
            go_on(self.directory, self.care)
        return EXIT_RUN_FAILED if bad else verdict.exit_code


def load_reports() -> None:
    """Load what the reports need while Ray starts, and not at the end, when somebody waits."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pandas")
        importlib.import_module("analysis.report.page")


def _stop(number: int, frame: Any) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # stopping has begun
    raise KeyboardInterrupt
