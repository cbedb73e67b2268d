"""The HTML page of a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.report import board
from analysis.report.html.frontier import frontier_plot
from analysis.report.html.templates import Markup, template
from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.row import Row
from analysis.verdict.numbers import percent


def board_page(rows: Sequence[Row], rules: Ruleset, command: str) -> str:
    """Return a leaderboard's page; `command` reproduces it."""
    numbers = {row.record: str(number) for number, row in enumerate(rows, start=1)}  # shorter than its name
    shown = [replace(row, predecessor=row.predecessor and numbers[row.predecessor]) for row in rows]
    return template("leaderboard.html").render(
        rules=rules,
        summary=board.summary(rows, rules),
        plot=Markup(frontier_plot(rows, rules) or ""),
        level=percent(1 - rules.alpha),
        rows=[{"": numbers[row.record], **board.cells(row, rules)} for row in shown],
        notes=board.notes(rows, rules),
        command=command,
    )
