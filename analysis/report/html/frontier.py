"""The plot of a board: every record's mean and interval, and the best so far."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.row import Row, half_width, sign_of, tied_for_best

COLOURS = {
    "candidate": "#0072B2",
    "control": "#E69F00",
    "verifier": "#009E73",
    "threshold": "#D55E00",
    "other": "#7F7F7F",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seedproof",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def frontier_plot(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Draw the records' means from the oldest at the top to the newest, with intervals, and the best mean so far.

    Records are named by their number, counted from 1. None if no record has a rank.
    """
    means = {number: row.ranked for number, row in enumerate(rows, start=1) if row.ranked is not None and row.rank}
    if not means:
        return None
    tied, heights, values = tied_for_best(rows, rules), range(len(means)), [*means.values()]
    best_first, better = (max, "higher") if sign_of(rules) < 0 else (min, "lower")
    with _figure(1.2 + 0.28 * len(means)) as figure:
        axes = figure.subplots()
        best = [best_first(values[: height + 1]) for height in heights]
        axes.step(best, heights, where="pre", color=COLOURS["threshold"], linewidth=1.2, label="best so far")
        labels = {"candidate": "the best, and ties with it", "other": "others"}
        for height, (number, value) in enumerate(means.items()):
            row = rows[number - 1]
            kind, half = "candidate" if row in tied else "other", half_width(row, rules.alpha)
            colour, filling = COLOURS[kind], "none" if half is None else COLOURS[kind]
            style: dict[str, Any] = {
                "fmt": "o",
                "color": colour,
                "markerfacecolor": filling,
                "label": labels.pop(kind, None),
            }
            axes.errorbar(value, height, xerr=half, capsize=3, **style)
        axes.set_yticks(heights, map(str, means))
        axes.invert_yaxis()
        room = max(0.15 * (max(values) - min(values)), 1e-3)  # an interval of two runs may be wider than all records
        axes.set_xlim(min(values) - room, max(values) + room)
        axes.set(xlabel=f"mean {rules.ranked} ({better} is better)", ylabel="record")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
        return _svg(figure, "Every record's mean and interval, oldest first, and the best so far")


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    """Yield a figure of the page's width, in our style."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(6.5, height))


def _svg(figure: Figure, title: str) -> str:
    """Return the figure as an <svg> element with an accessible name, drawn in the page's own text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor").replace("font: 10px 'DejaVu Sans'", "font: 10px sans-serif")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
