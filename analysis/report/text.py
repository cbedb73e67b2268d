"""A verdict for a terminal, as plain lines."""

from __future__ import annotations

from collections.abc import Sequence

import click

from analysis.reading.result import Result
from analysis.report.findings import finding_lines
from analysis.report.statements import WORDS, assumptions, concerns, facts, rules_in_words, verifiers_runs
from analysis.report.tables import READING_COLUMNS, RUN_COLUMNS, reading_cells, run_cells, text_table
from analysis.untrusted.escape import printable
from analysis.verdict.verdict import Answer, Verdict

COLOURS = {Answer.SUPPORTED: "green", Answer.NOT_SUPPORTED: "red"}  # else yellow


def text(verdict: Verdict, *, coloured: bool = False) -> str:
    """Return the full report."""
    word = WORDS[verdict.verdict]
    if coloured:
        word = click.style(word, fg=COLOURS.get(verdict.verdict, "yellow"), bold=True)
    lines = [f"{word}: {printable(verdict.reason)}", f"rules: {printable(rules_in_words(verdict))}"]
    lines += [printable(line) for line in concerns(verdict)]
    if numbers := facts(verdict):
        width = max(len(name) for name, _ in numbers)
        lines += ["", *(f"{name:<{width}}  {value}" for name, value in numbers)]
    lines += _runs(verdict.runs)
    lines += _runs(verdict.control, "control")
    lines += _runs(verifiers_runs(verdict), "verifier")
    if verdict.also:
        rows = [reading_cells(also)[:-1] for also in verdict.also]
        lines += ["", "sensitivity", *text_table(READING_COLUMNS[:-1], rows)]
    if verdict.findings:
        lines += ["", "findings", *finding_lines(verdict.findings)]
    lines += ["", *(f"assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines).rstrip() + "\n"


def _runs(runs: Sequence[Result], title: str | None = None) -> list[str]:
    """Return a table of runs below an empty line, nothing for no runs."""
    if not runs:
        return []
    return ["", *([title] if title else []), *text_table(RUN_COLUMNS, [run_cells(run) for run in runs])]
