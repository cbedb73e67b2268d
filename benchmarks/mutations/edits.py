"""Build changes to a folder from a few kinds of edit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.mutations.claims import seal
from benchmarks.mutations.folders import Dialect, Folder, Made, rewrite

Change = Callable[[Folder], None]
STEP = re.compile(r"(?:\[\w+\]: )?(?:step[: ])?(\d+)/\d+")  # the beginning of a step line, in every dialect
ONE = 1  # the run that a change of one run edits; not the first, which others might be compared with


def both(*changes: Change) -> Change:
    def change(folder: Folder) -> None:
        for one in changes:
            one(folder)

    return change


def write_text(folder: Folder, path: Path, text: str | bytes) -> None:
    """Write a file below a folder, with its parents, and update a sweep's digests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    seal(folder)


# -- the runs ----------------------------------------------------------------------------------------------------------


def remade(make: Callable[[Made], Made], only: int | None = None) -> Change:
    """Rewrite the folder from changed runs, so that JSON and README agree with the logs."""

    def change(folder: Folder) -> None:
        rewrite(folder, [make(run) if only in (None, n) else run for n, run in enumerate(folder.runs)])
        seal(folder)

    return change


def facts(only: int | None = None, **values: Any) -> Change:
    return remade(lambda run: replace(run, **values), only)


def finals(by: float, only: int | None = None) -> Change:
    """Change only the final values, not the validations in training. In a speedrun the last validation is final."""

    def make(run: Made) -> Made:
        gap = run.last_validation_is_worse_by - by
        return replace(run, val_loss=round(run.val_loss + by, 8), last_validation_is_worse_by=gap)

    change = remade(make, only)
    return lambda folder: None if folder.dialect.is_speedrun else change(folder)


def twin(**values: Any) -> Change:
    """Make the last run a copy of the first one with its own seed, the given changes and a slightly different value."""

    def change(folder: Folder) -> None:
        first, last = folder.runs[0], folder.runs[-1]
        own = {"seed": last.seed, "val_loss": last.val_loss, "model_bytes": last.model_bytes} | values
        rewrite(folder, [*folder.runs[:-1], replace(first, **own)])
        seal(folder)

    return change


def where(is_so: Callable[[Dialect], bool], change: Change) -> Change:
    """Apply a change only to folders of some dialects."""
    return lambda folder: change(folder) if is_so(folder.dialect) else None


def embeds(dialect: Dialect) -> bool:
    return dialect.embeds


def capped(dialect: Dialect) -> bool:
    return not dialect.is_speedrun


def no_sweep(dialect: Dialect) -> bool:
    return not dialect.is_sweep


# -- texts -------------------------------------------------------------------------------------------------------------


def logs(edit: Callable[[str], str], only: int | None = None) -> Change:
    """Edit the text of every log, or of one."""

    def change(folder: Folder) -> None:
        for path in folder.logs if only is None else [folder.logs[only]]:
            write_text(folder, path, edit(path.read_bytes().decode()))

    return change


def lines(edit: Callable[[str], str], only: int | None = None) -> Change:
    """Edit each line of a log after its embedded source."""

    def of_text(text: str) -> str:
        head, ruler, rest = text.partition("=" * 100)
        return (
            head + ruler + "\n".join(map(edit, rest.split("\n"))) if ruler else "\n".join(map(edit, text.split("\n")))
        )

    return logs(of_text, only)


def sub(pattern: str, put: str | Callable[[re.Match[str]], str], only: int | None = None, count: int = 0) -> Change:
    return logs(lambda text: re.sub(pattern, put, text, count=count, flags=re.MULTILINE), only)


def drop(pattern: str, only: int | None = None) -> Change:
    """Take out the lines that match."""
    return logs(lambda text: "".join(one for one in text.splitlines(True) if not re.search(pattern, one)), only)


def file(name: str, edit: Callable[[str], str]) -> Change:
    """Edit a file of the folder, where there is one."""

    def change(folder: Folder) -> None:
        path = folder.path / name
        if path.is_file():
            path.write_text(edit(path.read_text()))

    return change


def claim(make: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Edit the submission JSON as a table."""
    return file("submission.json", lambda text: json.dumps(make(json.loads(text)), indent=1))


def says(**values: Any) -> Change:
    return claim(lambda table: table | values)


def readme(pattern: str, put: str | Callable[[re.Match[str]], str]) -> Change:
    return file("README.md", lambda text: re.sub(pattern, put, text, count=1))


def new(name: str, text: str | bytes) -> Change:
    return lambda folder: write_text(folder, folder.path / name, text)


def times(match: re.Match[str], factor: float, decimals: int | None = None) -> str:
    """Return a match with the number in its group 2 multiplied."""
    value = float(match[2]) * factor
    return f"{match[1]}{value:.{decimals}f}" if decimals is not None else f"{match[1]}{round(value)}"


def without_claims(change: Change) -> Change:
    """Apply a change only to the logs. JSON and README stay as they were."""

    def only_logs(folder: Folder) -> None:
        kept = {name: (folder.path / name).read_bytes() for name in CLAIMS if (folder.path / name).is_file()}
        change(folder)
        for name, content in kept.items():
            (folder.path / name).write_bytes(content)

    return only_logs


CLAIMS = ("submission.json", "README.md", "train_gpt.py")
