"""A verdict as text for a terminal, as Markdown for GitHub, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.reading.result import Result
from analysis.report.statements import assumptions, concerns, degrees, facts, not_counted, plain_p
from analysis.rules.findings import ERROR, counts
from analysis.untrusted import escape
from analysis.untrusted.escape import printable
from analysis.verdict.verdict import SUPPORTED, Verdict

WORDS = {
    "supported": "SUPPORTED",
    "not_supported": "NOT SUPPORTED",
    "continue": "CONTINUE",
    "unusable": "CANNOT TELL",
}
FINDINGS_AT_ONCE = 5
RUN_COLUMNS = ("seed", "val_bpb", "val_loss", "steps", "train time", "artifact", "log")


def run_cells(result: Result) -> tuple[str, ...]:
    """One run's row under RUN_COLUMNS."""
    place = f"{result.log}:{result.line}" if result.line else result.log

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        number(result.seed, "d"),
        number(result.val_bpb, ".8f") if result.state == "succeeded" else result.state,
        number(result.val_loss, ".8f"),
        number(result.run.last_step, "d"),
        "-" if result.run.train_time_ms is None else f"{result.run.train_time_ms / 1000:.1f} s",
        "-" if result.run.artifact_bytes is None else f"{result.run.artifact_bytes:,} B",
        printable(place),
    )


# -- text --------------------------------------------------------------------------------------------------------------


def text(verdict: Verdict) -> str:
    """The full report for a terminal, as plain lines."""
    lines = [f"{WORDS[verdict.verdict]}: {printable(verdict.reason)}", f"rules: {printable(verdict.rules)}"]
    lines += [printable(line) for line in concerns(verdict)]
    if numbers := facts(verdict):
        width = max(len(name) for name, _ in numbers)
        lines += ["", *(f"{name:<{width}}  {value}" for name, value in numbers)]
    if verdict.runs:
        lines += ["", *text_table(RUN_COLUMNS, [run_cells(result) for result in verdict.runs])]
    for name, runs in (("control", verdict.control), ("verifier", verifiers_runs(verdict))):
        if runs:
            lines += ["", name, *text_table(RUN_COLUMNS, [run_cells(result) for result in runs])]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", degrees(also.test),
             plain_p(also.test.p_value))
            for also in verdict.also
        ]  # fmt: skip
        lines += ["", "read in other ways", *text_table(("reading", "verdict", "statistic", "df", "p"), rows)]
    if verdict.findings:
        lines += ["", "findings", *escape.finding_lines(verdict.findings)]
    lines += ["", *(f"assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines).rstrip() + "\n"


def verifiers_runs(verdict: Verdict) -> list[Result]:
    return verdict.verification.runs if verdict.verification is not None else []


def text_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown(verdict: Verdict, where: str = "") -> str:
    """The report for a pull request: verdict, runs and the first findings at a glance, the rest on a click.

    where: the folder, to be named; error-level findings overrule numbers that would pass, as they do at the gate.
    """
    place = f", {escape.markdown(where)}" if where else ""
    lines = [f"## seedproof: {word(verdict).lower()}{place}", "", escape.markdown(verdict.reason), ""]
    lines += [f"{escape.markdown(line)}\n" for line in concerns(verdict)]
    if verdict.runs:
        lines += [*markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.runs]), ""]
    items = escape.finding_items(verdict.findings)
    if items:
        lines += ["### Findings", "", *items[:FINDINGS_AT_ONCE], ""]
        lines += _details(f"{len(items) - FINDINGS_AT_ONCE} more findings", items[FINDINGS_AT_ONCE:])
    if numbers := facts(verdict):
        lines += _details(
            f"Numbers, by the rules of {escape.markdown(verdict.rules)}", markdown_table(("", ""), numbers)
        )
    for name, runs in (("Control", verdict.control), ("Verifier", verifiers_runs(verdict))):
        if runs:
            lines += _details(name, markdown_table(RUN_COLUMNS, [_escaped(run_cells(run)) for run in runs]))
    if verdict.also:
        lines += _details("Read in other ways", readings_table(verdict))
    lines += _details("What the numbers assume", [f"- {sentence}" for sentence in assumptions(verdict)])
    return "\n".join(lines).rstrip() + "\n"


def _details(summary: str, lines: list[str]) -> list[str]:
    """Lines that GitHub shows on a click."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", ""] if lines else []


def readings_table(verdict: Verdict) -> list[str]:
    """The same runs read in other ways, in Markdown."""
    rows = [
        (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", degrees(also.test),
         plain_p(also.test.p_value), also.assumes)
        for also in verdict.also
    ]  # fmt: skip
    return markdown_table(("reading", "verdict", "statistic", "df", "p", "assumes"), rows)


def _escaped(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(escape.markdown(cell) for cell in cells)


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


# -- JSON and the gate -------------------------------------------------------------------------------------------------


def as_json(verdict: Verdict) -> str:
    return escape.json_text(verdict.to_json())


def gate(verdict: Verdict) -> str:
    """The few lines of `check`."""
    beside = [f"rules: {verdict.rules}", *verdict.notes]
    if verdict.plan is not None and verdict.plan.exact:  # what does not fit is a finding
        beside.append(verdict.plan.sentence())
    beside = [printable(line) for line in [*beside, *not_counted(verdict)]]
    return "".join(f"{line}\n" for line in [_headline(verdict), *(f"  {line}" for line in beside),
                                            *(f"  {line}" for line in escape.finding_lines(verdict.findings))])  # fmt: skip


def workflow_commands(verdict: Verdict, folder: str) -> str:
    """GitHub workflow commands: the verdict, then each finding at its file and line (paths below `folder`)."""
    kind = "notice" if verdict.verdict == SUPPORTED and not counts(verdict.findings)[ERROR] else "error"
    lines = [f"::{kind} title=seedproof::{escape.command_data(_headline(verdict))}"]
    return "\n".join([*lines, *(escape.annotation(finding, folder) for finding in verdict.findings)]) + "\n"


def _headline(verdict: Verdict) -> str:
    return f"{word(verdict)}: {printable(verdict.reason)}"


def word(verdict: Verdict) -> str:
    """The gate's: error-level findings overrule numbers that would pass."""
    errors = counts(verdict.findings)[ERROR]
    if verdict.verdict == SUPPORTED and errors:
        return f"REFUSED for {errors} error-level finding{'s' if errors > 1 else ''}, though the numbers are SUPPORTED"
    return WORDS[verdict.verdict]
