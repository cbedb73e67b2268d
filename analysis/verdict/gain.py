"""How much better the runs are than what must be beaten, at least and on average, and how much is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from analysis.rules.metrics import HIGHER


class Against(Protocol):
    """What a gain is made of: the parts of a verdict, or of one of its criteria."""

    @property
    def direction(self) -> str: ...
    @property
    def sota(self) -> float | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def upper_bound(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Gain:
    """In the metric's unit, and positive where the runs are better, whether lower or higher is.

    low: the one-sided limit of the gain at 1 - alpha; None where nothing was tested. needed: what it must exceed.
    """

    mean: float
    low: float | None
    needed: float


def gain_of(one: Against) -> Gain | None:
    """Return the gain; None where nothing was compared."""
    if one.sota is None or one.threshold is None or one.value is None:
        return None
    sign = -1 if one.direction == HIGHER else 1
    low = None if one.upper_bound is None else sign * (one.sota - one.upper_bound)
    return Gain(mean=sign * (one.sota - one.value), low=low, needed=sign * (one.sota - one.threshold))
