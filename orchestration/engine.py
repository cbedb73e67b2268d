"""Ray: where a run finds its node and GPUs, and how many run at once. The only file that imports ray.

A slot is a placement group of one bundle, as large as one run. Runs are dealt to free slots in order, candidate and
control in turns, so that both see the same hardware. Nothing is retried here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestration.run import RunOrder, execute

POLL_S = 0.5


class EngineError(RuntimeError):
    """A cluster that cannot do what was asked, as one sentence with the sizes."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one run takes."""

    gpus: int
    cpus: int

    @property
    def bundle(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def __str__(self) -> str:
        return " and ".join(f"{n} {what}{'s' * (n > 1)}" for n, what in ((self.gpus, "GPU"), (self.cpus, "CPU")) if n)


@contextmanager
def cluster() -> Iterator[None]:
    """Ray for the time of a sweep: the cluster that RAY_ADDRESS names, or one of our own on this machine."""
    own = not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": "local", "include_dashboard": False} if own else {}
    # a run must not be nice to other processes: a bare torchrun is not
    runtime_env = {"env_vars": {"RAY_worker_niceness": "0"}}
    try:
        ray.init(log_to_driver=False, logging_level="error", runtime_env=runtime_env, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise EngineError(f"Ray on {where} cannot be reached or started: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def slots_that_fit(size: Size, wanted: int) -> int:
    """How many runs fit at once, at most `wanted`. Raises EngineError when none ever can."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = 0
    for resources in nodes:
        fits += int(min(resources.get(name, 0) // need for name, need in size.bundle.items()))
    if fits == 0:
        gpus, cpus = (max((node.get(name, 0) for node in nodes), default=0) for name in ("GPU", "CPU"))
        raise EngineError(f"A run asks for {size} on one node; the largest of {len(nodes)} nodes has "
                          f"{gpus:g} GPUs and {cpus:g} CPUs.")  # fmt: skip
    return min(fits, wanted)


def run_all(
    orders: list[RunOrder],
    size: Size,
    started: Callable[[RunOrder], None],
    ended: Callable[[RunOrder, dict[str, Any]], None],
    tick: Callable[[], None],
) -> None:
    """Make every run; calls back when one starts, ends, and twice a second.

    `ended` gets the run's manifest, or {"state": "lost", "reason": ...} when its worker or node went away.
    """

    @ray.remote(max_retries=0, num_cpus=size.cpus, num_gpus=size.gpus)
    def work(order: RunOrder) -> dict[str, Any]:
        return execute(order, ray.get_runtime_context().get_node_id())

    free = [placement_group([size.bundle], strategy="STRICT_PACK") for _ in range(slots_that_fit(size, len(orders)))]
    groups = list(free)
    busy: dict[Any, tuple[RunOrder, PlacementGroup]] = {}
    waiting = list(orders)
    try:
        while waiting or busy:
            while waiting and free:
                order, group = waiting.pop(0), free.pop(0)
                strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
                task = work.options(scheduling_strategy=strategy, name=order.name)
                busy[task.remote(order)] = order, group
                started(order)
            done, _ = ray.wait(list(busy), num_returns=1, timeout=POLL_S)
            for reference in done:
                order, group = busy.pop(reference)
                free.append(group)
                try:
                    manifest = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    manifest = {"state": "failed", "reason": f"the run could not be made: {error.cause!r}"}
                except ray.exceptions.RayError as error:
                    reason = f"its Ray worker or node went away ({type(error).__name__})"
                    manifest = {"state": "lost", "reason": reason}
                ended(order, manifest)
            tick()
    finally:
        for reference in busy:
            ray.cancel(reference, force=True)
        deadline = time.monotonic() + 10
        while busy and time.monotonic() < deadline:
            done, rest = ray.wait(list(busy), num_returns=len(busy), timeout=1)
            busy = {reference: busy[reference] for reference in rest}
        for group in groups:
            remove_placement_group(group)
