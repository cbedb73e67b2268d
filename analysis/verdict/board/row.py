"""A row of a board, and what follows from the rows together: who stands, ranks, ties, and the luck of the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from analysis.rules.metrics import HIGHER, usual_direction
from analysis.rules.ruleset import Ruleset
from analysis.stats.best_of import overstatement, standard_errors
from analysis.stats.fixed import Sample, critical_t, welch_t


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record folder.

    mean, sd: of the ruleset's metric. ranked, ranked_sd: of what the board is ranked by. predecessor: the record that
    stood before it; delta, delta_ranked: this record's value less that record's. tested_against: `runs`, `number` or `target`.
    verdict, p: by the rules as they are; verdict_bpb ... p_nats: with the margin in that unit. shrinkage: how much worse a
    record that stood is expected to be than its mean says, because it was the best of all until then.
    """

    date: str | None = None
    record: str
    n: int = 0
    mean: float | None = None
    sd: float | None = None
    bytes: int | None = None
    train_time_s: float | None = None
    predecessor: str | None = None
    verdict_bpb: str | None = None
    p_bpb: float | None = None
    verdict_nats: str | None = None
    p_nats: float | None = None
    errors: int = 0
    warnings: int = 0
    infos: int = 0
    why: str | None = None
    rank: int | None = None
    ranked: float | None = None
    ranked_sd: float | None = None
    delta: float | None = None
    delta_ranked: float | None = None
    tested_against: str | None = None
    verdict: str | None = None
    p: float | None = None
    shrinkage: float | None = None


def sign_of(rules: Ruleset) -> int:
    """Return what a ranked value is multiplied by so that lower is better."""
    if rules.ranked == rules.metric:
        return rules.sign
    return -1 if usual_direction(rules.ranked) == HIGHER else 1


def place(row: Row, rules: Ruleset) -> float | None:
    """Return what a row is sorted by, lower is better; None for one without a rank.

    A board that is ranked by something else than its metric has no rank for a record whose mean misses the target: a run
    that stops early is fast.
    """
    if row.ranked is None or row.mean is None:
        return None
    if rules.ranked != rules.metric and rules.target is not None and rules.is_better(rules.target, row.mean):
        return None
    return sign_of(rules) * row.ranked


def best_of(rows: Iterable[Row], rules: Ruleset) -> Row | None:
    """Return the record of the best rank, the earlier one of two; None if no record has a rank."""
    placed = [(at, row) for row in rows if (at := place(row, rules)) is not None]
    return min(placed, key=lambda one: one[0])[1] if placed else None


def after(row: Row, standing: Row | None) -> Row:
    """Return the row with its distance to the record that stood before it."""
    if standing is None:
        return row
    return replace(
        row,
        predecessor=standing.record,
        delta=_less(row.mean, standing.mean),
        delta_ranked=_less(row.ranked, standing.ranked),
    )


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def together(rows: Sequence[Row], rules: Ruleset) -> list[Row]:
    """Return the rows, oldest first, with what only all of them show: ranks, and the luck of those that stood."""
    places = sorted(at for row in rows if (at := place(row, rules)) is not None)
    luck = _luck(rows, rules)
    return [
        replace(
            row, rank=None if (at := place(row, rules)) is None else places.index(at) + 1, shrinkage=luck.get(number)
        )
        for number, row in enumerate(rows)
    ]


def _luck(rows: Sequence[Row], rules: Ruleset) -> dict[int, float]:
    """Return the expected shrinkage of each record that stood, by its number: it was the best of all until it was beaten."""
    stood: list[int] = []
    for number, row in enumerate(rows):
        if (at := place(row, rules)) is not None and (not stood or at < (place(rows[stood[-1]], rules) or 0.0)):
            stood.append(number)
    found: dict[int, float] = {}
    for number, end in pairwise([*stood, len(rows)]):
        candidates = [row for row in rows[:end] if place(row, rules) is not None]
        errors = _errors(candidates, rules)
        if errors is not None:
            found[number] = max(0.0, overstatement([place(row, rules) or 0.0 for row in candidates], errors))
    return found


def _errors(rows: Sequence[Row], rules: Ruleset) -> list[float] | None:
    if rules.sigma is not None and rules.ranked == rules.metric:
        return [rules.sigma / row.n**0.5 for row in rows]
    return standard_errors([row.ranked_sd for row in rows], [row.n for row in rows])


def sample(row: Row) -> Sample | None:
    """Return a record's runs as a sample of what the board is ranked by; None where they have no spread."""
    return None if row.ranked is None or not row.ranked_sd else Sample(row.n, row.ranked, row.ranked_sd)


def tied_for_best(rows: Sequence[Row], rules: Ruleset) -> list[Row]:
    """Return the best record, then those whose mean may be the same by Welch's two-sided test at the rules' alpha."""
    best = best_of(rows, rules)
    if best is None:
        return []
    tied, best_runs = [best], sample(best)
    for row in rows:
        runs = sample(row) if place(row, rules) is not None else None
        if row is not best and runs is not None and best_runs is not None:
            p = welch_t(best_runs, runs, 0.0, rules.alpha).p_value
            if 2 * min(p, 1 - p) >= rules.alpha:
                tied.append(row)
    return tied


def half_width(row: Row, alpha: float) -> float | None:
    """Return half the width of the two-sided confidence interval at 1 - alpha; None for a single run."""
    known = sample(row)
    return None if known is None else critical_t(known.n - 1, alpha / 2) * known.sd / known.n**0.5
