"""The checks on the claimed runs: each by itself, then all against each other.

One program, one configuration, one data set, distinct seeds; times and sizes under the ruleset's caps; and lines of one log
that agree with each other. A fact that a log does not print is unknown and never held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.checks.alike import check_alike
from analysis.checks.caps import ONE_STEP_MS, check_eval_time
from analysis.checks.consistent import NEWLINE_BYTES, Trace, check_consistent
from analysis.checks.data import check_data, check_seeding
from analysis.checks.fingerprints import check_fingerprints
from analysis.checks.seeds import check_seeds
from analysis.reading.source import cannot_print, does_not_compile
from analysis.record.folder import file_seed
from analysis.record.selection import Claimed, with_training
from analysis.rules.findings import Code, Found, Raised
from analysis.rules.ruleset import LABELLED, Ruleset

SHOW = "Show the program that ran."


def check_runs(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check the claimed runs of one arm."""
    if claimed and len(claimed) < rules.minimum_runs:
        yield Found(
            code=Code.TOO_FEW_SEEDS,
            at=claimed[0].at(claimed[0].metric.line),
            found=f"{len(claimed)} run{'s' if len(claimed) > 1 else ''}",
            expected=f"the {rules.minimum_runs} runs that {rules.name} asks for",
            do="Run more seeds.",
        )
    for one in claimed:
        yield from _seed(one, rules)
        yield from _machine(one, rules)
        yield from _caps(one, rules)
        yield from check_eval_time(one, rules)
    yield from _sources(claimed, rules)
    traces = [Trace.of(one) for one in claimed]
    for trace in traces:
        yield from check_consistent(trace)
    yield from check_seeds(traces, rules)
    yield from check_fingerprints(traces, rules)
    yield from check_alike(claimed, rules)
    yield from check_data(claimed, rules)
    yield from check_seeding(claimed)


def _seed(one: Claimed, rules: Ruleset) -> Raised:
    seed, named = one.run.seed, file_seed(one.run.log)
    if seed is None:
        if rules.seeds == "required":
            yield Found(
                code=Code.SEED_MISSING,
                at=one.at(one.run.line),
                found="no printed seed",
                expected="a line such as seed:1337",
                do="Print it.",
            )
    elif named is not None and seed != named:
        yield Found(
            code=Code.SEED_MISMATCH,
            at=one.at(one.run.line),
            found=f"seed {seed} in the log",
            expected=f"seed {named}, as its file name says",
            do="Correct the name, or put the right log here.",
        )


def _machine(one: Claimed, rules: Ruleset) -> Raised:
    run = with_training(one)
    if rules.world_size is not None and run.world_size not in (None, rules.world_size):
        yield Found(
            code=Code.WORLD_SIZE,
            at=one.at(run.line),
            found=f"world_size {run.world_size}",
            expected=f"the {rules.world_size} ranks of {rules.name}",
            do="Run it on as many.",
        )
    if rules.gpu is not None and run.gpu is not None and rules.gpu.lower() not in run.gpu.lower():
        yield Found(
            code=Code.HARDWARE_UNEXPECTED,
            at=one.at(run.line),
            found=run.gpu,
            expected=rules.gpu,
            do="Times on different hardware cannot be compared: run it there.",
        )


def _caps(one: Claimed, rules: Ruleset) -> Raised:
    run = with_training(one)
    if rules.train_time_s is not None and run.train_time_ms is not None:
        over = run.train_time_ms - 1000 * rules.train_time_s
        if not over <= ONE_STEP_MS:  # a time of NaN is over the cap
            yield Found(
                code=Code.TIME_OVER_CAP,
                at=one.at(one.metric.line),
                found=f"{run.train_time_ms:.0f} ms of training",
                expected=f"at most {rules.train_time_s:g} s",
                do="Stop in time.",
            )
        elif over > 0:
            yield Found(
                code=Code.TIME_OVER_CAP_BY_ONE_STEP,
                at=one.at(one.metric.line),
                found=f"{run.train_time_ms:.0f} ms of training, {over:.0f} ms over the cap of {rules.train_time_s:g} s",
                do="The step that was running had to end: nothing to do.",
            )
    if (
        rules.artifact_bytes is not None
        and run.artifact_bytes is not None
        and run.artifact_bytes > rules.artifact_bytes
    ):
        yield Found(
            code=Code.SIZE_OVER_CAP,
            at=one.at(one.training.size_line or one.metric.line),
            found=f"{run.artifact_bytes} bytes",
            expected=f"at most {rules.artifact_bytes}",
            do="Shrink the artifact.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Why an embedded source does not parse, and whether it is unable to print the metric's label."""

    fault: str | None
    mute: bool


def _sources(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that each embedded source is whole, parses, and can print the metric."""
    judged: dict[tuple[bytes, str], _Judged] = {}
    for one in claimed:
        run, label = one.training, one.metric.label
        if run.source is None:
            continue
        size = run.code_bytes if run.unpacked_code_bytes is None else run.unpacked_code_bytes
        if size is not None and abs(run.source.size_bytes - size) > NEWLINE_BYTES:
            yield Found(
                code=Code.SOURCE_SIZE_MISMATCH,
                at=one.at(run.line),
                found=f"an embedded source of {run.source.size_bytes} bytes and a printed code size of {size}",
                expected="the two to be equal",
                do="Show the whole program that ran.",
            )
        key = run.source.text, label
        if key not in judged:
            mute = rules.final == LABELLED and cannot_print(run.source, label)
            judged[key] = _Judged(fault=does_not_compile(run.source, run.python), mute=mute)
        if judged[key].fault is not None:
            yield Found(
                code=Code.SOURCE_DOES_NOT_COMPILE,
                at=one.at(run.line),
                found=f"an embedded source that does not parse: {judged[key].fault}",
                do=SHOW,
            )
        if judged[key].mute:
            yield Found(
                code=Code.LABEL_NOT_IN_SOURCE,
                at=one.at(one.metric.line),
                found=f"the metric {label}, which no text in the embedded source can make",
                do=SHOW,
            )
