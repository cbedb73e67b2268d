"""The answer of `plan`: what to do before paying, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

from analysis.reading.frame import for_json
from analysis.report.grid import WHOLE, Width, fitted, named, or_dash, text_table, wrapped
from analysis.report.said.advice import FEW, advice, commands, control_runs, recommendation
from analysis.stats.fixed import known_sigma_level
from analysis.stats.power import Arms, Question, Row
from analysis.untrusted.escape import json_text, printable

NARROW = {"history-assisted": "history"}  # so that a row fits 80 columns


def as_text(asked: Question, rows: list[Row], width: Width = WHOLE) -> str:
    """Return the table for people, what to do, and the commands that do it. These are never wrapped."""
    table = text_table(fitted([_cells(asked, row) for row in rows], width.table, "design", ["mean seeds"]))
    said = [*advice(asked, rows), *(f"assumes: {one}" for one in assumptions(asked, rows))]
    lines = [*named(_facts(asked), width.prose), "", *table, "", *wrapped(said, width.prose)]
    todo = commands(asked, rows)
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
        return f"{control_runs(asked.control_seeds)} already there, or a rerun of the control"
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
        lines.append(
            "The SOTA of the sweep's plan is no better than their mean: both are tested, and both must be beaten."
        )
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
