"""What a finished sweep leaves: the frame of its runs, the verdict and the reports, all made from the files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from analysis.checks.plan import own_rules
from analysis.cli import width
from analysis.evidence.options import Options
from analysis.reading.frame import to_frame
from analysis.record.sweep import sweep_results
from analysis.report.markdown import markdown
from analysis.report.text import text
from analysis.sweepdir.layout import FRAME, REPORT_HTML, REPORT_MARKDOWN, VERDICT
from analysis.sweepdir.plan import Plan
from analysis.untrusted.escape import json_text
from analysis.untrusted.invoked import command
from analysis.untrusted.refusal import EvidenceError, missing_extra
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from orchestration.disk.files import write_whole
from orchestration.disk.patient import Disk


def write_reports(directory: Path, plan: Plan, disk: Disk) -> Verdict:
    """Write frame, verdict and reports, and print the verdict. Raises DiskError."""
    contents: dict[str, bytes | str] = {}
    try:
        contents[FRAME] = to_frame(sweep_results(directory, plan)).to_parquet(index=False)
    except EvidenceError as error:
        click.echo(f"No frame: {error}", err=True)
    verdict = judge((directory,), Options(own_sweep=True))
    contents |= {VERDICT: json_text(verdict.to_json()), REPORT_MARKDOWN: markdown(verdict)}
    again = command("analysis.significance", "report", str(directory), "--format", "html")
    if own_rules(plan, ()):  # `report` needs an option to accept such a plan
        again = command("orchestration.sweep", "resume", str(directory))
    try:
        from analysis.report.html.page import page

        contents[REPORT_HTML] = page(verdict, again, directory.resolve().name)
    except ModuleNotFoundError as error:
        click.echo(f"No HTML report: {missing_extra(error)}", err=True)
    for path, content in ((directory / name, content) for name, content in contents.items()):
        disk.write(path, partial(write_whole, path, content))
    click.echo(f"\n{text(verdict, width())}")
    click.echo(f"Wrote {', '.join(str(directory / name) for name in contents)}")
    return verdict
