"""What our judge says of a published row, from the logs that the row speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from analysis.evidence.gather import gather
from analysis.evidence.options import Options
from analysis.reading.result import Result
from analysis.rules.metrics import TRAIN_TIME
from analysis.rules.ruleset import Ruleset
from analysis.untrusted.files import one_budget
from analysis.untrusted.refusal import SeedproofError
from analysis.verdict.answer import UNUSABLE
from analysis.verdict.judge import judge
from benchmarks.conformance.matching import Match
from benchmarks.conformance.tables import Row

SAME_TIME = 0.01  # share by which a time may differ: some are published in hours with two decimals
LONGEST = 200  # characters of a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One row beside what we get. n, mean, answer: None where nothing could be judged. time_s: the runs' mean time.

    without: what the judge says without --at-step, and the step that it takes. why: what is not as published, empty
    where all is.
    """

    row: Row
    where: str
    n: int | None = None
    mean: float | None = None
    time_s: float | None = None
    answer: str | None = None
    without: str = "-"
    why: str = ""

    @property
    def reproduced(self) -> bool:
        return not self.why


def judged(row: Row, found: Match | None, rules: Ruleset, directory: Path) -> Judged:
    """Judge the trials that a row speaks of: their folder, else their logs by name, until one gives what is published."""
    if found is None:
        return Judged(row=row, where="-", why="no folder has logs of it")
    folder = str(found.unit.folder.relative_to(directory))
    nearest = "" if found.exact else f"no logs have this n and mean; the nearest have {found.n} and {found.mean:.5f}"
    if nearest and not row.is_named:
        return Judged(row=row, where="-", why=f"{nearest}, in {folder}")
    by_name = f"{folder} ({found.unit.part or 'its logs by name'})"
    ways = {by_name: found.unit.logs(rules.metric, row.step)}
    if row.is_named or not found.unit.part:
        ways = {folder: [found.unit.folder], **ways}
    tries: list[Judged] = []
    for where, paths in ways.items():
        tries.append(_judged(Judged(row=row, where=where), paths, rules))
        if tries[-1].reproduced:
            break
    best = tries[-1] if tries[-1].reproduced or found.unit.part else tries[0]
    if row.step is not None:
        best = replace(best, without=_without(row, ways[best.where], rules))
    why = ", ".join(filter(None, (nearest, best.why))).replace(f"{directory}/", "")
    return replace(best, why=why if len(why) <= LONGEST else why[: LONGEST - 3] + "...")


def _judged(one: Judged, paths: Sequence[Path], rules: Ruleset) -> Judged:
    """Judge the logs; where it is not known what they had to beat, only read them."""
    row = one.row
    tested = rules.target is not None or row.beats is not None or not rules.has_test
    try:
        if not tested:
            with one_budget():
                return _compared(one, gather(paths, rules).runs, rules)
        verdict = judge(paths, Options(rules=rules.name, at_step=row.step, sota=row.beats))
    except SeedproofError as error:
        return replace(one, why=str(error))
    open_ = [f", {asked.name} not tested" for asked in verdict.criteria if asked.verdict is UNUSABLE]
    one = _compared(replace(one, answer=verdict.verdict.replace("_", " ") + "".join(open_)), verdict.runs, rules)
    told = f": {verdict.reason}" if verdict.verdict is UNUSABLE else ""
    if one.why:
        return replace(one, why=one.why + told)
    if row.accepted is not None and (verdict.exit_code == 0) is not row.accepted:
        return replace(one, why=f"{'accepted' if row.accepted else 'refused'}, but {one.answer}{told}")
    return one


def _compared(one: Judged, runs: Sequence[Result], rules: Ruleset) -> Judged:
    """Return the row with the n, the mean and the time of the runs that count."""
    row, n, mean = one.row, *_mean(runs, rules.metric)
    time_s = _mean(runs, TRAIN_TIME)[1]
    why = "" if row.has(n, mean) else "another n or mean"
    if not why and row.time_s is not None and (time_s is None or abs(time_s / row.time_s - 1) > SAME_TIME):
        why = "another time"
    return replace(one, n=n, mean=mean, time_s=time_s, why=why)


def _mean(runs: Sequence[Result], metric: str) -> tuple[int, float | None]:
    values = [value for run in runs if (value := run.value(metric)) is not None]
    return len(values), fmean(values) if values else None


def _without(row: Row, paths: Sequence[Path], rules: Ruleset) -> str:
    """Return what the judge says where no step is named: the answer, and the step it takes."""
    try:
        verdict = judge(paths, Options(rules=rules.name, sota=row.beats))
    except SeedproofError:
        return "refused"
    return f"{verdict.verdict.replace('_', ' ')}, step {'-' if verdict.at_step is None else verdict.at_step}"
