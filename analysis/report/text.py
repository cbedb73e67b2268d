"""A verdict for a terminal, as plain lines."""

from __future__ import annotations

import click

from analysis.report.findings import finding_lines
from analysis.report.statements import (
    WORDS,
    assumptions,
    concerns,
    degrees,
    facts,
    plain_p,
    rules_in_words,
    verifiers_runs,
)
from analysis.report.tables import RUN_COLUMNS, run_cells, text_table
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
    for name, runs in (("", verdict.runs), ("control", verdict.control), ("verifier", verifiers_runs(verdict))):
        if runs:
            lines += ["", *filter(None, [name]), *text_table(RUN_COLUMNS, [run_cells(run) for run in runs])]
    if verdict.also:
        lines += ["", "sensitivity", *_sensitivity(verdict)]
    if verdict.findings:
        lines += ["", "findings", *finding_lines(verdict.findings)]
    lines += ["", *(f"assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines).rstrip() + "\n"


def _sensitivity(verdict: Verdict) -> list[str]:
    """Return a table of the same question asked in other ways."""
    rows = [
        (
            also.reading,
            WORDS[also.verdict].lower(),
            f"{also.test.statistic:.4f}",
            degrees(also.test),
            plain_p(also.test.p_value),
        )
        for also in verdict.also
    ]
    return text_table(("reading", "verdict", "statistic", "df", "p"), rows)
