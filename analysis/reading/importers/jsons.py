"""JSON files: those of HF's Trainer, wandb's summary, lm-eval's results, and plain lists of seeds and values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.reading.importers.made import (
    MOST_RUNS,
    Row,
    Told,
    beside,
    json_in,
    number_of,
    numbers_in,
    run_of,
    seed_in_name,
    seed_in_yaml,
    seed_of,
    step_of,
    tables_in,
    whole,
)  # fmt: skip
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import FileError

STATE, ALL, SUMMARY = "trainer_state.json", "all_results.json", "wandb-summary.json"
OF_HF = (ALL, "eval_results.json", "test_results.json")
SETS = ("config", "configs", "versions", "n-shot")  # of lm-eval, next to its results
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
_SEED_KEY = re.compile(r"(?:seed[_ =-]?)?(\d{1,18})", re.IGNORECASE)


def read_json(path: Path, *, named: bool) -> list[Run]:
    """Return the runs that a JSON file tells of. Only a file that was named may lack the seeds of its values."""
    if _is_told_elsewhere(path) and not named:
        return []
    value = json_in(path)
    if isinstance(value, list):
        return _listed(path, [*tables_in(value)], named=named) or (_bare(path, value) if named else [])
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("log_history"), list):
        return [_trainer_state(path, value)]
    if isinstance(value.get("results"), dict) and any(name in value for name in SETS):
        return [_lm_eval(path, value)]
    if path.name == SUMMARY:
        return [_wandb_summary(path, value)]
    if path.name in OF_HF:
        told = Told(log=path, origin=Origin.TRACKER, seed=_seed(path, value), label=path.stem)
        return [run_of(told, [Row(numbers=numbers_in(value))])]
    return _by_seed(path, value, named=named)


def _is_told_elsewhere(path: Path) -> bool:
    """Whether another file of the run says the same and more: that of the whole training, or of a later checkpoint."""
    if path.name in OF_HF:
        return beside(path, *([STATE] if path.name == ALL else [STATE, ALL])) is not None
    at = _CHECKPOINT.fullmatch(path.parent.name) if path.name == STATE else None
    if at is None:
        return False
    if beside(path.parent, STATE, ALL) is not None:
        return True
    others = (_CHECKPOINT.fullmatch(one.name) for one in path.parent.parent.iterdir() if beside(one / STATE, STATE))
    return any(int(other[1]) > int(at[1]) for other in others if other)


def _seed(path: Path, settings: Mapping[str, Any]) -> int | None:
    seed = seed_of(settings)
    return seed if seed is not None else seed_in_name(path)


def _trainer_state(path: Path, state: Mapping[str, Any]) -> Run:
    """Return the run of HF's log_history: losses of training as `loss`, of evaluation as `eval_loss`."""
    rows = [Row(numbers=numbers_in(row), step=step_of(row)) for row in tables_in(state["log_history"])]
    if (more := beside(path, ALL)) is not None and isinstance(results := json_in(more), dict):
        rows.append(Row(numbers=numbers_in(results)))
    last, planned = whole(state.get("global_step")), whole(state.get("max_steps"))
    stopped = last is not None and planned is not None and last < planned and not _says_it_stopped(state)
    told = Told(log=path, origin=Origin.TRACKER, seed=_seed(path, {}), total_steps=planned if stopped else last)
    return run_of(told, rows)


def _says_it_stopped(state: Mapping[str, Any]) -> bool:
    """Whether the trainer itself ended early, by a callback."""
    callbacks = state.get("stateful_callbacks")
    control = callbacks.get("TrainerControl") if isinstance(callbacks, dict) else None
    arguments = control.get("args") if isinstance(control, dict) else None
    return isinstance(arguments, dict) and arguments.get("should_training_stop") is True


def _wandb_summary(path: Path, summary: Mapping[str, Any]) -> Run:
    seed = seed_in_yaml(beside(path, "config.yaml"))
    told = Told(
        log=path,
        origin=Origin.TRACKER,
        seed=_seed(path, summary) if seed is None else seed,
        total_steps=step_of(summary),
        label="summary",
    )
    flat = {
        name: value["last"] if isinstance(value, dict) and "last" in value else value for name, value in summary.items()
    }
    return run_of(told, [Row(numbers=numbers_in(flat))])


def _lm_eval(path: Path, report: Mapping[str, Any]) -> Run:
    """Return the run of an evaluation: each task's metrics as TASK_METRIC and, if it is the only one, as METRIC.

    The seed is that of the file's name, else the harness's own, which is 0 if nobody chose it.
    """
    tasks = {name: table for name, table in report["results"].items() if isinstance(table, dict)}
    numbers: dict[str, float] = {}
    for task, table in tasks.items():
        for key, value in numbers_in(table).items():
            metric, _, kind = key.partition(",")
            name = metric if kind in ("", "none") else f"{metric}_{kind}"
            numbers[f"{task}_{name}"] = value
            if len(tasks) == 1:
                numbers[name] = value
    config = report.get("config")
    seed = seed_in_name(path)
    if seed is None and isinstance(config, dict):
        seed = seed_of(config) or None
    return run_of(Told(log=path, origin=Origin.TRACKER, seed=seed), [Row(numbers=numbers)])


# -- plain values ------------------------------------------------------------------------------------------------------


def _listed(path: Path, rows: list[dict[str, Any]], *, named: bool) -> list[Run]:
    """Return the runs of a list with a table a run."""
    if len(rows) > MOST_RUNS:
        raise FileError(f"holds more than {MOST_RUNS} runs")
    seeds = [seed_of(row) for row in rows]
    if not named and None in seeds:
        return []
    return [_typed(path, seed, row) for seed, row in zip(seeds, rows, strict=True)]


def _typed(path: Path, seed: int | None, row: Mapping[str, Any]) -> Run:
    return run_of(Told(log=path, origin=Origin.TYPED, seed=seed), [Row(numbers=numbers_in(row))])


def _by_seed(path: Path, table: Mapping[str, Any], *, named: bool) -> list[Run]:
    """Return the runs of a table of seeds, or of one run's numbers. Both only of a file that was named."""
    if not named:
        return []
    keys = {key: _SEED_KEY.fullmatch(key) for key in table}
    if table and all(keys.values()):
        rows = [{"seed": int(match[1]), **_as_row(table[key])} for key, match in keys.items() if match]
        return _listed(path, rows, named=True)
    lists = {name: value for name, value in table.items() if isinstance(value, list)}
    if "seeds" in lists and all(len(value) == len(lists["seeds"]) for value in lists.values()):
        rows = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
        return _listed(path, [row | {"seed": row["seeds"]} for row in rows], named=True)
    return [_typed(path, seed_of(table), table)] if seed_of(table) is not None else []


def _as_row(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


def _bare(path: Path, values: list[Any]) -> list[Run]:
    """Return the runs of a list of nothing but numbers, whose metric nobody names."""
    numbers = [number for value in values if (number := number_of(value)) is not None]
    if len(numbers) != len(values) or len(numbers) > MOST_RUNS:
        return []
    return [_typed(path, None, {"value": number}) for number in numbers]
