"""Random moves of the angle of t, one or more degrees of freedom back; the formulas are in analysis.stats.recursion."""

from __future__ import annotations

import math

import numpy as np

from analysis.stats.pieces import Array, graded

NEARER = math.pi / 2 * 8.0 ** -np.arange(1, 10)  # to a right angle, where cos^(df-1) is rough for few df


def is_rough(df: float) -> bool:
    """Whether cos^(df-1) has a singularity that matters."""
    return df < 5 and df % 1 > 0


class Turn:
    """The random angle x of a move: its density cos^(df-1) |sin|^(more-1), and panels that are smooth for it.

    `both`: x has both signs. With a gain the panels are `sharper` times as narrow, and reach `beyond` the usual.
    """

    def __init__(self, df: float, more: float, *, both: bool, sharper: float = 1, beyond: float = 0) -> None:
        self.df, self.more, self.peak = df, more, 0.0
        peak, reach, width = 0.0, math.pi / 2, 5 / math.sqrt(max(df - 1, 1))
        if more > 1:
            peak, sd = math.atan(math.sqrt((more - 1) / (df - 1))), 1 / math.sqrt(2 * (df + more - 2))
            reach, width = 14 * sd, 6 * sd
            self.peak = float(self._log(np.array(peak)))
        elif df > 1:
            reach = math.asin(math.sqrt(-math.expm1(-84 / (df - 1))))
        high = min(peak + reach + beyond, math.pi / 2)
        low = -min(reach, math.pi / 2) if both else max(peak - reach - beyond, 0)
        self.is_full = high > math.pi / 2 - 1e-3
        panels = np.linspace(low, high, 1 + math.ceil((high - low) / width * sharper))
        self.panels = np.unique([*panels, *(high - NEARER), *(NEARER - high)]) if is_rough(df) else panels
        x, weight = graded(self.panels[:-1], self.panels[1:])
        self.peak += math.log(np.sum(weight * np.exp(self._log(x) - self.peak)))

    def _log(self, x: Array) -> Array:
        cosines: Array = (1 - self.df) / 2 * np.log1p(np.tan(x) ** 2)
        return cosines if self.more == 1 else cosines + (self.more - 1) * np.log(np.abs(np.sin(x)) + 1e-300)

    def log_density(self, x: Array) -> Array:
        """Return the logarithm of the density at x."""
        return self._log(x) - self.peak


class Back(Turn):
    """The move from the angle of a later t to an earlier one, when `more` degrees of freedom go and `df` remain."""

    def __init__(self, s: float, df: float, more: float) -> None:
        super().__init__(df, more, both=s > 0)
        self.s, self.c = s, math.sqrt(1 - s * s)

    def moved(self, start: Array, x: Array) -> Array:
        """Return the earlier angle."""
        cos = np.cos(start)
        angle: Array = np.arctan2(self.c * np.sin(start) - self.s * cos * np.sin(x), cos * np.cos(x))
        return angle

    def density(self, start: Array, x: Array, there: Array) -> Array:
        """Return the density of x, which depends on nothing."""
        density: Array = np.exp(self.log_density(x))
        return density

    def leading_to(self, start: Array, goals: Array) -> Array:
        """Return the two x that lead to each goal; and, where x may be at its ends, points ever nearer to them.

        There t changes sign within a distance of |c tan(a') -+ s|.
        """
        sin, cos = np.sin(goals), self.s * np.cos(goals)
        slope = self.c * np.tan(start)[:, None]
        found = two_roots(np.arctan2(cos, sin), slope * np.cos(goals) / np.maximum(np.hypot(sin, cos), 1e-300))
        if not self.is_full or self.df > 12:
            return found
        steps = 8.0 ** np.arange(5 if self.df >= 2 else 9)
        ends = [math.pi / 2 - np.minimum(np.abs(slope - self.s) * steps, math.pi / 2)]
        ends.append(np.minimum(np.abs(slope + self.s) * steps, math.pi / 2) - math.pi / 2)
        return np.hstack([found, *ends])

    def image(self, goal: float) -> float:
        """Return the angle at which a move comes into reach of the goal: sin^2 = c^2 sin^2(goal) + s^2."""
        return math.copysign(math.asin(min(1, math.hypot(self.c * math.sin(goal), self.s))), goal)

    def starts(self, goal: float) -> list[float]:
        """Return the angles from which the ends of the panels lead to the goal, then the largest that may lead there.

        A move from above the last leads above the goal.
        """
        if goal >= math.pi / 2:
            return [math.pi / 2]
        turn = math.atan2(self.s * math.cos(goal), math.sin(goal))  # of the x that leads to the goal from its image
        sides = [x for x in self.panels if x < turn]
        starts = [math.atan((math.tan(goal) * math.cos(x) + self.s * math.sin(x)) / self.c) for x in sides]
        return [*starts, self.image(goal)] if turn < self.panels[-1] else starts


def two_roots(middle: Array, cosine: Array) -> Array:
    """Return the x with cos(x - middle) = cosine, from -pi to pi, and pi where there are none."""
    half, none = np.arccos(np.clip(cosine, -1, 1)), np.abs(cosine) > 1
    left, right = middle - half, middle + half
    right = np.where(right > math.pi, right - 2 * math.pi, right)
    return np.where(np.hstack([none, none]), math.pi, np.hstack([left, right]))
