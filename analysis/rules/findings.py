"""Findings: the codes of what can be wrong with evidence, how bad each is, and what a check says.

To add one: a code here, a check in analysis/checks that yields it, a row in tests/analysis/test_audit.py, and a section in
docs/findings.md. A test holds the four together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is. An error makes `check` and `audit` exit with 1; `off` is for rulesets and is never raised."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    OFF = "off"


ERROR, WARNING, INFO, OFF = Severity.ERROR, Severity.WARNING, Severity.INFO, Severity.OFF
SEVERITIES = (ERROR, WARNING, INFO)


class Code(StrEnum):
    """Every finding, by what is wrong. docs/findings.md has a section on each."""

    NO_LOGS = "no-logs"
    NO_FINAL_METRIC = "no-final-metric"
    MISSING_FILE = "missing-file"
    DUPLICATE_SEED = "duplicate-seed"
    SEED_MISMATCH = "seed-mismatch"
    SAME_TRAJECTORY = "same-trajectory"
    CLAIMED_SEED_WITHOUT_LOG = "claimed-seed-without-log"
    HEADLINE_UNSUPPORTED = "headline-unsupported"
    HEADLINE_NOT_FINAL = "headline-not-final"
    SUBMISSION_UNIT = "submission-unit"
    SIZE_OVER_CAP = "size-over-cap"
    SIZE_NOT_IN_LOGS = "size-not-in-logs"
    TIME_OVER_CAP = "time-over-cap"
    WORLD_SIZE = "world-size"
    SOURCE_DIFFERS = "source-differs"
    CODE_SIZE_DIFFERS = "code-size-differs"
    CONFIG_DIFFERS = "config-differs"
    SOURCE_SIZE_MISMATCH = "source-size-mismatch"
    SOURCE_DOES_NOT_COMPILE = "source-does-not-compile"
    LABEL_NOT_IN_SOURCE = "label-not-in-source"
    SCRIPT_STUB = "script-stub"
    RULES_CHANGED = "rules-changed"
    HEADLINE_IS_BEST_SEED = "headline-is-best-seed"
    HEADLINE_IS_ONE_SEED = "headline-is-one-seed"
    TOO_FEW_SEEDS = "too-few-seeds"
    SEVERAL_RUNS_IN_LOG = "several-runs-in-log"
    LOG_CLOBBERED = "log-clobbered"
    ENVIRONMENT_DIFFERS = "environment-differs"
    DATA_DIFFERS = "data-differs"
    HARDWARE_UNEXPECTED = "hardware-unexpected"
    BYTES_PER_TOKEN_UNEXPECTED = "bytes-per-token-unexpected"  # noqa: S105 - a code, not a password
    CODE_SIZE_UNMATCHED = "code-size-unmatched"
    SOURCE_NOT_SHIPPED = "source-not-shipped"
    SUBMISSION_SCHEMA = "submission-schema"
    SEED_MISSING = "seed-missing"
    FILE_NOT_READ = "file-not-read"
    PLAN_NOT_FOLLOWED = "plan-not-followed"
    SPREAD_TOO_SMALL = "spread-too-small"
    TIME_OVER_CAP_BY_ONE_STEP = "time-over-cap-by-one-step"
    DUPLICATE_LOG = "duplicate-log"
    RUNS_LEFT_OUT = "runs-left-out"
    CAP_UNKNOWN = "cap-unknown"
    EVAL_TIME_OVER_CAP = "eval-time-over-cap"
    DATA_UNEXPECTED = "data-unexpected"
    SEED_CONSTANT = "seed-constant"
    RUN_NOT_READ = "run-not-read"
    METRIC_TWICE = "metric-twice"
    FINAL_BETTER_THAN_TRAINING = "final-better-than-training"


WARNINGS = {
    Code.HEADLINE_IS_BEST_SEED, Code.HEADLINE_IS_ONE_SEED, Code.TOO_FEW_SEEDS, Code.SEVERAL_RUNS_IN_LOG,
    Code.LOG_CLOBBERED, Code.ENVIRONMENT_DIFFERS, Code.DATA_DIFFERS, Code.HARDWARE_UNEXPECTED,
    Code.BYTES_PER_TOKEN_UNEXPECTED, Code.CODE_SIZE_UNMATCHED, Code.SOURCE_NOT_SHIPPED, Code.SUBMISSION_SCHEMA,
    Code.SEED_MISSING, Code.FILE_NOT_READ, Code.RUNS_LEFT_OUT, Code.RUN_NOT_READ, Code.PLAN_NOT_FOLLOWED, Code.SPREAD_TOO_SMALL,
    Code.METRIC_TWICE, Code.FINAL_BETTER_THAN_TRAINING,
    Code.SEED_CONSTANT,
}  # fmt: skip
INFOS = {Code.TIME_OVER_CAP_BY_ONE_STEP, Code.DUPLICATE_LOG}
DEFAULTS = {code: WARNING if code in WARNINGS else INFO if code in INFOS else ERROR for code in Code}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a finding is: a file as it is printed, and a line of it."""

    file: str
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a check yields. found, expected: parts of one sentence; do: a sentence on its own, what to do about it.

    severity: where it is not the usual one of its code.
    """

    code: Code
    at: Place
    found: str
    expected: str | None = None
    do: str
    severity: Severity | None = None

    @property
    def message(self) -> str:
        return f"Found {self.found}{f'; expected {self.expected}' if self.expected else ''}. {self.do}"


Raised = Iterator[Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a reviewer should know about the evidence, with the severity that the rules give it."""

    code: Code
    severity: Severity
    file: str
    line: int
    message: str


def graded(raised: Iterable[Found], severities: Mapping[str, str]) -> list[Finding]:
    """Return findings with the severity that a ruleset gives their codes: errors first, each once, none turned off."""
    findings = {
        Finding(code=one.code, severity=severity, file=one.at.file, line=one.at.line, message=one.message)
        for one in raised
        if (severity := Severity(severities.get(one.code, one.severity or DEFAULTS[one.code]))) is not OFF
    }
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.file, f.line, f.code, f.message))


def in_words(findings: Iterable[Finding]) -> str:
    """Return how many there are of each severity: 2 errors, 1 warning; empty when there is none."""
    return ", ".join(f"{n} {s}{'s' if n > 1 and s is not INFO else ''}" for s, n in counts(findings).items() if n)


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """Count the findings of each severity, those with none included."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in SEVERITIES}


def errors(findings: Iterable[Finding]) -> int:
    """Count the findings of the severity error."""
    return counts(findings)[ERROR]
