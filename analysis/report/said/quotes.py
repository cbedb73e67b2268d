"""The lines of the logs that numbers are read from, redacted and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.reading.result import Result
from analysis.report.said.findings import place_in_words
from analysis.report.said.tables import place
from analysis.rules.findings import Finding
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, lines_at, read_bounded
from analysis.untrusted.secrets import redacted

LONGEST_QUOTE = 300


def quotes(runs: Sequence[Result], findings: Sequence[Finding] = ()) -> dict[str, str]:
    """Return source lines by place: of the runs that were read from logs, and of what was found in those logs.

    A frame's names of logs are not opened.
    """
    lines: dict[Path, dict[str, int]] = {}
    for run in runs:
        if run.run.trained and run.line is not None:
            lines.setdefault(run.run.log, {})[place(run)] = run.line
    logs = {run.log: run.run.log for run in runs if run.run.log in lines}
    for one in findings:
        if one.file in logs:
            lines[logs[one.file]][place_in_words(one)] = one.line
    found: dict[str, str] = {}
    for log, places in lines.items():
        with suppress(FileError):
            read = lines_at(read_bounded(log), sorted({*places.values()}))
            found |= {where: _shown(read[line]) for where, line in places.items() if line in read}
    return found


def _shown(line: bytes) -> str:
    return printable(redacted(line[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").rstrip("\r")))[:LONGEST_QUOTE]
