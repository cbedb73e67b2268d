"""The index page of many sweeps: a static HTML file with a link to each sweep's own report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from analysis.report.html.templates import template
from analysis.sweepdir.layout import REPORT_HTML
from orchestration.disk.files import now
from orchestration.overview.show import cells
from orchestration.overview.standing import Standing

NOTES = (
    "Done counts the runs with a result, failed ones included. A sequential sweep may not need all of its runs.",
    "The verdict is that of the sweep's last report. It is - if there is none, or if runs changed after it.",
    "Refused means that error-level findings overrule a verdict that would pass.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """A sweep's cells by column, and the address of its report as seen from the page, None where it has none."""

    cells: Mapping[str, str]
    report: str | None


def index_page(rows: Sequence[Standing], folder: Path, command: str) -> str:
    """Return the page, for a file in `folder`; `command` makes it again."""
    sound = [one for one in rows if one.fault is None]
    return template("sweeps.html").render(
        summary=summary(rows),
        rows=[IndexRow(cells=cells(one), report=address(one, folder) if one.has_report else None) for one in sound],
        faults=[f"{one.sweep}: {one.fault}" for one in rows if one.fault is not None],
        notes=NOTES,
        command=command,
    )


def summary(rows: Sequence[Standing]) -> str:
    """Return how many sweeps there are, how many are running, and when this was so."""
    driven, damaged = sum(one.owner is not None for one in rows), sum(one.fault is not None for one in rows)
    return f"{len(rows)} sweep{'s' * (len(rows) != 1)} at {now()[:16].replace('T', ' ')} UTC: {driven} running, {damaged} damaged."


def address(one: Standing, folder: Path) -> str:
    """Return the address of a sweep's report, relative to a folder and safe whatever its name holds."""
    report = os.path.relpath(os.path.realpath(one.directory / REPORT_HTML), os.path.realpath(folder))
    return quote(os.fsencode(report))
