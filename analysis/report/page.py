"""The HTML pages, of a verdict and of a leaderboard: one file that needs no network and no script.

Needs the extra seedproof[report].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.reading.result import Result
from analysis.report import board, plots
from analysis.report.findings import alike
from analysis.report.gate import REFUSED, outcome, word
from analysis.report.statements import WORDS, assumptions, concerns, facts, rules_in_words, verifiers_runs
from analysis.report.tables import READING_COLUMNS, RUN_COLUMNS, place, reading_cells, run_cells
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import RUN_MANIFEST
from analysis.sweepdir.manifest import read_manifest
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, read_bounded
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.numbers import percent
from analysis.verdict.standings import Row, half_width, is_tied
from analysis.verdict.verdict import UNUSABLE, Verdict

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
LONGEST_QUOTE = 300
RESULT_FACTS = (
    "python",
    "torch",
    "gpu",
    "world_size",
    "model_params",
    "train_shards",
    "val_tokens",
    "tokenizer",
    "source_sha256",
)
MANIFEST_FACTS = (("machine", "host"), ("git", "commit"), ("git", "dirty"), ("container", "image"))


# -- a verdict ---------------------------------------------------------------------------------------------------------


def page(verdict: Verdict, command: str) -> str:
    """Return a verdict's page; `command` reproduces it."""
    arms = [("Runs", verdict.runs), ("Control", verdict.control), ("Verifier", verifiers_runs(verdict))]
    known = verdict.verdict is not UNUSABLE
    runs = [*verdict.control, *verdict.runs]
    return TEMPLATES.get_template("report.html").render(
        verdict=verdict,
        rules=rules_in_words(verdict),
        word=WORDS[verdict.verdict].lower(),
        overruled=word(verdict).lower() if outcome(verdict) == REFUSED else None,
        reason=printable(verdict.reason),
        concerns=concerns(verdict),
        plots=_plots(verdict),
        facts=facts(verdict),
        columns=RUN_COLUMNS,
        arms=[(name, [run_cells(run) for run in own]) for name, own in arms if own],
        findings=alike(verdict.findings),
        reading_columns=READING_COLUMNS,
        readings=[reading_cells(also) for also in verdict.also],
        assumptions=assumptions(verdict),
        quotes=quotes(runs) if known else [],
        provenance=provenance(runs),
        command=command,
    )


def _plots(verdict: Verdict) -> list[tuple[str, Markup]]:
    drawn = []
    if verdict.threshold is not None:
        drawn.append(("Seeds", Markup(plots.seeds_plot(verdict))))
    if verdict.verdict is not UNUSABLE and (curves := plots.curves(verdict)):
        drawn.append(("Training", Markup(plots.curves_plot(curves))))
    if bars := plots.caps_plot(verdict):
        drawn.append(("Time and size of each run", Markup(bars)))
    return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The line that a run's metric was read from, and where it is."""

    place: str
    line: str


def quotes(runs: Sequence[Result]) -> list[Quote]:
    """Return the source lines of the runs that were read from logs: a frame's names of logs are not opened."""
    found = []
    for run in runs:
        line = _line(run) if run.run.trained else None
        if line:
            found.append(Quote(place=place(run), line=line))
    return found


def _line(run: Result) -> str | None:
    try:
        lines = read_bounded(run.run.log).split(b"\n")
    except FileError:
        return None
    if run.line is None or run.line > len(lines):
        return None
    return printable(lines[run.line - 1].decode("utf-8", "replace").rstrip("\r"))[:LONGEST_QUOTE]


def provenance(runs: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what the logs and a sweep's manifests say of where the runs ran: one line if all agree, else by log."""
    said: dict[str, dict[str, str]] = {}
    for run in runs:
        row, manifest = run.row(), _manifest_facts(run)
        for name, value in ({name: row[name] for name in RESULT_FACTS} | manifest).items():
            if value is not None:
                said.setdefault(name, {})[run.log] = str(value)
    rows = []
    for name, values in said.items():
        same = len(set(values.values())) == 1 and len(values) == len(runs)
        shown = next(iter(values.values())) if same else "; ".join(f"{log}: {value}" for log, value in values.items())
        rows.append((name.replace("_", " "), printable(shown)))
    return rows


def _manifest_facts(run: Result) -> dict[str, str | bool | int]:
    """Return what the run.json next to a log says, if there is one and the log was read."""
    path = run.run.log.with_name(RUN_MANIFEST)
    if not run.run.trained or path.is_symlink() or not path.is_file():
        return {}
    try:
        manifest = read_manifest(path)
    except SeedproofError:
        return {}
    facts = {f"{part} {name}": manifest.part(part).get(name) for part, name in MANIFEST_FACTS}
    return {name: value for name, value in facts.items() if isinstance(value, (str, bool, int))}


# -- a leaderboard -----------------------------------------------------------------------------------------------------


def board_page(rows: Sequence[Row], rules: Ruleset, command: str) -> str:
    """Return a leaderboard's page; `command` reproduces it."""
    best = min((row for row in rows if row.mean is not None), key=lambda row: row.mean or 0.0, default=None)
    numbers = {row.record: number for number, row in enumerate(rows, start=1)}
    tied = [] if best is None else [numbers[row.record] for row in rows if is_tied(row, best, rules.alpha)]
    points = [
        plots.Point(number=number, mean=row.mean, half=half_width(row, rules.alpha), ties=number in tied)
        for number, row in enumerate(rows, start=1)
        if row.mean is not None
    ]
    # a record's number is shorter than its name
    shown = [replace(row, predecessor=row.predecessor and str(numbers[row.predecessor])) for row in rows]
    return TEMPLATES.get_template("leaderboard.html").render(
        rules=rules,
        summary=board.summary(rows, best, tied, rules),
        plot=Markup(plots.frontier_plot(points, rules.metric)) if points else None,
        level=percent(1 - rules.alpha),
        columns=("", *board.COLUMNS),
        rows=[(str(number), *board.cells(row, rules)) for number, row in enumerate(shown, start=1)],
        notes=board.notes(rows, rules),
        command=command,
    )
