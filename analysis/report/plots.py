"""The plots of the pages, as SVG text. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("svg")
import matplotlib.pyplot as plt

from analysis.evidence.usable import LARGEST
from analysis.reading.result import Result
from analysis.sweepdir.layout import CANDIDATE
from analysis.verdict.numbers import percent
from analysis.verdict.verdict import Verdict

CANDIDATE_COLOUR, CONTROL_COLOUR, VERIFIER_COLOUR, THRESHOLD_COLOUR = "#0072B2", "#E69F00", "#009E73", "#D55E00"
OTHER_COLOUR = "#7F7F7F"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seedproof",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
LEAST_POINTS = 3  # of a curve of the metric: two say less than the training losses
CURVE_NAMES = {
    "val_bpb": "val_bpb",
    "val_loss": "val_loss (nats per token)",
    "train_loss": "training loss (nats per token)",
}


# -- a verdict's seeds -------------------------------------------------------------------------------------------------


def seeds_plot(verdict: Verdict) -> str:
    """Draw every seed's metric against SOTA and threshold, with the mean and its one-sided bound."""
    rows = [("candidate", verdict.runs, CANDIDATE_COLOUR)]
    if verdict.control:
        rows.append(("control", verdict.control, CONTROL_COLOUR))
    if verdict.verification is not None:
        rows.append(("verifier", verdict.verification.runs, VERIFIER_COLOUR))
    with _axes(2.7) as axes:
        for height, (_, runs, colour) in enumerate(rows):
            values = [value for run in runs if (value := run.value(verdict.metric)) is not None]
            axes.plot(values, [height] * len(values), "o", color=colour, alpha=0.75, clip_on=False)
        if verdict.mean is not None and verdict.upper_bound is not None:
            axes.plot([verdict.mean, verdict.upper_bound], [0.3, 0.3], "-|", color=CANDIDATE_COLOUR, linewidth=2)
            bound = f"mean to {percent(1 - verdict.alpha)} upper bound"
            axes.annotate(bound, (verdict.mean, 0.34), color=CANDIDATE_COLOUR, fontsize=9, va="bottom")
        for value, name, style in ((verdict.threshold, "threshold", "-"), (verdict.sota, "to beat", ":")):
            if value is not None:
                axes.axvline(value, color=THRESHOLD_COLOUR, linestyle=style, label=f"{name} {value:.5f}")
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(-0.5, len(rows) - 0.2)
        axes.set_xlabel(f"{verdict.metric} (lower is better)")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2, frameon=False)
        return _svg(axes, "Every seed's metric against the threshold")


# -- curves of training ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's values of `measure` at its steps."""

    arm: str
    measure: str
    steps: list[int]
    values: list[float]


def curves(verdict: Verdict) -> list[Curve]:
    """Return the metric as validated in training if every run has a curve of it, else every run's training losses.

    Runs that were read from a frame have no curve, and do not count as lacking one.
    """
    runs = [run for run in (*verdict.control, *verdict.runs) if run.run.trained]
    for measure, least in ((verdict.metric, LEAST_POINTS), ("train_loss", 2), ("val_loss", 2)):
        found = [curve for run in runs if len((curve := _curve(run, measure)).steps) >= least]
        if found and len(found) == len(runs):
            return found
    return []


def _curve(run: Result, measure: str) -> Curve:
    logged = [(step.step, getattr(step, measure)) for step in run.run.steps]
    points = [(at, value) for at, value in logged if value is not None and abs(value) < LARGEST]
    return Curve(arm=run.arm, measure=measure, steps=[at for at, _ in points], values=[value for _, value in points])


def curves_plot(curves: Sequence[Curve]) -> str:
    """Draw every run's curve, the control behind the candidate. The first steps, which would flatten the rest, are cut off."""
    measure = curves[0].measure
    with _axes(3.2) as axes:
        named = set()
        for curve in sorted(curves, key=lambda one: one.arm == CANDIDATE):
            colour, line = (CANDIDATE_COLOUR, "-") if curve.arm == CANDIDATE else (CONTROL_COLOUR, "--")
            label = None if curve.arm in named else curve.arm
            named.add(curve.arm)
            axes.plot(curve.steps, curve.values, color=colour, linestyle=line, alpha=0.75, linewidth=1.2, label=label)
        last = max(curve.steps[-1] for curve in curves)
        settled = [v for curve in curves for step, v in zip(curve.steps, curve.values, strict=True) if step > last / 20]
        if settled:
            room = max(0.05 * (max(settled) - min(settled)), 1e-3)
            axes.set_ylim(min(settled) - room, max(settled) + room)
        axes.set_xlabel("step")
        axes.set_ylabel(CURVE_NAMES[measure])
        axes.legend(frameon=False)
        return _svg(axes, f"{measure} of every run by step, in training")


# -- time and size -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """What one panel shows: a value of each run, None where unknown, and the rules' cap on it."""

    name: str
    values: list[float | None]
    cap: float | None = None


def caps_plot(verdict: Verdict) -> str | None:
    """Draw training time, time per step and artifact size of every run against the caps; None if all are unknown."""
    runs = [*verdict.runs, *verdict.control]
    shown = [measure for measure in _measures(verdict, runs) if any(value is not None for value in measure.values)]
    if not shown:
        return None
    with plt.rc_context(STYLE):
        size = (6.5, 1.1 + 0.24 * len(runs))
        _, panels = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False)
        heights = range(len(runs))
        colours = [CANDIDATE_COLOUR if run.arm == CANDIDATE else CONTROL_COLOUR for run in runs]
        for axes, measure in zip(panels[0], shown, strict=True):
            axes.barh(heights, [value or 0.0 for value in measure.values], color=colours, height=0.65)
            if measure.cap is not None:
                axes.axvline(measure.cap, color=THRESHOLD_COLOUR)
                axes.set_title(f"cap {measure.cap:g}", fontsize=10, color=THRESHOLD_COLOUR)
            axes.set_xlabel(measure.name)
        first = panels[0][0]
        first.set_yticks(heights, [_seed_label(run) for run in runs])
        first.invert_yaxis()
        return _svg(first, "Training time, time per step and artifact size of every run against their caps")


def _measures(verdict: Verdict, runs: Sequence[Result]) -> list[_Measure]:
    time_cap, size_cap = verdict.caps.get("train_time_s"), verdict.caps.get("artifact_bytes")
    read = [result.run for result in runs]
    times = [run.train_time_ms for run in read]
    sizes = [run.artifact_bytes for run in read]
    per_step = [
        run.train_time_ms / run.last_step if run.train_time_ms is not None and run.last_step else None for run in read
    ]
    return [
        _Measure(name="training, s", values=[None if t is None else t / 1000 for t in times], cap=time_cap),
        _Measure(name="ms per step", values=per_step),
        _Measure(
            name="artifact, MB",
            values=[None if size is None else size / 1e6 for size in sizes],
            cap=None if size_cap is None else size_cap / 1e6,
        ),
    ]


def _seed_label(run: Result) -> str:
    seed = "?" if run.seed is None else str(run.seed)
    return seed if run.arm == CANDIDATE else f"{run.arm} {seed}"


# -- the frontier of a leaderboard -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A record by its number in the table: its mean, and half the width of its interval, None for a single run."""

    number: int
    mean: float
    half: float | None
    ties: bool


def frontier_plot(records: Sequence[Point], metric: str) -> str:
    """Draw the records' means from the oldest at the top to the newest, with intervals, and the best mean so far."""
    with _axes(1.2 + 0.28 * len(records)) as axes:
        heights = range(len(records))
        best = [min(one.mean for one in records[: height + 1]) for height in heights]
        axes.step(best, heights, where="pre", color=THRESHOLD_COLOUR, linewidth=1.2, label="best so far")
        _points(axes, records, ties=True, colour=CANDIDATE_COLOUR, name="the best, and ties with it")
        _points(axes, records, ties=False, colour=OTHER_COLOUR, name="others")
        axes.set_yticks(heights, [str(one.number) for one in records])
        axes.invert_yaxis()
        low, high = min(one.mean for one in records), max(one.mean for one in records)
        room = max(0.15 * (high - low), 1e-3)
        axes.set_xlim(low - room, high + room)  # an interval of two runs may be wider than all records
        axes.set_xlabel(f"mean {metric} (lower is better)")
        axes.set_ylabel("record")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
        return _svg(axes, "Every record's mean and interval, oldest first, and the best so far")


def _points(axes: Axes, records: Sequence[Point], *, ties: bool, colour: str, name: str) -> None:
    """Draw those that tie with the best, or the others: filled with an interval, hollow for a single run."""
    own = [(height, one) for height, one in enumerate(records) if one.ties == ties]
    for filled in (True, False):
        points = [(height, one) for height, one in own if (one.half is not None) == filled]
        if points:
            means, at = [one.mean for _, one in points], [height for height, _ in points]
            if filled:
                halves = [one.half or 0.0 for _, one in points]
                axes.errorbar(means, at, xerr=halves, fmt="none", ecolor=colour, capsize=3)
            axes.plot(means, at, "o", color=colour, markerfacecolor=colour if filled else "none", label=name)
            name = "_"  # in the legend once


# -- SVG ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _axes(height: float) -> Iterator[Axes]:
    """Open one plot of the page's width, in our style."""
    with plt.rc_context(STYLE):
        yield plt.subplots(figsize=(6.5, height))[1]


def _svg(axes: Axes, title: str) -> str:
    """Return the figure as an <svg> element with an accessible name, drawn in the page's own text colour."""
    figure = axes.figure
    assert isinstance(figure, Figure), "the axes are not those of a subfigure"
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor").replace("font: 10px 'DejaVu Sans'", "font: 10px sans-serif")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
