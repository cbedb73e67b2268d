"""The HTML page of a board: the best and what it is tied with, the frontier, a table of one line a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.report.board import cells as all_cells
from analysis.report.board import ranked_in_words
from analysis.report.html.frontier import frontier_plot, small_plots
from analysis.report.html.templates import Markup, made_by, template
from analysis.report.said import standing
from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.row import Row, tied_for_best
from analysis.verdict.numbers import percent


def board_page(
    rows: Sequence[Row], rules: Ruleset, command: str, where: str = "", pages: Mapping[int, str] | None = None
) -> str:
    """Return a board's page. command: what reproduces it; where: the folder's name.

    pages: addresses of the records' own pages by the numbers of the rows; else a name leads to the record's numbers below.
    """
    names, tied, plots = standing.names(rows), tied_for_best(rows, rules), small_plots(rows, rules)
    own = pages or {}
    return template("leaderboard.html").render(
        title=standing.title(rows, rules),
        where=where,
        subject=[*standing.subject(rows, rules, where), made_by()],
        card=standing.card(rows, rules),
        plot=Markup(frontier_plot(rows, rules, names) or ""),
        ranked=ranked_in_words(rules),
        level=percent(1 - rules.alpha),
        records=[
            {
                "rank": rows[number].rank or standing.NONE,
                "record": rows[number].record,
                "name": names[rows[number].record],
                "page": own.get(number, f"#record-{number + 1}"),
                "small": standing.small_line(rows[number], tied),
                "tied": rows[number] in tied[1:],
                "value": standing.digits(rules, rows[number].ranked),
                "plot": Markup(plots.get(number, "")),
                "cells": standing.cells(rows[number], rules, rows),
            }
            for number in standing.in_order(rows, rules)
        ],
        all=[all_cells(row, rules) for row in rows],
        notes=standing.notes(rows, rules),
        command=command,
    )
