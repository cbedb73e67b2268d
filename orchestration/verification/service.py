"""`verify` from its options to its exit code: plans, one Ray, the queue's turns, and the table as things change."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from typing import Any

import click

from analysis.evidence.options import out_of_range
from analysis.rules.ruleset import load
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import SeedproofError, UsageError
from orchestration.disk.lock import Lock
from orchestration.driver.head import prepare_ray
from orchestration.verification import before, table
from orchestration.verification.answer import Answer, Word
from orchestration.verification.planning import Asked, entries, nonce_of
from orchestration.verification.queue import Place, Queue

EXIT_DOES_NOT_HOLD_UP, EXIT_CANNOT_TELL = 1, 3
WRITE_S = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Service:
    """One verification: its queue, and the files that show it. command: what continues it."""

    def __init__(self, asked: Asked, nonce: str, command: str) -> None:
        self.asked, self.nonce, self.command = asked, nonce, command
        self.queue = Queue(entries(asked, nonce), asked)
        self.shown: list[object] = []
        self.next_write = 0.0

    def run(self) -> int:
        """Rerun every record that can be; return the exit code."""
        self.announce()
        self.write()
        if self.queue.waiting:
            self.on_ray()
        self.write()
        rows = table.rows_of(self.queue)
        click.echo()
        table.show(rows)
        click.echo(
            f"Wrote {', '.join(str(self.asked.output / name) for name in (table.JSON, table.MARKDOWN, table.HTML))}"
        )
        words = {row.answer.word for row in rows}
        if words == {Word.HOLDS_UP}:
            return 0
        if Word.NOT_YET in words:
            click.echo(f"Not complete. Go on with: {self.command}", err=True)
        return EXIT_DOES_NOT_HOLD_UP if Word.DOES_NOT_HOLD_UP in words else EXIT_CANNOT_TELL

    def announce(self) -> None:
        """Say what will be run, and what cannot be."""
        click.echo(f"Nonce {self.nonce}, kept in {self.asked.output}: the seeds of every record depend on it.")
        for place in self.queue.places:
            click.echo(printable(f"{place.entry.name}: {self.described(place)}"))

    def described(self, place: Place) -> str:
        entry = place.entry
        if entry.recorded is None or entry.plan is None:
            return f"cannot be rerun: {entry.fault}"
        claim, plan = entry.recorded.claim, entry.plan
        at_most = f"{plan.design.looks[0]} to {len(plan.seeds)}" if plan.design.sequential else f"{len(plan.seeds)}"
        said = [
            f"claims {claim.metric} {claim.mean:.6f} (n {claim.n})",
            f"{entry.recorded.script.name}, {at_most} fresh seeds, {before.size_of(entry)} a run",
            f"rules {plan.rules().name}",
            *entry.recorded.notes,
        ]
        return "; ".join(said)

    # -- on Ray --------------------------------------------------------------------------------------------------------

    def on_ray(self) -> None:
        prepare_ray()
        from orchestration.driver.start.connect import cluster

        click.echo("Starting Ray.")
        try:
            with cluster(self.head_gone) as found:
                self.queue.causes = found.causes
                try:
                    end_on_signals()
                    self.prepare()
                    self.write()
                    while self.queue.turn():
                        self.write()
                finally:
                    self.queue.stop()
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)

    def prepare(self) -> None:
        """Ask every node for what the records need, and evaluate the artifacts that they ship."""
        from orchestration.driver.nodes import ask_nodes

        queue, asked = self.queue, self.asked
        queue.nodes = ask_nodes(before.inspection([place.entry for place in queue.waiting], asked))
        for note in before.sandbox_notes(queue.nodes, asked):
            click.echo(printable(note))
        for place in queue.waiting:
            if missing := before.lacking(place.entry, queue.nodes, asked):
                place.close(Answer(word=Word.CANNOT_TELL, reason=f"It was not run: {missing}"))
                click.echo(printable(f"{place.entry.name}: cannot be rerun: {missing}"))
        for place in queue.waiting:
            self.evaluate(place)

    def evaluate(self, place: Place) -> None:
        """Evaluate a record's artifact, if it ships one. If it contradicts the claim, no training is bought."""
        from orchestration.driver.nodes import ask

        question = before.evaluation(place.entry, self.asked.sandbox)
        if question is None or place.spent.done_s:
            return
        if isinstance(question, before.Evaluated):
            place.evaluated = question
        else:
            try:
                size = replace(before.size_of(place.entry), image=self.asked.image)
                place.evaluated = ask(question, size, before.EVALUATION_S)
            except (RuntimeError, TimeoutError) as error:
                place.evaluated = before.Evaluated(fault=str(error))
        click.echo(printable(f"{place.entry.name}: its artifact: {place.evaluated}"))
        if against := before.contradiction(place.entry, place.evaluated):
            place.close(Answer(word=Word.DOES_NOT_HOLD_UP, reason=against))

    def head_gone(self) -> None:
        """End at once, before Ray ends this process with another exit code."""
        try:
            self.queue.abandon()
            why = "Error: Ray's head no longer answers; its workers will end, too."
            click.echo(f"{why} Go on with: {self.command}", err=True)
            sys.stdout.flush()
        finally:
            os._exit(EXIT_CANNOT_TELL)

    def write(self) -> None:
        """Write the table when an answer or a number of results has changed, and every WRITE_S."""
        places = self.queue.places
        news = [(place.answer, place.rerun is not None and place.rerun.progress.done) for place in places]
        if news == self.shown and time.monotonic() < self.next_write:
            return
        self.shown, self.next_write = [*news], time.monotonic() + WRITE_S
        for place in self.queue.active:
            self.queue.guarded(place, lambda one: self.queue.read(one, None))
        table.write(self.asked.output, table.rows_of(self.queue), self.nonce, self.command)


def end_on_signals() -> None:
    """Turn a signal to stop into KeyboardInterrupt, once; later ones are ignored, because stopping has begun."""

    def stop(number: int, frame: Any) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or not nohup:
            signal.signal(number, stop)  # after Ray has set its own


def verify(asked: Asked, command: str) -> int:
    """Rerun records; return the exit code. Raises UsageError, RulesError, HeldError, EngineError."""
    if fault := out_of_range(asked.sota, None, None):
        raise UsageError(fault)
    if asked.rules is not None:
        load(asked.rules)  # a wrong option is no fault of a record, and is said before anything is written
    nonce = nonce_of(asked.output, asked.nonce)
    lock = Lock(asked.output)
    lock.beat()
    try:
        return Service(asked, nonce, command).run()
    except OSError as error:
        click.echo(f"Error: {error.filename or asked.output} cannot be used: {error.strerror or error}.", err=True)
    except SeedproofError:
        raise
    except Exception as error:  # of Ray, or a bug of ours: no word on any record, so not the exit code of one
        traceback.print_exc()
        click.echo(f"Error: the verification broke down ({type(error).__name__}). Go on with: {command}", err=True)
    finally:
        lock.release()
    return EXIT_CANNOT_TELL
