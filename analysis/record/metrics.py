"""The metrics that a run ends in: which of them counts, and the size that goes with it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

from analysis.reading.grammar import LONGEST_METRIC, as_text, read_pairs
from analysis.reading.metric import Metric
from analysis.reading.result import Result, Tried
from analysis.reading.run import Origin, Run
from analysis.rules.keys import EARLIEST, LABELLED
from analysis.rules.metrics import STEPS, TRAIN_TIME
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import EvidenceError

OWN = ("val_loss", "val_bpb")  # what every Metric may hold
OF_THE_RUN = (TRAIN_TIME, STEPS)  # metrics of a run that ends in a validation or a final line
NEARLY_ALL = 0.75  # of a folder's runs: where so many stop, the stop was planned
MOST_SHOWN = 4  # names in a sentence
MOST_LABELS = 300  # of one folder; a run has at most 250
_SPACED = re.compile(rb"([A-Za-z_][\w/.-]{0,80})[ \t]+[-+]?\d")  # a name and a number
_CODECS = re.compile(r"(?:^|(?<=[_ ]))(?:int\d*|fp\d*|zlib|zstd|lzma|brotli|exact|quantized)(?:[_ ]|$)")


def metrics_of(run: Run, rules: Ruleset) -> Sequence[Metric]:
    """Return what a run ends in: its final lines or, if the ruleset says so, its validation at the last of all steps.

    A metric of another name, or a validation outside of the steps, is what the run prints of it last. A tracker has no
    final lines.
    """
    if isinstance(rules.at_step, int):
        found = run.validations.get(rules.at_step)
        return [found] if found is not None else []
    of_validation = rules.metric in (*OWN, *OF_THE_RUN)
    if of_validation and rules.final == LABELLED and (run.finals or run.origin is Origin.LOG):
        return run.finals
    if of_validation and run.validation is not None:
        return [run.validation] if _is_complete(run, rules) else []
    last = named(run, rules.metric)
    return [last] if last is not None else []


def _is_complete(run: Run, rules: Ruleset) -> bool:
    """Return whether a run validated at its last step and that is its printed total, or where the others stopped too."""
    at_the_end = _at_the_end(run, run.validated_step)
    stop = run.common_stop if rules.at_step == EARLIEST else None
    if stop is None:
        return at_the_end
    return (at_the_end and run.total_steps is not None) or stop in run.validations


def _at_the_end(run: Run, step: int | None) -> bool:
    return step == run.last_step and (run.total_steps is None or (run.last_step or 0) >= run.total_steps)


def named(run: Run, name: str) -> Metric | None:
    """Return the metric of any name that a run ends in; its loss and bpb stay with it."""
    value = run.value(name)
    if value is None or not _at_the_end(run, run.last_step if value.step is None else value.step):
        return None
    own = run.finals[-1] if run.finals else run.validation
    loss, bpb = (own.val_loss, own.val_bpb) if own is not None else (None, None)
    others = {name: value.number}
    return Metric(
        label=name,
        val_loss=others.pop("val_loss", loss),
        val_bpb=others.pop("val_bpb", bpb),
        decimals=len(repr(value.number).partition(".")[2]),
        line=value.line,
        others=others,
    )


def common_stop(runs: Sequence[Run]) -> int | None:
    """Return the step at which these runs, or nearly all of them, validated for the last time and ended; None without one."""
    trained = [run for run in runs if run.curve]
    stops = Counter(run.last_step for run in trained if run.last_step and run.validated_step == run.last_step)
    step, count = max(stops.items(), key=itemgetter(1), default=(None, 0))
    return step if count >= NEARLY_ALL * len(trained) else None


def with_common_stop(logs: Mapping[Path, Sequence[Run]]) -> dict[Path, Sequence[Run]]:
    """Return the runs of one folder or arm, each with the step at which nearly all of them stopped."""
    stop = common_stop([run for runs in logs.values() for run in runs])
    return {log: [replace(run, common_stop=stop) for run in runs] for log, runs in logs.items()}


def is_trial(run: Run, rules: Ruleset) -> bool:
    """Return whether a run of a log with several counts beside the others: no seed tells whose run it is, or no log.

    A test counts each of them where the rules ask for no seed: one that is printed for all of them tells nothing.
    """
    unasked = rules.seeds == "unprinted" and (run.seed is None or rules.has_test)
    return run.origin is not Origin.LOG or unasked


def common_steps(results: Sequence[Result]) -> list[int]:
    """Return the steps above 0, in rising order, at which every one of these runs validated. A run that failed has none."""
    steps = [set(result.run.validations) for result in results if result.succeeded]
    return sorted(step for step in set.intersection(*steps) if step > 0) if steps else []


def at_step(result: Result, step: int) -> Result | None:
    """Return the result with its validation at this step as the metric that counts; None where it has none there."""
    metric = result.run.validations.get(step)
    return None if metric is None else replace(result, metric=metric)


def unread_names(run: Run, rules: Ruleset) -> str | None:
    """Return what a run that ended prints in its last step, or a tracker tells of it, if the rules read nothing of it."""
    if run.value(rules.metric) is not None:
        return None
    if run.origin is not Origin.LOG and run.values:
        return _unread("the run has", [*run.values], rules)
    if run.metrics or not run.curve or not _at_the_end(run, run.last_step):
        return None
    line = run.curve[-1][1].rstrip(b"\n").rpartition(b"\n")[2][:LONGEST_METRIC]
    found = [*read_pairs(line)][::-1] or [found[1] for found in _SPACED.finditer(line)]
    names = [as_text(name) for name in found if name.lower() not in (b"step", b"iter", b"iteration", b"s")]
    return _unread(f"step {run.last_step} prints", names, rules)


def _unread(where: str, names: Sequence[str], rules: Ruleset) -> str:
    read = f"they read {rules.metric}; --rules or --metric names another"
    if not names:
        return f"{where} no number with a name that the rules read ({read})"
    named = [f"`{printable(name)}`" for name in names[:MOST_SHOWN]]
    said = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"{where} {said}, which the rules do not read ({read})"


def last_metric(runs: Sequence[Run], rules: Ruleset) -> Metric | None:
    """Return the last metric that a log prints, final or of a validation in training; None for a log without."""
    own = [one for run in runs for one in (run.validation, *run.finals) if one is not None]
    others = [one for run in runs if rules.metric not in OWN and (one := named(run, rules.metric)) is not None]
    return max(
        (one for one in own + others if one.value(rules.metric) is not None), key=lambda one: one.line, default=None
    )


def with_log(attempt: Tried, runs: Sequence[Run], rules: Ruleset) -> Tried:
    """Return an attempt with what its log holds; what its driver said of the last value stands."""
    last = last_metric(runs, rules)
    value = None if last is None else last.value(rules.metric)
    times = [run.train_time_ms for run in runs if run.train_time_ms is not None]
    return replace(
        attempt,
        last=attempt.last if attempt.last is not None or value is None or not math.isfinite(value) else value,
        line=last.line if last is not None else 1,
        trained_s=max(times) / 1000 if times else None,
        complete=any(metrics_of(run, rules) for run in runs),
    )


def labelled(run: Run, label: str, rules: Ruleset) -> Metric | None:
    """Return the last metric of this label that a run ends in."""
    return next((metric for metric in reversed(metrics_of(run, rules)) if metric.label == label), None)


def all_labels(run: Run, rules: Ruleset) -> list[str]:
    """Return every label that a run prints, diagnostics included, in the order of printing."""
    return list(dict.fromkeys(metric.label for metric in (*run.metrics, *metrics_of(run, rules))))


def labels_of(runs: list[Run], rules: Ruleset) -> list[str]:
    """Return every final label: those that most runs print first, then those with most decimals, then as printed."""
    counted: dict[str, int] = {}
    decimals: dict[str, int] = {}
    for run in runs:
        for metric in {metric.label: metric for metric in metrics_of(run, rules)}.values():
            counted[metric.label] = counted.get(metric.label, 0) + 1
            decimals[metric.label] = max(decimals.get(metric.label, 0), metric.decimals)
    if len(counted) > MOST_LABELS:
        raise EvidenceError(
            f"The runs end in {len(counted)} different metrics, more than {MOST_LABELS}: name fewer logs."
        )
    return sorted(counted, key=lambda label: (-counted[label], -decimals[label]))


def same_evaluation(label: str, other: str) -> bool:
    """Return whether two labels differ in names of codecs only: one evaluation of differently packed weights."""
    return _CODECS.sub("", label).strip("_ ") == _CODECS.sub("", other).strip("_ ")


def metric_of(run: Run, label: str | None, rules: Ruleset) -> Metric:
    """Return a complete run's metric of that label, else the last one of the same evaluation, else the last."""
    own = metrics_of(run, rules)
    if label is None:
        return own[-1]
    exact = labelled(run, label, rules) or next((m for m in reversed(run.metrics) if m.label == label), None)
    return exact or next((m for m in reversed(own) if same_evaluation(m.label, label)), own[-1])


def sized(run: Run, label: str) -> Run:
    """Return the run with one total, if it prints several: of those of the codec in the metric's label, else of all, the largest.

    An artifact's size belongs to the evaluation of that artifact. A claim does not choose among totals.
    """
    words = _words(label)
    totals = [total for total in run.totals if total[0]]
    named = {codec: len(words & _words(codec) - {""}) for codec, _ in totals}
    most = max(named.values(), default=0)
    largest = max((size for codec, size in totals if named[codec] == most), default=None)
    if largest in (None, run.artifact_bytes):
        return run
    return replace(run, artifact_bytes=largest, size_line=None)


def _words(text: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", text.lower()))
