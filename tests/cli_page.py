"""The page docs/cli.md: what every command says for `--help`, in 80 columns and without colours.

python -m tests.cli_page        # write the page again after a change of the options
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click
from click.testing import CliRunner

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "cli.md"
MODULES = (
    "analysis.significance",
    "analysis.audit",
    "analysis.leaderboard",
    "analysis.logs",
    "orchestration.sweep",
    "orchestration.record",
    "orchestration.verify",
    "trainer.dataset",
    "trainer.evaluate",
)
HEAD = """\
# Commands

Every command's `--help`. `python -m tests.cli_page` writes this page, and a test compares it with the commands.
[Exit codes](check.md#exit-codes) are the same for all.

| command | what it does |
| --- | --- |
"""


def commands() -> Iterator[tuple[str, ...]]:
    """Yield every command as words: a module, and a verb if it has verbs."""
    for module in MODULES:
        main = import_module(module).main
        verbs = sorted(main.commands) if isinstance(main, click.Group) else []
        yield from ((module, verb) for verb in verbs)
        if not verbs:
            yield (module,)


def page() -> str:
    """Return the page as it should be."""
    found = list(commands())
    sections = [f"\n## {' '.join(words)}\n\n```\n{help_of(*words)}```\n" for words in found]
    return HEAD + "".join(map(row, found)) + "".join(sections)


def row(words: tuple[str, ...]) -> str:
    """Return a line of the table: the command, linked to its section, and the first sentence of its help."""
    module, *verbs = words
    main = import_module(module).main
    command = main.commands[verbs[0]] if verbs else main
    anchor = "-".join(words).replace(".", "")
    return f"| [`python -m {' '.join(words)}`](#{anchor}) | {command.get_short_help_str(200)} |\n"


def help_of(module: str, *verb: str) -> str:
    """Return the `--help` of one command."""
    words, name = [*verb, "--help"], f"python -m {module}"
    found = CliRunner().invoke(import_module(module).main, words, prog_name=name, terminal_width=80)
    assert found.exit_code == 0, found.output
    return found.stdout


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
