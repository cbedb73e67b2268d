"""A leaderboard in words: its cells, its Markdown table, and what the page says about it."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report.tables import markdown_cells, markdown_table, number_or_dash
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import printable
from analysis.verdict.numbers import format_p
from analysis.verdict.standings import Row, any_false

COLUMNS = (
    "date",
    "record",
    "n",
    "mean",
    "sd",
    "bytes",
    "time",
    "tested against",
    "verdict, bpb",
    "verdict, nats",
    "errors",
    "warnings",
    "remarks",
)


def cells(row: Row, rules: Ruleset) -> list[str]:
    """Return a row for people, under COLUMNS; JSON and CSV hold all digits."""
    return [
        row.date or "-",
        row.record,
        str(row.n),
        number_or_dash(row.mean, ".6f"),
        number_or_dash(row.sd, ".6f"),
        number_or_dash(row.bytes, ","),
        "-" if row.train_time_s is None else f"{row.train_time_s:.1f} s",
        row.predecessor or ("-" if rules.target is None else "target"),
        _verdict(row.verdict_bpb, row.p_bpb),
        _verdict(row.verdict_nats, row.p_nats),
        str(row.errors),
        str(row.warnings),
        printable(row.why or ""),
    ]


def _verdict(verdict: str | None, p: float | None) -> str:
    if verdict is None:
        return "-"
    return verdict if p is None else f"{verdict}, p {format_p(p)}"


def markdown(rows: Sequence[Row], rules: Ruleset) -> str:
    """Return the table, and a sentence on chance where there are several tests."""
    head = [f"mean {rules.metric}" if name == "mean" else name for name in COLUMNS]
    lines = markdown_table(head, [markdown_cells(cells(row, rules)) for row in rows])
    if chance := sentence_on_chance(rows, rules):
        lines += ["", chance]
    return "\n".join(lines) + "\n"


def sentence_on_chance(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Return how likely several tests at one level let a false claim pass; None for fewer than two tests."""
    tests = sum((row.p_bpb if rules.unit == "bpb" else row.p_nats) is not None for row in rows)
    if tests < 2:
        return None
    return (
        f"{tests} tests at p < {rules.alpha:g}: if no record were better than what it is tested against, at least one "
        f"would still pass with a probability of {any_false(rules.alpha, tests):.2g}."
    )


def summary(rows: Sequence[Row], best: Row | None, tied: Sequence[int], rules: Ruleset) -> str:
    """Return what the page shows, in a sentence or two; `tied` are numbers of rows, which count from 1."""
    if best is None:
        return f"None of {len(rows)} records has runs of one metric."
    number = rows.index(best) + 1
    runs = f"{best.n} run{'s' if best.n > 1 else ''}"
    said = f"{len(rows)} records. The best mean {rules.metric} is {best.mean:.6f}: record {number}, {best.record}, of {runs}."
    others = [str(other) for other in tied if other != number]
    if not others:
        return said
    return f"{said} It is tied with record{'s' if len(others) > 1 else ''} {', '.join(others)}."


def notes(rows: Sequence[Row], rules: Ruleset) -> list[str]:
    """Return how to read the page."""
    chance = sentence_on_chance(rows, rules)
    return [
        "All folders are assumed accepted: a record with errors must be beaten too, as it had to be on the day.",
        "Each record is tested against the best mean of those before it, or against the ruleset's target.",
        f"A record is tied with the best one if Welch's two-sided p is at least {rules.alpha:g}. With few seeds many "
        "records tie, whatever their true order.",
        "A record of one run has no interval: it neither beats another nor ties with it.",
        *([chance] if chance else []),
    ]
