"""A record's page of a site: its verdict on the board, its place, and how its recipe differs from what it had to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.report.board import ranked_in_words
from analysis.report.html.page import shown
from analysis.report.html.templates import template
from analysis.report.said import standing
from analysis.report.said.recipe import Recipe, difference
from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.again import Again
from analysis.verdict.board.row import Row, tied_for_best


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBoard:
    """A record among all of a board. where: the board's folder; index: its page; pages: those of the records."""

    rows: Sequence[Row]
    row: Row
    rules: Ruleset
    where: str
    index: str
    pages: Mapping[str, str]

    @property
    def place(self) -> str:
        """Return the record's value and place in words."""
        ranked = sum(one.rank is not None for one in self.rows)
        if self.row.rank is None:
            return "without a rank"
        value = standing.digits(self.rules, self.row.ranked)
        tied = " (tied with the best)" if self.row in tied_for_best(self.rows, self.rules)[1:] else ""
        return f"{ranked_in_words(self.rules)} {value}, rank {self.row.rank} of {ranked}{tied}"


def record_page(again: Again, board: OnBoard, command: str) -> str:
    """Return the page of a record. command: what makes the site."""
    row = board.row
    before = row.predecessor
    recipe = difference(again.before, again.verdict.runs) if before is not None else None
    return template("record.html").render(
        **shown(again.verdict, command, row.record),
        board=board,
        before=before,
        recipe=recipe,
        changed=_in_words(recipe) if recipe is not None else "",
    )


def _in_words(recipe: Recipe) -> str:
    number = len(recipe.settings) + recipe.more
    return f"{number or 'no'} setting{'s' if number != 1 else ''}; program: {recipe.code.said}"
