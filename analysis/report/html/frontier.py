"""The plots of a board: the best so far by date, and one value with its interval for a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from unicodedata import east_asian_width

from analysis.report.board import ranked_in_words
from analysis.report.html import svg
from analysis.report.html.svg import BLUE, LINE_PX, MUTE, Scale
from analysis.report.said.standing import digits
from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.row import Row, half_width, place, sign_of

TOP, HEIGHT = LINE_PX + 10.0, 240.0
WIDE_PX = 860  # of the plot where the page is wide enough for more names: `.roomy` of board.css
LONGEST_NAME = 28
BEYOND = 0.5  # how far below the worst record of the frontier others are drawn, as a share of its height
SHOWN, FEW = 0.5, 10  # a share of the records, the best ones, and at least so many, lie inside the small plots
NO_DATE = 8.0  # where records without a date are, in percent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A record in the plot: its place by percent and pixels. gain: by how much it moved the best, None where it did not."""

    row: Row
    x: float
    y: float
    gain: float | None


def frontier_plot(rows: Sequence[Row], rules: Ruleset, names: Mapping[str, str]) -> str | None:
    """Draw every record that has a rank by its date, up is better, and the best so far as a line.

    names: of the records in short. None if no record has a rank.
    """
    ranked = [row for row in rows if place(row, rules) is not None]
    if not ranked:
        return None
    x, ticks = _dates(ranked)
    y, worst = _heights(ranked, rules)
    points = list(_points(ranked, rules, x, y))
    stood = [point for point in points if point.gain is not None]
    others = [point for point in points if point.gain is None]
    parts = [*_grid(rules, worst, y), *ticks]
    parts += [_interval(point, rules, y) for point in (*others, *stood)]
    parts += [_dot(point, rules, names, MUTE, 3.5) for point in others]
    parts += [_steps(stood), *(_dot(point, rules, names, BLUE, 5) for point in stood)]
    parts += _labels(stood, others, names, _axis(rules))
    return svg.drawing(
        TOP + HEIGHT + 2 * LINE_PX, f"{ranked_in_words(rules)} of every record by date, and the best so far", parts
    )


def _axis(rules: Ruleset) -> str:
    return f"{ranked_in_words(rules)}: {'higher' if sign_of(rules) < 0 else 'lower'} is better, the best on top"


def _dates(rows: Sequence[Row]) -> tuple[Callable[[int], float], list[str]]:
    """Return where the record of a number is, and the ticks. Without two dates the records are in their order."""
    days = [None if row.date is None else date.fromisoformat(row.date).toordinal() for row in rows]
    known = sorted({day for day in days if day is not None})
    if len(known) < 2:
        scale = Scale(0, len(rows) - 1, 3, 97)
        said = "in the order of their names" if not known else f"all of {date.fromordinal(known[0]).isoformat()}"
        return lambda number: scale(number), [svg.text(50, TOP + HEIGHT + LINE_PX + 4, f"records, {said}")]
    undated = None in days
    scale = Scale(known[0], known[-1], NO_DATE + 19 if undated else 3, 96)
    ticks = [svg.text(NO_DATE, TOP + HEIGHT + LINE_PX + 4, "no date")] if undated else []
    same_year = date.fromordinal(known[0]).year == date.fromordinal(known[-1]).year
    for share in (0, 1 / 3, 2 / 3, 1) if known[-1] - known[0] >= 3 else (0, 1):
        day = date.fromordinal(round(known[0] + share * (known[-1] - known[0])))
        said = f"{day.day} {day:%b}" if same_year else f"{day:%b} {day.year}"
        ticks.append(svg.text(scale(day.toordinal()), TOP + HEIGHT + LINE_PX + 4, said))

    def at(number: int) -> float:
        day = days[number]
        return NO_DATE if day is None else scale(day)

    return at, ticks


def _heights(rows: Sequence[Row], rules: Ruleset) -> tuple[Scale, tuple[float, float]]:
    """Return the scale of what rows are sorted by to pixels, and its best and worst value.

    A record far below the frontier is drawn at the lower end: it would flatten the rest.
    """
    places = [place(row, rules) or 0.0 for row in rows]
    frontier = [places[0]]
    for one in places:
        frontier += [one] if one < frontier[-1] else []
    span = frontier[0] - frontier[-1]
    worst = min(max(places), frontier[0] + BEYOND * span) if span > 0 else max(places)
    room = 0.06 * (worst - frontier[-1]) or max(1e-3 * abs(worst), 1e-9)
    best, worst = frontier[-1] - room, worst + room
    return Scale(best, worst, TOP, TOP + HEIGHT), (best, worst)


def _points(rows: Sequence[Row], rules: Ruleset, x: Callable[[int], float], y: Scale) -> Iterator[_Point]:
    best: float | None = None
    for number, row in enumerate(rows):
        at = place(row, rules) or 0.0
        gain = None if best is not None and at >= best else 0.0 if best is None else best - at
        best = at if gain is not None else best
        yield _Point(row=row, x=x(number), y=min(y(at), TOP + HEIGHT), gain=gain)


def _grid(rules: Ruleset, ends: tuple[float, float], y: Scale) -> Iterator[str]:
    sign = sign_of(rules)
    for value, said in Scale(*sorted(sign * end for end in ends)).ticks():
        yield svg.line(0, y(sign * value), 100, y(sign * value), svg.LINE)
        yield svg.text(0, y(sign * value) + 4, said, anchor="end", shift=-6)
    yield svg.line(0, TOP + HEIGHT, 100, TOP + HEIGHT)


def _interval(point: _Point, rules: Ruleset, y: Scale) -> str:
    """Return a record's interval, cut off where the plot ends."""
    half, at = half_width(point.row, rules.alpha), place(point.row, rules)
    if half is None or at is None:
        return ""
    low, high = (min(max(y(end), TOP), TOP + HEIGHT) for end in (at - half, at + half))
    colour = svg.LINE if point.gain is None else BLUE
    return f'<g opacity="{0.9 if point.gain is None else 0.4}">{svg.line(point.x, low, point.x, high, colour, 3)}</g>'


def _dot(point: _Point, rules: Ruleset, names: Mapping[str, str], colour: str, radius: float) -> str:
    row = point.row
    said = f"{names[row.record]}: {digits(rules, row.ranked)}, {row.n} run{'s' if row.n != 1 else ''}"
    said += f", {row.date}" if row.date else ""
    return svg.dot(point.x, point.y, colour, said, radius, filled=point.y < TOP + HEIGHT)


def _steps(stood: Sequence[_Point]) -> str:
    """Return the best so far as a line that rises at each record that moved it."""
    places = [(stood[0].x, stood[0].y)]
    for before, point in pairwise(stood):
        places += [(point.x, before.y), (point.x, point.y)]
    places.append((100.0, stood[-1].y))
    line = svg.curve([(x, 100 * (y - TOP) / HEIGHT) for x, y in places], BLUE)
    return svg.panel(0, TOP, 100, HEIGHT, [line])


# -- names ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    """Room that something takes, from `left` percent and pixels further; top and bottom in pixels."""

    x: float
    left: float
    right: float
    top: float
    bottom: float

    def touches(self, other: _Box, width: float) -> bool:
        own, others = self.x * width / 100, other.x * width / 100
        beside = own + self.left < others + other.right and others + other.left < own + self.right
        return beside and self.top < other.bottom and other.top < self.bottom

    def inside(self, width: float) -> bool:
        at = self.x * width / 100
        return at + self.left >= 0 and at + self.right <= width and self.top >= 0 and self.bottom <= TOP + HEIGHT


def _labels(stood: Sequence[_Point], others: Sequence[_Point], names: Mapping[str, str], axis: str) -> Iterator[str]:
    """Yield the axis's name, and names of records where there is room: the last, the first, then by what they gained.

    A name is above and left of its point, or below and right of it: the line is at neither. What fits only a wide page
    is `roomy`: a narrow one hides it.
    """
    yield svg.text(0, LINE_PX - 4, axis, anchor="start", shift=-6)
    taken = [_Box(0, 0, len(axis) * svg.LETTER_PX, 0, LINE_PX)]
    taken += [_Box(point.x, -5, 5, point.y - 5, point.y + 5) for point in (*stood, *others)]
    ends = [stood[-1], *stood[:1]] if len(stood) > 1 else [*stood]
    wanted = [*ends, *sorted(stood[1:-1], key=lambda point: -(point.gain or 0.0))]
    done: set[str] = set()
    for width, kind in ((svg.NARROWEST_PX - 50, ""), (WIDE_PX, "roomy")):
        for point in wanted:
            said = _cut(names[point.row.record])
            box = next((one for one in _rooms(point, said) if _is_free(one, taken, width)), None)
            if point.row.record not in done and box is not None:
                taken.append(box)
                done.add(point.row.record)
                before = box.left < 0
                yield svg.text(
                    point.x, box.bottom - 3, said, anchor="end" if before else "start", weight="600",
                    shift=-8 if before else 8, kind=kind,
                )  # fmt: skip


def _rooms(point: _Point, said: str) -> Iterator[_Box]:
    long = sum(map(_width_px, said))
    yield _Box(point.x, -8 - long, -8, point.y - 4 - LINE_PX, point.y - 4)
    yield _Box(point.x, 8, 8 + long, point.y + 5, point.y + 5 + LINE_PX)


def _width_px(letter: str) -> float:
    """Return at least how wide a letter is in bold."""
    if east_asian_width(letter) in "FW":
        return 2 * svg.LETTER_PX
    return svg.LETTER_PX * (1.7 if letter > "~" else 1.3 if letter.isupper() else 1.1)


def _is_free(box: _Box, taken: Sequence[_Box], width: float) -> bool:
    return box.inside(width) and not any(box.touches(one, width) for one in taken)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"


# -- small plots -----------------------------------------------------------------------------------------------------------


def small_plots(rows: Sequence[Row], rules: Ruleset) -> dict[int, str]:
    """Return a plot of each ranked row's value and interval by the row's number, all on one scale, right is better.

    A record worse than most is an arrow at the left end: it would flatten the rest.
    """
    places = {number: at for number, row in enumerate(rows) if (at := place(row, rules)) is not None}
    if not places:
        return {}
    ordered = sorted(places.values())
    worst = ordered[max(min(FEW, len(ordered)), round(SHOWN * len(ordered))) - 1]
    scale = Scale(worst, ordered[0], 10, 90)
    return {number: _small(rows[number], at, rules, scale) for number, at in places.items()}


def _small(row: Row, at: float, rules: Ruleset, scale: Scale) -> str:
    half, x = half_width(row, rules.alpha), scale(at)
    value = digits(rules, row.ranked)
    said = value if half is None else f"{value} ± {digits(rules, half)}"
    if x < 0:
        return svg.drawing(LINE_PX, f"{said}, left of what is drawn", [svg.text(0, 12, "◂", anchor="start")])
    parts = [] if half is None else [_across(*(min(max(scale(end), 0), 100) for end in (at - half, at + half)))]
    return svg.drawing(LINE_PX, said, [*parts, svg.dot(x, 8, BLUE, said, 4, filled=half is not None)])


def _across(end: float, start: float) -> str:
    return svg.bar(start, end, 6, 4, BLUE, 0.4)
