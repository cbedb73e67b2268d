"""Functions of an angle that have kinks: series between knots, as many as the error asks for, and integrals to match.

A point of an interval is low + (high - low) sin^2(pi x / 2), x from 0 to 1. A square root at either end of the interval
is smooth in x. So series (Chebyshev) and integrals (Gauss) in x converge as fast as for a function without kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.polynomial import chebyshev

TERMS, NODES = 24, 24  # of each piece's series and integral
NOTHING = 1e-22  # a panel whose middle weighs less does not count
HALVINGS = 16  # of a piece whose series does not converge
Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

_X, _W = np.polynomial.legendre.leggauss(NODES)
_AT, _WEIGHT = np.sin(np.pi * (1 + _X) / 4) ** 2, np.pi / 4 * np.cos(np.pi * _X / 2) * _W
_POINTS = chebyshev.chebpts1(TERMS)
_FIT_AT, _FIT = np.sin(np.pi * (1 + _POINTS) / 4) ** 2, np.linalg.inv(chebyshev.chebvander(_POINTS, TERMS - 1))


@dataclass(frozen=True, slots=True)
class Pieces:
    """A function on knots[0] to knots[-1]; `series` has a row for each term and a column for each piece."""

    knots: Array
    series: Array

    @classmethod
    def constant(cls, low: float, high: float) -> Pieces:
        """Return the function that is 1."""
        return cls(np.array([low, high]), np.ones((1, 1)))

    def piece(self, angle: Array) -> Indices:
        """Return which piece each angle is in; those outside are in the first or the last."""
        return np.clip(np.searchsorted(self.knots, angle) - 1, 0, len(self.knots) - 2)

    def __call__(self, piece: Indices, angle: Array) -> Array:
        """Return the values at angles, which are in these pieces; beyond its piece an angle has the value of the end."""
        low, high = self.knots[piece], self.knots[piece + 1]
        inside: Array = np.minimum(np.maximum(angle, low), high)
        x = np.arctan2(np.sqrt(inside - low), np.sqrt(high - inside)) * (4 / np.pi) - 1
        value = chebyshev.chebval(x, self.series[:, piece], tensor=False)
        return np.asarray(value, dtype=np.float64)


def graded(low: Array, high: Array) -> tuple[Array, Array]:
    """Return points and weights of the integral from low to high, along a new last axis."""
    width = (high - low)[..., None]
    return low[..., None] + width * _AT, width * _WEIGHT


def separate(ends: list[float], between: Iterable[float], unit: float) -> Array:
    """Return the two ends and the knots between them, in order, less those that are next to an earlier one."""
    knots = list(ends)
    for knot in between:
        if ends[0] < knot < ends[1] and min(abs(knot - other) for other in knots) > 1e-3 * unit:
            knots.append(knot)
    return np.array(sorted(knots))


def fitted(function: Callable[[Array], Array], knots: Array, unit: float, tolerance: float) -> Pieces:
    """Return the function in pieces between the knots, halved until the last terms of each series are below the tolerance.

    The error of a piece counts as much as the piece is wide, in units of `unit`, about one standard deviation.
    """
    todo, done, series = np.stack([knots[:-1], knots[1:]], axis=1), [], []
    for halving in range(HALVINGS + 1):
        low, width = todo[:, :1], todo[:, 1:] - todo[:, :1]
        fit = _FIT @ function((low + width * _FIT_AT).ravel()).reshape(-1, TERMS).T
        error = np.abs(fit[-3:]).max(axis=0) * np.minimum(1, width[:, 0] / unit)
        good = (error < tolerance) | (halving == HALVINGS)
        done.append(todo[good])
        series.append(fit[:, good])
        todo = todo[~good]
        if not len(todo):
            break
        middle = todo.mean(axis=1, keepdims=True)
        todo = np.concatenate([np.hstack([todo[:, :1], middle]), np.hstack([middle, todo[:, 1:]])])
    bounds, terms = np.concatenate(done), np.concatenate(series, axis=1)
    order = np.argsort(bounds[:, 0])
    count = 1 + np.max(np.nonzero(np.abs(terms).max(axis=1) > tolerance / 100)[0], initial=0)
    return Pieces(np.append(bounds[order, 0], knots[-1]), terms[:count, order])


class Kernel(Protocol):
    """A random move from one angle to another: by an angle x whose density is smooth between the panels."""

    panels: Array

    def moved(self, start: Array, x: Array) -> Array:
        """Return the angle that x leads to."""

    def leading_to(self, start: Array, goals: Array) -> Array:
        """Return, a row for each start, every x that leads to one of the goals, and others at which to divide."""

    def density(self, start: Array, x: Array, there: Array) -> Array:
        """Return the density of x, which leads there."""


def mean(function: Pieces, cut: float, kernel: Kernel, start: Array) -> Array:
    """Return the mean of the function after a move from each start. A move beyond `cut` or the last knot is worth 0.

    The integral over x is divided at the panels and at each x that leads to a knot.
    """
    cut = min(cut, function.knots[-1])
    goals = np.append(function.knots[(function.knots > function.knots[0]) & (function.knots < cut)], cut)
    low, high = kernel.panels[[0, -1]]
    panels = np.broadcast_to(kernel.panels, (len(start), len(kernel.panels)))
    edges = np.sort(np.clip(np.hstack([panels, kernel.leading_to(start, goals)]), low, high), axis=1)
    width, x = np.diff(edges), (edges[:, 1:] + edges[:, :-1]) / 2
    middle = kernel.moved(start[:, None], x)
    counts = width * kernel.density(start[:, None], x, middle) > NOTHING
    row, column = np.nonzero(counts & (width > 1e-15 * high) & (middle < cut))
    x, weight = graded(edges[row, column], edges[row, column + 1])
    there = kernel.moved(start[row, None], x)
    density = kernel.density(start[row, None], x, there)
    parts = np.sum(weight * density * function(function.piece(middle[row, column])[:, None], there), axis=1)
    means: Array = np.bincount(row, parts, len(start)).astype(float)
    return means
