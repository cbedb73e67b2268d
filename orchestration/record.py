"""Turn a finished sweep into a submission folder whose numbers cannot be mistyped.

    python -m orchestration.record DIR --name "..." --author "..." --output records/NAME

The folder holds the script, the logs and the plan as they are, and a README.md and a submission.json that are made from
them. It appears only after its own check, the reviewer's, has found nothing against it.

Exit codes: 0 written, 1 the claim is not supported or something does not fit, 2 usage, 3 the evidence is unusable, 4 a
run failed or is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analysis.cli import HELP, Command, ExistingPath
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import UsageError


@click.command(cls=Command, context_settings=HELP)
@click.argument("directory", type=ExistingPath(file_okay=False))
@click.option("--name", required=True, help="Title of the submission.")
@click.option("--author", required=True, help="Who submits it.")
@click.option("--github-id", help="The author's name on GitHub.")
@click.option("--blurb", help="What is new, in a sentence or two.")
@click.option(
    "--date", type=click.DateTime(["%Y-%m-%d"]), help="[default: the day when the last run that counts ended, in UTC]"
)
@click.option("--non-record", is_flag=True, help="Claim no record: also where the claim is not supported, and say so.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
def main(directory: Path, output: Path, **asked: Any) -> None:
    """Make a submission folder from a finished sweep: script and logs as they are, README and JSON made from them."""
    from analysis.report.said.findings import finding_lines
    from analysis.rules.findings import errors
    from orchestration.submission.build import build
    from orchestration.submission.readme import Asked

    for option in ("name", "author"):
        if not asked[option].strip():
            raise UsageError(f"--{option} is empty; a submission needs one.")
    try:
        built = build(directory, output, Asked(**asked))
    except OSError as error:
        raise UsageError(f"{error.filename or output}: {error.strerror}. Nothing was written.") from None
    for line in finding_lines(built.findings):
        click.echo(line, err=True)
    if built.paths:
        note = f"Note: the plan is evidence and stays as it is, with paths of the machine: {', '.join(built.paths)}."
        click.echo(printable(note), err=True)
    but = ", but the check refuses it for the findings above" if errors(built.findings) else ""
    seeds = f"{built.verdict.verdict.replace('_', ' ')}, {built.verdict.n} seeds"
    click.echo(printable(f"Wrote {output}: {seeds}{but}."))
    click.echo(printable(f"Check it with: {built.command}"))


if __name__ == "__main__":
    main()
