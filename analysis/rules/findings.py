"""What can be found wrong with evidence: the codes, how bad each is, and how a finding is printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ERROR, WARNING, INFO, OFF = "error", "warning", "info", "off"
SEVERITIES = (ERROR, WARNING, INFO)

DEFAULTS: dict[str, str] = dict.fromkeys(
    (
        "no-logs", "no-final-metric", "missing-file", "duplicate-seed", "seed-mismatch", "same-trajectory",
        "claimed-seed-without-log", "headline-unsupported", "headline-not-final", "submission-unit", "size-over-cap",
        "size-not-in-logs", "time-over-cap", "world-size", "source-differs", "code-size-differs", "config-differs",
        "source-size-mismatch", "source-does-not-compile", "label-not-in-source", "script-stub", "rules-changed",
    ),
    ERROR,
) | dict.fromkeys(
    (
        "headline-is-best-seed", "headline-is-one-seed", "too-few-seeds", "several-runs-in-log", "log-clobbered",
        "environment-differs", "data-differs", "hardware-unexpected", "bytes-per-token-unexpected",
        "code-size-unmatched", "source-not-shipped", "submission-schema", "seed-missing", "file-not-read",
        "plan-not-followed", "spread-too-small",
    ),
    WARNING,
) | dict.fromkeys(("time-over-cap-by-one-step", "duplicate-log"), INFO)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reviewer should know about the evidence, at a file and a line."""

    code: str
    severity: str
    file: str
    line: int
    message: str


Raised = Iterator[tuple[str, str, int, str]]  # what a check yields: code, file, line, message


def graded(raised: Iterable[tuple[str, str, int, str]], severities: dict[str, str]) -> list[Finding]:
    """Findings with the severity that the ruleset gives their codes, errors first, each once, without those turned off."""
    found = {
        Finding(code, severity, file, line, message)
        for code, file, line, message in raised
        if (severity := severities.get(code, DEFAULTS[code])) != OFF
    }
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.file, f.line, f.code, f.message))


def in_words(findings: list[Finding]) -> str:
    """How many of each severity: 2 errors, 1 warning; empty when there is none."""
    return ", ".join(f"{n} {s}{'s' if n > 1 and s != INFO else ''}" for s, n in counts(findings).items() if n)


def counts(findings: list[Finding]) -> dict[str, int]:
    """How many of each severity, those with none included."""
    return {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
