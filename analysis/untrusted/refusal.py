"""Refusals: the one base error with its exit code, and the nearest word to one that was mistyped. Loads nothing heavy."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


class SeedproofError(ValueError):
    """Something cannot be done: one sentence that says what, where, what was found and what to do.

    Subclasses set the exit code that a command ends with: 2 usage, 3 evidence unusable, 4 a run failed or is missing.
    lines: what to print below the sentence, as it is.
    """

    exit_code = 3
    lines: Sequence[str] = ()


class UsageError(SeedproofError):
    exit_code = 2


class EvidenceError(SeedproofError):
    """Evidence that no verdict can rest on."""


EXTRAS = {  # of pyproject.toml: which of them installs a package that the base lacks
    "frames": ("pandas", "pyarrow"),
    "report": ("jinja2", "markupsafe"),
    "orchestration": ("ray", "rich"),
}
NOT_ON_WINDOWS = ("fcntl", "resource")


def missing_extra(error: ModuleNotFoundError) -> UsageError:
    """Return the refusal for a package that is not installed: which extra installs it. Any other error is raised again."""
    package = (error.name or "").partition(".")[0]
    if package in NOT_ON_WINDOWS:
        return UsageError("Sweeps run on Linux, not on Windows: use WSL. Reports, checks and audits run here.")
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    if extra is None:
        raise error
    return UsageError(f"This needs {package}, which is not installed: pip install 'seedproof[{extra}]'.")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known word most like `word`, else nothing: the end of a sentence."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def nearest_path(path: Path) -> str:
    """Return the same for a path that is not a file.

    For one that does not exist: a similar name in the deepest folder that exists, else that folder.
    """
    if path.is_dir():
        return " It is a folder; name the file."
    missing = path
    while not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        names = os.listdir(missing.parent)
    except OSError:
        names = []
    found = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    if found and missing == path:
        return f" Did you mean {str(missing.parent / found[0])!r}?"
    return f" Only {str(missing.parent)!r} of it exists." if missing.parent not in (Path("."), Path("/")) else ""


def refuse_other_modules(package: str, commands: Sequence[str]) -> None:
    """Exit with 2 if `python -m` names a module of the package that is not a command: it would do nothing and exit with 0.

    While Python looks for the module, sys.argv[0] is "-m", and in sys.orig_argv the module comes just before the arguments.
    """
    named = sys.orig_argv[-len(sys.argv)] if sys.argv[:1] == ["-m"] else ""
    module = named.partition("m")[2] if named.startswith("-") else named  # `python -mNAME`
    known = [f"{package}.{name}" for name in commands]
    if module in known or not f"{module}.".startswith(f"{package}."):
        return
    hint = nearest(module.rpartition(".")[2], commands)
    print(f"{module} is not a command. Commands of {package}: {', '.join(known)}.{hint}", file=sys.stderr)
    raise SystemExit(2)
