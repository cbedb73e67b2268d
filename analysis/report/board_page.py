"""The leaderboard as one HTML file: the frontier over time, with intervals and what cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from analysis.leaderboard import COLUMNS, Row, cells, sentence_on_chance
from analysis.report.page import TEMPLATES
from analysis.report.plots import Interval, frontier_plot
from analysis.rules.ruleset import Ruleset
from analysis.stats.fixed import Sample, critical_t, welch_t
from analysis.verdict.verdict import percent


def leaderboard_page(rows: list[Row], rules: Ruleset, command: str) -> str:
    """The page; `command` makes it again."""
    best = min((row for row in rows if row.mean is not None), key=lambda row: row.mean or 0.0, default=None)
    tied = [
        number
        for number, row in enumerate(rows, start=1)
        if best is not None and cannot_be_told_apart(row, best, rules.alpha)
    ]
    intervals = [interval(number, row, rules.alpha) for number, row in enumerate(rows, start=1)]
    shown = [one for one in intervals if one is not None]
    numbers = {
        row.record: str(number) for number, row in enumerate(rows, start=1)
    }  # shorter than the names in their column
    numbered = [replace(row, predecessor=numbers[row.predecessor] if row.predecessor else None) for row in rows]
    notes = [
        "The folders are taken for records that were accepted: one with errors is the one to beat too, as it was on the day.",
        "Each record is tested against the best mean of those before it, or the ruleset's target.",
        f"A tie is a record that the best one cannot be told from: Welch's two-sided p is at least {rules.alpha:g}. With few seeds "
        "many records tie, whatever their true order.",
        "A record of one run has no interval, and neither beats nor ties.",
    ]
    if chance := sentence_on_chance(rows, rules):
        notes.append(chance)
    return TEMPLATES.get_template("leaderboard.html").render(
        rules=rules,
        summary=summary(rows, best, tied, rules),
        plot=Markup(frontier_plot(shown, rules.metric, tied)) if shown else None,
        level=percent(1 - rules.alpha),
        columns=("", *COLUMNS),
        rows=[(str(number), *cells(row, rules)) for number, row in enumerate(numbered, start=1)],
        notes=notes,
        command=command,
    )


def summary(rows: list[Row], best: Row | None, tied: list[int], rules: Ruleset) -> str:
    """What the page shows, in a sentence or two."""
    if best is None:
        return f"None of {len(rows)} records has runs of one metric."
    number = rows.index(best) + 1
    said = f"{len(rows)} records. The best mean {rules.metric} is {best.mean:.6f}: record {number}, {best.record}, of {best.n} run{'s' if best.n > 1 else ''}."
    others = [str(other) for other in tied if other != number]
    return said + (
        f" It cannot be told from {'record' if len(others) == 1 else 'records'} {', '.join(others)}." if others else ""
    )


def cannot_be_told_apart(row: Row, best: Row, alpha: float) -> bool:
    """Whether a record's mean and the best one's may be one and the same, by Welch's two-sided test; itself counts."""
    if row is best:
        return True
    one, other = sample(row), sample(best)
    if one is None or other is None:
        return False
    p = welch_t(other, one, 0.0).p_value
    return 2 * min(p, 1 - p) >= alpha


def sample(row: Row) -> Sample | None:
    return None if row.mean is None or not row.sd else Sample(row.n, row.mean, row.sd)


def interval(number: int, row: Row, alpha: float) -> Interval | None:
    """A record's mean with the two-sided confidence interval at 1 - alpha; no width for a single run."""
    if row.mean is None:
        return None
    known = sample(row)
    half = 0.0 if known is None else critical_t(known.n - 1, alpha / 2) * known.sd / known.n**0.5
    return Interval(number, row.mean, half, known is not None)
