"""The arms of a folder: runs in folders next to each other are samples of their own, and never one.

Which arm is the candidate and which one it is compared with is proposed, by what is certain before what is likely:

1. Runs at the top are the candidate; the one folder below that is named like a prior state is the control.
2. The arm whose values the README lists is the candidate.
3. So is the only arm that is not named like a prior state or, of versions of one name, the last.

What stays open is for the reviewer to name.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from analysis.reading.run import Run
from analysis.record.fit import agrees
from analysis.record.folder import Record
from analysis.record.groups import alike
from analysis.record.metrics import metrics_of
from analysis.record.stated.of_readme import readme_of, said_in_readme
from analysis.record.stated.said import Kind
from analysis.rules.ruleset import Ruleset
from analysis.sweepdir.layout import PLAN
from analysis.untrusted.files import printable_path

MOST_NAMED = 8
PRIOR = frozenset(
    [
        "base",
        "baseline",
        "before",
        "control",
        "main",
        "master",
        "old",
        "original",
        "prev",
        "previous",
        "prior",
        "ref",
        "reference",
        "sota",
        "standing",
    ]
)
_VERSION = re.compile(r"(.{0,200}?)[-_ .]?v(\d{1,4})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The complete runs below one folder, nearest to its top. name: the folder as printed."""

    name: str
    folder: Path
    runs: Sequence[Run]

    @property
    def is_prior(self) -> bool:
        """Whether its folder is named like a prior state: baseline, prior_record, old."""
        return any(word.rstrip("0123456789") in PRIOR for word in re.split(r"[\W_]+", self.folder.name.lower()))

    @property
    def counted(self) -> str:
        return f"{self.name} ({len(self.runs)} run{'s' if len(self.runs) != 1 else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Which arm is the candidate and which its control, None where nothing says so; and the arms that are neither.

    because: what made the first the candidate, to follow its name. unused: why no arm is the control.
    """

    candidate: Arm | None = None
    control: Arm | None = None
    others: Sequence[Arm] = ()
    because: str = ""
    unused: str = ""

    @property
    def sentence(self) -> str:
        """Return what is compared or, where that is open, how to name it."""
        if self.candidate is None:
            return (
                f"The runs are in {len(self.others)} folders, each a configuration of its own: {_listed(self.others)}. "
                + (
                    "Name the candidate's folder as PATH and, if there is one, its control's with --control: "
                    + _commands(self.others)
                )
            )
        control = f", {self.control.counted} as the control" if self.control is not None else ""
        unused = f"; no control: {self.unused}" if self.unused else ""
        others = f"; not counted: {_listed(self.others)}" if self.others else ""
        said = f"compared: {self.candidate.counted} as the candidate{self.because}{control}{unused}{others}"
        return f"{said}; name others with PATH and --control"

    @property
    def counted(self) -> str:
        """Return all arms with their numbers of runs."""
        return _listed([arm for arm in (self.candidate, self.control, *self.others) if arm is not None])

    @property
    def may_be_compared(self) -> bool:
        """Whether the runs may have something to beat among them; where the arms are open, their sentence says how to name it."""
        return self.candidate is None or self.control is not None

    def without_control(self, why: str) -> Arms:
        """Return the arms where the proposed control cannot be used."""
        if self.control is None:
            return self
        return replace(self, control=None, others=(self.control, *self.others), unused=f"{self.control.name}: {why}")

    def not_of(self, log: Path) -> bool:
        """Return whether a log is in the folder of an arm that does not count."""
        return any(log.is_relative_to(arm.folder) for arm in self.others)

    def is_control(self, log: Path) -> bool:
        """Return whether a log is in the control's folder."""
        return self.control is not None and log.is_relative_to(self.control.folder)


def _listed(arms: Sequence[Arm]) -> str:
    more = f" and {len(arms) - MOST_NAMED} more" if len(arms) > MOST_NAMED else ""
    return ", ".join(arm.counted for arm in arms[:MOST_NAMED]) + more


def _commands(arms: Sequence[Arm]) -> str:
    """Return what names the first two arms on the command line, either as the candidate."""
    first, second = _quoted(arms[0].folder), _quoted(arms[1].folder)
    more = ", or two others" if len(arms) > 2 else ""
    return f"{first} --control {second}, or {second} --control {first}{more}"


def _quoted(folder: Path) -> str:
    return shlex.quote(printable_path(folder))


def arms_in(record: Record, runs: Sequence[Run]) -> list[Arm]:
    """Return the arms of a folder with these complete runs, those at its top first. One sample has no arms.

    Folders with one run each, whose names differ only in numbers, hold one sample: seed1, seed2.
    """
    if record.base is None or not runs:
        return []
    top = Path(os.path.commonpath([run.log.parent for run in runs]))
    folders: dict[Path, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.log.parent != top):
        below = run.log.parent.relative_to(top).parts[:1]
        folders.setdefault(top.joinpath(*below), []).append(run)
    if len(folders) < 2 or (all(len(own) == 1 for own in folders.values()) and len(set(map(alike, folders))) == 1):
        return []
    return [_arm(record, folder, own) for folder, own in folders.items()]


def _arm(record: Record, folder: Path, runs: Sequence[Run]) -> Arm:
    nearest = min(len(run.log.parts) for run in runs)
    name = record.shown(folder)
    return Arm(
        name="the folder itself" if name == "." else name,
        folder=folder,
        runs=[run for run in runs if len(run.log.parts) == nearest],
    )


def propose(record: Record, runs: Sequence[Run], rules: Ruleset) -> Arms | None:
    """Return which arms are compared; None where the runs are one sample, or the folder says itself what its arms are."""
    arms = arms_in(record, runs)
    if not arms or (record.base is not None and record.base / PLAN in record.listing.files):
        return None
    prior = [arm for arm in arms if arm.is_prior]
    if all(run.log.parent == arms[0].folder for run in arms[0].runs) and arms[0].folder in _above(arms[1:]):
        return _below_the_top(record, arms)
    chosen = _candidate(record, arms, rules)
    if chosen.candidate is None:
        return Arms(others=arms)
    control = prior[0] if len(prior) == 1 and prior[0] is not chosen.candidate else None
    others = [arm for arm in arms if arm is not chosen.candidate and arm is not control]
    return replace(chosen, control=control, others=others, unused=_several(prior))


def _above(arms: Sequence[Arm]) -> set[Path]:
    return {arm.folder.parent for arm in arms}


def _below_the_top(record: Record, arms: Sequence[Arm]) -> Arms | None:
    """Return the arms where runs are at the top. Leave out folders next to them that are not named like a prior state."""
    prior = [arm for arm in arms[1:] if arm.is_prior]
    if not prior or record.claim is not None:
        return None
    return Arms(candidate=arms[0], control=prior[0] if len(prior) == 1 else None, unused=_several(prior))


def _several(prior: Sequence[Arm]) -> str:
    return f"{_listed(prior)} are all named like a prior state" if len(prior) > 1 else ""


def _candidate(record: Record, arms: Sequence[Arm], rules: Ruleset) -> Arms:
    """Return the arm that is claimed; none where that is open."""
    new = [arm for arm in arms if not arm.is_prior]
    listed = [arm for arm in new if _is_listed(arm, record, rules)]
    if len(listed) == 1:
        return Arms(candidate=listed[0], because=", whose values the README lists")
    new = listed or new
    if len(new) == 1:
        return Arms(candidate=new[0])
    found = {arm.folder.name: _VERSION.fullmatch(arm.folder.name) for arm in new}
    names = {name.lower() if match is None else match[1].lower() for name, match in found.items()}
    if len(names) == 1 and any(found.values()):
        last = max(new, key=lambda arm: int(match[2]) if (match := found[arm.folder.name]) else 1)
        return Arms(candidate=last, because=f", the last of {len(new)} versions")
    return Arms()


def _is_listed(arm: Arm, record: Record, rules: Ruleset) -> bool:
    """Return whether the README lists exactly this arm's values."""
    values = sorted(value for run in arm.runs if (value := metrics_of(run, rules)[-1].value(rules.metric)) is not None)
    return any(
        len(one) == len(values) and all(agrees(claimed, value) for claimed, value in zip(one, values, strict=True))
        for one in _lists(record)
    )


def _lists(record: Record) -> Iterator[list[Decimal]]:
    """Yield each list of values of the README, sorted."""
    readme = readme_of(record)
    for said in said_in_readme(readme, "") if readme is not None else ():
        if said.kind is Kind.VALUES:
            yield sorted(said.values)
