"""Lines of JSON under another suffix than a log's: a row a step, of one run or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.reading.importers.made import (
    LARGEST,
    MOST_RUNS,
    Row,
    Told,
    beside,
    numbers_in,
    parsed,
    run_of,
    seed_in_name,
    seed_in_yaml,
    seed_of,
    settings_of,
    step_of,
)  # fmt: skip
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError, read_small, spend

RUNS = ("run_id", "run", "run_name", "name")
PARTS = ("config", "args", "hparams", "hyperparameters", "metrics", "data")  # tables in a row that belong to it


def read_jsonl(path: Path, *, named: bool) -> list[Run]:
    """Return the runs: one a seed or, without seeds, one a run's name. A row a seed without steps is a plain table."""
    content = read_small(path, 2 * LARGEST)
    spend(8 * len(content))
    groups: dict[object, list[Row]] = {}
    settings: dict[object, dict[str, Any]] = {}
    key: object = None
    for number, line in enumerate(content.split(b"\n"), start=1):
        row = parsed(line) if line.lstrip()[:1] == b"{" else None
        if not isinstance(row, dict):
            continue
        row = row | {
            name: value for part in PARTS if isinstance(row.get(part), dict) for name, value in row[part].items()
        }
        own: str | int | None = seed_of(row)
        own = next((str(row[name]) for name in RUNS if name in row), None) if own is None else own
        key = key if own is None else own
        settings.setdefault(key, {}).update(row)
        groups.setdefault(key, []).append(Row(numbers=numbers_in(row), step=step_of(row), line=number))
        if len(groups) > MOST_RUNS:
            raise FileError(f"holds more than {MOST_RUNS} runs")
    started = groups.pop(None, []) if len(groups) > 1 else []  # before the first seed
    found = []
    for key, rows in groups.items():
        printed = any(row.step is not None for row in rows)
        if not printed and len(groups) > 1 and not named and not isinstance(key, int):
            continue
        origin = (
            Origin.TRACKER
            if path.name.startswith("wandb")
            else Origin.LOG
            if printed or len(rows) > 1
            else Origin.TYPED
        )
        seed = key if isinstance(key, int) else _seed_beside(path) if origin is Origin.TRACKER else None
        told = Told(
            log=path, origin=origin, seed=seed, total_steps=_total(settings[key]), settings=settings_of(settings[key])
        )
        found.append(run_of(told, [*(started if len(groups) == 1 else []), *rows]))
    return [run for run in found if run.curve or run.values or run.finals]


def _seed_beside(path: Path) -> int | None:
    """Return the seed of a tracker's run, which is in its settings or its folder's name."""
    seed = seed_in_yaml(beside(path, "config.yaml"))
    return seed_in_name(path) if seed is None else seed


def _total(row: dict[str, Any]) -> int | None:
    return step_of(row, ("total_steps", "max_steps", "num_steps", "num_iterations"))
