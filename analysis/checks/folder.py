"""What does not fit in a record folder, or in single logs.

Each check looks at the claimed runs alone, so a folder may hold older logs. A fact that a log does not print is unknown and
never held against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.checks.caps import check_files, check_stated, check_told
from analysis.checks.claim import check_claim
from analysis.checks.consistent import NEWLINE_BYTES
from analysis.checks.left_out import check_left_out
from analysis.checks.runs import check_runs
from analysis.checks.unread import check_unread
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.record.selection import Claimed, Selection, with_training
from analysis.rules.findings import Code, Finding, Found, Place, Raised, graded
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import FileError, read_bounded

STUB_BYTES = 200


def audit(record: Record, selection: Selection, rules: Ruleset) -> list[Finding]:
    """Return every finding on a record folder or on single logs, errors first."""
    raised = _runs_and_logs(record, selection, rules)
    raised += check_told(selection.claimed, rules)
    if record.base is not None:
        raised += check_files(record, selection.claimed, rules)
        raised += _shipped(record, selection)
        if rules.submission == "required":
            raised += _submission(record)
    raised += check_left_out(selection)
    raised += check_unread(record)
    if record.claim is not None and record.claim.fault is None:
        raised += check_claim(record, record.claim, selection, rules)
        raised += check_stated(record.claim, rules, record.shown(record.claim.file))
    return graded(raised, rules.findings)


def audit_control(record: Record, selection: Selection, rules: Ruleset) -> list[Finding]:
    """Return the findings on a control's runs; what its folder claims or lacks does not matter."""
    return graded(_runs_and_logs(record, selection, rules), rules.findings)


def _runs_and_logs(record: Record, selection: Selection, rules: Ruleset) -> list[Found]:
    return [*_logs(record, selection, rules), *check_runs(selection.claimed, rules)]


# -- the logs ----------------------------------------------------------------------------------------------------------


def _logs(record: Record, selection: Selection, rules: Ruleset) -> Raised:
    """Check that there are logs, and that each was read and holds one finished run."""
    if not record.logs and not record.empty:
        yield Found(
            code=Code.NO_LOGS,
            at=Place("." if record.base else record.shown(record.paths[0])),
            found="no training log (*.log, *.txt with steps or a final metric)",
            expected="one for each seed",
            do="Add them.",
        )
    for log, line in selection.incomplete:
        yield Found(
            code=Code.NO_FINAL_METRIC,
            at=Place(record.shown(log), line),
            found="no line with a final metric",
            expected=rules.result_line,
            do="Let the run finish, or remove the log and say why.",
        )
    for aside in record.listing.left_aside:
        yield Found(
            code=Code.FILE_NOT_READ,
            at=Place(record.shown(aside.path)),
            found=f"that it {aside.why}",
            expected="a file that can be read",
            do="Put the file itself here, or remove the name.",
        )
    for log, copy in record.copies.items():
        yield Found(
            code=Code.DUPLICATE_LOG,
            at=Place(record.shown(log)),
            found=f"the same run as in {record.shown(copy.original)}",
            do="It is counted once: nothing to do.",
        )
    for log in dict.fromkeys(one.run.log for one in selection.claimed):
        yield from several_runs(record.shown(log), record.logs.get(log, []))


def several_runs(log: str, runs: Sequence[Run]) -> Raised:
    """Check that a log, given as printed, holds one run."""
    trained = [run for run in runs if run.trained]
    if len(trained) > 1:
        yield Found(
            code=Code.SEVERAL_RUNS_IN_LOG,
            at=Place(log, trained[1].line),
            found=f"{len(trained)} runs in one log",
            expected="one",
            do="The run that the claim fits counts, else the last one. Keep one log for each run.",
        )


# -- the files of a submission -----------------------------------------------------------------------------------------


def _submission(record: Record) -> Raised:
    """Check that the folder holds what a submission must."""
    top = [path for path in record.listing.files if path.parent == record.base]
    if record.claim is None:
        yield _missing("no submission.json", "one with name, author, date, val_bpb and bytes_total")
    elif record.claim.fault is not None:
        yield Found(
            code=Code.MISSING_FILE,
            at=Place(record.shown(record.claim.file)),
            found=f"that it {record.claim.fault}",
            expected="one JSON object",
            do="Correct it.",
        )
    if not any(path.name.lower().startswith("readme") for path in top):
        yield _missing("no README", "one that says what was changed and how it was run")
    if not any(path.suffix == ".py" for path in record.listing.files):
        yield _missing("no training script (*.py)", "the one that made the logs")
    scripts = [path for path in top if path.suffix == ".py"]
    for path in scripts:
        size = _size(path)
        if ("train" in path.name or len(scripts) == 1) and size is not None and size < STUB_BYTES:
            yield Found(
                code=Code.SCRIPT_STUB,
                at=Place(record.shown(path)),
                found=f"a script of {size} bytes",
                expected=f"the program that made the logs ({STUB_BYTES} bytes at least)",
                do="Ship it.",
            )


def _missing(found: str, expected: str) -> Found:
    return Found(code=Code.MISSING_FILE, at=Place("."), found=found, expected=expected, do="Add it.")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Script:
    """A shipped script: its size without carriage returns, which a checkout may add, and its digest without blank ends."""

    size: int
    digest: bytes


def _shipped(record: Record, selection: Selection) -> Raised:
    """Check printed code sizes and embedded sources against the files of the folder."""
    scripts = [path for path in record.listing.files if path.suffix == ".py"]
    if not scripts:
        return
    shipped = [script for path in scripts if (script := _script(path)) is not None]
    sizes = {size for path in record.listing.files if (size := _size(path)) is not None and path not in record.logs}
    sizes |= {script.size for script in shipped}
    digests = {script.digest for script in shipped}
    for one in selection.claimed:
        yield from _code_size(one, sizes)
        source = one.run.source
        if source is not None and hashlib.sha256(source.text.strip()).digest() not in digests:
            yield Found(
                code=Code.SOURCE_NOT_SHIPPED,
                at=one.at(one.run.line),
                found=f"an embedded source of {source.size_bytes} bytes that is none of the shipped scripts",
                expected="one of them",
                do="Ship the script that ran.",
            )


def _code_size(one: Claimed, sizes: set[int]) -> Raised:
    printed = [size for size in (with_training(one).code_bytes, one.training.unpacked_code_bytes) if size is not None]
    if printed and not any(abs(size - known) <= NEWLINE_BYTES for size in printed for known in sizes):
        yield Found(
            code=Code.CODE_SIZE_UNMATCHED,
            at=one.at(one.metric.line),
            found=f"a code size of {printed[0]} bytes",
            expected="that of a shipped file",
            do="Ship the script that ran.",
        )


def _script(path: Path) -> _Script | None:
    try:
        content = read_bounded(path).replace(b"\r\n", b"\n")
    except FileError:
        return None
    return _Script(size=len(content), digest=hashlib.sha256(content.strip()).digest())
