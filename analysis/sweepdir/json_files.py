"""JSON files of a sweep directory, which may be somebody else's: bounded, and never through a link that leads out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from analysis.sweepdir.layout import SweepError
from analysis.untrusted.files import FileError, leads_out, read_bounded

LARGEST_JSON = 2**22  # bytes


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object. Raises SweepError."""
    try:
        content = json.loads(read_bounded(path, LARGEST_JSON))
    except FileError as error:
        raise SweepError(f"{path} {error}.") from None
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{path} cannot be read as JSON: {error}. Put back the sweep's own file.") from None
    if not isinstance(content, dict):
        raise SweepError(f"{path} does not hold a JSON object.")
    return content


def read_inside(directory: Path, path: Path) -> dict[str, Any]:
    """Read one JSON object of a sweep directory; refuse a link that leads out of it. Raises SweepError."""
    if leads_out(path, os.path.realpath(directory)):
        raise SweepError(f"{path} is a link that leads out of the folder.")
    return read_json(path)


def of_type(value: Any, kind: type) -> Any:
    """Return a value where it has exactly this type, else None."""
    return value if type(value) is kind else None


def table_of(value: Any) -> dict[str, Any]:
    """Return a value where it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
