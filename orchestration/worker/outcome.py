"""What became of a run that ended: succeeded, failed (the training's fault) or lost (the infrastructure's).

A finite final metric in the log is the run's result, however it ended. Without one only a lost run is retried. torchrun
exits with 1 whatever happened, so the end of the log decides. What no rule knows is the training's fault, so doubt never
helps a claim.
"""

from __future__ import annotations

import math
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.reading.grammar import PREQUANT
from analysis.reading.metric import Metric
from analysis.reading.reader import read_log
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.record.metrics import last_metric, metrics_of, sized
from analysis.rules.keys import LABELLED
from analysis.rules.metrics import VAL_BPB
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import FileError, read_bounded
from analysis.untrusted.secrets import redacted
from orchestration.worker.preflight import READ_ONLY, no_room

HINT_BYTES = 16384
ERROR = re.compile(
    r"Traceback \(most recent call last\)|terminate called after|^\[rank\d+\]:\[E\d{4}|^train_gpt\.py: ", re.MULTILINE
)
TORCHRUN = "torch/distributed/elastic/multiprocessing/api.py"
DISK_FULL = "the disk was full"
SIGINT = "a rank was interrupted by SIGINT: by hand, or by the batch system"
SIGKILL = "a rank was killed by SIGKILL: out of memory, or by hand"
# what torchrun says of the rank that failed first, where the training was not at fault; the ranks that torchrun then ends
# itself exit with -15 too, and with -9 where they ignore it. Not -6 and -11 (SIGABRT, SIGSEGV): a failed assertion, an
# exception of C++ and NCCL's watchdog, when a rank waits in vain, are the training's own, unless the log names a breakdown
KILLED = {
    r"exitcode\s*:\s*-9\b": SIGKILL,
    r"exitcode\s*:\s*-15\b": "a rank was told to end by SIGTERM: preempted, or by hand",
    r"exitcode\s*:\s*-2\b": SIGINT,
    r"exitcode\s*:\s*-7\b": "a rank got a bus error: shared memory or disk ran out",
}
# these count anywhere in the log's end
ANYWHERE = {
    r"\A(?!(?s:.)*forcefully exiting via)(?s:.)*exitcode\s*:\s*-9\b": SIGKILL,
    r"got signal: 15\b": "torchrun was told to end by SIGTERM: preempted, or by hand",
    r"got signal: 2\b": "torchrun was interrupted by SIGINT: by hand, or by the batch system",
    r"uncorrectable ECC|GPU is lost|fallen off the bus|\bXid \(PCI|NVLink error": "a GPU broke down",
    r"CUDA driver (?:version is insufficient|initialization failed)|no CUDA-capable device": "the node's GPUs do not work",
}
# these count only inside an error of a rank or of torchrun, not in an earlier warning: a library may have tried something
# at its start, or the script may have caught the error
IN_AN_ERROR = {
    r"No space left on device|Disk quota exceeded": DISK_FULL,
    # not ncclRemoteError, nor what gloo says of a closed connection: the other ranks print those when one rank ends by an
    # error of its own
    r"ncclSystemError|NCCL WARN NET|ibv_\w+ failed": "the network between the GPUs broke down",
    r"Stale file handle|Input/output error|Transport endpoint is not connected": "a file system broke down",
    r"EADDRINUSE|Address already in use": "its rendezvous port was taken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run, and why. run, metric: its log as read and its final metric, if it has one."""

    state: str
    reason: str | None = None
    run: Run | None = None
    metric: Metric | None = None

    @property
    def artifact_bytes(self) -> int | None:
        """Return the size of the artifact that the metric is of, as the log tells it."""
        return None if self.run is None or self.metric is None else sized(self.run, self.metric.label).artifact_bytes


def judge(log: Path, code: int, seed: int, rules: Ruleset, fault: Outcome | None = None) -> Outcome:
    """Return what became of a run whose torchrun exited with `code`, or that was ended for a fault."""
    if fault is not None or code != 0:
        return result_in(log, seed, rules, fault or _of_exit(log, code))
    if log.is_symlink():
        return Outcome(state="failed", reason=f"{log} was replaced by a link")
    try:
        found = [run for run in read_log(log) if metrics_of(run, rules)]
    except FileError as error:
        return Outcome(state="failed", reason=f"{log} {error}")
    if found:
        return _of_result(found[-1], log, seed, rules)
    if reason := _no_room(log.parent):
        return Outcome(state="lost", reason=f"{reason}; see {log}")
    return Outcome(state="failed", reason=f"no final metric, {rules.result_line}, was printed; see {log}")


def result_in(log: Path, seed: int, rules: Ruleset, otherwise: Outcome, *, ended_well: bool = False) -> Outcome:
    """Return the result in the log of a run that did not end well; `otherwise`, what became of it, if the log has none.

    A finite final metric is the seed's result, whatever happened afterwards: a rerun would be another throw of the dice.
    Where the rules cap the artifact, its size must be known, too.
    ended_well: the run ended by itself, and only some of its files are missing.
    """
    try:
        content = b"" if log.is_symlink() else read_bounded(log)
        runs = read_log(log, content if ended_well else content[: content.rfind(b"\n") + 1])
    except FileError:
        return otherwise
    found = [run for run in runs if metrics_of(run, rules) and (ended_well or _is_over(run, rules))]
    if not found:
        return otherwise
    outcome = _of_result(found[-1], log, seed, rules)
    reason = outcome.reason
    if reason is None and rules.artifact_bytes is not None and outcome.artifact_bytes is None:
        reason = f"{log} does not say the artifact's size, which the rules cap; the run ended before that: {otherwise.reason}"
    if reason is not None:
        return replace(outcome, state="failed", reason=reason)
    return replace(outcome, reason=f"it printed its result before this: {otherwise.reason}")


def _is_over(run: Run, rules: Ruleset) -> bool:
    """Return whether the last metric of a run that was cut short is its final one, and not one on the way."""
    if rules.final != LABELLED:
        return run.total_steps is not None  # at that step, by metrics_of
    last_step = max((step.line for step in run.read_steps()), default=0)
    on_the_way = {metric.label for metric in run.metrics if metric.line < last_step}
    metric = metrics_of(run, rules)[-1]
    return metric.line > last_step and metric.label not in on_the_way and not PREQUANT.search(metric.label)


def _of_exit(log: Path, code: int) -> Outcome:
    """Return what became of a run that did not end well and has no result."""
    if code < 0:
        return Outcome(state="lost", reason=f"the run's supervisor was killed by signal {-code}")
    if code > 128:
        return Outcome(state="lost", reason=f"torchrun was killed by signal {code - 128}")
    if reason := infrastructure(log):
        return Outcome(state="lost", reason=f"{reason}; see {log}")
    return Outcome(state="failed", reason=f"torchrun ended with exit code {code}{failure_hint(log)}; see {log}")


def last_in(log: Path, rules: Ruleset) -> Metric | None:
    """Return the last metric in a log, final or of a validation."""
    try:
        return None if log.is_symlink() else last_metric(read_log(log), rules)
    except FileError:
        return None


def _of_result(run: Run, log: Path, seed: int, rules: Ruleset) -> Outcome:
    metric = metrics_of(run, rules)[-1]
    result = Result.of(run, metric, log=str(log))
    values = [metric.val_loss, metric.val_bpb] if rules.metric == VAL_BPB else [result.value(rules.metric)]
    reason = None
    if run.seed not in (None, seed):
        reason = f"the script printed seed {run.seed}, SEED was {seed}; see {log}"
    elif not all(value is not None and math.isfinite(value) for value in values):
        reason = f"the final metric is not a finite number; see {log}, line {metric.line}"
    return Outcome(state="failed" if reason else "succeeded", reason=reason, run=run, metric=metric)


def infrastructure(log: Path) -> str | None:
    """Return what broke down on the machine, as far as the log's end or the disk tells; None if nothing is known."""
    end = _end(log)
    before, of_a_rank, first_failed = end.rpartition("Root Cause (first observed failure)")
    errors = _errors(before.partition(TORCHRUN)[0]) if of_a_rank else end
    for rules, text, flags in (
        (KILLED, first_failed, 0),
        (ANYWHERE, end, re.IGNORECASE),
        (IN_AN_ERROR, errors, re.IGNORECASE),
    ):
        for pattern, reason in rules.items():
            if re.search(pattern, text, flags):
                return reason
    return _no_room(log.parent)


def _no_room(folder: Path) -> str | None:
    reason = no_room(folder)
    return DISK_FULL if reason is not None and READ_ONLY not in reason else reason


def _errors(ranks: str) -> str:
    """Return what the ranks printed from their first error on; all of it where the error's head may be cut off."""
    if begun := ERROR.search(ranks):
        return ranks[begun.start() :]
    return ranks if len(ranks) > HINT_BYTES // 2 else ""


def failure_hint(log: Path) -> str:
    """Return what the log's end tells of the cause: the script's exit code and the last error but torchrun's own."""
    end = _end(log)
    codes = re.findall(r"exitcode\s*:\s*(-?\d+)", end)
    errors = re.findall(
        r"^(?:\[rank\d+\]: ?)?(?!torch\.distributed)([\w.]*(?:Error|Exception): .*|\S+\.py: .*)$", end, re.MULTILINE
    )
    code = f", the script with {_named(int(codes[-1]))}" if codes else ""
    return code + (f" ({redacted(errors[-1])[:200]})" if errors else "")


def _named(code: int) -> str:
    """Return an exit code, with the signal's name if it stands for a signal."""
    names = {int(one): one.name for one in signal.Signals}
    return f"{code} ({names[-code]})" if -code in names else str(code)


def _end(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - HINT_BYTES))
        return file.read().decode("utf-8", "replace")
