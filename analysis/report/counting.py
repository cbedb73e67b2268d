"""What a waiting person sees while files are read."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from analysis.report.grid import shortened
from analysis.untrusted.escape import line_start
from analysis.untrusted.files import noticing, printable_path

LINE_EVERY_S = 10.0
QUIET_S, REWRITE_S = 2.0, 0.1  # shorter waits are not shown


class Counting:
    """Say on stderr how far a long task has come: one line that is rewritten on a terminal, else a line every 10 s.

    Nothing is said of the first two seconds. Without `tell`, it counts the logs that are read inside it.
    """

    def __init__(self) -> None:
        self.rewritten = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
        self.next_s = time.monotonic() + (QUIET_S if self.rewritten else LINE_EVERY_S)
        self.shown, self.logs, self.told = False, 0, False
        self.inside = noticing(self._notice)

    def __enter__(self) -> Counting:
        self.inside.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.inside.__exit__(*error)
        if self.shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def tell(self, done: int, total: int, name: str) -> None:
        """Say that `done` of `total` are read, and that the next is `name`."""
        self.told = True
        self._say(f"{done} of {total} read, now {name}")

    def _notice(self, log: Path) -> None:
        self.logs += 1
        if not self.told:
            self._say(f"{self.logs - 1} log{'s' * (self.logs != 2)} read, now {printable_path(log)}")

    def _say(self, text: str) -> None:
        if time.monotonic() < self.next_s:
            return
        self.next_s = time.monotonic() + (REWRITE_S if self.rewritten else LINE_EVERY_S)
        said = line_start(text)
        if self.rewritten:
            click.echo(f"\r{shortened(said, shutil.get_terminal_size().columns - 1)}\x1b[K", nl=False, err=True)
            self.shown = True
        else:
            click.echo(said, err=True)
