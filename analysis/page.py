"""A verdict as one HTML file that needs no network and no script. Needs the extra seedproof[report]."""

from __future__ import annotations

import os
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis import render, statements
from analysis.escape import alike, and_others, printable
from analysis.evidence import FRAME_SUFFIXES
from analysis.files import FileError, leads_out
from analysis.plots import Curve, curves_plot, seeds_plot
from analysis.reader import read_log
from analysis.verdict import UNUSABLE, Verdict

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(verdict: Verdict, path: Path, command: str) -> str:
    """The page; `path` is where the runs' logs lie, `command` is what makes the page again."""
    curves = [] if verdict.verdict == UNUSABLE else read_curves(verdict, path)
    plots = []
    if verdict.threshold is not None:
        plots.append(("Seeds", Markup(seeds_plot(verdict))))
    if curves:
        plots.append(("Training", Markup(curves_plot(curves))))
    return _TEMPLATES.get_template("report.html").render(
        verdict=verdict,
        word=render.WORDS[verdict.verdict].lower(),
        reason=printable(verdict.reason),
        facts=statements.facts(verdict),
        columns=render.RUN_COLUMNS,
        arms=[(name, [render.run_cells(run) for run in runs])
              for name, runs in (("Runs", verdict.runs), ("Control", verdict.control),
                                   ("Verifier", render.verifiers_runs(verdict))) if runs],
        plots=plots,
        assumptions=statements.assumptions(verdict),
        words=render.WORDS,
        plain_p=statements.plain_p,
        degrees=statements.degrees,
        concerns=statements.concerns(verdict),
        findings=[(first, and_others(others)) for first, *others in alike(verdict.findings)],
        command=command,
    )  # fmt: skip


def read_curves(verdict: Verdict, path: Path) -> list[Curve]:
    """The training losses that the runs' logs hold, where the logs are still there."""
    is_frame = path.is_file() and path.suffix in FRAME_SUFFIXES
    base = path.parent if is_frame else path
    curves = []
    for result in (*verdict.control, *verdict.runs):
        log = base / result.log if base.is_dir() else Path(result.log)
        if (
            not is_frame and not log.is_file()
        ):  # a control, or one of several paths, is named from the working directory
            log = Path(result.log)
        if not log.is_file() or (is_frame and leads_out(log, os.path.realpath(base))):
            continue
        try:
            runs = read_log(log)
            steps = [
                step for run in ([r for r in runs if r.line <= (result.line or 0)] or runs)[-1:] for step in run.steps
            ]
        except FileError:
            continue
        points = [(step.step, loss) for step in steps if (loss := step.train_loss) is not None]
        points = points or [(step.step, loss) for step in steps if (loss := step.val_loss) is not None]
        if len(points) > 1:
            curves.append(Curve(result.arm, [at for at, _ in points], [loss for _, loss in points]))
    return curves
