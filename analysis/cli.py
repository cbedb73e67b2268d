"""What the commands share: paths with the nearest name, output, and the one translation of refusals to exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from analysis.report.grid import WHOLE, Width, named
from analysis.untrusted.escape import printable
from analysis.untrusted.files import printable_path
from analysis.untrusted.invoked import command_named
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError, missing_extra, nearest, nearest_path

USUAL_WIDTH, NARROWEST = 80, 40
SUFFIXES = {f".{name}": name for name in ("csv", "html", "json", "parquet", "sarif")} | {
    ".md": "markdown",
    ".htm": "html",
}
MOST_NUMBERS = 1000
HELP = {"help_option_names": ["-h", "--help"]}
Resolved = tuple[str | None, click.Command | None, list[str]]


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
            if "://" in str(value):
                said = f"{value!r} is a URL, and nothing is fetched. Download or clone it, and name the folder."
                raise click.BadParameter(said, ctx=ctx, param=param) from None
            raise click.BadParameter(error.message + nearest_path(Path(value)), ctx=ctx, param=param) from None


class Number(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """A click number. If the text is not one, the message suggests what may be meant."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number such as 1.2014.{_number_meant(value)}", param, ctx)


def _number_meant(text: str) -> str:
    found = re.fullmatch(r"\s*(-?\d*)[.,](\d+)\s*[a-z]*\s*|\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found is None:
        return ""
    return f" Did you mean {float(found[3]) / 100:g}?" if found[3] else f" Did you mean {found[1] or 0}.{found[2]}?"


class Choice(click.Choice):  # type: ignore[type-arg]
    """A click choice. If the word is not one, the message suggests the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(super().convert(value, param, ctx))
        except click.BadParameter as error:
            self.fail(error.message + nearest(str(value), map(str, self.choices)), param, ctx)


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
    """Complete a ruleset in a shell: return the shipped ones that begin so, or else ask for files; a click callback."""
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and name every option that is missing, not only the first. A flag's value is refused by the flag's name."""
        self._check_flags(ctx, args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            options = [one for one in self.params if isinstance(one, click.Option) and one.required]
            missing = [(one.opts[0], one.help or "") for one in options if ctx.params.get(str(one.name)) is None]
            if not isinstance(error.param, click.Option):
                raise
            said = "".join(f"\n  {line}" for line in named(missing, shutil.get_terminal_size().columns - 2))
            raise click.UsageError(f"Missing option{'s' if len(missing) > 1 else ''}:{said}", ctx) from None

    def _check_flags(self, ctx: click.Context, args: list[str]) -> None:
        if any(isinstance(one, click.Argument) for one in self.params):
            return  # a word after a flag may be one
        flags = {name: one for one in self.params if isinstance(one, click.Option) and one.is_flag for name in one.opts}
        for word, after in zip(args, [*args[1:], "-"], strict=False):
            flag, _, value = word.partition("=")
            value = value or ("" if after.startswith("-") else after)
            if flag in flags and value:
                raise click.UsageError(f"{flag} takes no value; got {value!r}. {flag}: {flags[flag].help}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        tolerate_any_text()
        try:
            try:
                return _written(lambda: super(Command, self).invoke(ctx))
            except ModuleNotFoundError as error:
                raise missing_extra(error) from None
        except SeedproofError as error:
            said = printable(str(error))
            if error.exit_code == UsageError.exit_code:
                raise click.UsageError(said, ctx) from None
            kind = "Cannot tell" if error.exit_code == EvidenceError.exit_code else "Error"
            click.echo("\n".join([f"{kind}: {said}", *error.lines]), err=True)
            ctx.exit(error.exit_code)


def _written(call: Callable[[], Any]) -> Any:
    """Call, and see that stdout is written: one that is full must not look like an answer. Raises UsageError."""
    try:
        try:
            return call()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the exit
        raise UsageError(f"The output cannot be written: {error.strerror}.") from None


class Group(click.Group):
    """A group whose message for a command that it lacks names what may be meant."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Resolved:
        word, known = args[0], self.list_commands(ctx)
        if word in known or word.startswith("-"):
            return super().resolve_command(ctx, args)
        elsewhere = command_named(word)
        hint = f" The command is {elsewhere!r}." if elsewhere else nearest(word, known)
        raise click.UsageError(f"There is no command {word!r} here, but {', '.join(known)}.{hint}", ctx)


PATHS = click.argument("paths", nargs=-1, required=True, type=ExistingPath(), metavar="PATH...")
PATHS_OR_NONE = click.argument("paths", nargs=-1, type=ExistingPath(), metavar="[PATH...]")
RULES = click.option(
    "--rules",
    shell_complete=rulesets,
    help="Ruleset: a name or a TOML file.  [default: the sweep's, else parameter-golf]",
)


def the_record_meant(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the PATHs. In place of a folder that holds only one record, return that record, and say so."""
    return tuple(map(_record_meant, paths))


def _record_meant(path: Path) -> Path:
    from analysis.record.claim import is_submission
    from analysis.record.discover import the_record_in

    if path.is_file() and is_submission(path.name):
        click.echo(printable(f"Note: {printable_path(path)} is a record's claim. Reading its folder."), err=True)
        return path.parent
    if not path.is_dir() or (inside := the_record_in(path)) is None:
        return path
    click.echo(printable(f"Note: {printable_path(path)} holds one record. Reading {printable_path(inside)}."), err=True)
    return inside


def format_option(*names: str) -> Callable[[Any], Any]:
    """Return the option `--format`, whose default is the first name."""
    return click.option("--format", "form", type=Choice(names), default=names[0], show_default=True)


def output_options(*names: str) -> Callable[[Any], Any]:
    """Return the options `--format` and `--output`. Without the first, the ending of the file decides."""

    def chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
        output = ctx.params.get("output")
        if value == "html" and output is None and sys.stdout.isatty():
            raise click.UsageError("HTML does not show on a terminal: add --output FILE, such as page.html.", ctx)
        by_name = SUFFIXES.get(output.suffix.lower()) if output is not None else None
        return value or (by_name if by_name in names else names[0])

    form = click.option(
        "--format",
        "form",
        type=Choice(names),
        callback=chosen,
        help=f"[default: by the ending of --output, else {names[0]}]",
    )
    file = click.Path(path_type=Path, dir_okay=False)
    output = click.option("--output", type=file, is_eager=True, help="Write here, not to stdout.")
    return lambda command: form(output(command))


def tolerate_any_text() -> None:
    """Let stdout escape what its encoding lacks, instead of ending with an error.

    The bytes are the same on every system: lines end with \\n, and what Windows sends to a file or a pipe is UTF-8.
    """
    if sys.stdout is None:  # closed by `>&-`: the exit code is all that is wanted
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if os.name == "nt" and not sys.stdout.isatty() else None
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")


def width(output: Path | None = None, tables: int | None = None) -> Width:
    """Return how wide stdout is: what COLUMNS says, else the terminal.

    In a pipe sentences stay whole, and tables are as wide as COLUMNS says, else `tables`. `--output` takes everything.
    """
    if output is not None:
        return WHOLE
    columns = os.environ.get("COLUMNS", "")
    asked = int(columns[:9]) or None if columns.isdecimal() else None
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
