"""What a board's page says: its title, the numbers of its card, and the cells of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from analysis.record.discover import date_in
from analysis.report.board import NOTHING, gate_word, ranked_in_words, sentence_on_chance, sentence_on_luck
from analysis.report.said.chips import MEGABYTE, Passes
from analysis.rules.metrics import CONVERTIBLE, STEPS, TRAIN_TIME, unit_of
from analysis.rules.ruleset import Ruleset
from analysis.verdict.answer import SUPPORTED
from analysis.verdict.board.row import Row, best_of, place, sign_of, tied_for_best
from analysis.verdict.numbers import in_short, short_p

NONE = "\N{EN DASH}"
LONGEST = 60  # letters of a name in the card


def names(rows: Sequence[Row]) -> dict[str, str]:
    """Return a short name of each record: its folder without the date, and whole where two would be the same."""
    short = {row.record: _without_date(row.record) for row in rows}
    count = Counter(short.values())
    return {record: name if count[name] == 1 else record for record, name in short.items()}


def _without_date(record: str) -> str:
    last = record.rstrip("/").rpartition("/")[2]
    begins = 0 if date_in(last) is None else 10 if last[4] in "-_" else 8  # behind 2025-12-21 or 20251221
    return last[begins:].replace("_", " ").strip(" -") or last


def cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"


def runs(n: int) -> str:
    return f"{n} run{'s' if n != 1 else ''}"


def short(rules: Ruleset, value: float | None) -> str:
    """Return a value of what the board is ranked by for a sentence."""
    if value is None:
        return NONE
    if rules.ranked == STEPS:
        return f"{value:z.1f} steps".replace(".0 ", " ")
    return in_short(rules.ranked, value)[0] + (" s" if rules.ranked == TRAIN_TIME else "")


def digits(rules: Ruleset, value: float | None, *, signed: bool = False, metric: str | None = None) -> str:
    """Return a value for the table: a digit more than records differ by."""
    if value is None:
        return NONE
    name = metric or rules.ranked
    if name == STEPS:
        form = f"{value:+z.1f}" if signed else f"{value:z.1f}"
        return _minus(form.removesuffix(".0"))
    decimals = 3 if name == TRAIN_TIME else 5 if abs(value) < 100 else 2
    return _minus(f"{value:{'+' if signed else ''}z.{decimals}f}")


def _minus(said: str) -> str:
    return said.replace("-", "\N{MINUS SIGN}")


# -- the first screen ------------------------------------------------------------------------------------------------------


def title(rows: Sequence[Row], rules: Ruleset) -> str:
    """Return the best value, what it is tied with, and whether errors refuse it: Best: 1.0611, tied with the next 3."""
    tied = tied_for_best(rows, rules)
    if not tied:
        return "No record has a value" if rows else "No record yet"
    best = tied[0]
    errors = f", with {best.errors} error{'s' if best.errors > 1 else ''} in its evidence" if best.errors else ""
    return f"Best: {short(rules, best.ranked)}{_tie(rows, tied, rules)}{errors}"


def _tie(rows: Sequence[Row], tied: Sequence[Row], rules: Ruleset) -> str:
    """Return what the best record, the first of the tied ones, is tied with."""
    if tied[0].n == 1:
        return ", of one run"
    others = len(tied) - 1
    if not others:
        return ""
    placed = [at for row in rows if (at := place(row, rules)) is not None]
    better = sum(at < max(place(row, rules) or 0.0 for row in tied) for at in placed)
    if better == others:
        return ", tied with the next" + (f" {others}" if others > 1 else "")
    return f", tied with {others} other{'s' if others > 1 else ''}"


def subject(rows: Sequence[Row], rules: Ruleset, where: str) -> list[str]:
    """Return the rules, the folder, how many records it holds, and from when to when."""
    days = sorted(date.fromisoformat(row.date) for row in rows if row.date is not None)
    said = f"{len(rows)} record{'s' if len(rows) != 1 else ''}"
    if days:
        first, last = (f"{day.day} {day:%B} {day.year}" for day in (days[0], days[-1]))
        first = first.removesuffix(f" {days[-1].year}") if days[0] != days[-1] else first
        said += f", {first} to {last}" if first != last else f", {last}"
    return [f"rules {rules.name}", *([where] if where else []), said]


def card(rows: Sequence[Row], rules: Ruleset) -> list[tuple[str, str]]:
    """Return the numbers of the card, each with what it means."""
    best = best_of(rows, rules)
    known = names(rows)
    shown: list[tuple[str, str]] = []
    if best is not None:
        sd = "" if best.ranked_sd is None else f", sd {digits(rules, best.ranked_sd)}"
        shown.append((short(rules, best.ranked), f"{cut(known[best.record])}, {runs(best.n)}{sd}"))
    shown.append(_passed(rows, rules))
    bad = sum(row.errors > 0 for row in rows)
    shown.append((f"{bad} of {len(rows)}", "carry errors in their evidence"))
    if best is not None:
        shown.append(_luck(best, rules))
    return shown


def units(rules: Ruleset) -> list[str]:
    """Return the units that the margin is read in where there are two, the rules' own first; else none."""
    if rules.margin == 0 or rules.target is not None or rules.metric not in CONVERTIBLE.values():
        return []
    return sorted(CONVERTIBLE, key=lambda unit: unit != rules.unit)


def _passed(rows: Sequence[Row], rules: Ruleset) -> tuple[str, str]:
    tested = [row for row in rows if row.verdict in ("supported", "not supported")]
    number = f"{sum(row.verdict == SUPPORTED for row in tested)} of {len(tested)}"
    level = "" if rules.scaled_gain is not None else f" at p < {rules.alpha:g}"
    if rules.criteria:
        return number, f"pass every test of {rules.name}"
    if rules.target is not None:
        return number, f"pass the target {rules.target:g}{level}"
    margin = f" by {rules.margin:g} {unit_of(rules.metric) if not units(rules) else rules.unit}" if rules.margin else ""
    said = f"tested records beat the best before them{margin}{level}"
    for unit in units(rules)[1:]:
        said += f" ({sum(getattr(row, f'verdict_{unit}') == SUPPORTED for row in rows)} in {unit})"
    return number, said


def _luck(best: Row, rules: Ruleset) -> tuple[str, str]:
    if best.shrinkage is None:
        return NONE, "how much worse a rerun of the best is expected to be: unknown, as no record has a spread"
    worse = "how much worse a rerun of the best is expected to be"
    if best.shrinkage < NOTHING:
        return "0", worse
    value = f"{best.shrinkage:.2g}" + (" s" if rules.ranked == TRAIN_TIME else "")
    return value, f"{worse}: the best of many is partly lucky"


# -- the table -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. passes: whether it is good or bad; None for neither. more: what is said less loudly. title: on hover."""

    said: str
    passes: Passes | None = None
    more: str = ""
    title: str = ""


def in_order(rows: Sequence[Row], rules: Ruleset) -> list[int]:
    """Return the rows' numbers, the best first; those without a rank last, oldest first."""
    placed = [(at is None, at or 0.0, number) for number, row in enumerate(rows) for at in [place(row, rules)]]
    return [number for *_, number in sorted(placed)]


def small_line(row: Row, tied: Sequence[Row]) -> str:
    """Return what is below a record's name: its date, its runs, and whether it is tied with the best."""
    said = [*([row.date] if row.date else []), runs(row.n)]
    return " · ".join([*said, *(["tied with the best"] if row in tied[1:] else [])])


def cells(row: Row, rules: Ruleset, rows: Sequence[Row]) -> dict[str, Cell]:
    """Return the cells behind value and plot by their heads. A column that no row fills is left out."""
    before = "" if row.predecessor is None else f"after {row.predecessor}"
    found = {"to the best before": Cell(digits(rules, row.delta_ranked, signed=True), title=before)}
    if rules.ranked != rules.metric:
        found[f"mean {rules.metric}"] = Cell(digits(rules, row.mean, metric=rules.metric))
    found |= dict(_verdicts(row, rules))
    found["evidence"] = evidence(row)
    if any(one.bytes is not None for one in rows):
        cap = rules.caps.get("artifact_bytes")
        found[_of_cap("MB", cap, MEGABYTE)] = _capped(row, row.bytes, cap, MEGABYTE)
    if any(one.train_time_s is not None for one in rows):
        cap = rules.caps.get("train_time_s")
        found[_of_cap("s", cap, 1)] = _capped(row, row.train_time_s, cap, 1)
    return found


def _of_cap(unit: str, cap: float | None, per: float) -> str:
    return f"longest, {unit}" if cap is None and unit == "s" else unit if cap is None else f"{unit} of {cap / per:g}"


def _capped(row: Row, value: float | None, cap: float | None, per: float) -> Cell:
    """Return what a record took. It is marked where it is over the cap, and an error says that rounding does not explain it."""
    if value is None:
        return Cell(NONE, Passes.UNKNOWN)
    decimals = 2 if per > 1 else 1 if value < 100 else 0
    over = cap is not None and value > cap and row.errors > 0
    return Cell(f"{value / per:.{decimals}f}", Passes.NO if over else None)


def _verdicts(row: Row, rules: Ruleset) -> Iterator[tuple[str, Cell]]:
    """Yield the verdict in each unit of the margin; in words where it rests on more than one p."""
    why = row.why or ""
    for unit in units(rules):
        yield f"p, {rules.margin:g} {unit}", _p(getattr(row, f"verdict_{unit}"), getattr(row, f"p_{unit}"), rules, why)
    if not units(rules):
        p = "" if row.p is None else f"{f'{rules.metric} ' if rules.criteria else ''}p {short_p(row.p, rules.alpha)}"
        if row.verdict is None:
            yield "verdict", Cell(NONE, Passes.UNKNOWN, title=why)
        else:
            word = gate_word(row, row.verdict)
            passes = Passes.UNKNOWN if word == row.verdict != SUPPORTED else Passes.of(passed=word == SUPPORTED)
            yield "verdict", Cell(f"{'✓ ' if passes is Passes.YES else ''}{word}", passes, p, why)


def _p(verdict: str | None, p: float | None, rules: Ruleset, why: str) -> Cell:
    if verdict is None or p is None:
        return Cell(verdict or NONE, Passes.UNKNOWN, title=why)
    said = short_p(p, rules.alpha) if p < rules.alpha else f"{p:.3f}"
    return Cell(f"✓ {said}", Passes.YES) if verdict == SUPPORTED else Cell(said, title=why)


def evidence(row: Row) -> Cell:
    """Return what was found in a record, in a few words."""
    warned = f"{row.warnings} warning{'s' if row.warnings != 1 else ''}" if row.warnings else ""
    if row.errors:
        return Cell(f"{row.errors} error{'s' if row.errors != 1 else ''}", Passes.NO, warned)
    return Cell("fits", Passes.YES, warned) if row.n else Cell("no runs", Passes.NO, warned)


def notes(rows: Sequence[Row], rules: Ruleset) -> list[str]:
    """Return how to read the page."""
    said = [sentence_on_luck(rows, rules), sentence_on_chance(rows, rules)]
    order = "the highest first" if sign_of(rules) < 0 else "the lowest first"
    return [
        "All folders are assumed accepted: a record with errors must be beaten too, as it had to be on the day.",
        f"Records are ranked by their {ranked_in_words(rules)}, {order}.",
        "Each record is tested against the runs of the best record before it, against its mean where it has no runs that can "
        "be tested, or against the ruleset's target.",
        f"A record is tied with the best one if Welch's two-sided p is at least {rules.alpha:g}. With few seeds many "
        "records tie, whatever their true order.",
        "A record of one run has no interval: it neither beats another nor ties with it.",
        "The expected shrinkage of a record that stood is how much worse its rerun is expected to be, because it was chosen as "
        "the best of all until then.",
        *(one for one in said if one),
    ]
