"""The answer of `plan`: what to do before paying, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

from analysis.reading.frame import for_json
from analysis.report.grid import WHOLE, Width, fitted, named, or_dash, text_table, wrapped
from analysis.stats.power import MOST_SEEDS, Question, Row
from analysis.untrusted.escape import json_text, printable
from analysis.verdict.numbers import chance_in_words


def recommendation(asked: Question, rows: list[Row]) -> str:
    """Say what to do: the design that is expected to cost least of those with the wanted power."""
    usable = [row for row in rows if not row.is_reading]
    enough = [row for row in usable if row.power >= asked.power and row.at_most <= asked.max_seeds]
    if not enough:
        return _none_is_enough(asked, usable)
    best = min(enough, key=lambda row: (row.gpu_hours_expected, len(row.looks)))
    words = f"Plan {_named(best)}: it passes with a chance of {chance_in_words(best.power)} and takes"
    if len(best.looks) > 1:
        fixed = [f"a fixed test needs {_at_most(asked, row)}" for row in enough if len(row.looks) == 1]
        none = f"no fixed test of at most {asked.max_seeds} seeds has {asked.power:g}"
        return f"{words} {_on_average(asked, best)} on average, {_at_most(asked, best)} at most; {(*fixed, none)[0]}."
    words += f" {_at_most(asked, best)}."
    for surer in enough:
        if len(surer.looks) > 1 and surer.power > best.power:
            words += (
                f" {_named(surer).capitalize()} take {_on_average(asked, surer)} on average, {surer.at_most} seeds at "
                f"most, and pass with a chance of {chance_in_words(surer.power)}."
            )
    return words


def _none_is_enough(asked: Question, usable: list[Row]) -> str:
    best = max((row for row in usable if row.at_most <= asked.max_seeds), key=lambda row: row.power)
    needed = next((row.at_most for row in usable if len(row.looks) == 1 and row.at_most > asked.max_seeds), None)
    more = f"a fixed test needs {needed} seeds" if needed else f"not even {MOST_SEEDS} seeds of a fixed test have it"
    return (
        f"No design of at most {asked.max_seeds} seeds passes with a chance of {asked.power:g}: the best, "
        f"{_named(best)}, has {chance_in_words(best.power)}; {more}. Look for a larger gain or a smaller spread."
    )


def _named(row: Row) -> str:
    if len(row.looks) == 1:
        return f"a fixed test of {row.at_most} seeds"
    boundary = row.design.removeprefix("sequential, ")
    return f"looks after each of seeds {row.looks[0]} to {row.looks[-1]} ({boundary} boundary)"


def _on_average(asked: Question, row: Row) -> str:
    return _price(asked, row.expected_seeds, row.gpu_hours_expected, row.cost_expected)


def _at_most(asked: Question, row: Row) -> str:
    return _price(asked, row.at_most, row.gpu_hours_at_most, row.cost_at_most)


def _price(asked: Question, seeds: float, hours: float, cost: float | None) -> str:
    control = " and the control's" if asked.control_seeds else ""
    price = f"{hours:.4g} GPU hours" if cost is None else f"{cost:.2f}"
    return f"{f'{seeds:.1f}'.removesuffix('.0')} seeds{control} ({price})"


def as_text(asked: Question, rows: list[Row], width: Width = WHOLE) -> str:
    """Return the table for people, and what to do."""
    table = text_table(fitted([_cells(asked, row) for row in rows], width.table, "design"))
    said = [recommendation(asked, rows), *(f"assumes: {one}" for one in assumptions(asked, rows))]
    return "\n".join([*named(_facts(asked), width.prose), "", *table, "", *wrapped(said, width.prose)]) + "\n"


def _facts(asked: Question) -> list[tuple[str, str]]:
    per_run = asked.gpus * asked.minutes / 60
    price = "" if asked.gpu_hour is None else f", {per_run * asked.gpu_hour:.2f} at {asked.gpu_hour:g} a GPU hour"
    against = "a SOTA number, taken as exact"
    if asked.control_seeds:
        against = f"{asked.control_seeds} control seed{'s' * (asked.control_seeds > 1)}"
    df = "" if math.isinf(asked.spread.df) else f", {asked.spread.df:g} degrees of freedom"
    return [
        ("gain beyond the threshold", f"{asked.gain:g} {asked.metric}, {asked.delta:.3f} sd"),
        ("sd between seeds", f"{asked.spread.sd:.6g} ({asked.spread_is}{df})"),
        ("test", f"p < {asked.alpha:g} by the rules {printable(asked.rules)}, against {against}"),
        ("one run", f"{asked.gpus} GPUs x {asked.minutes:g} min = {per_run:.4g} GPU hours{price}"),
    ]


def _cells(asked: Question, row: Row) -> dict[str, str]:
    unit = "GPU hours" if asked.gpu_hour is None else "cost"
    return {
        "design": row.design,
        "seeds": str(row.at_most),
        "mean seeds": f"{row.expected_seeds:.2f}",
        unit: f"{row.gpu_hours_at_most if row.cost_at_most is None else row.cost_at_most:.2f}",
        f"mean {unit.split()[-1]}": f"{row.gpu_hours_expected if row.cost_expected is None else row.cost_expected:.2f}",
        "chance": f"{row.power:.4f}",
        f"gain at {asked.power:g}": or_dash(row.detectable_gain, "{:.6f}"),
    }


def assumptions(asked: Question, rows: list[Row]) -> list[str]:
    """Return what must be true for the table to come true."""
    lines = ["The sd is the true one. If it is twice as large, the gain is half as many sd."]
    if asked.control_seeds:
        lines.append("The control scatters like the candidate. A sequential sweep runs it in step, seed by seed.")
    if asked.history > 0:
        lines.append("Records that passed have small spreads by selection: the true sd is larger than the pooled one.")
    if not asked.control_seeds:
        lines.append("The SOTA's own noise does not count. --control-seeds N plans with its rerun.")
    if any(row.is_reading for row in rows):
        lines.append(
            "History-assisted: the spread is like the earlier records'. No ruleset accepts it as the verdict; report "
            "shows it next to a fixed one."
        )
    return lines


def as_json(asked: Question, rows: list[Row]) -> str:
    """Return all numbers of the table, the question and the advice."""
    table = {
        "schema_version": 1,
        **asdict(asked),
        "delta": asked.delta,
        "designs": [asdict(row) | {"at_most": row.at_most} for row in rows],
        "recommendation": recommendation(asked, rows),
        "assumes": assumptions(asked, rows),
    }
    return json_text(for_json(table))
