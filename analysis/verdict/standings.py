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
from analysis.rules.ruleset import METRIC_UNITS, Ruleset
from analysis.stats.fixed import Sample, critical_t, welch_t
from analysis.untrusted.files import printable_path
from analysis.untrusted.refusal import EvidenceError, SeedproofError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A row before it is tested, its runs, and the date that its submission JSON claims."""

    row: Row
    runs: tuple[Result, ...]
    claimed_date: str | None


def leaderboard(directory: Path, rules: Ruleset) -> list[Row]:
    """Return one row a record folder, oldest first. A folder that cannot be read is a row that says why."""
    entries = [_read(folder, directory, rules) for folder in record_folders(directory)]
    entries.sort(key=lambda one: (one.row.date or "", one.claimed_date or "", one.row.record))
    rows: list[Row] = []
    standing: Row | None = None
    for entry in entries:
        row = entry.row if entry.row.mean is None else replace(entry.row, **_tests(entry, rules, standing))
        rows.append(row)
        standing = best_of([row] if standing is None else [standing, row])
    return rows


def best_of(rows: Iterable[Row]) -> Row | None:
    """Return the record with the lowest mean, the earlier one of two; None if no record has a mean."""
    return min((row for row in rows if row.mean is not None), key=lambda row: row.mean or 0.0, default=None)


def _read(folder: Path, directory: Path, rules: Ruleset) -> _Entry:
    name = printable_path(folder.relative_to(directory) if folder != directory else Path(directory.resolve().name))
    row, claimed_date = Row(record=name), None
    runs: tuple[Result, ...] = ()
    try:
        claimed_date = _claimed_date(folder)
        gathered = gather([folder], rules)
        row, runs = _row(name, gathered, rules), gathered.runs
        if gathered.fault is not None:
            raise EvidenceError(gathered.fault)
        check_results(runs, name)
    except (SeedproofError, OSError) as error:
        row = replace(row, why=str(error))
    found = _DATE.match(folder.resolve().name) or _DATE.match(claimed_date or "")
    row = replace(row, date="-".join(found.groups()) if found else None)
    return _Entry(row=row, runs=runs, claimed_date=claimed_date)


def _claimed_date(folder: Path) -> str | None:
    file = submission_file([Path(folder, name) for name in os.listdir(folder)], folder)
    return None if file is None or os.path.islink(file) else read_claim(file).date


def _row(name: str, gathered: Gathered, rules: Ruleset) -> Row:
    """Return what was read as a row. Runs of different metrics, or broken ones, have no mean."""
    runs, number = gathered.runs, counts(gathered.findings)
    values = [value for run in runs if (value := run.value(rules.metric)) is not None]
    one_metric = len({run.label for run in runs}) == 1
    usable = bool(values) and one_metric and all(SMALLEST < value < LARGEST for value in values)
    times = [run.run.train_time_ms / 1000 for run in runs if run.run.train_time_ms is not None]
    return Row(
        record=name,
        n=len(runs),
        mean=mean(values) if usable else None,
        sd=stdev(values) if usable and len(values) > 1 else None,
        bytes=max((run.run.artifact_bytes for run in runs if run.run.artifact_bytes is not None), default=None),
        train_time_s=max(times, default=None),
        errors=number[ERROR],
        warnings=number[WARNING],
        infos=number[INFO],
    )


def _tests(entry: _Entry, rules: Ruleset, standing: Row | None) -> dict[str, Any]:
    """Return the columns of a row's tests: against the target, else against the standing record in both units."""
    row, tested = entry.row, dict[str, Any]()
    sota, units = rules.target, [METRIC_UNITS[rules.metric]]
    if sota is None:
        if standing is None:
            return {"why": row.why or "the first record: there is nothing to compare it with"}
        sota, units = standing.mean, ["bpb", "nats"]
        tested["predecessor"] = standing.record
    for unit in units:
        own = replace(rules, unit=unit)
        verdict = decide(Case(rules=own, where=row.record, runs=entry.runs, sota=sota, fault=row.why))
        said = verdict.verdict.replace("_", " ")
        if verdict.verdict is UNUSABLE:
            said, tested["why"] = CANNOT_TELL, verdict.reason
        tested |= {f"verdict_{unit}": said, f"p_{unit}": verdict.test.p_value if verdict.test is not None else None}
    return tested


# -- statistics of a board ---------------------------------------------------------------------------------------------


def sample(row: Row) -> Sample | None:
    """Return a record's runs as a sample; None where they have no spread."""
    return None if row.mean is None or not row.sd else Sample(row.n, row.mean, row.sd)


def is_tied(row: Row, best: Row, alpha: float) -> bool:
    """Return whether a record's mean and the best one's may be the same, by Welch's two-sided test; the best ties with itself."""
    if row is best:
        return True
    one, other = sample(row), sample(best)
    if one is None or other is None:
        return False
    p = welch_t(other, one, 0.0).p_value
    return 2 * min(p, 1 - p) >= alpha


def tied_for_best(rows: Sequence[Row], alpha: float) -> list[Row]:
    """Return the best record, then those that are tied with it."""
    best = best_of(rows)
    return [] if best is None else [best, *(row for row in rows if row is not best and is_tied(row, best, alpha))]


def half_width(row: Row, alpha: float) -> float | None:
    """Return half the width of the two-sided confidence interval at 1 - alpha; None for a single run."""
    known = sample(row)
    return None if known is None else critical_t(known.n - 1, alpha / 2) * known.sd / known.n**0.5


def any_false(alpha: float, tests: int) -> float:
    """Return the chance that one or more of several true null hypotheses are rejected. Five tests at 1 %: 0.0490."""
    return 1 - (1 - alpha) ** tests
