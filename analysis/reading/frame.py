"""The frame of runs: one row per run, as CSV, JSON, parquet or pandas.

CSV and JSON need neither pandas nor pyarrow. Only a DataFrame and parquet do, and load them when they are asked for.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.reading.metric import Metric
from analysis.reading.names import Value
from analysis.reading.result import COLUMNS, OF_THE_RUN, Program, Result
from analysis.reading.run import Origin, Run
from analysis.sweepdir.layout import ARMS, STATES
from analysis.untrusted.escape import cell, json_text
from analysis.untrusted.files import FileError, beginning_of, read_small
from analysis.untrusted.refusal import EvidenceError
from analysis.untrusted.secrets import redacted, redacted_value

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".json")
LARGEST_FILE = 2**22  # bytes
MOST_ROWS = 10_000
CODECS = {"SNAPPY", "UNCOMPRESSED"}  # of parquet
LONGEST_TEXT = 2**12  # bytes of one value
LONGEST_HEAD = 2**14  # bytes of the line with the columns
TEXTS = [name for name, kind in COLUMNS.items() if kind == "string"]
ORIGIN = "origin"
UNKNOWN = ("", "nan", "na", "n/a", "<na>", "null", "none")  # as tables write what they do not know
MOST_VALUES = 100  # further columns: metrics of any other name
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


class FrameError(EvidenceError):
    """A file that is not a frame of runs, as one sentence with the path."""


def to_frame(results: list[Result]) -> pd.DataFrame:
    """Return rows in the given order, with nullable column types: a seed stays whole next to an unknown one."""
    rows = [result.row() for result in results]
    return _frame_of(rows, columns_of(rows))


def columns_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the columns of a frame with these rows: ours, then the other metrics that its rows hold."""
    names = dict.fromkeys(name for row in rows for name in row["values"] if name not in row and _NAME.fullmatch(name))
    return [*COLUMNS, *list(names)[:MOST_VALUES]]


def _frame_of(rows: Iterable[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([row.get("values", {}) | row for row in rows], columns=columns)
    of_runs = set(columns) >= set(COLUMNS)
    return frame.astype({name: COLUMNS.get(name, "Float64") for name in columns if of_runs or name in COLUMNS})


def from_frame(frame: pd.DataFrame, source: str) -> list[Result]:
    """Return the results of a DataFrame that `to_frame` made. Raises FrameError for other columns, arms or states."""
    rows: Any = frame.astype(object).to_dict("records")
    try:
        return _results(_Table(columns=[*map(str, frame.columns)], rows=rows), source)
    except FileError as error:
        raise FrameError(f"{source} {error}.") from None


# -- rows of any file to results -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The columns of a file and its rows, with every value as the file has it."""

    columns: Sequence[str]
    rows: Sequence[dict[str, Any]]


def _results(table: _Table, source: str) -> list[Result]:
    """Return a result for each row. Raises FrameError, and FileError for a value that its column cannot hold."""
    optional = {ORIGIN}  # an earlier version read logs only
    if missing := [name for name in COLUMNS if name not in table.columns and name not in optional]:
        raise FrameError(
            f"{source} is neither a table with a column seed nor a frame of runs: the columns {', '.join(missing)} are missing."
        )
    logs = {ORIGIN: str(Origin.LOG)} if ORIGIN not in table.columns else {}
    known = [{name: _value(row, name, kind) for name, kind in COLUMNS.items()} | logs for row in table.rows]
    if strange := {row["arm"] for row in known} - set(ARMS):
        raise FrameError(f"{source} has rows of the arm {strange.pop()!r}; allowed: {', '.join(map(repr, ARMS))}.")
    for number, row in enumerate(known, start=1):
        if row["state"] not in STATES or not row["log"]:
            raise FrameError(
                f"{source}, row {number}: state is {row['state']!r} and log {row['log']!r}; each row needs both."
            )
        if row[ORIGIN] not in set(Origin):
            allowed = ", ".join(map(repr, map(str, Origin)))
            raise FrameError(f"{source}, row {number}: origin is {row[ORIGIN]!r}; allowed: {allowed}.")
    return [_result(row, values) for row, values in zip(known, _values_in(table), strict=True)]


def _value(row: dict[str, Any], name: str, kind: str) -> Any:
    """Return a value as its column holds it, None for an unknown one. Raises FileError."""
    value = row.get(name)
    if _unknown(value):
        return None
    try:
        return {"string": _text, "Int64": _whole, "Float64": _number}[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise FileError(f"cannot be read as a frame of runs: {name} is {str(value)[:100]!r}") from None


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise TypeError
    return str(value)


def _whole(value: Any) -> int:
    """Return a whole number, also one written as 3.0. Raises ValueError, TypeError, OverflowError."""
    number = _number(value)
    whole = int(value) if str(value).lstrip("+-").isdecimal() else int(number)
    if not number.is_integer() or abs(whole) >= 2**63:
        raise ValueError
    return whole


def _number(value: Any) -> float:
    """Return a number, also one that is text. Raises ValueError, TypeError."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise TypeError
    return float(value)


def _unknown(value: Any) -> bool:
    """Return whether a value is unknown: None, empty, NaN, or the NA of pandas, which equals nothing."""
    if isinstance(value, str):
        return value.lower() in UNKNOWN
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _values_in(table: _Table) -> list[dict[str, float]]:
    """Return the other metrics of each row: what further columns of numbers hold."""
    names = [name for name in dict.fromkeys(table.columns) if name not in COLUMNS and _NAME.fullmatch(name)]
    found: list[dict[str, float]] = [{} for _ in table.rows]
    for name in names[:MOST_VALUES]:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            told = {at: row.get(name) for at, row in enumerate(table.rows) if not _unknown(row.get(name))}
            for at, number in [(at, _number(value)) for at, value in told.items()]:
                found[at][name] = number
    return found


def _result(row: dict[str, Any], values: dict[str, float]) -> Result:
    """Return the result that a row was made of, as far as the row says."""
    facts: dict[str, Any] = {name: row[name] for name in OF_THE_RUN} | {ORIGIN: Origin(row[ORIGIN])}
    label, line = row["label"] or "", row["line"] or 0
    metric = program = None
    if any(row[name] is not None for name in ("label", "val_loss", "val_bpb")):
        loss, bpb = row["val_loss"], row["val_bpb"]
        metric = Metric(label=label, val_loss=loss, val_bpb=bpb, decimals=0, line=line, others=values)
    else:
        facts["values"] = {name: Value(number=number, line=line) for name, number in values.items()}
    run = Run(log=Path(row["log"]), line=1, seed=row["seed"], last_step=row["steps"], **facts)
    if row["source_sha256"] is not None and row["source_bytes"] is not None:
        program = Program(sha256=row["source_sha256"], size_bytes=row["source_bytes"])
    return Result(log=row["log"], run=run, metric=metric, program=program, arm=row["arm"], state=row["state"])


# -- files to rows -------------------------------------------------------------------------------------------------------


def is_frame(path: Path) -> bool:
    """Return whether a file begins like a frame that we wrote; it may still not be one."""
    head = beginning_of(path, LONGEST_HEAD)
    return path.suffix == ".parquet" or all(name in head for name in (b"arm", b"state", b"val_loss", b"val_bpb"))


def read_frame(path: Path) -> list[Result]:
    """Read results from a .parquet, .csv or .json frame. Raises FrameError where it is not one of ours."""
    readers = {".parquet": _parquet, ".csv": _csv, ".json": _json}
    try:
        return _results(readers[path.suffix](read_small(path, LARGEST_FILE)), str(path))
    except (FrameError, ModuleNotFoundError):
        raise
    except FileError as error:
        raise FrameError(f"{path} {error}.") from None
    except Exception as error:  # each reader raises its own kinds
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise FrameError(f"{path} cannot be read as a frame of runs: {said}") from error


def _csv(content: bytes) -> _Table:
    _check_rows(content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n"))
    if len(content.partition(b"\n")[0]) > LONGEST_HEAD:
        raise FileError("has too many columns")
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    columns = next(lines, [])
    if twice := next((name for name in COLUMNS if columns.count(name) > 1), None):
        raise FileError(f"has two columns {twice}")
    rows = []
    for cells in lines:
        if len(cells) > len(columns):
            raise FileError(f"has more values than columns in line {lines.line_num}")
        if cells:
            rows.append(dict(zip(columns, cells, strict=False)))
    return _Table(columns=columns, rows=rows)


def _json(content: bytes) -> _Table:
    rows = json.loads(content)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FileError("must hold a list of rows")
    _check_rows(len(rows))
    values = [row.get("values") for row in rows]
    others = [one if isinstance(one, dict) else {} for one in values]
    names = dict.fromkeys(
        [*(name for name in COLUMNS if any(name in row for row in rows)), *chain.from_iterable(others)]
    )
    own = [{name: row[name] for name in COLUMNS if name in row} for row in rows]
    return _Table(columns=[*names], rows=[one | row for one, row in zip(others, own, strict=True)])


def _parquet(content: bytes) -> _Table:
    """Read a parquet file whose rows are counted before they are unpacked: a few bytes can say a value a million times."""
    from pyarrow import BufferReader, compute, parquet, types

    file = parquet.ParquetFile(BufferReader(content), read_dictionary=TEXTS)
    _check_rows(file.metadata.num_rows)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    packed_by = {group.column(i).compression for group in groups for i in range(group.num_columns)}
    if not packed_by <= CODECS:  # others make gigabytes of a few bytes
        raise FileError(f"is packed by {', '.join(sorted(packed_by - CODECS))}; allowed: {', '.join(sorted(CODECS))}")
    found = [one.name for one in file.schema_arrow if types.is_floating(one.type) and _NAME.fullmatch(one.name)]
    others = [name for name in found if name not in COLUMNS][:MOST_VALUES]
    table = file.read(columns=[*(name for name in COLUMNS if name in file.schema_arrow.names), *others])
    for column in table.columns:
        for chunk in column.chunks:
            texts = getattr(chunk, "dictionary", None)
            if texts is not None and (compute.max(compute.binary_length(texts)).as_py() or 0) > LONGEST_TEXT:
                raise FileError(f"holds a text of more than {LONGEST_TEXT} bytes")
    return _Table(columns=table.column_names, rows=table.to_pylist())


def _check_rows(count: int) -> None:
    if count > MOST_ROWS:
        raise FileError(f"holds {count} rows, more than {MOST_ROWS}")


# -- rows to files -------------------------------------------------------------------------------------------------------


def write_rows(rows: Iterable[dict[str, Any]], columns: list[str], form: str, output: Path | None) -> None:
    """Write rows as csv, json or parquet to a file, or (csv and json) to stdout. Numbers keep all their digits.

    A row's `values` are columns of their own where `columns` has them.
    """
    if form == "parquet":
        import pyarrow  # noqa: F401  # without it, pandas raises an error of its own

        _frame_of(rows, columns).to_parquet(output, index=False)
        return
    with contextlib.ExitStack() as stack:
        file = output and stack.enter_context(open(output, "w", encoding="utf-8", newline=""))
        target: Any = file or sys.stdout
        if form == "csv":
            writer = csv.DictWriter(target, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(_shown(row.get("values", {}) | row) for row in rows)
        else:
            target.write(json_text([for_json(row) for row in rows]))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row for a terminal, a CI log or a spreadsheet: texts from outside are shown, not obeyed."""
    return {name: cell(redacted(value)) if isinstance(value, str) else value for name, value in row.items()}


def for_json(value: Any) -> Any:
    """Return a value as JSON can hold it and everybody may read it: null for NaN and infinity, no secret, at any depth."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {
            key: redacted_value(key, item) if isinstance(item, str) else for_json(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
