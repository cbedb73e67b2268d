"""Run other people's records again, with fresh seeds, and say of each whether its claim holds up.

    python -m orchestration.verify RECORD... --output DIR --env DATA_PATH=... --budget HOURS

Exit codes: 0 every claim holds up, 1 at least one does not, 2 usage, 3 at least one cannot be told.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from analysis.cli import HELP, Command, ExistingPath, Number, rulesets
from analysis.untrusted.invoked import this_command
from orchestration.worker.order import Sandbox

option = partial(click.option, show_default=True)


@click.command(cls=Command, context_settings=HELP)
@click.argument("records", nargs=-1, required=True, type=ExistingPath(file_okay=False), metavar="RECORD...")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for plans, runs and the table.",
)
@click.option(
    "--rules",
    shell_complete=rulesets,
    help="Ruleset: a name or a TOML file.  [default: the record's, if it is a shipped one]",
)
@click.option("--sota", type=Number(), help="What every record must beat.  [default: what the record's plan says]")
@click.option(
    "--env",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set for every record, such as DATA_PATH; may be repeated.",
)
@click.option(
    "--nonce", metavar="TEXT", help="Fresh seeds are derived from it, so nobody can know them.  [default: random]"
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HOURS",
    help="GPU-hours, or CPU-hours if no record uses GPUs. Earlier starts count too.",
)
@option(
    "--max-seeds",
    type=click.IntRange(3, 30),
    default=5,
    help="At most this many fresh seeds per record. The first look is at 3.",
)
@option(
    "--sandbox",
    type=click.Choice([*Sandbox]),
    default=Sandbox.AUTO,
    help="Run submitted code as an unprivileged user without network.",
)
@click.option("--image", metavar="URI", help="A container image for the runs, as Ray's image_uri.")
def main(records: tuple[Path, ...], output: Path, sandbox: str, **asked: Any) -> None:
    """Run records again with fresh seeds, and say of each whether its claim holds up."""
    from orchestration.verification.planning import Asked
    from orchestration.verification.service import verify

    wanted = Asked(
        records=[record.resolve() for record in records], output=output.resolve(), sandbox=Sandbox(sandbox), **asked
    )
    raise SystemExit(verify(wanted, this_command("orchestration.verify")))


if __name__ == "__main__":
    main()
