"""The chance that a later look crosses, given t now and a gain: backwards from the last look.

With the angles of analysis.stats.recursion, one seed more is a random angle x of density cos^df x:
sin(a') = c sin(a) cos(x) + s sin(x). Degrees of freedom alone are the same with s = 0. A true gain multiplies the
density of every move by the ratio of the likelihood ratios after and before it (Doob's transform), because the likelihood
ratio of all t so far is that of the last. So does a mean over gains: one pass serves them all.
Reached: an absolute error below 1e-7, because the chance is shown in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logsumexp

from analysis.stats.moves import Turn, two_roots
from analysis.stats.pieces import Array, Pieces, fitted, mean, separate
from analysis.stats.recursion import MOST_KINKS, Design, angle_of, bottom, log_likelihood_ratio

TOLERANCE = 1e-7  # of the last terms of a series; a chance of passing has a tenth of it
LARGEST_MU = 200.0  # noncentrality; a larger one has no larger chance


@dataclass(frozen=True, slots=True)
class Gains:
    """True gains in sd and how much each is worth: weights that are the same for all data."""

    deltas: tuple[float, ...]
    weights: tuple[float, ...]

    def up_to(self, information: float) -> Gains:
        """Return the gains with none above LARGEST_MU at this information."""
        return Gains(tuple(min(delta, LARGEST_MU / math.sqrt(information)) for delta in self.deltas), self.weights)


@lru_cache(maxsize=1024)
def _likelihood(df: float, information: float, gains: Gains) -> Pieces:
    """Return the logarithm of t's likelihood ratio as a function of the angle."""

    def logarithm(angle: Array) -> Array:
        mus = [delta * math.sqrt(information) for delta in gains.deltas]
        ratios = [log_likelihood_ratio(np.sin(angle), df, mu, np.cos(angle) ** 2) for mu in mus]
        ratio: Array = logsumexp(ratios, axis=0, b=np.reshape(gains.weights, (-1, 1)))
        return ratio

    unit = 1 / math.sqrt(df)
    return fitted(
        logarithm, separate([bottom(df), math.pi / 2], unit * np.array([-3, 0, 3, 9, 27]), unit), unit, TOLERANCE
    )


class On(Turn):
    """The move from the angle of a t of `df` degrees of freedom to a later one with `more` of them."""

    def __init__(self, df: float, more: float, before: float, after: float, gains: Gains) -> None:
        sharper = math.sqrt(1 + (max(gains.deltas) / 2) ** 2 * after / df)
        self.s, self.c = math.sqrt(1 - before / after), math.sqrt(before / after)
        super().__init__(df + 1, more, both=self.s > 0, sharper=sharper, beyond=max(gains.deltas) / math.sqrt(df))
        self.ratio = _likelihood(df, before, gains), _likelihood(df + more, after, gains)

    def moved(self, start: Array, x: Array) -> Array:
        """Return the later angle."""
        sin, cos = np.sin(start), np.cos(start)
        side = np.hypot(cos * np.cos(x), self.c * np.sin(x) - self.s * sin * np.cos(x))
        angle: Array = np.arctan2(self.c * sin * np.cos(x) + self.s * np.sin(x), side)
        return angle

    def density(self, start: Array, x: Array, there: Array) -> Array:
        """Return the density of x under the gain."""
        before, after = self.ratio
        gained = after(after.piece(there), there) - before(before.piece(start), start)
        density: Array = np.exp(self.log_density(x) + gained)
        return density

    def leading_to(self, start: Array, goals: Array) -> Array:
        """Return the two x that lead to each goal."""
        across = self.c * np.sin(start)[:, None]
        return two_roots(np.arctan2(self.s, across), np.sin(goals) / np.maximum(np.hypot(across, self.s), 1e-300))

    def image(self, goal: float) -> float | None:
        """Return the angle from which the goal comes into reach, if there is one."""
        reach = math.sin(goal) ** 2 - self.s**2
        return math.asin(min(1.0, math.sqrt(reach) / self.c)) if goal > 0 and reach > 0 else None

    def starts(self, goal: float) -> list[float]:
        """Return the angles from which the ends of the panels lead to the goal."""
        sines = [(math.sin(goal) - self.s * math.sin(x)) / (self.c * max(math.cos(x), 1e-9)) for x in self.panels]
        return [math.asin(sine) for sine in sines if abs(sine) < 1]


def staying(design: Design, criticals: Sequence[float], look: int, t: float, gains: Gains) -> float:
    """Return the chance that no later look crosses, given t at this one (counted from 0).

    With several gains it is their mean, each by its weight and its likelihood at t.
    """
    last = len(criticals) - 1
    gains = gains.up_to(design.information(design.looks[last]))
    cuts = [angle_of(critical, design.known(k)) for k, critical in enumerate(criticals)]
    stays = Pieces.constant(bottom(design.known(last)), cuts[last])
    kinks: list[float] = []
    for k in range(last - 1, look - 1, -1):
        moves = _moves(design, k, gains)
        for move in moves[:0:-1]:
            stays, kinks = _before(stays, kinks, move, math.pi / 2)
        if k > look:
            stays, kinks = _before(stays, kinks, moves[0], cuts[k])
    here = np.array([max(angle_of(t, design.known(look)), bottom(design.known(look)))])
    return float(np.clip(mean(stays, math.inf, moves[0], here), 0, 1)[0])


def _moves(design: Design, look: int, gains: Gains) -> list[On]:
    """Return the moves from a look to the next."""
    df, later = design.known(look), design.known(look + 1)
    before, after = (design.information(n) for n in design.looks[look : look + 2])
    moves = [On(df, 1, before, after, gains)]
    return [*moves, On(df + 1, later - df - 1, after, after, gains)] if later - df > 1.5 else moves


def _before(stays: Pieces, kinks: list[float], move: On, high: float) -> tuple[Pieces, list[float]]:
    """Return the chance of staying below all later boundaries before a move, as a function of the angle, and its kinks."""
    cut, df = stays.knots[-1], move.df - 1
    images = (move.image(kink) for kink in [cut, *kinks])
    kinks = [image for image in images if image is not None][:MOST_KINKS]
    knots = separate([bottom(df), high], [*kinks, *move.starts(cut)], 1 / math.sqrt(df))
    return fitted(lambda start: mean(stays, math.inf, move, start), knots, 1 / math.sqrt(df), TOLERANCE), kinks
