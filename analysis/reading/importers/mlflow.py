"""mlflow's folders: a run is a folder with meta.yaml, `metrics/NAME` (lines of time, value and step) and `params/NAME`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from analysis.reading.importers.made import MOST_NAMES, MOST_ROWS, Row, Told, number_of, run_of, seed_in_name, whole
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_small, spend

LARGEST_METRIC, LARGEST_PARAM = 2**22, 2**14  # bytes
FAILED = ("4", "5", "FAILED", "KILLED", "1", "RUNNING", "2", "SCHEDULED")
_STATUS = re.compile(rb"^status:[ \t]*['\"]?(\w{1,20})", re.MULTILINE)


def read_mlflow(path: Path) -> list[Run]:
    """Return the run whose meta.yaml this is; none for that of an experiment."""
    metrics = _files(path.parent / "metrics")
    if not metrics:
        return []
    rows = []
    for name, file in metrics.items():
        content = read_small(file, LARGEST_METRIC)
        spend(8 * len(content))
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            said = line.split()
            value = number_of(said[1]) if len(said) >= 2 else None
            if value is not None:
                rows.append(Row(numbers={name: value}, step=whole(said[2]) if len(said) > 2 else None, line=number))
            if number > MOST_ROWS or len(rows) > 10 * MOST_ROWS:
                raise FileError(f"holds metrics of more than {MOST_ROWS} rows")
    params = {
        name: read_small(file, LARGEST_PARAM).decode("utf-8", "replace").strip()
        for name, file in _files(path.parent / "params").items()
    }
    seed = whole(params.get("seed", params.get("random_seed", "")))
    status = _STATUS.search(read_small(path, LARGEST_PARAM))
    told = Told(
        log=path,
        origin=Origin.TRACKER,
        seed=seed_in_name(path) if seed is None else seed,
        settings=params,
        finished=status is None or status[1].decode() not in FAILED,
    )
    return [run_of(told, _by_step(rows))]


def _by_step(rows: list[Row]) -> list[Row]:
    """Return one row a step, without a line: its numbers are in several files. What was logged once, at step 0, has no step."""
    steps = {row.step for row in rows if row.step is not None}
    joined: dict[int | None, dict[str, float]] = {}
    for row in rows:
        joined.setdefault(None if steps <= {0} else row.step, {}).update(row.numbers)
    found = [Row(numbers=numbers, step=step) for step, numbers in joined.items()]
    if len(found) > MOST_ROWS:
        raise FileError(f"holds metrics of more than {MOST_ROWS} steps")
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by name; a name with a slash is in a folder of its own."""
    found: dict[str, Path] = {}
    if not os.path.isdir(folder) or os.path.islink(folder):
        return found
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            if not os.path.islink(file):
                found[str(file.relative_to(folder))] = file
            if len(found) > MOST_NAMES:
                raise FileError(f"has more than {MOST_NAMES} metrics or params")
    return found
