"""What passes between the driver and a worker: the order of a run, and the messages that come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.journal import Attempt
from analysis.sweepdir.manifest import RunManifest

BEAT_S = 5.0  # how often a worker reports that it is alive


class Sandbox(StrEnum):
    """Whether torchrun runs in a sandbox. AUTO: if the node can make one. REQUIRE: a node that cannot gets no run."""

    AUTO = "auto"
    NONE = "none"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # compared by identity; used as a dict key
class RunOrder:
    """All that a worker must know to make one run.

    script: where it was when it was frozen; never started. code: the frozen files, by their path in the sweep directory.
    """

    arm: str
    seed: int
    attempt: int
    folder: Path
    script: Path
    code: Mapping[str, bytes] = field(repr=False)
    env: dict[str, str]
    ranks: int
    rules: Ruleset
    sweep: str
    driver: str
    stall_timeout_s: float
    deadline_s: float | None
    sandbox: Sandbox = Sandbox.NONE

    @property
    def name(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def key(self) -> Attempt:
        return Attempt(self.arm, self.seed, self.attempt)

    @property
    def sweep_directory(self) -> Path:
        return self.folder.parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The worker has begun, or goes on; nothing else is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """The run cannot start yet."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The run began on a node that does not share the sweep's directory."""

    manifest: RunManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The next part of a file that such a run wrote; `first` begins the file anew."""

    name: str
    content: bytes
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The run ended, with the manifest that it wrote. Without one it is lost or, if its node refused it, pending.

    cause: the kind of failure that kept its worker from beginning, if it is known.
    """

    state: str
    reason: str | None
    manifest: RunManifest | None = None
    cause: str | None = None


Message = Alive | Waits | Began | Part | Ended
