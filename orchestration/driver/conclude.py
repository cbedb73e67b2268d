"""What a finished sweep leaves: the frame of its runs, the verdict and the reports, all made from the files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from analysis.checks.plan import own_rules
from analysis.evidence.gather import EvidenceError, sweep_results
from analysis.reading.frame import to_frame
from analysis.report import text
from analysis.significance import rendered
from analysis.sweepdir.layout import FRAME, REPORT_HTML, REPORT_MARKDOWN, VERDICT
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from orchestration.disk.files import write_whole


def write_reports(directory: Path, plan: dict[str, Any]) -> tuple[Verdict, list[Path]]:
    """Write frame, verdict and reports and print the verdict; the verdict and the files."""
    contents: dict[str, bytes | str] = {}
    try:
        contents[FRAME] = to_frame(sweep_results(directory, plan)).to_parquet(index=False)
    except EvidenceError as error:
        click.echo(f"No frame: {error}", err=True)
    verdict = judge((directory,), own_sweep=True)
    contents |= {VERDICT: text.as_json(verdict), REPORT_MARKDOWN: text.markdown(verdict)}
    again = f"analysis.significance report {shlex.quote(str(directory))} --format html"
    if own_rules(plan, ()):  # which `report` does not take from a plan without a word
        again = f"orchestration.sweep resume {shlex.quote(str(directory))}"
    try:
        contents[REPORT_HTML] = rendered(verdict, "html", directory, f"python -m {again}")
    except click.UsageError as error:
        click.echo(f"No HTML report: {error.message}", err=True)
    for name, content in contents.items():
        write_whole(directory / name, content)
    written = [directory / name for name in contents]
    click.echo("")
    click.echo(text.text(verdict))
    click.echo("Wrote " + ", ".join(map(str, written)))
    return verdict, written
