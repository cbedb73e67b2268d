"""What the commands share: paths with the nearest name, output, and the one translation of refusals to exit codes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from analysis.untrusted.escape import line_start, printable
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError, missing_extra, nearest_path

LINE_EVERY_S = 10.0
QUIET_S = 2.0  # a shorter wait is not said
USUAL_WIDTH = 80
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


def rulesets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the shipped rulesets that begin so, else files, for a shell; a click callback."""
    from analysis.rules.ruleset import known

    names = [CompletionItem(name) for name in known() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


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
            try:
                return super().invoke(ctx)
            except ModuleNotFoundError as error:
                raise missing_extra(error) from None
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

RULES = click.option(
    "--rules",
    shell_complete=rulesets,
    help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]",
)
OUTPUT = click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here, not to stdout.")


def format_option(*names: str) -> Callable[[Any], Any]:
    """Return the option `--format`, whose default is the first name."""
    return click.option("--format", "form", type=click.Choice(names), default=names[0], show_default=True)


def tolerate_any_text() -> None:
    """Let stdout show what its encoding lacks as an escape, instead of ending with an error.

    The bytes are the same on every system: lines end with \\n, and what Windows sends to a file or a pipe is UTF-8.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if os.name == "nt" and not sys.stdout.isatty() else None
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")


def width() -> int | None:
    """Return how wide stdout is: what COLUMNS says, else the terminal. None for a pipe or file: its lines stay whole."""
    columns = shutil.get_terminal_size(fallback=(0, 0)).columns
    return columns or None


def table_width(output: Path | None) -> int | None:
    """Return how wide a table is printed: as stdout is, else 80; None for `--output`, which takes every column."""
    return (width() or USUAL_WIDTH) if output is None else None


def coloured() -> bool:
    """Return whether stdout is a terminal that wants colours (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def write(content: str, output: Path | None, said: str = "") -> None:
    """Write to `--output` and say so on stderr, or to stdout where it is None. Raises UsageError.

    said: what the file says, in a word.
    """
    with writing(output, said):
        sys.stdout.write(content) if output is None else output.write_text(content, encoding="utf-8", newline="\n")


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
    """Say on stderr how far a long task has come: one line that is rewritten on a terminal, else a line every 10 s."""

    def __init__(self) -> None:
        self.rewritten = sys.stderr.isatty() and not os.environ.get("CI")
        self.next_s = time.monotonic() + LINE_EVERY_S
        self.shown = False

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def tell(self, done: int, total: int, name: str) -> None:
        """Say that `done` of `total` are read, and that the next is `name`."""
        said = printable(f"{done} of {total} read, now {name}")
        if self.rewritten:
            click.echo(f"\r{said[: shutil.get_terminal_size().columns - 1]}\x1b[K", nl=False, err=True)
            self.shown = True
        elif time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + LINE_EVERY_S
            click.echo(line_start(said), err=True)
