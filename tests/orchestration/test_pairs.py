"""Pairs of a sweep with a control: how they are planned, dealt to one node back to back, and what splits one."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.rules.ruleset import Ruleset, load
from analysis.sweepdir.plan import Plan, derive_seeds
from orchestration.disk.lock import Lock
from orchestration.driver import dealing
from orchestration.driver.care import Care
from orchestration.driver.dealing import AVOID_S, HOME_S, REST_S, Queue
from orchestration.driver.loop import Driver
from orchestration.plan.asked import Asked, PlanError
from orchestration.plan.freeze import freeze, make_design
from orchestration.worker.order import Ended, RunOrder
from tests.orchestration.orders import make_order, plan_of

Nodes = set[str]


# -- the plan ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text("print('x')\n")
    (tmp_path / "b.toml").write_text("[env]\nB = 1\n")
    return path


def rules_of(test: str, **more: Any) -> Ruleset:
    return replace(load("parameter-golf"), test=test, **more)


@pytest.mark.parametrize(
    ("test", "sota", "paired"),
    [
        ("one-sample t", None, True),
        ("both", None, True),
        ("one-sample t", 1.2, True),  # both must be beaten
        ("both", 1.2, True),
        ("paired by node", None, True),
        ("paired by node", 1.2, True),
        ("welch", None, False),
        ("pooled", None, False),
        ("known-sigma z", None, False),
        ("comparison", None, False),
    ],
)
def test_pairs_are_the_default_of_a_t_test_against_a_control(test: str, sota: float | None, paired: bool) -> None:
    asked = Asked(script=Path("s.py"), control=Path("b.toml"), sota=sota)
    design = make_design(asked, 5, rules_of(test))
    assert design == {"name": "fixed"} | ({"paired": True} if paired else {})
    alone = replace(asked, control=None)
    assert make_design(alone, 5, rules_of(test)) == {"name": "fixed"}


def test_a_fixed_target_is_not_a_control(script: Path) -> None:
    asked = Asked(script=script, control=Path("b.toml"))
    assert make_design(asked, 5, rules_of("one-sample t", target=1.2, against="target")) == {"name": "fixed"}


def test_a_sequential_plan_is_paired_too(script: Path, tmp_path: Path) -> None:
    made = plan_of(script, "5", design="sequential", sota=None, control=tmp_path / "b.toml")
    assert made.table["design"] == {"name": "sequential", "looks": [3, 4, 5], "boundary": "flat", "paired": True}
    assert made.design.paired
    assert list(made.seeds) == derive_seeds(made.table, 5)
    assert "paired" not in plan_of(script, "5", design="sequential").table["design"]


def test_unpaired_is_planned_as_before(script: Path, tmp_path: Path) -> None:
    made = plan_of(script, "5", sota=None, control=tmp_path / "b.toml", unpaired=True)
    assert made.table["design"] == {"name": "fixed"}
    assert not made.design.paired
    welch = Asked(script=script, control=tmp_path / "b.toml", unpaired=True)
    assert make_design(welch, 5, rules_of("welch")) == {"name": "fixed"}


def test_unpaired_is_refused_where_it_cannot_apply(script: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--unpaired applies only where the runs of a --control must be beaten"):
        plan_of(script, unpaired=True)
    asked = Asked(script=script, control=tmp_path / "b.toml", unpaired=True, rules="mine.toml")
    with pytest.raises(PlanError, match="--unpaired applies only"):
        make_design(asked, 5, rules_of("one-sample t", target=1.2, against="target"))
    with pytest.raises(PlanError, match="the test of --rules mine.toml is 'paired by node', which needs pairs"):
        make_design(asked, 5, rules_of("paired by node"))


def test_the_arms_take_turns_in_going_first(script: Path, tmp_path: Path) -> None:
    made = plan_of(script, "4", sota=None, control=tmp_path / "b.toml")
    first = [made.arms_of(number)[0] for number in range(4)]
    assert first == ["candidate", "control", "candidate", "control"]
    unpaired = plan_of(script, "4", sota=None, control=tmp_path / "b.toml", unpaired=True)
    assert {unpaired.arms_of(number) for number in range(4)} == {("candidate", "control")}


# -- the queue ---------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(dealing, "time", found)
    return found


def order_of(arm: str, seed: int, attempt: int = 1) -> RunOrder:
    return make_order(Path("/s"), arm=arm, seed=seed, attempt=attempt)


def paired_queue(seeds: int) -> Queue:
    queue = Queue(paired=True)
    for seed in range(seeds):
        for arm in ("candidate", "control")[:: -1 if seed % 2 else 1]:
            queue.add(order_of(arm, seed))
    return queue


def take(queue: Queue, node: str, *nodes: str) -> RunOrder | None:
    return queue.take(node, {node, *nodes}, lambda order: True)


def name(order: RunOrder | None) -> tuple[str, int] | None:
    return None if order is None else (order.arm, order.seed)


def test_the_second_run_follows_the_first_on_its_node(clock: Clock) -> None:
    queue = paired_queue(3)
    assert name(take(queue, "A", "B")) == ("candidate", 0)
    assert name(take(queue, "B", "A")) == ("control", 1)
    assert queue.wanted({"A", "B"}) == {"": 1, "A": 1, "B": 1}
    assert next(iter(queue.wanted({"A", "B"}))) == ""  # what may go anywhere is asked for first
    queue.left("A", refused=False)
    assert name(take(queue, "A", "B")) == ("control", 0)
    queue.left("B", refused=False)
    assert name(take(queue, "B", "A")) == ("candidate", 1)
    queue.left("B", refused=False)
    assert name(take(queue, "B", "A")) == ("candidate", 2)
    assert take(queue, "A", "B") is None  # it would split the last pair
    assert queue.wanted({"A", "B"}) == {"B": 1}


def test_a_node_with_room_for_two_runs_both_at_once(clock: Clock) -> None:
    queue = paired_queue(2)
    assert [name(take(queue, "A", "B")) for _ in range(2)] == [("candidate", 0), ("control", 0)]


def test_only_a_retry_goes_before_the_second_run(clock: Clock) -> None:
    queue = paired_queue(2)
    for node in "AB":
        take(queue, node, "A", "B")
    again = order_of("control", 1, attempt=2)
    queue.left("B", refused=False)
    queue.add(again, lost_on="B", first=True)
    queue.left("A", refused=False)
    assert take(queue, "A", "B") is again
    queue.left("A", refused=False)
    assert name(take(queue, "A", "B")) == ("control", 0)
    queue.left("A", refused=False)
    assert name(take(queue, "A", "B")) == ("candidate", 1)  # it went where the retry went


def test_the_second_run_waits_for_the_node_of_the_firsts_retry(clock: Clock) -> None:
    queue = paired_queue(1)
    take(queue, "A", "B")
    queue.left("A", refused=False)
    queue.add(order_of("candidate", 0, attempt=2), lost_on="A", first=True)
    assert take(queue, "A", "B") is None  # not the control either
    assert queue.wanted({"A", "B"}) == {"!in(A)": 1}
    clock.now += AVOID_S + 1
    assert name(take(queue, "A", "B")) == ("candidate", 0)  # B never came
    assert queue.wanted({"A", "B"}) == {"A": 1}


def test_a_second_run_that_its_node_lost_goes_elsewhere(clock: Clock) -> None:
    queue = paired_queue(1)
    for _ in range(2):
        take(queue, "A", "B")
    queue.left("A", refused=False)
    queue.add(order_of("control", 0, attempt=2), lost_on="A", first=True)
    assert queue.wanted({"A", "B"}) == {"!in(A)": 1}
    order = take(queue, "B", "A")
    assert order is not None
    queue.left("B", refused=True)
    queue.add(order, first=True)  # B had no room: A is not its home all the same
    clock.now += REST_S + 1
    assert queue.wanted({"A", "B"}) == {"": 1}


def test_a_node_that_is_gone_is_no_home(clock: Clock) -> None:
    queue = paired_queue(2)
    take(queue, "A", "B")
    queue.left("A", refused=False)
    assert name(queue.take("B", {"B"}, lambda order: True)) == ("control", 0)
    assert queue.wanted({"B"}) == {"": 1}
    queue.add(order_of("candidate", 0, attempt=2), lost_on="A", first=True)  # its loss is known only now
    assert queue.wanted({"B", "C"}) == {"B": 1, "": 1}  # and it follows the control


def test_a_home_that_refuses_is_waited_for_and_then_given_up(clock: Clock) -> None:
    queue, refusals, begin = paired_queue(1), 0, clock.now
    take(queue, "A", "B")
    queue.left("A", refused=False)
    order = take(queue, "A", "B")
    while order is not None:
        refusals += 1
        queue.left("A", refused=True)
        queue.add(order, first=True)
        assert take(queue, "A", "B") is None  # it rests
        assert queue.wanted({"A", "B"}) == {}
        clock.now += REST_S + 1
        if take(queue, "B", "A") is not None:
            break
        order = take(queue, "A", "B")
    assert refusals > 3
    assert HOME_S < clock.now - begin < HOME_S + 2 * REST_S + 2


def test_a_home_that_refuses_while_it_runs_another_of_ours_is_given_up_too(clock: Clock) -> None:
    queue, begin = paired_queue(2), clock.now
    for _ in range(3):  # both runs of seed 0, and the first of seed 1, which goes on
        take(queue, "A", "B")
    while clock.now - begin < HOME_S:
        assert queue.wanted({"A", "B"}) == {"A": 1}
        order = take(queue, "A", "B")
        assert name(order) == ("candidate", 1)
        queue.left("A", refused=True)
        queue.add(order, first=True)  # type: ignore[arg-type]
        assert take(queue, "B", "A") is None
        clock.now += REST_S + 1
    assert queue.wanted({"A", "B"}) == {"": 1}
    assert name(take(queue, "B", "A")) == ("candidate", 1)


def test_a_home_that_others_hold_is_given_up_and_one_that_is_ours_never(clock: Clock) -> None:
    queue = paired_queue(1)
    take(queue, "A", "B")
    for _ in range(10):
        clock.now += HOME_S  # a long first run
        assert queue.wanted({"A", "B"}) == {"A": 1}
    queue.left("A", refused=False)  # and others took the node at once
    assert queue.wanted({"A", "B"}) == {"A": 1}
    clock.now += HOME_S - 1
    assert take(queue, "B", "A") is None
    clock.now += 2
    assert queue.wanted({"A", "B"}) == {"": 1}
    assert name(take(queue, "B", "A")) == ("control", 0)


def test_a_run_that_may_not_start_yet_keeps_its_home(clock: Clock) -> None:
    queue = paired_queue(1)
    take(queue, "A", "B")
    queue.left("A", refused=False)
    assert queue.take("A", {"A", "B"}, lambda order: False) is None
    assert queue.wanted({"A", "B"}) == {}
    clock.now += REST_S + 1
    assert queue.wanted({"A", "B"}) == {"A": 1}


def test_a_half_finished_pair_of_an_earlier_driver(clock: Clock) -> None:
    queue = Queue(paired=True)
    queue.add(order_of("control", 0), partner_on="A")
    queue.add(order_of("candidate", 1), partner_on="dead")
    assert queue.wanted({"A", "B"}) == {"": 1, "A": 1}
    assert name(take(queue, "B", "A")) == ("candidate", 1)
    assert name(take(queue, "A", "B")) == ("control", 0)


def test_without_pairs_runs_are_dealt_by_what_a_node_has_seen(clock: Clock) -> None:
    queue = Queue()
    for seed in range(2):
        for arm in ("candidate", "control"):
            queue.add(order_of(arm, seed), partner_on="B")
    assert queue.wanted({"A", "B"}) == {"": 4}
    assert name(take(queue, "A", "B")) == ("candidate", 0)
    assert name(take(queue, "B", "A")) == ("control", 0)
    assert name(take(queue, "B", "A")) == ("candidate", 1)


class Simulated:
    """A cluster event by event: slots that come free, ends, losses, refusals, strangers, dead nodes; `left` of the last four."""

    def __init__(self, chance: random.Random, seeds: int, left: int) -> None:
        self.chance, self.left, self.queue = chance, left, paired_queue(seeds)
        self.slots = {node: chance.choice((1, 2)) for node in "ABC"[: chance.randint(1, 3)]}
        self.busy: list[tuple[RunOrder, str]] = []
        self.dealt: list[tuple[int, str]] = []
        self.done: dict[tuple[str, int], str] = {}

    def trouble(self, share: float) -> bool:
        found = self.left > 0 and self.chance.random() < share
        self.left -= found
        return found

    def deal(self) -> None:
        wanted = self.queue.wanted(set(self.slots))
        for node in self.chance.sample(sorted(self.slots), len(self.slots)):
            full = sum(where == node for _, where in self.busy) >= self.slots[node]
            if full or not _placed(wanted, node) or self.trouble(0.2):
                continue
            if (order := self.queue.take(node, set(self.slots), lambda order: True)) is not None:
                self.busy.append((order, node))
                self.dealt.append((order.seed, node))

    def go_on(self) -> None:
        for order, node in self.chance.sample(self.busy, self.chance.randint(0, len(self.busy))):
            lost, refused = self.trouble(0.2), self.trouble(0.2)
            self.end(order, node, "lost" if lost else "refused" if refused else "succeeded")
        if len(self.slots) > 1 and self.trouble(0.02):
            dead = self.chance.choice(sorted(self.slots))
            del self.slots[dead]
            for order, node in [one for one in self.busy if one[1] == dead]:
                self.end(order, node, "lost")

    def end(self, order: RunOrder, node: str, state: str) -> None:
        self.busy.remove((order, node))
        self.queue.left(node, refused=state == "refused")
        if state == "succeeded":
            self.done[order.arm, order.seed] = node
        elif state == "refused":
            self.queue.add(order, first=True)
        else:
            self.queue.add(order_of(order.arm, order.seed, order.attempt + 1), lost_on=node, first=True)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 5), st.sampled_from((0, 12)))
def test_no_run_starves_and_only_trouble_splits_a_pair(seed: int, seeds: int, trouble: int) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealing, "time", clock)
        found = Simulated(random.Random(seed), seeds, trouble)
        nodes = list(found.slots)
        for _ in range(500):
            clock.now += 7
            found.deal()
            found.go_on()
    assert len(found.done) == 2 * seeds
    assert found.queue.waiting == []
    if trouble:
        return
    assert all(found.done["candidate", seed] == found.done["control", seed] for seed in range(seeds))
    for node in nodes:  # back to back where a node holds one run
        order = [seed for seed, where in found.dealt if where == node]
        assert found.slots[node] > 1 or order == [seed for seed in dict.fromkeys(order) for _ in range(2)]


def _placed(wanted: Counter[str], node: str) -> bool:
    """Say whether Ray would place one of the groups that are asked for on a node."""
    return any(
        not where or where == node or (where.startswith("!in(") and node not in where[4:-1].split(","))
        for where in wanted
    )


# -- the driver --------------------------------------------------------------------------------------------------------


def driver_of(directory: Path, plan: Plan) -> Any:
    found: Any = Driver(directory, plan, Care(), Lock(directory), None)
    found.submitted = []
    found.pool = SimpleNamespace(submit=lambda order, **more: found.submitted.append((order, more)), clear=lambda: None)
    found.settle()
    return found


def test_a_resumed_sweep_knows_the_home_of_a_half_finished_pair(script: Path, tmp_path: Path) -> None:
    plan = plan_of(script, "1,2", sota=None, control=tmp_path / "b.toml")
    freeze(plan, tmp_path / "sweep")
    driver = driver_of(tmp_path / "sweep", plan)
    driver.submit_due()
    named = [(order.arm, order.seed, more) for order, more in driver.submitted]
    nowhere = {"partner_on": None}
    assert named == [
        ("candidate", 1, nowhere), ("control", 1, nowhere), ("control", 2, nowhere), ("candidate", 2, nowhere),
    ]  # fmt: skip
    first, _, third, _ = (order for order, _ in driver.submitted)
    for order, node in ((first, "A"), (third, "B")):
        driver.started(order, node)
    first.folder.mkdir(parents=True)
    (first.folder / "train.log").write_text("step:1/1\nfinal_x val_loss:2.0 val_bpb:1.2\n")
    driver.journal.write(first.key, "succeeded", None, "A")
    driver.ended(third, "B", Ended(state="lost", reason="its node went away"))
    driver.lock.release()
    again = driver_of(tmp_path / "sweep", plan)
    again.submit_due()
    assert [(order.arm, order.seed, more["partner_on"]) for order, more in again.submitted] == [
        ("control", 1, "A"), ("control", 2, None), ("candidate", 2, None),
    ]  # fmt: skip
    events = [json.loads(line) for line in (tmp_path / "sweep/events.jsonl").read_text().splitlines()]
    assert [(one["arm"], one["node"]) for one in events if one["state"] == "running"] == [
        ("candidate", "A"), ("control", "B"),
    ]  # fmt: skip
