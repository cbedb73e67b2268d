"""What the end of a run says: its last step, its time, its last validation, and which metrics are final."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.reading import grammar
from analysis.reading.metric import Metric, Step

_VALIDATION = re.compile(rb"val_loss| tel:")


@dataclass(slots=True, kw_only=True)
class End:
    """The end of training. None means that no line says it."""

    last_step: int | None = None
    total_steps: int | None = None
    train_time_ms: float | None = None
    validated_step: int | None = None
    validation: Metric | None = None


def end_of_curve(curve: Sequence[tuple[int, bytes]]) -> End:
    """Return what the last step lines say. Each stretch of step lines comes with the line it begins on."""
    end = End()
    for first, text in reversed(curve):
        if end.last_step is None:
            _read_last_step(end, text)
        if end.train_time_ms is None:
            _read_time(end, text)
        if end.validation is None:
            _read_validation(end, text, first, (b"val_loss", b" tel:"))
        if end.last_step is not None and end.train_time_ms is not None and end.validation is not None:
            break
    if end.validation is None:
        for first, text in reversed(curve):
            if end.validation is None:
                _read_validation(end, text, first, (b"val_bpb",))
    return end


def _read_last_step(end: End, text: bytes) -> None:
    start = text.rstrip(b"\n").rfind(b"\n") + 1
    if match := grammar.STEP.match(text, start):
        end.last_step = int(match[1])
        end.total_steps = int(match[2]) if match[2] else None


def _read_time(end: End, text: bytes) -> None:
    at = max(text.rfind(b"train_time"), text.rfind(b" t:"))
    if at >= 0 and (step := grammar.read_step(grammar.line_around(text, at), 0)) is not None:
        end.train_time_ms = step.train_time_ms


def _read_validation(end: End, text: bytes, first: int, names: Sequence[bytes]) -> None:
    at = max(map(text.rfind, names))
    if at < 0:
        return
    line = grammar.line_around(text, at)
    step = grammar.read_step(line, first + text.count(b"\n", 0, at))
    if step is not None and (step.val_loss is not None or step.val_bpb is not None):
        end.validated_step, end.validation = step.step, _as_metric(step, line)


def _as_metric(step: Step, line: bytes) -> Metric:
    """Return a validation in training as the metric that its line prints."""
    printed = grammar.DECIMALS.search(line)
    return Metric(
        label="val_loss" if step.val_loss is not None else "val_bpb",
        val_loss=step.val_loss,
        val_bpb=step.val_bpb,
        decimals=len(printed[1]) if printed else 0,
        line=step.line,
    )


def validations(curve: Sequence[tuple[int, bytes]]) -> dict[int, Metric]:
    """Return every validation in training by its step, in the order of printing. Of a step printed twice the last counts."""
    found: dict[int, Metric] = {}
    for first, text in curve:
        number, counted = first, 0
        for name in _VALIDATION.finditer(text):
            if name.start() < counted:  # a line may have several names of it
                continue
            line = grammar.line_around(text, name.start())
            number += text.count(b"\n", counted, name.start())
            counted = text.find(b"\n", name.start()) + 1 or len(text)
            step = grammar.read_step(line, number)
            number += 1
            if step is not None and (step.val_loss is not None or step.val_bpb is not None):
                found[step.step] = _as_metric(step, line)
    return found


def with_diagnostics(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return the metrics in order. Pre-quantization ones count as diagnostics once a quantized one follows."""
    of_artifact = [not metric.diagnostic and not grammar.PREQUANT.search(metric.label) for metric in metrics]
    last = max((i for i, is_so in enumerate(of_artifact) if is_so), default=-1)
    return tuple(
        metric if of_artifact[i] or i > last else replace(metric, diagnostic=True) for i, metric in enumerate(metrics)
    )


def finals(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return the metrics that count: no diagnostics, and not one whose `_exact` twin prints more decimals."""
    plain = [metric for metric in metrics if not metric.diagnostic]
    decimals = {metric.label: metric.decimals for metric in plain}
    return tuple(metric for metric in plain if decimals.get(f"{metric.label}_exact", 0) <= metric.decimals)
