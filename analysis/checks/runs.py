"""The checks on the claimed runs: each by itself, then all against each other.

One program, one configuration, one data set, distinct seeds; times and sizes under the ruleset's caps; and the numbers of
one log in agreement with each other.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from analysis.reading.run import Run
from analysis.reading.source import cannot_print, does_not_compile
from analysis.record.folder import file_seed
from analysis.record.selection import RATIO_TOLERANCE, Claimed, with_training
from analysis.rules.findings import Raised
from analysis.rules.ruleset import LABELLED, Ruleset

NEWLINE_BYTES = 2
ONE_STEP_MS = 1000.0
SAME_LOSS = 0.004  # of one seed at steps 2-4, run twice on one machine

_OWN = re.compile(  # what may differ from run to run, is measured, or has a finding of its own
    r"(?:^|_)(?:seed|run_id|runid|run_name|name|id|uuid|rank|world_size|grad_accum_steps|nproc|gpus?|device|host|port|pid|path|dir|file"
    r"|files|logfile|wandb|max_wallclock_seconds|date|time|timestamp|main_process|is_main_process|master|distributed"
    r"|hostname|node|tag|experiment|checkpoint|ckpt|artifact|out|note|notes|job|tokens_total|shards|loader|datasets?|pattern|elapsed|mem|memory|allocated)(?:_|$)|^tokens$|(?:^|_)(?:loss|bpb)$"
)  # fmt: skip
_UNIT = re.compile(r"_(?:ms|s|gb|mb|sec|secs)$")
_MEASURED = re.compile(r"-?\d+(?:\.\d+)?(?:ms|s|m|MiB|MB|GB|GiB)")


def check_runs(claimed: list[Claimed], rules: Ruleset, shown: Callable[[Path], str]) -> Raised:
    """Each run by itself, then all against each other: one program, one configuration, one data set, distinct seeds."""
    if claimed and len(claimed) < rules.minimum_runs:
        one = claimed[0]
        yield (
            "too-few-seeds", shown(one.run.log), one.metric.line,
            f"Found {len(claimed)} of the {rules.minimum_runs} runs that {rules.name} asks for. Run more seeds.",
        )  # fmt: skip
    for one in claimed:
        yield from _one_run(one, rules, shown(one.run.log))
    yield from _sources(claimed, rules, shown)
    yield from _seeds(claimed, rules, shown)
    yield from _differences(claimed, shown)
    yield from _ratios(claimed, rules, shown)


def _one_run(one: Claimed, rules: Ruleset, log: str) -> Raised:
    run, line = with_training(one), one.metric.line
    if rules.seeds == "required" and run.seed is None:
        yield "seed-missing", log, run.line, "Found no printed seed; expected a line such as seed:1337. Print it."
    named = file_seed(one.run.log)
    if run.seed is not None and named is not None and run.seed != named:
        yield (
            "seed-mismatch",
            log,
            run.line,
            f"Found seed {run.seed} in the log; its name says {named}. Correct the name, or put the right log here.",
        )
    if rules.world_size is not None and run.world_size not in (None, rules.world_size):
        yield (
            "world-size",
            log,
            run.line,
            f"Found world_size {run.world_size}; {rules.name} is run on {rules.world_size} ranks. Run it there.",
        )
    if rules.gpu is not None and run.gpu is not None and rules.gpu.lower() not in run.gpu.lower():
        yield (
            "hardware-unexpected",
            log,
            run.line,
            f"Found {run.gpu}; expected {rules.gpu}. Times cannot be compared across hardware.",
        )
    if rules.train_time_s is not None and run.train_time_ms is not None:
        over = run.train_time_ms - 1000 * rules.train_time_s
        if not over <= ONE_STEP_MS:  # a time that is no number is not within the cap
            yield (
                "time-over-cap",
                log,
                line,
                f"Found {run.train_time_ms:.0f} ms of training; the cap is {rules.train_time_s:g} s. Stop in time.",
            )
        elif over > 0:
            yield (
                "time-over-cap-by-one-step", log, line,
                f"Found {run.train_time_ms:.0f} ms of training, {over:.0f} ms over the cap of {rules.train_time_s:g} s: the step that was running.",
            )  # fmt: skip
    if (
        rules.artifact_bytes is not None
        and run.artifact_bytes is not None
        and run.artifact_bytes > rules.artifact_bytes
    ):
        yield (
            "size-over-cap", log, one.training.size_line or line,
            f"Found {run.artifact_bytes} bytes; the cap is {rules.artifact_bytes}. Shrink the artifact.",
        )  # fmt: skip
    yield from _consistent(one, log)


def _consistent(one: Claimed, log: str) -> Raised:
    """Lines of one run that contradict each other: two writers in one file, or lines changed by hand."""
    run = one.training
    why = "Two jobs wrote into it, or lines were changed. Rerun the seed with a log of its own."
    if run.clobbered_at is not None:
        yield (
            "log-clobbered",
            log,
            run.clobbered_at,
            f"Found steps that fall back again and again; expected them to rise. {why}",
        )
    if (at := _off_the_clock(run)) is not None:
        yield (
            "log-clobbered",
            log,
            at,
            f"Found a step_avg that is not train_time / steps as on the lines around it. {why}",
        )
    parts, total = (run.model_bytes, run.code_bytes), run.artifact_bytes
    if (
        None not in parts
        and total is not None
        and total < (run.model_bytes or 0) + (run.code_bytes or 0) - NEWLINE_BYTES
    ):
        yield (
            "log-clobbered", log, run.size_line or one.metric.line,
            f"Found a total of {total} bytes; expected at least model and code, {run.model_bytes} + {run.code_bytes}. {why}",
        )  # fmt: skip
    exact = {m.label: m for m in one.run.metrics}
    for rounded in one.run.metrics:
        twin = exact.get(f"{rounded.label}_exact")
        if twin is None or rounded.val_bpb is None or twin.val_bpb is None or twin.decimals <= rounded.decimals:
            continue
        if abs(rounded.val_bpb - twin.val_bpb) > 0.51 * 10.0**-rounded.decimals:
            yield (
                "log-clobbered",
                log,
                rounded.line,
                f"Found {rounded.val_bpb} rounded from {twin.val_bpb} on line {twin.line}. {why}",
            )


def _off_the_clock(run: Run) -> int | None:
    """The first line whose step_avg is off train_time / steps where nearly all others agree on one count of steps.

    A script may leave its first steps out of the average, so the difference is learned from the log itself.
    """
    timed = [
        (s.line, s.step, s.step - s.train_time_ms / s.step_avg_ms, s.step * 0.005 / s.step_avg_ms + 1.0 / s.step_avg_ms)
        for s in run.steps
        if s.train_time_ms and s.step_avg_ms and math.isfinite(s.step_avg_ms) and s.step > 100
    ]
    if len(timed) < 20:
        return None
    usual = median(offset for _, _, offset, _ in timed)
    off = [line for line, step, offset, rounding in timed if abs(offset - usual) > 1.5 + 2 * rounding + 0.02 * step]
    return off[0] if off and len(off) <= len(timed) // 10 else None


def _sources(claimed: list[Claimed], rules: Ruleset, shown: Callable[[Path], str]) -> Raised:
    judged: dict[tuple[bytes, str], tuple[str | None, bool]] = {}
    for one in claimed:
        run, log, label = one.training, shown(one.run.log), one.metric.label
        if run.source is None:
            continue
        size = run.unpacked_code_bytes or run.code_bytes
        if size is not None and abs(run.source.size_bytes - size) > NEWLINE_BYTES:
            yield (
                "source-size-mismatch", log, run.line,
                f"Found an embedded source of {run.source.size_bytes} bytes and a printed code size of {size}; expected them equal. Show the program that ran, whole.",
            )  # fmt: skip
        key = run.source.text, label
        if key not in judged:
            judged[key] = (
                does_not_compile(run.source, run.python),
                rules.final == LABELLED and cannot_print(run.source, label),
            )
        fault, mute = judged[key]
        if fault is not None:
            yield (
                "source-does-not-compile",
                log,
                run.line,
                f"Found an embedded source that does not parse: {fault}. Show the program that ran.",
            )
        if mute:
            yield (
                "label-not-in-source", log, one.metric.line,
                f"Found the metric {label}, which no text in the embedded source can make. Show the program that ran.",
            )  # fmt: skip


def _seeds(claimed: list[Claimed], rules: Ruleset, shown: Callable[[Path], str]) -> Raised:
    first: dict[int, Claimed] = {}
    for one in claimed:
        seed = one.run.seed
        if seed is None:
            continue
        if seed in first:
            yield (
                "duplicate-seed", shown(one.run.log), one.run.line,
                f"Found seed {seed}, which {shown(first[seed].run.log)} prints too; expected another. Keep one run a seed.",
            )  # fmt: skip
        first.setdefault(seed, one)
    if rules.seeds != "required":  # runs without a seed of their own may well share their first weights
        yield from _copies(claimed, shown)
        return
    begun: dict[float, list[tuple[Claimed, dict[int, float]]]] = {}  # by the loss at step 1
    for one in claimed:
        if (start := _first_losses(one.training)) is None:
            continue
        before = begun.setdefault(start[1], [])
        twin = next((a for a, at_a in before if _alike(at_a, start) and a.training is not one.training), None)
        if twin is not None:
            yield (
                "same-trajectory", shown(one.run.log), one.training.line,
                f"Found the training losses of {shown(twin.run.log)} at the first steps ({', '.join(f'{start[s]:g}' for s in sorted(start))}); expected "
                f"another seed's. One seed was run twice, or one log made from the other: rerun it.",
            )  # fmt: skip
        before.append((one, start))


def _copies(claimed: list[Claimed], shown: Callable[[Path], str]) -> Raised:
    """Runs without seeds that agree in every loss that they log, and in three at least."""
    known: dict[tuple[object, ...], Claimed] = {}
    for one in claimed:
        losses = tuple((step.step, step.train_loss, step.val_loss) for step in one.training.steps)
        if len(losses) < 3:
            continue
        twin = known.setdefault(losses, one)
        if twin.training is not one.training:
            yield (
                "same-trajectory", shown(one.run.log), one.training.line,
                f"Found every logged loss of {shown(twin.run.log)}; expected another run's. One log was made from the other: rerun it.",
            )  # fmt: skip


def _alike(a: dict[int, float], b: dict[int, float]) -> bool:
    """Whether training losses at steps 2-4 are one seed's, given that those at step 1 are equal."""
    common = a.keys() & b.keys() - {1}
    return len(common) > 1 and all(abs(a[step] - b[step]) <= SAME_LOSS for step in common)


def _first_losses(run: Run) -> dict[int, float] | None:
    """Training losses at steps 1-4; None when step 1 is not logged."""
    if not run.curve:
        return None
    line, text = run.curve[0]
    start = (line, text[:4096].rpartition(b"\n")[0] or text[:4096])
    head = Run(log=run.log, line=run.line, curve=(start, *run.curve[1:8]))
    found = {step.step: step.train_loss for step in head.steps if 1 <= step.step <= 4 and step.train_loss is not None}
    return found if 1 in found else None


def _differences(claimed: list[Claimed], shown: Callable[[Path], str]) -> Raised:
    for one, usual, value in _odd(claimed, lambda one: one.training.source and one.training.source.text):
        usual_size, size = len(usual), len(value)
        yield (
            "source-differs", shown(one.run.log), one.training.line,
            f"Found an embedded source of {size} bytes that is not that of the other claimed runs ({usual_size} bytes); expected one "
            f"program for all seeds. Rerun it with theirs.",
        )  # fmt: skip
    for one, usual, value in _odd(claimed, lambda one: with_training(one).code_bytes):
        yield (
            "code-size-differs",
            shown(one.run.log),
            one.metric.line,
            f"Found a code size of {value} bytes; the other claimed runs print {usual}. Run one program.",
        )
    configs = _configs(claimed)
    for one, usual, value in _odd(claimed, lambda one: configs.get(id(one.run))):
        own, theirs = dict(value), dict(usual)
        names = [name for name in own | theirs if own.get(name) != theirs.get(name)]
        said = ", ".join(f"{n} {own.get(n, 'not printed')} for {theirs.get(n, 'not printed')}" for n in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield (
            "config-differs",
            shown(one.run.log),
            one.run.line,
            f"Found other hyper-parameters than the other claimed runs': {said}{more}. Run one configuration.",
        )
    facts: tuple[tuple[str, str, Callable[[Run], Any]], ...] = (
        ("environment-differs", "torch", lambda run: run.torch),
        ("environment-differs", "ranks", lambda run: run.world_size),
        ("environment-differs", "GPU", lambda run: run.gpu),
        ("data-differs", "training shards", lambda run: run.train_shards),
        ("data-differs", "validation tokens", lambda run: run.val_tokens),
        ("data-differs", "data set", lambda run: run.dataset),
    )
    for code, what, fact in facts:
        for one, usual, value in _odd(claimed, lambda one, fact=fact: fact(one.run)):
            yield (
                code,
                shown(one.run.log),
                one.run.line,
                f"Found {what}: {value}; the other claimed runs have {usual}. Run all seeds alike.",
            )


def _odd(claimed: list[Claimed], fact: Callable[..., Any]) -> Iterator[tuple[Claimed, Any, Any]]:
    """(run, the usual value, its own value) where a run's fact is not the usual one; unknown facts are left out."""
    known = [(one, value) for one in claimed if (value := fact(one)) is not None]
    if len(known) < 2:
        return
    usual = Counter(value for _, value in known).most_common(1)[0][0]
    yield from ((one, usual, value) for one, value in known if value != usual)


def _configs(claimed: list[Claimed]) -> dict[int, tuple[tuple[str, str], ...]]:
    """By run the hyper-parameters that all seeds must share. Only a block that lists them all can lack one."""
    known = [one.run for one in claimed if one.run.hyperparameters]
    whole = all(run.complete_config for run in known)
    common = set.intersection(*(set(run.hyperparameters) for run in known)) if known else set()
    return {
        id(run): tuple(
            sorted(
                (name, _without_seed(value, run.seed))
                for name, value in run.hyperparameters.items()
                if (whole or (name in common and not _UNIT.search(name))) and _shared(name, value)
            )
        )
        for run in known
    }


def _without_seed(value: str, seed: int | None) -> str:
    """A value that carries the run's own seed, as in tag: sota_seed42, with a mark in its place."""
    if seed is None or re.fullmatch(r"[-+.\deE]+", value):
        return value
    found = rf"(?<!\d){seed}(?!\d)" if seed > 9 else rf"(?:(?<=seed)|(?<=seed[_-])){seed}(?!\d)"
    return re.sub(found, "#", value)


def _shared(name: str, value: str) -> bool:
    return not _OWN.search(name.lower()) and "/" not in value and "\\" not in value and not _MEASURED.fullmatch(value)


def _ratios(claimed: list[Claimed], rules: Ruleset, shown: Callable[[Path], str]) -> Raised:
    """val_bpb / val_loss is the tokenizer's tokens per byte / ln 2: one number for one tokenizer and validation set."""
    found = [
        (one, one.metric.val_bpb / one.metric.val_loss)
        for one in claimed
        if one.metric.val_bpb
        and one.metric.val_loss
        and math.isfinite(one.metric.val_bpb)
        and math.isfinite(one.metric.val_loss)
    ]
    if not found:
        return
    usual = median(ratio for _, ratio in found)
    for one, ratio in found:
        expected = rules.bpb_per_nat.get(one.run.tokenizer or "", usual)
        if abs(ratio - expected) > RATIO_TOLERANCE:
            what = (
                f"the {one.run.tokenizer}'s {expected:.6f}"
                if one.run.tokenizer in rules.bpb_per_nat
                else f"{expected:.6f} as in the other runs"
            )
            yield (
                "bytes-per-token-unexpected", shown(one.run.log), one.metric.line,
                f"Found val_bpb / val_loss = {ratio:.6f}; expected {what}. Was it another validation set or tokenizer, or are the lines "
                f"of two evaluations?",
            )  # fmt: skip
