"""Averages of the time a step takes: every usual formula is consistent, and an edited line is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from analysis.checks.consistent import Trace, check_consistent
from analysis.reading.metric import Metric
from analysis.reading.reader import read_log
from analysis.record.selection import Claimed
from analysis.rules.findings import Code

LAST, EVERY, EDITED = 2000, 20, 1000
Times = list[float]  # in ms, of every step from 0 on
FORMULAS: dict[str, Callable[[Times, int], float]] = {
    "since the start": lambda t, n: t[n] / n,
    "since the warm-up": lambda t, n: (t[n] - t[10]) / (n - 10),
    "since step 100": lambda t, n: (t[n] - t[100]) / max(1, n - 100),
    "one step too few": lambda t, n: t[n] / (n - 1),
    "since the last line": lambda t, n: (t[n] - t[n - EVERY]) / EVERY,
    "of the last step": lambda t, n: t[n] - t[n - 1],
    "smoothed": lambda t, n: sum((t[i] - t[i - 1]) * 0.9 ** (n - i) / 10 for i in range(1, n + 1)),
}
SHAPES = {
    "ms": "train_time:{ms:.0f}ms step_avg:{avg:.2f}ms",
    "whole ms": "train_time:{ms:.0f}ms step_avg:{avg:.0f}ms",
    "seconds": "train_time:{s:.3f}s step_avg:{avg:.2f}ms",
    "whole seconds": "train_time:{s:.0f}s step_avg:{avg:.1f}ms",
    "minutes": "train_time: {m:.1f}m step_avg: {avg:.1f}ms",
    "averages in seconds": "train_time:{s:.1f}s step_avg:{avg_s:.2f}s",
}


def clobbered(formula: str, shape: str, slow_ms: float = 0.0, time: float = 1.0, average: float = 1.0) -> list[Code]:
    """Return what is found in a log whose line EDITED has its time or average multiplied."""
    noise = random.Random(7)
    each = [
        60 * (1 + noise.gauss(0, 0.01)) + (slow_ms if n < 5 else 0) + (300 if n % 500 == 0 else 0) for n in range(LAST)
    ]
    times = [0.0, *accumulate(each)]
    lines = []
    for step in range(EVERY, LAST + 1, EVERY):
        ms, avg = times[step], FORMULAS[formula](times, step)
        if step == EDITED:
            ms, avg = ms * time, avg * average
        said = SHAPES[shape].format(ms=ms, s=ms / 1000, m=ms / 60_000, avg=avg, avg_s=avg / 1000)
        lines.append(f"step:{step}/{LAST} train_loss:3.0 {said}\n")
    (run,) = read_log(Path("a.log"), "".join(lines).encode())
    metric = Metric(label="x", val_loss=2.0, val_bpb=1.2, decimals=4, line=1)
    return [
        f.code
        for f in check_consistent(Trace.of(Claimed(log="a.log", run=run, metric=metric, training=run), most=LAST))
    ]


@pytest.mark.parametrize("slow_ms", [0, 12_000])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("formula", FORMULAS)
def test_an_average_fits_by_its_own_formula(formula: str, shape: str, slow_ms: float) -> None:
    assert clobbered(formula, shape, slow_ms) == []


@pytest.mark.parametrize("edit", [{"average": 0.9}, {"time": 0.98}, {"average": 0.33}])
@pytest.mark.parametrize("shape", ["ms", "seconds"])
@pytest.mark.parametrize("formula", list(FORMULAS)[:5])
def test_an_edited_line_fits_by_none(formula: str, shape: str, edit: dict[str, float]) -> None:
    assert Code.LOG_CLOBBERED in clobbered(formula, shape, **edit)
