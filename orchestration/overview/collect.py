"""The runs of one sweep or of many as one frame: CSV, JSON, or for many sweeps a parquet dataset with a file each."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click

from analysis.cli import writing
from analysis.reading.frame import columns_of, write_rows
from analysis.reading.result import COLUMNS
from analysis.record.sweep import sweep_results
from analysis.sweepdir.layout import FRAME, has_plan
from analysis.sweepdir.plan import read_sweep_plan
from analysis.untrusted.escape import line_start
from analysis.untrusted.files import printable_path
from analysis.untrusted.refusal import EvidenceError, SeedproofError, UsageError
from orchestration.overview.find import find_some

OF_THE_SWEEP = {"sweep": "string", "plan_sha256": "string"}
MANY_COLUMNS = OF_THE_SWEEP | COLUMNS  # JSON has more
PART = re.compile(r"part-\d{5,}\.parquet")
TELL_S = 5.0

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A sweep to be read: its path below what was asked for, and the context that gives its directory."""

    name: str
    directory: AbstractContextManager[Path]

    def rows(self) -> Rows:
        """Return a row for each planned run. Raises SeedproofError, OSError."""
        with self.directory as directory:
            plan = read_sweep_plan(directory)
            of_the_sweep = {"sweep": self.name, "plan_sha256": plan.sha256}
            return [of_the_sweep | result.row() for result in sweep_results(directory, plan)]


def collect(root: Path | str, form: str, output: Path | None) -> None:
    """Write the runs of the sweep, or of every sweep, at a folder or URL. Raises UsageError, SweepError, EvidenceError."""
    sources = _at_url(root) if isinstance(root, str) else _in_folder(root)
    if [one.name for one in sources] in ([""], ["."]):
        _write_one(sources[0], root, form, output)
    else:
        _write_many(_Reading(sources), form, output)


def _in_folder(root: Path) -> list[Source]:
    if has_plan(root):
        return [Source(name=".", directory=nullcontext(root))]
    found = find_some(root)
    for path, why in found.unread.items():
        click.echo(line_start(f"{path} {why}."), err=True)
    return [Source(name=printable_path(path.relative_to(root)), directory=nullcontext(path)) for path in found.sweeps]


def _at_url(url: str) -> list[Source]:
    from orchestration.overview.remote import Remote  # loads pyarrow

    remote = Remote(url)
    return [Source(name=name, directory=remote.fetched(name)) for name in remote.sweeps]


def _write_one(source: Source, root: Path | str, form: str, output: Path | None) -> None:
    if form == "parquet" and output is None:
        if isinstance(root, str):
            raise UsageError("--format parquet of a URL needs --output FILE.")
        output = root / FRAME
    rows = [{name: row[name] for name in row if name not in OF_THE_SWEEP} for row in source.rows()]
    with writing(output):
        write_rows(rows, columns_of(rows), form, output)


def _write_many(reading: _Reading, form: str, output: Path | None) -> None:
    with writing(output):
        if form == "parquet":
            _write_dataset(reading, output)
        else:
            write_rows(chain.from_iterable(reading.each()), list(MANY_COLUMNS), form, output)
    many = len(reading.sources)
    if output is not None:
        click.echo(f"It holds {reading.runs} runs of {many - reading.failed} sweeps.", err=True)
    if reading.failed:
        raise EvidenceError(f"{reading.failed} of {many} sweeps are left out.")


def _write_dataset(reading: _Reading, output: Path | None) -> None:
    """Write a folder of parquet files of one schema. It replaces an earlier dataset and nothing else."""
    import pandas as pd

    if output is None:
        raise UsageError("--format parquet of several sweeps is a folder of files: name it with --output DIR.")
    if output.exists() and not (output.is_dir() and all(PART.fullmatch(name) for name in os.listdir(output))):
        raise UsageError(f"--output {output} exists and is not a dataset of `collect`: choose a new folder.")
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        for number, rows in enumerate(reading.each()):
            frame = pd.DataFrame(rows, columns=list(MANY_COLUMNS)).astype(MANY_COLUMNS)
            frame.to_parquet(partial / f"part-{number:05}.parquet", index=False)
        if output.exists():
            shutil.rmtree(output)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Reading:
    """Read one sweep after the other; say on stderr how far it is. failed: how many sweeps could not be read."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.runs = self.failed = 0

    def each(self) -> Iterator[Rows]:
        """Yield the rows of each sweep that can be read; say which cannot."""
        told = time.monotonic()
        for number, source in enumerate(self.sources, start=1):
            try:
                rows = source.rows()
            except (SeedproofError, OSError) as error:
                self.failed += 1
                click.echo(line_start(f"{source.name} is left out: {error}"), err=True)
                continue
            self.runs += len(rows)
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                click.echo(f"{number} of {len(self.sources)} sweeps, {self.runs} runs", err=True)
            yield rows
