"""One run: one torchrun of one seed in its own attempt folder, from the first file to the final state.

Runs inside a Ray task, and needs nothing of Ray itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.sweepdir.code import CACHE, digests_of, read_code
from analysis.sweepdir.layout import MODULES, RUN_MANIFEST, SCRIPT, STACKS, TRAIN_LOG, SweepError
from analysis.sweepdir.manifest import RunManifest
from analysis.untrusted.secrets import secret_name, secret_value
from orchestration.disk.digests import completed
from orchestration.disk.files import write_code
from orchestration.disk.patient import passing
from orchestration.worker import sandbox, supervisor
from orchestration.worker.manifest import begin, finish
from orchestration.worker.order import BEAT_S, Alive, Began, Ended, Message, RunOrder, Sandbox, Waits
from orchestration.worker.outcome import Outcome, judge
from orchestration.worker.preflight import MARKER, end_leftovers, marker, no_room, take_gpus
from orchestration.worker.transfer import Outbox, scratch, shares
from orchestration.worker.watchdog import Watchdog, cut, dump_stacks

# the variables that a run inherits, by name or by beginning, secrets excepted; a recipe or --env gives the others, so that
# the plan holds all that may change a result
INHERITED = re.compile(
    r"(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|TZ|TMPDIR|VIRTUAL_ENV|LD_LIBRARY_PATH|PYTHONPATH|HF_HOME)\Z"
    r"|(?:LC|CONDA|XDG|CUDA|NVIDIA|NCCL|GLOO|TORCH|TRITON|SSL_CERT)_"
)
GPUS = "CUDA_VISIBLE_DEVICES"
WATCH_S, GPU_POLL_S = 0.2, 10.0
END_S = supervisor.GRACE_S + 30.0


def command(order: RunOrder, environment: Mapping[str, str]) -> list[str]:
    """Return torchrun of the frozen script with the order's ranks.

    With setpriv, torchrun dies with its supervisor and the ranks with torchrun, whatever kills them. Only the ranks see the
    frozen modules, before all others, as in the script's own folder. They import nothing of the sweep directory (-P).
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={order.ranks}"]
    rank = [sys.executable, "-P", "-u", str(order.sweep_directory / SCRIPT)]
    if len(order.code) > 1:
        path = os.pathsep.join(filter(None, (str(order.sweep_directory / MODULES), environment.get("PYTHONPATH"))))
        rank = ["env", f"PYTHONPATH={path}", *rank]
    return [*tied(), *torchrun, "--no-python", *tied(), *rank]


def tied() -> list[str]:
    """Return what makes a command die with its parent."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def beside(order: RunOrder, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of what runs around torchrun: of a recipe that nobody trusts, only which GPUs are the run's.

    LD_PRELOAD, PYTHONPATH or HOME would make the supervisor, git or setpriv run the submitted code outside of the sandbox.
    """
    if order.sandbox is Sandbox.NONE:
        return environment
    return run_environment(replace(order, env={name: order.env[name] for name in order.env if name == GPUS}))


def confined(order: RunOrder, words: list[str], environment: Mapping[str, str]) -> list[str]:
    """Return the command line that sets the recipe itself, in a sandbox that sees the frozen code, Python's path and the
    recipe's; without a sandbox where none is made, and as it is for a trusted run.

    environment: what `beside` returns.
    """
    if order.sandbox is Sandbox.NONE:
        return words
    inner = run_environment(order)
    words = ["env", *(f"{name}={inner[name]}" for name in order.env), *words]
    if order.sandbox is Sandbox.AUTO and sandbox.fault():
        return words
    searched = [*environment.get("PYTHONPATH", "").split(":"), *environment.get("LD_LIBRARY_PATH", "").split(":")]
    recipe = [value for name, value in order.env.items() if name.endswith("_PATH")]
    code = [str(order.sweep_directory / name) for name in (SCRIPT, MODULES)]
    seen = [path for path in (*code, *searched, *recipe) if os.path.isabs(path)]
    return [*tied(), *sandbox.wrapped(words, str(order.folder), seen)]


def run_environment(order: RunOrder) -> dict[str, str]:
    """Return the machine's part of the worker's environment, the recipe and the seed; nothing that Ray set for itself.

    One thread a rank, as torchrun itself sets for several ranks: runs next to each other with a thread a core each would
    slow each other down fivefold.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if INHERITED.match(name) and not (secret_name(name, value) or secret_value(value))
    }
    mark = f"{marker(order.sweep, order.arm, order.seed)}{order.attempt}"
    ours = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **order.env, "SEED": str(order.seed), MARKER: mark}
    return kept | ours


def execute(order: RunOrder, node_id: str) -> Iterator[Message]:
    """Make the run; yield what the driver must know, and at last how the run ended.

    While it waits for the run it says every BEAT_S that it is alive. Began and Part come only from a node that does not share the sweep's directory. If the node cannot take the run, it
    ends pending, and nothing was started.
    """
    yield Alive()
    with contextlib.ExitStack() as held:
        if shares(order.sweep_directory, order.driver):
            yield from make(order, node_id, held, None)
            return
        room = scratch(order.sweep)
        held.callback(shutil.rmtree, room, ignore_errors=True)
        write_code(room, order.code)
        here = replace(order, folder=room / order.arm / f"seed-{order.seed}" / order.folder.name)
        for message in make(here, node_id, held, Outbox(here.folder)):
            if isinstance(message, Ended) and message.manifest is not None and message.reason:
                reason = message.reason.replace(str(room), str(order.sweep_directory))
                table = {**message.manifest.table, "reason": reason}
                message = Ended(state=message.state, reason=reason, manifest=RunManifest.of(table, here.folder))
            yield message


def make(order: RunOrder, node_id: str, held: contextlib.ExitStack, outbox: Outbox | None) -> Iterator[Message]:
    """Make the run in the order's folder; its GPUs are taken until `held` is closed. Send its files through the outbox."""
    environment, table = run_environment(order), {}
    around = beside(order, environment)
    try:
        refused = yield from prepare(order, around, held)
        if refused is None:
            words = confined(order, command(order, environment), around)
            table = begin(order, words, environment, node_id)
    except OSError as error:
        if not passing(error):
            raise
        shutil.rmtree(order.folder, ignore_errors=True)  # nothing was started: the same attempt comes again
        refused = Ended(state="pending", reason=f"{order.folder} cannot be written: {error.strerror}")
    if refused is not None:
        yield refused
        return
    if outbox is not None:
        yield Began(manifest=RunManifest.of(table, order.folder / RUN_MANIFEST))
    started = time.monotonic()
    left = yield from supervise(order, table["command"], around, outbox)
    table |= {"exit_code": left.code, "wall_s": round(time.monotonic() - started, 3)}
    outcome = judge(order.folder / TRAIN_LOG, left.code or 0, order.seed, order.rules, left.fault)
    if reason := changed_code(order):
        outcome = replace(outcome, state="failed", reason=f"the frozen code was changed during the run: {reason}")
    manifest = finish(order, table, outcome)
    if outbox is not None:
        digests = yield from outbox.files(manifest.part("files"))
        manifest = RunManifest.of(completed(manifest.table, digests), order.folder / RUN_MANIFEST)
    yield Ended(state=manifest.state, reason=manifest.reason, manifest=manifest)


def prepare(
    order: RunOrder, environment: dict[str, str], held: contextlib.ExitStack
) -> Generator[Message, None, Ended | None]:
    """Make the run's folder and return None, or return why the run may not start. Raises OSError."""
    order.folder.parent.mkdir(parents=True, exist_ok=True)
    if reason := no_room(order.folder.parent):
        return Ended(state="pending", reason=reason)
    if order.sandbox is Sandbox.REQUIRE and (reason := sandbox.fault()):
        return Ended(state="pending", reason=f"this node can make no sandbox: {reason}")
    end_leftovers(order.sweep, order.arm, order.seed)
    if reason := (yield from wait_for_gpus(order, environment, held)):
        return Ended(state="pending", reason=reason)
    if reason := changed_code(order):
        return Ended(state="lost", reason=reason)
    for cache in (order.sweep_directory / MODULES).rglob(CACHE):
        shutil.rmtree(cache, ignore_errors=True)  # Python would run what an earlier run left there
    order.folder.mkdir()
    return None


def wait_for_gpus(
    order: RunOrder, environment: dict[str, str], held: contextlib.ExitStack
) -> Generator[Message, None, str | None]:
    """Take the run's GPUs, and wait for them as long as a run may be silent; return None, or why they are not free."""
    waited = 0.0
    while reason := take_gpus(environment, held):
        if waited >= order.stall_timeout_s:
            return reason
        yield Waits(reason=reason)
        time.sleep(GPU_POLL_S)
        waited += GPU_POLL_S
    return None


def changed_code(order: RunOrder) -> str | None:
    """Return how the frozen code was changed, or None."""
    try:
        read_code(order.sweep_directory, digests_of(order.code))
    except SweepError as error:
        return str(error).rstrip(".")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How the supervisor ended: its code, None if it could not be ended, and the fault for which the run was ended."""

    code: int | None
    fault: Outcome | None


def supervise(
    order: RunOrder, arguments: list[str], environment: dict[str, str], outbox: Outbox | None = None
) -> Generator[Message, None, Exit]:
    """Run torchrun below the supervisor, and end it where the watchdog says so."""
    log, fault = order.folder / TRAIN_LOG, None
    with open(log, "ab") as out:  # appending: if somebody cuts the log, no hole comes before what is written next
        process = subprocess.Popen(
            [sys.executable, supervisor.__file__, *arguments],
            stdin=subprocess.PIPE,  # its end tells the supervisor that this worker is gone
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=order.folder,
            env=environment,
            start_new_session=True,  # Ray kills the process group of a worker that ends
        )
    try:
        watchdog, said = Watchdog(log, order.stall_timeout_s, order.deadline_s), time.monotonic()
        while fault is None and _runs(process):
            if time.monotonic() - said >= BEAT_S:
                yield Alive()
                said = time.monotonic()
            if outbox is not None:
                yield from outbox.log()
            fault = watchdog.fault()
        if fault is not None:
            fault = end(process, order.folder, fault, at_once=watchdog.too_long)
            yield Alive()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        _runs(process, END_S)  # a process in an uninterruptible system call may never end
    if fault is not None and process.returncode is None:
        return Exit(code=None, fault=replace(fault, reason=f"{fault.reason}; its processes cannot be ended"))
    if process.returncode < 0:  # the supervisor was killed, and may have left what is neither torchrun nor a rank
        end_leftovers(order.sweep, order.arm, order.seed)
    fault = fault or watchdog.fault_at_the_end()
    if watchdog.too_long:
        cut(log)  # the rest is not read, and takes the disk of others
    return Exit(code=process.returncode, fault=fault)


def end(process: subprocess.Popen[bytes], folder: Path, fault: Outcome, *, at_once: bool) -> Outcome:
    """End a run for its fault; return the fault and, if known, where its processes were.

    at_once: without the seconds that the supervisor gives torchrun; they are enough to fill a disk.
    """
    if at_once:
        process.kill()
        return fault
    dumped = dump_stacks(process.pid, folder / STACKS)
    process.terminate()
    return replace(fault, reason=f"{fault.reason}; {STACKS} shows where its processes were") if dumped else fault


def _runs(process: subprocess.Popen[bytes], within_s: float = WATCH_S) -> bool:
    """Wait for a process; return whether it still runs after that time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is None
