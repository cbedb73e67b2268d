"""What does not fit in a record folder: findings alone, with file and line. Nothing of the folder is executed.

    python -m analysis.audit PATH... [--rules NAME|FILE] [--format text|json|github|sarif]

Exit codes: 0 no finding of the level error, 1 at least one, 2 usage, 3 a sweep whose runs cannot be read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from analysis import cli
from analysis.report.counting import Counting


@click.command(cls=cli.Command, context_settings=cli.HELP)
@cli.PATHS
@cli.RULES
@click.option(
    "--format",
    "form",
    type=cli.Choice(["text", "json", "github", "sarif"]),
    help="[default: text; github when in Actions]",
)
def main(paths: tuple[Path, ...], rules: str | None, form: str | None) -> None:
    """Show what does not fit in a record: findings with file and line. Exit code 1 when one of them is an error."""
    from analysis.evidence.audit import audit_all
    from analysis.report.audit import as_annotations, as_json, as_sarif, text
    from analysis.report.said.findings import annotated
    from analysis.rules.findings import errors

    with Counting():
        audits = audit_all(cli.the_record_meant(paths), rules)
    form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
    whole = {"json": as_json, "sarif": as_sarif}.get(form)
    sys.stdout.writelines([whole(audits)] if whole else [text(one, cli.width().prose) for one in audits])
    if form == "github":
        commands = annotated(command for one in audits for command in as_annotations(one))
        sys.stdout.writelines(f"{line}\n" for line in commands)
    if any(errors(one.findings) for one in audits):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
