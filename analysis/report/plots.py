"""The plots of a report, as SVG text. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("svg")
import matplotlib.pyplot as plt

from analysis.reading.result import Result
from analysis.report.opened import Curve
from analysis.verdict.verdict import Verdict, percent

CANDIDATE_COLOUR, CONTROL_COLOUR, VERIFIER_COLOUR, THRESHOLD_COLOUR = "#0072B2", "#E69F00", "#009E73", "#D55E00"
OTHER_COLOUR = "#7F7F7F"
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "seedproof", "font.size": 11, "axes.spines.top": False,
         "axes.spines.right": False, "figure.constrained_layout.use": True}  # fmt: skip


def seeds_plot(verdict: Verdict) -> str:
    """Every seed's metric against SOTA and threshold, with the mean and its one-sided bound."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 2.7))
        rows = [("candidate", verdict.runs, CANDIDATE_COLOUR)]
        if verdict.control:
            rows.append(("control", verdict.control, CONTROL_COLOUR))
        if verdict.verification is not None:
            rows.append(("verifier", verdict.verification.runs, VERIFIER_COLOUR))
        for height, (_, runs, colour) in enumerate(rows):
            values = [v for run in runs if (v := run.value(verdict.metric)) is not None]
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
        return _svg(figure, "Every seed's metric against the threshold")


def curves_plot(curves: list[Curve]) -> str:
    """Every run's curve, the control behind the candidate; the first steps, which would flatten the rest, are cut off."""
    measure = curves[0].measure
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 3.2))
        named = set()
        for curve in sorted(curves, key=lambda one: one.arm == "candidate"):
            of_candidate = curve.arm == "candidate"
            colour, line = (CANDIDATE_COLOUR, "-") if of_candidate else (CONTROL_COLOUR, "--")
            label = None if curve.arm in named else curve.arm
            named.add(curve.arm)
            axes.plot(curve.steps, curve.values, color=colour, linestyle=line, alpha=0.75, linewidth=1.2, label=label)
        last = max(curve.steps[-1] for curve in curves)
        settled = [v for curve in curves for step, v in zip(curve.steps, curve.values, strict=True) if step > last / 20]
        if settled:
            room = max(0.05 * (max(settled) - min(settled)), 1e-3)
            axes.set_ylim(min(settled) - room, max(settled) + room)
        axes.set_xlabel("step")
        axes.set_ylabel(
            {"val_bpb": "val_bpb", "val_loss": "val_loss (nats per token)"}.get(
                measure, "training loss (nats per token)"
            )
        )
        axes.legend(frameon=False)
        return _svg(figure, f"{measure} of every run by step, in training")


def caps_plot(verdict: Verdict) -> str | None:
    """Training time, time a step and artifact size of every run as bars, with the caps of the rules; None if unknown."""
    runs = [*verdict.runs, *verdict.control]
    time_cap, size_cap = verdict.caps.get("train_time_s"), verdict.caps.get("artifact_bytes")
    measures: list[tuple[str, Callable[[Result], float | None], float | None]] = [
        ("training, s", lambda run: None if run.run.train_time_ms is None else run.run.train_time_ms / 1000, time_cap),
        ("a step, ms", lambda run: run.run.train_time_ms / run.run.last_step if run.run.train_time_ms is not None and run.run.last_step else None, None),
        ("artifact, MB", lambda run: None if run.run.artifact_bytes is None else run.run.artifact_bytes / 1e6, size_cap and size_cap / 1e6),
    ]  # fmt: skip
    shown = [(name, of, cap) for name, of, cap in measures if any(of(run) is not None for run in runs)]
    if not shown:
        return None
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(shown), figsize=(6.5, 1.1 + 0.24 * len(runs)), sharey=True, squeeze=False)
        heights = range(len(runs))
        colours = [CANDIDATE_COLOUR if run.arm == "candidate" else CONTROL_COLOUR for run in runs]
        for axes, (name, of, cap) in zip(panels[0], shown, strict=True):
            axes.barh(heights, [of(run) or 0.0 for run in runs], color=colours, height=0.65)
            if cap is not None:
                axes.axvline(cap, color=THRESHOLD_COLOUR)
                axes.set_title(f"cap {cap:g}", fontsize=10, color=THRESHOLD_COLOUR)
            axes.set_xlabel(name)
        labels = [
            f"{'' if run.arm == 'candidate' else run.arm + ' '}{'?' if run.seed is None else run.seed}" for run in runs
        ]
        panels[0][0].set_yticks(heights, labels)
        panels[0][0].invert_yaxis()
        return _svg(figure, "Training time, time a step and artifact size of every run against their caps")


@dataclass(frozen=True, slots=True)
class Interval:
    """A record by its number in the table: its mean, half the width of its interval, whether it has one."""

    number: int
    mean: float
    half: float
    known: bool


def frontier_plot(records: list[Interval], metric: str, tied: list[int]) -> str:
    """The records' means from the oldest above to the newest below, with intervals, and the best mean so far."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 1.2 + 0.28 * len(records)))
        heights = range(len(records))
        best = [min(one.mean for one in records[: height + 1]) for height in heights]
        axes.step(best, heights, where="pre", color=THRESHOLD_COLOUR, linewidth=1.2, label="best so far")
        for group, colour, name in (
            (True, CANDIDATE_COLOUR, "the best, and ties with it"),
            (False, OTHER_COLOUR, "others"),
        ):
            own = [(height, one) for height, one in zip(heights, records, strict=True) if (one.number in tied) == group]
            if own:
                axes.errorbar(
                    [one.mean for _, one in own], [height for height, _ in own], xerr=[one.half for _, one in own], fmt="none",
                    ecolor=colour, capsize=3,
                )  # fmt: skip
                for known, fill in ((True, colour), (False, "none")):
                    points = [(one.mean, height) for height, one in own if one.known == known]
                    label = name if known or not any(one.known for _, one in own) else None
                    axes.plot(
                        *zip(*points, strict=True), "o", color=colour, markerfacecolor=fill, label=label
                    ) if points else None
        axes.set_yticks(heights, [str(one.number) for one in records])
        axes.invert_yaxis()
        low, high = min(one.mean for one in records), max(one.mean for one in records)
        room = max(0.15 * (high - low), 1e-3)
        axes.set_xlim(low - room, high + room)  # an interval of two runs may be wider than all records
        axes.set_xlabel(f"mean {metric} (lower is better)")
        axes.set_ylabel("record")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
        return _svg(figure, "Every record's mean and interval, oldest first, and the best so far")


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element with an accessible name, drawn in the page's own text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor").replace("font: 10px 'DejaVu Sans'", "font: 10px sans-serif")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
