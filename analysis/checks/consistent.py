"""Lines of one run that contradict each other: two jobs wrote into one file, or lines were changed by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from analysis.reading.grammar import MS
from analysis.reading.metric import Metric, Step
from analysis.reading.source import NEWLINE_BYTES
from analysis.record.selection import Claimed
from analysis.rules.findings import ERROR, Code, Found, Raised, Severity

FIRST_TIMED_STEP = 100  # earlier averages are rounded too coarsely
FEWEST_TIMED = 20
TIMER_STARTS = 20  # steps after which a script may set its clock to zero
SLACK = 0.02  # of the time that a line counts: how far it may be off a formula
SHORTEST_MS, LONGEST_MS = 1e-3, 1e12  # of a time that can be compared
_TIME, _AVERAGE = (
    re.compile(rb"\b(?:" + name + rb")\s{0,9}[:=]\s{0,9}\d{1,15}(?:\.(\d{1,9}))?(ms|s|m)\b", re.IGNORECASE)
    for name in (rb"train_time|t", rb"step_avg|avg")
)
TAIL = 2**12  # bytes of step lines that show how times are printed
FLATTERS = 5e-4  # bpb or nats; a tenth of the usual margin
MOST_STEPS = 20_000  # logged steps of one run that are looked at
MOST_STEPS_OF_ALL = 150_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A claimed run with the logged steps of its training, read once for all checks. is_whole: it has no others."""

    one: Claimed
    steps: Sequence[Step]
    is_whole: bool = True

    @classmethod
    def of(cls, one: Claimed, most: int) -> Trace:
        """Read so many steps at most."""
        steps = list(islice(one.training.read_steps(), most + 1))
        return cls(one=one, steps=steps[:most], is_whole=len(steps) <= most)


def traces_of(claimed: Sequence[Claimed]) -> list[Trace]:
    """Return what is looked at of each run: the more runs, the fewer steps of each."""
    most = min(MOST_STEPS, MOST_STEPS_OF_ALL // max(1, len(claimed)))
    return [Trace.of(one, most) for one in claimed]


def check_whole(traces: Sequence[Trace]) -> Raised:
    """Say where not all steps were looked at."""
    if cut := [trace for trace in traces if not trace.is_whole]:
        yield Found(
            code=Code.FILE_NOT_READ,
            at=cut[0].one.at(cut[0].steps[-1].line),
            found=f"more logged steps than are compared: the first {len(cut[0].steps)} of each of {len(cut)} runs were",
            expected="fewer lines",
            do="Look at the rest by hand.",
        )


def check_consistent(trace: Trace) -> Raised:
    """Check that steps and times rise, and that averages, sizes and metrics are those of the other lines."""
    one, run = trace.one, trace.one.training
    if run.clobbered_at is not None:
        yield _clobbered(one, run.clobbered_at, "steps that fall back again and again", "them to rise")
    if run.restarted_at is not None:
        yield Found(
            code=Code.LOG_CLOBBERED,
            at=one.at(run.restarted_at),
            found="steps that go on from a checkpoint",
            expected="one start",
            do="Say what ended the first part, and whether train_time counts both.",
        )
    yield from _times(trace)
    yield from _twins(one)
    yield from _twice(trace)
    if (line := _off_the_clock(trace)) is not None:
        yield _clobbered(
            one, line, "a step_avg that is not train_time / steps", "it to be, as it is on the lines around it"
        )
    model, code = run.model_bytes, run.code_bytes
    total = max((size for size in (run.artifact_bytes, *(size for _, size in run.totals)) if size), default=None)
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
        if not abs(coarse - fine) <= _half_a_unit(rounded, twin):
            expected = f"{fine} rounded, as line {twin.line} has it"
            yield _clobbered(one, rounded.line, f"a val_bpb of {coarse}", expected, ERROR)


def _twice(trace: Trace) -> Raised:
    """Check that no final label is printed with two values, and no step with two validations."""
    first: dict[str, Metric] = {}
    for metric in trace.one.run.metrics:
        known = first.setdefault(metric.label, metric)
        if known is not metric and not metric.diagnostic and _differ(known, metric):
            again = f"{metric.label} again with another value, {_shown(metric)}"
            better = _is_better(trace.one.metric, known) or _is_better(trace.one.metric, metric)
            severity = ERROR if better and metric.label == trace.one.metric.label else None
            yield _repeated(trace.one, metric.line, f"{again}; line {known.line} has {_shown(known)}", severity)
            break
    seen: dict[int, Step] = {}
    for step in trace.steps:
        before = seen.setdefault(step.step, step) if step.val_loss is not None else step
        if before.val_loss != step.val_loss:
            again = f"step {step.step} again with another val_loss, {step.val_loss}"
            result = trace.one.metric
            counts = result.line in (before.line, step.line)  # a speedrun's result is its last validation
            better = counts and max(before.val_loss or 0.0, step.val_loss or 0.0) - (result.val_loss or 0.0) > FLATTERS
            said = f"{again}; line {before.line} has {before.val_loss}"
            yield _repeated(trace.one, step.line, said, ERROR if better else None)
            break


def _is_better(counted: Metric, other: Metric) -> bool:
    """Return whether the value that counts is better than another by more than a rounding."""
    pairs = ((counted.val_bpb, other.val_bpb), (counted.val_loss, other.val_loss))
    return any(a is not None and b is not None and b - a > FLATTERS for a, b in pairs)


def _repeated(one: Claimed, line: int, found: str, severity: Severity | None = None) -> Found:
    return Found(
        code=Code.METRIC_TWICE,
        at=one.at(line),
        found=found,
        expected="one value for one label",
        do="Say which evaluation counts, and give the other a label of its own.",
        severity=severity,
    )


def _half_a_unit(*metrics: Metric) -> float:
    """Return what rounding can change of the number with the fewest decimals."""
    return 0.51 * 10.0 ** -min(m.decimals if m.fewest_decimals is None else m.fewest_decimals for m in metrics)


def _differ(one: Metric, other: Metric) -> bool:
    """Return whether two metrics are not one value, rounded."""
    half = _half_a_unit(one, other)
    pairs = ((one.val_bpb, other.val_bpb), (one.val_loss, other.val_loss))
    return any(a is not None and b is not None and not abs(a - b) <= half for a, b in pairs)


def _shown(metric: Metric) -> str:
    name = "val_bpb" if metric.val_bpb is not None else "val_loss" if metric.val_loss is not None else metric.label
    return f"{name} {metric.number}"


def _times(trace: Trace) -> Raised:
    """Check that the time rises with the steps. Times in minutes are compared with each other alone."""
    last: dict[bool, Step] = {}
    for step in trace.steps:
        time = step.train_time_ms
        if time is None or step.step <= TIMER_STARTS:
            continue
        is_coarse = abs(time / 100 - round(time / 100)) < 1e-6 if math.isfinite(time) else False
        before = last.get(is_coarse)
        if before is not None and step.step < before.step and trace.one.training.restarted_at is not None:
            last.clear()
            before = None
        if before is not None and before.train_time_ms is not None and before.train_time_ms > time:
            found = f"a train_time of {time:.0f} ms at step {step.step}"
            expected = f"more than {before.train_time_ms:.0f} ms, which line {before.line} has at step {before.step}"
            is_new_timer = time < before.train_time_ms / 10
            yield _clobbered(trace.one, step.line, found, expected, None if is_new_timer else ERROR)
            return
        last[is_coarse] = step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A step line with its time and average in ms."""

    line: int
    step: int
    time: float
    average: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    """How far a line is off a formula, in ms, over so many steps; `within` is how far rounding may move it."""

    line: int
    ms: float
    span_ms: float
    within: float


def _off_the_clock(trace: Trace) -> int | None:
    """Return the first line whose step_avg does not fit its train_time, though nearly all others fit by one formula.

    Scripts average in several ways. A formula may be theirs if nine lines of ten fit it as well as they are rounded, and
    rounding is not all that can be seen; of several the one counts that leaves the fewest lines off.
    """
    every = [
        _Timed(line=s.line, step=s.step, time=s.train_time_ms, average=s.step_avg_ms)
        for s in trace.steps
        if s.train_time_ms and s.step_avg_ms
        if 0 < s.train_time_ms < LONGEST_MS and SHORTEST_MS < s.step_avg_ms < LONGEST_MS
    ]
    timed = [one for one in every if one.step > FIRST_TIMED_STEP]
    if len(timed) < FEWEST_TIMED:
        return None
    digits, theirs = _last_digits(trace), []
    for errors in (
        _since_start(timed, digits),
        _after_a_start(timed, digits),
        _since_last_line(every, digits)[-len(timed) :],
    ):
        fitting = sum(abs(error.ms) <= error.within for error in errors)
        is_sharp = 2 * median(e.within for e in errors) <= SLACK * median(e.span_ms for e in errors)
        if is_sharp and fitting >= 0.9 * len(errors):
            theirs.append([e.line for e in errors if abs(e.ms) > e.within + SLACK * e.span_ms])
    fewest = min(theirs, key=len, default=[])
    return fewest[0] if fewest else None


def _last_digits(trace: Trace) -> _Timed:
    """Return the units of the last printed digits of times and averages, in ms: the coarsest of the last lines."""
    tail = b"".join(text[-TAIL:] for _, text in trace.one.training.curve[-3:])
    time, average = (
        max((MS[unit.lower()] * 10.0 ** -len(decimals) for decimals, unit in name.findall(tail)), default=1.0)
        for name in (_TIME, _AVERAGE)
    )
    return _Timed(line=0, step=0, time=time, average=average)


def _errors(timed: Sequence[_Timed], digits: _Timed, off_ms: Sequence[float]) -> list[_Error]:
    """Return the errors of averages that count from the beginning, where the count may be off by a step."""
    return [
        _Error(
            line=one.line,
            ms=ms,
            span_ms=one.step * one.average,
            within=1.5 * one.average + 2 * digits.time + 0.6 * one.step * digits.average,
        )
        for one, ms in zip(timed, off_ms, strict=True)
    ]


def _since_start(timed: Sequence[_Timed], digits: _Timed) -> list[_Error]:
    """Compare with train_time / steps, where the first steps may be left out of both."""
    left_out = median(one.step - one.time / one.average for one in timed)
    return _errors(timed, digits, [one.time - one.average * (one.step - left_out) for one in timed])


def _after_a_start(timed: Sequence[_Timed], digits: _Timed) -> list[_Error]:
    """Compare with (train_time - start) / (steps - left out): warm-up steps that only the average leaves out.

    So train_time - average * steps is a straight line over the average, which the lines themselves tell.
    """
    rests = [one.time - one.average * one.step for one in timed]
    half = len(timed) // 2
    pairs = zip(timed, timed[half:], rests, rests[half:], strict=False)
    slope = median((to - rest) / ((b.average - a.average) or math.inf) for a, b, rest, to in pairs)
    starts = [rest - slope * one.average for one, rest in zip(timed, rests, strict=True)]
    start = median(starts)
    return _errors(timed, digits, [own - start for own in starts])


def _since_last_line(timed: Sequence[_Timed], digits: _Timed) -> list[_Error]:
    """Compare with the time of the steps since the last logged one. Two lines of one step have the same before them."""
    errors = []
    before = last = timed[0]
    for one in timed[1:]:
        before, last = (last if one.step != last.step else before), one
        span = one.step - before.step
        ms = one.time - before.time - one.average * span
        within = 2 * digits.time + 0.6 * span * digits.average
        errors.append(_Error(line=one.line, ms=ms, span_ms=span * one.average, within=within))
    return errors
