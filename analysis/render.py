"""A verdict as text for a terminal, as Markdown for GitHub, and as JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

from analysis.runs import Result
from analysis.verdict import SUPPORTED, UNUSABLE, Verdict, format_p, percent

WORDS = {"supported": "SUPPORTED", "not_supported": "NOT SUPPORTED", "unusable": "CANNOT TELL"}
_CONTROL_CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
RUN_COLUMNS = ("seed", "val_bpb", "val_loss", "steps", "train time", "artifact", "log")


def printable(text: str) -> str:
    """Text from outside with its control codes shown instead of obeyed."""
    return _CONTROL_CODES.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


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
    origin = "SOTA" if verdict.sota_is == "given" else f"the {verdict.sota_is}"
    name = f"threshold ({origin} - {verdict.margin:g} {verdict.unit})"
    rows = [(name, f"{verdict.sota:.8f} - {verdict.sota - verdict.threshold:.8f} = {verdict.threshold:.8f}")]
    if verdict.test is not None:
        rows += [
            ("n", str(verdict.n)),
            ("mean", f"{verdict.mean:.8f}"),
            ("sd", f"{verdict.sd:.8f}"),
            ("t", f"{verdict.test.statistic:.6f}"),
            ("df", f"{verdict.test.df:g}"),
            ("p", format_p(verdict.test.p_value).removeprefix("= ")),
            (f"{percent(1 - verdict.alpha)} upper bound of the mean", f"{verdict.upper_bound:.8f}"),
        ]
    return rows


def assumptions(verdict: Verdict) -> list[str]:
    """What a reader must believe for the numbers to mean what they say."""
    if verdict.test is None:
        return []
    lines = ["The seeds are independent runs of one program, and were chosen before their results were known."]
    if verdict.sota_is == "given":
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
    if verdict.n < 5:
        lines.append(f"With {verdict.n} seeds the sd is barely known: the test leans on the values being near normal.")
    return lines


# -- text --------------------------------------------------------------------------------------------------------------


def text(verdict: Verdict) -> str:
    """The full report for a terminal, as plain lines."""
    lines = [f"{WORDS[verdict.verdict]}: {printable(verdict.reason)}", f"rules: {verdict.rules}"]
    if verdict.verdict == UNUSABLE:
        return "\n".join(lines) + "\n"
    width = max((len(name) for name, _ in facts(verdict)), default=0)
    lines += ["", *(f"{name:<{width}}  {value}" for name, value in facts(verdict))]
    lines += ["", *_table(RUN_COLUMNS, [run_cells(result) for result in verdict.runs])]
    if verdict.control:
        lines += ["", "control", *_table(RUN_COLUMNS, [run_cells(result) for result in verdict.control])]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", f"{also.test.df:.4g}",
             format_p(also.test.p_value).removeprefix("= "))
            for also in verdict.also
        ]  # fmt: skip
        lines += ["", "read in other ways", *_table(("reading", "verdict", "t", "df", "p"), rows)]
    if verdict.findings:
        lines += ["", "findings"]
        lines += [
            f"{f.severity}: {f.code}: {printable(f.file)}:{f.line}: {printable(f.message)}" for f in verdict.findings
        ]
    lines += ["", *(f"assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


# -- Markdown ----------------------------------------------------------------------------------------------------------


def escape_markdown(content: str) -> str:
    """Text from outside as literal text in a Markdown table cell or paragraph."""
    content = printable(content)
    content = content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", content)


def markdown(verdict: Verdict) -> str:
    """The report for a pull request: verdict, numbers and runs first, the rest below."""
    lines = [f"## seedproof: {WORDS[verdict.verdict].lower()}", "", escape_markdown(verdict.reason), ""]
    if verdict.verdict == UNUSABLE:
        return "\n".join(lines)
    lines += _markdown_table(("", f"rules {escape_markdown(verdict.rules)}"), facts(verdict))
    lines += ["", *_markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.runs])]
    if verdict.control:
        lines += ["", "### Control", ""]
        lines += _markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.control])
    if verdict.findings:
        lines += ["", "### Findings", ""]
        lines += [
            f"- **{f.severity}** `{f.code}` {escape_markdown(f.file)}:{f.line}: {escape_markdown(f.message)}"
            for f in verdict.findings
        ]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", f"{also.test.df:.4g}",
             format_p(also.test.p_value).removeprefix("= "), also.assumes)
            for also in verdict.also
        ]  # fmt: skip
        head = ("reading", "verdict", "t", "df", "p", "assumes")
        lines += [
            "",
            "<details><summary>Read in other ways</summary>",
            "",
            *_markdown_table(head, rows),
            "",
            "</details>",
        ]
    lines += ["", *(f"- Assumes: {sentence}" for sentence in assumptions(verdict))]
    return "\n".join(lines) + "\n"


def _escaped(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(escape_markdown(cell) for cell in cells)


def _markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


# -- JSON and the gate -------------------------------------------------------------------------------------------------


def as_json(verdict: Verdict) -> str:
    return json.dumps(verdict.to_json(), indent=1, allow_nan=False) + "\n"


def gate(verdict: Verdict) -> str:
    """The few lines of `check`."""
    lines = [f"{WORDS[verdict.verdict]}: {printable(verdict.reason)}"]
    lines += [
        f"  {f.severity}: {f.code}: {printable(f.file)}:{f.line}: {printable(f.message)}" for f in verdict.findings
    ]
    return "\n".join(lines) + "\n"


def workflow_commands(verdict: Verdict, folder: str) -> str:
    """GitHub workflow commands: the verdict, then each finding at its file and line (paths below `folder`)."""
    kind = {SUPPORTED: "notice"}.get(verdict.verdict, "error")
    lines = [f"::{kind} title=seedproof::{_command_data(f'{WORDS[verdict.verdict]}: {verdict.reason}')}"]
    for finding in verdict.findings:
        kind = {"error": "error", "warning": "warning"}.get(finding.severity, "notice")
        place = _command_property(os.path.normpath(os.path.join(folder, finding.file)))
        lines.append(
            f"::{kind} file={place},line={finding.line},title={finding.code}::{_command_data(finding.message)}"
        )
    return "\n".join(lines) + "\n"


def _command_data(content: str) -> str:
    return content.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _command_property(content: str) -> str:
    return _command_data(content).replace(":", "%3A").replace(",", "%2C")
