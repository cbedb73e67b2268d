"""The command `seedproof`: each of its commands is the one of a module, loaded when it is called.

seedproof FOLDER --sota X          # or: python -m seedproof FOLDER --sota X
seedproof check FOLDER --sota X    # the same as: python -m analysis.significance check FOLDER --sota X
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from analysis import cli
from analysis.untrusted.refusal import nearest, nearest_path
from seedproof import __version__

COMMANDS = {  # the module of each, and the first sentence of its help: a list of them loads none
    "check": ("analysis.significance", "Pass or fail the claim: a few lines and an exit code."),
    "report": ("analysis.significance", "Report in full: runs, statistics, verdict."),
    "plan": ("analysis.significance", "Plan before paying: seeds needed, chances and costs, fixed and sequential."),
    "audit": ("analysis.audit", "Show what does not fit in a record: findings with file and line."),
    "board": (
        "analysis.leaderboard",
        "Show every record folder below DIR, one row each, tested against the record that stood before it.",
    ),
    "logs": ("analysis.logs", "Show what was read from the logs, one row per run."),
    "sweep": ("orchestration.sweep", "Run seed sweeps: one torchrun a seed, scheduled by Ray, ending in a verdict."),
    "record": (
        "orchestration.record",
        "Make a submission folder from a finished sweep: script and logs as they are, README and JSON made from them.",
    ),
    "verify": (
        "orchestration.verify",
        "Run records again with fresh seeds, and say of each whether its claim holds up.",
    ),
    "explain": ("analysis.explain", "Explain a finding: what it means, when it is raised, what to do."),
}
USUAL = "report"  # of a path


class Front(cli.Group):
    """The modules' commands. A path in place of a command is reported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        main: click.Command = import_module(COMMANDS[cmd_name][0]).main
        inside = main.get_command(ctx, cmd_name) if isinstance(main, click.Group) else None
        return inside or main

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `help` and `version` for options, and an option of `report` before the path for what it is."""
        if args[:1] in (["help"], ["version"]):
            args = [*args[1:], f"--{args[0]}"]
        own = {name for one in self.get_params(ctx) for name in one.opts}
        of_report = args[:1] and args[0].startswith("--") and args[0] not in own and not {*args} & {*COMMANDS}
        return super().parse_args(ctx, [USUAL, *args] if of_report else args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> cli.Resolved:
        word = args[0]
        if word in COMMANDS or word.startswith("-"):
            return super().resolve_command(ctx, args)
        if os.path.lexists(word) or {"/", "\\", "."} & {*word}:
            return super().resolve_command(ctx, [USUAL, *args])
        hint = nearest(word, COMMANDS) or nearest_path(Path(word)) or self._as_option(ctx, word)
        hint = hint or f" Commands: {', '.join(COMMANDS)}."
        raise click.UsageError(f"{word!r} is neither a command nor a path.{hint}", ctx)

    def _as_option(self, ctx: click.Context, word: str) -> str:
        """Return which of the reviewer's commands have an option of that name: the end of a sentence."""
        ours = [name for name, (module, _) in COMMANDS.items() if module.startswith("analysis.")]
        found = {name: self.get_command(ctx, name) for name in ours}
        having = [name for name, one in found.items() if one and any(f"--{word}" in each.opts for each in one.params)]
        return f" --{word} is an option of {', '.join(having)}." if having else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, else what click's shells take for a request to list files."""
        found = [CompletionItem(name, help=says) for name, (_, says) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete) or [CompletionItem(incomplete, type="file")]


@click.group(cls=Front, context_settings=cli.HELP)
@click.version_option(__version__, message="seedproof %(version)s")
def main() -> None:
    """Prove a training result across seeds. `seedproof PATH` is `seedproof report PATH`.

    Exit codes: 0 supported or done, 1 not supported, not yet or errors, 2 usage, 3 cannot tell, 4 a run failed.
    """


if __name__ == "__main__":
    main()
