"""How this process was started: commands that are printed are those that the user can type."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

SEEDPROOF = "seedproof"
WORDS = {  # after `seedproof`, in place of a module; those of analysis.significance are its own
    "analysis.significance": (),
    "analysis.audit": ("audit",),
    "analysis.leaderboard": ("board",),
    "analysis.logs": ("logs",),
    "analysis.explain": ("explain",),
    "orchestration.sweep": ("sweep",),
    "orchestration.record": ("record",),
    "orchestration.verify": ("verify",),
}
OF_SIGNIFICANCE = ("report", "check", "plan")


def started_as() -> list[str]:
    """Return the words that started `seedproof`, none where one of its modules or another program was started."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py" and program.parent.name == SEEDPROOF:
        return ["python", "-m", SEEDPROOF]
    return [SEEDPROOF] if program.stem == SEEDPROOF else []


def command(module: str, *words: str) -> str:
    """Return a command line as this user would type it: `seedproof board DIR` or `python -m analysis.leaderboard DIR`."""
    program = started_as()
    return shlex.join([*program, *WORDS[module], *words] if program else ["python", "-m", module, *words])


def command_named(word: str) -> str | None:
    """Return the command line that begins a command of this name in any module, None where there is none."""
    if word in OF_SIGNIFICANCE:
        return command("analysis.significance", word)
    return next((command(module) for module, words in WORDS.items() if words == (word,)), None)


def this_command(module: str) -> str:
    """Return this process's command line for a page that everybody may read; `module` is the one that runs."""
    from analysis.untrusted.secrets import redacted  # which takes longer than most commands need it

    return redacted(shlex.join([*(started_as() or ["python", "-m", module]), *sys.argv[1:]]))
