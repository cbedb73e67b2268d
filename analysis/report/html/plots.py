"""The plots of a verdict's runs: training curves, and what each run took of its caps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from analysis.evidence.usable import LARGEST
from analysis.reading.metric import Step
from analysis.reading.result import Result
from analysis.reading.run import Run
from analysis.report.html import svg
from analysis.report.html.svg import BAD, COLOURS, LINE_PX, Scale
from analysis.report.said.tables import run_name
from analysis.sweepdir.layout import CANDIDATE
from analysis.verdict.verdict import Verdict

MOST_STEPS = 100_000  # of all runs that one plot draws
MOST_DIGITS = 12  # of the tokens of a step
LEAST_POINTS = 3  # of a curve of the metric: two say less than the training losses
NAMES = {"val_bpb": "val_bpb", "val_loss": "val_loss, nats per token", "train_loss": "training loss, nats per token"}


# -- training curves -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's values of `measure`, by `along`: tokens, seconds of training, or steps."""

    arm: str
    measure: str
    along: str
    points: Mapping[float, float]


def tokens_per_step(run: Run) -> int | None:
    """Return how many tokens a step trains on, if one setting of the run says it; None otherwise."""
    said = {value for name, value in run.hyperparameters.items() if {"batch", "tokens"} <= {*name.lower().split("_")}}
    (value, *others) = [*said, ""] if said else ["", ""]
    known = value.isdecimal() and len(value) <= MOST_DIGITS and others == [""]
    return (int(value) or None) if known else None


def curves(verdict: Verdict) -> list[Curve]:
    """Return the metric as validated in training if every run has a curve of it, else every run's training losses.

    They go by tokens where every run tells how many a step takes, else by training time, else by step: runs of fewer steps
    may have seen as much. Runs that were read from a frame have no curve, and do not count as lacking one. More than
    MOST_STEPS are not drawn.
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
        for along, at in _ALONG.items():
            drawn = zip(runs, logged, strict=True) if measure in NAMES else ()
            found = [_curve(run, measure, along, at, steps) for run, steps in drawn]
            if found and all(len(curve.points) >= least for curve in found):
                return found
    return []


def _tokens(run: Run, step: Step) -> float | None:
    per_step = tokens_per_step(run)
    return None if per_step is None else float(per_step * step.step)


def _seconds(run: Run, step: Step) -> float | None:
    return None if step.train_time_ms is None else step.train_time_ms / 1000


_ALONG: dict[str, Callable[[Run, Step], float | None]] = {
    "tokens": _tokens,
    "training time, s": _seconds,
    "step": lambda run, step: float(step.step),
}


def _curve(
    run: Result, measure: str, along: str, at: Callable[[Run, Step], float | None], steps: Sequence[Step]
) -> Curve:
    logged = [(at(run.run, step), getattr(step, measure)) for step in steps]
    points = {x: y for x, y in logged if x is not None and y is not None and abs(y) < LARGEST}
    return Curve(arm=run.arm, measure=measure, along=along, points=points)


def curves_plot(curves: Sequence[Curve]) -> str:
    """Draw every run's curve, the control behind the candidate. The first steps, which would flatten the rest, are cut off."""
    along, height, left = curves[0].along, 220.0, 14.0
    last = max(max(curve.points) for curve in curves)
    values = [y for curve in curves for x, y in curve.points.items() if x > last / 20]
    values = values or [y for curve in curves for y in curve.points.values()]
    room = max(0.05 * (max(values) - min(values)), 1e-3)
    x = Scale(0.0, max(last, 1e-9), 0, 100)
    y = Scale(max(values) + room, min(values) - room, 0, 100)
    behind_first = sorted(curves, key=lambda one: one.arm == CANDIDATE)
    lines = [
        svg.curve(
            [(x(at), y(value)) for at, value in curve.points.items()],
            COLOURS["candidate" if curve.arm == CANDIDATE else "control"],
            "" if curve.arm == CANDIDATE else "5 3",
        )
        for curve in behind_first
    ]
    top = LINE_PX + 10.0
    parts = [svg.panel(left, top, 100 - left, height, lines)]
    parts += [svg.line(left, top, left, top + height), svg.line(left, top + height, 100, top + height)]
    for value, said in Scale(min(values) - room, max(values) + room).ticks():
        at = top + height * y(value) / 100
        parts += [svg.line(left, at, 100, at, svg.LINE, 1, "2 4"), svg.text(left - 1, at + 4, said, anchor="end")]
    for value, _ in Scale(0.0, max(last, 1e-9)).ticks(4):
        parts.append(svg.label(left + x(value) * (100 - left) / 100, top + height + LINE_PX, _large(value)))
    arms = list(dict.fromkeys(curve.arm for curve in reversed(behind_first)))
    keys = "; ".join(f"{arm}: {'full' if arm == CANDIDATE else 'broken'} line" for arm in arms)
    parts += [svg.text(0, LINE_PX - 2, f"{NAMES[curves[0].measure]} ({keys})", anchor="start")]
    parts += [svg.text(50, top + height + 2 * LINE_PX + 2, along)]
    return svg.drawing(top + height + 2 * LINE_PX + 8, f"{curves[0].measure} of every run by {along}", parts)


def _large(value: float) -> str:
    """Return a number of an axis: 1.5M, 200k, 40."""
    for unit, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * unit or (value >= unit and value % unit == 0):
            return f"{value / unit:g}{sign}"
    return f"{value:g}"


# -- caps ----------------------------------------------------------------------------------------------------------------

CAPS = {"training, s": ("train_time_s", 1.0), "artifact, MB": ("artifact_bytes", 1e6), "ms per step": ("", 1.0)}


def caps_plot(verdict: Verdict) -> str | None:
    """Draw training time, artifact size and time per step of every run as bars; None if all are unknown.

    What lies beyond a cap is drawn and named as beyond it. An unknown value is named as unknown, and has no bar.
    """
    runs = [*verdict.runs, *verdict.control]
    costs = [_costs(run.run) for run in runs]
    parts: list[str] = []
    y = 0.0
    for name, (key, unit) in CAPS.items():
        if any(cost[name] is not None for cost in costs):
            cap = verdict.caps.get(key)
            drawn, y = _panel(y, name, runs, [cost[name] for cost in costs], None if cap is None else cap / unit)
            parts += drawn
    return svg.drawing(y, "Training time, artifact size and time per step of every run", parts) if parts else None


def _panel(
    y: float, name: str, runs: Sequence[Result], values: Sequence[float | None], cap: float | None
) -> tuple[list[str], float]:
    longest = max([value for value in values if value is not None] + ([] if cap is None else [cap]))
    scale = Scale(0.0, longest or 1.0, 22, 66)
    parts = [svg.text(0, y + LINE_PX, f"{name}{'' if cap is None else f', cap {cap:g}'}", anchor="start", weight="600")]
    top = y = y + LINE_PX + 6
    for run, value in zip(runs, values, strict=True):
        arm = "candidate" if run.arm == CANDIDATE else "control"
        said = run_name(run, 1 + [one for one in runs if one.arm == run.arm].index(run))
        parts.append(svg.text(21, y + 12, said if arm == "candidate" else f"{arm} {said}", anchor="end"))
        within = value if value is None or cap is None else min(value, cap)
        if value is not None and within is not None:
            parts.append(svg.bar(scale(0.0), scale(within), y + 2, 11, COLOURS[arm], 0.75))
            parts += [svg.bar(scale(within), scale(value), y + 2, 11, BAD)] if value > within else []
        parts.append(svg.text(68, y + 12, _cost(value, cap), anchor="start"))
        y += LINE_PX + 1
    parts += [] if cap is None else [svg.line(scale(cap), top, scale(cap), y, BAD, 2)]
    return parts, y + 10


def _cost(value: float | None, cap: float | None) -> str:
    if value is None:
        return "unknown"
    said = f"{value:.2f}" if value < 100 else f"{value:.1f}"
    if cap is None or value <= cap:
        return said
    return f"{said}, over by {100 * (value / cap - 1):.2g}%"


def _costs(run: Run) -> dict[str, float | None]:
    """Return what the panels show of a run, under the names of CAPS."""
    time, size = run.train_time_ms, run.artifact_bytes
    per_step = time / run.last_step if time is not None and run.last_step else None
    return {"training, s": time and time / 1000, "ms per step": per_step, "artifact, MB": size and size / 1e6}
