"""Every record folder below a folder, in the order of their dates: does each beat the one that stood before it?

    python -m analysis.leaderboard DIR [--rules NAME|FILE] [--format markdown|csv|json|html] [--output FILE]

A record stands when it has the best mean so far; each later one is tested against it, with the ruleset's margin read in
bpb and in nats. Where the ruleset has a fixed target, each record is tested against that.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import stdev
from typing import Any

import click

from analysis.cli import ExistingPath
from analysis.evidence.gather import LARGEST, SMALLEST, EvidenceError, check_results, gather
from analysis.reading.frame import write_rows
from analysis.reading.result import Result
from analysis.record.claim import Claim, read_claim, submission_file
from analysis.record.discover import record_folders
from analysis.record.fit import mean
from analysis.rules.findings import counts
from analysis.rules.ruleset import METRIC_UNITS, RulesError, Ruleset, load
from analysis.untrusted import escape
from analysis.untrusted.escape import tolerate_any_text
from analysis.untrusted.files import printable_path

CANNOT_TELL = "cannot tell"
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")


@dataclass(frozen=True, slots=True)
class Row:
    """One record folder. mean and sd are in the ruleset's metric, `predecessor` is the record that stood before it."""

    date: str | None
    record: str
    n: int
    mean: float | None = None
    sd: float | None = None
    bytes: int | None = None
    train_time_s: float | None = None
    predecessor: str | None = None
    verdict_bpb: str | None = None
    p_bpb: float | None = None
    verdict_nats: str | None = None
    p_nats: float | None = None
    errors: int = 0
    warnings: int = 0
    infos: int = 0
    why: str | None = None


def leaderboard(directory: Path, rules: Ruleset) -> list[Row]:
    """One row a record folder, oldest first."""
    read = sorted((_read(folder, directory, rules) for folder in record_folders(directory)), key=lambda one: one[0])
    rows: list[Row] = []
    standing: Row | None = None
    for _, row, results in read:
        if row.mean is not None and (rules.target is not None or standing is not None):
            row = _tested(row, results, rules, standing)
        elif row.mean is not None:
            row = replace(row, why=row.why or "the first record: there is none to compare with")
        rows.append(row)
        if row.mean is not None and (standing is None or standing.mean is None or row.mean < standing.mean):
            standing = row
    return rows


def _read(folder: Path, directory: Path, rules: Ruleset) -> tuple[tuple[str, str, str], Row, list[Result]]:
    """(what it is sorted by, the row without a verdict, its runs); a folder that cannot be read is a row that says why."""
    name = printable_path(folder.relative_to(directory) if folder != directory else Path(directory.resolve().name))
    row = Row(None, name, 0)
    results: list[Result] = []
    claim: Claim | None = None
    try:
        files = [Path(folder, name) for name in os.listdir(folder)]
        claim = read_claim(file) if (file := submission_file(files, folder)) and not os.path.islink(file) else None
        evidence = gather([folder], rules)
        results = evidence.results
        number = counts(evidence.findings)
        values = [value for one in results if (value := one.value(rules.metric)) is not None]
        one_metric = len({one.label for one in results}) == 1
        usable = bool(values) and one_metric and all(SMALLEST < value < LARGEST for value in values)
        row = replace(
            row,
            n=len(results),
            mean=mean(values) if usable else None,
            sd=stdev(values) if usable and len(values) > 1 else None,
            bytes=max((one.run.artifact_bytes for one in results if one.run.artifact_bytes is not None), default=None),
            train_time_s=max(
                (one.run.train_time_ms / 1000 for one in results if one.run.train_time_ms is not None), default=None
            ),
            errors=number["error"],
            warnings=number["warning"],
            infos=number["info"],
        )
        if evidence.fault is not None:
            raise EvidenceError(evidence.fault)
        check_results(results, name)
    except (EvidenceError, OSError) as error:
        row = replace(row, why=str(error))
    said = claim.date if claim is not None else None
    found = _DATE.match(folder.resolve().name) or (_DATE.match(said) if said else None)
    row = replace(row, date="-".join(found.groups()) if found else None)
    return (row.date or "", said or "", name), row, results


def _tested(row: Row, results: list[Result], rules: Ruleset, standing: Row | None) -> Row:
    """The row with its verdicts: against the target or, with the margin in both units, against the standing record."""
    from analysis.verdict.decide import decide  # with it scipy, which --help need not wait for

    units = [METRIC_UNITS[rules.metric]] if rules.target is not None else ["bpb", "nats"]
    sota = rules.target if rules.target is not None or standing is None else standing.mean
    said: dict[str, Any] = {} if rules.target is not None or standing is None else {"predecessor": standing.record}
    for unit in units:
        said[f"verdict_{unit}"] = CANNOT_TELL
        if row.why is not None:
            continue
        try:
            verdict = decide(replace(rules, unit=unit), results, [], sota, [])
        except EvidenceError as error:
            said["why"] = str(error)
            continue
        said[f"verdict_{unit}"] = verdict.verdict.replace("_", " ")
        said[f"p_{unit}"] = verdict.test.p_value if verdict.test else None
    return replace(row, **said)


COLUMNS = ("date", "record", "n", "mean", "sd", "bytes", "time", "tested against", "verdict, bpb", "verdict, nats",
           "errors", "warnings", "remarks")  # fmt: skip


def cells(row: Row, rules: Ruleset) -> tuple[str, ...]:
    """A row for people, under COLUMNS; JSON and CSV hold all digits."""
    return (
        row.date or "-", row.record, str(row.n), _number(row.mean, ".6f"), _number(row.sd, ".6f"), _number(row.bytes, ","),
        "-" if row.train_time_s is None else f"{row.train_time_s:.1f} s", row.predecessor or ("target" if rules.target else "-"),
        _verdict(row.verdict_bpb, row.p_bpb), _verdict(row.verdict_nats, row.p_nats), str(row.errors), str(row.warnings),
        escape.printable(row.why or ""),
    )  # fmt: skip


def markdown(rows: list[Row], rules: Ruleset) -> str:
    head = tuple(f"mean {rules.metric}" if name == "mean" else name for name in COLUMNS)
    lines = [head, ("---",) * len(head), *(tuple(escape.markdown(cell) for cell in cells(row, rules)) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    chance = sentence_on_chance(rows, rules)
    return f"{table}\n{chance}\n" if chance else table


def sentence_on_chance(rows: list[Row], rules: Ruleset) -> str | None:
    """What several tests at one level make of it; None where there are fewer than two."""
    tests = sum(getattr(row, f"p_{rules.unit}") is not None for row in rows)
    if tests < 2:
        return None
    return (
        f"{tests} tests at p < {rules.alpha:g}: if no record were better than what it is tested against, one or more "
        f"would pass with a probability of {any_false(rules.alpha, tests):.2g}."
    )


def any_false(alpha: float, tests: int) -> float:
    """The chance that one or more of several true null hypotheses are rejected. Five tests at 1 %: 0.0490."""
    return 1 - (1 - alpha) ** tests


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _verdict(verdict: str | None, p: float | None) -> str:
    from analysis.verdict.verdict import format_p

    return "-" if verdict is None else verdict if p is None else f"{verdict}, p {format_p(p)}"


def _page(rows: list[Row], rules: Ruleset) -> str:
    try:
        from analysis.report.board_page import leaderboard_page
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--format html needs {error.name}: pip install 'seedproof[report]'.") from None
    return leaderboard_page(rows, rules, shlex.join(["python", "-m", "analysis.leaderboard", *sys.argv[1:]]))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=ExistingPath(file_okay=False), metavar="DIR")
@click.option("--rules", default="parameter-golf", show_default=True, help="Ruleset: a name or a TOML file.")
@click.option(
    "--format", "form", type=click.Choice(["markdown", "csv", "json", "html"]), default="markdown", show_default=True
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def main(directory: Path, rules: str, form: str, output: Path | None) -> None:
    """Every record folder below DIR, one row each, each tested against the record that stood before it."""
    tolerate_any_text()
    try:
        ruleset = load(rules)
    except RulesError as error:
        raise click.UsageError(f"--rules: {error}") from None
    rows = leaderboard(directory, ruleset)
    if not rows:
        click.echo(f"No record folder below {directory}: none holds a submission.json or a training log.", err=True)
        raise SystemExit(3)
    try:
        if form in ("csv", "json"):
            write_rows([asdict(row) for row in rows], [column.name for column in fields(Row)], form, output)
            return
        content = markdown(rows, ruleset) if form == "markdown" else _page(rows, ruleset)
        if output is None:
            sys.stdout.write(content)
        else:
            output.write_text(content, encoding="utf-8")
    except OSError as error:
        if output is None:
            raise
        raise click.UsageError(f"--output {output} cannot be written: {error.strerror}.") from None


if __name__ == "__main__":
    main()
