"""Which published rows of a leaderboard does our judge reproduce, from a checkout of the leaderboard?

    python -m benchmarks.conformance DIR [--rules NAME]

It finds the folder of each row by its date, name, step, number of runs and mean, judges it with the step that was
published and without, and prints what was published beside what we get. Without --rules it goes through all tables, and
prints those of which DIR holds a row. The tables are in benchmarks/conformance/rows/.

A row is reproduced if the judge gives its n, its mean to the last published digit, and its answer: supported where the
row was accepted, not supported where it was refused; its training time within 1 %, where that was published. If it is
not known what a record had to beat, n and mean alone are compared. Exit codes: 0 it ran, 2 usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.rules.ruleset import load
from benchmarks.conformance import tables
from benchmarks.conformance.checkout import Unit, trials_below, units_below
from benchmarks.conformance.judged import Judged, judged
from benchmarks.conformance.matching import match

HEAD = (
    "| row | published: n | mean | step | accepted | found in | n | mean | answer | without a step | reproduced |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def conformance(directory: Path, units: Sequence[Unit], rules: str) -> list[Judged]:
    """Return each row of a ruleset's table beside what the judge says of it."""
    ruleset = load(rules)
    rows = tables.rows_of(rules)
    return [judged(row, match(row, ruleset.metric, units, directory), ruleset, directory) for row in rows]


def line(one: Judged) -> str:
    row = one.row
    accepted = {True: "yes", False: "no", None: "-"}[row.accepted]
    cells = (
        row.row, row.n, shown(row.mean), row.step or ended(row.time_s), accepted,
        one.where, "-" if one.n is None else one.n, reached(one), one.answer or "-", one.without,
        "yes" if one.reproduced else f"no: {one.why}",
    )  # fmt: skip
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def shown(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.5f}"


def ended(time_s: float | None) -> str:
    return "end" if time_s is None else f"end, {time_s:g} s"


def reached(one: Judged) -> str:
    """Return the mean that we get, with the time where one is published."""
    time_s = f", {one.time_s:.1f} s" if one.row.time_s is not None and one.time_s is not None else ""
    return shown(one.mean) + time_s


def in_words(found: Sequence[Judged]) -> str:
    return f"rows reproduced: {sum(one.reproduced for one in found)} of {len(found)}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="a checkout of the leaderboard, or a folder of it")
    parser.add_argument("--rules", choices=tables.known(), help="one ruleset.  [default: all of which DIR holds a row]")
    options = parser.parse_args(words)
    if not options.directory.is_dir():
        parser.error(f"{options.directory} is not a folder")
    directory = options.directory.resolve()
    asked = [options.rules] if options.rules else tables.known()
    units = units_below(directory, trials_below(directory, {load(rules).metric for rules in asked}))
    tried = {rules: conformance(directory, units, rules) for rules in asked}
    printed = {rules: found for rules, found in tried.items() if options.rules or any(one.reproduced for one in found)}
    for rules, found in printed.items():
        print(f"## {rules}", "", *HEAD, *map(line, found), "", f"{rules}: {in_words(found)}", "", sep="\n")
    print(in_words([one for found in (printed or tried).values() for one in found]))


if __name__ == "__main__":
    main()
