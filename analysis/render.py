"""A verdict as text for a terminal, as Markdown for GitHub, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from analysis import escape
from analysis.escape import printable
from analysis.findings import ERROR, in_words
from analysis.look_by_look import chance_in_words
from analysis.runs import Result
from analysis.stats import Test
from analysis.verdict import SUPPORTED, Looks, Verdict, format_p, percent

WORDS = {
    "supported": "SUPPORTED",
    "not_supported": "NOT SUPPORTED",
    "continue": "CONTINUE",
    "unusable": "CANNOT TELL",
}
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
        known = verdict.test.df is None
        rows += [
            ("test", verdict.test.name),
            ("n", str(verdict.n)),
            ("mean", f"{verdict.mean:.8f}"),
            ("sd (95% interval)", f"{verdict.sd:.8f} ({verdict.sd_low:.6f} to {verdict.sd_high:.6f})"),
            ("z" if known else "t", f"{verdict.test.statistic:.6f}"),
            ("df", degrees(verdict.test)),
            ("p" if verdict.sequential is None else "sequential p", plain_p(verdict.test.p_value)),
            (f"{percent(1 - verdict.alpha)} upper bound of the mean", f"{verdict.upper_bound:.8f}"),
        ]
    return rows + look_facts(verdict.sequential)


def look_facts(looks: Looks | None) -> list[tuple[str, str]]:
    """Where a sequential test stands, by name."""
    if looks is None:
        return []
    planned = f"{looks.looks[0]} to {looks.looks[-1]}" if len(looks.looks) > 5 else ", ".join(map(str, looks.looks))
    rows = [("looks planned at", f"{planned} seeds, {looks.boundary} boundary")]
    if looks.critical is not None and looks.nominal_p is not None and looks.p_value is not None:
        rows.append(
            ("this look's own p, and what it must be below", f"{plain_p(looks.p_value)}, {looks.nominal_p:.7g}")
        )
        rows.append(("this look's critical t", f"{looks.critical:.6f}"))
    if looks.stagewise_p is not None:
        rows.append(("stage-wise p after stopping here", plain_p(looks.stagewise_p)))
    if looks.chance is not None:
        rows.append(
            (f"chance of passing by seed {looks.looks[-1]}, gain {looks.gain_sd:.2f} sd", chance_in_words(looks.chance))
        )
    return rows


def plain_p(p: float) -> str:
    """p in a table: 0.006, < 1e-5."""
    return format_p(p).removeprefix("= ")


def degrees(test: Test) -> str:
    """Degrees of freedom as printed; a test with a known spread has none."""
    return "-" if test.df is None else f"{test.df:.4g}"


def concerns(verdict: Verdict) -> list[str]:
    """What stands beside the verdict: how much does not fit, and which logs are not in the numbers."""
    lines = list(verdict.notes)
    if verdict.plan is not None:
        lines.append(verdict.plan.sentence())
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
    if verdict.sequential is not None:
        lines.append("Looks and order were fixed before the first run; the level holds however early it stopped.")
    if verdict.test.df is None:
        own = (
            ""
            if verdict.level_at_own_sd is None
            else f"; were it the true one, the level would be {verdict.level_at_own_sd:.2g}"
        )
        lines.append(f"The spread between runs is known. These runs' own sd is {verdict.sd:.6f}{own}.")
        lines.append(
            "A track may round its critical value: then the bound lies on the threshold only nearly where the rule does."
        )
    if verdict.sota_is == "target":
        lines.append("The target is a fixed number, so there is no noise of a record to count.")
    elif verdict.sota_is == "given":
        lines.append("The SOTA is taken as an exact number: its own noise and its hardware are ignored.")
        if verdict.rerun_at_least is not None and not verdict.control:
            lines.append(
                f"Rerun as a control, with {verdict.n} seeds of this spread, it would count both: the claim would then be "
                f"supported only if the rerun's mean came out at {verdict.rerun_at_least:.8f} or above "
                f"(taken now: {verdict.sota:.8f})."
            )
        elif verdict.control:
            lines.append("The readings against the control count both.")
    else:
        lines.append("The control ran on the same kind of machine as the candidate; its noise counts.")
    if verdict.test.df is not None and verdict.n < 5:
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


def markdown(verdict: Verdict) -> str:
    """The report for a pull request: verdict, numbers and runs first, the rest below."""
    lines = [f"## seedproof: {WORDS[verdict.verdict].lower()}", "", escape.markdown(verdict.reason), ""]
    lines += [f"{escape.markdown(line)}\n" for line in concerns(verdict)]
    lines += markdown_table(("", f"rules {escape.markdown(verdict.rules)}"), facts(verdict))
    if verdict.runs:
        lines += ["", *markdown_table(RUN_COLUMNS, [_escaped(run_cells(result)) for result in verdict.runs])]
    for name, runs in (("Control", verdict.control), ("Verifier", verifiers_runs(verdict))):
        if runs:
            lines += ["", f"### {name}", "", *markdown_table(RUN_COLUMNS, [_escaped(run_cells(run)) for run in runs])]
    if verdict.findings:
        lines += ["", "### Findings", "", *escape.finding_items(verdict.findings)]
    if verdict.also:
        rows = [
            (also.reading, WORDS[also.verdict].lower(), f"{also.test.statistic:.4f}", degrees(also.test),
             plain_p(also.test.p_value), also.assumes)
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
    beside = [printable(line) for line in verdict.notes]
    if verdict.plan is not None and verdict.plan.exact:  # what does not fit is a finding
        beside.append(verdict.plan.sentence())
    return "".join(f"{line}\n" for line in [_headline(verdict, errors), *(f"  {line}" for line in beside),
                                            *(f"  {line}" for line in escape.finding_lines(verdict.findings))])  # fmt: skip


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
