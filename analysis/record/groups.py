"""Which runs of a folder a claim means: those with the values it gives seed by seed, or those that make its headline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from analysis.reading.metric import Metric
from analysis.reading.run import Run
from analysis.record.claim import Claim
from analysis.record.fit import Headline, agrees, among, is_exact, is_mean, mean, values_in
from analysis.record.folder import Record, seed_of
from analysis.record.metrics import labelled, labels_of, metrics_of, same_evaluation
from analysis.record.stated.claimed_seeds import SeedClaim
from analysis.rules.ruleset import Ruleset


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The runs that a claim means, none if none fit; the label of the metric it means, and its headline."""

    runs: list[Run] = field(default_factory=list)
    label: str | None = None
    headline: Headline | None = None

    def makes(self, headline: Headline, rules: Ruleset) -> bool:
        """Return whether the headline is the mean or one value of these runs."""
        values = values_in(headline.metric, _labelled(self.runs, self.label, rules).values())
        return among(headline.value, [*values, mean(values)] if values else [])


def _labelled(runs: list[Run], label: str | None, rules: Ruleset) -> dict[int, Metric]:
    """Return by the run's id the metric of this label, of the runs that end in one."""
    if label is None:
        return {}
    return {id(run): metric for run in runs if (metric := labelled(run, label, rules)) is not None}


def by_seed_values(claim: Claim, candidates: list[Run], rules: Ruleset) -> Meant:
    """Return the runs that end in what the JSON says of each seed, under the label that fits most of them.

    Values come before seed numbers: a claimed seed whose own run ends in another value means the one other run in these
    folders that ends in it, to four decimals, and that the JSON does not name. Without one it still means its own runs there.
    """
    best = Meant()
    for label in labels_of(candidates, rules):
        metrics = _labelled(candidates, label, rules)
        fitting: dict[int | None, Run] = {}
        for run in candidates:
            said = claim.seeds.get(-1 if (seed := seed_of(run)) is None else seed)
            if said is not None and id(run) in metrics and _fits(said, metrics[id(run)]):
                fitting.setdefault(seed, run)
        if len(fitting) > len(best.runs):
            known, folders = {id(run) for run in fitting.values()}, {run.log.parent for run in fitting.values()}
            here = [run for run in candidates if id(run) in metrics and run.log.parent in folders]
            others = claim.seeds.keys() - fitting.keys()
            for seed in sorted(others):
                unnamed = [run for run in here if id(run) not in known and seed_of(run) not in claim.seeds]
                ends_so = [run for run in unnamed if _fits(claim.seeds[seed], metrics[id(run)], exact=True)]
                if len(ends_so) == 1:
                    known.add(id(ends_so[0]))
                    others = others - {seed}
            known |= {id(run) for run in here if seed_of(run) in others}
            best = Meant(runs=[run for run in candidates if id(run) in known], label=label)
    return best


def _fits(said: SeedClaim, metric: Metric, *, exact: bool = False) -> bool:
    """Return whether a run ends in what is claimed of a seed: a bpb or, if the JSON gives none, a loss.

    exact: ask for enough decimals.
    """
    claimed, value = (said.val_bpbs, metric.val_bpb) if said.val_bpbs else (said.val_losses, metric.val_loss)
    return any(agrees(one, value) for one in claimed if is_exact(one) or not exact)


def by_headline(headline: Headline, record: Record, candidates: list[Run], rules: Ruleset) -> Meant:
    """Return a group of runs whose mean is the headline; else the group of a run whose value it is."""
    groups = list(_groups(record, candidates))
    labels = labels_of(candidates, rules)
    for group, label in _with_labels(groups, labels, rules):
        metrics = _labelled(group, label, rules)
        if any(is_mean(headline, what, [*metrics.values()]) for what in headline.may_be):
            return Meant(runs=[run for run in group if id(run) in metrics], label=label, headline=headline)
    in_one_folder = [group for group in groups if len(group) > 1 and len({run.log.parent for run in group}) == 1]
    for group, label in _with_labels([*in_one_folder, *groups], labels, rules):
        metrics = _labelled(group, label, rules)
        named = {alike(run.log) for run in group if id(run) in metrics and headline.is_of(metrics[id(run)])}
        if named and not rules.has_test:  # a study: the number is that of one run, and the others are other runs
            own = [run for run in group if id(run) in metrics and headline.is_of(metrics[id(run)])]
            return Meant(runs=own[:1], label=label, headline=headline)
        if named:
            kin = [run for run in group if any(same_evaluation(m.label, label) for m in metrics_of(run, rules))]
            return Meant(runs=_without_older(kin, named), label=label, headline=headline)
    return Meant()


def _with_labels(groups: list[list[Run]], labels: list[str], rules: Ruleset) -> Iterator[tuple[list[Run], str]]:
    """Yield each group with each of the labels that its runs end in."""
    for group in groups:
        own = {metric.label for run in group for metric in metrics_of(run, rules)}
        yield from ((group, label) for label in labels if label in own)


def _groups(record: Record, candidates: list[Run]) -> Iterator[list[Run]]:
    """Yield runs that may be meant together, the likeliest first: the named seeds, a folder's, those named alike, all."""
    seeds = set(record.claim.seeds) if record.claim else set()
    groups = [topmost(record, candidates)]
    for key in (lambda run: run.log.parent, lambda run: (run.log.parent, alike(run.log))):
        kinds: dict[object, list[Run]] = {}
        for run in candidates:
            kinds.setdefault(key(run), []).append(run)
        groups += kinds.values()
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
    depths = {id(run): record.depth(run.log) for run in candidates}
    top = (0, max(1, min(depths.values(), default=0)))
    return sorted((run for run in candidates if depths[id(run)] in top), key=lambda run: run.log not in record.paths)
