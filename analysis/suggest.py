"""What somebody may have meant: the word or the path nearest to one that is not there. Loads nothing heavy."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the known word most like `word`, else nothing. It is put behind a sentence."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def nearest_path(path: Path) -> str:
    """The same for a path that is no file. Of one that does not exist: something of a like name in the deepest folder that does, or that folder."""
    missing = Path(path)
    if os.path.isdir(missing):
        return " It is a folder; name the file."
    while not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        names = os.listdir(missing.parent)
    except OSError:
        names = []
    found = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    if found and missing == Path(path):
        return f" Did you mean {str(missing.parent / found[0])!r}?"
    return f" Of it only {str(missing.parent)!r} exists." if missing.parent not in (Path("."), Path("/")) else ""


class ExistingPath(click.Path):
    """click's path that must exist, with the nearest one beside it when it does not."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exists=True, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            if os.path.lexists(value):
                raise
            raise click.BadParameter(error.message + nearest_path(Path(value)), ctx=ctx, param=param) from None
