"""Lines of one run that contradict each other: two jobs wrote into one file, or lines were changed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from analysis.reading.grammar import Metric, Step
from analysis.reading.source import NEWLINE_BYTES
from analysis.record.selection import Claimed
from analysis.rules.findings import ERROR, Code, Found, Raised, Severity

FIRST_TIMED_STEP = 100  # earlier averages are rounded too coarsely
FEWEST_TIMED = 20
TIMER_STARTS = 20  # steps after which a script may set its clock to zero
MOST_STEPS = 20_000  # logged steps of one run that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A claimed run with the logged steps of its training, read once for all checks."""

    one: Claimed
    steps: Sequence[Step]

    @classmethod
    def of(cls, one: Claimed) -> Trace:
        """Read the steps: MOST_STEPS at most."""
        return cls(one=one, steps=list(islice(one.training.read_steps(), MOST_STEPS)))


def check_consistent(trace: Trace) -> Raised:
    """Check that steps and times rise, and that averages, sizes and metrics are those of the other lines."""
    one, run = trace.one, trace.one.training
    if run.clobbered_at is not None:
        yield _clobbered(one, run.clobbered_at, "steps that fall back again and again", "them to rise")
    yield from _times(trace)
    yield from _twins(one)
    yield from _twice(trace)
    if (line := _off_the_clock(trace.steps)) is not None:
        yield _clobbered(
            one, line, "a step_avg that is not train_time / steps", "it to be, as it is on the lines around it"
        )
    model, code, total = run.model_bytes, run.code_bytes, run.artifact_bytes
    if model is not None and code is not None and total is not None and total < model + code - NEWLINE_BYTES:
        line = run.size_line or one.metric.line
        yield _clobbered(one, line, f"a total of {total} bytes", f"at least model and code, {model} + {code}")


def _clobbered(one: Claimed, line: int, found: str, expected: str, severity: Severity | None = None) -> Found:
    return Found(
        code=Code.LOG_CLOBBERED,
        at=one.at(line),
        found=found,
        expected=expected,
        do="Two jobs wrote into the log, or lines were changed: rerun the seed with a log of its own.",
        severity=severity,
    )


def _twins(one: Claimed) -> Raised:
    """Check that a metric and its `_exact` twin are one value, and that neither is NaN or cut off."""
    for rounded in one.run.metrics:
        label = f"{rounded.label}_exact"
        twin = next((m for m in one.run.metrics if m.label == label and m.line > rounded.line), None)
        if twin is None:
            continue
        coarse, fine = rounded.val_bpb, twin.val_bpb
        if coarse is None or fine is None or (math.isnan(coarse) and math.isnan(fine)):
            continue
        if not abs(coarse - fine) <= 0.51 * 10.0 ** -min(rounded.decimals, twin.decimals):
            expected = f"{fine} rounded, as line {twin.line} has it"
            yield _clobbered(one, rounded.line, f"a val_bpb of {coarse}", expected, ERROR)


def _twice(trace: Trace) -> Raised:
    """Check that no final label is printed with two values, and no step with two validations."""
    first: dict[str, Metric] = {}
    for metric in trace.one.run.metrics:
        known = first.setdefault(metric.label, metric)
        if known is not metric and not metric.diagnostic and _differ(known, metric):
            again = f"{metric.label} again with another value, {_shown(metric)}"
            yield _repeated(trace.one, metric.line, f"{again}; line {known.line} has {_shown(known)}")
            break
    seen: dict[int, Step] = {}
    for step in trace.steps:
        before = seen.setdefault(step.step, step) if step.val_loss is not None else step
        if before.val_loss != step.val_loss:
            again = f"step {step.step} again with another val_loss, {step.val_loss}"
            yield _repeated(trace.one, step.line, f"{again}; line {before.line} has {before.val_loss}")
            break


def _repeated(one: Claimed, line: int, found: str) -> Found:
    return Found(
        code=Code.METRIC_TWICE,
        at=one.at(line),
        found=found,
        expected="one value for one label",
        do="Say which evaluation counts, and give the other a label of its own.",
    )


def _differ(one: Metric, other: Metric) -> bool:
    """Return whether two metrics are not one value, rounded."""
    half = 0.51 * 10.0 ** -min(one.decimals, other.decimals)
    pairs = ((one.val_bpb, other.val_bpb), (one.val_loss, other.val_loss))
    return any(a is not None and b is not None and not abs(a - b) <= half for a, b in pairs)


def _shown(metric: Metric) -> str:
    return f"val_bpb {metric.val_bpb}" if metric.val_bpb is not None else f"val_loss {metric.val_loss}"


def _times(trace: Trace) -> Raised:
    """Check that the time rises with the steps. Times in minutes are compared with each other alone."""
    last: dict[bool, Step] = {}
    for step in trace.steps:
        time = step.train_time_ms
        if time is None or step.step <= TIMER_STARTS:
            continue
        is_coarse = abs(time / 100 - round(time / 100)) < 1e-6 if math.isfinite(time) else False
        before = last.get(is_coarse)
        if before is not None and before.train_time_ms is not None and before.train_time_ms > time:
            found = f"a train_time of {time:.0f} ms at step {step.step}"
            expected = f"more than {before.train_time_ms:.0f} ms, which line {before.line} has at step {before.step}"
            is_new_timer = time < before.train_time_ms / 10
            yield _clobbered(trace.one, step.line, found, expected, None if is_new_timer else ERROR)
            return
        last[is_coarse] = step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A step with an average: the steps that the average leaves out, and how far rounding alone can move that number."""

    line: int
    step: int
    left_out: float
    rounding: float


def _off_the_clock(steps: Sequence[Step]) -> int | None:
    """Return the first line whose step_avg is off train_time / steps, if nearly all others agree on one count of steps.

    A script may leave its first steps out of the average, so the difference is learned from the log itself.
    """
    timed = [
        _Timed(
            line=s.line,
            step=s.step,
            left_out=s.step - s.train_time_ms / s.step_avg_ms,
            rounding=s.step * 0.005 / s.step_avg_ms + 1.0 / s.step_avg_ms,
        )
        for s in steps
        if s.train_time_ms and s.step_avg_ms and math.isfinite(s.step_avg_ms) and s.step > FIRST_TIMED_STEP
    ]
    if len(timed) < FEWEST_TIMED:
        return None
    usual = median(one.left_out for one in timed)
    off = [one.line for one in timed if abs(one.left_out - usual) > 1.5 + 2 * one.rounding + 0.02 * one.step]
    return off[0] if off and len(off) <= len(timed) // 10 else None
