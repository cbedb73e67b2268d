"""The runs that a claim rests on.

Which run of a log, which logs of a folder and which of a run's metrics count is decided here and nowhere else:

1. Of several runs in one log, the one that the claim fits counts, else the last complete one of each seed.
2. Where the JSON gives values seed by seed, the claimed runs are those that end in these values, under one label.
3. Else the claimed runs are a folder's runs whose mean is the headline, or the runs beside the one whose value it is.
4. Without a claim: the complete runs nearest to the top of the folder, each by its last final metric.

Labels that print the same values are the same metric; the first printed one is named.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from analysis.reading.grammar import Metric
from analysis.reading.reader import Run
from analysis.record.claim import Claim
from analysis.record.folder import Record, file_seed, seed_of
from analysis.rules.ruleset import LABELLED, Ruleset

ROUNDING = 2e-5  # of a claimed value, at least
RATIO_TOLERANCE = 3e-4  # of val_bpb / val_loss
MEAN, BEST, ONE, IN_TRAINING, UNSUPPORTED, UNCLAIMED = "mean", "best", "one", "in training", "unsupported", "unclaimed"
_CODECS = re.compile(r"(?:^|(?<=[_ ]))(?:int\d*|fp\d*|zlib|zstd|lzma|brotli|exact|quantized)(?:[_ ]|$)")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that the claim rests on, with the one metric that counts.

    `training` is the run that the training facts come from: itself or, for an evaluation alone, the run of its seed.
    """

    run: Run
    metric: Metric
    training: Run


@dataclass(slots=True)
class Selection:
    """The claimed runs, how the headline fits them, and what was left aside; `lacking` has no metric of the asked label."""

    claimed: list[Claimed] = field(default_factory=list)
    fit: str = UNCLAIMED
    incomplete: list[tuple[Path, int]] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    lacking: list[Run] = field(default_factory=list)


def metrics_of(run: Run, rules: Ruleset) -> Sequence[Metric]:
    """What a run ends in: its final lines or, where the ruleset says so, its validation at the last of all steps."""
    if rules.final == LABELLED:
        return run.finals
    reached = run.validated_step == run.last_step and (
        run.total_steps is None or (run.last_step or 0) >= run.total_steps
    )
    return [run.validation] if run.validation is not None and reached else []


def agrees(claimed: Decimal, value: float | None) -> bool:
    """Whether a value is the claimed one, at the claim's own printed precision (2e-5 at least, which is rounding)."""
    if value is None or not math.isfinite(value):
        return False
    exponent = claimed.as_tuple().exponent
    printed = 0.51 * 10.0**exponent if isinstance(exponent, int) else 0.0
    return abs(float(claimed) - value) <= max(ROUNDING, min(printed, 0.01))


def mean(values: list[float]) -> float:
    """The arithmetic mean; NaN where values are infinite or too large to add."""
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        return math.nan


def select(record: Record, rules: Ruleset, label: str | None = None) -> Selection:
    """The claimed runs of a record. With `label`, every run of the group by that metric, those without it left out."""
    candidates = _one_run_a_seed(record, rules)
    headline = _headline(record.claim)
    group, fit, chosen = candidates, UNCLAIMED, label
    found: list[Run] = []
    if label is None and record.claim is not None and candidates:
        found, chosen = _by_seed_values(record.claim, candidates, rules)
        if headline is not None and not _fits(headline, found, chosen, rules):
            for value, key in [(headline[1], record.claim.keys.get(headline[0], "")), *record.claim.other_bpbs]:
                whole = _by_headline((headline[0], value), record, candidates, rules)
                if whole[0]:
                    found, chosen = whole
                    if value != headline[1]:
                        headline = "val_bpb", value
                        record.claim.val_bpb, record.claim.keys["val_bpb"] = value, key
                    break
    if not found:
        group = _topmost(record, candidates)
        found = group if label is None else [run for run in group if label in all_labels(run, rules)]
    metrics = [_metric_of(run, chosen, rules) for run in found]
    found = _sized_as_claimed(found, metrics, record.claim)
    claimed = [Claimed(run, m, _training(run, record)) for run, m in zip(found, metrics, strict=True)]
    if headline is not None and claimed and label is None:
        fit = _fit(headline, claimed, record)
    selection = Selection(
        claimed, fit, lacking=[run for run in group if label is not None and label not in all_labels(run, rules)]
    )
    _leave_aside(selection, record, rules)
    return selection


def _fits(headline: tuple[str, Decimal], runs: list[Run], label: str | None, rules: Ruleset) -> bool:
    """Whether the headline is the mean or one value of these runs."""
    if label is None:
        return False
    metrics = [metric for run in runs if (metric := _labelled(run, label, rules)) is not None]
    values = [value for metric in metrics if (value := getattr(metric, headline[0])) is not None]
    return bool(values) and any(agrees(headline[1], value) for value in (mean(values), *values))


def _headline(claim: Claim | None) -> tuple[str, Decimal] | None:
    """The metric that the JSON's headline is in, and its value."""
    if claim is None:
        return None
    if claim.val_bpb is not None:
        return "val_bpb", claim.val_bpb
    return ("val_loss", claim.val_loss) if claim.val_loss is not None else None


def _one_run_a_seed(record: Record, rules: Ruleset) -> list[Run]:
    """Of each log and each seed in it the complete run that the claim fits, else the last complete one."""
    headline = _headline(record.claim)
    chosen = []
    for runs in record.logs.values():
        by_seed: dict[int | None, list[Run]] = {}
        for run in runs:
            if metrics_of(run, rules):
                by_seed.setdefault(run.seed, []).append(run)
        for same in by_seed.values():
            fitting = [
                run for run in same if headline and any(_agrees(headline, metric) for metric in metrics_of(run, rules))
            ]
            chosen.append((fitting or same)[-1])
    return chosen


def _agrees(headline: tuple[str, Decimal], metric: Metric) -> bool:
    """A bpb that stands under a loss key is still the headline; that it stands there is a finding."""
    what, value = headline
    return agrees(value, getattr(metric, what)) or (what == "val_loss" and agrees(value, metric.val_bpb))


def _by_seed_values(claim: Claim, candidates: list[Run], rules: Ruleset) -> tuple[list[Run], str | None]:
    """The runs that end in what the JSON says of each seed, under the label that most of them share."""
    best: tuple[list[Run], str | None] = ([], None)
    said = {seed: about for seed, about in claim.seeds.items() if about.val_bpbs or about.val_losses}
    for label in _labels(candidates, rules):
        fitting: dict[int, Run] = {}
        for run in candidates:
            seed, metric = seed_of(run), _labelled(run, label, rules)
            about = said.get(seed) if seed is not None else None
            if about is None or metric is None or seed is None or seed in fitting:
                continue
            if any(agrees(value, metric.val_bpb) for value in about.val_bpbs) or (
                not about.val_bpbs and any(agrees(value, metric.val_loss) for value in about.val_losses)
            ):
                fitting[seed] = run
        if len(fitting) > len(best[0]):
            folders = {run.log.parent for run in fitting.values()}
            rest = [
                run
                for run in candidates
                if seed_of(run) in set(claim.seeds) - set(fitting)
                and run.log.parent in folders
                and _labelled(run, label, rules) is not None
            ]
            chosen = {id(run) for run in (*fitting.values(), *rest)}
            best = [run for run in candidates if id(run) in chosen], label
    return best


def _by_headline(
    headline: tuple[str, Decimal], record: Record, candidates: list[Run], rules: Ruleset
) -> tuple[list[Run], str | None]:
    """A group of runs whose mean is the headline; else the group of the run whose value it is."""
    groups = list(_groups(record, candidates))
    labels = _labels(candidates, rules)
    for group in groups:
        for label in labels:
            having = [(run, m) for run in group if (m := _labelled(run, label, rules)) is not None]
            for what in dict.fromkeys((headline[0], "val_bpb")):
                values = [value for _, m in having if (value := getattr(m, what)) is not None]
                if len(values) > 1 and len(values) == len(having) and agrees(headline[1], mean(values)):
                    return [run for run, _ in having], label
    in_one_folder = [group for group in groups if len(group) > 1 and len({run.log.parent for run in group}) == 1]
    for group in [*in_one_folder, *groups]:
        for label in labels:
            having = [(run, m) for run in group if (m := _labelled(run, label, rules)) is not None]
            named = {_alike(run.log) for run, metric in having if _agrees(headline, metric)}
            if named:
                kin = [run for run in group if any(_family(m.label) == _family(label) for m in metrics_of(run, rules))]
                return _without_older(kin, named), label
    return [], None


def _groups(record: Record, candidates: list[Run]) -> Iterator[list[Run]]:
    """Runs that may be meant together, the likeliest first: the seeds that are named, a folder's, those named alike, all."""
    seeds = set(record.claim.seeds) if record.claim else set()
    groups = [_topmost(record, candidates)]
    for key in (lambda run: run.log.parent, lambda run: (run.log.parent, _alike(run.log))):
        for kind in dict.fromkeys(map(key, candidates)):
            groups.append([run for run in candidates if key(run) == kind])
    groups.append(candidates)
    for group in groups:
        named = [run for run in group if seed_of(run) in seeds]
        if named and len(named) < len(group) and seeds <= {seed_of(run) for run in named}:
            yield named
    yield from groups


def _alike(log: Path) -> str:
    """A log's name without numbers and identifiers: train_seed42.log and train_seed7.log are named alike."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", log.name)


def _without_older(group: list[Run], named: set[str]) -> list[Run]:
    """The group without logs that repeat a seed of the logs named in the usual way, when the claim is in none of them."""
    counted = Counter(_alike(run.log) for run in group)
    usual = max(counted, key=lambda name: (counted[name], name in named))
    seeds = {run.seed for run in group if _alike(run.log) == usual}
    if counted[usual] < 2 or not named <= {usual}:
        return group
    return [run for run in group if _alike(run.log) == usual or run.seed not in seeds]


def _topmost(record: Record, candidates: list[Run]) -> list[Run]:
    """The runs that lie nearest to the top; logs that were given by name are all at the top."""
    least = min((record.depth(run.log) for run in candidates), default=0)
    given = [run for run in candidates if run.log in record.paths]
    return given + [
        run for run in candidates if run.log not in record.paths and record.depth(run.log) in (0, max(least, 1))
    ]


def _labels(runs: list[Run], rules: Ruleset) -> list[str]:
    """Every label: those that most runs have first, then those with most decimals, then in the order of printing."""
    counted: dict[str, int] = {}
    decimals: dict[str, int] = {}
    for run in runs:
        for metric in {metric.label: metric for metric in metrics_of(run, rules)}.values():
            counted[metric.label] = counted.get(metric.label, 0) + 1
            decimals[metric.label] = max(decimals.get(metric.label, 0), metric.decimals)
    return sorted(counted, key=lambda label: (-counted[label], -decimals[label]))


def _labelled(run: Run, label: str, rules: Ruleset) -> Metric | None:
    return next((metric for metric in reversed(metrics_of(run, rules)) if metric.label == label), None)


def all_labels(run: Run, rules: Ruleset) -> list[str]:
    return list(dict.fromkeys(metric.label for metric in (*run.metrics, *metrics_of(run, rules))))


def _family(label: str) -> str:
    """A label without the names of codecs: the same evaluation of differently packed weights."""
    return _CODECS.sub("", label).strip("_ ")


def _metric_of(run: Run, label: str | None, rules: Ruleset) -> Metric:
    """The metric of that label, else the last of its kin, else the last."""
    own = metrics_of(run, rules)
    if label is None:
        return own[-1]
    exact = _labelled(run, label, rules) or next((m for m in reversed(run.metrics) if m.label == label), None)
    return exact or next((m for m in reversed(own) if _family(m.label) == _family(label)), own[-1])


def _sized_as_claimed(runs: list[Run], metrics: list[Metric], claim: Claim | None) -> list[Run]:
    """The runs with one total, where they print several: of the codec that the metric's label names, else the JSON's.

    An artifact's size goes with the evaluation of that artifact.
    """
    wanted = claim.artifact_bytes if claim is not None else None
    claimed = next((codec for run in runs for codec, size in run.totals if size == wanted), None)
    return [_sized(run, metric.label, claimed) for run, metric in zip(runs, metrics, strict=True)]


def _sized(run: Run, label: str, claimed: str | None) -> Run:
    words = set(re.split(r"[^a-z0-9]+", label.lower()))
    named = {codec: len(words & set(re.split(r"[^a-z0-9]+", codec.lower())) - {""}) for codec, _ in run.totals}
    most = max(named.values(), default=0)
    fitting = [(codec, size) for codec, size in run.totals if named[codec] == most > 0]
    if claimed is not None and (most == 0 or claimed in dict(fitting)):
        fitting = [(codec, size) for codec, size in run.totals if codec == claimed]
    return replace(run, artifact_bytes=fitting[-1][1]) if fitting else run


def _training(run: Run, record: Record) -> Run:
    """The run that trained what this one evaluates: itself or, when it has no step, the one other run of its seed."""
    if run.curve or run.seed is None:
        return run
    trained = [other for other in record.runs if other.seed == run.seed and other.curve and other.last_step]
    return trained[0] if len(trained) == 1 else run


def with_training(claimed: Claimed) -> Run:
    """The claimed run with the facts that only its training log prints."""
    run, training = claimed.run, claimed.training
    if run is training:
        return run
    names = ("last_step", "total_steps", "train_time_ms", "code_bytes", "model_bytes", "artifact_bytes", "totals",
             "model_params", "world_size", "torch", "python", "gpu")  # fmt: skip
    return replace(run, **{name: getattr(run, name) or getattr(training, name) for name in names})


def _fit(headline: tuple[str, Decimal], claimed: list[Claimed], record: Record) -> str:
    """How the headline fits the claimed runs."""
    for what in dict.fromkeys((headline[0], "val_bpb")):
        values = [value for one in claimed if (value := getattr(one.metric, what)) is not None]
        if len(values) == len(claimed) > 1 and agrees(headline[1], mean(values)):
            return MEAN
        if any(agrees(headline[1], value) for value in values):
            return MEAN if len(claimed) == 1 else BEST if agrees(headline[1], min(values)) else ONE
    for run in record.runs:
        in_training = [*(metric for metric in run.metrics if metric.diagnostic), *run.steps]
        if any(agrees(headline[1], getattr(one, headline[0])) for one in in_training):
            return IN_TRAINING
    return UNSUPPORTED


def _leave_aside(selection: Selection, record: Record, rules: Ruleset) -> None:
    """Sort the logs that are not claimed into those the claim lacks and those it does not speak of."""
    claim = record.claim
    logs = {one.run.log for one in selection.claimed}
    trained = {one.training.log for one in selection.claimed}
    seeds = {seed_of(one.run) for one in selection.claimed} - {None}
    alike = {_alike(log) for log in logs}
    deepest = max(map(record.depth, logs), default=10**6)
    for log in (*record.logs, *record.empty):
        if log in logs or log in trained:
            continue
        runs = record.logs.get(log, [])
        own = {seed_of(run) for run in runs} or {file_seed(log)}
        complete = any(metrics_of(run, rules) for run in runs)
        named = claim is not None and bool(own & set(claim.seeds))
        meant = claim is None or (not claim.seeds and _alike(log) in alike)
        if not complete and not own & seeds and (named or ((meant or not logs) and record.depth(log) <= deepest)):
            selection.incomplete.append((log, runs[-1].line if runs else 1))
        else:
            selection.aside.append(log)
