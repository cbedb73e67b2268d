"""A verdict as Markdown, for a pull request's comment or a step summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analysis.evidence.audit import Audit
from analysis.report.grid import literal_table, markdown_table
from analysis.report.said.claims import claim_table, claims_counted, claims_that_do_not_fit
from analysis.report.said.findings import checks_made, finding_items
from analysis.report.said.headline import improvement, limits, why, word
from analysis.report.said.statements import assumptions, facts, question, rules_in_words, said_besides
from analysis.report.said.tables import run_tables, sensitivity
from analysis.rules.findings import errors, in_words
from analysis.untrusted import escape
from analysis.verdict.verdict import Verdict

FINDINGS_AT_ONCE = 5


def markdown(verdict: Verdict, where: str = "") -> str:
    """Return the report: verdict, runs and the first findings at a glance, the rest on a click.

    where: the folder that is named. The word is the gate's: error-level findings overrule numbers that would pass.
    """
    place = f", {escape.markdown(where)}" if where else ""
    parts = [[f"## seedproof: {word(verdict)}{place}"]]
    if gained := improvement(verdict):
        parts.append([f"**{escape.markdown(gained)}**"])
    least = [". ".join(limits(verdict))] if verdict.criteria else []  # a comment is to fit a screen
    parts += [[escape.markdown(line)] for line in (*least, *why(verdict), *question(verdict), *said_besides(verdict))]
    runs = {name.capitalize(): literal_table(table) for name, table in run_tables(verdict).items()}
    parts += [[escape.markdown(line)] for line in checks_made(verdict.checks, verdict.not_checked)]
    items, numbers = finding_items(verdict.findings), facts(verdict)
    parts += [runs.pop("Runs", []), *_first_findings(items, in_words(verdict.findings))]
    parts.append([*map(escape.markdown, claims_counted(verdict.claims))])
    parts.append([f"- {escape.markdown(line)}" for line in claims_that_do_not_fit(verdict.claims, verdict.findings)])
    folded = {
        **_more_findings(items),
        f"Numbers, by the rules of {escape.markdown(rules_in_words(verdict))}": (
            markdown_table(("", ""), numbers) if numbers else []
        ),
        "Every claim": literal_table(claim_table(verdict.claims)),
        **runs,
        "Sensitivity": literal_table(sensitivity(verdict)),
        "What the numbers assume": [f"- {sentence}" for sentence in assumptions(verdict)],
    }
    return _joined([*parts, *_folded(folded)])


def audit_markdown(audit: Audit, where: str) -> str:
    """Return the report on a record that is audited and not tested."""
    number = errors(audit.findings)
    said = f"refused for {number} error-level finding{'s' if number > 1 else ''}" if number else "audited"
    items, found = finding_items(audit.findings), in_words(audit.findings) or "nothing found"
    parts = [
        [f"## seedproof: {said}, {escape.markdown(where)}"],
        [escape.markdown(f"This is an earlier record, so it is audited by {audit.rules} and not tested: {found}.")],
        [escape.markdown(line) for line in checks_made(audit.checks, audit.not_checked)],
    ]
    return _joined([*parts, *_first_findings(items, found), *_folded(_more_findings(items))])


def _first_findings(items: list[str], counted: str) -> list[list[str]]:
    return [[f"### Findings: {counted}"], items[:FINDINGS_AT_ONCE]] if items else []


def _more_findings(items: list[str]) -> dict[str, list[str]]:
    return {f"{len(items) - FINDINGS_AT_ONCE} more findings": items[FINDINGS_AT_ONCE:]}


def _folded(folded: Mapping[str, list[str]]) -> list[list[str]]:
    """Return parts that are shown on a click, by their summary; empty ones are left out."""
    shown = {summary: lines for summary, lines in folded.items() if lines}
    return [
        part
        for summary, lines in shown.items()
        for part in ([f"<details><summary>{summary}</summary>"], lines, ["</details>"])
    ]


def _joined(parts: Iterable[list[str]]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"
