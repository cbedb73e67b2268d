"""MLPerf's log: lines of `:::MLLOG` and JSON, with a key, a value and the time since 1970 in ms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.reading.grammar import LONGEST
from analysis.reading.importers.made import MOST_RUNS, Row, Told, number_of, parsed, run_of, settings_of, step_of, whole
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, spend

MARK = b":::MLLOG "
LINE = 2**11  # bytes that a line counts as
STEPS = ("step_num", "samples_count", "epoch_num", "current_epoch_num")  # how far a line says that training is
RESULTS = ("eval_", "accuracy", "loss")  # a key of these words is a result, any other one a setting


def read_mllog(path: Path, data: bytes) -> list[Run]:
    """Return the runs of a log with MLLOG lines; each begins with its first line after the last one's run_stop."""
    found, lines = [], []
    for line in _lines(data):
        lines.append(line)
        if line.key == "run_stop":
            found.append(_run(path, lines))
            lines = []
            if len(found) > MOST_RUNS:
                raise FileError(f"holds more than {MOST_RUNS} runs")
    if any(line.is_result for line in lines):
        found.append(_run(path, lines))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line: its number, key and value, its time in ms, and what its metadata say."""

    number: int
    key: str
    value: Any
    time_ms: float | None
    metadata: dict[str, Any]

    @property
    def is_result(self) -> bool:
        return any(word in self.key for word in RESULTS) and number_of(self.value) is not None


def _lines(data: bytes) -> Iterator[_Line]:
    at = number = 0
    while (at := data.find(MARK, start := at)) >= 0:
        spend(LINE)
        number += data.count(b"\n", start, at)
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        table = parsed(data[at + len(MARK) : min(end, at + LONGEST)])
        if isinstance(table, dict) and isinstance(table.get("key"), str):
            metadata = table.get("metadata")
            yield _Line(
                number=number + 1,
                key=table["key"][:100],
                value=table.get("value"),
                time_ms=number_of(table.get("time_ms")),
                metadata=metadata if isinstance(metadata, dict) else {},
            )
        at = end


def _run(path: Path, lines: list[_Line]) -> Run:
    times = {line.key: line.time_ms for line in lines if line.key in ("run_start", "run_stop")}
    started, stopped = times.get("run_start"), times.get("run_stop")
    status = next((line.metadata.get("status") for line in lines if line.key == "run_stop"), None)
    settings = {line.key: line.value for line in lines if not line.is_result}
    results = [line for line in lines if line.is_result]
    known = {step_of(line.metadata, STEPS) for line in results}
    rows = []
    for line in results:
        value = number_of(line.value)
        step = step_of(line.metadata, STEPS) if None not in known and len(known) == len(results) else None
        rows.append(Row(numbers={line.key: value} if value is not None else {}, step=step, line=line.number))
    seeds = [seed for line in lines if line.key == "seed" and (seed := whole(line.value)) is not None]
    told = Told(
        log=path,
        origin=Origin.LOG,
        seed=seeds[0] if seeds else None,
        settings=settings_of(settings),
        finished=status in (None, "success"),
    )
    run = run_of(told, rows)
    took = stopped - started if started is not None and stopped is not None else None
    return replace(run, line=lines[0].number, train_time_ms=took if took is not None and took >= 0 else None)
