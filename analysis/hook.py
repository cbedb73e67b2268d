"""What .pre-commit-hooks.yaml runs: audit the records that changed files belong to.

    python -m analysis.hook FILE... [--rules NAME|FILE]

Exit codes: 0 no finding of the level error, 1 at least one, 2 usage, 3 a sweep whose runs cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from analysis import cli


@click.command(cls=cli.Command, context_settings=cli.HELP)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@cli.RULES
def main(files: tuple[Path, ...], rules: str | None) -> None:
    """Audit the record folders below this folder that hold one of these files; a record without findings is not shown."""
    from analysis.evidence.audit import audit_all
    from analysis.record.discover import record_folders
    from analysis.report.audit import text
    from analysis.rules.findings import errors

    folders = [folder for folder in record_folders(Path()) if any(file.is_relative_to(folder) for file in files)]
    audits = audit_all(folders, rules)
    sys.stdout.writelines(text(one) for one in audits if one.findings)
    if any(errors(one.findings) for one in audits):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
