"""What does not fit in a record folder, or in single logs.

Each check looks at the claimed runs alone, so a folder may hold older logs. A fact that a log does not print is unknown and
never held against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.checks.attempts import check_attempts
from analysis.checks.caps import check_files, check_stated, check_told
from analysis.checks.claim import check_claim, check_statements
from analysis.checks.left_out import check_left_out, check_unread
from analysis.checks.pairs import check_pairs
from analysis.checks.runs import check_runs
from analysis.reading.result import Attempts
from analysis.reading.run import Run
from analysis.reading.source import NEWLINE_BYTES, Source, has_size
from analysis.record.folder import Record, attempts_in
from analysis.record.metrics import is_trial, unread_names
from analysis.record.selection import Claimed, Selection, with_training
from analysis.record.stated.compare import statements
from analysis.record.stated.said import Statement
from analysis.rules.findings import Code, Finding, Place, Raised, each_once, graded
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import SweepError
from analysis.sweepdir.plan import plan_beside
from analysis.untrusted.files import FileError, read_bounded

STUB_BYTES = 200
MOST_SCRIPTS = 20  # shipped ones that a printed code size is compared with in every way


def audit(
    record: Record,
    selection: Selection,
    rules: Ruleset,
    claims: Sequence[Statement] | None = None,
) -> list[Finding]:
    """Return every finding on a record folder or on single logs, errors first.

    claims: as `statements` returns them.
    """
    raised = [*_all(record, selection, rules), *check_left_out(record, selection)]
    claims = statements(record, selection, rules) if claims is None else claims
    return graded([*raised, *check_statements(claims, raised, rules)], rules.findings)


def audit_control(record: Record, selection: Selection, rules: Ruleset) -> list[Finding]:
    """Return the findings on a control's runs; what its folder claims or lacks does not matter."""
    return graded(_logs_and_runs(record, selection, rules), rules.findings)


def _all(record: Record, selection: Selection, rules: Ruleset) -> Raised:
    yield from _logs_and_runs(record, selection, rules)
    yield from check_told(selection.claimed, rules)
    yield from check_unread(record, selection)
    if record.claim is not None:
        attempts, file = attempts_in(record, rules), record.shown(record.claim.file)
        yield from check_attempts(attempts, rules, file)
        yield from _pairs(record, selection, attempts, file)
    if record.base is not None:
        yield from check_files(record, selection.claimed, rules)
        yield from each_once(_shipped(record, selection))
        if rules.submission == "required":
            yield from _submission(record)
    if record.claim is not None and record.claim.fault is None:
        yield from check_claim(record, record.claim, selection, rules)
        yield from check_stated(record.claim, rules, record.shown(record.claim.file))


def _logs_and_runs(record: Record, selection: Selection, rules: Ruleset) -> Raised:
    """Check that there are logs, that each was read and holds one finished run, and the claimed runs themselves."""
    if not record.logs and not record.empty:
        found = "no training log (*.log, *.txt with steps or a final metric)"
        at = Place("." if record.base else record.shown(record.paths[0]))
        yield at.has(Code.NO_LOGS, found, expected="one for each seed")
    for log, line in selection.incomplete.items():
        at = Place(record.shown(log), line)
        do = None
        if isinstance(rules.at_step, int):
            do = "Name a step at which every run validates with --at-step."
        elif any(unread_names(run, rules) for run in record.logs.get(log, ())):
            do = "It has numbers of other names: name one with --metric, or print what the rules read."
        yield at.has(Code.NO_FINAL_METRIC, "no line with a final metric", expected=rules.result_line, do=do)
    for aside in record.listing.left_aside:
        at = Place(record.shown(aside.path))
        yield at.has(Code.FILE_NOT_READ, f"that it {aside.why}", expected="a file that can be read")
    for log, copy in record.copies.items():
        at = Place(record.shown(log))
        yield at.has(Code.DUPLICATE_LOG, f"the same run as in {record.shown(copy.original)}")
    for log in dict.fromkeys(one.run.log for one in selection.claimed):
        yield from several_runs(
            record.shown(log), [run for run in record.logs.get(log, []) if not is_trial(run, rules)]
        )
    yield from check_runs(selection.claimed, rules)


def several_runs(log: str, runs: Sequence[Run]) -> Raised:
    """Check that a log, given as printed, holds one run."""
    trained = [run for run in runs if run.trained]
    if len(trained) > 1:
        at = Place(log, trained[1].line)
        yield at.has(Code.SEVERAL_RUNS_IN_LOG, f"{len(trained)} runs in one log", expected="one")


def _pairs(record: Record, selection: Selection, attempts: Attempts, file: str) -> Raised:
    """Check the pairs of the folder's plan, by the attempts that its claim lists."""
    with suppress(SweepError):  # a plan that was changed is refused as such
        if record.base is not None and (plan := plan_beside(record.base)) is not None:
            yield from check_pairs(
                plan, {one.run.seed for one in selection.claimed if one.run.seed is not None}, attempts, file
            )


def _submission(record: Record) -> Raised:
    """Check that the folder holds what a submission must."""
    top, here = [path for path in record.listing.files if path.parent == record.base], Place(".")
    if record.claim is None:
        expected = "one with name, author, date, val_bpb and bytes_total"
        yield here.has(Code.MISSING_FILE, "no submission.json", expected=expected)
    elif record.claim.fault is not None:
        found = f"that it {record.claim.fault}"
        yield record.claim.at(1).has(Code.MISSING_FILE, found, expected="one JSON object", do="Correct it.")
    if not any(path.name.lower().startswith("readme") for path in top):
        expected = "one that says what was changed and how it was run"
        yield here.has(Code.MISSING_FILE, "no README", expected=expected)
    if not any(path.suffix == ".py" for path in record.listing.files):
        yield here.has(Code.MISSING_FILE, "no training script (*.py)", expected="the one that made the logs")
    scripts = [path for path in top if path.suffix == ".py"]
    for path in scripts:
        size = _size(path)
        if ("train" in path.name or len(scripts) == 1) and size is not None and size < STUB_BYTES:
            expected = f"the program that made the logs ({STUB_BYTES} bytes at least)"
            yield Place(record.shown(path)).has(Code.SCRIPT_STUB, f"a script of {size} bytes", expected=expected)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _shipped(record: Record, selection: Selection) -> Raised:
    """Check printed code sizes and embedded sources against the files of the folder."""
    contents = []
    for path in record.listing.files:
        if path.suffix == ".py":
            try:
                contents.append(read_bounded(path).replace(b"\r\n", b"\n"))  # a checkout may add carriage returns
            except FileError as error:
                yield Place(record.shown(path)).has(Code.FILE_NOT_READ, f"that it {error}", expected="a script")
    if not any(path.suffix == ".py" for path in record.listing.files):
        return
    sizes = {size for path in record.listing.files if path not in record.logs and (size := _size(path)) is not None}
    sizes |= {len(content) for content in contents} | {sum(map(len, contents))}
    programs = [Source(content) for content in contents[:MOST_SCRIPTS]]
    digests = {_digest(content) for content in contents}
    for one in selection.claimed:
        source = one.run.source
        own = [] if source is None else [source]
        if (
            source is not None
            and _digest(source.text) not in digests
            and not set(map(_digest, source.files)) <= digests
        ):
            found = f"an embedded source of {source.size_bytes} bytes that is none of the shipped scripts"
            yield one.at(one.run.line).has(Code.SOURCE_NOT_SHIPPED, found, expected="one of them")
            own = []
        printed = _code_sizes(one)
        exact = any(abs(size - known) <= NEWLINE_BYTES for size in printed for known in sizes)
        if printed and not exact and not any(has_size(program, size) for size in printed for program in own + programs):
            found = f"a code size of {printed[0]} bytes"
            yield one.at(one.metric.line).has(Code.CODE_SIZE_UNMATCHED, found, expected="that of a shipped file")


def _digest(program: bytes) -> bytes:
    return hashlib.sha256(program.strip()).digest()


def _code_sizes(one: Claimed) -> list[int]:
    return [size for size in (with_training(one).code_bytes, one.training.unpacked_code_bytes) if size is not None]
