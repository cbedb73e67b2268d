"""A verdict as Markdown, for a pull request's comment or a step summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.reading.result import Result
from analysis.report.findings import finding_items
from analysis.report.gate import word
from analysis.report.statements import assumptions, concerns, facts, rules_in_words, verifiers_runs
from analysis.report.tables import (
    READING_COLUMNS,
    RUN_COLUMNS,
    markdown_cells,
    markdown_table,
    reading_cells,
    run_cells,
)
from analysis.untrusted import escape
from analysis.verdict.verdict import Verdict

FINDINGS_AT_ONCE = 5


def markdown(verdict: Verdict, where: str = "") -> str:
    """Return the report: verdict, runs and the first findings at a glance, the rest on a click.

    where: the folder that is named. The word is the gate's: error-level findings overrule numbers that would pass.
    """
    place = f", {escape.markdown(where)}" if where else ""
    lines = [f"## seedproof: {word(verdict).lower()}{place}", "", escape.markdown(verdict.reason), ""]
    lines += [f"{escape.markdown(line)}\n" for line in concerns(verdict)]
    if verdict.runs:
        lines += [*_runs_table(verdict.runs), ""]
    items = finding_items(verdict.findings)
    if items:
        lines += ["### Findings", "", *items[:FINDINGS_AT_ONCE], ""]
        lines += _details(f"{len(items) - FINDINGS_AT_ONCE} more findings", items[FINDINGS_AT_ONCE:])
    if numbers := facts(verdict):
        summary = f"Numbers, by the rules of {escape.markdown(rules_in_words(verdict))}"
        lines += _details(summary, markdown_table(("", ""), numbers))
    for name, runs in (("Control", verdict.control), ("Verifier", verifiers_runs(verdict))):
        if runs:
            lines += _details(name, _runs_table(runs))
    if verdict.also:
        lines += _details("Sensitivity", sensitivity_table(verdict))
    lines += _details("What the numbers assume", [f"- {sentence}" for sentence in assumptions(verdict)])
    return "\n".join(lines).rstrip() + "\n"


def sensitivity_table(verdict: Verdict) -> list[str]:
    """Return a table of the same question asked in other ways."""
    return markdown_table(READING_COLUMNS, [reading_cells(also) for also in verdict.also])


def _runs_table(runs: Iterable[Result]) -> list[str]:
    return markdown_table(RUN_COLUMNS, [markdown_cells(run_cells(run)) for run in runs])


def _details(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines that GitHub shows on a click, nothing for no lines."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", ""] if lines else []
