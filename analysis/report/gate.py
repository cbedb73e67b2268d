"""What `check` prints and exits with, and the action of many records.

Error-level findings refuse a claim whose numbers would pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.report.grid import Table, literal_table, or_dash, wrapped
from analysis.report.said.claims import claims_counted
from analysis.report.said.findings import checks_made, finding_lines, github_annotations
from analysis.report.said.headline import WORDS, first_lines
from analysis.report.said.statements import evidence, not_counted, plain_p, question
from analysis.untrusted.escape import markdown, printable, workflow_command
from analysis.verdict.verdict import Verdict

LONGEST_NAME = 120  # characters of a record's name in the table of many
ROW_BYTES = 500  # of that table, at most in any usual case


def gate(verdict: Verdict, width: int | None = None) -> str:
    """Return the few lines of `check`, wrapped to the width."""
    first, *more = [*first_lines(verdict), *question(verdict)]
    plan = (
        [verdict.plan.sentence()] if verdict.plan is not None and verdict.plan.exact else []
    )  # else a finding says it
    said = (*verdict.notes, *plan, *not_counted(verdict), *finding_lines(verdict.findings))
    said += (*claims_counted(verdict.claims),)
    more += [*said, *checks_made(verdict.checks, verdict.not_checked), *_not_proven(verdict)]
    lines = [printable(line) for line in (first, *(f"  {line}" for line in more))]
    return "\n".join(wrapped(lines, width)) + "\n"


def _not_proven(verdict: Verdict) -> list[str]:
    unknown = not verdict.is_decided or verdict.verification is not None
    return (
        []
        if unknown
        else [
            f"not proven: that these {evidence(verdict)} come from real runs and that no run is missing; "
            "only a rerun can test that (--verify)"
        ]
    )


def workflow_commands(verdict: Verdict, folder: str) -> list[str]:
    """Return GitHub workflow commands: the verdict, then each finding at its file, a path below `folder`, and line."""
    kind = "error" if verdict.gate_code else "notice"
    first = workflow_command(kind, " ".join(first_lines(verdict)), title="seedproof")
    return [first, *github_annotations(verdict.findings, folder)]


# -- many records ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one of many records comes to. gain: how much better than what must be beaten its mean is."""

    record: str
    verdict: str
    gain: float | None = None
    p_value: float | None = None
    errors: int = 0
    warnings: int = 0


def table_of(lines: Sequence[Line]) -> Table:
    """Return the table of many records."""
    return [
        {
            "record": printable(one.record if len(one.record) <= LONGEST_NAME else f"...{one.record[-LONGEST_NAME:]}"),
            "verdict": WORDS.get(one.verdict, one.verdict),
            "gain": or_dash(one.gain, "{:z.6f}"),
            "p": "-" if one.p_value is None else plain_p(one.p_value),
            "errors": str(one.errors),
            "warnings": str(one.warnings),
        }
        for one in lines
    ]


def document(lines: Sequence[Line], reports: Sequence[str], notes: Sequence[str], most: int) -> str:
    """Return a Markdown page of about `most` bytes: the table of several records, the notes, then their reports.

    Reports that no longer fit are left out, and the page says how many.
    """
    said = [f"- {markdown(note)}\n" for note in notes]
    parts = ["".join(said)] if said else []
    if len(lines) > 1:
        shown = table_of(lines[: most // ROW_BYTES])
        more = f"\nand {len(lines) - len(shown)} more records\n" if len(shown) < len(lines) else ""
        table = "\n".join(literal_table(shown))
        parts = [f"## seedproof: {len(lines)} records\n", f"{table}\n{more}", *parts]
    elif reports:
        parts, reports = [reports[0], *parts], reports[1:]
    size = sum(len(part.encode("utf-8", "backslashreplace")) for part in parts)
    for number, report in enumerate(reports):
        size += len(report.encode("utf-8", "backslashreplace"))
        if size > most:
            parts.append(f"{len(reports) - number} more reports do not fit: see the log of the run.\n")
            break
        parts.append(report)
    return "\n".join(parts)
