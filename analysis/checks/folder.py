"""The checks: what does not fit in a record, as (code, file, line, sentence).

A sentence says what was found, what was expected and what to do. Each check looks at the claimed runs alone, so that a
folder may hold older logs; a fact that a log does not print is unknown and never held against it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from analysis.checks.claim import check_claim
from analysis.checks.runs import NEWLINE_BYTES, check_runs
from analysis.reading.run import Run
from analysis.record.folder import Record
from analysis.record.selection import Selection, with_training
from analysis.rules.findings import Finding, Raised, graded
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import FileError, read_bounded

STUB_BYTES = 200


def audit(record: Record, selection: Selection, rules: Ruleset) -> list[Finding]:
    """Every finding on one record folder (or on single logs), errors first."""
    raised = _runs_and_logs(record, selection, rules)
    if record.base is not None:
        raised += _shipped(record, selection)
        if rules.submission == "required":
            raised += _submission(record)
    if record.claim is not None and record.claim.fault is None:
        raised += check_claim(record, record.claim, selection, rules)
    return graded(raised, rules.findings)


def audit_control(record: Record, selection: Selection, rules: Ruleset) -> list[Finding]:
    """The findings on a control: on its runs, not on what its folder claims or lacks."""
    return graded(_runs_and_logs(record, selection, rules), rules.findings)


def _runs_and_logs(record: Record, selection: Selection, rules: Ruleset) -> list[tuple[str, str, int, str]]:
    return [*_logs(record, selection, rules), *check_runs(selection.claimed, rules, record.shown)]


def _logs(record: Record, selection: Selection, rules: Ruleset) -> Raised:
    """Which logs are there, and which of them could be read."""
    where = "." if record.base else record.shown(record.paths[0])
    if not record.logs and not record.empty:
        yield (
            "no-logs",
            where,
            1,
            "Found no training log (*.log, *.txt with steps or a final metric); expected one a seed. Add them.",
        )
    for log, line in selection.incomplete:
        yield (
            "no-final-metric", record.shown(log), line,
            f"Found no line with a final metric; expected {rules.result_line}. Let the run finish, or take the log away and say why.",
        )  # fmt: skip
    for path, why in record.listing.left_aside:
        yield "file-not-read", record.shown(path), 1, f"It {why}. Put the file itself here, or take the name away."
    for log, original in record.copies.items():
        yield "duplicate-log", record.shown(log), 1, f"The same run as {record.shown(original)}; counted once."
    for log in dict.fromkeys(one.run.log for one in selection.claimed):
        yield from several_runs(record.shown(log), record.logs.get(log, []))


def several_runs(log: str, runs: list[Run]) -> Raised:
    trained = [run for run in runs if run.trained]
    if len(trained) > 1:
        yield (
            "several-runs-in-log", log, trained[1].line,
            f"Found {len(trained)} runs in one log; expected one. Counted: the run that the claim fits, else the last. "
            f"Keep one log a run.",
        )  # fmt: skip


def _submission(record: Record) -> Raised:
    """The files that a submission must hold."""
    top = [path for path in record.listing.files if path.parent == record.base]
    if record.claim is None:
        yield (
            "missing-file",
            ".",
            1,
            "Found no submission.json; expected one with name, author, date, val_bpb and bytes_total. Add it.",
        )
    elif record.claim.fault is not None:
        yield (
            "missing-file",
            record.shown(record.claim.file),
            1,
            f"It {record.claim.fault}; expected one JSON object. Mend it.",
        )
    if not any(path.name.lower().startswith("readme") for path in top):
        yield (
            "missing-file",
            ".",
            1,
            "Found no README; expected one that says what was changed and how it was run. Add it.",
        )
    if not any(path.suffix == ".py" for path in record.listing.files):
        yield "missing-file", ".", 1, "Found no training script (*.py); expected the one that made the logs. Add it."
    scripts = [path for path in top if path.suffix == ".py"]
    for path in scripts:
        size = _size(path)
        if ("train" in path.name or len(scripts) == 1) and size is not None and size < STUB_BYTES:
            yield (
                "script-stub", record.shown(path), 1,
                f"Found a script of {size} bytes; expected the program that made the logs ({STUB_BYTES} bytes at least). Ship it.",
            )  # fmt: skip


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _shipped(record: Record, selection: Selection) -> Raised:
    """Printed code sizes and embedded sources against the files of the folder."""
    sizes = {size for path in record.listing.files if (size := _size(path)) is not None and path not in record.logs}
    scripts = [path for path in record.listing.files if path.suffix == ".py"]
    if not scripts:
        return
    shipped = [script for path in scripts if (script := _script(path)) is not None]
    sizes |= {size for size, _ in shipped}
    contents = {digest for _, digest in shipped}
    for one in selection.claimed:
        run, log = with_training(one), record.shown(one.run.log)
        printed = [size for size in (run.code_bytes, one.training.unpacked_code_bytes) if size is not None]
        if printed and not any(abs(size - known) <= NEWLINE_BYTES for size in printed for known in sizes):
            yield (
                "code-size-unmatched", log, one.metric.line,
                f"Found a code size of {printed[0]} bytes; expected that of a shipped file. Ship the script that ran.",
            )  # fmt: skip
        if run.source is not None and hashlib.sha256(run.source.text.strip()).digest() not in contents:
            yield (
                "source-not-shipped", log, run.line,
                f"Found an embedded source of {run.source.size_bytes} bytes that is none of the shipped scripts; expected one of "
                f"them. Ship the script that ran.",
            )  # fmt: skip


def _script(path: Path) -> tuple[int, bytes] | None:
    """A script's size without the carriage returns that a checkout may have added, and its digest without blank ends."""
    try:
        content = read_bounded(path).replace(b"\r\n", b"\n")
    except FileError:
        return None
    return len(content), hashlib.sha256(content.strip()).digest()
