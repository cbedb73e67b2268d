"""DataFrames of what was read, for those who have pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from analysis.reading.frame import to_frame
from analysis.reading.result import Result
from analysis.report.html.plots import tokens_per_step
from analysis.untrusted.files import spend
from analysis.untrusted.refusal import missing_extra

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 2**63 - 1  # that an Int64 holds
STEP_ROW = 1536  # bytes that a row counts as, of the budget of what is read
CURVE_COLUMNS = {  # with pandas' nullable types
    "arm": "string", "seed": "Int64", "log": "string", "step": "Int64", "tokens": "Int64", "time_s": "Float64",
    "train_loss": "Float64", "val_loss": "Float64", "val_bpb": "Float64",
}  # fmt: skip


def as_html(frame: pd.DataFrame) -> str | None:
    html: str | None = frame._repr_html_()  # type: ignore[operator]  # which escapes
    return html


def has_pandas() -> bool:
    return find_spec("pandas") is not None


def frame_of(rows: Sequence[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Return rows as a DataFrame. Raises UsageError where pandas is not installed."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return pd.DataFrame(rows, columns=[*columns])


def frame_of_runs(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per run. Raises UsageError where pandas is not installed."""
    try:
        return to_frame([*results])
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None


def frame_of_curves(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per logged step; tokens and time are empty where a run does not tell them."""
    return frame_of([row for one in results for row in _steps(one)], CURVE_COLUMNS).astype(CURVE_COLUMNS)


def _steps(one: Result) -> Iterable[dict[str, Any]]:
    tokens = tokens_per_step(one.run)
    for step in one.run.read_steps():
        spend(STEP_ROW)
        yield {
            "arm": one.arm,
            "seed": one.seed,
            "log": one.log,
            "step": step.step,
            "tokens": None if tokens is None or tokens * step.step > LARGEST else tokens * step.step,
            "time_s": None if step.train_time_ms is None else step.train_time_ms / 1000,
            "train_loss": step.train_loss,
            "val_loss": step.val_loss,
            "val_bpb": step.val_bpb,
        }
