"""What the commands share: paths with the nearest name, output, and the one translation of refusals to exit codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from analysis.untrusted.refusal import nearest_path


class ExistingPath(click.Path):
    """A click path that must exist; one that does not is answered with the nearest one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exists=True, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            if os.path.lexists(value):
                raise
            raise click.BadParameter(error.message + nearest_path(Path(value)), ctx=ctx, param=param) from None
