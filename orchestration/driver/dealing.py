"""What a run takes, and which waiting run a node gets. Imports no Ray."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from analysis.sweepdir.layout import CANDIDATE, CONTROL
from orchestration.worker.order import Began, Ended, Part, RunOrder

AVOID_S = 60.0  # a run avoids the node that lost it for so long, but not for ever: the others may be in use
REST_S = 10.0  # a node that had no room, or whose run may not start yet, gets nothing for so long
HOME_S = 120.0  # a run waits so long for its pair's node while that refuses it, or has none of our runs

_Run = tuple[str, int]  # an arm and a seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one run takes. image: the container image that it runs in, None for the node's own system."""

    gpus: int
    cpus: int
    accelerator_type: str | None = None
    image: str | None = None

    @property
    def within(self) -> dict[str, Any]:
        """Return further options of Ray's tasks for such a run."""
        return {"runtime_env": {"image_uri": self.image}} if self.image else {}

    @property
    def bundle(self) -> dict[str, float]:
        found = {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})
        return found | ({f"accelerator_type:{self.accelerator_type}": 0.001} if self.accelerator_type else {})

    def __str__(self) -> str:
        kind = f"{self.accelerator_type} " if self.accelerator_type else ""
        return " and ".join(
            f"{n} {what}{'s' * (n > 1)}" for n, what in ((self.gpus, f"{kind}GPU"), (self.cpus, "CPU")) if n
        )

    def missing(self, nodes: list[dict[str, Any]]) -> str:
        """Return the sentence for a run that none of the living nodes can hold, with both sizes."""
        gpus, cpus = (max((node.get(name, 0) for node in nodes), default=0) for name in ("GPU", "CPU"))
        kinds = sorted({key.partition(":")[2] for node in nodes for key in node if key.startswith("accelerator_type:")})
        return (
            f"A run asks for {self} on one node; the largest of {len(nodes)} nodes has {gpus:g} GPUs and "
            f"{cpus:g} CPUs{', GPUs are ' + ', '.join(kinds) if kinds else ''}."
        )


class Listener(Protocol):
    """What gets news of the runs."""

    def may_start(self, order: RunOrder) -> bool:
        """Say whether a run may go to a node now; if not, it is asked again."""

    def started(self, order: RunOrder, node: str) -> None:
        """Hear that a run was given to a node."""

    def arrived(self, order: RunOrder, message: Began | Part) -> None:
        """Take a part of a run's files."""

    def ended(self, order: RunOrder, node: str, end: Ended) -> None:
        """Hear that a run ended, was lost, or was refused by its node."""

    def say(self, text: str) -> None:
        """Tell a waiting person."""


@dataclass(frozen=True, slots=True)
class _Avoided:
    node: str
    until: float


class Queue:
    """The runs that wait for a node, in order.

    paired: the two runs of a seed go to one node, back to back. The first of them that is dealt chooses it: the pair's home.
    """

    def __init__(self, *, paired: bool = False) -> None:
        self.waiting: list[RunOrder] = []
        self._paired = paired
        self._lost_on: dict[RunOrder, _Avoided] = {}
        self._resting: dict[str, float] = {}  # nodes that refused a run, and until when they rest
        self._seen: Counter[tuple[str, str]] = Counter()  # runs given to (node, arm)
        self._busy: Counter[str] = Counter()  # runs on each node now
        self._dealt: dict[_Run, str] = {}  # the node of each run's last attempt, if that was neither lost nor refused
        self._lost_there: set[tuple[_Run, str]] = set()
        self._homesick: dict[RunOrder, float] = {}  # since when a run's home has refused it, or had none of our runs

    def add(
        self, order: RunOrder, *, lost_on: str | None = None, first: bool = False, partner_on: str | None = None
    ) -> None:
        """Queue a run, again if its last attempt was lost or refused. partner_on: where the pair's other run has its result."""
        self.waiting.insert(0, order) if first else self.waiting.append(order)
        if self._dealt.pop(_run(order), None) is not None and lost_on is None:
            self._homesick.setdefault(order, time.monotonic())
        if lost_on is not None:
            self._lost_on[order] = _Avoided(lost_on, time.monotonic() + AVOID_S)
            self._lost_there.add((_run(order), lost_on))
        if partner_on is not None:
            self._dealt[_partner(order)] = partner_on

    def left(self, node: str, *, refused: bool) -> None:
        """Hear that a run is no longer on its node. One that refused it rests."""
        self._busy[node] -= 1
        if refused:
            self._rest(node)

    def wanted(self, nodes: set[str]) -> Counter[str]:
        """Return how many runs could go to one of the nodes now, by the label selector of its id; empty for any node.

        Those that go home come last: such a run usually gets the group that its pair's first run had.
        """
        homes = {order: self._home(order, nodes) for order in self._due()}
        for order, home in homes.items():
            if home is not None and not self._busy[home]:
                self._homesick.setdefault(order, time.monotonic())
        found: Counter[str] = Counter()
        for order in sorted(homes, key=lambda order: homes[order] is not None):
            if (avoid := self._avoided(order, nodes)) is not None:
                found[homes[order] or (f"!in({','.join(sorted(avoid))})" if avoid else "")] += 1
        return found

    def take(self, node: str, nodes: set[str], may_start: Callable[[RunOrder], bool]) -> RunOrder | None:
        """Take the run that fits a node best: a retried one, else the second of a pair, else the next.

        Without pairs the next is one of the arm that the node has seen less of. None if none fits, or if that one may not
        start yet.
        """
        may = [one for one in self._due() if (avoid := self._avoided(one, nodes)) is not None and node not in avoid]
        if not may:
            return None
        order = min(may, key=lambda one: (one not in self._lost_on, self._turn(one, node, nodes)))
        if not may_start(order):
            self._rest(node)  # or it would be asked again and again
            return None
        self.waiting.remove(order)
        self._lost_on.pop(order, None)
        self._seen[node, order.arm] += 1
        self._busy[node] += 1
        self._dealt[_run(order)] = node
        return order

    def _rest(self, node: str) -> None:
        """Give nothing to a node for a while."""
        self._resting[node] = time.monotonic() + REST_S

    def _turn(self, order: RunOrder, node: str, nodes: set[str]) -> int:
        """Return what a run's turn at a node is sorted by; of equals the first in the queue is taken."""
        return int(self._home(order, nodes) != node) if self._paired else self._seen[node, order.arm]

    def _due(self) -> list[RunOrder]:
        """Return the runs that wait for a node, without the second of a pair that waits as a whole: it has no home yet."""
        if not self._paired:
            return self.waiting
        first: dict[int, RunOrder] = {}
        for order in self.waiting:
            first.setdefault(order.seed, order)
        return [*first.values()]

    def _home(self, order: RunOrder, nodes: set[str]) -> str | None:
        """Return the living node of the pair's other run; None if there is none, if this run was lost there, or after HOME_S."""
        home = self._dealt.get(_partner(order)) if self._paired else None
        if home not in nodes or (_run(order), home) in self._lost_there:
            return None
        return home if time.monotonic() - self._homesick.get(order, math.inf) < HOME_S else None

    def _avoided(self, order: RunOrder, nodes: set[str]) -> frozenset[str] | None:
        """Return the nodes that a run must not go to now; None while there is no other."""
        now = time.monotonic()
        resting = {node for node, until in self._resting.items() if until > now}
        if (home := self._home(order, nodes)) is not None:
            return None if home in resting else frozenset(nodes - {home})
        lost_on = self._lost_on.get(order)
        own = {lost_on.node} if lost_on is not None and lost_on.until > now else set()
        for avoided in (resting | own, resting):
            if nodes - avoided or not nodes:
                return frozenset(avoided & nodes)
        return None


def _run(order: RunOrder) -> _Run:
    return order.arm, order.seed


def _partner(order: RunOrder) -> _Run:
    """Return the other run of a run's pair."""
    return CONTROL if order.arm == CANDIDATE else CANDIDATE, order.seed
