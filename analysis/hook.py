"""What .pre-commit-hooks.yaml runs: audit the records that changed files belong to.

    python -m analysis.hook [--rules NAME|FILE] -- FILE...

Exit codes: 0 no finding of the level error, 1 at least one, 2 usage, 3 a sweep whose runs cannot be read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from analysis import cli
from analysis.untrusted.escape import printable


class FilesOfOthers(cli.Command):
    """A command of files that others named: none of them is taken for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before = args[: args.index("--")] if "--" in args else args
        if named := next((one for one in before if one.startswith("-") and os.path.lexists(one)), None):
            said = f"{printable(named)} is a file here, and could be meant as an option: write -- before the files."
            raise click.UsageError(said, ctx)
        return super().parse_args(ctx, args)


@click.command(cls=FilesOfOthers, context_settings=cli.HELP)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@cli.RULES
def main(files: tuple[Path, ...], rules: str | None) -> None:
    """Audit the record folders below this folder that hold one of these files; a record without findings is not shown."""
    from analysis.evidence.audit import audit_all
    from analysis.record.discover import record_folders
    from analysis.report.audit import text
    from analysis.rules.findings import errors

    changed = [Path(os.path.abspath(file)) for file in files]
    folders = [one for one in record_folders(Path()) if any(file.is_relative_to(one.absolute()) for file in changed)]
    audits = audit_all(folders, rules)
    sys.stdout.writelines(text(one) for one in audits if one.findings)
    if any(errors(one.findings) for one in audits):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
