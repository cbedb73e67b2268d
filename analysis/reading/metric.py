"""What a line tells of a run: a final metric, or a logged step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One final-metric line. val_loss is in nats per token, val_bpb in bits per byte; either may be NaN or infinite.

    A speedrun's last validation is a Metric too: its label is val_loss, and it has no val_bpb. `others` are metrics of
    any other name. `decimals` are those of the more exact number, `fewest_decimals` those of the other one where the
    line prints both.
    """

    label: str
    val_loss: float | None
    val_bpb: float | None
    decimals: int
    line: int
    diagnostic: bool = False
    fewest_decimals: int | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """Return the metric of that name; None where the line does not print it."""
        own = {"val_loss": self.val_loss, "val_bpb": self.val_bpb}
        return own[name] if name in own else self.others.get(name)

    @property
    def number(self) -> float:
        """Return what a line about it may show: its val_bpb, else its val_loss, else another of its values, else NaN."""
        known = (self.val_bpb, self.val_loss, *self.others.values())
        return next((one for one in known if one is not None), math.nan)

    @property
    def ratio(self) -> float | None:
        """Return val_bpb / val_loss: the tokenizer's tokens per byte / ln 2."""
        bpb, loss = self.val_bpb, self.val_loss
        return bpb / loss if bpb and loss and math.isfinite(bpb) and math.isfinite(loss) else None

    @property
    def rounding(self) -> float:
        """Return how far printing can move its numbers: half a unit of the fewest decimals."""
        decimals = self.decimals if self.fewest_decimals is None else self.fewest_decimals
        return 0.51 * 10.0**-decimals

    @property
    def ratio_rounding(self) -> float:
        """Return how far rounding of the two printed numbers can move their ratio."""
        return self.rounding * (1 + (self.ratio or 0)) / abs(self.val_loss or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One logged step. None means that the line does not print it."""

    step: int
    line: int
    train_loss: float | None
    val_loss: float | None
    val_bpb: float | None
    train_time_ms: float | None
    step_avg_ms: float | None
