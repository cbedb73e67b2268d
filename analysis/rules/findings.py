"""Findings: the codes of what can be wrong with evidence, how bad each is, and what a check says.

To add one: a code here, a check in analysis/checks that yields it, a row in tests/analysis/test_audit.py, and a section in
docs/findings.md. A test holds the four together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from analysis.untrusted.secrets import redacted


class Severity(StrEnum):
    """How bad a finding is. An error makes `check` and `audit` exit with 1; `off` is for rulesets and is never raised."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    OFF = "off"


ERROR, WARNING, INFO, OFF = Severity.ERROR, Severity.WARNING, Severity.INFO, Severity.OFF
SEVERITIES = (ERROR, WARNING, INFO)


class Code(StrEnum):
    """Every finding: what is wrong, how bad that is unless a ruleset says otherwise, and what to do about it.

    docs/findings.md has a section on each.
    """

    severity: Severity
    do: str

    def __new__(cls, code: str, severity: Severity, do: str) -> Self:
        one = str.__new__(cls, code)
        one._value_, one.severity, one.do = code, severity, do
        return one

    NO_LOGS = "no-logs", ERROR, "Add them."
    NO_FINAL_METRIC = "no-final-metric", ERROR, "Let the run finish, or remove the log and say why."
    MISSING_FILE = "missing-file", ERROR, "Add it."
    DUPLICATE_SEED = "duplicate-seed", ERROR, "Keep one run for each seed."
    SEED_MISMATCH = "seed-mismatch", ERROR, "Correct the seed."
    SAME_TRAJECTORY = "same-trajectory", ERROR, "One log was made from the other: rerun it."
    CLAIMED_SEED_WITHOUT_LOG = "claimed-seed-without-log", ERROR, "Add its log, or do not claim it."
    HEADLINE_UNSUPPORTED = "headline-unsupported", ERROR, "Correct the number."
    HEADLINE_NOT_FINAL = "headline-not-final", ERROR, "Claim a final metric."
    SUBMISSION_UNIT = (
        "submission-unit",
        ERROR,
        "Take both numbers from one line: bpb under val_bpb, nats under val_loss.",
    )
    SIZE_OVER_CAP = "size-over-cap", ERROR, "Shrink the artifact."
    SIZE_NOT_IN_LOGS = "size-not-in-logs", ERROR, "Take the number from the logs: model plus code."
    TIME_OVER_CAP = "time-over-cap", ERROR, "Stop in time."
    WORLD_SIZE = "world-size", ERROR, "Run it on as many."
    SOURCE_DIFFERS = "source-differs", ERROR, "Rerun it with theirs."
    CODE_SIZE_DIFFERS = "code-size-differs", ERROR, "Run one program."
    CONFIG_DIFFERS = "config-differs", ERROR, "Rerun it with theirs."
    SOURCE_SIZE_MISMATCH = "source-size-mismatch", ERROR, "Show the whole program that ran."
    SOURCE_DOES_NOT_COMPILE = "source-does-not-compile", ERROR, "Show the program that ran."
    LABEL_NOT_IN_SOURCE = "label-not-in-source", ERROR, "Show the program that ran."
    SCRIPT_STUB = "script-stub", ERROR, "Ship it."
    RULES_CHANGED = "rules-changed", ERROR, "Name the rules with --rules, or the changed value with its own option."
    HEADLINE_IS_BEST_SEED = "headline-is-best-seed", WARNING, "Claim the mean."
    HEADLINE_IS_ONE_SEED = "headline-is-one-seed", WARNING, "Claim the mean."
    TOO_FEW_SEEDS = "too-few-seeds", WARNING, "Run more seeds."
    SEVERAL_RUNS_IN_LOG = "several-runs-in-log", WARNING, "Keep one log for each run: only one of these counts."
    LOG_CLOBBERED = "log-clobbered", WARNING, "Two jobs wrote into it, or lines were changed: rerun with its own log."
    ENVIRONMENT_DIFFERS = "environment-differs", WARNING, "Run all seeds alike."
    DATA_DIFFERS = "data-differs", ERROR, "Run all seeds alike."
    HARDWARE_UNEXPECTED = "hardware-unexpected", ERROR, "Times on different hardware cannot be compared: run it there."
    BYTES_PER_TOKEN_UNEXPECTED = (
        "bytes-per-token-unexpected",
        WARNING,
        "Was it another validation set or tokenizer, or are the lines of two evaluations?",
    )
    CODE_SIZE_UNMATCHED = "code-size-unmatched", WARNING, "Ship the script that ran."
    SOURCE_NOT_SHIPPED = "source-not-shipped", WARNING, "Ship the script that ran."
    SUBMISSION_SCHEMA = "submission-schema", WARNING, "Correct it."
    SEED_MISSING = "seed-missing", WARNING, "Print it."
    FILE_NOT_READ = "file-not-read", WARNING, "Put the file itself here, or remove the name."
    PLAN_NOT_FOLLOWED = "plan-not-followed", WARNING, "Run what is missing and explain the rest."
    SPREAD_TOO_SMALL = "spread-too-small", WARNING, "Copied logs and the best of many runs have it: ask for every run."
    RUNS_LEFT_OUT = "runs-left-out", WARNING, "Count them, or say how they differ from the claimed runs."
    CLAIM_NOT_IN_LOGS = "claim-not-in-logs", WARNING, "Take the number from the logs."
    RUN_NOT_READ = "run-not-read", WARNING, "Show it as a log, or say why it is not one of the claim's runs."
    ATTEMPTS_REMADE = "attempts-remade", WARNING, "Say what ended each, and show its log."
    PAIR_SPLIT = (
        "pair-split",
        WARNING,
        "Nothing need be done: the test is valid. A split pair only makes the claim harder to pass.",
    )
    CAP_UNKNOWN = "cap-unknown", ERROR, "Print it in every log."
    EVAL_TIME_OVER_CAP = "eval-time-over-cap", ERROR, "Evaluate in time."
    DATA_UNEXPECTED = "data-unexpected", ERROR, "Train and validate on the published data."
    SEED_CONSTANT = "seed-constant", WARNING, "Take the seed from the environment, and print it."
    METRIC_TWICE = "metric-twice", WARNING, "Say which evaluation counts, and give the other a label of its own."
    FINAL_BETTER_THAN_TRAINING = (
        "final-better-than-training",
        WARNING,
        "Say what the evaluation does that the validation in training does not.",
    )
    EVIDENCE_REMOVED = "evidence-removed", ERROR, "Put it back, and add new runs as new files."
    ATTEMPTS_LEFT_OUT = "attempts-left-out", ERROR, "Show every attempt with its log, or say whose it is."
    CRITERION_NOT_TESTED = "criterion-not-tested", WARNING, "Give the prior record's own runs with --control."
    NOT_REGISTERED = "not-registered", WARNING, "Name the registry that the sweep used, or say why there is none."
    TIME_OVER_CAP_BY_ONE_STEP = "time-over-cap-by-one-step", INFO, "The running step had to end: nothing to do."
    DUPLICATE_LOG = "duplicate-log", INFO, "It is counted once: nothing to do."


DEFAULTS = {code: code.severity for code in Code}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a check yields. found, expected: parts of one sentence.

    do, severity: in place of the code's own.
    """

    code: Code
    at: Place
    found: str
    expected: str | None = None
    do: str | None = None
    severity: Severity | None = None

    @property
    def advice(self) -> str:
        return self.do or self.code.do

    @property
    def message(self) -> str:
        return f"Found {self.found}{f'; expected {self.expected}' if self.expected else ''}. {self.advice}"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a finding is: a file as it is printed, and a line of it."""

    file: str
    line: int = 1

    def has(self, code: Code, found: str, *, expected: str | None = None, do: str | None = None) -> Found:
        """Return the finding that something is here."""
        return Found(code=code, at=self, found=found, expected=expected, do=do)


Raised = Iterator[Found]
MOST_NAMED = 5  # files in one sentence


def each_once(raised: Iterable[Found]) -> Raised:
    """Yield findings. One that several files share is yielded once, at the first file, and names the others."""
    places: dict[Found, list[Place]] = {}
    for one in raised:
        places.setdefault(replace(one, at=Place("")), []).append(one.at)
    for one, (first, *more) in places.items():
        others = list(dict.fromkeys(place.file for place in more if place.file != first.file))
        same = ""
        if others:
            named = ", ".join(others[:MOST_NAMED]) + (", ..." if len(others) > MOST_NAMED else "")
            same = f", and the same in {len(others)} more log{'s' if len(others) > 1 else ''} ({named})"
        yield replace(one, at=first, found=one.found + same)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a reviewer should know about the evidence, with the severity that the rules give it.

    do: what to do about it, which is the end of the message.
    """

    code: Code
    severity: Severity
    file: str
    line: int
    message: str
    do: str = ""

    @property
    def found(self) -> str:
        """Return the message without what to do."""
        return self.message.removesuffix(self.do).rstrip()


def graded(raised: Iterable[Found], severities: Mapping[str, str]) -> list[Finding]:
    """Return findings with the severity that a ruleset gives their codes: errors first, each once, none turned off."""
    findings = {
        Finding(
            code=one.code,
            severity=severity,
            file=one.at.file,
            line=one.at.line,
            message=redacted(one.message),
            do=redacted(one.advice),
        )
        for one in raised
        if (severity := Severity(severities.get(one.code, one.severity or one.code.severity))) is not OFF
    }
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.file, f.line, f.code, f.message))


def in_words(findings: Iterable[Finding]) -> str:
    """Return how many there are of each severity: 2 errors, 1 warning; empty when there is none."""
    many = counts(findings)
    return ", ".join(f"{n} {s}{'s' if n > 1 and s is not INFO else ''}" for s, n in many.items() if n)


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """Count the findings of each severity, those with none included.

    Those that differ only in their place are one, as every list of findings shows them.
    """
    severities = [severity for severity, _, _ in {(one.severity, one.code, one.message) for one in findings}]
    return {severity: severities.count(severity) for severity in SEVERITIES}


def errors(findings: Iterable[Finding]) -> int:
    """Count the findings of the severity error."""
    return counts(findings)[ERROR]
