"""A verdict as text for a terminal, as Markdown for GitHub, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from analysis import escape
from analysis.escape import printable
from analysis.findings import ERROR, in_words
from analysis.runs import Result
from analysis.stats import Test
from analysis.verdict import SUPPORTED, Verdict, format_p, percent

WORDS = {"supported": "SUPPORTED", "not_supported": "NOT SUPPORTED", "unusable": "CANNOT TELL"}
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
        number(result.steps, "d"),
        "-" if result.train_time_ms is None else f"{result.train_time_ms / 1000:.1f} s",
        "-" if result.artifact_bytes is None else f"{result.artifact_bytes:,} B",
        printable(place),
    )


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """The numbers behind the verdict, by name."""
    if verdict.sota is None or verdict.threshold is None:
        return []
    origin = {"given": "SOTA", "target": "the target"}.get(verdict.sota_is, f"the {verdict.sota_is}")
    rows = [(f"threshold ({origin})", f"{verdict.threshold:.8f}")]
    if verdict.margin > 0:
        name = f"threshold ({origin} - {verdict.margin:g} {verdict.unit})"
        rows = [(name, f"{verdict.sota:.8f} - {verdict.sota - verdict.threshold:.8f} = {verdict.threshold:.8f}")]
    if verdict.test is not None:
        rows += [
            ("n", str(verdict.n)),
            ("mean", f"{verdict.mean:.8f}"),
            ("sd", f"{verdict.sd:.8f}"),
            ("z" if verdict.test.df is None else "t", f"{verdict.test.statistic:.6f}"),
            ("df", degrees(verdict.test)),
            ("p", format_p(verdict.test.p_value).removeprefix("= ")),
            (f"{percent(1 - verdict.alpha)} upper bound of the mean", f"{verdict.upper_bound:.8f}"),
        ]
    return rows


def degrees(test: Test) -> str:
    """Degrees of freedom as printed; a test with a known spread has none."""
    return "-" if test.df is None else f"{test.df:.4g}"


def concerns(verdict: Verdict) -> list[str]:
    """What stands beside the verdict: how much does not fit, and which logs are not in the numbers."""
    lines = []
    if verdict.findings:
        fails = any(finding.severity == ERROR for finding in verdict.findings)
        lines.append(f"findings: {in_words(verdict.findings)}" + ("; check fails on the errors" if fails else ""))
    if verdict.not_counted:
        named = ", ".join(verdict.not_counted[:6]) + (", ..." if len(verdict.not_counted) > 6 else "")
        lines.append(f"not counted: {named}")
    return lines


def assumptions(verdict: Verdict) -> list[str]:
    """What a reader must believe for the numbers to mean what they say."""
    if verdict.test is None:
        return []
    lines = ["The seeds are independent runs of one program, and were chosen before their results were known."]
    if verdict.test.df is None:
        lines.append(f"The spread between runs is known; these runs' own sd is {verdict.sd:.6f}.")
        lines.append(
            "A track may round its critical value: then the bound lies on the threshold only nearly where the rule does."
        )
    if verdict.sota_is == "target":
        lines.append("The target is a fixed number, so there is no noise of a record to count.")
    elif verdict.sota_is == "given":
        lines.append(
            "The SOTA is taken as an exact number: its own noise and its hardware are ignored. "
            + (
                "The readings against the control count both."
                if verdict.control
                else "Rerunning it as a control would count both."
            )
        )
    else:
        lines.append("The control's mean is taken as an exact number; the Welch and pooled readings count its noise.")
    if verdict.n < 5 and verdict.test.df is not None:
        lines.append(f"With {verdict.n} seeds the sd is barely known: the test leans on the values being near normal.")
    return lines


# -- text --------------------------------------------------------------------------------------------------------------


def text(verdict: Verdict) -> str:
    """The full report for a terminal, as plain lines."""
    lines = [f"{WORDS[verdict.verdict]}: {printable(verdict.reason)}", f"rules: {printable(verdict.rules)}"]
    lines += [printable(line) for line in concerns(verdict)]
    if numbers := facts(verdict):
        width = max(len(name) for name, _ in numbers)
        lines += ["", *(f"{name:<{width}}  {value}" for name, value in numbers)]
    if verdict.runs:
        lines += ["", *_table(RUN_COLUMNS, [run_cells(result) for result in verdict.runs])]
    if verdict.control:
        lines += ["", "control", *_table(RUN_COLUMNS, [run_cells(result) for result in verdict.control])]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", degrees(also.test),
             format_p(also.test.p_value).removeprefix("= "))
            for also in verdict.also
        ]  # fmt: skip
        lines += ["", "read in other ways", *_table(("reading", "verdict", "statistic", "df", "p"), rows)]
    if verdict.findings:
        lines += ["", "findings", *escape.finding_lines(verdict.findings)]
    lines += ["", *(f"assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown(verdict: Verdict) -> str:
    """The report for a pull request: verdict, numbers and runs first, the rest below."""
    lines = [f"## seedproof: {WORDS[verdict.verdict].lower()}", "", escape.markdown(verdict.reason), ""]
    lines += [f"{escape.markdown(line)}\n" for line in concerns(verdict)]
    lines += markdown_table(("", f"rules {escape.markdown(verdict.rules)}"), facts(verdict))
    if verdict.runs:
        lines += ["", *markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.runs])]
    if verdict.control:
        lines += ["", "### Control", ""]
        lines += markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.control])
    if verdict.findings:
        lines += ["", "### Findings", "", *escape.finding_items(verdict.findings)]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", degrees(also.test),
             format_p(also.test.p_value).removeprefix("= "), also.assumes)
            for also in verdict.also
        ]  # fmt: skip
        head = ("reading", "verdict", "statistic", "df", "p", "assumes")
        lines += [
            "",
            "<details><summary>Read in other ways</summary>",
            "",
            *markdown_table(head, rows),
            "",
            "</details>",
        ]
    lines += ["", *(f"- Assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines) + "\n"


def _escaped(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(escape.markdown(cell) for cell in cells)


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


# -- JSON and the gate -------------------------------------------------------------------------------------------------


def as_json(verdict: Verdict) -> str:
    return json.dumps(verdict.to_json(), indent=1, allow_nan=False) + "\n"


def gate(verdict: Verdict, errors: int) -> str:
    """The few lines of `check`; `errors` findings overrule numbers that would pass."""
    return (
        "\n".join([_headline(verdict, errors), *(f"  {line}" for line in escape.finding_lines(verdict.findings))])
        + "\n"
    )


def workflow_commands(verdict: Verdict, errors: int, folder: str) -> str:
    """GitHub workflow commands: the verdict, then each finding at its file and line (paths below `folder`)."""
    kind = "notice" if verdict.verdict == SUPPORTED and not errors else "error"
    lines = [f"::{kind} title=seedproof::{escape.command_data(_headline(verdict, errors))}"]
    return "\n".join([*lines, *(escape.annotation(finding, folder) for finding in verdict.findings)]) + "\n"


def _headline(verdict: Verdict, errors: int) -> str:
    word = WORDS[verdict.verdict]
    if verdict.verdict == SUPPORTED and errors:
        word = f"REFUSED for {errors} error-level finding{'s' if errors > 1 else ''}, though the numbers are SUPPORTED"
    return f"{word}: {printable(verdict.reason)}"
