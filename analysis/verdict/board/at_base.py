"""The record that stood before a change: the best of the board at its base commit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.record.change.evidence import is_evidence
from analysis.record.change.git import Blob, ChangeError, git, tree, write_out
from analysis.rules.ruleset import Ruleset
from analysis.verdict.board.row import best_of
from analysis.verdict.board.standings import leaderboard


class NoRecordError(ChangeError):
    """A board without a record that stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBeat:
    """The number to beat, and a sentence that says where it is from. control: the folder of the runs to beat, where the rules
    compare with runs."""

    sota: float
    said: str
    control: Path | None = None


def standing_at(base: str, top: Path, rules: Ruleset, belongs: Callable[[Path], bool]) -> ToBeat:
    """Return what stood at a commit by the board that `analysis.leaderboard` makes. Raises ChangeError without one.

    belongs: whether a folder's records are on this ruleset's board.
    """
    commit = git("rev-parse", "--short", f"{base}^{{commit}}").strip()
    files = {path: blob for path, blob in tree(base, top).items() if is_evidence(path) and belongs(path.parent)}
    with tempfile.TemporaryDirectory() as folder:
        write_out(files, Path(folder))
        rows = leaderboard(Path(folder, top), rules) if files else []
        best = best_of(rows, rules)
        where = top / best.record if best is not None and Path(folder, top, best.record).exists() else top
    if best is None or best.mean is None:
        why = f": {rows[0].record}: {rows[0].why}" if rows and rows[0].why else ""
        raise NoRecordError(
            f"sota: auto found no record with a mean {rules.metric} by {rules.name} below {top} at the base commit "
            f"{commit} ({len(rows)} folders{why}). Give the number to beat as sota until a first record is merged."
        )
    runs = f"{best.n} run{'s' if best.n != 1 else ''}"
    said = (
        f"To beat by {rules.name}: {best.mean:.8f} {rules.metric}, the mean of {runs} of {where}, the best of "
        f"{len(rows)} record{'s' if len(rows) != 1 else ''} at the base commit {commit}."
    )
    if not rules.asks_for_runs:
        return ToBeat(sota=best.mean, said=said)
    if _evidence(base, where) != _evidence("HEAD", where):
        raise ChangeError(
            f"{rules.name} compares with the runs of {where}, and this checkout does not hold them as the base commit "
            f"{commit} does. Merge the base into the branch, and change that record in a pull request of its own."
        )
    return ToBeat(sota=best.mean, said=said, control=where)


def _evidence(commit: str, folder: Path) -> dict[Path, Blob]:
    return {path: blob for path, blob in tree(commit, folder).items() if is_evidence(path)}
