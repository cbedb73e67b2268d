"""How runs are dealt to nodes, on a stand-in for Ray's scheduler: turns of the arms, lost runs, nodes without room."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.sweepdir.journal import Attempt
from orchestration.driver import dealing, engine, head
from orchestration.driver.start.connect import EngineError
from orchestration.driver.start.logs import Cause
from orchestration.worker.order import BEAT_S, Alive, Began, Ended, Message, Part, RunOrder
from tests.conftest import until
from tests.orchestration.orders import make_order

Work = Callable[[RunOrder, str], Iterator[Message]]
SUCCEEDED = Ended(state="succeeded", reason=None)
CPU = dealing.Size(gpus=0, cpus=1)


class FakeRay:
    """Nodes with room for one run each. `taken` are in use by somebody else; `most` is how many groups waited at once."""

    def __init__(self, *nodes: str) -> None:
        self.names, self.taken, self.groups, self.most = list(nodes), set[str](), list[Any](), 0
        self.asked, self.cancelled = 0, list[Any]()
        self.exceptions = SimpleNamespace(RayError=OSError, RayTaskError=type("E", (OSError,), {}))

    def nodes(self) -> list[dict[str, Any]]:
        self.asked += 1
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1, "GPU": 0}} for name in self.names]

    def placement_group(self, bundles: Any, strategy: str, bundle_label_selector: Any = None) -> Any:
        rule = (bundle_label_selector or [{}])[0].get("ray.io/node-id", "!in()")
        named = set(rule.removeprefix("!in(").removesuffix(")").split(","))
        group = SimpleNamespace(node=None, avoid=named if rule.startswith("!in(") else set(self.names) - named)
        group.ready = lambda: ("ready", id(group))
        self.groups.append(group)
        self.most = max(self.most, sum(one.node is None for one in self.groups))
        return group

    def remove(self, group: Any) -> None:
        self.groups.remove(group)

    def wait(self, refs: list[Any], num_returns: int, timeout: float, fetch_local: bool) -> tuple[list[Any], list[Any]]:
        busy = self.taken | {group.node for group in self.groups}
        for group in self.groups:
            free = [name for name in self.names if name not in busy | group.avoid]
            if group.node is None and free:
                group.node = free[0]
                busy.add(free[0])
        placed = {group.ready() for group in self.groups if group.node is not None}
        ready = [ref for ref in refs if not isinstance(ref, tuple) or ref in placed]
        return ready[:num_returns], [ref for ref in refs if ref not in ready[:num_returns]]

    def get(self, ref: Any) -> Any:
        return ref

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        self.options = options

        def options_of(task: Any) -> Any:
            def of(scheduling_strategy: Any, name: str) -> Any:
                def start(order: RunOrder) -> Any:
                    self.here = scheduling_strategy.placement_group.node
                    return _Generator(list(task(order)))

                return SimpleNamespace(remote=start)

            return SimpleNamespace(options=of)

        return options_of

    def cancel(self, generator: Any, force: bool) -> None:
        assert force
        self.cancelled.append(generator)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: self.here)


class _Generator:
    """A task's messages; an exception among them is raised."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    def __next__(self) -> Any:
        if not self.messages:
            raise StopIteration
        if isinstance(message := self.messages.pop(0), Exception):
            raise message
        return message


class Heard:
    """What the pool told, and `then` for what follows an end."""

    def __init__(self, then: Callable[..., None] = lambda *_: None) -> None:
        self.runs: list[tuple[str, int, str]] = []
        self.ends: list[tuple[str, str]] = []
        self.then = then
        self.not_yet: set[Attempt] = set()

    def may_start(self, order: RunOrder) -> bool:
        return order.key not in self.not_yet

    def started(self, order: RunOrder, node: str) -> None:
        self.runs.append((order.arm, order.seed, node))

    def arrived(self, order: RunOrder, message: Began | Part) -> None:
        raise AssertionError(message)

    def ended(self, order: RunOrder, node: str, end: Ended) -> None:
        self.ends.append((node, end.state))
        self.then(order, node, end)

    def say(self, text: str) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    def make(*nodes: str) -> FakeRay:
        ray = FakeRay(*nodes)
        monkeypatch.setattr(engine, "ray", ray)
        monkeypatch.setattr(engine, "placement_group", ray.placement_group)
        monkeypatch.setattr(engine, "remove_placement_group", ray.remove)
        monkeypatch.setattr(engine, "placement_group_table", lambda group: {"bundles_to_node_id": {0: group.node}})
        monkeypatch.setattr(engine, "PlacementGroupSchedulingStrategy", SimpleNamespace)
        monkeypatch.setattr(engine, "Gauge", lambda *_: None)
        return ray

    return make


def test_runs_are_made_in_the_image_that_is_asked_for(fake: Callable[..., FakeRay]) -> None:
    ray = fake("A")
    engine.Pool(CPU, Heard())
    assert "runtime_env" not in ray.options
    engine.Pool(replace(CPU, image="docker.io/lab/torch:2.8"), Heard())
    assert ray.options["runtime_env"] == {"image_uri": "docker.io/lab/torch:2.8"}


def orders(count: int, *arms: str) -> list[RunOrder]:
    return [make_order(Path("/s"), arm=arm, seed=seed) for seed in range(count) for arm in arms or ("candidate",)]


def pool_of(heard: Heard, work: Work, waiting: list[RunOrder]) -> engine.Pool:
    pool = engine.Pool(CPU, heard, work=work)
    for order in waiting:
        pool.submit(order)
    return pool


def test_a_head_that_does_not_answer_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "LOOK_S", 0.02)
    monkeypatch.setattr(head, "SILENT_S", 0.5)
    gone, over, hangs = threading.Event(), threading.Event(), threading.Event()

    def answers() -> bool:
        if hangs.is_set():
            over.wait(60)  # as a call to a stopped process may
        return True

    watcher = threading.Thread(target=head.watch_head, args=(answers, gone.set, over))
    watcher.start()
    assert not gone.wait(0.7)
    hangs.set()
    assert gone.wait(60)
    watcher.join()
    gone.clear()
    over.set()  # a sweep that has ended does not ask for its head
    head.watch_head(lambda: False, gone.set, over)
    assert not gone.is_set()


def run_out(pool: engine.Pool) -> None:
    until(lambda: not pool.open or pool.poll(), within_s=60)


def good(order: RunOrder, node: str) -> Iterator[Message]:
    yield SUCCEEDED


def test_both_arms_take_turns_on_every_node(fake: Callable[..., FakeRay]) -> None:
    ray, heard = fake("A", "B", "C"), Heard()
    run_out(pool_of(heard, good, orders(50, "candidate", "control")))
    seen = Counter((node, arm) for arm, _, node in heard.runs)
    assert sum(seen.values()) == len({run[:2] for run in heard.runs}) == 100
    assert all(abs(seen[node, "candidate"] - seen[node, "control"]) <= 1 for node in "ABC")
    assert ray.groups == []  # nothing is kept
    assert ray.most <= engine.MOST_ASKED


def test_a_pair_goes_to_one_node_back_to_back(fake: Callable[..., FakeRay]) -> None:
    ray, heard = fake("A", "B", "C"), Heard()
    pool = engine.Pool(CPU, heard, work=good, paired=True)
    for order in orders(50, "candidate", "control"):
        pool.submit(order)
    run_out(pool)
    assert len({run[:2] for run in heard.runs}) == len(heard.runs) == 100
    for node in "ABC":
        seeds = [seed for _, seed, where in heard.runs if where == node]
        assert seeds == [seed for seed in dict.fromkeys(seeds) for _ in range(2)]
    assert ray.groups == []
    assert ray.most <= engine.MOST_ASKED


def test_a_lost_run_goes_first_and_to_another_node(fake: Callable[..., FakeRay]) -> None:
    fake("A", "B")

    def work(order: RunOrder, node: str) -> Iterator[Any]:
        yield OSError("node died") if order.seed == 0 and node == "A" else SUCCEEDED

    def again(order: RunOrder, node: str, end: Ended) -> None:
        if end.state == "lost":
            pool.submit(order, lost_on=node, first=True)

    heard = Heard(again)
    pool = pool_of(heard, work, orders(20))
    run_out(pool)
    tries = [(number, node) for number, (_, seed, node) in enumerate(heard.runs) if seed == 0]
    assert [node for _, node in tries] == ["A", "B"]
    assert tries[1][0] <= 3
    assert len(heard.runs) == 21


def test_a_run_that_may_not_start_yet_waits_and_its_node_rests(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealing, "REST_S", 0.1)
    ray, heard, (one,) = fake("A"), Heard(), orders(1)
    heard.not_yet.add(one.key)
    pool = pool_of(heard, good, [one])
    for _ in range(3):
        pool.poll()
    assert heard.runs == []
    assert ray.groups == []
    heard.not_yet.clear()
    run_out(pool)
    assert heard.runs == [("candidate", 0, "A")]
    assert ray.asked < 60


def test_a_lost_run_does_not_wait_for_ever_for_another_node(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealing, "AVOID_S", 0.2)
    fake("A", "B").taken.add("B")  # by somebody else
    heard = Heard()
    pool = engine.Pool(CPU, heard, work=good)
    pool.submit(orders(1)[0], lost_on="A")
    for _ in range(20):
        pool.poll()
    assert heard.runs == []
    run_out(pool)
    assert heard.runs == [("candidate", 0, "A")]


def test_a_node_without_room_rests_and_the_others_go_on(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealing, "REST_S", 0.1)
    ray = fake("A", "B")
    refusals = 3  # of node A, before it has room

    def work(order: RunOrder, node: str) -> Iterator[Any]:
        nonlocal refusals
        full = node == "A" and refusals > 0
        refusals -= full
        yield Ended(state="pending", reason="no room") if full else SUCCEEDED

    def again(order: RunOrder, node: str, end: Ended) -> None:
        if end.state == "pending":
            pool.submit(order, first=True)

    heard = Heard(again)
    pool = pool_of(heard, work, orders(200))
    run_out(pool)
    refused = [number for number, end in enumerate(heard.ends) if end == ("A", "pending")]
    assert len(refused) == 3
    assert ("B", "succeeded") in heard.ends[refused[0] : refused[-1]]
    assert len(heard.ends) == 203
    assert ray.most <= engine.MOST_ASKED

    ray.names = ["A"]
    refusals = 2
    heard.ends.clear()
    ray.asked = 0
    for order in orders(2):
        pool.submit(order)
    run_out(pool)  # it waits for the only node there is
    assert ray.asked < 60  # and not at full speed
    assert heard.ends.count(("A", "pending")) == 2
    assert heard.ends.count(("A", "succeeded")) == 2


def test_a_run_given_to_a_node_that_died_before_it_began_is_lost_and_made_again(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK_S", 0.0)
    monkeypatch.setattr(engine, "SILENT_S", 0.1)
    ray = fake("A", "B")
    wait = ray.wait

    def silent(refs: list[Any], **more: Any) -> tuple[list[Any], list[Any]]:  # Ray never speaks of the tasks on A
        held = {generator for generator, busy in pool._busy.items() if busy.node == "A"}
        ready, rest = wait([ref for ref in refs if ref not in held], **more)
        time.sleep(0.01)
        return ready, [*rest, *(ref for ref in refs if ref in held)]

    monkeypatch.setattr(ray, "wait", silent)

    def again(order: RunOrder, node: str, end: Ended) -> None:
        if end.state == "lost":
            pool.submit(order, lost_on=node, first=True)

    heard = Heard(again)
    pool = pool_of(heard, good, orders(3))
    pool.poll()
    ray.names = ["B"]  # A has died
    run_out(pool)
    assert heard.ends.count(("A", "lost")) == len(ray.cancelled) == 1
    assert heard.ends.count(("B", "succeeded")) == 3


class Silent(_Generator):
    """A task that says what is in it, and then nothing."""

    def __next__(self) -> Any:
        return self.messages.pop(0)


def silent_pool(fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch, said: list[Message]) -> Any:
    """Return a pool whose only run says this much and then nothing, its listener, and its Ray."""
    monkeypatch.setattr(engine, "LOOK_S", 0.0)
    ray, heard = fake("A"), Heard()
    wait = ray.wait
    monkeypatch.setattr(ray, "remote", lambda **_: lambda task: SimpleNamespace(options=lambda **_: options))
    options = SimpleNamespace(remote=lambda order: Silent(list(said)))

    def quiet(refs: list[Any], **more: Any) -> tuple[list[Any], list[Any]]:
        held = [ref for ref in refs if isinstance(ref, Silent) and not ref.messages]
        ready, rest = wait([ref for ref in refs if ref not in held], **more)
        return ready, rest + held

    monkeypatch.setattr(ray, "wait", quiet)
    full = Cause(kind="memory", sentence="the node is full")
    pool = engine.Pool(CPU, heard, causes=lambda node: lambda: full)
    monkeypatch.setattr(heard, "ended", lambda order, node, end: heard.ends.append(end))
    pool.submit(orders(1)[0])
    until(lambda: pool._busy or pool.poll(), within_s=60)
    for _ in said:
        pool.poll()
    return SimpleNamespace(pool=pool, heard=heard, ray=ray, busy=next(iter(pool._busy.values())))


def test_a_worker_that_says_nothing_more_is_lost_within_the_stall_timeout(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = silent_pool(fake, monkeypatch, [Alive(), Alive()])
    limit = scene.busy.order.stall_timeout_s - BEAT_S
    scene.busy.heard -= limit - 5
    scene.pool.poll()
    assert scene.heard.ends == []
    assert scene.pool.begun == 1
    scene.busy.heard -= 6
    scene.pool.poll()
    (end,) = scene.heard.ends
    assert end.state == "lost"
    assert end.reason.startswith("its Ray worker has said nothing for ")
    assert end.cause is None
    assert len(scene.ray.cancelled) == 1
    assert scene.ray.groups == []


def test_a_driver_that_did_not_listen_does_not_blame_the_worker(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = silent_pool(fake, monkeypatch, [Alive()])
    scene.busy.heard -= 1000
    scene.pool._looked -= 1000
    scene.pool.poll()
    assert scene.heard.ends == []


def test_a_worker_that_never_begins_is_lost_with_the_cause_of_rays_logs(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = silent_pool(fake, monkeypatch, [])
    scene.pool.poll()
    assert scene.heard.ends == []
    scene.busy.heard -= engine.UNBEGUN_S + 1
    scene.pool.poll()
    (end,) = scene.heard.ends
    assert (end.state, end.reason, end.cause) == ("lost", "the node is full", "memory")
    assert scene.pool.begun == 0


def test_a_worker_that_never_begins_is_lost_without_a_cause_too(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = silent_pool(fake, monkeypatch, [])
    scene.busy.cause = lambda: None
    scene.busy.heard -= engine.UNBEGUN_S + 1
    scene.pool.poll()
    assert scene.heard.ends == []
    scene.busy.heard -= scene.busy.order.stall_timeout_s
    scene.pool.poll()
    (end,) = scene.heard.ends
    assert end.reason.endswith("see Ray's logs on node A")


def test_a_task_that_breaks_before_it_begins_tells_the_cause(fake: Callable[..., FakeRay]) -> None:
    fake("A")
    heard: Any = Heard()
    heard.ended = lambda order, node, end: heard.ends.append(end)
    broken = OSError("RuntimeEnvSetupError: Failed to set up runtime environment.\nNo space left on device")
    run_out(pool_of(heard, lambda order, node: iter([broken]), orders(1)))  # type: ignore[list-item]
    (end,) = heard.ends
    assert end.cause == "disk"
    assert "the disk of Ray's folder is full" in end.reason


def test_a_group_that_ray_forgot_when_a_node_died_is_asked_for_again(
    fake: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK_S", 0.0)
    ray = fake("A")
    ray.taken.add("A")
    heard = Heard()
    pool = pool_of(heard, good, orders(1))
    pool.poll()
    (forgotten,) = ray.groups
    forgotten.avoid = {"A", "B"}  # it will never be placed
    ray.names = ["B"]
    run_out(pool)
    assert heard.runs == [("candidate", 0, "B")]
    assert ray.groups == []


def test_runs_that_are_not_needed_any_more_are_not_dealt(fake: Callable[..., FakeRay]) -> None:
    fake("A")
    heard = Heard(lambda *_: pool.clear())
    pool = pool_of(heard, good, orders(3))
    run_out(pool)
    assert len(heard.runs) == 1


def test_a_worker_that_ends_without_a_word_is_lost(fake: Callable[..., FakeRay]) -> None:
    fake("A")
    heard = Heard()
    run_out(pool_of(heard, lambda order, node: iter(()), orders(1)))
    assert heard.ends == [("A", "lost")]


def test_a_run_that_no_node_can_hold_is_refused_with_both_sizes(fake: Callable[..., FakeRay]) -> None:
    fake("A", "B")
    pool = engine.Pool(dealing.Size(gpus=8, cpus=1, accelerator_type="H100"), Heard(), work=good)
    pool.submit(orders(1)[0])
    with pytest.raises(
        EngineError, match="asks for 8 H100 GPUs and 1 CPU on one node; the largest of 2 nodes has 0 GPUs"
    ):
        pool.poll()


def test_a_run_is_told_of_before_it_starts(fake: Callable[..., FakeRay]) -> None:
    """A driver that dies in between has named the run; one that may not name it does not start it."""
    made: list[RunOrder] = []
    heard = Heard()

    def refuse(order: RunOrder, node: str) -> None:
        raise OSError(28, "no room for the journal")

    def work(order: RunOrder, node: str) -> Any:
        made.append(order)
        return iter([Ended(state="succeeded", reason=None)])

    heard.started = refuse  # type: ignore[method-assign]
    ray = fake("A")
    pool = pool_of(heard, work, orders(1))
    with pytest.raises(OSError, match="no room"):
        pool.poll()
    pool.close()
    assert made == []
    assert ray.groups == []
