"""trackio's database: a table `metrics` with a run's name, a step and JSON, and a table `configs`. It is read in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.reading.importers.made import (
    MOST_ROWS,
    MOST_RUNS,
    Row,
    Told,
    numbers_in,
    parsed,
    run_of,
    seed_in_name,
    seed_of,
    settings_of,
    whole,
)  # fmt: skip
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_small, spend

MAGIC = b"SQLite format 3\0"
LARGEST = 2**26  # bytes
LONGEST_VALUE = 2**20  # bytes of a text in it
MOST_STEPS = 2_000_000  # of its virtual machine
AT_ONCE = 10_000
ALL_ROWS = 10 * MOST_ROWS


def read_trackio(path: Path) -> list[Run]:
    """Return the runs of a trackio database; none if it is another one. Raises FileError if it is damaged."""
    content = read_small(path, LARGEST)
    if not content.startswith(MAGIC):
        return []
    spend(2 * len(content))
    content = content[:18] + b"\1\1" + content[20:]  # a write-ahead log is not read, so it must not be asked for
    connection = sqlite3.connect(":memory:")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(LONGEST_VALUE, len(content)))
        connection.deserialize(content)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        rounds = iter(range(MOST_STEPS // AT_ONCE))
        connection.set_progress_handler(lambda: next(rounds, None) is None, AT_ONCE)
        return _runs(path, connection)
    except FileError:
        raise
    except (sqlite3.Error, OverflowError, MemoryError, ValueError) as error:  # ValueError: a name that is no text
        raise FileError(f"is a database that cannot be read: {error}") from None
    finally:
        connection.close()


def _runs(path: Path, connection: sqlite3.Connection) -> list[Run]:
    if not {"run_name", "step", "metrics"} <= _columns(connection, "metrics"):
        return []
    configs: dict[str, Any] = {}
    if {"run_name", "config"} <= _columns(connection, "configs"):
        configs = dict(_cells(connection, "SELECT run_name, config FROM configs LIMIT ?", MOST_RUNS))
    rows: dict[str, list[Row]] = {}
    for name, step, said in _cells(connection, "SELECT run_name, step, metrics FROM metrics LIMIT ?", ALL_ROWS + 1):
        table = _json(said)
        own = rows.setdefault(str(name)[:200], [])
        own.append(Row(numbers=numbers_in(table), step=whole(step)))
    if sum(map(len, rows.values())) > ALL_ROWS or len(rows) > MOST_RUNS:
        raise FileError(f"holds more than {ALL_ROWS} rows or {MOST_RUNS} runs")
    found = []
    for name, own in rows.items():
        settings = _json(configs.get(name))
        seed = seed_of(settings)
        told = Told(
            log=path,
            origin=Origin.TRACKER,
            seed=seed_in_name(Path(name or "-")) if seed is None else seed,
            settings=settings_of(settings),
        )
        found.append(run_of(told, own))
    return found


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the columns of a table that stores its rows; none for a view, which may compute anything."""
    kinds = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    is_plain = [kind == "table" and str(sql).upper().startswith("CREATE TABLE") for kind, sql in kinds] == [True]
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")} if is_plain else set()


def _cells(connection: sqlite3.Connection, query: str, most: int) -> Iterator[Any]:
    for cells in connection.execute(query, (most,)):
        spend(sum(len(cell) for cell in cells if isinstance(cell, (str, bytes))))
        yield cells


def _json(said: Any) -> dict[str, Any]:
    table = parsed(said) if isinstance(said, (str, bytes)) else None
    return table if isinstance(table, dict) else {}
