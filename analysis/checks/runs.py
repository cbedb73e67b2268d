"""The checks on the claimed runs: each by itself, then all against each other.

A fact that a log does not print is unknown and never held against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.checks.among.alike import check_alike
from analysis.checks.among.fingerprints import check_fingerprints
from analysis.checks.among.seeds import check_seeds
from analysis.checks.caps import ONE_STEP_MS, check_eval_time
from analysis.checks.consistent import Trace, check_consistent, check_whole, traces_of
from analysis.checks.data import check_data, check_seeding
from analysis.reading.metric import Step
from analysis.reading.source import cannot_print, does_not_compile, has_size
from analysis.record.folder import file_seed
from analysis.record.selection import Claimed, with_training
from analysis.rules.findings import ERROR, Code, Found, Place, Raised, each_once
from analysis.rules.keys import LABELLED, LAST
from analysis.rules.ruleset import Ruleset

ROUNDED = 1e-4  # nats: the same loss with fewer decimals
MOST_SOURCES = 6  # that are parsed: each takes up to a second


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
        yield from check_eval_time(one, rules)
    yield from _by_one_step(claimed, rules)
    yield from each_once(_sources(claimed, rules))
    traces = traces_of(claimed)
    yield from check_whole(traces)
    for trace in traces:
        yield from check_consistent(trace)
    if rules.at_step != LAST:
        yield from _step_chosen_for_it(traces)
    if rules.has_test:
        yield from check_seeds(traces, rules)
        yield from check_fingerprints(traces, rules)
        yield from check_alike(claimed, rules)
    yield from check_data(claimed, rules)
    yield from check_seeding(claimed, rules)


def _step_chosen_for_it(traces: Sequence[Trace]) -> Raised:
    """Check that no step's validation is printed again with a better loss, where a step before the last may count."""
    for trace in traces:
        first: dict[int, Step] = {}
        for step in trace.steps:
            known = first.setdefault(step.step, step) if step.val_loss is not None else step
            if (known.val_loss or 0.0) - (step.val_loss or 0.0) > ROUNDED:
                found = f"step {step.step} again with a better val_loss, {step.val_loss}; line {known.line} has {known.val_loss}"
                expected = "one validation for each step"
                at = trace.one.at(step.line)
                yield Found(code=Code.METRIC_TWICE, at=at, found=found, expected=expected, severity=ERROR)
                break


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
    sizes = [size for size in (run.artifact_bytes, run.model_bytes) if size is not None]
    yield from size_over_cap(max(sizes, default=None), rules, one.at(one.training.size_line or one.metric.line))


def _by_one_step(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Say once how many runs ended their last step after the cap, and which of them latest."""
    cap = rules.train_time_s
    times = [(time, one) for one in claimed if (time := with_training(one).train_time_ms) is not None]
    over = [(time - 1000 * cap, one) for time, one in times if cap is not None and 0 < time - 1000 * cap <= ONE_STEP_MS]
    if over:
        ms, worst = max(over, key=lambda pair: pair[0])
        found = f"{len(over)} of {len(claimed)} runs over the cap of {cap:g} s, this one the most, by {ms:.0f} ms"
        yield worst.at(worst.metric.line).has(Code.TIME_OVER_CAP_BY_ONE_STEP, found)


def size_over_cap(size: int | None, rules: Ruleset, at: Place) -> Raised:
    """Check the size of an artifact."""
    if size is not None and rules.artifact_bytes is not None and size > rules.artifact_bytes:
        yield at.has(Code.SIZE_OVER_CAP, f"{size} bytes", expected=f"at most {rules.artifact_bytes}")


def _spelled(name: str) -> list[str]:
    """Return how a program may print a metric that we know by its normal name: core_metric, CORE metric, core/metric."""
    return [name.replace("_", sign) for sign in ("_", " ", "/", "-", ".", "")]


def _sources(claimed: Sequence[Claimed], rules: Ruleset) -> Raised:
    """Check that each embedded source is whole, parses, and can print the metric."""
    faults: dict[tuple[bytes, str], str | None] = {}  # each source is parsed once
    mute: dict[tuple[bytes, str], bool] = {}
    for one in claimed:
        run, label = one.training, one.metric.label
        if run.source is None:
            continue
        at = one.at(run.line)
        size = run.code_bytes if run.unpacked_code_bytes is None else run.unpacked_code_bytes
        if size is not None and not has_size(run.source, size):
            found = f"an embedded source of {run.source.size_bytes} bytes and a printed code size of {size}"
            yield at.has(Code.SOURCE_SIZE_MISMATCH, found, expected="the two to be equal")
        key = run.source.text, label
        if key not in faults and len(faults) == MOST_SOURCES:
            continue  # each of so many is a source that differs, or a metric of another label
        if key not in faults:
            faults[key] = does_not_compile(run.source, run.python)
            spelled = _spelled(label) if label in one.metric.others else [label]
            mute[key] = rules.final == LABELLED and cannot_print(run.source, *spelled)
        if faults[key] is not None:
            yield at.has(Code.SOURCE_DOES_NOT_COMPILE, f"an embedded source that does not parse: {faults[key]}")
        if mute[key]:
            found = f"the metric {label}, which no text in the embedded source can make"
            yield one.at(one.metric.line).has(Code.LABEL_NOT_IN_SOURCE, found)
