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
MODULES = {
    "analysis.significance": "does the evidence support the claim?",
    "analysis.audit": "what does not fit in a record folder?",
    "analysis.leaderboard": "does each record beat the one before it?",
    "analysis.logs": "what was read from the logs?",
    "orchestration.sweep": "train every seed and end with the verdict",
    "orchestration.record": "make a submission folder from a finished sweep",
    "trainer.dataset": "make, fetch and verify token shards",
    "trainer.evaluate": "measure an artifact again, without training",
}
HEAD = """\
# Commands

Every command's `--help`. This page is generated: `python -m tests.cli_page` writes it, and a test compares it with the commands.
What the exit codes mean is on the page [Check a record](check.md#exit-codes).

| command | what it does |
| --- | --- |
"""


def page() -> str:
    """Return the page as it should be."""
    rows = [f"| [`python -m {module}`](#{anchor(module)}) | {what} |\n" for module, what in MODULES.items()]
    return HEAD + "".join(rows) + "".join(section(module) for module in MODULES)


def anchor(module: str) -> str:
    """Return the anchor that GitHub makes of the heading `python -m MODULE`."""
    return f"python--m-{module.replace('.', '')}"


def section(module: str) -> str:
    """Return the help of a command and of its subcommands."""
    said = "".join(f"\n```\n{help_of(module, *verb)}```\n" for verb in verbs_of(module))
    return f"\n## `python -m {module}`\n{said}"


def verbs_of(module: str) -> Iterator[tuple[str, ...]]:
    """Yield the empty verb, and each subcommand if there are any."""
    command = import_module(module).main
    yield ()
    if isinstance(command, click.Group):
        yield from ((name,) for name in sorted(command.commands))


def commands() -> Iterator[tuple[str, ...]]:
    """Yield every command as words: a module, and a verb if it has verbs."""
    for module in MODULES:
        found = list(verbs_of(module))
        yield from ((module, *verb) for verb in found if verb or len(found) == 1)


def help_of(module: str, *verb: str) -> str:
    """Return the `--help` of one command."""
    name = f"python -m {module}"
    found = CliRunner().invoke(import_module(module).main, [*verb, "--help"], prog_name=name, terminal_width=80)
    assert found.exit_code == 0, found.output
    return found.stdout


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
