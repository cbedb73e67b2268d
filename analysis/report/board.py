"""A leaderboard in words: its cells, its Markdown table, and what the page says about it."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report.grid import literal_table, or_dash
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import printable
from analysis.verdict.numbers import format_p
from analysis.verdict.standings import Row, tied_for_best


def cells(row: Row, rules: Ruleset) -> dict[str, str]:
    """Return a row for people, by column; JSON and CSV hold all digits."""
    return {
        "date": or_dash(row.date),
        "record": row.record,
        "n": str(row.n),
        f"mean {rules.metric}": or_dash(row.mean, "{:.6f}"),
        "sd": or_dash(row.sd, "{:.6f}"),
        "bytes": or_dash(row.bytes, "{:,}"),
        "time": or_dash(row.train_time_s, "{:.1f} s"),
        "tested against": row.predecessor or ("-" if rules.target is None else "target"),
        "verdict, bpb": _verdict(row.verdict_bpb, row.p_bpb),
        "verdict, nats": _verdict(row.verdict_nats, row.p_nats),
        "errors": str(row.errors),
        "warnings": str(row.warnings),
        "remarks": printable(row.why or ""),
    }


def _verdict(verdict: str | None, p: float | None) -> str:
    return or_dash(verdict) if p is None else f"{verdict}, p {format_p(p)}"


def markdown(rows: Sequence[Row], rules: Ruleset) -> str:
    """Return the table, and a sentence on chance where there are several tests."""
    lines = literal_table([cells(row, rules) for row in rows])
    if chance := sentence_on_chance(rows, rules):
        lines += ["", chance]
    return "\n".join(lines) + "\n"


def sentence_on_chance(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Return how likely several tests let a false claim pass (five at 1 %: 0.049); None for fewer than two tests."""
    tests = sum((row.p_bpb if rules.unit == "bpb" else row.p_nats) is not None for row in rows)
    if tests < 2:
        return None
    return (
        f"{tests} tests at p < {rules.alpha:g}: if no record were better than what it is tested against, at least one "
        f"would still pass with a probability of {1 - (1 - rules.alpha) ** tests:.2g}."
    )


def summary(rows: Sequence[Row], rules: Ruleset) -> str:
    """Return what the page shows, in a sentence or two. Records are named by their number, counted from 1."""
    tied = tied_for_best(rows, rules.alpha)
    if not tied:
        return f"None of {len(rows)} records has runs of one metric."
    best, (number, *others) = tied[0], [str(rows.index(row) + 1) for row in tied]
    runs = f"{best.n} run{'s' if best.n > 1 else ''}"
    said = f"{len(rows)} records. The best mean {rules.metric} is {best.mean:.6f}: record {number}, {best.record}, of {runs}."
    return f"{said} It is tied with record{'s' if len(others) > 1 else ''} {', '.join(others)}." if others else said


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
