"""The plots of a report, as SVG text. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("svg")
import matplotlib.pyplot as plt

from analysis.verdict import Verdict, percent

CANDIDATE_COLOUR, CONTROL_COLOUR, VERIFIER_COLOUR, THRESHOLD_COLOUR = "#0072B2", "#E69F00", "#009E73", "#D55E00"
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "seedproof", "font.size": 10, "axes.spines.top": False,
         "axes.spines.right": False, "figure.constrained_layout.use": True}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """The in-training losses of one run (validation losses where no others are logged): steps against nats per token."""

    arm: str
    steps: list[int]
    losses: list[float]


def seeds_plot(verdict: Verdict) -> str:
    """Every seed's metric against SOTA and threshold, with the mean and its one-sided bound."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 2.6))
        rows = [("candidate", verdict.runs, CANDIDATE_COLOUR)]
        if verdict.control:
            rows.append(("control", verdict.control, CONTROL_COLOUR))
        if verdict.verification is not None:
            rows.append(("verifier", verdict.verification.runs, VERIFIER_COLOUR))
        for height, (_, runs, colour) in enumerate(rows):
            values = [v for run in runs if (v := getattr(run, verdict.metric)) is not None]
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
    """Logged training losses of every run, the control behind the candidate."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 3))
        named = set()
        for curve in sorted(curves, key=lambda one: one.arm == "candidate"):
            colour = CANDIDATE_COLOUR if curve.arm == "candidate" else CONTROL_COLOUR
            label = None if curve.arm in named else curve.arm
            named.add(curve.arm)
            axes.plot(curve.steps, curve.losses, color=colour, alpha=0.7, linewidth=1, label=label)
        settled = [loss for curve in curves for step, loss in zip(curve.steps, curve.losses, strict=True) if step > 10]
        if settled:  # the first steps would flatten the rest
            axes.set_ylim(min(settled) - 0.1, max(settled) + 0.5)
        axes.set_xlabel("step")
        axes.set_ylabel("loss (nats per token)")
        axes.legend(frameon=False)
        return _svg(figure, "Training loss of every run by step")


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
