"""The frame of runs: one row a run, in pandas, parquet, CSV or JSON.

A row is a `Result`: what a run's log says, with the one final metric that counts. The frame and the list of results
hold the same; pandas is imported only by the functions that need it.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.reading.grammar import Metric
from analysis.reading.reader import Run
from analysis.sweepdir.layout import STATES
from analysis.untrusted.escape import line_start

if TYPE_CHECKING:
    import pandas as pd


class FrameError(ValueError):
    """A file that is no frame of runs, as one sentence with the path."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run and its final metric. val_loss in nats per token, val_bpb in bits per byte; unknown is None.

    `state` is `succeeded`, or why a planned run has no result: failed, lost, stopped, pending or running.
    """

    arm: str
    seed: int | None
    state: str
    val_loss: float | None
    val_bpb: float | None
    label: str | None
    log: str
    line: int | None
    steps: int | None = None
    total_steps: int | None = None
    train_time_ms: float | None = None
    artifact_bytes: int | None = None
    code_bytes: int | None = None
    model_bytes: int | None = None
    model_params: int | None = None
    world_size: int | None = None
    python: str | None = None
    torch: str | None = None
    gpu: str | None = None
    train_shards: int | None = None
    val_tokens: int | None = None
    tokenizer: str | None = None
    source_sha256: str | None = None
    source_bytes: int | None = None


def from_run(run: Run, metric: Metric | None, log: str, arm: str = "candidate", state: str = "succeeded") -> Result:
    """The row of a run with the metric that counts; `log` is the path to print."""
    return Result(
        arm=arm,
        seed=run.seed,
        state=state,
        val_loss=metric.val_loss if metric else None,
        val_bpb=metric.val_bpb if metric else None,
        label=metric.label if metric else None,
        log=log,
        line=metric.line if metric else None,
        steps=run.last_step,
        total_steps=run.total_steps,
        train_time_ms=run.train_time_ms,
        artifact_bytes=run.artifact_bytes,
        code_bytes=run.code_bytes,
        model_bytes=run.model_bytes,
        model_params=run.model_params,
        world_size=run.world_size,
        python=run.python,
        torch=run.torch,
        gpu=run.gpu,
        train_shards=run.train_shards,
        val_tokens=run.val_tokens,
        tokenizer=run.tokenizer,
        source_sha256=run.source.sha256 if run.source else None,
        source_bytes=run.source.size_bytes if run.source else None,
    )


_DTYPES = {"int": "Int64", "float": "Float64", "str": "string"}
COLUMNS = {field.name: _DTYPES[str(field.type).split(" ")[0]] for field in fields(Result)}


def to_frame(results: list[Result]) -> pd.DataFrame:
    """Rows in the given order; nullable column types, so that a seed stays a whole number beside an unknown one."""
    import pandas as pd

    return pd.DataFrame([asdict(result) for result in results], columns=list(COLUMNS)).astype(COLUMNS)


def from_frame(frame: pd.DataFrame, source: str) -> list[Result]:
    """The results of a frame written by us. Raises FrameError for other columns or arms."""
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise FrameError(f"{source} is no frame of runs: the columns {', '.join(missing)} are missing.")
    rows: Any = frame[list(COLUMNS)].astype(COLUMNS).astype(object).to_dict("records")
    known: list[dict[str, Any]] = [{k: None if _unknown(v) else v for k, v in row.items()} for row in rows]
    if strange := {row["arm"] for row in known} - {"candidate", "control"}:
        raise FrameError(f"{source} has rows of the arm {strange.pop()!r}; allowed: 'candidate', 'control'.")
    for number, row in enumerate(known, start=1):
        if row["state"] not in STATES or not row["log"]:
            raise FrameError(
                f"{source}, row {number}: state is {row['state']!r} and log {row['log']!r}; each row needs both."
            )
    return [Result(**row) for row in known]


def _unknown(value: Any) -> bool:
    import pandas as pd

    return value is pd.NA or value is None or (isinstance(value, float) and math.isnan(value))


def read_frame(path: Path) -> list[Result]:
    """Results from a .parquet, .csv or .json frame. Raises FrameError when it is none of ours."""
    import pandas as pd

    readers: dict[str, Any] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".json": lambda file: pd.DataFrame(json.loads(file.read_text(encoding="utf-8"))),
    }
    try:
        return from_frame(readers[path.suffix](path), str(path))
    except FrameError:
        raise
    except Exception as error:  # each reader raises its own kinds
        raise FrameError(f"{path} cannot be read as a frame of runs: {str(error).splitlines()[0]}") from error


def write_rows(rows: Iterable[dict[str, Any]], columns: list[str], form: str, output: Path | None) -> None:
    """Write rows as csv, json or parquet to a file, or (the first two) to stdout. Numbers keep all their digits.

    csv and json are written without pandas, which takes longer to load than a thousand logs to read.
    """
    if form == "parquet":
        import pandas as pd

        assert output is not None, "parquet needs a file"
        frame = pd.DataFrame(list(rows), columns=columns)
        frame.astype({name: kind for name, kind in COLUMNS.items() if name in columns}).to_parquet(output, index=False)
        return
    with contextlib.ExitStack() as stack:
        target: Any = sys.stdout
        if output is not None:
            target = stack.enter_context(open(output, "w", encoding="utf-8", newline=""))
        if form == "csv":
            writer = csv.DictWriter(target, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows if output is not None else map(_shown, rows))
        else:
            json.dump([{key: finite_or_null(value) for key, value in row.items()} for row in rows], target, indent=1)
            target.write("\n")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row for a terminal or a CI's log: names from outside are shown, not obeyed."""
    return {name: line_start(value) if isinstance(value, str) else value for name, value in row.items()}


def finite_or_null(value: Any) -> Any:
    """A value with all that is in it as JSON can hold it: null for NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
