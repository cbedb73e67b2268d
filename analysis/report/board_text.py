"""A leaderboard for a terminal: a line a record, the best first, with as many columns as fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.report.board import cells, ranked_in_words, sentence_on_chance, sentence_on_luck, value_of_rank
from analysis.report.grid import WHOLE, Width, fitted, or_dash, text_table, wrapped
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.escape import line_start, printable
from analysis.verdict.board.row import Row, sign_of
from analysis.verdict.numbers import format_p

ALSO = ("date", "sd", "longest time", "bytes", "tested against", "after", "expected shrinkage", "remarks")
SPARE = (*reversed(ALSO), "p")


def board_text(rows: Sequence[Row], rules: Ruleset, width: Width = WHOLE) -> str:
    """Return the table, and what is said below it."""
    best_first = sorted(rows, key=lambda row: math.inf if row.rank is None else row.rank)  # stable: else by date
    table = [_cells(row, rules) for row in best_first]
    lines = [line_start(line) for line in text_table(fitted(table, width.table, "record", SPARE))]
    left_out = [name for name in table[0] if name not in lines[0]]
    said = [sentence_on_luck(rows, rules), sentence_on_chance(rows, rules)]
    if left_out:
        said.append(f"Not shown: {', '.join(left_out)}. A wider terminal, or --format csv, json or html, shows them.")
    return "\n\n".join(["\n".join(lines), *("\n".join(wrapped([one], width.prose)) for one in said if one)]) + "\n"


def _cells(row: Row, rules: Ruleset) -> dict[str, str]:
    every = cells(row, rules)
    gain = None if row.delta_ranked is None else -sign_of(rules) * row.delta_ranked
    return {
        "rank": every["rank"],
        "record": printable(row.record),
        "n": every["n"],
        ranked_in_words(rules): value_of_rank(row, rules),
        "gain": or_dash(gain, "{:+.6g}" if abs(gain or 0) >= 1 else "{:+.6f}"),
        "verdict": or_dash(row.verdict),
        "p": "-" if row.p is None else format_p(row.p).removeprefix("= "),
        "findings": _findings(row),
        **{name: printable(every[name]) for name in ALSO if name in every},
    }


def _findings(row: Row) -> str:
    """Return how many there are of the worst severity."""
    many, what = (row.errors, "error") if row.errors else (row.warnings, "warning")
    return f"{many} {what}{'s' if many > 1 else ''}" if many else "-"
