"""What has become of a run that ended: succeeded, failed (the training's fault) or lost (the infrastructure's).

torchrun leaves with 1 whatever happened, so the log's end must tell. Only a lost run is made again; what no rule knows
is the training's fault, so that a claim is never helped by a doubt.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from analysis.reading.grammar import Metric
from analysis.reading.reader import read_log
from analysis.reading.run import Run
from analysis.record.metrics import metrics_of
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import FileError
from orchestration.plan.secrets import redacted
from orchestration.worker.preflight import no_room

HINT_BYTES = 16384
ERROR = re.compile(r"Traceback \(most recent call last\)|terminate called after|^\[rank\d+\]:\[E\d{4}", re.MULTILINE)
TORCHRUN = "torch/distributed/elastic/multiprocessing/api.py"
# what torchrun says of the rank that failed first, when not the training was at fault; the ranks that it ends itself
# because of that one leave with -15 too, and with -9 where they ignore it
KILLED = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"exitcode\s*:\s*-9\b", "a rank was killed by SIGKILL: out of memory, or by hand"),
        (r"exitcode\s*:\s*-15\b", "a rank was told to end by SIGTERM: preempted, or by hand"),
        (r"exitcode\s*:\s*-7\b", "a rank got a bus error: shared memory or disk ran out"),
    )
)
# what the log's end says anywhere
ANYWHERE = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"\A(?!(?s:.)*forcefully exiting via)(?s:.)*exitcode\s*:\s*-9\b", "a rank was killed by SIGKILL: out of memory, or by hand"),
        (r"got signal: 15\b", "torchrun was told to end by SIGTERM: preempted, or by hand"),
        (r"uncorrectable ECC|GPU is lost|fallen off the bus|\bXid \(PCI|NVLink error", "a GPU broke down"),
        (r"CUDA driver (?:version is insufficient|initialization failed)|no CUDA-capable device", "the node's GPUs do not work"),
    )
)  # fmt: skip
# and what an error says, of a rank or of torchrun itself: before that the same words are a warning's, of what a library tried
# at its start or the script has caught
IN_AN_ERROR = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"No space left on device|Disk quota exceeded", "the disk was full"),
        # not ncclRemoteError, nor what gloo says of a closed connection: a rank that ended by an error of its own makes
        # the others say so
        (r"ncclSystemError|NCCL WARN NET|ibv_\w+ failed", "the network between the GPUs broke down"),
        (r"Stale file handle|Input/output error|Transport endpoint is not connected", "a file system broke down"),
        (r"EADDRINUSE|Address already in use", "its rendezvous port was taken"),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run, and why; run and metric: its log as read and the last final metric, where it has one."""

    state: str
    reason: str | None = None
    run: Run | None = None
    metric: Metric | None = None


def judge(log: Path, code: int, seed: int, rules: Ruleset) -> Outcome:
    """Return what became of a torchrun that exited with `code`."""
    if code < 0:
        return Outcome(state="lost", reason=f"the run's supervisor was killed by signal {-code}")
    if code > 128:
        return Outcome(state="lost", reason=f"torchrun was killed by signal {code - 128}")
    if code != 0:
        if reason := infrastructure(log):
            return Outcome(state="lost", reason=f"{reason}; see {log}")
        return Outcome(state="failed", reason=f"torchrun exited with code {code}{failure_hint(log)}; see {log}")
    try:
        found = [run for run in read_log(log) if metrics_of(run, rules)]
    except FileError as error:
        return Outcome(state="failed", reason=f"{log} {error}")
    if not found:
        if no_room(log.parent):
            return Outcome(state="lost", reason=f"the disk was full; see {log}")
        return Outcome(state="failed", reason=f"no final metric, {rules.result_line}, was printed; see {log}")
    run = found[-1]
    metric = metrics_of(run, rules)[-1]
    reason = _result_fault(run, metric, seed, rules)
    return Outcome(
        state="failed" if reason else "succeeded", reason=reason and f"{reason}see {log}", run=run, metric=metric
    )


def infrastructure(log: Path) -> str | None:
    """What of the machine broke down, as far as the log's end or the disk says; None when nothing is known to have."""
    end = _end(log)
    before, of_a_rank, first_failed = end.rpartition("Root Cause (first observed failure)")
    for rules, text in (
        (KILLED, first_failed),
        (ANYWHERE, end),
        (IN_AN_ERROR, _errors(before.partition(TORCHRUN)[0]) if of_a_rank else end),
    ):
        for pattern, reason in rules:
            if pattern.search(text):
                return reason
    return "the disk was full" if no_room(log.parent) else None


def _errors(ranks: str) -> str:
    """What the ranks printed from their first error on; all that there is where that one's head may be cut off."""
    if begun := ERROR.search(ranks):
        return ranks[begun.start() :]
    return ranks if len(ranks) > HINT_BYTES // 2 else ""


def failure_hint(log: Path) -> str:
    """What the log's end says of the cause: the script's exit code and the last error that is not torchrun's own."""
    end = _end(log)
    codes = re.findall(r"exitcode\s*:\s*(-?\d+)", end)
    errors = re.findall(
        r"^(?:\[rank\d+\]: ?)?(?!torch\.distributed)([\w.]*(?:Error|Exception): .*|\S+\.py: .*)$", end, re.MULTILINE
    )
    return (f", the script with {codes[-1]}" if codes else "") + (f" ({redacted(errors[-1])[:200]})" if errors else "")


def _end(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - HINT_BYTES))
        return file.read().decode("utf-8", "replace")
