"""When a sweep looks at its results: once at the end or, in a sequential sweep, until the verdict is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from analysis.evidence.options import Options
from analysis.report.said.headline import word
from analysis.rules.keys import TARGET
from analysis.sweepdir.layout import CANDIDATE, DONE, RUN_MANIFEST
from analysis.sweepdir.manifest import planned_runs, read_manifest
from analysis.sweepdir.plan import Plan
from analysis.verdict.answer import CONTINUE
from analysis.verdict.judge import judge


class Looks:
    """The looks of a plan, and how many of them were taken; say(text) tells a waiting person.

    why: what ended the sweep, once it is over. keep_going: a fixed sweep runs all seeds though one of them failed.
    """

    def __init__(self, directory: Path, plan: Plan, say: Callable[[str], None], *, keep_going: bool = False) -> None:
        self._directory, self._plan, self._say, self._keep_going = directory, plan, say, keep_going
        self._at: Sequence[int] = plan.design.looks or (len(plan.seeds),)
        self._taken = 0  # how many seeds the last look saw
        self._over = False
        self.why = "the verdict was in"

    def due(self, ahead: int) -> Sequence[int]:
        """Return the seeds up to the next look, and `ahead - 1` beyond it."""
        upto = next((look for look in self._at if look > self._taken), self._at[-1])
        return self._plan.seeds[: upto + ahead - 1]

    def over(self, states: Mapping[tuple[str, int], str]) -> bool:
        """Return whether a sweep needs no more seeds, by the states of its runs by (arm, seed).

        A sequential one looks whenever all seeds of the next look have their results. A run that failed counts as a loss.
        """
        self._over = self._over or self._is_over(states)
        return self._over

    def _is_over(self, states: Mapping[tuple[str, int], str]) -> bool:
        sequential = self._plan.design.sequential
        if not sequential and not self._keep_going and (lost := self._lost(states)):
            self.why = "another run failed"
            if any(state not in DONE for state in states.values()):
                self._say(f"{lost} failed, so the claim cannot pass and no more runs start. --keep-going runs them.")
            return True
        while sequential and (look := next((look for look in self._at if look > self._taken), None)):
            found = [states.get((arm, seed)) for seed in self._plan.seeds[:look] for arm in self._plan.arms]
            if "failed" in found:
                self.why = "another run failed"
                return True
            if any(state != "succeeded" for state in found):
                return False
            self._taken = look
            if look == self._at[-1] or not self._continues():
                return True
        return sequential

    def _lost(self, states: Mapping[tuple[str, int], str]) -> str | None:
        """Return the failed run that loses a fixed claim. A control's does not where a number alone must be beaten."""
        arms = (CANDIDATE,) if self._plan.rules().against == TARGET else self._plan.arms
        return next((f"{arm} seed {seed}" for (arm, seed), s in states.items() if s == "failed" and arm in arms), None)

    def _continues(self) -> bool:
        """Return whether there is no verdict yet; say where the sweep stands, and what it saved."""
        verdict = judge((self._directory,), Options(own_sweep=True))
        self._taken = max(self._taken, max((look for look in self._at if look <= verdict.n), default=0))
        self._say(f"Look at {verdict.n} seeds: {word(verdict)}. {verdict.reason}")
        if verdict.verdict is not CONTINUE and verdict.sequential is not None:
            spared = self._at[-1] - verdict.n
            self._say(f"{spared} of at most {self._at[-1]} seeds need not be run{self._saved(spared)}.")
        return verdict.verdict is CONTINUE

    def _saved(self, seeds: int) -> str:
        """Return what so many seeds would have taken, at the mean of the runs that were made."""
        runs = planned_runs(self._directory, self._plan)
        done = [read_manifest(run.folder / RUN_MANIFEST) for run in runs if run.folder and run.state == "succeeded"]
        walls = [manifest.wall_s for manifest in done if manifest.wall_s]
        if not walls or not seeds:
            return ""
        hours = seeds * len(self._plan.arms) * sum(walls) / len(walls) / 3600
        gpus = self._plan.gpus_per_run
        return f": about {hours * (gpus or 1):.2f} {'GPU-hours' if gpus else 'hours'} saved"
