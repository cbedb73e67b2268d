"""The records of a board, each read again and judged against what stood before it: the verdict behind a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.checks.plan import Planned, compare
from analysis.evidence.claims import with_tests
from analysis.evidence.make import with_attempts
from analysis.reading.result import Result
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import SweepError, is_sweep
from analysis.sweepdir.plan import plan_beside, read_plan
from analysis.untrusted.files import one_budget
from analysis.untrusted.refusal import EvidenceError
from analysis.verdict.annotate import annotate
from analysis.verdict.board.judged import FIRST, Read, case_of, has_fixed_target, read
from analysis.verdict.board.row import Row
from analysis.verdict.board.standings import RecordFolder, found_records
from analysis.verdict.judge import decide
from analysis.verdict.stop_step import at_its_step
from analysis.verdict.verdict import Verdict, unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A record's verdict on the board. folder: where it is; before: the runs of the record that stood."""

    folder: Path
    verdict: Verdict
    before: tuple[Result, ...]


def judged_again(
    directory: Path, rows: Sequence[Row], rules: Ruleset, tell: Callable[[int, int, str], None]
) -> Iterator[Again]:
    """Yield the verdict of every row of a board, in the rows' order. Raises EvidenceError if the folders have changed."""
    found = found_records(directory)
    if [one.row.record for one in found] != [row.record for row in rows]:
        raise EvidenceError(f"Record folders below {directory} came or went while they were read. Try again.")
    folders = {one.row.record: one for one in found}
    known = {row.record: row for row in rows}
    standing: Read | None = None
    for number, (one, row) in enumerate(zip(found, rows, strict=True)):
        tell(number, len(rows), row.record)
        own = read(one.folder, one.row, rules)
        if row.predecessor is None:
            standing = None
        elif standing is None or standing.row.record != row.predecessor:
            before = folders[row.predecessor]
            standing = replace(read(before.folder, before.row, rules), row=known[row.predecessor])
        verdict = _verdict(one, own, row, rules, standing)
        yield Again(folder=one.folder, verdict=verdict, before=() if standing is None else standing.runs)


def _verdict(found: RecordFolder, own: Read, row: Row, rules: Ruleset, standing: Read | None) -> Verdict:
    """Return the verdict behind a row, with all that was found in the folder and what only a verdict shows."""
    gathered = own.gathered
    case = replace(case_of(own, rules, standing), **gathered.told)
    with one_budget():
        case = replace(with_attempts(case, gathered), plan=_plan(found.folder, own))
        if case.fault is None and not has_fixed_target(rules) and standing is None:
            return replace(unusable(case, FIRST), mean=row.mean, sd=row.sd)
        case = at_its_step(with_tests(case))
        return annotate(case, decide(case))


def _plan(folder: Path, own: Read) -> Planned | None:
    """Return how the runs keep to the record's plan. What it planned to beat is not what the board tests against."""
    try:
        plan = read_plan(folder) if is_sweep(folder) else plan_beside(folder)
        if plan is None:
            return None
        return compare(plan, folder, own.runs + own.gathered.control, own.gathered.seeds_aside, ())
    except SweepError:
        return None
