"""What was read from the logs as a table for people: as many columns as fit; CSV and JSON hold all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.grid import Table, fitted, or_dash, text_table
from analysis.sweepdir.layout import CANDIDATE
from analysis.untrusted.escape import line_start, printable
from analysis.untrusted.secrets import redacted

OWN = ("val_bpb", "val_loss")
MOST_OTHERS = 3  # metrics of other names
RUN_SPARE = ("torch", "gpu", "label", "artifact", "train time", "state", "steps", "val_loss")
CURVE_SPARE = ("step avg", "run", "train time")

Rows = Sequence[Mapping[str, Any]]


def run_table(rows: Rows, width: int | None) -> str:
    """Return a line a run."""
    names = [name for name in OWN if any(row[name] is not None for row in rows)]
    names = names or [*dict.fromkeys(name for row in rows for name in row["values"])][:MOST_OTHERS]
    arms = any(row["arm"] != CANDIDATE for row in rows)
    return _text([_run(row, names, arms=arms) for row in rows], width, RUN_SPARE)


def _run(row: Mapping[str, Any], names: Sequence[str], *, arms: bool) -> dict[str, str]:
    time_ms = row["train_time_ms"]
    return {
        **({"arm": row["arm"]} if arms else {}),
        "seed": or_dash(row["seed"]),
        **{name: or_dash((row["values"] | row).get(name), "{:z.8f}") for name in names},
        "steps": or_dash(row["steps"]),
        "train time": or_dash(time_ms and time_ms / 1000, "{:.1f} s"),
        "artifact": or_dash(row["artifact_bytes"], "{:,} B"),
        "state": row["state"],
        "label": _shown(row["label"]),
        "gpu": _shown(row["gpu"]),
        "torch": _shown(row["torch"]),
        "log": _shown(row["log"]) + (f":{row['line']}" if row["line"] else ""),
    }


def curve_table(rows: Rows, width: int | None) -> str:
    """Return a line a logged step."""
    return _text([_step(row) for row in rows], width, CURVE_SPARE)


def _step(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "run": str(row["run"]),
        "seed": or_dash(row["seed"]),
        "step": str(row["step"]),
        **{name: or_dash(row[name], "{:.6g}") for name in ("train_loss", "val_loss", "val_bpb")},
        "train time": or_dash(row["train_time_ms"] and row["train_time_ms"] / 1000, "{:.1f} s"),
        "step avg": or_dash(row["step_avg_ms"], "{:.2f} ms"),
        "log": f"{_shown(row['log'])}:{row['line']}",
    }


def _shown(value: str | None) -> str:
    return or_dash(value and printable(redacted(value)))


def _text(table: Table, width: int | None, spare: Sequence[str]) -> str:
    lines = text_table(fitted(table, width, "log", spare))
    return "".join(f"{line_start(line)}\n" for line in lines)
