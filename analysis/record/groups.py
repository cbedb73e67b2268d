"""Which runs of a folder a claim means: those with the values it gives seed by seed, or those that make its headline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from analysis.reading.run import Run
from analysis.record.claim import Claim
from analysis.record.fit import Headline, agrees, values_in
from analysis.record.folder import Record, seed_of
from analysis.record.metrics import labelled, labels_of, metrics_of, same_evaluation
from analysis.rules.ruleset import Ruleset


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The runs that a claim means, none if none fit; the label of the metric it means, and its headline."""

    runs: list[Run] = field(default_factory=list)
    label: str | None = None
    headline: Headline | None = None

    def makes(self, headline: Headline, rules: Ruleset) -> bool:
        """Return whether the headline is the mean or one value of these runs."""
        if self.label is None:
            return False
        metrics = [metric for run in self.runs if (metric := labelled(run, self.label, rules)) is not None]
        values = values_in(headline.metric, metrics)
        return bool(values) and (headline.is_mean_of(values) or headline.is_among(values))


def by_seed_values(claim: Claim, candidates: list[Run], rules: Ruleset) -> Meant:
    """Return the runs that end in what the JSON says of each seed, under the label that fits most of them.

    A claimed seed whose value fits no run still means its runs in the folders of those that fit.
    """
    best = Meant()
    for label in labels_of(candidates, rules):
        fitting = _fitting(claim, candidates, label, rules)
        if len(fitting) <= len(best.runs):
            continue
        folders = {run.log.parent for run in fitting.values()}
        others = set(claim.seeds) - set(fitting)
        chosen = {id(run) for run in fitting.values()} | {
            id(run)
            for run in candidates
            if seed_of(run) in others and run.log.parent in folders and labelled(run, label, rules) is not None
        }
        best = Meant(runs=[run for run in candidates if id(run) in chosen], label=label)
    return best


def _fitting(claim: Claim, candidates: list[Run], label: str, rules: Ruleset) -> dict[int, Run]:
    """Return by seed the first run that ends in what is claimed of the seed, under this label."""
    found: dict[int, Run] = {}
    for run in candidates:
        seed, metric = seed_of(run), labelled(run, label, rules)
        if seed is None or metric is None or seed in found or seed not in claim.seeds:
            continue
        about = claim.seeds[seed]
        bpbs, losses = about.val_bpbs, about.val_losses if not about.val_bpbs else []
        if any(agrees(value, metric.val_bpb) for value in bpbs) or any(
            agrees(value, metric.val_loss) for value in losses
        ):
            found[seed] = run
    return found


def by_headline(headline: Headline, record: Record, candidates: list[Run], rules: Ruleset) -> Meant:
    """Return a group of runs whose mean is the headline; else the group of a run whose value it is."""
    groups = list(_groups(record, candidates))
    labels = labels_of(candidates, rules)
    for group in groups:
        for label in labels:
            having = [run for run in group if labelled(run, label, rules) is not None]
            if _mean_is(headline, having, label, rules):
                return Meant(runs=having, label=label, headline=headline)
    in_one_folder = [group for group in groups if len(group) > 1 and len({run.log.parent for run in group}) == 1]
    for group in [*in_one_folder, *groups]:
        for label in labels:
            named = {
                alike(run.log)
                for run in group
                if (metric := labelled(run, label, rules)) is not None and headline.is_of(metric)
            }
            if named:
                kin = [run for run in group if any(same_evaluation(m.label, label) for m in metrics_of(run, rules))]
                return Meant(runs=_without_older(kin, named), label=label, headline=headline)
    return Meant()


def _mean_is(headline: Headline, runs: list[Run], label: str, rules: Ruleset) -> bool:
    metrics = [metric for run in runs if (metric := labelled(run, label, rules)) is not None]
    for what in dict.fromkeys((headline.metric, "val_bpb")):
        values = values_in(what, metrics)
        if len(values) > 1 and len(values) == len(metrics) and headline.is_mean_of(values):
            return True
    return False


def _groups(record: Record, candidates: list[Run]) -> Iterator[list[Run]]:
    """Yield runs that may be meant together, the likeliest first: the named seeds, a folder's, those named alike, all."""
    seeds = set(record.claim.seeds) if record.claim else set()
    groups = [topmost(record, candidates)]
    for key in (lambda run: run.log.parent, lambda run: (run.log.parent, alike(run.log))):
        for kind in dict.fromkeys(map(key, candidates)):
            groups.append([run for run in candidates if key(run) == kind])
    groups.append(candidates)
    for group in groups:
        named = [run for run in group if seed_of(run) in seeds]
        if named and len(named) < len(group) and seeds <= {seed_of(run) for run in named}:
            yield named
    yield from groups


def alike(log: Path) -> str:
    """Return a log's name without numbers and identifiers: train_seed42.log and train_seed7.log are named alike."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", log.name)


def _without_older(group: list[Run], named: set[str]) -> list[Run]:
    """Return the group without logs of other names that repeat a seed of the usual ones, if the claim is in none of them."""
    counted = Counter(alike(run.log) for run in group)
    usual = max(counted, key=lambda name: (counted[name], name in named))
    seeds = {run.seed for run in group if alike(run.log) == usual}
    if counted[usual] < 2 or not named <= {usual}:
        return group
    return [run for run in group if alike(run.log) == usual or run.seed not in seeds]


def topmost(record: Record, candidates: list[Run]) -> list[Run]:
    """Return the runs nearest to the top; logs that were given by name are all at the top."""
    least = min((record.depth(run.log) for run in candidates), default=0)
    given = [run for run in candidates if run.log in record.paths]
    return given + [
        run for run in candidates if run.log not in record.paths and record.depth(run.log) in (0, max(least, 1))
    ]
