"""The answer of `plan`: what to do before paying, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

from analysis.reading.frame import for_json
from analysis.report.grid import WHOLE, Width, fitted, named, or_dash, text_table, wrapped
from analysis.stats.fixed import known_sigma_level
from analysis.stats.power import MOST_SEEDS, Arms, Question, Row
from analysis.untrusted.escape import json_text, printable
from analysis.untrusted.invoked import command
from analysis.verdict.numbers import chance_in_words

UNPAIRED = "--unpaired"  # of `sweep run`
PAIRS_BECAUSE = "`sweep run` pairs by default: a test of pairs keeps its level whatever a seed and a node share."
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
    usable = (row for row in rows if not row.is_reading)
    return [row for row in usable if row.power >= asked.power and row.at_most <= asked.max_seeds]


def recommendation(asked: Question, rows: list[Row]) -> str:
    """Say what to do, and what else has the wanted power."""
    best = recommended(asked, rows)
    too_few = _too_few_control_seeds(asked, rows)
    if best is None:
        return _none_is_enough(asked, [row for row in rows if not row.is_reading], too_few)
    words = f"{too_few}Plan {_named(best)}: it passes with a chance of {chance_in_words(best.power)} and takes"
    alike = [row for row in _enough(asked, rows) if row.arms is best.arms]
    if len(best.looks) > 1:
        fixed = [f"a fixed test needs {_at_most(row)}" for row in alike if len(row.looks) == 1]
        none = f"no fixed test of at most {asked.max_seeds} seeds has {asked.power:g}"
        words = f"{words} {_on_average(best)} on average, {_at_most(best)} at most; {(*fixed, none)[0]}."
    else:
        words += f" {_at_most(best)}."
    for surer in alike:
        if len(surer.looks) > 1 and len(best.looks) == 1 and surer.power > best.power:
            words += (
                f" {_named(surer).capitalize()} take {_on_average(surer)} on average, {surer.at_most} seeds at "
                f"most, and pass with a chance of {chance_in_words(surer.power)}."
            )
    return words + _other_way(asked, rows, best)


def _other_way(asked: Question, rows: list[Row], best: Row) -> str:
    """Say what the same kind of design would be unpaired or in pairs, and why it is not the one."""
    if best.arms not in asked.rerun or len(asked.rerun) < 2:
        return ""
    is_paired = best.arms is Arms.PAIRS
    others = [row for row in _enough(asked, rows) if row.arms in asked.rerun and row.arms is not best.arms]
    twin = min((row for row in others if len(row.looks) == len(best.looks)), key=_costs, default=None)
    said = f"With independent runs ({UNPAIRED})" if is_paired else "In pairs"
    if twin is None:
        said = f"{said}, no such design has {asked.power:g}."
    else:
        price = _price(twin.gpu_hours_expected, twin.cost_expected)
        said = f"{said}, {_named(twin)} would pass with {chance_in_words(twin.power)} ({price})."
    least = next((row.pairs_from_share for row in (best, twin) if row and row.pairs_from_share is not None), None)
    if least is not None:
        said += f" Pairs pass more often than as many independent runs where they share more than {least:.2f} of the variance."
    if asked.share is None and is_paired:
        few = _of_the_fewest(asked, rows)
        said = f"What pairs share is unknown: this is the chance if they share nothing. {PAIRS_BECAUSE} {said}{few}"
    return f" {said}"


def _of_the_fewest(asked: Question, rows: list[Row]) -> str:
    """Say what pairs that share nothing cost at the first look, where they cost most; nothing where the chances read alike."""
    n = asked.first_look
    few = {row.arms: chance_in_words(row.power) for row in rows if row.looks == (n,)}
    said = f" {n} pairs that share nothing have {few.get(Arms.PAIRS)}, {n} against {n} {few.get(Arms.UNPAIRED)}."
    return said if {*asked.rerun} <= {*few} and len({*few.values()}) > 1 else ""


def _too_few_control_seeds(asked: Question, rows: list[Row]) -> str:
    """Say that no number of seeds is enough against the control runs that exist, and that more of these are; else nothing."""
    existing = [row for row in rows if row.arms is Arms.EXISTING and len(row.looks) == 1]
    needed = min((row for row in rows if row.arms is Arms.UNPAIRED and len(row.looks) == 1), key=_costs, default=None)
    if not existing or needed is None or max(row.power for row in existing) >= asked.power:
        return ""
    best = max(existing, key=lambda row: row.power)
    return (
        f"Against {asked.control_seeds} control runs no fixed test of at most {MOST_SEEDS} seeds has {asked.power:g}: "
        f"{best.at_most} seeds have {chance_in_words(best.power)}. The remedy is more control seeds: {needed.at_most} against "
        f"{needed.at_most} have {chance_in_words(needed.power)}. "
    )


def _none_is_enough(asked: Question, usable: list[Row], too_few: str) -> str:
    affordable = [row for row in usable if row.at_most <= asked.max_seeds]
    best = max(affordable, key=lambda row: row.power)
    more = [row for row in usable if len(row.looks) == 1 and row.at_most > asked.max_seeds]
    needed = min(more, key=lambda row: row.gpu_hours_at_most, default=None)
    said = (
        f"{too_few}No design of at most {asked.max_seeds} seeds passes with a chance of {asked.power:g}: the best, "
        f"{_named(best)}, has {chance_in_words(best.power)}; "
    )
    if needed is not None:
        return f"{said}a fixed test needs {_at_most(needed)}. Pay for more seeds."
    unit = " Is the unit right?" if asked.delta < FEW else ""
    return (
        f"{said}not even {MOST_SEEDS} seeds of a fixed test have it. Look for a larger gain or a smaller spread.{unit}"
    )


def _named(row: Row) -> str:
    against = f" against {row.control_seeds} control runs" if row.arms is Arms.EXISTING else ""
    if len(row.looks) == 1:
        n = row.at_most
        what = {Arms.PAIRS: f"{n} pairs", Arms.UNPAIRED: f"{n} against {n}"}.get(row.arms, f"{n} seeds{against}")
        return f"a fixed test of {what}"
    boundary = row.design.split(", ")[1]
    of_both = " of both arms" if row.arms is Arms.UNPAIRED else against
    what = "pairs" if row.arms is Arms.PAIRS else "seeds"
    return f"looks after each of {what} {row.looks[0]} to {row.looks[-1]}{of_both} ({boundary} boundary)"


def _on_average(row: Row) -> str:
    return _counted(row, row.expected_seeds, row.gpu_hours_expected, row.cost_expected)


def _at_most(row: Row) -> str:
    return _counted(row, row.at_most, row.gpu_hours_at_most, row.cost_at_most)


def _counted(row: Row, seeds: float, hours: float, cost: float | None) -> str:
    what = {Arms.PAIRS: "pairs", Arms.UNPAIRED: "seeds of each arm"}.get(row.arms, "seeds")
    return f"{f'{seeds:.1f}'.removesuffix('.0')} {what} ({_price(hours, cost)})"


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
    said = [recommendation(asked, rows), *(f"assumes: {one}" for one in assumptions(asked, rows))]
    lines = [*named(_facts(asked), width.prose), "", *table, "", *wrapped(said, width.prose)]
    return "\n".join([*lines, *(["", *todo] if (todo := commands(asked, rows)) else [])]) + "\n"


def _facts(asked: Question) -> list[tuple[str, str]]:
    per_run = asked.gpus * asked.minutes / 60
    price = "" if asked.gpu_hour is None else f", {per_run * asked.gpu_hour:.2f} at {asked.gpu_hour:g} a GPU hour"
    df = "" if math.isinf(asked.spread.df) else f", {asked.spread.df:g} degrees of freedom"
    share = "unknown; planned with 0, the worst case" if asked.share is None else f"{asked.share:.2g}"
    because = "" if asked.share_is == "unknown" else f" ({asked.share_is})"
    return [
        (
            "gain beyond the threshold",
            f"{asked.gain:g} {asked.metric}, {asked.delta:{'.3f' if asked.delta >= FEW else '.2g'}} sd",
        ),
        ("sd between seeds", f"{asked.spread.sd:.6g} ({asked.spread_is}{df})"),
        *([("share of a pair", share + because)] if Arms.PAIRS in asked.rerun else []),
        ("test", f"{_level(asked)} by the rules {printable(asked.rules)}, against {_against(asked)}"),
        (
            "one run",
            f"{asked.gpus} GPU{'s' * (asked.gpus > 1)} x {asked.minutes:g} min = {per_run:.4g} GPU hours{price}",
        ),
    ]


def _level(asked: Question) -> str:
    return (
        f"p < {asked.alpha:g}"
        if asked.known is None
        else f"z >= {asked.known.critical:.4g} with sigma {asked.known.sigma:g}"
    )


def _against(asked: Question) -> str:
    if asked.control_seeds:
        return (
            f"{asked.control_seeds} control run{'s' * (asked.control_seeds > 1)} that exist, or a rerun of the control"
        )
    if asked.rerun:
        return "a control that is rerun with the candidate"
    return (
        "a SOTA number, taken as exact" if asked.target is None else f"the target {asked.target:g}, which the rules fix"
    )


def _cells(asked: Question, row: Row) -> dict[str, str]:
    unit = "GPU hours" if asked.gpu_hour is None else "cost"
    share = or_dash(row.pairs_from_share, ">{:.2f}")
    return {
        "design": ", ".join(word for word in row.design.split(", ") if word != row.arms),
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
        lines.append(
            "Control runs that exist cost nothing, and ran as the candidate's will. `sweep run` does not look against them; "
            "`check --design sequential` does. That chance is simulated, because Welch's test must pass too."
        )
    if asked.history > 0:
        lines.append("Records that passed have small spreads by selection: the true sd is larger than the pooled one.")
    if not asked.rerun and asked.target is None:
        lines.append("The SOTA's own noise does not count. --control plans with its rerun.")
    if any(row.is_reading for row in rows):
        lines.append(
            "History-assisted: the spread is like the earlier records'. No ruleset accepts it as the verdict; report "
            "shows it next to a fixed one."
        )
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
