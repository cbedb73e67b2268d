"""A verdict as one HTML file that needs no network and no script. Needs the extra seedproof[report]."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.report import opened, plots, statements, text
from analysis.rules.findings import counts
from analysis.untrusted.escape import alike, and_others, printable
from analysis.verdict.verdict import SUPPORTED, UNUSABLE, Verdict

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(verdict: Verdict, path: Path, command: str) -> str:
    """The page; `path` is where the runs' logs lie, `command` is what makes the page again."""
    logs = [] if verdict.verdict == UNUSABLE else opened.opened_logs(verdict, path)
    drawn = []
    if verdict.threshold is not None:
        drawn.append(("Seeds", Markup(plots.seeds_plot(verdict))))
    if curves := opened.curves(logs, verdict.metric):
        drawn.append(("Training", Markup(plots.curves_plot(curves))))
    if bars := plots.caps_plot(verdict):
        drawn.append(("Time and size of each run", Markup(bars)))
    runs = [("Runs", verdict.runs), ("Control", verdict.control), ("Verifier", text.verifiers_runs(verdict))]
    errors = counts(verdict.findings)["error"]
    return TEMPLATES.get_template("report.html").render(
        verdict=verdict,
        word=text.WORDS[verdict.verdict].lower(),
        overruled=text.word(verdict).lower() if verdict.verdict == SUPPORTED and errors else None,
        reason=printable(verdict.reason),
        facts=statements.facts(verdict),
        columns=text.RUN_COLUMNS,
        arms=[(name, [text.run_cells(run) for run in own]) for name, own in runs if own],
        plots=drawn,
        quotes=[(text.run_cells(one.result)[-1], one.quote) for one in logs if one.quote],
        provenance=opened.provenance(logs, [*verdict.control, *verdict.runs]),
        assumptions=statements.assumptions(verdict),
        words=text.WORDS,
        plain_p=statements.plain_p,
        degrees=statements.degrees,
        concerns=statements.concerns(verdict),
        findings=[(first, and_others(others)) for first, *others in alike(verdict.findings)],
        command=command,
    )
