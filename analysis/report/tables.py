"""Tables as plain text and as Markdown, and the rows of runs and readings in them."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.reading.result import Result
from analysis.report.statements import WORDS, degrees, plain_p
from analysis.untrusted.escape import markdown, printable
from analysis.verdict.verdict import Reading

RUN_COLUMNS = ("seed", "val_bpb", "val_loss", "steps", "train time", "artifact", "log")
READING_COLUMNS = ("reading", "verdict", "statistic", "df", "p", "assumes")


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table. What others wrote must be escaped already: see `markdown_cells`."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def markdown_cells(cells: Sequence[str]) -> list[str]:
    """Return cells that Markdown shows literally."""
    return [markdown(cell) for cell in cells]


def run_cells(result: Result) -> list[str]:
    """Return one run's cells under RUN_COLUMNS."""
    run = result.run
    return [
        number_or_dash(result.seed, "d"),
        number_or_dash(result.val_bpb, ".8f") if result.succeeded else result.state,
        number_or_dash(result.val_loss, ".8f"),
        number_or_dash(run.last_step, "d"),
        "-" if run.train_time_ms is None else f"{run.train_time_ms / 1000:.1f} s",
        "-" if run.artifact_bytes is None else f"{run.artifact_bytes:,} B",
        place(result),
    ]


def reading_cells(also: Reading) -> list[str]:
    """Return the cells of the same question asked in another way, under READING_COLUMNS."""
    test = also.test
    return [
        also.reading,
        WORDS[also.verdict].lower(),
        f"{test.statistic:.4f}",
        degrees(test),
        plain_p(test.p_value),
        also.assumes,
    ]


def place(result: Result) -> str:
    """Return where a run's metric is printed: log and line."""
    return printable(f"{result.log}:{result.line}" if result.line else result.log)


def number_or_dash(value: float | None, form: str) -> str:
    """Return a number in a format, a dash where it is unknown."""
    return "-" if value is None else format(value, form)
