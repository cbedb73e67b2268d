"""What was read, audited, planned or ranked, in Python and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from analysis.evidence import audit
from analysis.reading.result import Result
from analysis.report.audit import text
from analysis.report.board import board_text, markdown
from analysis.report.notebook.frames import as_html, frame_of, frame_of_curves, frame_of_runs, has_pandas
from analysis.report.plan import as_text
from analysis.report.said.advice import commands, recommendation
from analysis.rules.findings import Finding, errors
from analysis.rules.ruleset import Ruleset
from analysis.stats.power import Question
from analysis.stats.power import Row as Design
from analysis.untrusted.escape import printable
from analysis.verdict.board.row import Row

if TYPE_CHECKING:
    import pandas as pd


class Runs(tuple[Result, ...]):
    """The runs that logs tell of, in the order of the files. Each has its log and line, seed, metric and facts."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run. Raises UsageError where pandas is not installed."""
        return frame_of_runs(self)

    def curves(self) -> pd.DataFrame:
        """Return one row per logged step. Raises UsageError where pandas is not installed."""
        return frame_of_curves(self)

    def __repr__(self) -> str:
        shown = [f"{one.log}:{one.line} seed {one.seed}" for one in self[:3]]
        return printable(f"<{len(self)} runs: {', '.join([*shown, *(['...'] if len(self) > 3 else [])])}>")

    def _repr_html_(self) -> str | None:
        return as_html(self.to_frame()) if has_pandas() else None


class Audit(audit.Audit):
    """What does not fit in a record. It is true where no finding is an error, as `seedproof audit` exits with 0."""

    __slots__ = ()

    @classmethod
    def of(cls, one: audit.Audit) -> Audit:
        return cls(**{key.name: getattr(one, key.name) for key in fields(one)})

    def __bool__(self) -> bool:
        return errors(self.findings) == 0

    def __repr__(self) -> str:
        return text(self).rstrip("\n")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding. Raises UsageError where pandas is not installed."""
        rows = [{name: str(value) for name, value in asdict(one).items()} | {"line": one.line} for one in self.findings]
        return frame_of(rows, [key.name for key in fields(Finding)])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Board:
    """Every record folder below a folder, oldest first, each tested against the record that stood before it."""

    rules: Ruleset
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return board_text(self.rows, self.rules).rstrip("\n")

    def _repr_markdown_(self) -> str:
        return markdown(self.rows, self.rules)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per record. Raises UsageError where pandas is not installed."""
        return frame_of([asdict(row) for row in self.rows], [key.name for key in fields(Row)])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """What each design costs, and how likely it passes."""

    question: Question
    designs: Sequence[Design]

    @property
    def recommendation(self) -> str:
        return recommendation(self.question, [*self.designs])

    @property
    def commands(self) -> list[str]:
        """The command lines that carry out the recommended design; what plan cannot know is in capitals."""
        return commands(self.question, [*self.designs])

    def __repr__(self) -> str:
        return as_text(self.question, [*self.designs]).rstrip("\n")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per design. Raises UsageError where pandas is not installed."""
        return frame_of([asdict(row) for row in self.designs], [key.name for key in fields(Design)])
