"""From a frozen plan to the exit code of its sweep: takes the lock, runs Ray, reports every way in which a sweep can end."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.report.said.headline import first_lines
from analysis.sweepdir.layout import FRAME, LOCK, PLAN, REPORT_HTML, REPORT_MARKDOWN, VERDICT, SweepError
from analysis.sweepdir.plan import check_drivable, read_sweep_plan
from analysis.sweepdir.registry import RegistryError
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.answer import CONTINUE, SUPPORTED, UNUSABLE
from orchestration.disk.lock import HeldError, Lock
from orchestration.disk.patient import DiskError, GoneError
from orchestration.driver.buying.smoke import SmokeError, seed_outside, smoke
from orchestration.driver.care import EXIT_RUN_FAILED, Care, not_complete
from orchestration.driver.conclude import write_reports
from orchestration.driver.head import prepare_ray, where_dashboard
from orchestration.driver.loop import Driver, StopError

if TYPE_CHECKING:
    from orchestration.disk.storage import Storage

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FLUSH_S = 60.0  # for what is still to be copied at the end


def carry_out(directory: Path, care: Care, *, fresh: bool = False) -> int:
    """Run all of a frozen plan that has no result yet; return the exit code.

    fresh: the plan was frozen just now. Raises SweepError, HeldError, EngineError.
    """
    if care.storage is None:
        read_sweep_plan(directory)  # write nothing to a folder that is not a sweep
    try:
        lock = Lock(directory)
    except OSError as error:
        raise SweepError(f"{directory / LOCK} cannot be written: {error.strerror}. Nothing was started.") from None
    if lock.was_damaged:
        click.echo(
            f"Note: {directory / LOCK} was not readable. Make sure that nothing of the sweep runs elsewhere.", err=True
        )
    try:
        return _locked(lock, directory, care, fresh=fresh)
    except GoneError as error:
        if care.storage is not None:
            return not_complete(directory, care, f"Error: {error}")
        raise
    except DiskError as error:
        return not_complete(directory, care, f"Error: {error}")
    except OSError as error:
        click.echo(f"Error: {error.filename or directory} cannot be used: {error.strerror or error}.", err=True)
    except KeyboardInterrupt:
        click.echo("Stopped: the sweep is not complete.", err=True)
    return EXIT_RUN_FAILED


def _locked(lock: Lock, directory: Path, care: Care, *, fresh: bool) -> int:
    """Take the storage, run the sweep, and give it and the lock back."""
    storage, code = None, EXIT_RUN_FAILED
    lock.beat()
    try:
        if care.storage is not None:
            storage = _opened(care.storage, directory, fresh=fresh)
            if storage.sweep is not None:
                lock.adopt(storage.sweep)
            storage.beat(lock.owner.content)
        plan = read_sweep_plan(directory)
        check_drivable(plan, directory)
        care.check(plan)
        code = _driven(Driver(directory, plan, care, lock, storage), fresh=fresh)
    except (SeedproofError, OSError):
        raise
    except Exception as error:  # of Ray, or a bug of ours: there is no verdict, so not the exit code of one
        traceback.print_exc()
        why = f"Error: the driver broke down ({type(error).__name__}); every run's files are kept."
        code = not_complete(directory, care, why)
    finally:
        with contextlib.suppress(OSError):  # on a full disk; the lock of a process that has ended is free anyway
            lock.release()
        if storage is not None and (missing := storage.close(lock.owner.content, FLUSH_S)):
            code = not_complete(directory, care, f"Error: {missing}")
    return code


def _driven(driver: Driver, *, fresh: bool) -> int:
    """Run the sweep, call the user's command however it ended, and return the exit code."""
    code = None
    try:
        code = _drive(driver, fresh=fresh)
        return code
    finally:
        verdict = driver.verdict
        if verdict is None:
            driver.notifier.tell("stopped", "The sweep ended without a verdict.", exit_code=code)
        else:
            more = {"verdict": verdict.verdict, "gate": verdict.gate, "exit_code": code}
            driver.notifier.tell("verdict", " ".join(first_lines(verdict)), **more)
        driver.notifier.close()


def _opened(url: str, directory: Path, *, fresh: bool) -> Storage:
    from orchestration.disk.storage import Storage  # loads pyarrow

    try:
        return Storage(url, directory, fresh=fresh)
    except (SweepError, HeldError):
        if fresh:
            (directory / PLAN).unlink()  # nothing ran: the corrected command may use the same folder
        raise


def _drive(driver: Driver, *, fresh: bool) -> int:
    """Run what has no result, and write the verdict."""
    driver.settle()
    _announce(driver)
    if not any(map(driver.may_run, driver.jobs.values())) or driver.is_over():
        return _conclude(driver)
    token = prepare_ray()
    from orchestration.driver.start.connect import EngineError

    directory, care = driver.directory, driver.care
    try:
        driver.registrar.open()
        driver.notifier.tell("start", f"{len(driver.jobs) - driver.progress.done} runs have no result yet.")
        _run_on_ray(driver, token)
    except (EngineError, RegistryError, SmokeError) as error:
        if fresh and not driver.has_begun():
            (directory / PLAN).unlink()  # nothing ran: the corrected command may use the same folder
            raise
        return not_complete(directory, care, f"Error: {error}")
    except StopError as error:
        if not driver.taken_at():
            return not_complete(directory, care, f"Error: {error}")
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        why = f"Error: {error.filename or directory} cannot be written: {error.strerror}."
        return not_complete(directory, care, why)
    except KeyboardInterrupt:
        return not_complete(directory, care, "Stopped: the sweep is not complete.")
    return _conclude(driver)


def _announce(driver: Driver) -> None:
    plan, runs, done = driver.plan, len(driver.jobs), driver.progress.done
    many = f"at most {runs} runs, {plan.design.boundary} boundary" if plan.design.sequential else f"{runs} runs"
    many += ", each pair on one node" if plan.design.paired else ""
    click.echo(
        f"Plan {plan.sha256[:12]}: {many} ({', '.join(plan.arms)}; {plan.seeds_are} seeds "
        f"{', '.join(map(str, plan.seeds))}), each on {driver.size}. Everything goes to {driver.directory}"
    )
    if done:
        click.echo(f"{done} of {runs} runs have a result already.")


def _run_on_ray(driver: Driver, token: str | None) -> None:
    from orchestration.driver.engine import Pool
    from orchestration.driver.start.connect import cluster

    def head_gone() -> None:
        """Exit with the code of a sweep that is not complete, before Ray exits with that of a verdict."""
        code = EXIT_RUN_FAILED
        try:
            driver.disk.hurry()
            driver.abandon("Ray's head no longer answers")
            why = "Error: Ray's head no longer answers; its workers will end, too."
            code = not_complete(driver.directory, driver.care, why)
            sys.stdout.flush()
        finally:
            os._exit(code)

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    click.echo("Starting Ray.")
    threading.Thread(target=_load_reports, daemon=True).start()
    with cluster(head_gone, dashboard=driver.care.dashboard) as found:
        if driver.care.dashboard:
            click.echo(where_dashboard(found.dashboard, token))
        wait_s, paired = 60 * driver.care.wait_for_nodes, driver.plan.design.paired
        pool_of = partial(Pool, driver.size, wait_s=wait_s, paired=paired, causes=found.causes)
        driver.pool = pool_of(driver)
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or not nohup:
                signal.signal(number, _stop)  # after Ray has set its own
        try:
            if driver.care.smoke and not driver.has_begun():
                arms = dict.fromkeys(driver.plan.arms, seed_outside(driver.plan.seeds))
                smoke(lambda job: driver.orders.of(job, 1), arms, driver.disk, driver.say, pool_of)
            driver.run_out()
        except BaseException as error:
            driver.disk.hurry()
            driver.stop("the sweep was stopped" if isinstance(error, KeyboardInterrupt) else str(error))
            raise
        driver.stop(driver.limit or driver.looks.why)


def _load_reports() -> None:
    """Load what the reports need while Ray starts, and not at the end, when somebody waits."""
    with contextlib.suppress(ImportError, SeedproofError):
        importlib.import_module("pandas")
        importlib.import_module("analysis.report.html.page")


def _stop(number: int, frame: Any) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # stopping has begun
    raise KeyboardInterrupt


def _conclude(driver: Driver) -> int:
    """Write the verdict of a finished sweep, name the runs that count and have no result; return the exit code.

    Raises JournalError.
    """
    driver.digests.wait()
    driver.journal.check_content()  # the verdict rests on it
    verdict, counted = write_reports(driver.directory, driver.plan, driver.disk), driver.plan.seeds
    driver.verdict = verdict
    driver.copy(*(driver.directory / name for name in (FRAME, VERDICT, REPORT_MARKDOWN, REPORT_HTML)))
    if verdict.sequential is not None and verdict.verdict is SUPPORTED:
        counted = counted[: verdict.sequential.taken]
    bad = [job for job in driver.jobs.values() if job.seed in counted and job.state in ("failed", "lost")]
    for job in bad:
        over = (
            "" if job.state == "failed" or driver.may_run(job) else f" (all {driver.plan.max_attempts} attempts lost)"
        )
        click.echo(f"Error: {job.arm} seed {job.seed} has no result: {job.state}: {job.reason}{over}", err=True)
    unspent = driver.limit if verdict.verdict in (CONTINUE, UNUSABLE) else None
    if unspent is not None:
        return not_complete(driver.directory, driver.care, f"Error: {unspent}")
    if any(driver.may_run(job) for job in bad):
        not_complete(driver.directory, driver.care)
    return EXIT_RUN_FAILED if bad else verdict.gate_code
