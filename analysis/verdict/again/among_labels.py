"""The price of a label that `--metric` chose: every label was another chance to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.evidence.case import Case
from analysis.reading.metric import Metric
from analysis.record.metrics import labelled, metric_of, metrics_of
from analysis.stats.best_of import holm
from analysis.stats.fixed import Test
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.answer import Answer
from analysis.verdict.numbers import format_p, percent_of
from analysis.verdict.tested import rules_test
from analysis.verdict.verdict import Reading, ReadingKind, Verdict

MOST_NAMED = 4


def with_labels(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict with what choosing the label is worth, where `--metric` overrides the one that the rules take.

    The labels that could have been chosen are the final ones that every run prints. Holm's p over them is a reading;
    a sequential design has its looks besides, and a comparison has no p, so there it is only said.
    """
    labels = _labels(case) if verdict.is_decided and case.label is not None else []
    if len(labels) < 2:
        return verdict
    more = ", ..." if len(labels) > MOST_NAMED else ""
    named = f"--metric {case.label} chose one of the {len(labels)} labels that these runs print ({', '.join(labels[:MOST_NAMED])}{more})"
    if verdict.test is None:
        return replace(verdict, notes=(*verdict.notes, f"{named}; each was another chance to pass"))
    said = f"{named}: if it was chosen for its result, up to {percent_of(min(1.0, len(labels) * case.rules.alpha))} of false claims pass"
    tests = [_test_of(case, label) for label in labels] if case.looks is None else [None]
    known = [test for test in tests if test is not None]
    if len(known) < len(labels):
        return replace(verdict, notes=(*verdict.notes, said))
    own = labels.index(case.label or "")
    adjusted = holm([test.p_value for test in known])[own]
    reading = Reading.of(
        case,
        ReadingKind.AMONG_LABELS,
        reading=f"Holm over {len(labels)} labels",
        assumes="the label was chosen for its result, and every label that the runs print could have been",
        verdict=Answer.of(passed=adjusted < case.rules.alpha),
        test=replace(known[own], name="Holm", p_value=adjusted, bound=None),
    )
    said += f"; Holm's p over them {format_p(adjusted)}"
    return replace(verdict, notes=(*verdict.notes, said), also=(reading, *verdict.also))


def _labels(case: Case) -> list[str]:
    """Return the chosen label and every other final one of all runs that prints another value; none if it is the rules' own."""
    runs, metric = [one.run for one in case.runs], case.rules.metric
    chosen = [one.metric for one in case.runs if one.metric is not None]
    usual = [metric_of(run, None, case.rules) for run in runs if metrics_of(run, case.rules)]
    if len(chosen) < len(runs) or len(usual) < len(runs) or _are_one(metric, chosen, usual):
        return []
    found = {chosen[0].label: chosen}
    for name in dict.fromkeys(one.label for one in metrics_of(runs[0], case.rules)):
        ends = [end for run in runs if (end := labelled(run, name, case.rules)) is not None]
        if len(ends) == len(runs) and not any(_are_one(metric, ends, others) for others in found.values()):
            found[name] = ends
    return list(found)


def _are_one(metric: str, ends: Sequence[Metric], others: Sequence[Metric]) -> bool:
    """Return whether two labels print the same values, perhaps with fewer decimals."""
    for end, other in zip(ends, others, strict=True):
        one, two = end.value(metric), other.value(metric)
        if one is None or two is None or abs(one - two) > 0.51 * 10.0 ** -min(end.decimals, other.decimals):
            return False
    return True


def _test_of(case: Case, label: str) -> Test | None:
    """Return the ruleset's test of another label; None where it cannot be made."""
    if label == case.label:
        return rules_test(case).test
    runs, control = (
        tuple(replace(one, metric=labelled(one.run, label, case.rules)) for one in arm)
        for arm in (case.runs, case.control)
    )
    try:
        return rules_test(replace(case, runs=runs, control=control)).test
    except EvidenceError:
        return None
