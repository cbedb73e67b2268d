"""A verdict for a terminal, as plain lines."""

from __future__ import annotations

from analysis.report.grid import aligned, text_table
from analysis.report.said.claims import claims_counted, claims_that_do_not_fit
from analysis.report.said.findings import finding_lines
from analysis.report.said.headline import first_lines
from analysis.report.said.statements import assumptions, concerns, facts, question
from analysis.report.said.tables import run_tables, sensitivity
from analysis.untrusted.escape import printable
from analysis.verdict.verdict import Verdict


def text(verdict: Verdict) -> str:
    """Return the full report. What a way of asking again assumes is left to the other formats: a terminal is narrow."""
    first = [*first_lines(verdict), *question(verdict), *concerns(verdict)]
    parts = [[printable(line) for line in first], aligned(facts(verdict))]
    for name, runs in run_tables(verdict).items():
        parts.append(([] if name == "runs" else [name]) + text_table(runs))
    if readings := sensitivity(verdict):
        narrow = [{column: row[column] for column in row if column != "assumes"} for row in readings]
        parts.append(["sensitivity", *text_table(narrow)])
    if verdict.findings:
        parts.append(["findings", *finding_lines(verdict.findings)])
    if verdict.claims:
        parts.append([*claims_counted(verdict.claims), *claims_that_do_not_fit(verdict.claims)])
    parts.append([f"assumes: {sentence}" for sentence in assumptions(verdict)])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"
