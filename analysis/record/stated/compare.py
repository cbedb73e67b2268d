"""Compare every number that a folder claims with its logs. The checks and the evidence decide what follows from it.

A value fits if it agrees to the digits that it is printed with. A claim is unknown if no log can confirm or contradict it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from analysis.record.folder import Record
from analysis.record.selection import Selection
from analysis.record.stated import counts, values
from analysis.record.stated.logs import Logs
from analysis.record.stated.of_json import said_in_json
from analysis.record.stated.of_readme import readme_of, said_in_readme
from analysis.record.stated.said import Holds, Kind, Said, Statement
from analysis.rules.ruleset import Ruleset

_COMPARE: dict[Kind, Callable[[Said, Logs], Statement]] = {
    Kind.HEADLINE: values.headline,
    Kind.VALUE: values.value_of_seed,
    Kind.VALUES: values.values,
    Kind.MEAN: values.mean_of,
    Kind.SD: values.sd_of,
    Kind.SEED: counts.seed,
    Kind.RUNS: counts.number_of_runs,
    Kind.STEPS: counts.steps,
    Kind.SIZE: counts.size,
    Kind.CODE: counts.code,
    Kind.TRAIN_TIME: counts.train_time,
    Kind.EVAL_TIME: counts.eval_time,
}


FITTING = 2  # seeds of a column whose values fit
_VALUES = (Kind.VALUE, Kind.VALUES)


def statements(record: Record, selection: Selection, rules: Ruleset) -> list[Statement]:
    """Return what the JSON and the README of a folder claim, and whether the logs agree.

    A t and a p stay unknown here, because they depend on what must be beaten.
    """
    if record.base is None:
        return []
    said = list(said_in_json(record.claim)) if record.claim is not None else []
    readme = readme_of(record)
    said += said_in_readme(readme, record.shown(readme)) if readme is not None else []
    logs = Logs.of(record, selection, rules)
    found = [_COMPARE[one.kind](one, logs) if one.kind in _COMPARE else Statement(claim=one) for one in said]
    return list(dict.fromkeys(_sure(_of_these_runs(found))))


def _sure(found: Sequence[Statement]) -> Iterator[Statement]:
    """Yield statements with whether nothing but the runs that count can be meant.

    So it is of the JSON, of a README's column in which other seeds fit, and of an sd next to a mean that fits.
    """
    fitting = [one.claim for one in found if one.holds is Holds.YES]
    columns = Counter(claim.group for claim in fitting if claim.seed is not None and claim.group > 0)
    means = {claim.at for claim in fitting if claim.kind is Kind.MEAN}
    for one in found:
        claim = one.claim
        next_to_mean = claim.kind is Kind.SD and claim.at in means
        yield replace(one, sure=one.sure or claim.of_json or next_to_mean or columns[claim.group] >= FITTING)


def _of_these_runs(found: Sequence[Statement]) -> list[Statement]:
    """Return the statements without columns of a README that name only seeds.

    If a README has several columns or lists of values, one in which no value fits is unknown: it may be about other runs.
    """
    groups: dict[int, list[Statement]] = {}
    for one in found:
        groups.setdefault(one.claim.group, []).append(one)
    kept = groups.pop(0, [])
    of_values = [group for group in groups.values() if any(one.claim.kind in _VALUES for one in group)]
    for group in groups.values():
        of_seeds = [one for one in group if one.claim.seed is not None]
        if of_seeds and all(one.claim.kind is Kind.SEED for one in of_seeds):
            continue
        fits = any(one.holds is Holds.YES and one.claim.kind in _VALUES for one in group)
        unsure = group in of_values and not fits and len(of_values) > 1
        kept += [replace(one, holds=Holds.UNKNOWN) for one in group] if unsure else group
    return kept
