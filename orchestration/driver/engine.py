"""Ray: where a run finds its node and GPUs, and how many run at once. The only file that imports ray.

Every run has a placement group of one bundle, as large as the run. A group that Ray has placed gets one run after the
other, and of the two arms the one that its node has seen less of, so that both see the same hardware. Nothing is retried
here.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.util.metrics import Gauge
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestration.worker.run import RunOrder, execute
from orchestration.worker.transfer import Message

POLL_S = 0.2
MOST_ASKED = 32  # groups that wait for room at once; more only keeps Ray's scheduler busy
AVOID_S = 60.0  # a run is kept away from the node that lost it so long, but not for ever: others may be in use
LOOK_S = 2.0
HEAD_LOOK_S, HEAD_SILENT_S = 5.0, 40.0
SILENT_S = 6.0  # so long after a node's death Ray should have said what has become of its run
REST_S = 10.0  # and nothing is sent so long to a node that had no room


class EngineError(RuntimeError):
    """A cluster that cannot do what was asked, as one sentence with the sizes."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one run takes."""

    gpus: int
    cpus: int
    accelerator_type: str | None = None

    @property
    def bundle(self) -> dict[str, float]:
        found = {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})
        return found | ({f"accelerator_type:{self.accelerator_type}": 0.001} if self.accelerator_type else {})

    def __str__(self) -> str:
        kind = f"{self.accelerator_type} " if self.accelerator_type else ""
        return " and ".join(
            f"{n} {what}{'s' * (n > 1)}" for n, what in ((self.gpus, f"{kind}GPU"), (self.cpus, "CPU")) if n
        )


@contextmanager
def cluster(head_gone: Callable[[], None]) -> Iterator[None]:
    """Ray for the time of a sweep: the cluster that RAY_ADDRESS names, or one of our own on this machine.

    `head_gone` is called, in a thread of its own, when the head's GCS has not answered for HEAD_SILENT_S. By then calls of
    Ray may hang, and after a minute Ray ends this process with the exit code 1.
    """
    own = not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": "local", "include_dashboard": False} if own else {}
    # a run must not be nice to other processes: a bare torchrun is not; and a worker that ends with its driver must not
    # kill the supervisor before that has ended what is below it
    runtime_env = {"env_vars": {"RAY_worker_niceness": "0", "RAY_kill_child_processes_on_worker_exit": "0"}}
    try:
        ray.init(log_to_driver=False, logging_level="error", runtime_env=runtime_env, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise EngineError(f"Ray on {where} cannot be reached or started: {error}") from error
    over = threading.Event()
    threading.Thread(
        target=_watch_head, args=(ray.get_runtime_context().gcs_address, head_gone, over), daemon=True
    ).start()
    try:
        yield
    finally:
        try:
            ray.shutdown()
        finally:
            over.set()


def _watch_head(address: str, head_gone: Callable[[], None], over: threading.Event) -> None:
    host, _, port = address.rpartition(":")
    heard = time.monotonic()
    while not over.wait(HEAD_LOOK_S):
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_LOOK_S):
                heard = time.monotonic()
        except OSError:
            if time.monotonic() - heard > HEAD_SILENT_S and not over.is_set():
                head_gone()
                return


@dataclass(slots=True)
class _Busy:
    order: RunOrder
    group: PlacementGroup
    node: str
    manifest: dict[str, Any] | None = None  # once the run has ended, and its worker not yet
    dead_since: float | None = None  # its node


class Listener(Protocol):
    """Who hears what becomes of the runs."""

    def started(self, order: RunOrder, node: str) -> None:
        """A run was given to a node."""

    def arrived(self, order: RunOrder, kind: str, content: Any) -> None:
        """A part of a run's files came over (transfer.Inbox)."""

    def ended(self, order: RunOrder, node: str, manifest: dict[str, Any]) -> None:
        """A run ended: its manifest, or {"state": "lost" or "pending", "reason": ...} where there is none."""

    def say(self, text: str) -> None:
        """What a waiting person should know."""


class Pool:
    """Runs on their way through the cluster: `submit` them, then `poll` until each has ended.

    work: what makes a run, `execute` but for a benchmark of the pool itself.
    """

    def __init__(
        self,
        size: Size,
        listener: Listener,
        wait_s: float = 0.0,
        work: Callable[[RunOrder, str], Iterator[Message]] = execute,
    ) -> None:
        self._size, self._listener, self._wait_s = size, listener, wait_s
        self._waiting: list[RunOrder] = []
        self._lost_on: dict[RunOrder, tuple[str, float]] = {}  # the node that lost a run, and until when it is avoided
        self._resting: dict[str, float] = {}  # nodes that refused a run, and until when nothing is sent there
        self._asked: dict[Any, tuple[PlacementGroup, frozenset[str]]] = {}  # groups and the nodes they must not lie on
        self._busy: dict[Any, _Busy] = {}
        self._seen: Counter[tuple[str, str]] = Counter()  # runs given to (node, arm)
        self._idle_since = time.monotonic()
        self._told = self._looked = 0.0
        self._alive: set[str] = set()  # nodes, when last looked

        tags = ("sweep", "arm", "seed")
        self._step = Gauge("seedproof_step", "The last step that a run has logged.", tags)
        self._val_bpb = Gauge("seedproof_val_bpb", "The last val_bpb that a run has logged.", tags)

        @ray.remote(max_retries=0, num_cpus=size.cpus, num_gpus=size.gpus, max_calls=0)
        def task(order: RunOrder) -> Iterator[Message]:
            yield from work(order, ray.get_runtime_context().get_node_id())

        self._task = task

    @property
    def open(self) -> int:
        """Runs that have not ended."""
        return len(self._waiting) + len(self._busy)

    def submit(self, order: RunOrder, lost_on: str | None = None, first: bool = False) -> None:
        """Queue a run; `lost_on` is a node to keep away from for a while, where there is another one."""
        self._waiting.insert(0, order) if first else self._waiting.append(order)
        if lost_on is not None:
            self._lost_on[order] = lost_on, time.monotonic() + AVOID_S

    def clear(self) -> None:
        """Forget the runs that wait."""
        self._waiting.clear()

    def poll(self) -> None:
        """Hand out what can be handed out and hear what has come in; takes POLL_S at most. Raises EngineError."""
        self._look_after_nodes()
        self._ask()
        open_ = [*self._asked, *self._busy]
        if not open_:  # all nodes rest
            time.sleep(POLL_S)
            return
        done, rest = ray.wait(open_, num_returns=1, timeout=POLL_S, fetch_local=False)
        if done and rest:  # all that is there
            done += ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        for reference in done:
            if reference in self._asked:
                self._placed(reference)
            else:
                self._hear(reference)

    def show(self, order: RunOrder, step: int | None, val_bpb: float | None) -> None:
        """Where a run stands, for Ray's dashboard: gauges seedproof_step and seedproof_val_bpb."""
        tags = {"sweep": order.sweep_directory.name, "arm": order.arm, "seed": str(order.seed)}
        for gauge, value in ((self._step, step), (self._val_bpb, val_bpb)):
            if value is not None:
                gauge.set(value, tags)

    def _nodes(self) -> set[str]:
        """Living nodes that are large enough when empty."""
        return {
            node["NodeID"]
            for node in ray.nodes()
            if node["Alive"] and all(node["Resources"].get(k, 0) >= need for k, need in self._size.bundle.items())
        }

    def _avoid(self, order: RunOrder, nodes: set[str]) -> frozenset[str] | None:
        """The nodes that a run must not go to now; None while there is no other."""
        now = time.monotonic()
        resting = {node for node, until in self._resting.items() if until > now}
        node, until = self._lost_on.get(order, ("", 0.0))
        for avoided in (resting | ({node} if until > now else set()), resting):
            if nodes - avoided or not nodes:
                return frozenset(avoided & nodes)
        return None

    def _look_after_nodes(self) -> None:
        """After a node's death, ask again for groups and give up runs that Ray says nothing of.

        Ray gives a group on a dead node another one when it finds room, which may be never: a run that had not begun
        would wait for it, and so would one that is to get the group.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        before, self._alive = self._alive, {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if before - self._alive:
            self._ask_for_none()
        for generator, busy in list(self._busy.items()):
            busy.dead_since = None if busy.node in self._alive else busy.dead_since or now
            if busy.dead_since is not None and now - busy.dead_since >= SILENT_S:
                ray.cancel(generator, force=True)
                self._over(generator, {"state": "lost", "reason": "its node went away"})

    def _ask(self) -> None:
        """Ask for as many groups as runs wait, at most MOST_ASKED."""
        if not self._waiting:
            self._ask_for_none()
            return
        nodes = self._nodes()
        if not nodes:
            self._no_node()
        elif self._busy:
            self._idle_since = time.monotonic()
        elif time.monotonic() - max(self._told, self._idle_since) > 60:
            self._told = time.monotonic()
            self._listener.say(f"Waiting for {self._size} on one node: {len(nodes)} are large enough, none is free.")
        wanted = Counter(avoid for order in self._waiting if (avoid := self._avoid(order, nodes)) is not None)
        asked = Counter(avoid for _, avoid in self._asked.values())
        for reference, (group, avoid) in list(self._asked.items()):
            if asked[avoid] > wanted[avoid]:
                asked[avoid] -= 1
                del self._asked[reference]
                remove_placement_group(group)
        for avoid, number in wanted.items():
            selector = [{"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}] if avoid else None
            for _ in range(min(number - asked[avoid], MOST_ASKED - len(self._asked))):
                group = placement_group([self._size.bundle], strategy="STRICT_PACK", bundle_label_selector=selector)
                self._asked[group.ready()] = group, avoid

    def _ask_for_none(self) -> None:
        """Take back the groups that have no node yet."""
        for group, _ in self._asked.values():
            remove_placement_group(group)
        self._asked.clear()

    def _no_node(self) -> None:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus, cpus = (max((node.get(name, 0) for node in alive), default=0) for name in ("GPU", "CPU"))
        kinds = sorted({key.partition(":")[2] for node in alive for key in node if key.startswith("accelerator_type:")})
        missing = (f"A run asks for {self._size} on one node; the largest of {len(alive)} nodes has {gpus:g} GPUs and "
                   f"{cpus:g} CPUs{', GPUs are ' + ', '.join(kinds) if kinds else ''}.")  # fmt: skip
        if not self._busy and time.monotonic() - self._idle_since >= self._wait_s:
            more = "" if self._wait_s else " On a cluster that grows on demand, add --wait-for-nodes MINUTES."
            raise EngineError(missing + more)
        if time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            self._listener.say(f"Waiting for a node: {missing}")

    def _placed(self, reference: Any) -> None:
        """A group that was asked for has its node."""
        group, _ = self._asked.pop(reference)
        try:
            ray.get(reference)
            node = placement_group_table(group)["bundles_to_node_id"][0]
        except (ray.exceptions.RayError, KeyError):
            remove_placement_group(group)
            return
        self._deal(group, node)

    def _deal(self, group: PlacementGroup, node: str) -> None:
        """Give a node to the waiting run that it fits best: one made again first, else one of the arm it has seen less."""
        nodes = self._nodes()
        may = [one for one in self._waiting if (avoid := self._avoid(one, nodes)) is not None and node not in avoid]
        if not may:
            remove_placement_group(group)
            return
        # of equals the first
        order = min(may, key=lambda one: (one not in self._lost_on, self._seen[node, one.arm]))
        self._waiting.remove(order)
        self._lost_on.pop(order, None)
        self._seen[node, order.arm] += 1
        strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
        name = f"{order.sweep_directory.name} {order.name}"
        generator = self._task.options(scheduling_strategy=strategy, name=name).remote(order)
        self._busy[generator] = _Busy(order, group, node)
        self._listener.started(order, node)

    def _hear(self, generator: Any) -> None:
        busy = self._busy[generator]
        try:
            kind, content = ray.get(next(generator))
        except StopIteration:
            self._over(generator, {"state": "lost", "reason": "its Ray worker ended without a word"}, fit=True)
        except ray.exceptions.RayTaskError as error:
            self._over(generator, {"state": "lost", "reason": f"the run could not be made: {error.cause!r}"})
        except ray.exceptions.RayError as error:
            reason = f"its Ray worker or node went away ({type(error).__name__})"
            self._over(generator, {"state": "lost", "reason": reason})
        else:
            if kind == "say":
                self._listener.say(f"{busy.order.name}: {content}")
            elif kind == "refused":
                busy.manifest = {"state": "pending", "reason": content}
            elif kind == "ended":
                busy.manifest = content
            else:
                self._listener.arrived(busy.order, kind, content)

    def _over(self, generator: Any, lost: dict[str, Any], fit: bool = False) -> None:
        """A run's task is over: with what it said last, or lost. A node that is fit gets the next run."""
        busy = self._busy.pop(generator)
        self._idle_since = time.monotonic()
        said = busy.manifest or lost
        if said["state"] == "pending":
            self._resting[busy.node] = time.monotonic() + REST_S
        self._listener.ended(busy.order, busy.node, said)
        if fit:
            self._deal(busy.group, busy.node)
        else:
            remove_placement_group(busy.group)

    def close(self) -> None:
        """End everything that is under way."""
        self.clear()
        self._ask_for_none()
        for generator in self._busy:
            ray.cancel(generator, force=True)
        for busy in self._busy.values():
            remove_placement_group(busy.group)
        self._busy.clear()
