"""Count how many frauds and mistakes `check` finds, and how many harmless edits it mistakes for one.

    python -m benchmarks.mutations [--show]

It writes clean record folders in several dialects, applies every kind of change to each, and judges the result as `check`
does. A kind counts as found if the verdict differs from the clean folder's, or if there is an error-level finding that the
clean folder lacks. --show prints for each kind and folder what was not found, and what a harmless edit raised. The table is
appended to benchmarks/results/mutations.md with the date and the machine.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.mutations import harmless, of_facts, of_numbers, of_plans, of_runs
from benchmarks.mutations.folders import DIALECTS
from benchmarks.mutations.study import Outcome, Row, rows
from benchmarks.table import publish

RESULTS = Path(__file__).parents[1] / "results" / "mutations.md"
FRAUDS = (*of_runs.KINDS, *of_numbers.KINDS, *of_facts.KINDS, *of_plans.KINDS)


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def table(found: Sequence[Row]) -> list[str]:
    lines = ["| kind | folders | fails | warns | missed |", "| --- | --- | --- | --- | --- |"]
    for row in found:
        counts = " | ".join(str(row.count(outcome)) for outcome in Outcome)
        lines.append(f"| {row.kind.name} | {len(row.outcomes)} | {counts} |")
    return lines


def recall(found: Sequence[Row], *outcomes: Outcome) -> float:
    """Return the share of folders with one of these outcomes, averaged over the kinds with equal weight."""
    return sum(sum(map(row.count, outcomes)) / len(row.outcomes) for row in found) / len(found)


def report(frauds: Sequence[Row], edits: Sequence[Row]) -> list[str]:
    """Return the results as Markdown."""
    seen = [row for row in frauds if row.kind.unseen is None]
    unseen = [row for row in frauds if row.kind.unseen is not None]
    pairs = sum(len(row.outcomes) for row in seen)
    everywhere = sum(row.count(Outcome.FAILS) == len(row.outcomes) for row in seen)
    false = [row for row in edits if any(row.new.values())]
    fails, warns = recall(seen, Outcome.FAILS), recall(seen, Outcome.FAILS, Outcome.WARNS)
    return [
        f"{len(DIALECTS)} clean folders: {', '.join(dialect.name for dialect in DIALECTS)}.",
        "",
        f"{len(seen)} kinds of fraud and mistake that evidence can show, {pairs} changed folders: {share(fails, 1)} are found "
        f"at the level that makes `check` fail, {share(warns, 1)} at least as a warning; {everywhere} kinds fail on every folder.",
        f"{len(edits)} kinds of harmless edit: {len(false)} raise a finding somewhere.",
        "",
        *table(seen),
        "",
        "Harmless edits that raise a finding:",
        "",
        *[
            f"- {row.kind.name}: {'; '.join(f'{where}: {what}' for where, what in row.new.items() if what)}"
            for row in false
        ],
        "",
        "Not in the share above, because nothing but a rerun shows them:",
        "",
        *[
            f"- {row.kind.name}: {row.kind.unseen} (fails on {row.count(Outcome.FAILS)} of {len(row.outcomes)})"
            for row in unseen
        ],
    ]


def shown(found: Sequence[Row]) -> list[str]:
    """Return what was not found, folder by folder."""
    return [
        f"{row.kind.name}, {where}: {outcome}, {', '.join(row.new[where]) or 'nothing'}"
        for row in found
        for where, outcome in row.outcomes.items()
        if outcome is not Outcome.FAILS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--show", action="store_true", help="print what was not found, and write no results")
    show = parser.parse_args().show
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        frauds, edits = (rows(kinds, DIALECTS, Path(scratch)) for kinds in (FRAUDS, harmless.KINDS))
    where = f"Python {platform.python_version()}, {platform.machine()}, {time.monotonic() - start:.0f} s."
    lines = [f"## {date.today()}", where, "", *report(frauds, edits)]
    if show:
        print("\n".join([*lines, "", *shown(frauds)]))
    else:
        publish(lines, RESULTS)


if __name__ == "__main__":
    main()
