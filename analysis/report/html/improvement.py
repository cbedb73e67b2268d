"""The plot of a verdict's improvement: how much better than what must be beaten each run is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.evidence.case import Source
from analysis.reading.result import Result
from analysis.report.html import svg
from analysis.report.html.svg import BAD, BLUE, COLOURS, LINE_PX, Scale
from analysis.report.said.tables import run_name
from analysis.rules.metrics import HIGHER, unit_of
from analysis.verdict.numbers import in_short, percent
from analysis.verdict.verdict import Verdict

MOST_LABELS = 4  # rows of labels above the points of one arm


def improvement_plot(verdict: Verdict) -> str | None:
    """Draw how much better than what must be beaten each run is, with the mean, its limit and what is needed.

    Right is better, whether the metric is to be low or high. None where there is nothing to compare with.
    """
    if verdict.sota is None or verdict.threshold is None:
        return None
    sign, sota = (-1 if verdict.direction == HIGHER else 1), verdict.sota
    second = verdict.verification.runs if verdict.verification is not None else ()
    arms: dict[str, Sequence[Result]] = {"candidate": verdict.runs, "control": verdict.control, "verifier": second}
    gains = {
        arm: [(sign * (sota - value), run) for run in runs if (value := run.value(verdict.metric)) is not None]
        for arm, runs in arms.items()
    }
    gains = {"pair": _pairs(verdict, sign)} | gains
    gain, needed = verdict.gain, sign * (sota - verdict.threshold)
    known = [0.0, needed, *(value for found in gains.values() for value, _ in found)]
    low = gain.low if gain is not None else None
    span = max(known) - min(known)
    inside = low is not None and low > min(known) - span  # an interval of two runs may be wider than everything else
    scale = Scale.around([*known, *([] if low is None else [low if inside else min(known) - span / 2])])
    parts, y = [*_limits(verdict, scale, needed)], 2 * LINE_PX + 14.0
    if gain is not None:
        drawn, y = _interval(verdict, scale, y)
        parts += drawn
    for arm, found in gains.items():
        if found:
            drawn, y = _points(scale, y, arm, found, several=sum(map(bool, gains.values())) > 1)
            parts += drawn
    unit = unit_of(verdict.metric)
    name = verdict.metric if unit == verdict.metric else f"{verdict.metric} ({unit})"
    lines = [svg.line(scale(0.0), LINE_PX + 6, scale(0.0), y, dash="2 3")]
    lines += [svg.line(scale(needed), 2 * LINE_PX + 6 if needed else LINE_PX + 6, scale(needed), y, BAD, 2)]
    parts = lines + parts + svg.axis(scale, y, f"improvement in {name}, right is better")
    return svg.drawing(y + 2 * LINE_PX + 8, "How much better than what must be beaten each run is", parts)


def _pairs(verdict: Verdict, sign: int) -> list[tuple[float, Result]]:
    """Return by how much each run is better than the control's run of its seed, where that is what was tested."""
    beaten = {run.seed: value for run in verdict.control if (value := run.value(verdict.metric)) is not None}
    values = [(run.value(verdict.metric), run) for run in verdict.runs if verdict.pair_sd is not None]
    return [(sign * (beaten[run.seed] - own), run) for own, run in values if own is not None and run.seed in beaten]


def _limits(verdict: Verdict, scale: Scale, needed: float) -> Iterator[str]:
    """Yield the names of the two vertical lines, one above the other, because the lines may be close."""
    assert verdict.sota is not None, "the plot has something to beat"
    origin = {Source.GIVEN: "SOTA", Source.TARGET: "target", Source.CONTROL: "control's mean"}[verdict.sota_is]
    beaten, shown = in_short(verdict.metric, verdict.sota, abs(needed) or 1.0)
    yield svg.label(scale(0.0), LINE_PX, f"{origin} {beaten}")
    if needed:
        yield svg.label(scale(needed), 2 * LINE_PX, f"needed {'' if needed > 0 else '-'}{shown}")


def _interval(verdict: Verdict, scale: Scale, y: float) -> tuple[list[str], float]:
    """Return the mean and its one-sided limit as a bar, and the height below it."""
    gain = verdict.gain
    assert gain is not None, "there is a mean"
    numbers = [gain.mean, *([] if gain.low is None else [gain.low])]
    mean, *low = in_short(verdict.metric, *numbers)
    middle = y + LINE_PX + 10
    names = [(scale(gain.mean), f"mean {mean}")]
    parts: list[str] = []
    if gain.low is not None:
        end = max(scale(gain.low), 1.0)
        parts += [svg.bar(end, scale(gain.mean), middle - 5, 10, BLUE, 0.3)]
        parts += [svg.line(end, middle - 9, end, middle + 9, BLUE, 3)] if scale(gain.low) >= 1 else []
        least = "at least" if gain.low >= 0 else "perhaps"
        names.insert(0, (end, f"{least} {low[0]} ({percent(1 - verdict.alpha)})"))
    parts.append(svg.line(scale(gain.mean), middle - 9, scale(gain.mean), middle + 9, BLUE, 3))
    rows = svg.rows_of_labels(names)
    tall = LINE_PX * max(rows)
    return [
        *_lower(parts, tall),
        *(
            svg.label(x, y + LINE_PX - 4 + tall - LINE_PX * row, said)
            for (x, said), row in zip(names, rows, strict=True)
        ),
    ], middle + tall + 14


def _lower(parts: list[str], by: float) -> list[str]:
    return [f'<g transform="translate(0 {by:g})">', *parts, "</g>"] if by else parts


def _points(
    scale: Scale, y: float, arm: str, found: Sequence[tuple[float, Result]], *, several: bool
) -> tuple[list[str], float]:
    """Return the runs of an arm as points that are named, and the height below them. A name without room is left out."""
    names = [(scale(value), run_name(run, number)) for number, (value, run) in enumerate(found, start=1)]
    rows = svg.rows_of_labels(names)
    tall = min(max(rows) + 1, MOST_LABELS)
    first = y + (LINE_PX if several else 0)
    middle = first + LINE_PX * tall + 6
    parts = [svg.text(0, first, arm, anchor="start", weight="600")] if several else []
    for (x, said), row, (value, _) in zip(names, rows, found, strict=True):
        parts.append(svg.dot(x, middle, COLOURS[arm], f"{said}: {value:z.6f}"))
        if row < MOST_LABELS:
            parts.append(svg.label(x, middle - 9 - LINE_PX * row, said))
    return parts, middle + 14
