"""Write findings as SARIF 2.1.0, which code scanning and editors read. Each rule is a code in docs/findings.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from analysis.report.said.findings import place_of
from analysis.rules.explained import explained
from analysis.rules.findings import ERROR, INFO, SEVERITIES, WARNING, Code, Finding
from analysis.untrusted.escape import json_text, printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {ERROR: "error", WARNING: "warning", INFO: "note"}
MOST = 5000  # results: GitHub shows no more
CODES = list(Code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One record and its findings; their files are below `folder`. said: the result, in a word or a sentence."""

    folder: str
    said: str
    findings: Sequence[Finding]


def sarif(records: Iterable[Judged]) -> str:
    """Return one run with the findings of all records, errors first."""
    records = list(records)
    pairs = [(one, finding) for one in records for finding in one.findings]
    pairs.sort(key=lambda pair: SEVERITIES.index(pair[1].severity))
    left_out = len(pairs) - MOST
    notes = [f"{printable(one.folder or '.')}: {printable(one.said)}" for one in records]
    notes += [f"{left_out} more findings are left out."] if left_out > 0 else []
    run = {
        "tool": {"driver": {"name": "seedproof", "rules": [_rule(code) for code in CODES]}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "note", "message": {"text": note}} for note in notes],
            }
        ],
        "results": [_result(finding, one.folder) for one, finding in pairs[:MOST]],
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(code: Code) -> dict[str, Any]:
    text = explained()[code]
    first = " ".join(re.sub(r"[`*]", "", text).split("\n\n")[0].split())
    return {
        "id": code.value,
        "shortDescription": {"text": first},
        "help": {"text": re.sub(r"[`*]", "", text), "markdown": text},
        "defaultConfiguration": {"level": LEVELS[code.severity]},
    }


def _result(finding: Finding, folder: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code.value,
        "ruleIndex": CODES.index(finding.code),
        "level": LEVELS[finding.severity],
        "message": {"text": printable(finding.message)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(place_of(finding, folder))},
                    "region": {"startLine": max(1, finding.line)},
                }
            }
        ],
    }


def _uri(path: str) -> str:
    """Return a path as a URI: relative to the working directory, which is the repository's root in the action."""
    quoted = quote(path.encode("utf-8", "backslashreplace"))
    return f"file://{quoted}" if path.startswith("/") else quoted
