"""Ask the nodes of a cluster before a run is paid for: a small task on each, or one task as large as a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestration.driver.dealing import Size

ANSWER_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node: its name, and what it has when empty."""

    name: str
    resources: dict[str, Any]

    def holds(self, size: Size) -> int:
        """Return how many runs of this size it can hold at once."""
        return int(min(self.resources.get(name, 0) / need for name, need in size.bundle.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a node said; `fault` where it said nothing in time, or its task broke down."""

    node: Node
    said: Any = None
    fault: str | None = None


def _answer(question: Callable[[], Any]) -> Any:
    return question()


def ask_nodes(question: Callable[[], Any]) -> list[Answered]:
    """Ask every living node that can hold any run, all at once."""
    living = [one for one in ray.nodes() if one["Alive"] and one["Resources"].get("CPU")]
    asked = []
    for one in living:
        there = NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_answer)
        asked.append((Node(name=one["NodeManagerHostname"], resources=one["Resources"]), task.remote(question)))
    return [_heard(node, reference) for node, reference in asked]


def _heard(node: Node, reference: Any) -> Answered:
    try:
        return Answered(node=node, said=ray.get(reference, timeout=ANSWER_S))
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        return Answered(node=node, fault=f"it gave no answer ({type(error).__name__})")


def ask(question: Callable[[], Any], size: Size, within_s: float) -> Any:
    """Ask one node that has room for a run of this size, in the image of the runs. Raises TimeoutError, RuntimeError."""
    task = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_retries=0, **size.within)(_answer)
    reference = task.remote(question)
    try:
        return ray.get(reference, timeout=within_s)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        raise TimeoutError(f"no answer within {within_s:g} s") from None
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"{type(error).__name__}") from error
