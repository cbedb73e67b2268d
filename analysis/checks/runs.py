"""The checks on the claimed runs: each by itself, then all against each other.

A fact that a log does not print is unknown and never held against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from analysis.checks.alike import check_alike
from analysis.checks.seeds import check_seeds
from analysis.reading.run import Run
from analysis.reading.source import cannot_print, does_not_compile
from analysis.record.folder import file_seed
from analysis.record.selection import Claimed, with_training
from analysis.rules.findings import Code, Place, Raised
from analysis.rules.ruleset import LABELLED, Ruleset

ONE_STEP_MS = 1000.0
NEWLINE_BYTES = 2
FIRST_TIMED_STEP = 100  # earlier averages are rounded too coarsely
FEWEST_TIMED = 20


def check_runs(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check the claimed runs of one arm."""
    if claimed and len(claimed) < rules.minimum_runs:
        yield (
            claimed[0]
            .at(claimed[0].metric.line)
            .has(
                Code.TOO_FEW_SEEDS,
                f"{len(claimed)} run{'s' if len(claimed) > 1 else ''}",
                expected=f"the {rules.minimum_runs} runs that {rules.name} asks for",
            )
        )
    for one in claimed:
        yield from _seed(one, rules)
        yield from _machine(one, rules)
        yield from _caps(one, rules)
        yield from _consistent(one)
    yield from _sources(claimed, rules)
    yield from check_seeds(claimed, rules)
    yield from check_alike(claimed, rules)


def _seed(one: Claimed, rules: Ruleset) -> Raised:
    seed, named, at = one.run.seed, file_seed(one.run.log), one.at(one.run.line)
    if seed is None and rules.seeds == "required":
        yield at.has(Code.SEED_MISSING, "no printed seed", expected="a line such as seed:1337")
    elif seed is not None and named not in (None, seed):
        yield at.has(
            Code.SEED_MISMATCH,
            f"seed {seed} in the log",
            expected=f"seed {named}, as its file name says",
            do="Correct the name, or put the right log here.",
        )


def _machine(one: Claimed, rules: Ruleset) -> Raised:
    run = with_training(one)
    at = one.at(run.line)
    if rules.world_size is not None and run.world_size not in (None, rules.world_size):
        expected = f"the {rules.world_size} ranks of {rules.name}"
        yield at.has(Code.WORLD_SIZE, f"world_size {run.world_size}", expected=expected)
    if rules.gpu is not None and run.gpu is not None and rules.gpu.lower() not in run.gpu.lower():
        yield at.has(Code.HARDWARE_UNEXPECTED, run.gpu, expected=rules.gpu)


def _caps(one: Claimed, rules: Ruleset) -> Raised:
    run, at, cap = with_training(one), one.at(one.metric.line), rules.train_time_s
    if cap is not None and run.train_time_ms is not None:
        over, said = run.train_time_ms - 1000 * cap, f"{run.train_time_ms:.0f} ms of training"
        if not over <= ONE_STEP_MS:  # a time of NaN is over the cap
            yield at.has(Code.TIME_OVER_CAP, said, expected=f"at most {cap:g} s")
        elif over > 0:
            yield at.has(Code.TIME_OVER_CAP_BY_ONE_STEP, f"{said}, {over:.0f} ms over the cap of {cap:g} s")
    yield from size_over_cap(run.artifact_bytes, rules, one.at(one.training.size_line or one.metric.line))


def size_over_cap(size: int | None, rules: Ruleset, at: Place) -> Raised:
    """Check the size of an artifact."""
    if size is not None and rules.artifact_bytes is not None and size > rules.artifact_bytes:
        yield at.has(Code.SIZE_OVER_CAP, f"{size} bytes", expected=f"at most {rules.artifact_bytes}")


def _sources(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that each embedded source is whole, parses, and can print the metric."""
    faults: dict[tuple[bytes, str], str | None] = {}  # each source is parsed once
    mute: dict[tuple[bytes, str], bool] = {}
    for one in claimed:
        run, label = one.training, one.metric.label
        if run.source is None:
            continue
        at, own = one.at(run.line), run.source.size_bytes
        size = run.code_bytes if run.unpacked_code_bytes is None else run.unpacked_code_bytes
        if size is not None and abs(own - size) > NEWLINE_BYTES:
            found = f"an embedded source of {own} bytes and a printed code size of {size}"
            yield at.has(Code.SOURCE_SIZE_MISMATCH, found, expected="the two to be equal")
        key = run.source.text, label
        if key not in faults:
            faults[key] = does_not_compile(run.source, run.python)
            mute[key] = rules.final == LABELLED and cannot_print(run.source, label)
        if faults[key] is not None:
            yield at.has(Code.SOURCE_DOES_NOT_COMPILE, f"an embedded source that does not parse: {faults[key]}")
        if mute[key]:
            found = f"the metric {label}, which no text in the embedded source can make"
            yield one.at(one.metric.line).has(Code.LABEL_NOT_IN_SOURCE, found)


def _consistent(one: Claimed) -> Raised:
    """Check that the lines of a run agree: else two jobs wrote into one file, or lines were changed by hand."""
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
