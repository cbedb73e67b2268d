"""One number that a JSON or a README claims, and how it fits the logs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from analysis.rules.findings import Place

LONGEST = 60  # characters of what is said


class Kind(StrEnum):
    """What a number is claimed to be."""

    HEADLINE = "headline"
    SEED = "seed"
    VALUE = "value"
    VALUES = "list of values"
    RUNS = "number of runs"
    STEPS = "steps"
    MEAN = "mean"
    SD = "sd"
    T = "t"
    P = "p"
    SIZE = "artifact size"
    CODE = "code size"
    TRAIN_TIME = "training time"
    EVAL_TIME = "evaluation time"
    FILE = "file"


class Of(StrEnum):
    """Which of several runs a size or a time is about."""

    ANY = "any"
    MEAN = "mean"
    LARGEST = "largest"
    SMALLEST = "smallest"


class Holds(StrEnum):
    """Whether a claim fits the logs. Unknown is an answer of its own."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A claimed number as it is written, and the line that says it.

    metric: val_bpb or val_loss, None if the claim does not say which. unit: the ms in one unit of a time; 0 if it has no unit.
    most: the number is an upper limit, as in p < 0.01. strict: a number that no log holds is wrong; otherwise it may be about
    something else. of_json: the JSON says it. group: the column or list of a README that holds it.
    """

    kind: Kind
    text: str
    at: Place
    value: Decimal | None = None
    values: tuple[Decimal, ...] = ()
    metric: str | None = None
    seed: int | None = None
    of: Of = Of.ANY
    unit: float = 1.0
    most: bool = False
    strict: bool = True
    of_json: bool = False
    group: int = 0

    @property
    def what(self) -> str:
        """Return the name of the claim: val_bpb of seed 42, mean val_loss."""
        many = self.kind in (Kind.MEAN, Kind.SD, Kind.HEADLINE) and self.metric
        kind = (self.metric or "value") if self.kind is Kind.VALUE else self.kind
        words = [self.of if self.of is not Of.ANY else "", kind, self.metric if many else ""]
        seed = f"of seed {self.seed}" if self.seed is not None and self.kind is not Kind.SEED else ""
        return " ".join(str(word) for word in (*words, seed) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A claim and what the logs say of it. evidence: their own value in words; log, log_line: where it is printed.

    worse_by: how much worse the logs are than a claimed value. share: the claimed number over the logs' own, of
    what is no value: an sd, t, p, size, time or number of runs. sure: nothing but the runs that count can be meant.
    """

    claim: Said
    holds: Holds = Holds.UNKNOWN
    evidence: str | None = None
    log: str | None = None
    log_line: int | None = None
    worse_by: float = 0.0
    share: float | None = None
    sure: bool = False

    def row(self) -> dict[str, Any]:
        """Return the statement as the JSON formats hold it."""
        return {
            "what": self.claim.what,
            "said": self.claim.text[:LONGEST],
            "holds": self.holds,
            "file": self.claim.at.file,
            "line": self.claim.at.line,
            "evidence": self.evidence,
            "log": self.log,
            "log_line": self.log_line,
        }
