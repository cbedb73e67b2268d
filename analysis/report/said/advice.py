"""What `plan` advises: the design to choose and why, and the commands to paste."""

from __future__ import annotations

from analysis.stats.power import MOST_SEEDS, Arms, Question, Row
from analysis.sweepdir.plan import MOST_LOOKS
from analysis.untrusted.invoked import command
from analysis.verdict.numbers import chance_in_words

UNPAIRED = "--unpaired"  # of `sweep run`
FEW = 0.05  # sd; so small a gain is likelier a mistake in the unit
PAIRS_BECAUSE = "What pairs share is unknown: that is the chance if it is nothing. Their level is right whatever it is."

# -- what to do ----------------------------------------------------------------------------------------------------------


def recommended(asked: Question, rows: list[Row]) -> Row | None:
    """Return the design that is expected to cost least of those with the wanted power; None where none has it.

    Pairs come before independent runs unless they are known to share too little: their level is right whatever it is.
    `sweep run` cannot look against runs that exist.
    """
    enough = [row for row in _enough(asked, rows) if row.arms is not Arms.EXISTING or len(row.looks) == 1]
    paired = min((row for row in enough if row.arms is Arms.PAIRS), key=_costs, default=None)
    if paired is not None:
        known = asked.share if asked.share_shown is None else asked.share_shown
        least = paired.pairs_from_share
        left_out = Arms.PAIRS if known is not None and least is not None and known < least else Arms.UNPAIRED
        enough = [row for row in enough if row.arms is not left_out] or enough
    return min(enough, key=_costs, default=None)


def _costs(row: Row) -> tuple[float, int]:
    return row.gpu_hours_expected, len(row.looks)


def _enough(asked: Question, rows: list[Row]) -> list[Row]:
    return [one for one in rows if not one.is_reading and one.power >= asked.power and one.at_most <= asked.max_seeds]


def recommendation(asked: Question, rows: list[Row]) -> str:
    """Say what to do, and what else has the wanted power."""
    return " ".join(advice(asked, rows))


def advice(asked: Question, rows: list[Row]) -> list[str]:
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
    few = _of_the_fewest(asked, rows)
    return [*([f"{PAIRS_BECAUSE}{few}"] if asked.share is None and is_paired else []), said]


def _of_the_fewest(asked: Question, rows: list[Row]) -> str:
    """Say what pairs that share nothing cost at the first look, where they cost most; nothing where the chances read alike."""
    n = asked.first_look
    few = {row.arms: chance_in_words(row.power) for row in rows if row.looks == (n,)}
    said = f" {n} pairs that share nothing have {few.get(Arms.PAIRS)}, {n} against {n} {few.get(Arms.UNPAIRED)}."
    return said if {*asked.rerun} <= {*few} and len({*few.values()}) > 1 else ""


def _too_few_control_seeds(asked: Question, rows: list[Row]) -> list[str]:
    """Say that no number of seeds is enough against the control runs that exist, and that more of these are; else nothing."""
    existing = [row for row in rows if row.arms is Arms.EXISTING and len(row.looks) == 1]
    needed = min((row for row in rows if row.arms is Arms.UNPAIRED and len(row.looks) == 1), key=_costs, default=None)
    if not existing or needed is None or max(row.power for row in existing) >= asked.power:
        return []
    best = max(existing, key=lambda row: row.power)
    return [
        f"Against {control_runs(asked.control_seeds)}, no fixed test of up to {MOST_SEEDS} seeds has a chance of "
        f"{asked.power:g}: {best.at_most} {_unit(best, best.at_most)} have {chance_in_words(best.power)}. The remedy is more "
        f"control seeds: {needed.at_most} against {needed.at_most} have {chance_in_words(needed.power)}."
    ]


def _none_is_enough(asked: Question, usable: list[Row]) -> str:
    affordable = [row for row in usable if row.at_most <= asked.max_seeds]
    best = max(affordable, key=lambda row: row.power)
    more = [row for row in usable if len(row.looks) == 1 and row.at_most > asked.max_seeds]
    each = [min((row for row in more if row.arms is arms), key=_costs, default=None) for arms in Arms]
    needed = sorted(filter(None, each), key=_costs)
    said = (
        f"No design of at most {asked.max_seeds} seeds passes with a chance of {asked.power:g}: the best, "
        f"{_named(best)}, has {chance_in_words(best.power)}; "
    )
    if needed:
        most = max(row.at_most for row in needed)
        option = f" (--max-seeds {most})" if most <= MOST_LOOKS else ""
        return f"{said}a fixed test needs {' or '.join(map(_at_most, needed))}. Pay for more seeds{option}."
    unit = " Is the unit right?" if asked.delta < FEW else ""
    return f"{said}not even {MOST_SEEDS} seeds in a fixed test do. Look for a larger gain or a smaller spread.{unit}"


def _named(row: Row) -> str:
    against = f" against {control_runs(row.control_seeds)}" if row.arms is Arms.EXISTING else ""
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


def control_runs(count: int) -> str:
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
    words, sota = ["--script", "SCRIPT", "--recipe", "RECIPE"], ["--sota", "SOTA"]
    if best.arms in (Arms.PAIRS, Arms.UNPAIRED):
        words += ["--control", "CONTROL", *([UNPAIRED] if is_unusual else [])]
    elif asked.target is None:
        words += sota
    if len(best.looks) > 1:
        words += ["--design", "sequential", "--max-seeds", str(best.at_most), "--boundary", asked.boundary]
    else:
        words += ["--design", "fixed", "--seeds", str(best.at_most)]
    words += [*asked.options, "--gpus-per-run", str(asked.gpus), "--output", "SWEEP"]
    found = [command("orchestration.sweep", "run", *words)]
    if best.arms is Arms.EXISTING:  # the plan names a SOTA alone: without it, the claim is another than the planned one
        found.append(command("analysis.significance", "check", "SWEEP", *sota, "--control", "CONTROL_RUNS"))
    return found
