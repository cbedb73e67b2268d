"""Every record folder below a folder, in the order of their dates: does each beat the one that stood before it?

    python -m analysis.leaderboard DIR [--rules NAME|FILE] [--format text|markdown|csv|json|html] [--output FILE]
    python -m analysis.leaderboard DIR --site FOLDER

Exit codes: 0 a board, 2 usage, 3 there is no record folder.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from analysis import cli
from analysis.report.counting import Counting
from analysis.untrusted.escape import printable
from analysis.untrusted.invoked import this_command
from analysis.untrusted.refusal import EvidenceError

if TYPE_CHECKING:
    from analysis.rules.ruleset import Ruleset
    from analysis.verdict.board.row import Row


@click.command(cls=cli.Command, context_settings=cli.HELP)
@click.argument("directory", type=cli.ExistingPath(file_okay=False), metavar="DIR")
@click.option(
    "--rules",
    default="parameter-golf",
    show_default=True,
    shell_complete=cli.rulesets,
    help="Ruleset: a name or a TOML file.",
)
@cli.output_options("text", "markdown", "csv", "json", "html")
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the board and a page for each record as HTML into this folder; print nothing.",
)
@click.option("--no-cache", is_flag=True, help="Read every folder again, and keep nothing.")
def main(directory: Path, rules: str, form: str, output: Path | None, site: Path | None, no_cache: bool) -> None:
    """Show every record folder below DIR, one row each, tested against the record that stood before it."""
    from analysis.reading.frame import write_rows
    from analysis.record.discover import loose_logs, record_folders
    from analysis.report.board import board_text, markdown
    from analysis.rules.ruleset import load
    from analysis.verdict.board.cache import Cache, usual_folder
    from analysis.verdict.board.row import Row
    from analysis.verdict.board.standings import leaderboard

    if site is not None:
        _check_site(site, output)
    ruleset = load(rules)
    kept = None if no_cache else usual_folder()
    if loose := loose_logs(directory, record_folders(directory)):
        more = f" and {len(loose) - 1} more" if len(loose) > 1 else ""
        click.echo(printable(f"Not read, because no record folder holds it: {loose[0]}{more}."), err=True)
    with Counting() as counting:
        rows = leaderboard(directory, ruleset, Cache(kept) if kept is not None else None, counting.tell)
    if not rows:
        raise EvidenceError(f"No record folder below {directory}: none holds a submission.json or a training log.")
    if site is not None:
        _write_site(site, directory, rows, ruleset)
    elif form in ("csv", "json"):
        with cli.writing(output):
            write_rows([asdict(row) for row in rows], [column.name for column in fields(Row)], form, output)
    elif form == "html":
        from analysis.report.html.board import board_page

        cli.write(board_page(rows, ruleset, _this_command(), directory.resolve().name), output)
    elif form == "markdown":
        cli.write(markdown(rows, ruleset), output)
    else:
        cli.write(board_text(rows, ruleset, cli.width(output, cli.USUAL_WIDTH)), output)


def _check_site(site: Path, output: Path | None) -> None:
    """Refuse a folder with other files, and a second place to write to, before any record is read."""
    from analysis.report.html.site import check_folder

    asked = click.get_current_context().get_parameter_source("form")
    if output is not None or asked is not ParameterSource.DEFAULT:
        raise click.UsageError("--site writes pages into its folder: leave out --output and --format.")
    check_folder(site)


def _write_site(site: Path, directory: Path, rows: list[Row], ruleset: Ruleset) -> None:
    from analysis.report.html.site import write_site

    with Counting() as counting:
        said = write_site(site, directory, rows, ruleset, _this_command(), counting.tell)
    click.echo(printable(said), err=True)


def _this_command() -> str:
    return this_command("analysis.leaderboard").replace(" --no-cache", "")  # which changes no page


if __name__ == "__main__":
    main()
