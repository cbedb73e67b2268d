"""Apply a change to a clean folder, and judge the result as `check` does."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from analysis.rules.findings import ERROR, WARNING
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.judge import judge
from benchmarks.mutations.claims import seal
from benchmarks.mutations.folders import Dialect, Folder, make

Change = Callable[[Folder], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of change. unseen: why only a rerun can show it; None if evidence can."""

    name: str
    change: Change
    unseen: str | None = None


class Outcome(StrEnum):
    """What `check` makes of a changed folder, compared with the clean one."""

    FAILS = "fails"
    WARNS = "warns"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What `check` says about a folder: its answer, and the count of each (severity, code) among its findings."""

    answer: str
    found: Counter[tuple[str, str]]

    def against(self, clean: Judged) -> Outcome:
        """Return what this says that the clean folder does not."""
        new = {severity for severity, _ in (self.found - clean.found)}
        if self.answer != clean.answer or ERROR in new:
            return Outcome.FAILS
        return Outcome.WARNS if WARNING in new else Outcome.SILENT


@dataclass(slots=True, kw_only=True)
class Row:
    """A kind and its outcome in each dialect. new: the findings that the clean folder lacks."""

    kind: Kind
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    new: dict[str, list[str]] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        return [*self.outcomes.values()].count(outcome)


def judged(folder: Folder) -> Judged:
    """Judge a folder as `check` does. A refusal is an answer too."""
    try:
        verdict = judge([folder.path], folder.options)
    except SeedproofError as error:
        return Judged(answer=type(error).__name__, found=Counter())
    found = Counter((str(finding.severity), str(finding.code)) for finding in verdict.findings)
    return Judged(answer=verdict.verdict, found=found)


def content(folder: Folder) -> str:
    """Return a digest of everything that a verdict may rest on."""
    digest = hashlib.sha256(repr(folder.options).replace(str(folder.root), "").encode())
    for path in sorted(folder.root.rglob("*")):
        digest.update(f"{path.relative_to(folder.root)} {path.is_dir()} ".encode())
        if path.is_file():
            digest.update(str(path.stat().st_size).encode() if path.stat().st_size > 2**22 else path.read_bytes())
    return digest.hexdigest()


def clean(dialect: Dialect, scratch: Path) -> Folder:
    """Write the clean folder of a dialect into its own folder."""
    folder = make(dialect, Path(tempfile.mkdtemp(dir=scratch)))
    if dialect.is_sweep:
        seal(folder)
    return folder


def rows(kinds: Iterable[Kind], dialects: Iterable[Dialect], scratch: Path) -> list[Row]:
    """Apply each kind to a clean folder of each dialect. A kind that changes nothing does not apply to that dialect."""
    table = [Row(kind=kind) for kind in kinds]
    for dialect in dialects:
        folder = clean(dialect, scratch)
        usual, before = judged(folder), content(folder)
        for row in table:
            changed = clean(dialect, scratch)
            row.kind.change(changed)
            if content(changed) == before:
                continue
            found = judged(changed)
            row.outcomes[dialect.name] = found.against(usual)
            row.new[dialect.name] = [f"{severity} {code}" for severity, code in found.found - usual.found]
            if found.answer != usual.answer:
                row.new[dialect.name].append(found.answer)
    return table
