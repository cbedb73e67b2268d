"""What action.yml runs: the gate on every record folder whose evidence a pull request changes.

    SEEDPROOF_PATH=records SEEDPROOF_SOTA=1.2161 SEEDPROOF_BASE=<commit> python -I -m analysis.action

It is configured by environment variables only, and runs in the root of a stranger's checkout. Nothing in the checkout is
executed, and its names and contents are printed escaped. A new record is judged as `analysis.significance check` does; an
earlier one is audited. Several records share a table and the step summary. The exit code is that of the worst.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import click

from analysis.cli import tolerate_any_text
from analysis.evidence.audit import audit
from analysis.record.change.evidence import Standing, Touched
from analysis.record.change.folders import records_to_judge
from analysis.record.change.git import ChangeError, target_of
from analysis.report import gate
from analysis.report.audit import text as audit_text
from analysis.report.grid import text_table
from analysis.report.markdown import audit_markdown, markdown
from analysis.report.said.findings import annotated, finding_items, finding_lines, github_annotations, not_annotated
from analysis.report.sarif import Judged, sarif
from analysis.rules.by_path import INPUT, PathRule, read_path_rules, rules_of
from analysis.rules.findings import ERROR, WARNING, Finding, counts, graded
from analysis.rules.keys import STANDING
from analysis.rules.ruleset import USUAL, Ruleset, known, load
from analysis.significance import check, judged
from analysis.untrusted import escape
from analysis.untrusted.escape import printable, workflow_command
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.answer import REFUSED
from analysis.verdict.board.at_base import NoRecordError, standing_at

MOST_RECORDS = 500
MOST_SUMMARY, MOST_COMMENT = 900_000, 50_000  # bytes; GitHub takes 1 MiB of a summary, 65,536 characters of a comment
OPTIONS = ("sota", "control", "margin", "unit", "alpha")
AUTO = "auto"
NOTHING = "This change adds or changes no record: there is nothing to check."
AUDITED = "audited"
TESTED = (Standing.NEW, Standing.CLAIMS_MORE)
HOW = {
    Standing.NEW: "",
    Standing.CLAIMS_MORE: " an earlier record that claims more now, so it is tested as a new one.",
    Standing.STOOD: " an earlier record, so it is audited and not tested.",
    Standing.REMOVED: " an earlier record that this change removes.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one record comes to. line.verdict: that of the gate, `audited` or `usage`. Findings are below `folder`."""

    code: int
    line: gate.Line
    folder: str
    findings: Sequence[Finding] = ()
    report: str = ""
    commands: Sequence[str] = ()  # for GitHub


class Asked:
    """The inputs of the workflow, and what follows from them. Raises SeedproofError where they cannot be meant."""

    def __init__(self, inputs: Mapping[str, str]) -> None:
        self.inputs = inputs
        self.top = inputs.get("path", "records")
        self.usual = inputs.get("rules", USUAL)
        self.by_path: list[PathRule] = read_path_rules(inputs.get(INPUT, ""))
        self.target = target_of(inputs["base"]) if "base" in inputs else ""
        self.notes: list[str] = []

    def rules_of(self, folder: Path) -> str:
        return rules_of(folder, self.by_path, self.usual)

    def records(self) -> list[Touched]:
        """Return the records to judge. What only moved is new where it comes under other rules."""
        named = {"rules": self.usual} | {f"{INPUT}, {one.glob}": one.rules for one in self.by_path}
        files = {name: value for name, value in named.items() if value not in known()}
        files |= {"control": self.inputs["control"]} if "control" in self.inputs else {}
        touched = [self._by_its_rules(one) for one in records_to_judge(self.top, self.target, files)]
        same = [str(one.folder) for one in touched if one.standing is Standing.UNCHANGED]
        if same:
            more = f" and {len(same) - 3} more" if len(same) > 3 else ""
            self.notes.append(f"Not judged, because the evidence is as before: {', '.join(same[:3])}{more}.")
        touched = [one for one in touched if one.standing is not Standing.UNCHANGED]
        if len(touched) > MOST_RECORDS:
            raise ChangeError(
                f"This change touches {len(touched)} record folders; at most {MOST_RECORDS} are judged at once. Split it."
            )
        return touched

    def _by_its_rules(self, one: Touched) -> Touched:
        other_rules = one.before is not None and self.rules_of(one.before) != self.rules_of(one.folder)
        return replace(one, standing=Standing.NEW) if other_rules and one.standing is not Standing.REMOVED else one

    def options(self, rules: str) -> list[str]:
        """Return the options of `check` for records under these rules.

        The workflow must say what is to be beaten: without it the plan of a sweep, which is its author's, would. Rules
        that a path chose bring their own target where they have one; rules without a test need none.
        """
        given = {name: self.inputs[name] for name in OPTIONS if name in self.inputs}
        ruleset = load(rules)
        if not ruleset.has_test:
            given = {name: value for name, value in given.items() if name not in ("sota", "control")}
            return _as_words({"rules": rules} | given)
        target = ruleset.target if ruleset.against != STANDING else None
        has_own = target is not None and (rules != self.usual or given.get("sota") == AUTO)
        if has_own or not {"sota", "control"} & given.keys():
            if target is None:
                raise ChangeError(
                    "What is to be beaten? Give the standing record's metric as sota (auto takes it from the base commit), "
                    "or its runs as control."
                )
            runs = self._standing_runs(ruleset, rules) if given.get("sota") == AUTO else {}
            given = {name: value for name, value in given.items() if name not in ("sota", "control")} | runs
        elif given.get("sota") == AUTO:
            if not self.target:
                raise ChangeError("sota: auto needs a pull request, whose base commit has the board. Give the number.")
            stood = standing_at(self.target, Path(self.top), ruleset, lambda folder: self.rules_of(folder) == rules)
            self.notes.append(stood.said)
            given = {name: value for name, value in given.items() if name not in ("sota", "control")}
            given |= {"sota": repr(stood.sota)} if stood.control is None else {"control": str(stood.control)}
        return _as_words({"rules": rules} | given)

    def _standing_runs(self, ruleset: Ruleset, rules: str) -> dict[str, str]:
        """Return the standing record's runs as the control of further criteria; nothing before the first record stands."""
        if not self.target or not ruleset.asks_for_runs:
            return {}
        try:
            stood = standing_at(self.target, Path(self.top), ruleset, lambda folder: self.rules_of(folder) == rules)
        except NoRecordError:
            return {}
        self.notes.append(f"The runs to beat by {ruleset.name}: those of {stood.control}.")
        return {"control": str(stood.control)}


def _as_words(options: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def main() -> NoReturn:
    tolerate_any_text()
    names = (*OPTIONS, "path", "base", "rules", INPUT)
    inputs = {name: value for name in names if (value := os.environ.get(f"SEEDPROOF_{name.upper()}"))}
    try:
        asked = Asked(inputs)
        touched = asked.records()
        needed = dict.fromkeys(asked.rules_of(one.folder) for one in touched if one.standing in TESTED)
        options = {rules: asked.options(rules) for rules in needed}
    except SeedproofError as error:
        finish([refused(error, inputs.get("path", "records"))], [])
    for note in (*asked.notes, *([] if touched else [NOTHING])):
        print(workflow_command("notice", note, title="seedproof"), flush=True)
    finish([outcome_of(one, asked.rules_of(one.folder), options) for one in touched], asked.notes)


def outcome_of(one: Touched, rules: str, options: Mapping[str, list[str]]) -> Outcome:
    """Judge one record, and print what `check` or `audit` prints."""
    print(f"Record {printable(str(one.folder))}:{HOW[one.standing]}", flush=True)
    gone = graded(one.gone, load(rules).findings)
    try:
        if one.standing is Standing.REMOVED:
            return removed(one, gone)
        return tested(one, options[rules], gone) if one.standing in TESTED else audited(one, rules, gone)
    except (SeedproofError, click.ClickException) as error:
        return refused(error, str(one.folder))


def tested(one: Touched, options: list[str], gone: Sequence[Finding]) -> Outcome:
    """Test a claim as `check` does."""
    where = str(one.folder)
    with check.make_context("seedproof", [*options, "--", where]) as context:
        verdict = judged(**{name: value for name, value in context.params.items() if name != "form"})
    verdict = replace(verdict, findings=(*gone, *verdict.findings))
    print(gate.gate(verdict), end="", flush=True)
    line = gate.Line(
        record=where,
        verdict=verdict.gate,
        gain=None if verdict.gain is None else verdict.gain.mean,
        p_value=verdict.test.p_value if verdict.test is not None else None,
        errors=verdict.errors,
        warnings=counts(verdict.findings)[WARNING],
    )
    return Outcome(
        code=verdict.gate_code,
        line=line,
        folder=where,
        findings=verdict.findings,
        report=markdown(verdict, where),
        commands=gate.workflow_commands(verdict, where),
    )


def audited(one: Touched, rules: str, gone: Sequence[Finding]) -> Outcome:
    """Audit an earlier record."""
    where = str(one.folder)
    found = audit([one.folder], rules)
    found = replace(found, findings=(*gone, *found.findings))
    print(audit_text(found), end="", flush=True)
    return of_findings(where, where, found.findings, audit_markdown(found, where))


def removed(one: Touched, gone: Sequence[Finding]) -> Outcome:
    """Say that a record is gone."""
    where = str(one.folder)
    print("".join(f"  {line}\n" for line in finding_lines(gone)), end="", flush=True)
    report = "\n\n".join([f"## seedproof: removed, {escape.markdown(where)}", *finding_items(gone)]) + "\n"
    return of_findings(where, "", gone, report)


def of_findings(where: str, folder: str, findings: Sequence[Finding], report: str) -> Outcome:
    number = counts(findings)
    verdict = REFUSED if number[ERROR] else AUDITED
    line = gate.Line(record=where, verdict=verdict, errors=number[ERROR], warnings=number[WARNING])
    commands = github_annotations(findings, folder)
    return Outcome(
        code=min(number[ERROR], 1), line=line, folder=folder, findings=findings, report=report, commands=commands
    )


def refused(error: SeedproofError | click.ClickException, where: str) -> Outcome:
    """Say why nothing could be judged."""
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    print(f"Refused: {printable(said)}", flush=True)
    command = workflow_command("error", said, title="seedproof")
    verdict = "usage" if error.exit_code == 2 else "unusable"
    report = f"## seedproof: {verdict}, {escape.markdown(where)}\n\n{escape.markdown(said)}\n"
    line = gate.Line(record=where, verdict=verdict)
    return Outcome(code=error.exit_code, line=line, folder=where, report=report, commands=[command])


def finish(outcomes: Sequence[Outcome], notes: Sequence[str]) -> NoReturn:
    """Print the table of several records, write the summary and the action's outputs, and exit."""
    outcomes = sorted(outcomes, key=lambda one: -one.code)  # stable: the worst first
    lines, reports = [one.line for one in outcomes], [one.report for one in outcomes]
    commands = [command for one in outcomes for command in one.commands]
    print("".join(f"{line}\n" for line in annotated(commands, len(notes))), end="", flush=True)
    said = [*notes, *not_annotated(len(notes) + len(commands))]
    if len(lines) > 1:
        print("\n".join([f"{len(lines)} records, the worst first:", *text_table(gate.table_of(lines))]), flush=True)
    worst = lines[0] if lines else gate.Line(record="", verdict="none")
    outputs = {"verdict": worst.verdict, "p_value": "" if worst.p_value is None else repr(worst.p_value)}
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        write(summary, gate.document(lines, reports, said, MOST_SUMMARY))
    if folder := os.environ.get("RUNNER_TEMP"):
        outputs |= {"sarif": os.path.join(folder, "seedproof.sarif"), "markdown": os.path.join(folder, "seedproof.md")}
        records = [Judged(folder=one.folder, said=one.line.verdict, findings=one.findings) for one in outcomes]
        write(outputs["sarif"], sarif(records), "w")
        write(outputs["markdown"], gate.document(lines, reports, notes, MOST_COMMENT) or f"{NOTHING}\n", "w")
    if path := os.environ.get("GITHUB_OUTPUT"):
        write(path, "".join(f"{name}={value}\n" for name, value in outputs.items()))
    raise SystemExit(max((one.code for one in outcomes), default=0))


def write(path: str, content: str, mode: str = "a") -> None:
    with open(path, mode, encoding="utf-8", errors="backslashreplace") as file:
        file.write(content)


if __name__ == "__main__":
    main()
