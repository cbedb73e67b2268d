"""A verdict as Markdown, for a pull request's comment or a step summary."""

from __future__ import annotations

from analysis.report.claims import claim_table, claims_counted, claims_that_do_not_fit
from analysis.report.findings import finding_items
from analysis.report.gate import word
from analysis.report.statements import assumptions, concerns, facts, rules_in_words
from analysis.report.tables import literal_table, markdown_table, run_tables, sensitivity
from analysis.untrusted import escape
from analysis.verdict.verdict import Verdict

FINDINGS_AT_ONCE = 5


def markdown(verdict: Verdict, where: str = "") -> str:
    """Return the report: verdict, runs and the first findings at a glance, the rest on a click.

    where: the folder that is named. The word is the gate's: error-level findings overrule numbers that would pass.
    """
    place = f", {escape.markdown(where)}" if where else ""
    parts = [[f"## seedproof: {word(verdict).lower()}{place}"]]
    parts += [[escape.markdown(line)] for line in (verdict.reason, *concerns(verdict))]
    runs = {name.capitalize(): literal_table(table) for name, table in run_tables(verdict).items()}
    items, numbers = finding_items(verdict.findings), facts(verdict)
    parts.append(runs.pop("Runs", []))
    if items:
        parts += [["### Findings"], items[:FINDINGS_AT_ONCE]]
    if verdict.claims:
        parts += [["### Claims"], [*map(escape.markdown, claims_counted(verdict.claims))]]
        parts += [[f"- {escape.markdown(line)}" for line in claims_that_do_not_fit(verdict.claims)]]
    folded = {
        f"{len(items) - FINDINGS_AT_ONCE} more findings": items[FINDINGS_AT_ONCE:],
        f"Numbers, by the rules of {escape.markdown(rules_in_words(verdict))}": (
            markdown_table(("", ""), numbers) if numbers else []
        ),
        "Every claim": literal_table(claim_table(verdict.claims)),
        **runs,
        "Sensitivity": literal_table(sensitivity(verdict)),
        "What the numbers assume": [f"- {sentence}" for sentence in assumptions(verdict)],
    }
    for summary, lines in folded.items():
        if lines:
            parts += [[f"<details><summary>{summary}</summary>"], lines, ["</details>"]]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"
