"""What the commands share: paths with the nearest name, output, and the one translation of refusals to exit codes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from analysis.report.grid import WHOLE, Width, shortened
from analysis.untrusted.escape import line_start, printable
from analysis.untrusted.files import noticing, printable_path
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError, nearest_path

LINE_EVERY_S = 10.0
QUIET_S, REWRITE_S = 2.0, 0.1  # a shorter wait is not said
USUAL_WIDTH, NARROWEST = 80, 40
SUFFIXES = {f".{name}": name for name in ("csv", "html", "json", "parquet", "sarif")} | {
    ".md": "markdown",
    ".htm": "html",
}
MOST_NUMBERS = 1000
HELP = {"help_option_names": ["-h", "--help"]}


class ExistingPath(click.Path):
    """A click path that must exist; the message for one that does not suggests the nearest one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exists=True, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            if os.path.lexists(value):
                raise
            raise click.BadParameter(error.message + nearest_path(Path(value)), ctx=ctx, param=param) from None


def numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Return the finite numbers of an option, which have commas in between; a click callback."""
    try:
        found = tuple(map(float, value.split(","))) if value is not None else ()
    except ValueError:
        found = (math.nan,)
    if len(found) > MOST_NUMBERS or not all(map(math.isfinite, found)):
        raise click.BadParameter(
            f"{value!r} is not a list of at most {MOST_NUMBERS} numbers such as 1.2014,1.1994.", ctx, param
        )
    return found


class FolderOrUrl(ExistingPath):
    """A click folder that must exist; a URL stays the text that it is."""

    def __init__(self) -> None:
        super().__init__(file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in str(value) else super().convert(value, param, ctx)


class Command(click.Command):
    """A command whose stdout can show any text, and whose refusals become a message and an exit code."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        try:
            os.getcwd()
        except FileNotFoundError:
            raise click.UsageError("This shell's working directory was deleted. Change to one that exists.") from None
        return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        tolerate_any_text()
        try:
            return super().invoke(ctx)
        except SeedproofError as error:
            said = printable(str(error))
            if error.exit_code == UsageError.exit_code:
                raise click.UsageError(said, ctx) from None
            kind = "Cannot tell" if error.exit_code == EvidenceError.exit_code else "Error"
            click.echo("\n".join([f"{kind}: {said}", *error.lines]), err=True)
            ctx.exit(error.exit_code)


class Group(click.Group):
    command_class = Command


PATHS = click.argument("paths", nargs=-1, required=True, type=ExistingPath(), metavar="PATH...")
PATHS_OR_NONE = click.argument("paths", nargs=-1, type=ExistingPath(), metavar="[PATH...]")
RULES = click.option("--rules", help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]")


def the_record_meant(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the PATHs; for a folder that holds nothing but one record, that record, and say so."""
    return tuple(map(_record_meant, paths))


def _record_meant(path: Path) -> Path:
    from analysis.record.discover import the_record_in

    if not path.is_dir() or (inside := the_record_in(path)) is None:
        return path
    click.echo(printable(f"Note: {printable_path(path)} holds one record: {printable_path(inside)} is read."), err=True)
    return inside


def format_option(*names: str) -> Callable[[Any], Any]:
    """Return the option `--format`, whose default is the first name."""
    return click.option("--format", "form", type=click.Choice(names), default=names[0], show_default=True)


def output_options(*names: str) -> Callable[[Any], Any]:
    """Return the options `--format` and `--output`. Without the first, the name of the file says what is meant."""

    def chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
        output = ctx.params.get("output")
        by_name = SUFFIXES.get(output.suffix.lower()) if output is not None else None
        return value or (by_name if by_name in names else names[0])

    form = click.option(
        "--format",
        "form",
        type=click.Choice(names),
        callback=chosen,
        help=f"[default: what the name of --output ends with, else {names[0]}]",
    )
    file = click.Path(path_type=Path, dir_okay=False)
    output = click.option("--output", type=file, is_eager=True, help="Write here, not to stdout.")
    return lambda command: form(output(command))


def tolerate_any_text() -> None:
    """Let stdout show what its encoding lacks as an escape, instead of ending with an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def width(output: Path | None = None, tables: int | None = None) -> Width:
    """Return how wide stdout is: what COLUMNS says, else the terminal.

    In a pipe sentences stay whole, and tables are as wide as COLUMNS says, else `tables`. `--output` takes everything.
    """
    if output is not None:
        return WHOLE
    columns = os.environ.get("COLUMNS", "")
    asked = int(columns) if columns.isdecimal() and int(columns) else None
    if not sys.stdout.isatty():
        return Width(table=asked or tables)
    found = max(asked or shutil.get_terminal_size().columns, NARROWEST)
    return Width(prose=found, table=found)


def coloured() -> bool:
    """Return whether stdout is a terminal that wants colours (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def write(content: str, output: Path | None, said: str = "") -> None:
    """Write to `--output` and say so on stderr, or to stdout where it is None. Raises UsageError.

    said: what the file says, in a word.
    """
    with writing(output, said):
        sys.stdout.write(content) if output is None else output.write_text(content, encoding="utf-8")


@contextlib.contextmanager
def writing(output: Path | None, said: str = "") -> Iterator[None]:
    """Say on stderr that `--output` is written, and what it says. Turn a failure into a UsageError.

    A failure of stdout means that its reader has gone.
    """
    try:
        yield
    except OSError as error:
        if output is None:
            raise
        raise UsageError(f"--output {output} cannot be written: {error.strerror}.") from None
    if output is not None:
        click.echo(printable(f"Wrote {output}{f' ({said})' if said else ''}."), err=True)


class Counting:
    """Say on stderr how far a long task has come: one line that is rewritten on a terminal, else a line every 10 s.

    Nothing is said of the first two seconds. Without `tell`, it counts the logs that are read inside it.
    """

    def __init__(self) -> None:
        self.rewritten = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
        self.next_s = time.monotonic() + (QUIET_S if self.rewritten else LINE_EVERY_S)
        self.shown, self.logs, self.told = False, 0, False
        self.inside = noticing(self._notice)

    def __enter__(self) -> Counting:
        self.inside.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.inside.__exit__(*error)
        if self.shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def tell(self, done: int, total: int, name: str) -> None:
        """Say that `done` of `total` are read, and that the next is `name`."""
        self.told = True
        self._say(f"{done} of {total} read, now {name}")

    def _notice(self, log: Path) -> None:
        self.logs += 1
        if not self.told:
            self._say(f"{self.logs - 1} logs read, now {printable_path(log)}")

    def _say(self, text: str) -> None:
        if time.monotonic() < self.next_s:
            return
        self.next_s = time.monotonic() + (REWRITE_S if self.rewritten else LINE_EVERY_S)
        said = line_start(text)
        if self.rewritten:
            click.echo(f"\r{shortened(said, shutil.get_terminal_size().columns - 1)}\x1b[K", nl=False, err=True)
            self.shown = True
        else:
            click.echo(said, err=True)


def this_command(module: str) -> str:
    """Return this process's command line."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
