"""What is spent, tried before and told, without Ray: --max-gpu-hours, --smoke, --notify."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from analysis.sweepdir.layout import SweepError, is_sweep, smoke_folder
from analysis.sweepdir.plan import read_plan
from orchestration.disk.lock import Lock
from orchestration.disk.patient import Disk
from orchestration.driver.buying import budget as budget_module
from orchestration.driver.buying import notify as notify_module
from orchestration.driver.buying import smoke as smoke_module
from orchestration.driver.buying.budget import Budget, spent_before
from orchestration.driver.buying.notify import Notifier
from orchestration.driver.buying.smoke import SmokeError, seed_outside, smoke
from orchestration.driver.care import Care
from orchestration.driver.drive import carry_out
from orchestration.driver.job import Job
from orchestration.driver.loop import Driver
from orchestration.driver.progress import Progress, time_left
from orchestration.plan.freeze import freeze
from orchestration.worker.order import Ended, RunOrder
from tests.conftest import make_log, until
from tests.orchestration.orders import make_order, plan_of

HOUR = 3600.0


# -- --max-gpu-hours -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets, in hours."""
    time = SimpleNamespace(hours=0.0)
    monkeypatch.setattr(budget_module, "time", SimpleNamespace(monotonic=lambda: time.hours * HOUR))
    return time


def test_what_runs_counts_times_its_gpus(clock: SimpleNamespace) -> None:
    budget = Budget(limit_h=20, units=8, unit="GPU-hours", past_s=HOUR / 2)
    assert budget.holds_another
    budget.note("one", "running")
    clock.hours = 1
    assert budget.spent_h == pytest.approx(12)
    assert budget.holds_another
    assert not budget.used_up
    clock.hours = 2
    assert budget.used_up
    assert "--max-gpu-hours 20: 20.00 GPU-hours are spent" in budget.sentence()


def test_a_run_that_would_be_cut_at_the_limit_does_not_start(clock: SimpleNamespace) -> None:
    budget = Budget(limit_h=2.5, units=1, unit="core-hours")
    budget.note("one", "running")
    clock.hours = 1
    budget.note("one", "succeeded")
    assert budget.holds_another  # the second ends at 2
    budget.note("two", "running")
    clock.hours = 1.25
    assert not budget.holds_another  # the third would end at 3
    assert not budget.used_up


def test_without_a_limit_everything_fits_and_a_refused_run_costs_nothing(clock: SimpleNamespace) -> None:
    budget = Budget(limit_h=None, units=8, unit="GPU-hours")
    budget.note("one", "running")
    clock.hours = 1e6
    assert budget.holds_another
    assert not budget.used_up
    budget.note("one", "pending")
    assert budget.spent_h == 0


def events(folder: Path, *told: tuple[int, str, float] | tuple[int, str, float, dict[str, Any]]) -> None:
    began = datetime(2026, 4, 5, tzinfo=UTC)
    lines = [
        {"time": (began + timedelta(hours=hours)).isoformat(), "arm": "candidate", "seed": seed, "attempt": 1,
         "state": state, **(more[0] if more else {})}
        for seed, state, hours, *more in told
    ]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_earlier_drivers_attempts_are_counted_from_the_journal(tmp_path: Path) -> None:
    events(
        tmp_path,
        (1, "running", 0), (1, "lost", 9, {"wall_s": HOUR}),  # the driver's own clock
        (2, "running", 1), (2, "pending", 5),  # refused by its node
        (2, "running", 6), (2, "succeeded", 9, {"wall_s": HOUR}),
        (3, "running", 9), (3, "lost", 99, {"reason": "its driver went away"}),  # without a log: it never began
    )  # fmt: skip
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"cut off\n')
    assert spent_before(tmp_path) == pytest.approx(2 * HOUR)


@pytest.mark.parametrize("told_of", [True, False])
def test_an_attempt_whose_driver_went_away_ran_until_its_log_ended(tmp_path: Path, told_of: bool) -> None:
    gone = [(1, "lost", 99.0, {"reason": "its driver went away"})] if told_of else []
    events(tmp_path, (1, "running", 0), *gone)
    log = tmp_path / "candidate" / "seed-1" / "attempt-1" / "train.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, (datetime(2026, 4, 5, 2, tzinfo=UTC).timestamp(),) * 2)
    assert spent_before(tmp_path) == pytest.approx(2 * HOUR)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """A driver of two seeds with a limit of one core-hour, and what its pool was asked."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    freeze(plan_of(script, "1,2"), tmp_path / "sweep")
    lock = Lock(tmp_path / "sweep")
    found: Any = Driver(tmp_path / "sweep", read_plan(tmp_path / "sweep"), Care(max_gpu_hours=1.0), lock, None)
    found.settle()
    found.asked = []
    ask = found.asked.append
    found.pool = SimpleNamespace(
        open=2, submit=lambda order, **_: ask("submit"), clear=lambda: ask("clear"), poll=lambda: ask("poll")
    )
    yield found
    found.lock.release()


def test_at_the_limit_no_run_starts_and_what_runs_is_ended(driver: Any) -> None:
    order = driver.orders.of(driver.jobs["candidate", 1], 1)
    assert driver.may_start(order)
    driver.budget.past_s = HOUR
    assert not driver.may_start(order)
    assert driver.asked == ["clear"]
    driver.run_out()  # returns although the pool says that two runs have not ended
    assert driver.limit.startswith("--max-gpu-hours 1: 1.00 core-hours are spent")


def test_a_sweep_that_its_limit_ends_is_not_complete(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def limited(driver: Any, token: str | None) -> None:
        driver.limit = driver.budget.sentence()

    driver.lock.release()
    driver.lock = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr("orchestration.driver.drive._run_on_ray", limited)
    assert carry_out(driver.directory, Care(max_gpu_hours=1.0)) == 4
    said = capsys.readouterr().err
    assert "Error: --max-gpu-hours 1: 0.00 core-hours are spent, and one more run does not fit" in said
    assert (driver.directory / "verdict.json").exists()


# -- --smoke -------------------------------------------------------------------------------------------------------------


class FakePool:
    """Does in each poll what the script of the smoke run does next: adds to its log, or ends."""

    def __init__(self, heard: Any, does: list[str | Ended]) -> None:
        self.heard, self.does, self.closed, self.submitted = heard, does, False, 0

    def submit(self, order: RunOrder, **_: Any) -> None:
        self.order, self.submitted = order, self.submitted + 1
        self.order.folder.mkdir(parents=True, exist_ok=True)
        self.heard.started(order, "A")

    def poll(self) -> None:
        does = self.does.pop(0) if self.does else ""
        if isinstance(does, Ended):
            self.heard.ended(self.order, "A", does)
        else:
            with open(self.order.folder / "train.log", "a") as log:
                log.write(does)

    def close(self) -> None:
        self.closed = True


Try = Callable[..., list[FakePool]]


@pytest.fixture
def tries(tmp_path: Path) -> Try:
    def make(*does: str | Ended, arms: tuple[str, ...] = ("candidate",)) -> list[FakePool]:
        pools: list[FakePool] = []

        def pool_of(heard: Any) -> FakePool:
            pools.append(FakePool(heard, list(does)))
            return pools[-1]

        def order_of(job: Job) -> RunOrder:
            return make_order(tmp_path / "sweep", arm=job.arm, seed=job.seed, stall_timeout_s=0.2)

        smoke(order_of, dict.fromkeys(arms, 0), Disk(tmp_path, 0, print), print, pool_of)
        return pools

    return make


STEPS = [line for line in make_log(1, 1.2).splitlines(keepends=True) if line.startswith("step:")]


def test_a_smoke_run_is_ended_after_three_steps_for_each_arm(tries: Try, tmp_path: Path) -> None:
    pools = tries(*STEPS[:4], "never\n", arms=("candidate", "control"))
    assert [pool.closed for pool in pools] == [True, True]
    for arm in ("candidate", "control"):
        log = smoke_folder(tmp_path / "sweep", arm, 1)
        assert "never" not in (log / "train.log").read_text()
        assert json.loads((log / "run.json").read_text())["state"] == "stopped"
    tries(*STEPS[:4])
    assert smoke_folder(tmp_path / "sweep", "candidate", 2).is_dir()  # every try is kept


def test_a_script_that_ends_by_itself_within_a_few_steps_is_fine(tries: Try) -> None:
    (pool,) = tries(STEPS[0], Ended(state="pending", reason="no room"), Ended(state="succeeded", reason=None))
    assert pool.submitted == 2


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ([Ended(state="failed", reason="torchrun ended with exit code 1 (ValueError: no)")], "ValueError: no"),
        ([Ended(state="lost", reason="its node went away")], "lost: its node went away"),
        (["compiling\n"], r"it printed no training step within 0.2 s \(--stall-timeout\)"),
    ],
)
def test_a_smoke_run_that_fails_says_why_and_where(tries: Try, does: list[str | Ended], said: str) -> None:
    with pytest.raises(SmokeError, match=f"candidate does not train, so nothing was bought: .*{said}") as error:
        tries(*does)
    assert error.value.exit_code == 4
    assert str(error.value).endswith("smoke/candidate/attempt-1/train.log")


def test_a_slow_script_that_trains_is_fine(tries: Try) -> None:
    assert tries(*STEPS[:2])[0].closed


def test_the_seed_of_a_smoke_run_is_none_of_the_plans() -> None:
    assert seed_outside((3, 0, 1)) == 2
    assert smoke_module.ENOUGH_STEPS == 3


def test_a_smoke_run_is_no_evidence_and_leaves_the_folder_to_the_corrected_command(tmp_path: Path) -> None:
    script, folder = tmp_path / "train.py", tmp_path / "sweep"
    script.write_text("print(1)\n")
    freeze(plan_of(script, "1,2"), folder)
    smoke_folder(folder, "candidate", 1).mkdir(parents=True)
    (smoke_folder(folder, "candidate", 1) / "train.log").write_text(make_log(0, 1.2))
    assert is_sweep(folder)  # and no record folder with a log
    (folder / "plan.json").unlink()
    (folder / "sweep.lock").touch()  # what a refused sweep leaves
    freeze(plan_of(script, "1,2"), folder)
    (folder / "old.log").write_text(make_log(7, 1.2))
    assert not is_sweep(folder)


# -- --notify ------------------------------------------------------------------------------------------------------------


def notified(command: str) -> tuple[Notifier, list[str]]:
    said: list[str] = []
    return Notifier(command, {"sweep": "mine", "plan": "abc"}, said.append), said


def python_command(tmp_path: Path, code: str) -> str:
    (tmp_path / "tell it.py").write_text(code)
    return f"{sys.executable} '{tmp_path}/tell it.py' '$(touch {tmp_path}/injected)' ';'"


def test_a_command_gets_each_event_in_order_and_no_shell(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    one, said = notified(
        python_command(
            tmp_path, f"import sys\nopen({str(heard)!r}, 'a').write(sys.stdin.read() + sys.argv[2] + chr(10))"
        )
    )
    one.tell("start", "2 runs are to be made.")
    one.tell("lost", "candidate seed 1: lost: why", arm="candidate", seed=1, attempt=2)
    one.close()
    first, _, second, _ = heard.read_text().splitlines()
    assert json.loads(first) | {"time": 0} == {
        "event": "start", "time": 0, "sweep": "mine", "plan": "abc", "text": "2 runs are to be made.",
    }  # fmt: skip
    assert json.loads(second)["seed"] == 1
    assert not (tmp_path / "injected").exists()
    assert said == []


def test_a_command_that_fails_is_said_once(tmp_path: Path) -> None:
    one, said = notified(python_command(tmp_path, "raise SystemExit('no network')"))
    one.tell("start", "a")
    one.tell("verdict", "b")
    one.close()
    assert len(said) == 1
    assert said[0].endswith("ended with exit code 1 (no network). The sweep goes on. Later failures are not reported.")
    missing, said = notified("/no/such/command")
    missing.tell("start", "a")
    missing.close()
    assert said == ["--notify: /no/such/command cannot be started: No such file or directory. The sweep goes on. "
                    "Later failures are not reported."]  # fmt: skip


def test_a_command_that_hangs_holds_up_nothing_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_module, "LONGEST_S", 0.3)
    left = tmp_path / "pid"
    one, said = notified(f"sh -c 'sleep 600 & echo $! > {left}; wait'")
    one.tell("start", "a")
    until(lambda: said, within_s=60)
    assert "did not end within 0.3 s" in said[0]
    until(lambda: not _lives(int(left.read_text())), within_s=60)
    monkeypatch.setattr(notify_module, "LONGEST_S", 600)
    monkeypatch.setattr(notify_module, "LAST_S", 0.3)
    one.tell("verdict", "b")
    one.close()  # the sweep ends, and so does the command
    until(lambda: not _lives(int(left.read_text())), within_s=60)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_without_a_command_nothing_is_called() -> None:
    one = Notifier(None, {}, pytest.fail)
    one.tell("start", "a")
    one.close()


@pytest.mark.parametrize(
    ("care", "said"),
    [
        (Care(notify="a 'b"), "is no command line"),
        (Care(notify=" "), "is empty"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(driver: Any, care: Care, said: str) -> None:
    with pytest.raises(SweepError, match=said):
        care.check(driver.plan)


def test_losses_and_the_end_are_told(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(Notifier, "tell", lambda self, event, text, **more: told.append({"event": event} | more))
    driver.event(driver.orders.of(driver.jobs["candidate", 2], 1), "lost", "its node went away", "A")
    driver.lock.release()
    driver.lock = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr("orchestration.driver.drive._run_on_ray", lambda *_: None)
    monkeypatch.setattr("orchestration.driver.drive._conclude", lambda driver: 4)
    assert carry_out(driver.directory, Care()) == 4
    assert told[0] == {"event": "lost", "arm": "candidate", "seed": 2, "attempt": 1}
    assert [one["event"] for one in told[1:]] == ["start", "stopped"]
    assert told[-1]["exit_code"] == 4


# -- how long it takes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lasted", "lived", "waiting", "slots", "seconds"),
    [
        ([], [100.0], 5, 2, None),  # unknown until one has ended
        ([100.0], [], 4, 2, 200.0),
        ([90.0, 110.0], [40.0], 3, 2, 180.0),
        ([100.0], [10.0], 0, 2, 90.0),  # one run is never shorter because there are two places
        ([100.0], [150.0], 0, 1, 0.0),
    ],
)
def test_the_rest_of_a_sweep_is_guessed_from_the_runs_that_ended(
    lasted: list[float], lived: list[float], waiting: int, slots: int, seconds: float | None
) -> None:
    assert time_left(lasted, lived, waiting, slots) == seconds


class Waited(SimpleNamespace):
    """An order as far as somebody waits for it."""

    __hash__ = object.__hash__


def test_a_line_a_minute_says_how_long_the_others_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr("orchestration.driver.progress.time.monotonic", lambda: now[0])
    monkeypatch.setenv("CI", "true")
    progress = Progress(4)
    first, second = (Waited(name=f"candidate seed {seed}", attempt=1, folder=tmp_path) for seed in (1, 2))
    for order in (first, second):
        progress.started(cast(Any, order), quiet=False)
    now[0] = 60.0
    progress.tick()
    assert "0 of 4 runs have a result\n" in capsys.readouterr().out
    now[0] = 120.0
    progress.ended(
        cast(Any, first), cast(Any, SimpleNamespace(state="succeeded", metric={}, reason=None, wall_s=119.0))
    )
    progress.tick()
    assert "1 of 4 runs have a result; about 2 min for the other 3\n" in capsys.readouterr().out
