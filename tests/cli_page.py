"""The page docs/cli.md: what every command says for `--help`, in 80 columns and without colours.

python -m tests.cli_page        # write the page again after a change of the options
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click
from click.testing import CliRunner

from seedproof.__main__ import COMMANDS
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "cli.md"
OTHERS = ("trainer.dataset", "trainer.evaluate")  # which seedproof does not start
MODULES = (*dict.fromkeys(module for module, _ in COMMANDS.values()), *OTHERS)
HEAD = """\
# Commands

Every command's `--help`. `python -m tests.cli_page` writes this page, and a test compares it with the commands.
[Exit codes](check.md#exit-codes) are the same for all.

`seedproof PATH` is `seedproof report PATH`. `python -m seedproof` is `seedproof` where its command is not on the path. The modules' own
commands, such as `python -m analysis.significance check`, are the same code. A folder that is named like a command is `./logs`. A command that is printed as advice has the form that you used.

A shell completes commands, options, rulesets and codes of findings after one line in its start-up file:

| shell | file | line |
| --- | --- | --- |
| bash | `~/.bashrc` | `eval "$(_SEEDPROOF_COMPLETE=bash_source seedproof)"` |
| zsh | `~/.zshrc` | `eval "$(_SEEDPROOF_COMPLETE=zsh_source seedproof)"` |
| fish | `~/.config/fish/completions/seedproof.fish` | `_SEEDPROOF_COMPLETE=fish_source seedproof \\| source` |

| command | the same code | what it does |
| --- | --- | --- |
"""
Words = tuple[str, ...]


def commands() -> Iterator[Words]:
    """Yield every command as words: `seedproof`, a command, and a verb if it has verbs; or a module."""
    yield ("seedproof",)
    for words in (*(("seedproof", name) for name in COMMANDS), *((module,) for module in OTHERS)):
        verbs = getattr(command_of(words), "commands", None)
        yield from ((*words, verb) for verb in sorted(verbs)) if verbs else (words,)


def page() -> str:
    """Return the page as it should be."""
    found = list(commands())
    sections = [f"\n## {' '.join(words)}\n\n```\n{help_of(*words)}```\n" for words in found]
    return HEAD + "".join(map(row, found[1:])) + "".join(sections)


def command_of(words: Words) -> click.Command:
    found: click.Command = import_module("seedproof.__main__" if words[0] == "seedproof" else words[0]).main
    for word in words[1:]:
        assert isinstance(found, click.Group)
        inside = found.get_command(click.Context(found), word)
        assert inside is not None, words
        found = inside
    return found


def row(words: Words) -> str:
    """Return a line of the table: the command, linked to its section, its module's form, the first sentence of its help."""
    anchor = "-".join(words).replace(".", "")
    same = "-"
    if words[0] == "seedproof":
        module = COMMANDS[words[1]][0]
        verbs = words[1:] if module == "analysis.significance" else words[2:]
        same = f"`{' '.join(('python -m', module, *verbs))}`"
    return f"| [`{typed(words)}`](#{anchor}) | {same} | {command_of(words).get_short_help_str(200)} |\n"


def typed(words: Words) -> str:
    return " ".join(words if words[0] == "seedproof" else ("python -m", *words))


def help_of(*words: str) -> str:
    """Return the `--help` of one command."""
    main = import_module("seedproof.__main__" if words[0] == "seedproof" else words[0]).main
    found = CliRunner().invoke(main, [*words[1:], "--help"], prog_name=typed(words[:1]), terminal_width=80)
    assert found.exit_code == 0, found.output
    return found.stdout


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
