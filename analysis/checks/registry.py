"""Compare what a registry holds of a plan with the evidence: find attempts that were entered and are not shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from analysis.rules.findings import MOST_NAMED, WARNING, Code, Found, Place, Raised
from analysis.sweepdir.layout import PLAN
from analysis.sweepdir.registry import Entry, identity

Planned = tuple[str, int]  # arm and seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The attempts that the evidence holds: how many of each planned run.

    sweep: the identity of the sweep, None where the evidence does not tell it. numbers: then those of each run's attempts.
    """

    counts: Mapping[Planned, int]
    sweep: str | None = None
    numbers: Mapping[Planned, Collection[int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt in the registry. drivers: how many drivers of its sweep entered it; in_evidence: whether it is shown."""

    sweep: str
    arm: str
    seed: int
    attempt: int
    entered: str | None
    drivers: int = 1
    in_evidence: bool = False

    @property
    def name(self) -> str:
        return (
            f"{self.arm} seed {self.seed} attempt {self.attempt} of sweep {self.sweep[:8]}, {self.entered or 'undated'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a registry holds of the plan that the evidence is of.

    plan: its SHA-256, None where the evidence has no plan. entered: when it was first entered, None for never. sweeps: the
    sweeps of it that entered something.
    """

    url: str
    plan: str | None = None
    entered: str | None = None
    sweeps: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def known(self) -> bool:
        """Return whether the registry holds anything of the plan."""
        return bool(self.sweeps)

    def sentence(self) -> str:
        """Return in words what is there."""
        if self.plan is None or not self.known:
            return f"registry {self.url}: nothing of this plan"
        several = f"{len(self.sweeps)} sweeps" if len(self.sweeps) > 1 else "one sweep"
        shown = sum(one.in_evidence for one in self.attempts)
        return (
            f"registry: plan {self.plan[:12]} was entered {self.entered or 'at an unknown time'} by {several}; "
            f"{shown} of {len(self.attempts)} attempts entered are in the evidence"
        )


def compare_entries(url: str, plan: str, entries: Sequence[Entry], shown: Shown) -> Registered:
    """Compare the entries of a plan with the attempts that the evidence holds."""
    plans = sorted(one.when or "" for one in entries if one.arm is None)
    return Registered(
        url=url,
        plan=plan,
        entered=(plans[0] or None) if plans else None,
        sweeps=tuple(sorted({one.sweep for one in entries})),
        attempts=tuple(_with_evidence(_attempts(entries), shown)),
    )


def _attempts(entries: Sequence[Entry]) -> list[Attempt]:
    def key(one: Entry) -> tuple[str, str, int, int]:
        return one.sweep, one.arm or "", one.seed or 0, one.attempt or 0

    found = []
    for (sweep, arm, seed, number), group in groupby(sorted((e for e in entries if e.arm), key=key), key=key):
        same = [*group]
        entered = min(one.when or "" for one in same) or None
        found.append(Attempt(sweep=sweep, arm=arm, seed=seed, attempt=number, entered=entered, drivers=len(same)))
    return sorted(found, key=lambda one: (one.entered or "", one.arm, one.seed, one.attempt))


def _with_evidence(attempts: Sequence[Attempt], shown: Shown) -> list[Attempt]:
    """Say of each attempt whether it is shown.

    Where the evidence does not tell its sweep, as many of a run's attempts count as shown as it has, the last ones: the run
    that counts is the last one.
    """
    if shown.sweep is not None and shown.numbers is not None:
        own, numbers = identity(shown.sweep), shown.numbers
        return [
            replace(one, in_evidence=one.sweep == own and one.attempt in numbers.get((one.arm, one.seed), ()))
            for one in attempts
        ]
    left = Counter(shown.counts)
    found = []
    for one in reversed(attempts):
        found.append(replace(one, in_evidence=left[one.arm, one.seed] > 0))
        left[one.arm, one.seed] -= 1
    return found[::-1]


def check_registered(registered: Registered, claimed: Collection[Planned]) -> Raised:
    """Check that every attempt of the claimed runs that was entered is shown, and that they were entered."""
    here = Place(PLAN)
    if registered.plan is None:
        yield here.has(
            Code.NOT_REGISTERED, "no plan in the evidence", expected="the plan whose attempts the registry has"
        )
        return
    if not registered.known:
        found = f"nothing of plan {registered.plan[:12]} in the registry {registered.url}"
        yield here.has(Code.NOT_REGISTERED, found, expected="the plan and every attempt, entered before they started")
        return
    by_run = defaultdict(list)
    for one in registered.attempts:
        by_run[one.arm, one.seed].append(one)
    if missing := [f"{arm} seed {seed}" for arm, seed in claimed if not by_run.get((arm, seed))]:
        found = f"no attempt in the registry of {_named(missing)}"
        yield here.has(Code.NOT_REGISTERED, found, expected="one for each run that counts, entered before it started")
    of_claimed = [one for key in claimed for one in by_run.get(key, ())]
    if lacking := [one.name for one in of_claimed if not one.in_evidence]:
        many = "attempt" if len(lacking) == 1 else "attempts"
        found = f"{len(lacking)} {many} in the registry that the evidence does not show: {_named(lacking)}"
        yield here.has(Code.ATTEMPTS_LEFT_OUT, found, expected="every attempt of a run that counts")
    if twice := [one.name for one in of_claimed if one.drivers > 1]:
        yield Found(
            code=Code.ATTEMPTS_LEFT_OUT,
            at=here,
            found=f"an attempt that several drivers entered: {_named(twice)}",
            expected="one driver for each",
            do="It ran twice, or a driver ended before it could start it: ask for every log.",
            severity=WARNING,
        )


def _named(names: Sequence[str]) -> str:
    return "; ".join(names[:MOST_NAMED]) + ("; ..." if len(names) > MOST_NAMED else "")
