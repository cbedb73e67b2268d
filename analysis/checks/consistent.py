"""Lines of one run that contradict each other: two jobs wrote into one file, or lines were changed by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from analysis.reading.run import Run
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Found, Raised

NEWLINE_BYTES = 2
FIRST_TIMED_STEP = 100  # earlier averages are rounded too coarsely
FEWEST_TIMED = 20


def check_consistent(one: Claimed) -> Raised:
    """Check that steps rise, and that averages, sizes and rounded metrics are those of the other lines."""
    run = one.training
    if run.clobbered_at is not None:
        yield _clobbered(one, run.clobbered_at, "steps that fall back again and again", "them to rise")
    if (line := _off_the_clock(run)) is not None:
        yield _clobbered(
            one, line, "a step_avg that is not train_time / steps", "it to be, as it is on the lines around it"
        )
    model, code, total = run.model_bytes, run.code_bytes, run.artifact_bytes
    if model is not None and code is not None and total is not None and total < model + code - NEWLINE_BYTES:
        line = run.size_line or one.metric.line
        yield _clobbered(one, line, f"a total of {total} bytes", f"at least model and code, {model} + {code}")
    exact = {metric.label: metric for metric in one.run.metrics}
    for rounded in one.run.metrics:
        twin = exact.get(f"{rounded.label}_exact")
        if twin is None or rounded.val_bpb is None or twin.val_bpb is None or twin.decimals <= rounded.decimals:
            continue
        if abs(rounded.val_bpb - twin.val_bpb) > 0.51 * 10.0**-rounded.decimals:
            expected = f"{twin.val_bpb} rounded, as line {twin.line} has it"
            yield _clobbered(one, rounded.line, f"a val_bpb of {rounded.val_bpb}", expected)


def _clobbered(one: Claimed, line: int, found: str, expected: str) -> Found:
    return Found(
        code=Code.LOG_CLOBBERED,
        at=one.at(line),
        found=found,
        expected=expected,
        do="Two jobs wrote into the log, or lines were changed: rerun the seed with a log of its own.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed:
    """A step with an average: the steps that the average leaves out, and how far rounding alone can move that number."""

    line: int
    step: int
    left_out: float
    rounding: float


def _off_the_clock(run: Run) -> int | None:
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
        for s in run.steps
        if s.train_time_ms and s.step_avg_ms and math.isfinite(s.step_avg_ms) and s.step > FIRST_TIMED_STEP
    ]
    if len(timed) < FEWEST_TIMED:
        return None
    usual = median(one.left_out for one in timed)
    off = [one.line for one in timed if abs(one.left_out - usual) > 1.5 + 2 * one.rounding + 0.02 * one.step]
    return off[0] if off and len(off) <= len(timed) // 10 else None
