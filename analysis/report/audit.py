"""An audit as text, as JSON, as SARIF and as GitHub annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from analysis.evidence.audit import Audit
from analysis.record.fit import Fit
from analysis.report.grid import wrapped
from analysis.report.said.claims import claims_counted
from analysis.report.said.findings import checks_made, finding_lines, github_annotations
from analysis.report.sarif import Judged, sarif
from analysis.rules.findings import in_words
from analysis.untrusted.escape import json_text, printable
from analysis.untrusted.files import printable_path

HEADLINES = {
    Fit.MEAN: "their mean",
    Fit.BEST: "the best of them",
    Fit.ONE: "one of them",
    Fit.IN_TRAINING: "printed in training only",
    Fit.UNSUPPORTED: "neither one of them nor their mean",
}


def text(one: Audit, width: int | None = None) -> str:
    """Return one audit as lines, wrapped to the width."""
    runs = "1 claimed run" if one.runs == 1 else f"{one.runs or 'no'} claimed runs"
    if one.headline is not Fit.UNCLAIMED:
        alone = one.runs == 1 and one.headline is Fit.MEAN
        runs += f", headline: {'its value' if alone else HEADLINES[one.headline]}"
    because = f", chosen by {one.rules_because}" if one.rules_because else ""
    where = printable_path(one.paths[0]) + (f" and {len(one.paths) - 1} more" if len(one.paths) > 1 else "")
    head = printable(f"Audit of {where}: {in_words(one.findings) or 'nothing found'} ({one.rules}{because}, {runs})")
    counted = (*claims_counted(one.claims), *checks_made(one.checks, one.not_checked))
    said = (*finding_lines(one.findings), *map(printable, counted))
    return "\n".join(wrapped([head, *(f"  {line}" for line in said)], width)) + "\n"


def as_json(audits: Sequence[Audit]) -> str:
    """Return all audits with all their findings."""
    records = [
        asdict(one)
        | {"paths": [printable_path(path) for path in one.paths], "claims": [claim.row() for claim in one.claims]}
        for one in audits
    ]
    findings = [finding for record in records for finding in record["findings"]]
    return json_text({"schema_version": 1, "rules": audits[0].rules, "findings": findings, "records": records})


def as_sarif(audits: Sequence[Audit]) -> str:
    """Return all audits as one run of SARIF."""
    return sarif(
        Judged(folder=_folder(one), said=f"audited, {in_words(one.findings) or 'nothing found'}", findings=one.findings)
        for one in audits
    )


def as_annotations(one: Audit) -> list[str]:
    """Return a workflow command for each finding."""
    return github_annotations(one.findings, _folder(one))


def _folder(one: Audit) -> str:
    """Return the folder that an audit's findings are named below."""
    return one.paths[0].as_posix() if one.paths[0].is_dir() else ""
