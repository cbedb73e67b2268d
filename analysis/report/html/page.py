"""The HTML pages, of a verdict and of a leaderboard: one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from analysis.reading.result import Result
from analysis.report.said.claims import claim_table, claims_counted
from analysis.report.said.findings import alike
from analysis.report.said.headline import WORDS, word
from analysis.report.said.statements import assumptions, concerns, facts, rules_in_words
from analysis.report.said.tables import place, run_tables, sensitivity
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import RUN_MANIFEST
from analysis.sweepdir.manifest import read_manifest
from analysis.untrusted.escape import printable
from analysis.untrusted.files import FileError, lines_at, read_bounded
from analysis.untrusted.refusal import SeedproofError, UsageError
from analysis.untrusted.secrets import redacted
from analysis.verdict.board.row import Row
from analysis.verdict.numbers import percent
from analysis.verdict.verdict import REFUSED, UNUSABLE, Verdict

try:
    import jinja2
    from markupsafe import Markup

    from analysis.report import board
    from analysis.report.html import plots
except ModuleNotFoundError as error:
    raise UsageError(f"--format html needs {error.name}: pip install 'seedproof[report]'.") from None

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else printable(value),
)
LONGEST_QUOTE = 300
RESULT_FACTS = (
    "python", "torch", "gpu", "world_size", "model_params", "train_shards", "val_tokens", "tokenizer", "source_sha256",
)  # fmt: skip
MANIFEST_FACTS = (("machine", "host"), ("git", "commit"), ("git", "dirty"), ("container", "image"))


def page(verdict: Verdict, command: str) -> str:
    """Return a verdict's page; `command` reproduces it."""
    known = verdict.verdict is not UNUSABLE
    runs = [*verdict.control, *verdict.runs]
    drawn = {
        "Seeds": plots.seeds_plot(verdict) if verdict.threshold is not None else None,
        "Training": plots.curves_plot(curves) if known and (curves := plots.curves(verdict)) else None,
        "Time and size of each run": plots.caps_plot(verdict),
    }
    return TEMPLATES.get_template("report.html").render(
        verdict=verdict,
        rules=rules_in_words(verdict),
        word=WORDS[verdict.verdict],
        overruled=word(verdict).lower() if verdict.gate == REFUSED else None,
        paragraphs=[printable(verdict.reason), *concerns(verdict)],
        plots={title: Markup(svg) for title, svg in drawn.items() if svg},
        facts=facts(verdict),
        runs=run_tables(verdict),
        findings=alike(verdict.findings),
        claims=claim_table(verdict.claims),
        claims_counted=claims_counted(verdict.claims),
        sensitivity=sensitivity(verdict),
        assumptions=assumptions(verdict),
        quotes=quotes(runs) if known else {},
        provenance=provenance(runs),
        command=command,
    )


def quotes(runs: Sequence[Result]) -> dict[str, str]:
    """Return source lines by place, of the runs that were read from logs: a frame's names of logs are not opened."""
    by_log: dict[Path, list[Result]] = {}
    for run in runs:
        if run.run.trained and run.line is not None:
            by_log.setdefault(run.run.log, []).append(run)
    found: dict[str, str] = {}
    for log, own in by_log.items():
        with suppress(FileError):
            lines = lines_at(read_bounded(log), sorted({run.line for run in own if run.line is not None}))
            found |= {place(run): _shown(lines[run.line]) for run in own if run.line in lines}
    return {place(run): found[place(run)] for run in runs if place(run) in found}


def _shown(line: bytes) -> str:
    return printable(redacted(line[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").rstrip("\r")))[:LONGEST_QUOTE]


def provenance(runs: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what the logs and a sweep's manifests say of where the runs ran: one value if all agree, else by log."""
    said: dict[str, dict[str, str]] = {}
    for run in runs:
        row = run.row()
        for name, value in ({name: row[name] for name in RESULT_FACTS} | _manifest_facts(run)).items():
            if value is not None:
                said.setdefault(name.replace("_", " "), {})[run.log] = str(value)
    rows = []
    for name, values in said.items():
        same = len({*values.values()}) == 1 and len(values) == len(runs)
        shown = [*values.values()][:1] if same else [f"{log}: {value}" for log, value in values.items()]
        rows.append((name, printable("; ".join(shown))))
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
    said = {f"{part} {name}": manifest.part(part).get(name) for part, name in MANIFEST_FACTS}
    return {name: value for name, value in said.items() if isinstance(value, (str, bool, int))}


def board_page(rows: Sequence[Row], rules: Ruleset, command: str) -> str:
    """Return a leaderboard's page; `command` reproduces it."""
    numbers = {row.record: str(number) for number, row in enumerate(rows, start=1)}  # shorter than its name
    shown = [replace(row, predecessor=row.predecessor and numbers[row.predecessor]) for row in rows]
    return TEMPLATES.get_template("leaderboard.html").render(
        rules=rules,
        summary=board.summary(rows, rules),
        plot=Markup(plots.frontier_plot(rows, rules) or ""),
        level=percent(1 - rules.alpha),
        rows=[{"": numbers[row.record], **board.cells(row, rules)} for row in shown],
        notes=board.notes(rows, rules),
        command=command,
    )
