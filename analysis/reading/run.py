"""The record of one run, as its log tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from analysis.reading import ending, grammar
from analysis.reading.metric import Metric, Step
from analysis.reading.names import Value, in_steps
from analysis.reading.source import Source


class Origin(StrEnum):
    """Where a run's numbers come from: text printed during the run, the files of a tracker, or a list typed by hand."""

    LOG = "log"
    TRACKER = "tracker"
    TYPED = "typed"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one log says about one run. None means unknown. Lines count from 1, in the log as it is on disk.

    - `metrics` are all final-metric lines. `finals` are those that count: no diagnostics, and not a metric whose
      `_exact` twin prints more decimals.
    - `validation` is the last validation in training, at step `validated_step`.
    - `eval_time_ms` is the longest evaluation after training, diagnostics aside.
    - `unpacked_code_bytes` is printed by scripts that ship themselves compressed.
    - `totals` are all submission sizes that the run prints, each with its codec. `artifact_bytes` is the one that
      counts: the last with a codec's name, else model plus code.
    - `hyperparameters` are kept as printed. `complete_config` says that they come from a block that lists them all.
    - `curve` holds stretches of step lines as printed, each with the line it begins on.
    - `values` are the last number of every name that is printed outside of step lines, by its normal name (mean_accuracy).
      What is printed before the first step is a setting and not among them.
    - `clobbered_at` is the line where a second writer in the same file shows, `restarted_at` the line where the run goes on
      from a checkpoint.
    - `common_stop` is the step at which nearly all runs of its folder stopped, before the printed total or without one.
    """

    log: Path
    line: int
    seed: int | None = None
    metrics: tuple[Metric, ...] = ()
    finals: tuple[Metric, ...] = ()
    validation: Metric | None = None
    validated_step: int | None = None
    last_step: int | None = None
    total_steps: int | None = None
    train_time_ms: float | None = None
    eval_time_ms: float | None = None
    code_bytes: int | None = None
    unpacked_code_bytes: int | None = None
    model_bytes: int | None = None
    artifact_bytes: int | None = None
    totals: tuple[tuple[str, int], ...] = ()
    size_line: int | None = None
    model_params: int | None = None
    world_size: int | None = None
    python: str | None = None
    torch: str | None = None
    gpu: str | None = None
    train_shards: int | None = None
    val_tokens: int | None = None
    dataset: str | None = None
    train_files: str | None = None
    tokenizer: str | None = None
    hyperparameters: dict[str, str] = field(default_factory=dict)
    complete_config: bool = False
    source: Source | None = None
    curve: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    clobbered_at: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    origin: Origin = Origin.LOG
    restarted_at: int | None = None
    common_stop: int | None = None

    @property
    def trained(self) -> bool:
        """Whether the run reached a step or a metric."""
        return bool(self.curve or self.metrics)

    def value(self, name: str) -> Value | None:
        """Return the last number of that name outside of step lines, else that of the last step line which prints it."""
        if name in self.values:
            return self.values[name]
        of_final = next((one for one in reversed(self.finals) if name in one.others), None)
        if of_final is not None:
            return Value(number=of_final.others[name], line=of_final.line)
        return in_steps(self.curve, name)

    @property
    def steps(self) -> list[Step]:
        """Return the logged steps in the order of their lines."""
        return list(self.read_steps())

    @cached_property
    def validations(self) -> Mapping[int, Metric]:
        """Return each validation in training by its step. They are read from the curve when first asked for."""
        return ending.validations(self.curve)

    def read_steps(self) -> Iterator[Step]:
        """Yield the logged steps in the order of their lines."""
        for first, text in self.curve:
            yield from grammar.read_steps(first, text)
