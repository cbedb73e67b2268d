"""What a run takes, and which waiting run a node gets. Imports no Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from orchestration.worker.order import Began, Ended, Part, RunOrder

AVOID_S = 60.0  # a run avoids the node that lost it for so long, but not for ever: the others may be in use
REST_S = 10.0  # a node that had no room, or whose run may not start yet, gets nothing for so long


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
    """The runs that wait for a node, in order."""

    def __init__(self) -> None:
        self.waiting: list[RunOrder] = []
        self._lost_on: dict[RunOrder, _Avoided] = {}
        self._resting: dict[str, float] = {}  # nodes that refused a run, and until when they rest
        self._seen: Counter[tuple[str, str]] = Counter()  # runs given to (node, arm)

    def add(self, order: RunOrder, *, lost_on: str | None = None, first: bool = False) -> None:
        self.waiting.insert(0, order) if first else self.waiting.append(order)
        if lost_on is not None:
            self._lost_on[order] = _Avoided(lost_on, time.monotonic() + AVOID_S)

    def rest(self, node: str) -> None:
        """Give nothing to a node for a while."""
        self._resting[node] = time.monotonic() + REST_S

    def wanted(self, nodes: set[str]) -> Counter[frozenset[str]]:
        """Return how many runs could go to one of the nodes now, by the nodes that they avoid."""
        return Counter(avoid for order in self.waiting if (avoid := self._avoided(order, nodes)) is not None)

    def take(self, node: str, nodes: set[str], may_start: Callable[[RunOrder], bool]) -> RunOrder | None:
        """Take the run that fits a node best: a retried one first, else one of the arm that the node has seen less of.

        None if none fits, or if that one may not start yet.
        """
        may = [one for one in self.waiting if (avoid := self._avoided(one, nodes)) is not None and node not in avoid]
        if not may:
            return None
        order = min(may, key=lambda one: (one not in self._lost_on, self._seen[node, one.arm]))  # the first of equals
        if not may_start(order):
            self.rest(node)  # or it would be asked again and again
            return None
        self.waiting.remove(order)
        self._lost_on.pop(order, None)
        self._seen[node, order.arm] += 1
        return order

    def _avoided(self, order: RunOrder, nodes: set[str]) -> frozenset[str] | None:
        """Return the nodes that a run must not go to now; None while there is no other."""
        now = time.monotonic()
        resting = {node for node, until in self._resting.items() if until > now}
        lost_on = self._lost_on.get(order)
        own = {lost_on.node} if lost_on is not None and lost_on.until > now else set()
        for avoided in (resting | own, resting):
            if nodes - avoided or not nodes:
                return frozenset(avoided & nodes)
        return None
