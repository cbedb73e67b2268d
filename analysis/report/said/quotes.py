"""The lines of the logs that numbers are read from, redacted and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.reading.result import Result
from analysis.report.said.tables import place
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, lines_at, read_bounded
from analysis.untrusted.secrets import redacted

LONGEST_QUOTE = 300


def quotes(runs: Sequence[Result]) -> dict[str, str]:
    """Return source lines by place, of the runs that were read from logs: a frame's names of logs are not opened."""
    by_log: dict[Path, list[Result]] = {}
    for run in runs:
        if run.run.trained and run.line is not None:
            by_log.setdefault(run.run.log, []).append(run)
    found: dict[str, str] = {}
    for log, own in by_log.items():
        with suppress(FileError):
            lines = lines_at(read_bounded(log), sorted({run.line for run in own if run.line is not None}))
            found |= {place(run): _shown(lines[run.line]) for run in own if run.line in lines}
    return {place(run): found[place(run)] for run in runs if place(run) in found}


def _shown(line: bytes) -> str:
    return printable(redacted(line[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").rstrip("\r")))[:LONGEST_QUOTE]
