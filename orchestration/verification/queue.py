"""Many records on one Ray: each gets its turns until its verdict, as many at once as fit, within the budget."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import SeedproofError
from orchestration.verification.answer import Answer, Fresh, Word, answer_of
from orchestration.verification.before import Evaluated, size_of
from orchestration.verification.planning import Asked, Entry
from orchestration.verification.rerun import Rerun, Spent, fresh_of, spent_of

if TYPE_CHECKING:
    from orchestration.driver.nodes import Answered
    from orchestration.driver.start.logs import Look

HOUR_S = 3600.0
NOTHING = Spent(all_s=0.0, done_s=(), running_s=())


@dataclass(slots=True, kw_only=True)
class Place:
    """A record in the queue: its driver while it runs, and what is known so far. answer: None until it is over."""

    entry: Entry
    rerun: Rerun | None = None
    answer: Answer | None = None
    fresh: Fresh = field(default_factory=Fresh)
    evaluated: Evaluated | None = None

    @property
    def weight(self) -> int:
        """Return how many GPUs a run takes or, without any, CPUs."""
        size = size_of(self.entry)
        return size.gpus or size.cpus

    @property
    def spent(self) -> Spent:
        return NOTHING if self.entry.directory is None else spent_of(self.entry.directory, self.rerun)

    def run_s(self, spent: Spent) -> float | None:
        """Return how long a run takes: the mean so far, else by the record's logs; None if unknown."""
        assert self.entry.recorded is not None, "it can be run"
        return spent.mean_s or self.entry.recorded.claim.run_s

    def close(self, answer: Answer) -> None:
        self.answer, self.rerun = answer, None


class Queue:
    """The records in the order in which they were named. nodes, causes: what the cluster is, and says, once it is known."""

    def __init__(self, entries: Sequence[Entry], asked: Asked) -> None:
        self.places = [Place(entry=entry) for entry in entries]
        self.asked = asked
        self.nodes: Sequence[Answered] = ()
        self.causes: Callable[[str], Look] = lambda node: lambda: None
        for place in self.places:
            if place.entry.fault is not None:
                place.close(Answer(word=Word.CANNOT_TELL, reason=f"It was not run: {place.entry.fault}"))

    @property
    def waiting(self) -> list[Place]:
        return [place for place in self.places if place.answer is None and place.rerun is None]

    @property
    def active(self) -> list[Place]:
        return [place for place in self.places if place.rerun is not None]

    # -- the budget ----------------------------------------------------------------------------------------------------

    @property
    def on_gpus(self) -> bool:
        """Return whether the budget is in GPU-hours: then runs without GPUs cost nothing."""
        return any(place.entry.plan is not None and size_of(place.entry).gpus for place in self.places)

    def counts(self, place: Place) -> bool:
        return place.entry.plan is not None and (not self.on_gpus or size_of(place.entry).gpus > 0)

    def left_s(self) -> float:
        """Return what is left of the budget, without what the open runs will still take."""
        assert self.asked.budget is not None, "there is a budget"
        left = self.asked.budget * HOUR_S
        for place in filter(self.counts, self.places):
            spent = place.spent
            left -= spent.all_s * place.weight
            if place.rerun is not None:
                rest = place.rerun.pool.open * (place.run_s(spent) or 0.0) - sum(spent.running_s)
                left -= max(0.0, rest) * place.weight
        return left

    def may_spend(self, place: Place, runs: int) -> bool:
        """Return whether the budget pays for this many more runs. Runs of unknown length may start while any of it is left."""
        if self.asked.budget is None or not self.counts(place):
            return True
        left = self.left_s()
        return left > 0 and runs * (place.run_s(place.spent) or 0.0) * place.weight <= left

    @property
    def overspent(self) -> bool:
        if self.asked.budget is None:
            return False
        counted = filter(self.counts, self.places)
        return sum(place.spent.all_s * place.weight for place in counted) > self.asked.budget * HOUR_S

    # -- turns ---------------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Start what there is room for, give every record its turn; return whether any is not over."""
        room = not any(place.rerun.waits_for_room for place in self.active if place.rerun is not None)
        if self.waiting and room:
            self.start(self.waiting[0])
        for place in self.active:
            self.guarded(place, self.move)
        if self.overspent:
            for place in self.active:
                self.finish(place, "The budget is spent")
        return bool(self.active or self.waiting)

    def start(self, place: Place) -> None:
        from orchestration.driver.engine import Pool

        entry = place.entry
        assert entry.directory is not None and entry.plan is not None, "it can be run"  # noqa: PT018

        def begin(place: Place) -> None:
            rerun = self.driver_of(place)
            if rerun.complete:
                rerun.lock.release()
                self.finish(place, None)
                return
            rerun.pool = Pool(rerun.size, rerun, causes=self.causes, paired=rerun.plan.design.paired)
            place.rerun = rerun
            rerun.submit_due()

        self.guarded(place, begin)

    def driver_of(self, place: Place) -> Rerun:
        entry = place.entry
        assert entry.directory is not None and entry.plan is not None, "it can be run"  # noqa: PT018
        return Rerun(entry.directory, entry.plan, asked=self.asked, may_spend=lambda runs: self.may_spend(place, runs))

    def move(self, place: Place) -> None:
        """Give a record its turn; finish it if it needs or gets no more runs."""
        assert place.rerun is not None, "it runs"
        more = place.rerun.pool.open > 0 and place.rerun.turn()
        if not more or not place.rerun.pool.open:
            self.finish(place, None if place.rerun.complete else place.rerun.why_over())

    def guarded(self, place: Place, step: Callable[[Place], None]) -> None:
        """Take a step; what goes wrong with one record does not stop the others."""
        try:
            step(place)
        except (SeedproofError, OSError) as error:
            self.finish(place, str(error).removesuffix("."))
        except Exception as error:  # of Ray, or a bug of ours
            traceback.print_exc()
            self.finish(place, f"The driver broke down ({type(error).__name__})")

    def finish(self, place: Place, over: str | None) -> None:
        """End a record: stop its runs, and say what its fresh runs say. over: why there are no more runs, if a look is missing."""
        rerun = place.rerun
        if rerun is not None:
            self.end(rerun, rerun.looks.why if over is None else over)
        try:
            if rerun is not None:
                rerun.digests.wait()
                rerun.journal.check_content()  # the answer rests on it
            self.read(place, over or "Its runs are over")
        except (SeedproofError, OSError) as error:
            place.close(Answer(word=Word.CANNOT_TELL, reason=str(error)))
            return
        assert place.entry.recorded is not None, "it was run"
        answer = answer_of(place.entry.recorded.claim, place.fresh)
        place.close(answer)
        click.echo(printable(f"{place.entry.name}: {answer.word}. {answer.reason}"))

    def stop(self) -> None:
        """End all runs; the same command continues them. From now on nothing is expected."""
        self.nodes = ()
        for place in self.active:
            if place.rerun is not None:
                place.rerun.disk.hurry()
                self.end(place.rerun, "the verification was stopped")
                with suppress(SeedproofError, OSError):
                    self.read(place, None)
            place.rerun = None

    def abandon(self) -> None:
        """Write how the runs ended, from another thread, when calls of Ray may hang. The caller ends the process then."""
        for place in self.active:
            if place.rerun is not None:
                place.rerun.disk.hurry()
                place.rerun.abandon("Ray's head no longer answers")

    def end(self, rerun: Rerun, why: str) -> None:
        """Stop a record's runs and give its sweep back; even on a full disk."""
        try:
            rerun.stop(why)
            rerun.lock.release()
        except OSError as error:
            click.echo(f"{rerun.directory} cannot be written: {error.strerror}.", err=True)

    def read(self, place: Place, over: str | None) -> None:
        if place.entry.directory is not None and place.entry.plan is not None:
            place.fresh = fresh_of(place.entry.directory, place.entry.plan, over)
