"""A verdict for a terminal, as plain lines: one screen where little was found."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.report.grid import WHOLE, Table, Width, fitted, named, text_table, wrapped
from analysis.report.said.claims import claims_counted, claims_that_do_not_fit
from analysis.report.said.findings import checks_made, finding_lines
from analysis.report.said.headline import WORDS, first_lines
from analysis.report.said.statements import assumptions, facts, question, said_besides
from analysis.report.said.tables import run_tables, sensitivity
from analysis.rules.findings import in_words
from analysis.untrusted.escape import printable
from analysis.verdict.verdict import Verdict

OF_THE_TEST = ("n", "t", "z", "df", "p", "sequential p")  # facts that share a line
SPARE = {"val_loss", "val_bpb"}  # of a table of runs, unless the rules are about it


def text(verdict: Verdict, width: Width = WHOLE) -> str:
    """Return the full report.

    What a way of asking again assumes, and the ways that say what the verdict says, are left to the other formats.
    """
    first = [*first_lines(verdict), *question(verdict), *said_besides(verdict)]
    first += [*checks_made(verdict.checks, verdict.not_checked), *claims_counted(verdict.claims)]
    parts = [wrapped([printable(line) for line in first], width.prose)]
    parts.append(wrapped(claims_that_do_not_fit(verdict.claims, verdict.findings), width.prose))
    if verdict.findings:
        parts.append(
            [f"findings: {in_words(verdict.findings)}", *wrapped(finding_lines(verdict.findings), width.prose)]
        )
    parts.append(named(_numbers(verdict), width.prose))
    for name, table in run_tables(verdict).items():
        spare = (*sorted(SPARE - {verdict.metric}), "artifact", "steps", "reason", "test")
        lines = text_table(fitted(table, width.table, "logs" if "logs" in table[0] else "log", spare))
        parts.append(([] if name == "runs" else [name]) + lines)
    parts.append([*_sensitivity(verdict, width.table)])
    assumed = assumptions(verdict)
    if width.prose is not None and assumed:
        assumed = [" ".join(assumed)]  # which takes less room
    parts.append(wrapped([f"assumes: {sentence}" for sentence in assumed], width.prose))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _numbers(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the numbers behind the verdict, those of the test in one row."""
    every = facts(verdict)
    of_test = ", ".join(f"{name} {value}" for name, value in every if name in OF_THE_TEST)
    rows = [(name, f"{value}: {of_test}" if name == "test" else value) for name, value in every]
    tested = any(name == "test" for name, _ in every)
    return [row for row in rows if not (tested and row[0] in OF_THE_TEST)]


def _sensitivity(verdict: Verdict, width: int | None) -> Iterator[str]:
    """Yield how many other ways of asking say the same, and a table of those that do not."""
    readings = sensitivity(verdict)
    others: Table = [row for row in readings if row["verdict"] != WORDS[verdict.verdict]]
    if readings:
        same = len(readings) - len(others)
        say = "says" if same == 1 else "say"
        yield f"sensitivity: {same} of {len(readings)} other reading{'s' if len(readings) > 1 else ''} {say} {WORDS[verdict.verdict]} too"
    narrow = [{column: row[column] for column in row if column != "assumes"} for row in others]
    yield from text_table(fitted(narrow, width, "reading"))
