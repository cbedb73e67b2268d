"""The HTML page of a verdict: one file that needs no network and no script. The decision comes first, all else is folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.reading.result import Result
from analysis.report.html import plots
from analysis.report.html.improvement import improvement_plot
from analysis.report.html.templates import Markup, made_by, template
from analysis.report.said.chips import Passes, chips
from analysis.report.said.claims import claim_table, claims_counted
from analysis.report.said.findings import alike, more_places, place_in_words
from analysis.report.said.headline import WORDS, beaten, first_name, gains, title, why, word
from analysis.report.said.quotes import quotes
from analysis.report.said.statements import assumptions, facts, rules_in_words, runs_are, said_besides
from analysis.report.said.tables import run_tables, sensitivity
from analysis.rules.explained import address
from analysis.rules.findings import ERROR, Finding, in_words
from analysis.sweepdir.layout import RUN_MANIFEST
from analysis.sweepdir.manifest import read_manifest
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.answer import CONTINUE, FITS, REFUSED, SUPPORTED, UNUSABLE
from analysis.verdict.numbers import in_short, short_p
from analysis.verdict.verdict import Verdict

MOST_ERRORS = 6  # that are not folded
FEW = 3  # readings that a summary names
RESULT_FACTS = (
    "python", "torch", "gpu", "world_size", "model_params", "train_shards", "val_tokens", "tokenizer", "source_sha256",
)  # fmt: skip
MANIFEST_FACTS = (("machine", "host"), ("git", "commit"), ("git", "dirty"), ("container", "image"))


def page(verdict: Verdict, command: str, name: str = "") -> str:
    """Return a verdict's page. command: what reproduces it; name: what the verdict is on."""
    return template("report.html").render(**shown(verdict, command, name))


def shown(verdict: Verdict, command: str, name: str) -> dict[str, Any]:
    """Return all that a verdict's page shows."""
    runs = [*verdict.control, *verdict.runs]
    quoted = quotes(runs, verdict.findings) if verdict.verdict is not UNUSABLE else {}
    bad = [one for one in verdict.findings if one.severity is ERROR]
    others = [one for one in verdict.findings if one.severity is not ERROR]
    return dict(
        **_decision(verdict, name),
        name=name or verdict.rules,
        refused=verdict.gate == REFUSED,
        errors=_rows(bad)[:MOST_ERRORS],
        more_errors=_rows(bad)[MOST_ERRORS:],
        others=_rows(others),
        others_counted=in_words(others),
        notes=said_besides(verdict),
        plots=_folded_plots(verdict),
        facts=facts(verdict),
        rules=rules_in_words(verdict),
        reason=verdict.reason,
        runs=run_tables(verdict),
        claims=claim_table(verdict.claims),
        claims_counted=", ".join(claims_counted(verdict.claims)).partition(": ")[2],
        not_checked=[(one.check, one.why) for one in verdict.not_checked],
        sensitivity=sensitivity(verdict),
        sensitivity_short=_counted(verdict),
        assumptions=assumptions(verdict),
        quotes=quoted,
        provenance=provenance(runs),
        command=command,
    )


def card(verdict: Verdict, name: str = "") -> str:
    """Return the decision alone, as part of another page."""
    return template("fragment.html").render(**_decision(verdict, name))


def _decision(verdict: Verdict, name: str) -> dict[str, Any]:
    """Return what the decision card shows: the word, the gain, the test, and what else a claim must pass."""
    undecided = verdict.verdict is UNUSABLE or not verdict.is_decided
    passes = (
        Passes.UNKNOWN
        if verdict.verdict in (UNUSABLE, CONTINUE)
        else Passes.of(passed=verdict.gate in (SUPPORTED, FITS))
    )
    drawn = improvement_plot(verdict)
    return {
        "subject": subject(verdict, name),
        "word": word(verdict).capitalize(),
        "title": title(verdict),
        "passes": passes,
        "card": _numbers(verdict),
        "gained": len(gains(verdict)),
        "reasons": why(verdict)[-1:] if undecided or verdict.gate not in (SUPPORTED, REFUSED) else [],
        "chips": chips(verdict),
        "plot": Markup(drawn or ""),
    }


def subject(verdict: Verdict, name: str) -> list[str]:
    """Return what was judged, by which rules, against what, on which machines, by which version, and when."""
    against = beaten(verdict)
    gpus = {(run.run.world_size, run.run.gpu) for run in verdict.runs}
    where = [f"{size} x {gpu}" for size, gpu in gpus if size is not None and gpu is not None] if len(gpus) == 1 else []
    return [
        rules_in_words(verdict),
        *([name] if name else []),
        *([f"against {against}"] if against else []),
        f"{len(verdict.runs)} {runs_are(verdict) if len(verdict.runs) != 1 else runs_are(verdict)[:-1]}",
        *where,
        made_by(),
    ]


def _numbers(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the numbers of the card, each with what it means."""
    one_metric = len({one.metric for one in gains(verdict)}) == 1
    shown = [(one.mean, one.least if one_metric else f"{one.metric}: {one.least}") for one in gains(verdict)]
    if verdict.test is not None:
        df = "" if verdict.test.df is None else f", df {verdict.test.df:.3g}"
        rival = f" against the {name}" if (name := first_name(verdict)) else ""
        p = short_p(verdict.test.p_value, verdict.alpha)
        shown.append(
            (
                f"p {p}" if p.startswith("<") else f"p = {p}",
                f"{verdict.test.name}{rival}{df}; must be < {verdict.alpha:g}",
            )
        )
    if verdict.mean is not None:
        spread = verdict.sd if verdict.pair_sd is None else verdict.pair_sd
        mean, *sd = in_short(verdict.metric, verdict.mean, *([] if spread is None else [spread]))
        whose = "" if verdict.pair_sd is None else " of the differences"
        of = f"mean {verdict.metric}" + (f", sd{whose} {sd[0]}" if sd else " of one run")
        shown.append((mean, of))
    return shown


def _counted(verdict: Verdict) -> str:
    """Return how many readings come to which answer, or which if there are few."""
    answers = [WORDS[one.verdict] for one in verdict.also]
    if len(answers) <= FEW:
        return ", ".join(f"{one.reading}: {said}" for one, said in zip(verdict.also, answers, strict=True))
    return ", ".join(f"{answers.count(one)} {one}" for one in dict.fromkeys(answers))


def _rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings for a table: those that differ only in their place are one."""
    return [
        {
            "code": one.code,
            "page": address(one.code),
            "found": one.found,
            "first": place_in_words(one),
            "more": more_places(group),
            "do": one.do,
        }
        for group in alike(findings)
        for one in group[:1]
    ]


def _folded_plots(verdict: Verdict) -> dict[str, Markup]:
    found = plots.curves(verdict) if verdict.verdict is not UNUSABLE else []
    drawn = {
        "Training": plots.curves_plot(found) if found else None,
        "Time and size of each run": plots.caps_plot(verdict),
    }
    return {name: Markup(svg) for name, svg in drawn.items() if svg}


# -- where the numbers come from -------------------------------------------------------------------------------------------


def provenance(runs: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what the logs and a sweep's manifests say of where the runs ran: one value if all agree, else by log."""
    said: dict[str, dict[str, str]] = {}
    for run in runs:
        row = run.row()
        for name, value in ({name: row[name] for name in RESULT_FACTS} | _manifest_facts(run)).items():
            if value is not None:
                said.setdefault(name.replace("_", " "), {})[run.log] = str(value)
    return [(name, _one_or_each(values, len(runs))) for name, values in said.items()]


def _one_or_each(values: Mapping[str, str], runs: int) -> str:
    same = len({*values.values()}) == 1 and len(values) == runs
    shown = [*values.values()][:1] if same else [f"{log}: {value}" for log, value in values.items()]
    return printable("; ".join(shown))


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
