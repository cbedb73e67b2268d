"""Draw plots as SVG text that fits any width: places are shares of the width, letters and points keep their size.

Text and axes have the page's own colour, so they follow a dark theme. A drawing needs no style sheet: each colour is a
variable of the page with a value of its own where there is no page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from analysis.untrusted.escape import printable

BLUE, ORANGE, GREEN = "var(--blue, #0b5fa5)", "var(--orange, #9a5b00)", "var(--good, #00694f)"
BAD, MUTE, LINE = "var(--bad, #a63c00)", "var(--mute, #5a5a5a)", "var(--line, #d5d5d5)"
COLOURS = {"pair": BLUE, "candidate": BLUE, "control": ORANGE, "verifier": GREEN}
LETTER_PX, LINE_PX = 7.5, 16  # the widest usual letter at 13 pixels, and the height of a line of text
NARROWEST_PX = 340  # the width of a page on a phone: labels that do not collide there collide nowhere
NOTHING = 1e-12  # a span that no digit shows
LEFT, RIGHT = 6.0, 94.0  # shares of the width that data may take, in percent
STYLE = "font:13px system-ui,sans-serif;fill:currentColor"
HALO = "paint-order:stroke;stroke:var(--bg, Canvas);stroke-width:4px"  # a line behind a letter stays behind it


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers to shares of the width, in percent."""

    low: float
    high: float
    left: float = LEFT
    right: float = RIGHT

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = 0.5 if abs(span) < NOTHING else (value - self.low) / span
        return self.left + share * (self.right - self.left)

    @classmethod
    def around(cls, values: Iterable[float], **sides: float) -> Scale:
        """Return a scale that holds all values."""
        known = [*values]
        return cls(min(known), max(known), **sides)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Return round numbers between the ends, each with its text."""
        span = self.high - self.low
        if not NOTHING * max(1.0, abs(self.low), abs(self.high)) < span < math.inf:
            return [(self.low, f"{self.low:.6g}")]
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(power * unit for unit in (1, 2, 5, 10, 20) if span / (power * unit) <= most)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(number * step, f"{number * step:.{decimals}f}") for number in range(first, last + 1)]


def drawing(height: float, label: str, parts: Iterable[str]) -> str:
    """Return an <svg> element of the full width with an accessible name."""
    inside = "".join(parts)
    said = escape(printable(label))
    return f'<svg class="plot" role="img" aria-label="{said}" width="100%" height="{height:g}" style="{STYLE}">{inside}</svg>'


def text(
    x: float, y: float, said: str, *, anchor: str = "middle", weight: str = "", shift: float = 0, kind: str = ""
) -> str:
    """Return a line of text at `x` percent and `y` pixels. shift: pixels to the right; kind: a class of the page."""
    more = f' font-weight="{weight}"' if weight else ""
    more += f' dx="{shift:g}"' if shift else ""
    more += f' class="{kind}"' if kind else ""
    return f'<text x="{x:.3f}%" y="{y:g}" text-anchor="{anchor}" style="{HALO}"{more}>{escape(printable(said))}</text>'


class Room(NamedTuple):
    """Where a label begins and ends on a phone, in percent, and how it is anchored."""

    start: float
    end: float
    anchor: str


def room(x: float, said: str) -> Room:
    """Return the room of a label: centred on `x`, but near an end, where a phone has no room for that, from or to `x`."""
    width = 100 * (len(said) + 1) * LETTER_PX / NARROWEST_PX
    if x - width / 2 < 0:
        return Room(x, x + width, "start")
    if x + width / 2 > 100:
        return Room(x - width, x, "end")
    return Room(x - width / 2, x + width / 2, "middle")


def label(x: float, y: float, said: str) -> str:
    """Return text in its room at `x`."""
    return text(x, y, said, anchor=room(x, said).anchor)


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str = "currentColor", width: float = 1, dash: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.3f}%" y1="{y1:g}" x2="{x2:.3f}%" y2="{y2:g}"'
    return f'<line {ends} style="stroke:{colour}" stroke-width="{width:g}"{dashed}/>'


def bar(x1: float, x2: float, y: float, height: float, colour: str, opacity: float = 1) -> str:
    left, right = sorted((x1, x2))
    size = f'x="{left:.3f}%" y="{y:g}" width="{right - left:.3f}%" height="{height:g}"'
    return f'<rect {size} style="fill:{colour}" opacity="{opacity:g}"/>'


def dot(x: float, y: float, colour: str, title: str, radius: float = 5, *, filled: bool = True) -> str:
    """Return a point; a pointer on it shows `title`."""
    fill = f"fill:{colour}" if filled else f"fill:none;stroke:{colour};stroke-width:2"
    said = escape(printable(title))
    return f'<circle cx="{x:.3f}%" cy="{y:g}" r="{radius:g}" style="{fill}"><title>{said}</title></circle>'


def curve(points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> str:
    """Return a line through points in shares of a `panel`."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    places = " ".join(f"{10 * x:.1f},{10 * y:.1f}" for x, y in points)
    style = f"fill:none;stroke:{colour}"
    return (
        f'<polyline points="{places}" style="{style}" stroke-width="1.5" vector-effect="non-scaling-stroke"{dashed}/>'
    )


def panel(x: float, y: float, width: float, height: float, parts: Iterable[str]) -> str:
    """Return a part of the drawing that is stretched with the width: its curves, which are cut off at its borders."""
    size = f'x="{x:.3f}%" y="{y:g}" width="{width:.3f}%" height="{height:g}"'
    return f'<svg {size} viewBox="0 0 1000 1000" preserveAspectRatio="none">{"".join(parts)}</svg>'


def rows_of_labels(places: Sequence[tuple[float, str]]) -> list[int]:
    """Return a row for each label, from 0, so that no two of one row touch even on a phone."""
    rooms = [room(x, said) for x, said in places]
    ends: list[float] = []
    rows = [0] * len(places)
    for number in sorted(range(len(places)), key=lambda one: rooms[one]):
        left, right, _ = rooms[number]
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [right]
        rows[number] = row
    return rows


def axis(scale: Scale, y: float, name: str) -> list[str]:
    """Return a horizontal axis at `y` pixels with its ticks and its name."""
    parts = [line(0, y, 100, y)]
    for value, said in scale.ticks():
        parts += [line(scale(value), y, scale(value), y + 4), label(scale(value), y + LINE_PX, said)]
    return [*parts, text(50, y + 2 * LINE_PX + 2, name)]
