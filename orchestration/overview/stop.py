"""Stop the driver of a sweep as Ctrl-C would, from another terminal. On another machine, print the command to run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from analysis.sweepdir.layout import LOCK, has_plan
from analysis.sweepdir.manifest import planned_runs
from analysis.sweepdir.plan import read_sweep_plan
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import SeedproofError, UsageError, nearest
from orchestration.disk.lock import Owner, living_owner
from orchestration.overview.find import sweeps_below
from orchestration.overview.show import run_lines

PLACES = (Path("sweeps"), Path())
WAIT_S = 120.0  # a driver ends its runs, then copies what its storage lacks
LOOK_S = 0.2
NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*"
)  # a host or a job: what may stand in a command; a lock is anybody's file


class NotStoppedError(SeedproofError):
    """A driver that still runs, as one sentence with what to do."""

    exit_code = 4


def stop(name: str) -> None:
    """Stop the driver of a sweep, wait until it has given the sweep back, and say what became of it. Raises NotStoppedError."""
    directory = sweep_called(name)
    read_sweep_plan(directory)  # before the lock, which might be a link to anything
    owner = living_owner(directory)
    if owner is None:
        click.echo("No driver was running; nothing was stopped.")
    elif owner.job is not None:
        _stop_job(directory, owner, owner.job)
    elif owner.of_this_machine:
        _interrupt(directory, owner)
    else:
        raise NotStoppedError(f"{directory} is driven elsewhere: {owner}.{_there(owner)}")
    click.echo("\n".join(map(printable, _left(directory))))


def sweep_called(name: str) -> Path:
    """Return the sweep directory of this path, or of this name below sweeps/ or the current folder. Raises UsageError."""
    if has_plan(Path(name)):
        return Path(name)
    known: set[str] = set()
    for place in PLACES:
        sweeps = sweeps_below(place).sweeps if place.is_dir() else ()
        named = [path for path in sweeps if path.name == name or path == place / name]
        if len(named) > 1:
            raise UsageError(
                f"{len(named)} sweeps are called {name}: {', '.join(map(str, named))}. Name one by its path."
            )
        if named:
            return named[0]
        known |= {path.name for path in sweeps}
    raise UsageError(
        f"There is no sweep {name}, neither at this path nor below sweeps/ or this folder.{nearest(name, known)}"
    )


def _interrupt(directory: Path, owner: Owner) -> None:
    """Send SIGINT to the driver, which is a process of this machine."""
    pid = owner.pid_here
    if pid is None:
        raise NotStoppedError(f"{directory} is driven in another container of this machine: {owner}.{_there(owner)}")
    if not holds(pid, directory / LOCK):
        raise NotStoppedError(
            f"{directory / LOCK} names process {pid}, but that process does not seem to hold it. "
            f"Find its holder with: fuser {shlex.quote(str(directory / LOCK))}"
        )
    try:
        os.kill(pid, signal.SIGINT)
    except PermissionError:
        raise NotStoppedError(f"You may not stop {owner}. Ask its user.") from None
    except ProcessLookupError:
        return
    click.echo(f"Sent SIGINT to {printable(str(owner))}.", err=True)
    _wait(directory, owner)


def holds(pid: int, lock: Path) -> bool:
    """Return whether a process has this file open; where the system does not tell (macOS), whether it exists."""
    if pid <= 1:
        return False
    if not os.path.isdir("/proc/self/fd"):
        return True
    try:
        return any(os.path.samefile(handle, lock) for handle in Path(f"/proc/{pid}/fd").iterdir() if handle.exists())
    except OSError:
        return False


def _stop_job(directory: Path, owner: Owner, job: str) -> None:
    """Stop the Ray job that the driver is, through the address in the environment."""
    if not NAME.fullmatch(job):
        raise NotStoppedError(f"{directory} names a Ray job that cannot exist: {job!r}.")
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    ray = shutil.which("ray", path=os.path.dirname(sys.executable)) or shutil.which("ray")
    if ray is None or not address.startswith("http"):
        command = f"ray job stop --address http://HEAD:8265 {job}"
        raise NotStoppedError(
            f"{directory} is driven by {owner}. Run: {command} (or set RAY_API_SERVER_ADDRESS=http://HEAD:8265 and repeat)."
        )
    found = subprocess.run([ray, "job", "stop", "--address", address, job], capture_output=True, text=True, check=False)
    if found.returncode:
        said = (found.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotStoppedError(f"`ray job stop --address {address} {job}` failed: {said}")
    click.echo(f"Stopped the Ray job {job}.", err=True)
    _wait(directory, owner)


def _wait(directory: Path, owner: Owner) -> None:
    """Wait until the driver has given the sweep back. Raises NotStoppedError."""
    deadline = time.monotonic() + WAIT_S
    while (now := living_owner(directory)) is not None and now.driver == owner.driver:
        if time.monotonic() > deadline:
            raise NotStoppedError(
                f"{directory} is still driven after {WAIT_S:.0f} s: {owner}. Trying again does no harm."
            )
        time.sleep(LOOK_S)


def _there(owner: Owner) -> str:
    """Return the command that stops a driver on its own machine, as the end of a message."""
    if owner.host is None or owner.pid is None or owner.pid <= 1 or not NAME.fullmatch(owner.host):
        return ""
    return f" Run: ssh {owner.host} kill -INT {owner.pid}"


def _left(directory: Path) -> list[str]:
    """Return how many runs the sweep has, who drives it now, and how to continue it."""
    plan = read_sweep_plan(directory)
    lines = run_lines(directory, planned_runs(directory, plan), living_owner(directory))
    return lines[len(plan.arms) * len(plan.seeds) :]
