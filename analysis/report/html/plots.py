"""The plots of the pages, as SVG text. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from analysis.evidence.usable import LARGEST
from analysis.reading.metric import Step
from analysis.reading.run import Run
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import CANDIDATE
from analysis.verdict.board.row import Row, half_width, sign_of, tied_for_best
from analysis.verdict.numbers import percent
from analysis.verdict.verdict import Verdict

COLOURS = {
    "candidate": "#0072B2",
    "control": "#E69F00",
    "verifier": "#009E73",
    "threshold": "#D55E00",
    "other": "#7F7F7F",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seedproof",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
MOST_STEPS = 100_000  # of all runs that one plot draws
LEAST_POINTS = 3  # of a curve of the metric: two say less than the training losses
CAPS = {"training, s": ("train_time_s", 1), "ms per step": ("", 1), "artifact, MB": ("artifact_bytes", 1e6)}
CURVE_NAMES = {
    "val_bpb": "val_bpb",
    "val_loss": "val_loss (nats per token)",
    "train_loss": "training loss (nats per token)",
}


def seeds_plot(verdict: Verdict) -> str:
    """Draw every seed's metric against SOTA and threshold, with the mean and its one-sided bound."""
    second = verdict.verification.runs if verdict.verification is not None else ()
    arms = {"candidate": verdict.runs, "control": verdict.control, "verifier": second}
    shown = [arm for arm in arms if arms[arm] or arm == "candidate"]
    with _figure(2.7) as figure:
        axes = figure.subplots()
        for height, arm in enumerate(shown):
            values = [value for run in arms[arm] if (value := run.value(verdict.metric)) is not None]
            axes.plot(values, [height] * len(values), "o", color=COLOURS[arm], alpha=0.75, clip_on=False)
        if verdict.mean is not None and verdict.upper_bound is not None:
            blue, bound = COLOURS["candidate"], f"mean to {percent(1 - verdict.alpha)} bound"
            axes.plot([verdict.mean, verdict.upper_bound], [0.3, 0.3], "-|", color=blue, linewidth=2)
            axes.annotate(bound, (verdict.mean, 0.34), color=blue, fontsize=9, va="bottom")
        for value, name, style in ((verdict.threshold, "threshold", "-"), (verdict.sota, "to beat", ":")):
            if value is not None:
                axes.axvline(value, color=COLOURS["threshold"], linestyle=style, label=f"{name} {value:.5f}")
        axes.set_yticks(range(len(shown)), shown)
        axes.set(ylim=(-0.5, len(shown) - 0.2), xlabel=f"{verdict.metric} ({verdict.direction} is better)")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2, frameon=False)
        return _svg(figure, "Every seed's metric against the threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's values of `measure` by step."""

    arm: str
    measure: str
    points: Mapping[int, float]


def curves(verdict: Verdict) -> list[Curve]:
    """Return the metric as validated in training if every run has a curve of it, else every run's training losses.

    Runs that were read from a frame have no curve, and do not count as lacking one. More than MOST_STEPS are not drawn.
    """
    runs = [run for run in (*verdict.control, *verdict.runs) if run.run.trained]
    logged: list[list[Step]] = []
    left = MOST_STEPS
    for run in runs:
        logged.append(list(islice(run.run.read_steps(), left + 1)))
        left -= len(logged[-1])
        if left < 0:
            return []
    for measure, least in ((verdict.metric, LEAST_POINTS), ("train_loss", 2), ("val_loss", 2)):
        drawn = zip(runs, logged, strict=True) if measure in CURVE_NAMES else ()
        found = [_curve(run.arm, measure, steps) for run, steps in drawn]
        if found and all(len(curve.points) >= least for curve in found):
            return found
    return []


def _curve(arm: str, measure: str, steps: Sequence[Step]) -> Curve:
    logged = {step.step: getattr(step, measure) for step in steps}
    points = {at: value for at, value in logged.items() if value is not None and abs(value) < LARGEST}
    return Curve(arm=arm, measure=measure, points=points)


def curves_plot(curves: Sequence[Curve]) -> str:
    """Draw every run's curve, the control behind the candidate. The first steps, which would flatten the rest, are cut off."""
    measure = curves[0].measure
    with _figure(3.2) as figure:
        axes = figure.subplots()
        unnamed = {curve.arm for curve in curves}
        for curve in sorted(curves, key=lambda one: one.arm == CANDIDATE):
            style: dict[str, Any] = {"color": _colour(curve.arm), "linestyle": "-" if curve.arm == CANDIDATE else "--"}
            if curve.arm in unnamed:  # in the legend once
                style["label"] = curve.arm
            unnamed.discard(curve.arm)
            axes.plot([*curve.points], [*curve.points.values()], alpha=0.75, linewidth=1.2, **style)
        last = max(max(curve.points) for curve in curves)
        if settled := [value for curve in curves for step, value in curve.points.items() if step > last / 20]:
            room = max(0.05 * (max(settled) - min(settled)), 1e-3)
            axes.set_ylim(min(settled) - room, max(settled) + room)
        axes.set(xlabel="step", ylabel=CURVE_NAMES[measure])
        axes.legend(frameon=False)
        return _svg(figure, f"{measure} of every run by step, in training")


def caps_plot(verdict: Verdict) -> str | None:
    """Draw training time, time per step and artifact size of every run against the caps; None if all are unknown."""
    runs = [*verdict.runs, *verdict.control]
    costs = [_costs(run.run) for run in runs]
    shown = [name for name in CAPS if any(cost[name] is not None for cost in costs)]
    if not shown:
        return None
    with _figure(1.1 + 0.24 * len(runs)) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, shown, strict=True):
            colours = [_colour(run.arm) for run in runs]
            axes.barh(range(len(runs)), [cost[name] or 0.0 for cost in costs], color=colours, height=0.65)
            key, unit = CAPS[name]
            if (cap := verdict.caps.get(key)) is not None:
                axes.axvline(cap / unit, color=COLOURS["threshold"])
                axes.set_title(f"cap {cap / unit:g}", fontsize=10, color=COLOURS["threshold"])
            axes.set_xlabel(name)
        seeds = ["?" if run.seed is None else str(run.seed) for run in runs]
        labels = [seed if run.arm == CANDIDATE else f"{run.arm} {seed}" for run, seed in zip(runs, seeds, strict=True)]
        panels[0].set_yticks(range(len(runs)), labels)
        panels[0].invert_yaxis()
        return _svg(figure, "Training time, time per step and artifact size of every run against their caps")


def _costs(run: Run) -> dict[str, float | None]:
    """Return what the panels show of a run, under the names of CAPS."""
    time, size = run.train_time_ms, run.artifact_bytes
    per_step = time / run.last_step if time is not None and run.last_step else None
    return {"training, s": time and time / 1000, "ms per step": per_step, "artifact, MB": size and size / 1e6}


def _colour(arm: str) -> str:
    return COLOURS["candidate" if arm == CANDIDATE else "control"]


def frontier_plot(rows: Sequence[Row], rules: Ruleset) -> str | None:
    """Draw the records' means from the oldest at the top to the newest, with intervals, and the best mean so far.

    Records are named by their number, counted from 1. None if no record has a rank.
    """
    means = {number: row.ranked for number, row in enumerate(rows, start=1) if row.ranked is not None and row.rank}
    if not means:
        return None
    tied, heights, values = tied_for_best(rows, rules), range(len(means)), [*means.values()]
    best_first, better = (max, "higher") if sign_of(rules) < 0 else (min, "lower")
    with _figure(1.2 + 0.28 * len(means)) as figure:
        axes = figure.subplots()
        best = [best_first(values[: height + 1]) for height in heights]
        axes.step(best, heights, where="pre", color=COLOURS["threshold"], linewidth=1.2, label="best so far")
        labels = {"candidate": "the best, and ties with it", "other": "others"}
        for height, (number, value) in enumerate(means.items()):
            row = rows[number - 1]
            kind, half = "candidate" if row in tied else "other", half_width(row, rules.alpha)
            colour, filling = COLOURS[kind], "none" if half is None else COLOURS[kind]
            style: dict[str, Any] = {
                "fmt": "o",
                "color": colour,
                "markerfacecolor": filling,
                "label": labels.pop(kind, None),
            }
            axes.errorbar(value, height, xerr=half, capsize=3, **style)
        axes.set_yticks(heights, map(str, means))
        axes.invert_yaxis()
        room = max(0.15 * (max(values) - min(values)), 1e-3)  # an interval of two runs may be wider than all records
        axes.set_xlim(min(values) - room, max(values) + room)
        axes.set(xlabel=f"mean {rules.ranked} ({better} is better)", ylabel="record")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
        return _svg(figure, "Every record's mean and interval, oldest first, and the best so far")


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    """Yield a figure of the page's width, in our style."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(6.5, height))


def _svg(figure: Figure, title: str) -> str:
    """Return the figure as an <svg> element with an accessible name, drawn in the page's own text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor").replace("font: 10px 'DejaVu Sans'", "font: 10px sans-serif")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
