"""The rows of a leaderboard: every record folder below a folder, oldest first, each tested against the best before it.

All folders are assumed accepted: a record stands when it has the best mean so far, whatever was found in it. The margin
is read in bpb and in nats. Where the ruleset has a fixed target, each record is tested against that alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from analysis.evidence.case import Case
from analysis.evidence.gather import Gathered, gather
from analysis.evidence.usable import LARGEST, SMALLEST, check_results
from analysis.reading.result import Result
from analysis.record.claim import read_claim, submission_file
from analysis.record.discover import record_folders
from analysis.record.fit import mean
from analysis.rules.findings import ERROR, INFO, WARNING, counts
from analysis.rules.metrics import UNITS as METRIC_UNITS
from analysis.rules.ruleset import Ruleset
from analysis.stats.fixed import Sample, critical_t, welch_t
from analysis.untrusted.files import one_budget, printable_path
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError
from analysis.verdict.judge import decide
from analysis.verdict.verdict import UNUSABLE

CANNOT_TELL = "cannot tell"
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record folder. mean and sd are in the ruleset's metric, `predecessor` is the record that stood before it."""

    date: str | None = None
    record: str
    n: int = 0
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
    """Return one row a record folder, oldest first. A folder that cannot be read is a row that says why."""
    if not rules.has_test:
        raise UsageError(f"--rules {rules.name} has no test, and a board tests each record. Name rules that have.")
    folders = {folder: _dated(folder, directory) for folder in record_folders(directory)}
    rows: list[Row] = []
    standing: Row | None = None
    for folder, dated in sorted(folders.items(), key=lambda item: item[1]):
        rows.append(_row(folder, Row(date=dated[0] or None, record=dated[-1]), rules, standing))
        standing = best_of(rows)
    return rows


def best_of(rows: Iterable[Row]) -> Row | None:
    """Return the record with the lowest mean, the earlier one of two; None if no record has a mean."""
    return min((row for row in rows if row.mean is not None), key=lambda row: row.mean or 0.0, default=None)


def _dated(folder: Path, directory: Path) -> tuple[str, str, str]:
    """Return what a record is sorted by: the date of its name or else of its claim, the claimed one, and its name."""
    entries = list(folder.iterdir()) if os.access(folder, os.R_OK) and folder.is_dir() else []  # the row says why
    file = submission_file(entries, folder)
    claimed = (read_claim(file).date if file is not None and not file.is_symlink() else None) or ""
    found = _DATE.match(folder.resolve().name) or _DATE.match(claimed)
    name = printable_path(folder.relative_to(directory) if folder != directory else Path(directory.resolve().name))
    return "-".join(found.groups()) if found else "", claimed, name


def _row(folder: Path, row: Row, rules: Ruleset, standing: Row | None) -> Row:
    """Return the row with what is in the folder, and tested."""
    runs: tuple[Result, ...] = ()
    try:
        with one_budget():
            gathered = gather([folder], rules)
        row, runs = _filled(row, gathered, rules), gathered.runs
        if gathered.fault is not None:
            raise EvidenceError(gathered.fault)
        check_results(runs, row.record)
    except (SeedproofError, OSError) as error:
        row = replace(row, why=str(error))
    return row if row.mean is None else replace(row, **_tests(row, runs, rules, standing))


def _filled(row: Row, gathered: Gathered, rules: Ruleset) -> Row:
    """Return the row with what was read. Runs of different metrics, or broken ones, have no mean."""
    runs, number = gathered.runs, counts(gathered.findings)
    values = [value for run in runs if (value := run.value(rules.metric)) is not None]
    one_metric = len({run.label for run in runs}) == 1
    usable = bool(values) and one_metric and all(SMALLEST < value < LARGEST for value in values)
    times = [run.run.train_time_ms / 1000 for run in runs if run.run.train_time_ms is not None]
    return replace(
        row,
        n=len(runs),
        mean=mean(values) if usable else None,
        sd=stdev(values) if usable and len(values) > 1 else None,
        bytes=max((run.run.artifact_bytes for run in runs if run.run.artifact_bytes is not None), default=None),
        train_time_s=max(times, default=None),
        errors=number[ERROR],
        warnings=number[WARNING],
        infos=number[INFO],
    )


def _tests(row: Row, runs: tuple[Result, ...], rules: Ruleset, standing: Row | None) -> dict[str, Any]:
    """Return the columns of a row's tests: against the target, else against the standing record in both units."""
    tested = dict[str, Any]()
    sota, units = rules.target, [METRIC_UNITS[rules.metric]]
    if sota is None:
        if standing is None:
            return {"why": row.why or "the first record: there is nothing to compare it with"}
        sota, units = standing.mean, ["bpb", "nats"]
        tested["predecessor"] = standing.record
    for unit in units:
        own = replace(rules, unit=unit)
        verdict = decide(Case(rules=own, where=row.record, runs=runs, sota=sota, fault=row.why))
        said = verdict.verdict.replace("_", " ")
        if verdict.verdict is UNUSABLE:
            said, tested["why"] = CANNOT_TELL, verdict.reason
        tested |= {f"verdict_{unit}": said, f"p_{unit}": verdict.test.p_value if verdict.test is not None else None}
    return tested


def sample(row: Row) -> Sample | None:
    """Return a record's runs as a sample; None where they have no spread."""
    return None if row.mean is None or not row.sd else Sample(row.n, row.mean, row.sd)


def tied_for_best(rows: Sequence[Row], alpha: float) -> list[Row]:
    """Return the best record, then those whose mean may be the same by Welch's two-sided test."""
    best = best_of(rows)
    if best is None:
        return []
    tied, best_runs = [best], sample(best)
    for row in rows:
        runs = sample(row)
        if row is not best and runs is not None and best_runs is not None:
            p = welch_t(best_runs, runs, 0.0).p_value
            if 2 * min(p, 1 - p) >= alpha:
                tied.append(row)
    return tied


def half_width(row: Row, alpha: float) -> float | None:
    """Return half the width of the two-sided confidence interval at 1 - alpha; None for a single run."""
    known = sample(row)
    return None if known is None else critical_t(known.n - 1, alpha / 2) * known.sd / known.n**0.5
