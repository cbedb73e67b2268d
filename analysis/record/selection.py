"""The runs that a claim rests on, and every other run of the folder with the reason why it does not count.

Which run of a log, which logs of a folder and which of a run's metrics count is decided here and in the two files that this
one uses, groups.py and metrics.py:

1. Of several runs of one seed in a log, the one that the claim fits counts, else the last complete one. Where the rules
   ask for no seed and the log prints none, each of them is a trial, and counts.
2. If the JSON gives values seed by seed, the claimed runs are those that end in these values, under one label.
3. Else the claimed runs are a folder's runs whose mean is the headline, or the runs next to the one whose value it is.
4. Without a claim: the complete runs nearest to the top of the folder, each by its last final metric. Rules without a test
   have no use for them: there nothing is claimed.

Labels that print the same values are the same metric; the first printed one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from analysis.reading.metric import Metric
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.record.arms import Arms, propose
from analysis.record.fit import Fit, Headline, fit_of, headlines
from analysis.record.folder import Record, file_seed, seed_of
from analysis.record.groups import Meant, alike, by_headline, by_seed_values, topmost
from analysis.record.metrics import all_labels, is_trial, metric_of, metrics_of, sized
from analysis.record.unread import Unread, unread_in
from analysis.rules.findings import Place
from analysis.rules.ruleset import Ruleset


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A run that the claim rests on, with the one metric that counts. `log` is the path as printed.

    `training` is the run that the training facts come from: itself or, for an evaluation alone, the run of its seed.
    """

    log: str
    run: Run
    metric: Metric
    training: Run

    def beside(self, other: Claimed) -> str:
        """Return its log as printed next to another run's: with the line where both are in one log."""
        return self.log if self.log != other.log else f"{self.log}:{self.metric.line}"

    def at(self, line: int) -> Place:
        """Return a line of its log as the place of a finding."""
        return Place(self.log, line)


class Why(StrEnum):
    """Why a run does not count."""

    NOT_NAMED = "the claim does not name its log"
    OTHER_RUN_OF_LOG = "another run of the same log counts"
    NO_RESULT = "it ended without a final metric"
    NO_SUCH_METRIC = "it does not print the metric that was asked for"
    OTHER_ARM = "it is in the folder of another arm"
    DEEPER = "it is in a folder below the counted logs"
    TRAINING = "it trained what another log evaluates"
    COPY = "it is the same run as another log's"
    SAME_SEED = "another run of its seed counts"
    BEYOND_GAP = "a planned seed before it has no result"
    LOST = "it was lost or stopped"
    NOT_PLANNED = "its seed is not in the plan"
    OTHER_CONTROL = "control runs were given"
    AFTER_VERDICT = "it ran after the verdict"
    NOT_A_LOG = "it is in a file that is not read as a log"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A run that does not count, with its metric of the claimed label, else its last one, else None."""

    result: Result
    why: Why

    def row(self, metric: str) -> dict[str, Any]:
        """Return what JSON holds of it: log and line, the reason, and its value of a metric."""
        one = self.result
        return {"log": one.log, "line": one.line or one.run.line, "why": self.why, "value": one.value(metric)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The claimed runs, and how the headline fits them.

    headline: the number of the JSON that the runs were chosen by, which may be its second. incomplete: logs that the claim
    lacks, each with the line where its run begins; aside: logs that it does not speak of. lacking: runs without the metric
    that was asked for. unread: files that hold runs and are no logs. left_out: every run that is not claimed. arms: which
    folders are compared, None where the runs are one sample; the control's runs are in no other list.
    """

    claimed: list[Claimed] = field(default_factory=list)
    headline: Headline | None = None
    fit: Fit = Fit.UNCLAIMED
    incomplete: dict[Path, int] = field(default_factory=dict)
    aside: list[Path] = field(default_factory=list)
    lacking: list[Run] = field(default_factory=list)
    unread: Sequence[Unread] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    arms: Arms | None = None


def select(record: Record, rules: Ruleset, label: str | None = None, control: Path | None = None) -> Selection:
    """Return the claimed runs of a record. With `label`, those of the top that print that metric, whatever is claimed.

    control: what the reviewer named as the control. Runs of the record that are in it are not its own.
    """
    of_control = {log for log in (*record.logs, *record.empty) if control is not None and is_below(log, control)}
    candidates = [run for run in _one_run_a_seed(record, rules) if run.log not in of_control]
    meant = _meant(record, candidates, rules) if label is None else Meant(label=label)
    runs, lacking, arms = meant.runs, [], None
    if not runs and (rules.has_test or meant.headline is not None or label is not None):
        arms = propose(record, candidates, rules)
        top = topmost(record, candidates) if arms is None else arms.candidate.runs if arms.candidate is not None else ()
        runs = [run for run in top if label is None or label in all_labels(run, rules)]
        lacking = [run for run in top if label is not None and label not in all_labels(run, rules)]
    claimed = _claimed(runs, meant.label, record, rules)
    fit = Fit.UNCLAIMED
    if meant.headline is not None and claimed:
        fit = fit_of(meant.headline, [one.metric for one in claimed], record.runs, rules.margin)
    used = {log for one in claimed for log in (one.run.log, one.training.log)}
    others = [log for log in (*record.logs, *record.empty) if log not in used]
    if arms is not None:
        of_control |= {log for log in others if arms.is_control(log)}
        others = [log for log in others if not arms.not_of(log)]
    others = [log for log in others if log not in of_control]
    incomplete = _incomplete(record, claimed, others, rules)
    selection = Selection(
        claimed=claimed,
        headline=meant.headline,
        fit=fit,
        incomplete=incomplete,
        aside=[log for log in others if log not in incomplete],
        lacking=lacking,
        unread=tuple(unread_in(record, rules)),
        arms=arms,
    )
    left_out = _left_out(selection, replace(meant, runs=runs), record, rules)
    return replace(selection, left_out=[one for one in left_out if one.result.run.log not in of_control])


def is_below(path: Path, folder: Path) -> bool:
    """Return whether a file is in a folder or below it, or is that file."""
    return path.resolve().is_relative_to(folder.resolve())


def _one_run_a_seed(record: Record, rules: Ruleset) -> list[Run]:
    """Return of each log and each seed in it the complete run that the claim fits, else the last; and every complete trial."""
    headline = next(iter(headlines(record.claim)), None)
    chosen: dict[tuple[Path, int | None, int], Run] = {}
    fitting = set()
    for run in record.runs:
        ends, key = metrics_of(run, rules), (run.log, run.seed, id(run) if is_trial(run, rules) else 0)
        fits = headline is not None and any(map(headline.is_of, ends))
        if ends and (fits or key not in fitting):
            chosen[key] = run
            fitting |= {key} if fits else set()
    return list(chosen.values())


def _meant(record: Record, candidates: list[Run], rules: Ruleset) -> Meant:
    """Return the runs that the claim means: by its values seed by seed if they make its headline, else by the headline."""
    stated = headlines(record.claim)
    first = next(iter(stated), None)
    by_seed = Meant()
    if record.claim is not None and candidates:
        by_seed = by_seed_values(record.claim, candidates, rules)
        if first is not None and not by_seed.makes(first, rules):
            groups = (by_headline(one, record, candidates, rules) for one in stated)
            return next((group for group in groups if group.runs), replace(by_seed, headline=first))
    return replace(by_seed, headline=first)


def _claimed(runs: list[Run], label: str | None, record: Record, rules: Ruleset) -> list[Claimed]:
    """Return the runs with the metric and the size that count."""
    claimed = []
    for run in runs:
        metric = metric_of(run, label, rules)
        own = sized(run, metric.label)
        claimed.append(Claimed(log=record.shown(run.log), run=own, metric=metric, training=_training(own, record)))
    return claimed


def _training(run: Run, record: Record) -> Run:
    """Return the run that trained what this one evaluates: itself or, if it has no step, the one other run of its seed."""
    seed = seed_of(run)
    if run.curve or seed is None:
        return run
    trained = [other for other in record.runs if seed_of(other) == seed and other.curve and other.last_step]
    return trained[0] if len(trained) == 1 else run


_OF_TRAINING = ("last_step", "total_steps", "train_time_ms", "model_params", "world_size", "torch", "python", "gpu")
_OF_ARTIFACT = ("code_bytes", "model_bytes", "artifact_bytes", "totals")


def with_training(claimed: Claimed) -> Run:
    """Return the claimed run, with the facts that only its training log prints."""
    run, training = claimed.run, claimed.training
    unknown = [name for name in _OF_TRAINING + _OF_ARTIFACT if getattr(run, name) in (None, ())]
    return run if run is training else replace(run, **{name: getattr(training, name) for name in unknown})


# -- what is not claimed -----------------------------------------------------------------------------------------------


def _incomplete(record: Record, claimed: list[Claimed], others: list[Path], rules: Ruleset) -> dict[Path, int]:
    """Return the logs that the claim lacks: runs without a final metric, of a seed or a name that it speaks of."""
    logs = {one.run.log for one in claimed}
    seeds = {seed_of(one.run) for one in claimed} - {None}
    names = {alike(log) for log in logs}
    deepest = max(map(record.depth, logs), default=10**6)
    said = set(record.claim.seeds) if record.claim is not None else set()
    found = {}
    for log in others:
        runs = record.logs.get(log, [])
        own = {seed_of(run) for run in runs} or {file_seed(log)}
        if any(metrics_of(run, rules) for run in runs) or own & seeds:
            continue
        meant = record.claim is None or (not said and alike(log) in names)
        if own & said or ((meant or not logs) and record.depth(log) <= deepest):
            found[log] = runs[-1].line if runs else 1
    return found


def _left_out(selection: Selection, counted: Meant, record: Record, rules: Ruleset) -> list[LeftOut]:
    """Return every run of the record that does not count, with the reason."""
    known = {id(run) for run in counted.runs}
    trained = {id(one.training) for one in selection.claimed}
    lacking = {id(run) for run in selection.lacking}
    logs = {one.run.log for one in selection.claimed}
    arms = selection.arms
    deepest = max((record.depth(log) for log in (*logs, *(run.log for run in selection.lacking))), default=0)

    def left_out(run: Run, why: Why) -> LeftOut:
        metric = metric_of(run, counted.label, rules) if metrics_of(run, rules) else None
        return LeftOut(result=Result.of(run, metric, log=record.shown(run.log)), why=why)

    def why(run: Run) -> Why:
        if id(run) in trained:
            return Why.TRAINING
        if not metrics_of(run, rules):
            return Why.NO_RESULT
        if id(run) in lacking:
            return Why.NO_SUCH_METRIC
        if arms is not None and arms.not_of(run.log):
            return Why.OTHER_ARM
        if run.log in logs:
            return Why.OTHER_RUN_OF_LOG
        return Why.DEEPER if record.depth(run.log) > deepest else Why.NOT_NAMED

    found = [left_out(run, why(run)) for run in record.runs if id(run) not in known]
    found += [left_out(Run(log=log, line=1), Why.NO_RESULT) for log in record.empty]
    found += [left_out(run, Why.NOT_A_LOG) for unread in selection.unread for run in unread.runs]
    return found + [left_out(run, Why.COPY) for copy in record.copies.values() for run in copy.runs]
