"""Ray: where a run finds its node and GPUs, and how many run at once.

Every run has a placement group of one bundle, as large as the run. A group that Ray has placed gets one run after the
other, in pairs or from both arms in turns, so that both see the same hardware. Nothing is retried here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.metrics import Gauge
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestration.driver.dealing import Listener, Queue, Size
from orchestration.driver.start.connect import EngineError
from orchestration.driver.start.logs import Look, cause_in
from orchestration.worker.order import BEAT_S, Alive, Ended, Message, RunOrder, Waits
from orchestration.worker.run import execute

POLL_S = 0.2
MOST_ASKED = 32  # groups that wait for room at once; more only keeps Ray's scheduler busy
LOOK_S = 2.0
SILENT_S = 6.0  # so long after a node's death Ray should have said what became of its run
TELL_S = 60.0
UNBEGUN_S = 10.0  # a run whose worker has not begun by then is lost if Ray's logs say why


@dataclass(slots=True, kw_only=True)
class _Busy:
    """A run on a node.

    cause: what Ray's logs say since the node got it. heard: when its worker last reported or, before that, when the node got it.
    ended: how it said that the run ended, until it is gone. dead_since: when its node died.
    """

    order: RunOrder
    group: PlacementGroup
    node: str
    cause: Look
    heard: float = field(default_factory=time.monotonic)
    begun: bool = False
    ended: Ended | None = None
    dead_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A group that waits for a node. where: the label selector of the node's id, empty for any."""

    group: PlacementGroup
    where: str = ""


class Pool:
    """Runs on their way through the cluster: `submit` them, then `poll` until each has ended.

    paired: as of `Queue`. causes: a look at what keeps a node from starting a worker, from now on. work: what makes a run: `execute`, except in a benchmark of the pool.
    begun: how many runs have begun.
    """

    def __init__(
        self,
        size: Size,
        listener: Listener,
        *,
        wait_s: float = 0.0,
        paired: bool = False,
        causes: Callable[[str], Look] = lambda node: lambda: None,
        work: Callable[[RunOrder, str], Iterator[Message]] = execute,
    ) -> None:
        self._size, self._listener, self._wait_s, self._causes = size, listener, wait_s, causes
        self._queue = Queue(paired=paired)
        self._asked: dict[Any, _Asked] = {}
        self._busy: dict[Any, _Busy] = {}
        self.begun, self._told, self._looked, self._idle_since = 0, 0.0, 0.0, time.monotonic()
        self._alive: set[str] = set()  # nodes, when last looked
        tags = ("sweep", "arm", "seed")
        self._step = Gauge("seedproof_step", "The last step that a run has logged.", tags)
        self._val_bpb = Gauge("seedproof_val_bpb", "The last val_bpb that a run has logged.", tags)

        @ray.remote(max_retries=0, num_cpus=size.cpus, num_gpus=size.gpus, max_calls=0, **size.within)
        def task(order: RunOrder) -> Iterator[Message]:
            yield from work(order, ray.get_runtime_context().get_node_id())

        self._task = task

    @property
    def open(self) -> int:
        """Return how many runs have not ended."""
        return len(self._queue.waiting) + len(self._busy)

    def submit(self, order: RunOrder, **how: Any) -> None:
        """Queue a run, with the options of `Queue.add`."""
        self._queue.add(order, **how)

    def clear(self) -> None:
        """Forget the runs that wait."""
        self._queue.waiting.clear()

    def poll(self) -> None:
        """Start what can start and take what has come in; wait POLL_S at most. Raises EngineError."""
        self._look_after_nodes()
        self._ask()
        open_ = [*self._asked, *self._busy]
        if not open_:  # all nodes rest
            time.sleep(POLL_S)
            return
        done, rest = ray.wait(open_, num_returns=1, timeout=POLL_S, fetch_local=False)
        if done and rest:  # and all others that are ready
            done += ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        for reference in done:
            if reference in self._asked:
                self._placed(reference)
            else:
                self._hear(reference)

    def show(self, order: RunOrder, step: int | None, val_bpb: float | None) -> None:
        """Show a run's progress on Ray's dashboard."""
        sweep = order.sweep_directory.name.encode("ascii", "backslashreplace").decode()  # Ray takes nothing else here
        tags = {"sweep": sweep, "arm": order.arm, "seed": str(order.seed)}
        for gauge, value in ((self._step, step), (self._val_bpb, val_bpb)):
            if value is not None:
                gauge.set(value, tags)

    def close(self) -> None:
        """End everything that is under way."""
        self.clear()
        for generator in list(self._busy):
            ray.cancel(generator, force=True)  # first: it works without the head
        self._ask_for_none()
        for busy in list(self._busy.values()):
            remove_placement_group(busy.group)
        self._busy.clear()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _nodes(self) -> set[str]:
        """Return the living nodes that are large enough when empty."""
        return {
            node["NodeID"]
            for node in ray.nodes()
            if node["Alive"] and all(node["Resources"].get(k, 0) >= need for k, need in self._size.bundle.items())
        }

    def _look_after_nodes(self) -> None:
        """Ask again for groups after a node's death, and give up runs of which nothing is heard.

        Ray moves a group from a dead node once it finds room, which may be never. A run that had not begun would wait for
        that, and so would a run that is to get the group.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        away, self._looked = now - self._looked, now
        before, self._alive = self._alive, {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if before - self._alive:
            self._ask_for_none()
        for generator, busy in list(self._busy.items()):
            busy.dead_since = None if busy.node in self._alive else busy.dead_since or now
            if away > BEAT_S:  # this driver was not listening
                busy.heard = min(now, busy.heard + away)
            if end := self._given_up(busy, now):
                ray.cancel(generator, force=True)
                self._over(generator, end)

    def _given_up(self, busy: _Busy, now: float) -> Ended | None:
        """Return the end of a run whose worker will report nothing more, None while it may go on."""
        if busy.dead_since is not None and now - busy.dead_since >= SILENT_S:
            return _lost("its node went away")
        silent = now - busy.heard
        if not busy.begun and silent > UNBEGUN_S and (cause := busy.cause()):
            return _lost(cause.sentence, cause.kind)
        if silent <= max(3 * BEAT_S, busy.order.stall_timeout_s - BEAT_S):
            return None  # beyond that it ends within the stall time-out
        if busy.begun:
            return _lost(f"its Ray worker has said nothing for {silent:.0f} s")
        why = f"Ray has not started its worker for {silent:.0f} s; see Ray's logs on node {busy.node}"
        return _lost(why, "unknown")

    def _ask(self) -> None:
        """Ask for as many groups as runs wait, at most MOST_ASKED."""
        if not self._queue.waiting:
            self._ask_for_none()
            return
        nodes = self._nodes()
        if not nodes:
            self._no_node()
        elif self._busy:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > TELL_S:
            self._tell(f"Waiting for {self._size} on one node: {len(nodes)} are large enough, none is free.")
        wanted = self._queue.wanted(nodes)
        asked = Counter(one.where for one in self._asked.values())
        for reference, one in list(self._asked.items()):
            if asked[one.where] > wanted[one.where]:
                asked[one.where] -= 1
                del self._asked[reference]
                remove_placement_group(one.group)
        for where, number in wanted.items():
            selector = [{"ray.io/node-id": where}] if where else None
            for _ in range(min(number - asked[where], MOST_ASKED - len(self._asked))):
                group = placement_group([self._size.bundle], strategy="STRICT_PACK", bundle_label_selector=selector)
                self._asked[group.ready()] = _Asked(group, where)

    def _ask_for_none(self) -> None:
        """Take back the groups that have no node yet."""
        for one in self._asked.values():
            remove_placement_group(one.group)
        self._asked.clear()

    def _no_node(self) -> None:
        missing = self._size.missing([node["Resources"] for node in ray.nodes() if node["Alive"]])
        if not self._busy and time.monotonic() - self._idle_since >= self._wait_s:
            more = "" if self._wait_s else " On a cluster that grows on demand, add --wait-for-nodes MINUTES."
            raise EngineError(missing + more)
        self._tell(f"Waiting for a node: {missing}")

    def _tell(self, text: str) -> None:
        """Tell a waiting person, at most once in TELL_S."""
        if time.monotonic() - self._told > TELL_S:
            self._told = time.monotonic()
            self._listener.say(text)

    # -- runs ----------------------------------------------------------------------------------------------------------

    def _placed(self, reference: Any) -> None:
        """Use a group that has got its node."""
        group = self._asked.pop(reference).group
        try:
            ray.get(reference)
            node = placement_group_table(group)["bundles_to_node_id"][0]
        except (ray.exceptions.RayError, KeyError):
            remove_placement_group(group)
            return
        self._deal(group, node)

    def _deal(self, group: PlacementGroup, node: str) -> None:
        """Start a run in a group, or give the group back."""
        order = self._queue.take(node, self._nodes(), self._listener.may_start)
        if order is None:
            remove_placement_group(group)
            return
        strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
        name, cause = f"{order.sweep_directory.name} {order.name}", self._causes(node)
        self._asked[order] = _Asked(group)  # `close` gives it back if the next line raises
        self._listener.started(order, node)  # first: what is started is in the journal, whatever comes then
        del self._asked[order]
        generator = self._task.options(scheduling_strategy=strategy, name=name).remote(order)
        self._busy[generator] = _Busy(order=order, group=group, node=node, cause=cause)

    def _hear(self, generator: Any) -> None:
        """Take the next message of a run."""
        busy = self._busy[generator]
        try:
            message: Message = ray.get(next(generator))
        except StopIteration:
            self._over(generator, _lost("its Ray worker ended without reporting"), fit=True)
        except ray.exceptions.RayTaskError as error:
            self._over(generator, self._broken(busy, f"its worker raised {error.cause!r}", error))
        except ray.exceptions.RayError as error:
            why = f"its Ray worker or node went away ({type(error).__name__})"
            self._over(generator, self._broken(busy, why, error))
        else:
            self._take(busy, message)

    def _take(self, busy: _Busy, message: Message) -> None:
        self.begun += not busy.begun
        busy.begun, busy.heard = True, time.monotonic()
        if isinstance(message, Waits):
            self._listener.say(f"{busy.order.name}: waits: {message.reason}")
        elif isinstance(message, Ended):
            busy.ended = message
        elif not isinstance(message, Alive):
            self._listener.arrived(busy.order, message)

    def _broken(self, busy: _Busy, why: str, error: Exception) -> Ended:
        """Return the end of a run whose task broke, with the cause if it never began."""
        cause = None if busy.begun else cause_in(str(error), "Ray says") or busy.cause()
        return _lost(f"{why}: {cause.sentence}", cause.kind) if cause else _lost(why)

    def _over(self, generator: Any, otherwise: Ended, *, fit: bool = False) -> None:
        """Report a run whose task is over: with what it said last, else `otherwise`. A fit node gets the next run."""
        busy, self._idle_since = self._busy.pop(generator), time.monotonic()
        end = busy.ended or otherwise
        self._queue.left(busy.node, refused=end.state == "pending")
        self._listener.ended(busy.order, busy.node, end)
        if fit:
            self._deal(busy.group, busy.node)
        else:
            remove_placement_group(busy.group)


def _lost(reason: str, cause: str | None = None) -> Ended:
    return Ended(state="lost", reason=reason, cause=cause)
