"""The answer of `plan`: what to do before paying, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

from analysis.reading.frame import for_json
from analysis.report.grid import WHOLE, Width, fitted, named, or_dash, text_table, wrapped
from analysis.stats.fixed import known_sigma_level
from analysis.stats.power import MOST_SEEDS, Arms, Question, Row
from analysis.sweepdir.plan import MOST_LOOKS
from analysis.untrusted.escape import json_text, printable
from analysis.untrusted.invoked import command
from analysis.verdict.numbers import chance_in_words

UNPAIRED = "--unpaired"  # of `sweep run`
PAIRS_BECAUSE = "What pairs share is unknown: that is the chance if it is nothing. Their level is right whatever it is."
NARROW = {"history-assisted": "history"}  # so that a row fits 80 columns
FEW = 0.05  # sd; so small a gain is likelier a mistake in the unit

# -- what to do ----------------------------------------------------------------------------------------------------------


def recommended(asked: Question, rows: list[Row]) -> Row | None:
    """Return the design that is expected to cost least of those with the wanted power; None where none has it.

    Pairs come before independent runs unless they are known to share too little: their level is right whatever it is.
    `sweep run` cannot look against runs that exist.
    """
    enough = [row for row in _enough(asked, rows) if row.arms is not Arms.EXISTING or len(row.looks) == 1]
    paired = min((row for row in enough if row.arms is Arms.PAIRS), key=_costs, default=None)
    if paired is not None:
        known, least = asked.share, paired.pairs_from_share
        left_out = Arms.PAIRS if known is not None and least is not None and known < least else Arms.UNPAIRED
        enough = [row for row in enough if row.arms is not left_out] or enough
    return min(enough, key=_costs, default=None)


def _costs(row: Row) -> tuple[float, int]:
    return row.gpu_hours_expected, len(row.looks)


def _enough(asked: Question, rows: list[Row]) -> list[Row]:
    return [one for one in rows if not one.is_reading and one.power >= asked.power and one.at_most <= asked.max_seeds]


def recommendation(asked: Question, rows: list[Row]) -> str:
    """Say what to do, and what else has the wanted power."""
    return " ".join(_advice(asked, rows))


def _advice(asked: Question, rows: list[Row]) -> list[str]:
    """Return the recommendation in parts, each on a thing of its own."""
    best = recommended(asked, rows)
    too_few = _too_few_control_seeds(asked, rows)
    if best is None:
        return [*too_few, _none_is_enough(asked, [row for row in rows if not row.is_reading])]
    words = f"Plan {_named(best)}: it passes with a chance of {chance_in_words(best.power)} and"
    alike = [row for row in _enough(asked, rows) if row.arms is best.arms]
    if len(best.looks) > 1:
        fixed = [f"a fixed test needs {_at_most(row)}" for row in alike if len(row.looks) == 1]
        none = f"no fixed test of at most {asked.max_seeds} seeds has {asked.power:g}"
        words = f"{words} takes {_on_average(best)} on average, {_at_most(best)} at most; {(*fixed, none)[0]}."
    else:
        words += f" costs {_price(best.gpu_hours_at_most, best.cost_at_most)}."
    surer = [row for row in alike if len(row.looks) > 1 and len(best.looks) == 1 and row.power > best.power]
    return [
        *too_few,
        words,
        *(
            f"{_named(row).capitalize()} takes {_on_average(row)} on average, {row.at_most} {_unit(row, row.at_most)} at "
            f"most, and passes with a chance of {chance_in_words(row.power)}."
            for row in surer
        ),
        *_other_way(asked, rows, best),
    ]


def _other_way(asked: Question, rows: list[Row], best: Row) -> list[str]:
    """Say why pairs are planned, and what a design of the other kind would do: unpaired or in pairs."""
    if best.arms not in asked.rerun or len(asked.rerun) < 2:
        return []
    is_paired = best.arms is Arms.PAIRS
    others = [row for row in _enough(asked, rows) if row.arms in asked.rerun and row.arms is not best.arms]
    twin = min(others, key=lambda row: (len(row.looks) != len(best.looks), _costs(row)), default=None)
    said = f"With independent runs ({UNPAIRED})" if is_paired else "In pairs"
    if twin is None:
        said = f"{said}, no design of at most {asked.max_seeds} seeds has a chance of {asked.power:g}."
    else:
        price = _price(twin.gpu_hours_expected, twin.cost_expected) + " on average" * (len(twin.looks) > 1)
        said = f"{said}, {_named(twin)} would pass with a chance of {chance_in_words(twin.power)} ({price})."
    least = next((row.pairs_from_share for row in (best, twin) if row and row.pairs_from_share is not None), None)
    if least is not None:
        said += (
            f" Pairs pass more often than as many independent runs if they share more than {least:.2f} of the variance."
        )
    return [*([PAIRS_BECAUSE] if asked.share is None and is_paired else []), said]


def _too_few_control_seeds(asked: Question, rows: list[Row]) -> list[str]:
    """Say that no number of seeds is enough against the control runs that exist, and that more of these are; else nothing."""
    existing = [row for row in rows if row.arms is Arms.EXISTING and len(row.looks) == 1]
    needed = min((row for row in rows if row.arms is Arms.UNPAIRED and len(row.looks) == 1), key=_costs, default=None)
    if not existing or needed is None or max(row.power for row in existing) >= asked.power:
        return []
    best = max(existing, key=lambda row: row.power)
    return [
        f"Against {_control_runs(asked.control_seeds)}, no fixed test of up to {MOST_SEEDS} seeds has a chance of "
        f"{asked.power:g}: {best.at_most} {_unit(best, best.at_most)} have {chance_in_words(best.power)}. The remedy is more "
        f"control seeds: {needed.at_most} against {needed.at_most} have {chance_in_words(needed.power)}."
    ]


def _none_is_enough(asked: Question, usable: list[Row]) -> str:
    affordable = [row for row in usable if row.at_most <= asked.max_seeds]
    best = max(affordable, key=lambda row: row.power)
    more = [row for row in usable if len(row.looks) == 1 and row.at_most > asked.max_seeds]
    needed = min(more, key=lambda row: row.gpu_hours_at_most, default=None)
    said = (
        f"No design of at most {asked.max_seeds} seeds passes with a chance of {asked.power:g}: the best, "
        f"{_named(best)}, has {chance_in_words(best.power)}; "
    )
    if needed is not None:
        option = f" (--max-seeds {needed.at_most})" if needed.at_most <= MOST_LOOKS else ""
        return f"{said}a fixed test needs {_at_most(needed)}. Pay for more seeds{option}."
    unit = " Is the unit right?" if asked.delta < FEW else ""
    return f"{said}not even {MOST_SEEDS} seeds in a fixed test do. Look for a larger gain or a smaller spread.{unit}"


def _named(row: Row) -> str:
    against = f" against {_control_runs(row.control_seeds)}" if row.arms is Arms.EXISTING else ""
    if len(row.looks) == 1:
        n = row.at_most
        what = {Arms.UNPAIRED: f"{n} against {n}"}.get(row.arms, f"{n} {_unit(row, n)}{against}")
        return f"a fixed test of {what}"
    boundary = row.design.split(", ")[1]
    of_both = " of both arms" if row.arms is Arms.UNPAIRED else against
    return f"a look after each of {_unit(row, 2)} {row.looks[0]} to {row.looks[-1]}{of_both} ({boundary} boundary)"


def _on_average(row: Row) -> str:
    return _counted(row, row.expected_seeds, row.gpu_hours_expected, row.cost_expected)


def _at_most(row: Row) -> str:
    return _counted(row, row.at_most, row.gpu_hours_at_most, row.cost_at_most)


def _counted(row: Row, seeds: float, hours: float, cost: float | None) -> str:
    shown = f"{seeds:.1f}".removesuffix(".0")
    of_each = " of each arm" if row.arms is Arms.UNPAIRED else ""
    return f"{shown} {_unit(row, float(shown))}{of_each} ({_price(hours, cost)})"


def _unit(row: Row, count: float) -> str:
    """Return what a design counts: pairs, or seeds."""
    return f"{'pair' if row.arms is Arms.PAIRS else 'seed'}{'' if count == 1 else 's'}"


def _control_runs(count: int) -> str:
    return f"{count} control run{'s' * (count > 1)}"


def _price(hours: float, cost: float | None) -> str:
    return f"{hours:.4g} GPU hours" if cost is None else f"{cost:.2f}"


# -- how to do it --------------------------------------------------------------------------------------------------------


def commands(asked: Question, rows: list[Row]) -> list[str]:
    """Return the command lines that carry out the recommended design; none where no design is enough.

    What plan cannot know is in capitals.
    """
    best = recommended(asked, rows)
    if best is None:
        return []
    is_unusual = best.arms is Arms.UNPAIRED and Arms.PAIRS in asked.rerun
    words = ["--script", "SCRIPT", "--recipe", "RECIPE"]
    if best.arms in (Arms.PAIRS, Arms.UNPAIRED):
        words += ["--control", "CONTROL", *([UNPAIRED] if is_unusual else [])]
    elif asked.target is None:
        words += ["--sota", "SOTA"]
    if len(best.looks) > 1:
        words += ["--design", "sequential", "--max-seeds", str(best.at_most), "--boundary", asked.boundary]
    else:
        words += ["--design", "fixed", "--seeds", str(best.at_most)]
    words += [*asked.options, "--gpus-per-run", str(asked.gpus), "--output", "SWEEP"]
    found = [command("orchestration.sweep", "run", *words)]
    if best.arms is Arms.EXISTING:
        found.append(command("analysis.significance", "check", "SWEEP", "--control", "CONTROL_RUNS"))
    return found


# -- as text and JSON ----------------------------------------------------------------------------------------------------


def as_text(asked: Question, rows: list[Row], width: Width = WHOLE) -> str:
    """Return the table for people, what to do, and the commands that do it. These are never wrapped."""
    table = text_table(fitted([_cells(asked, row) for row in rows], width.table, "design", ["mean seeds"]))
    said = [*_advice(asked, rows), *(f"assumes: {one}" for one in assumptions(asked, rows))]
    lines, todo = (
        [*named(_facts(asked), width.prose), "", *table, "", *wrapped(said, width.prose)],
        commands(asked, rows),
    )
    return "\n".join([*lines, *(["", *todo] if todo else [])]) + "\n"


def _facts(asked: Question) -> list[tuple[str, str]]:
    gpus = f"{asked.gpus} GPU{'s' * (asked.gpus > 1)}"
    per_run, price = asked.gpus * asked.minutes / 60, asked.gpu_hour
    paid = "" if price is None else f", {per_run * price:.2f} at {price:g} a GPU hour"
    df = "" if math.isinf(asked.spread.df) else f", {asked.spread.df:g} degrees of freedom"
    share = "0, because it is unknown" if asked.share is None else f"{asked.share:.2g}"
    share += "" if asked.share_is == "unknown" else f" ({asked.share_is})"
    digits = ".3f" if asked.delta >= FEW else ".2g"
    return [
        ("gain beyond the threshold", f"{asked.gain:g} {asked.metric}, {asked.delta:{digits}} sd"),
        ("sd between seeds", f"{asked.spread.sd:.6g} ({asked.spread_is}{df})"),
        *([("share of a pair", share)] if Arms.PAIRS in asked.rerun else []),
        ("test", f"{_level(asked)} by the rules {printable(asked.rules)}, against {_against(asked)}"),
        ("one run", f"{gpus} x {asked.minutes:g} min = {per_run:.4g} GPU hours{paid}"),
    ]


def _level(asked: Question) -> str:
    known = asked.known
    return f"p < {asked.alpha:g}" if known is None else f"z >= {known.critical:.4g} with sigma {known.sigma:g}"


def _against(asked: Question) -> str:
    if asked.control_seeds:
        return f"{_control_runs(asked.control_seeds)} already there, or a rerun of the control"
    if asked.rerun:
        return "a control that is rerun with the candidate"
    target = asked.target
    return "a SOTA number, taken as exact" if target is None else f"the target {target:g}, which the rules fix"


def _cells(asked: Question, row: Row) -> dict[str, str]:
    unit = "GPU hours" if asked.gpu_hour is None else "cost"
    share = or_dash(row.pairs_from_share, ">{:.2f}")
    return {
        "design": ", ".join(NARROW.get(word, word) for word in row.design.split(", ") if word != row.arms),
        "seeds": _seeds(row),
        "mean seeds": f"{row.expected_seeds:.2f}",
        unit: f"{row.gpu_hours_at_most if row.cost_at_most is None else row.cost_at_most:.2f}",
        f"mean {unit.split()[-1]}": f"{row.gpu_hours_expected if row.cost_expected is None else row.cost_expected:.2f}",
        "chance": f"{row.power:.4f}",
        f"gain at {asked.power:g}": or_dash(row.detectable_gain, "{:.6f}"),
        **({"share": share} if len(asked.rerun) > 1 else {}),
    }


def _seeds(row: Row) -> str:
    """Return the runs of both arms; those that exist are in parentheses."""
    n = row.at_most
    shown = {Arms.PAIRS: f"{n} pairs", Arms.UNPAIRED: f"{n} v {n}", Arms.EXISTING: f"{n} v ({row.control_seeds})"}
    return shown.get(row.arms, str(n))


def assumptions(asked: Question, rows: list[Row]) -> list[str]:
    """Return what must be true for the table to come true."""
    lines = ["The sd is the true one. If it is twice as large, the gain is half as many sd."]
    if asked.known is not None and asked.spread.sd != asked.known.sigma:
        level = known_sigma_level(asked.known.critical, asked.known.sigma, asked.spread.sd)
        lines.append(f"With this sd instead of sigma, runs without any gain pass with a chance of {level:.2g}.")
    if asked.rerun:
        lines.append("The control scatters like the candidate. Unpaired runs of the two arms share nothing.")
    if asked.control_seeds:
        lines.append("Control runs that exist cost nothing, and ran as the candidate's will.")
    if any(row.arms is Arms.EXISTING and len(row.looks) > 1 for row in rows):
        lines.append(
            "The chance of looks against existing runs is simulated. `sweep run` cannot take them; `check` can."
        )
    if asked.history > 0:
        lines.append("Records that passed have small spreads by selection: the true sd is larger than the pooled one.")
    if not asked.rerun and asked.target is None:
        lines.append("The SOTA's own noise does not count. --control plans with its rerun.")
    if any(row.is_reading for row in rows):
        lines.append("History-assisted: the spread is like the earlier records'. No ruleset lets it decide.")
    return [*lines, *map(printable, asked.notes)]


def as_json(asked: Question, rows: list[Row]) -> str:
    """Return all numbers of the table, the question and the advice."""
    inside = ("against_runs", "may_look", "notes", "options")
    question = {key: value for key, value in asdict(asked).items() if key not in inside}
    table = {
        "schema_version": 1,
        **question,
        "delta": asked.delta,
        "designs": [asdict(row) | {"at_most": row.at_most} for row in rows],
        "recommendation": recommendation(asked, rows),
        "assumes": assumptions(asked, rows),
        "commands": commands(asked, rows),
    }
    return json_text(for_json(table))
