"""Lines of one run that contradict each other: two jobs wrote into one file, or lines were changed by hand."""

from __future__ import annotations

import math
from statistics import median

from analysis.reading.run import Run
from analysis.record.selection import Claimed
from analysis.rules.findings import Code, Raised

NEWLINE_BYTES = 2
FIRST_TIMED_STEP = 100  # earlier averages are rounded too coarsely
FEWEST_TIMED = 20


def check_consistent(one: Claimed) -> Raised:
    """Check that steps rise, and that averages, sizes and rounded metrics are those of the other lines."""
    run = one.training
    if run.clobbered_at is not None:
        found = "steps that fall back again and again"
        yield one.at(run.clobbered_at).has(Code.LOG_CLOBBERED, found, expected="them to rise")
    if (line := _off_the_clock(run)) is not None:
        found, expected = "a step_avg that is not train_time / steps", "it to be, as it is on the lines around it"
        yield one.at(line).has(Code.LOG_CLOBBERED, found, expected=expected)
    model, code, total = run.model_bytes, run.code_bytes, run.artifact_bytes
    if model is not None and code is not None and total is not None and total < model + code - NEWLINE_BYTES:
        at, expected = one.at(run.size_line or one.metric.line), f"at least model and code, {model} + {code}"
        yield at.has(Code.LOG_CLOBBERED, f"a total of {total} bytes", expected=expected)
    exact = {metric.label: metric for metric in one.run.metrics}
    for rounded in one.run.metrics:
        twin = exact.get(f"{rounded.label}_exact")
        if twin is None or rounded.val_bpb is None or twin.val_bpb is None or twin.decimals <= rounded.decimals:
            continue
        if abs(rounded.val_bpb - twin.val_bpb) > 0.51 * 10.0**-rounded.decimals:
            found, expected = f"a val_bpb of {rounded.val_bpb}", f"{twin.val_bpb} rounded, as line {twin.line} has it"
            yield one.at(rounded.line).has(Code.LOG_CLOBBERED, found, expected=expected)


def _off_the_clock(run: Run) -> int | None:
    """Return the first line whose step_avg is off train_time / steps, if nearly all others agree on one count of steps.

    A script may leave its first steps out of the average, so their number is learned from the log itself. `rounding` is
    how far the rounding of the two printed times alone can move it.
    """
    timed = [
        (s.line, s.step, s.train_time_ms / s.step_avg_ms, (0.005 * s.step + 1) / s.step_avg_ms)
        for s in run.steps
        if s.train_time_ms and s.step_avg_ms and math.isfinite(s.step_avg_ms) and s.step > FIRST_TIMED_STEP
    ]
    if len(timed) < FEWEST_TIMED:
        return None
    usual = median(step - averaged for _, step, averaged, _ in timed)
    off = [
        line
        for line, step, averaged, rounding in timed
        if abs(step - averaged - usual) > 1.5 + 2 * rounding + 0.02 * step
    ]
    return off[0] if off and len(off) <= len(timed) // 10 else None
