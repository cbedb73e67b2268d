"""The frame of runs: one row per run, as pandas, parquet, CSV or JSON.

pandas is imported only by the functions that need it: it takes longer to load than a thousand logs to read.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
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
    """Return the results of a frame that we wrote. Raises FrameError for other columns, arms or states."""
    if ORIGIN not in frame.columns:  # of an earlier version, which read logs only
        frame = frame.assign(**{ORIGIN: str(Origin.LOG)})
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise FrameError(
            f"{source} is neither a table with a column seed nor a frame of runs: the columns {', '.join(missing)} are missing."
        )
    rows: Any = frame[list(COLUMNS)].astype(COLUMNS).astype(object).to_dict("records")
    known: list[dict[str, Any]] = [{k: None if _unknown(v) else v for k, v in row.items()} for row in rows]
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
    return [_result(row, values) for row, values in zip(known, _values_in(frame), strict=True)]


def _values_in(frame: pd.DataFrame) -> list[dict[str, float]]:
    """Return the other metrics of each row: what further columns of numbers hold."""
    kinds = frame.dtypes
    names = [name for name in frame.columns if name not in COLUMNS and _NAME.fullmatch(str(name))]
    numbers = [name for name in names if kinds[name].kind in "fiu"][:MOST_VALUES]
    rows: Any = frame[numbers].astype("Float64").astype(object).to_dict("records")
    return [{name: float(value) for name, value in row.items() if not _unknown(value)} for row in rows]


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


def _unknown(value: Any) -> bool:
    import pandas as pd

    return value is pd.NA or value is None or (isinstance(value, float) and math.isnan(value))


def is_frame(path: Path) -> bool:
    """Return whether a file begins like a frame that we wrote; it may still not be one."""
    head = beginning_of(path, LONGEST_HEAD)
    return path.suffix == ".parquet" or all(name in head for name in (b"arm", b"state", b"val_loss", b"val_bpb"))


def read_frame(path: Path) -> list[Result]:
    """Read results from a .parquet, .csv or .json frame. Raises FrameError where it is not one of ours."""
    readers: dict[str, Callable[[bytes], pd.DataFrame]] = {".parquet": _parquet, ".csv": _csv, ".json": _json}
    try:
        return from_frame(readers[path.suffix](read_small(path, LARGEST_FILE)), str(path))
    except FrameError:
        raise
    except FileError as error:
        raise FrameError(f"{path} {error}.") from None
    except Exception as error:  # each reader raises its own kinds
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise FrameError(f"{path} cannot be read as a frame of runs: {said}") from error


def _csv(content: bytes) -> pd.DataFrame:
    import pandas as pd

    _check_rows(content.count(b"\n") + content.count(b"\r"))
    if len(content.partition(b"\n")[0]) > LONGEST_HEAD:
        raise FileError("has too many columns")
    return pd.read_csv(io.BytesIO(content), usecols=_is_ours(set()))


def _is_ours(seen: set[str]) -> Callable[[Any], bool]:
    """Return a test of a column's name: ours, or the name of another metric, of which not too many are read."""

    def is_ours(name: Any) -> bool:
        if name not in COLUMNS and len(seen) < MOST_VALUES and _NAME.fullmatch(str(name)):
            seen.add(name)
        return name in COLUMNS or name in seen

    return is_ours


def _json(content: bytes) -> pd.DataFrame:
    import pandas as pd

    rows = json.loads(content)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FileError("must hold a list of rows")
    _check_rows(len(rows))
    is_ours, values = _is_ours(set()), [row.get("values") for row in rows]
    others = [{k: v for k, v in one.items() if is_ours(k)} if isinstance(one, dict) else {} for one in values]
    own = [{name: row[name] for name in COLUMNS if name in row} for row in rows]
    return pd.DataFrame([one | row for one, row in zip(others, own, strict=True)])


def _parquet(content: bytes) -> pd.DataFrame:
    """Read a parquet file whose rows are counted before they are unpacked: a few bytes can say a value a million times."""
    from pyarrow import BufferReader, compute, parquet, types

    file = parquet.ParquetFile(BufferReader(content), read_dictionary=TEXTS)
    _check_rows(file.metadata.num_rows)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    packed_by = {group.column(i).compression for group in groups for i in range(group.num_columns)}
    if not packed_by <= CODECS:  # others make gigabytes of a few bytes
        raise FileError(f"is packed by {', '.join(sorted(packed_by - CODECS))}; allowed: {', '.join(sorted(CODECS))}")
    is_ours = _is_ours(set())
    numbers = [one.name for one in file.schema_arrow if types.is_floating(one.type) and is_ours(one.name)]
    table = file.read(columns=[*(name for name in COLUMNS if name in file.schema_arrow.names), *numbers])
    for column in table.columns:
        for chunk in column.chunks:
            texts = getattr(chunk, "dictionary", None)
            if texts is not None and (compute.max(compute.binary_length(texts)).as_py() or 0) > LONGEST_TEXT:
                raise FileError(f"holds a text of more than {LONGEST_TEXT} bytes")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _check_rows(count: int) -> None:
    if count > MOST_ROWS:
        raise FileError(f"holds {count} rows, more than {MOST_ROWS}")


def write_rows(rows: Iterable[dict[str, Any]], columns: list[str], form: str, output: Path | None) -> None:
    """Write rows as csv, json or parquet to a file, or (csv and json) to stdout. Numbers keep all their digits.

    A row's `values` are columns of their own where `columns` has them.
    """
    if form == "parquet":
        assert output is not None, "parquet needs a file"
        _frame_of(rows, columns).to_parquet(output, index=False)
        return
    with contextlib.ExitStack() as stack:
        target: Any = sys.stdout
        if output is not None:
            target = stack.enter_context(open(output, "w", encoding="utf-8", newline=""))
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
