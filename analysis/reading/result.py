"""A result: one run with the one final metric that counts for it, and its row in a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.reading.metric import Metric
from analysis.reading.run import Run
from analysis.sweepdir.layout import CANDIDATE, DONE

COLUMNS = {  # of a frame, with pandas' nullable types
    "arm": "string", "seed": "Int64", "state": "string", "val_loss": "Float64", "val_bpb": "Float64", "label": "string",
    "log": "string", "line": "Int64", "steps": "Int64", "total_steps": "Int64", "train_time_ms": "Float64",
    "artifact_bytes": "Int64", "code_bytes": "Int64", "model_bytes": "Int64", "model_params": "Int64",
    "world_size": "Int64", "python": "string", "torch": "string", "gpu": "string", "train_shards": "Int64",
    "val_tokens": "Int64", "tokenizer": "string", "source_sha256": "string", "source_bytes": "Int64",
    "origin": "string",
}  # fmt: skip
OF_THE_RUN = (
    "total_steps", "train_time_ms", "artifact_bytes", "code_bytes", "model_bytes", "model_params", "world_size",
    "python", "torch", "gpu", "train_shards", "val_tokens", "tokenizer",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The script embedded in a log, by its digest and size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt of a planned run.

    log: as printed, None where it is gone. last: the last value of the rules' metric in it, final or of a validation,
    printed in `line`. wall_s: how long it lasted, by the clock of the sweep's driver. trained_s, complete: the training time
    that the log prints, and whether it prints a final metric; only known of attempts without a result. node, host: the node of
    the cluster and the machine that it ran on; a record has another name for the machine. None where nothing says.
    """

    arm: str
    seed: int
    attempt: int
    state: str
    reason: str | None = None
    log: str | None = None
    last: float | None = None
    wall_s: float | None = None
    started: str | None = None
    ended: str | None = None
    line: int = 1
    trained_s: float | None = None
    complete: bool = False
    node: str | None = None
    host: str | None = None

    @property
    def counts(self) -> bool:
        """Return whether it ended with the seed's result."""
        return self.state in DONE

    @property
    def ended_without_result(self) -> bool:
        return self.state in ("lost", "stopped")

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TRIED}


Attempts = Mapping[tuple[str, int], Sequence[Tried]]  # of each run, by arm and seed, in order
TRIED = (
    "attempt",
    "state",
    "reason",
    "log",
    "last",
    "wall_s",
    "started",
    "ended",
)  # what every JSON says of an attempt
EARLY = 0.05  # of the run that counts, by time or by steps: what ended sooner cannot tell how it would have ended


def remade(attempts: Sequence[Tried]) -> list[Tried]:
    """Return the attempts of a run that ended without a result, where another attempt of it has one."""
    return [one for one in attempts if one.ended_without_result] if any(one.counts for one in attempts) else []


def was_early(one: Tried, attempts: Sequence[Tried]) -> bool:
    """Return whether a remade attempt ended too early to tell how it would have ended. What is unknown was not early."""
    usual = max((other.wall_s for other in attempts if other.counts and other.wall_s is not None), default=None)
    if usual is None or one.wall_s is None or one.complete:
        return False
    return max(one.wall_s, one.trained_s or 0.0) < EARLY * usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run and its final metric; `log` is the path as printed.

    `state` is `succeeded`, or why a planned run has no result: failed, lost, stopped, pending or running. attempts: all of
    a planned run, in order; empty where nothing tells of them.
    """

    log: str
    run: Run
    metric: Metric | None = None
    program: Program | None = None
    arm: str = CANDIDATE
    state: str = "succeeded"
    attempts: tuple[Tried, ...] = ()

    @classmethod
    def of(cls, run: Run, metric: Metric | None, *, log: str, arm: str = CANDIDATE, state: str = "succeeded") -> Result:
        """Make a result of a run as read from its log."""
        source = run.source
        program = Program(sha256=source.sha256, size_bytes=source.size_bytes) if source is not None else None
        return cls(log=log, run=run, metric=metric, program=program, arm=arm, state=state)

    @property
    def seed(self) -> int | None:
        return self.run.seed

    @property
    def label(self) -> str | None:
        return (self.metric.label or None) if self.metric is not None else None  # a frame may leave it out

    @property
    def line(self) -> int | None:
        return (self.metric.line or None) if self.metric is not None else None

    @property
    def val_loss(self) -> float | None:
        """In nats per token."""
        return self.metric.val_loss if self.metric is not None else None

    @property
    def val_bpb(self) -> float | None:
        """In bits per byte."""
        return self.metric.val_bpb if self.metric is not None else None

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"

    @property
    def values(self) -> dict[str, float]:
        """Return the metrics other than val_loss and val_bpb, by name: those of the final metric before those of the run."""
        others = self.metric.others if self.metric is not None else {}
        every = {name: value.number for name, value in self.run.values.items()} | dict(others)
        return {name: number for name, number in every.items() if name not in COLUMNS}

    @property
    def numbers(self) -> tuple[object, ...]:
        """Return all that a run measured: two runs that agree in it are one run."""
        return (self.val_loss, self.val_bpb, self.run.train_time_ms, *sorted(self.values.items()))

    def value(self, name: str) -> float | None:
        """Return a metric of any name, or what a run took: `train_time_s` or `steps`."""
        if name == "train_time_s":
            return self.run.train_time_ms / 1000 if self.run.train_time_ms is not None else None
        if name == "steps":
            return self.run.last_step
        if name in ("val_loss", "val_bpb"):
            return self.metric.value(name) if self.metric is not None else None
        return self.values.get(name)

    def row(self) -> dict[str, Any]:
        """Return what JSON holds of the run, and a frame under COLUMNS."""
        of_the_run = {name: getattr(self.run, name) for name in OF_THE_RUN}
        return {
            "arm": self.arm,
            "seed": self.seed,
            "state": self.state,
            "val_loss": self.val_loss,
            "val_bpb": self.val_bpb,
            "label": self.label,
            "log": self.log,
            "line": self.line,
            "steps": self.run.last_step,
            **of_the_run,
            "source_sha256": self.program.sha256 if self.program is not None else None,
            "source_bytes": self.program.size_bytes if self.program is not None else None,
            "origin": str(self.run.origin),
            "values": self.values,
            "attempts": [one.row() for one in self.attempts],
        }
