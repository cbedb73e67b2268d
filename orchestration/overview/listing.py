"""The list of every sweep below a folder, as text, JSON or a page."""

from __future__ import annotations

from pathlib import Path

from analysis.reading.frame import for_json
from analysis.untrusted.escape import json_text
from analysis.untrusted.invoked import this_command
from orchestration.overview.find import sweeps_below
from orchestration.overview.show import sweep_lines
from orchestration.overview.standing import standings


def list_in(root: Path, form: str, folder: Path) -> str:
    """Return every sweep below a folder as text, json or html; a page for `folder`, from where its links lead."""
    rows = standings(root, sweeps_below(root))
    if form == "json":
        return json_text(for_json([one.row() for one in rows]))
    if form == "html":
        from orchestration.overview.page import index_page

        return index_page(rows, folder, this_command("orchestration.sweep"))
    return "\n".join(sweep_lines(rows) if rows else [f"There is no sweep below {root}."]) + "\n"
