"""Ask the importers: which files that are no logs tell of runs, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from analysis.reading.importers.csvs import read_csv
from analysis.reading.importers.jsonl import read_jsonl
from analysis.reading.importers.jsons import read_json
from analysis.reading.importers.mlflow import read_mlflow
from analysis.reading.importers.report import read_report
from analysis.reading.importers.tensorboard import is_events, read_events
from analysis.reading.importers.trackio import read_trackio
from analysis.reading.run import Run
from analysis.untrusted.files import FileError, LeftAside

Reader = Callable[[Path], list[Run]]


@dataclass(slots=True)
class Imported:
    """The runs that were found, by file, and the files that an importer knows but cannot read."""

    runs: dict[Path, list[Run]] = field(default_factory=dict)
    left_aside: list[LeftAside] = field(default_factory=list)


def has_result(run: Run) -> bool:
    """Return whether a log's run ends in anything that a ruleset may ask for."""
    return run.validation is not None or bool(run.finals) or bool(run.values.keys() - {"seed"})


def importer_of(path: Path, *, named: bool) -> Reader | None:
    """Return what reads files of this kind. `named`: the file itself was given, so it need not look like one of a tracker."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return lambda file: read_csv(file, named=named)
    if suffix == ".json":
        return lambda file: read_json(file, named=named)
    if suffix in (".jsonl", ".ndjson"):
        return lambda file: read_jsonl(file, named=named)
    if is_events(path):
        return read_events
    return {"report.md": read_report, "meta.yaml": read_mlflow}.get(path.name) or {".db": read_trackio}.get(suffix)


def imported(files: Iterable[Path], *, named: bool = False) -> Imported:
    """Return the runs that these files tell of. A file that no importer knows is left alone."""
    found = Imported()
    for path in files:
        reader = importer_of(path, named=named)
        if reader is None:
            continue
        try:
            if runs := reader(path):
                found.runs[path] = runs
        except (FileError, OSError) as error:
            found.left_aside.append(LeftAside(path=path, why=str(error)))
    return found
