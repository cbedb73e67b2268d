"""Records that are run again: what is planned, asked, bought and answered; and whole verifications on a cluster."""

from __future__ import annotations

import hashlib
import html
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from statistics import stdev
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.reading.result import Tried
from analysis.rules.findings import ERROR, Code, Finding
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import derive_seeds, plan_digest
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import UsageError
from analysis.verdict.answer import Answer
from orchestration import record as record_command
from orchestration.disk.lock import Lock
from orchestration.submission.reviewer import as_toml
from orchestration.verification import before, service
from orchestration.verification.answer import Answer as Answered
from orchestration.verification.answer import Fresh, Interval, Word, answer_of, interval_of
from orchestration.verification.planning import Asked, Entry, entries, nonce_of
from orchestration.verification.queue import Queue
from orchestration.verification.recorded import Claim
from orchestration.verification.rerun import spent_of
from orchestration.verification.service import Service
from orchestration.verification.table import Row, rows_of, show, write
from orchestration.worker.manifest import begin, finish
from orchestration.worker.order import Ended, Sandbox
from orchestration.worker.outcome import judge as judge_log
from tests.conftest import ROOT, clean_environment, make_log, until

Made = Callable[..., Path]

TINY = '''\
"""Somebody's trainer, as short as one can be: it trains nothing and prints what a run prints."""
import os
import random
import time

seed = int(os.environ["SEED"])
value = float(os.environ.get("BASE", "1.2")) + random.Random(seed).gauss(0, 0.001)
print(f"world_size:8\\nseed:{seed}\\nTotal submission size int8+zlib: 12000000 bytes", flush=True)
for step in range(1, 4):
    print(f"step:{step}/3 train_loss:{3 - step / 10:.4f} train_time:{step}00ms", flush=True)
time.sleep(float(os.environ.get("PAUSE", "0")))
print(f"final_int8_zlib_roundtrip_exact val_loss:{value / 0.592256:.8f} val_bpb:{value:.8f}", flush=True)
'''
BROKEN = TINY.replace("import random\n", "import random\nimport no_such_module_anywhere\n")
AS_IT_IS = {1: 1.2003, 2: 1.1994, 3: 1.2011}
TOO_GOOD = {1: 1.1503, 2: 1.1494, 3: 1.1511}


@pytest.fixture
def recorded(sweep: Callable[..., Path], tmp_path: Path) -> Made:
    """Make a record as `record` writes it, of a finished sweep of runs with these values."""

    def make(name: str, values: dict[int, float], source: str = TINY, **plan: Any) -> Path:
        script = {"path": "/home/alice/train.py", "sha256": digest(source.encode()), "bytes": len(source)}
        folder = sweep(values, name=f"sweep-{name}", script=script, **{"gpus_per_run": 0, "cpus_per_run": 1} | plan)
        (folder / "script.py").write_text(source)
        control: dict[int, float] = plan.get("control", {})
        runs = [("candidate", *run) for run in values.items()] + [("control", *run) for run in control.items()]
        for arm, seed, value in runs:
            attempt = folder / arm / f"seed-{seed}" / "attempt-1"
            (attempt / "train.log").write_text(make_log(seed, value, source))
            said = json.loads((attempt / "run.json").read_text())
            files = {"train.log": {"sha256": digest((attempt / "train.log").read_bytes())}}
            (attempt / "run.json").write_text(json.dumps(said | {"host": "far", "files": files}))
        output = tmp_path / "records" / name
        words = [str(folder), "--name", name, "--author", "A. Author", "--output", str(output)]
        found = CliRunner().invoke(record_command.main, words)
        assert found.exit_code == 0, found.output
        return output

    return make


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- what is planned -----------------------------------------------------------------------------------------------------


def asked_for(record: Path, output: Path, **more: Any) -> Asked:
    return Asked(records=[record], output=output, **more)


def entry_of(record: Path, output: Path, nonce: str = "n", **more: Any) -> Entry:
    (found,) = entries(asked_for(record, output, **more), nonce)
    return found


def test_a_record_with_its_plan_is_planned_as_it_was_recorded(recorded: Made, tmp_path: Path) -> None:
    arms = {"candidate": {"env": {"BASE": "1.3", "DATA_PATH": "/far/away"}}}
    record = recorded("one", AS_IT_IS, arms=arms, cpus_per_run=3)
    found = entry_of(record, tmp_path / "out", pairs=(f"DATA_PATH={tmp_path}",))
    assert found.plan is not None
    assert found.plan.envs == {"candidate": {"BASE": "1.3", "DATA_PATH": str(tmp_path)}}
    assert (found.plan.gpus_per_run, found.plan.cpus_per_run, found.plan.sota) == (0, 3, 1.3)
    assert found.plan.design.looks == (3, 4, 5)
    assert found.plan.rules() == load("parameter-golf")
    assert (tmp_path / "out" / "sweeps" / "one" / "script.py").read_text() == TINY
    without = entry_of(record, tmp_path / "other")
    assert without.fault == "the record's DATA_PATH is /far/away, a path of its author's: give --env DATA_PATH=..."
    assert not (tmp_path / "other" / "sweeps").exists()


@pytest.mark.parametrize(
    ("design", "rules", "sota", "paired"),
    [
        ({"name": "fixed", "paired": True}, None, None, True),
        ({"name": "fixed"}, None, None, False),  # --unpaired, or of an older version
        ({"name": "fixed", "paired": True}, None, 1.3, False),  # the organiser's number, and no control
        ({"name": "fixed"}, "pairs.toml", None, True),  # the organiser's rules test pairs
        ({"name": "fixed", "paired": True}, "welch.toml", None, False),
    ],
)
def test_a_record_is_rerun_in_pairs_if_it_was_planned_so(
    recorded: Made, tmp_path: Path, design: dict[str, Any], rules: str | None, sota: float | None, paired: bool
) -> None:
    control = {seed: value + 0.03 + seed / 1e4 for seed, value in AS_IT_IS.items()}
    record = recorded("one", AS_IT_IS, sota=None, control=control, design=design)
    for name, test in (("pairs.toml", "paired by node"), ("welch.toml", "welch")):
        text = as_toml(replace(load("parameter-golf"), test=test))
        (tmp_path / name).write_text(text)
    named = None if rules is None else str(tmp_path / rules)
    found = entry_of(record, tmp_path / "out", rules=named, sota=sota)
    assert found.fault is None
    assert found.plan is not None
    assert found.plan.has_control == (sota is None)
    assert found.plan.design.paired == paired
    assert ("paired" in found.plan.table["design"]) == paired


@pytest.mark.parametrize(("sota", "arms"), [(None, ("candidate", "control")), (1.29, ("candidate",))])
def test_a_record_that_had_to_beat_both_is_rerun_with_both(
    recorded: Made, tmp_path: Path, sota: float | None, arms: tuple[str, ...]
) -> None:
    control = {seed: value + 0.03 + seed / 1e4 for seed, value in AS_IT_IS.items()}
    record = recorded("one", AS_IT_IS, sota=1.3, control=control, design={"name": "fixed", "paired": True})
    found = entry_of(record, tmp_path / "out", sota=sota)
    assert found.fault is None
    assert found.plan is not None
    assert (found.plan.sota, found.plan.arms) == (sota or 1.3, arms)
    assert found.plan.design.paired == (sota is None)


def test_the_second_run_of_a_pair_leaves_other_records_their_room(recorded: Made, tmp_path: Path) -> None:
    control = {seed: value + 0.03 + seed / 1e4 for seed, value in AS_IT_IS.items()}
    record = recorded("one", AS_IT_IS, sota=None, control=control, design={"name": "fixed", "paired": True})
    found = asked_for(record, tmp_path / "out")
    queue = Queue(entries(found, "n"), found)
    rerun = queue.driver_of(queue.places[0])
    orders = list[Any]()
    pool: Any = SimpleNamespace(submit=lambda order, **_: orders.append(order), clear=orders.clear, close=lambda: None)
    rerun.pool = pool
    rerun.submit_due()
    pool.open = len(orders)
    assert len(orders) == 6
    for order in orders[:4:2]:
        rerun.started(order, "A")
    assert rerun.waits_for_room  # the third pair
    rerun.started(orders[4], "B")
    assert not rerun.waits_for_room
    rerun.plan = replace(rerun.plan, design=replace(rerun.plan.design, paired=False))
    assert rerun.waits_for_room
    queue.end(rerun, "the test is over")


def test_seeds_are_fresh_and_depend_on_the_nonce(recorded: Made, tmp_path: Path) -> None:
    record = recorded("one", AS_IT_IS)
    plans = [entry_of(record, tmp_path / nonce, nonce).plan for nonce in ("a", "b")]
    again = entry_of(record, tmp_path / "a", "a").plan
    assert plans[0] is not None
    assert plans[1] is not None
    assert again == plans[0]
    assert not set(plans[0].seeds) & set(plans[1].seeds)
    assert not set(plans[0].seeds) & set(AS_IT_IS)
    assert plans[0].seeds_are == "derived"
    assert derive_seeds(plans[0].table, 5) == list(plans[0].seeds)


def test_a_record_without_a_plan_gets_its_scripts_defaults(record: Made, tmp_path: Path) -> None:
    found = entry_of(record(AS_IT_IS), tmp_path / "out", sota=1.3)
    assert found.plan is not None
    assert found.recorded is not None
    assert found.plan.envs == {"candidate": {}}
    assert found.plan.gpus_per_run == 8  # the world size of its logs, which name a GPU
    assert found.recorded.notes == ("recipe not recorded: the script's defaults",)
    assert found.recorded.claim.run_s == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "train_gpt.py").unlink(), "no script in it has the SHA-256 of its plan"),
        (lambda folder: (folder / "train_gpt.py").write_text(BROKEN), "no script in it has the SHA-256 of its plan"),
        (lambda folder: (folder / "plan.json").unlink(), "What is to be beaten?"),
        (lambda folder: [log.unlink() for log in folder.glob("*.log")], "its own runs claim nothing"),
    ],
)
def test_a_record_that_cannot_be_planned_says_why(
    recorded: Made, tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    folder = recorded("one", AS_IT_IS)
    change(folder)
    found = entry_of(folder, tmp_path / "out")
    assert words in (found.fault or "")


def test_scripts_to_choose_from_are_refused(record: Made, tmp_path: Path) -> None:
    folder = record(AS_IT_IS)
    (folder / "other.py").write_text(BROKEN)
    found = entry_of(folder, tmp_path / "out", sota=1.3)
    assert "its script must be the only *.py at its top; it has: other.py, train_gpt.py" in (found.fault or "")


def test_an_author_does_not_bring_the_rules(recorded: Made, tmp_path: Path) -> None:
    table = asdict(load("parameter-golf")) | {"alpha": 0.3}
    folder = recorded("one", AS_IT_IS, ruleset=table)
    assert "Name the rules with --rules" in (entry_of(folder, tmp_path / "out").fault or "")
    named = entry_of(folder, tmp_path / "named", rules="parameter-golf")
    assert named.plan is not None
    assert named.plan.rules().alpha == 0.01


@pytest.mark.parametrize(
    "plan",
    [
        {"gpus_per_run": -1}, {"cpus_per_run": -1}, {"cpus_per_run": 10**30},
        {"arms": {"candidate": {"env": {"A\ud800": "1"}}}}, {"arms": {"candidate": {"env": {"A": "\ud800"}}}},
        {"arms": {"candidate": {"env": {"A": {"b": []}, 'B = "1"\nSEED': "1"}}}}, {"accelerator_type": "\ud800"},
    ],
)  # fmt: skip
def test_hostile_values_of_a_plan_stop_only_their_record(recorded: Made, tmp_path: Path, plan: dict[str, Any]) -> None:
    folder = recorded("one", AS_IT_IS)
    table = json.loads((folder / "plan.json").read_text()) | plan
    (folder / "plan.json").write_text(json.dumps(table | {"sha256": plan_digest(table)}))
    fault = entry_of(folder, tmp_path / "out").fault
    assert fault
    assert printable(fault).encode()
    assert not (tmp_path / "out" / "sweeps").exists()


def test_a_module_that_links_to_the_machine_is_not_shown_to_the_script(record: Made, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the organiser's")
    folder = record(AS_IT_IS)
    (folder / "train_gpt.py").write_text("import helper\n" + TINY)
    os.symlink(tmp_path / "secret", folder / "helper.py")
    found = entry_of(folder, tmp_path / "out", sota=1.3)
    assert found.fault == "helper.py is a link that leads out of the record: put the file in its place."
    assert not (tmp_path / "out" / "sweeps").exists()


def test_another_command_does_not_go_on_with_a_folder(recorded: Made, tmp_path: Path) -> None:
    folder, output = recorded("one", AS_IT_IS), tmp_path / "out"
    assert nonce_of(output, None) == nonce_of(output, None)
    with pytest.raises(UsageError, match="was begun with the nonce"):
        nonce_of(output, "another")
    entry_of(folder, output)
    with pytest.raises(UsageError, match="with other options"):
        entry_of(folder, output, sota=1.4)
    with pytest.raises(UsageError, match="was not made by this command"):
        nonce_of(tmp_path / "records", None)
    with pytest.raises(UsageError, match="Two records are called one"):
        entries(Asked(records=[folder, folder], output=output), "n")


# -- what is answered ----------------------------------------------------------------------------------------------------


def claim_of(*values: float) -> Claim:
    sd = stdev(values) if len(values) > 1 else None
    return Claim(metric="val_bpb", values=values, sd=sd or None, run_s=6.0, gate="supported", error_codes=())


def judged(verdict: Answer, *tries: Tried) -> Any:
    message = "Found an attempt that ended so"
    finding = Finding(code=Code.ATTEMPTS_REMADE, severity=ERROR, file="train.log", line=1, message=message)
    runs = [SimpleNamespace(attempts=tries)]
    return SimpleNamespace(
        verdict=verdict, reason="Because.", findings=[finding] if tries else [], runs=runs, control=[]
    )


def tries(state: str, reason: str) -> list[Tried]:
    first = Tried(arm="candidate", seed=1, attempt=1, state=state, reason=reason)
    return [first, Tried(arm="candidate", seed=1, attempt=2, state="succeeded")]


REMADE = judged(Answer.SUPPORTED, *tries("lost", "a rank was killed by SIGKILL"))
OURS = judged(Answer.SUPPORTED, *tries("stopped", "Ray's head no longer answers"))
CAPPED = judged(Answer.SUPPORTED)
CAPPED.findings.append(Finding(code=Code.TIME_OVER_CAP, severity=ERROR, file="train.log", line=1, message="Too long."))
GOOD, BAD, OPEN = (judged(word) for word in (Answer.SUPPORTED, Answer.NOT_SUPPORTED, Answer.CONTINUE))


@pytest.mark.parametrize(
    ("fresh", "word", "why"),
    [
        (Fresh(values=(1.2, 1.201, 1.199), verdict=GOOD), Word.HOLDS_UP, "is inside"),
        (Fresh(values=(1.1, 1.101, 1.099), verdict=GOOD), Word.HOLDS_UP, "is better than"),
        (Fresh(values=(1.25, 1.251, 1.249), verdict=GOOD), Word.DOES_NOT_HOLD_UP, "worse than the author's runs allow"),
        (Fresh(values=(1.2, 1.201, 1.199), verdict=BAD), Word.DOES_NOT_HOLD_UP, "do not support"),
        (Fresh(values=(1.2,), failed="seed 5: NaN", trained=True), Word.DOES_NOT_HOLD_UP, "seed 5: NaN"),
        (Fresh(failed="seed 5: ImportError", trained=False), Word.CANNOT_TELL, "seed 5: ImportError"),
        (Fresh(over="The budget is spent"), Word.CANNOT_TELL, "The budget is spent. There is no fresh result."),
        (Fresh(values=(1.2, 1.2, 1.2), verdict=OPEN, over="The budget is spent"), Word.CANNOT_TELL, "3 fresh results"),
        (Fresh(values=(1.2, 1.2, 1.2), verdict=OPEN), Word.NOT_YET, ""),
        (Fresh(), Word.NOT_YET, ""),
        (Fresh(values=(1.2, 1.201, 1.199), verdict=REMADE), Word.CANNOT_TELL, "an attempt that ended"),
        (Fresh(values=(1.2, 1.201, 1.199), verdict=OURS), Word.HOLDS_UP, "is inside"),
        (Fresh(values=(1.2, 1.201, 1.199), verdict=CAPPED), Word.CANNOT_TELL, "time-over-cap"),
        (
            Fresh(values=(1.25, 1.251, 1.249), verdict=REMADE),
            Word.DOES_NOT_HOLD_UP,
            "worse than the author's runs allow",
        ),
    ],
)
def test_the_answer_follows_from_the_runs(fresh: Fresh, word: Word, why: str) -> None:
    found = answer_of(claim_of(1.2, 1.201, 1.199), fresh)
    assert found.word == word
    assert why in found.reason


def test_one_run_of_an_author_predicts_nothing(tmp_path: Path) -> None:
    fresh = Fresh(values=(1.25, 1.251, 1.249), verdict=GOOD)
    for claim in (claim_of(1.2), claim_of(1.2, 1.2, 1.2)):
        assert interval_of(claim, fresh) is None
        assert answer_of(claim, fresh).word == Word.HOLDS_UP
    found = interval_of(claim_of(1.2, 1.201, 1.199), fresh)
    assert found is not None
    assert found.high - 1.2 == pytest.approx(9.925 * 0.001 * (2 / 3) ** 0.5, rel=1e-3)


# -- what it costs -------------------------------------------------------------------------------------------------------


def tell(directory: Path, seed: int, attempt: int, state: str, second: int, wall_s: float | None = None) -> None:
    event = {"time": f"2026-04-05T10:00:{second:02d}+00:00", "arm": "candidate", "seed": seed, "attempt": attempt}
    with open(directory / "events.jsonl", "a") as file:
        file.write(json.dumps(event | {"state": state, "wall_s": wall_s}) + "\n")


def test_the_cost_is_the_journals_over_all_drivers(tmp_path: Path) -> None:
    tell(tmp_path, 1, 1, "running", 0)
    tell(tmp_path, 1, 1, "succeeded", 10, 10)
    tell(tmp_path, 2, 1, "running", 0)
    log = tmp_path / "candidate" / "seed-2" / "attempt-1" / "train.log"
    log.parent.mkdir(parents=True)
    log.touch()
    alive = datetime.fromisoformat("2026-04-05T10:00:04+00:00").timestamp()
    os.utime(log, (alive, alive))
    tell(tmp_path, 2, 1, "lost", 50)  # its driver was dead for long before the next one told
    found = spent_of(tmp_path, None)
    assert found.all_s == pytest.approx(14)
    assert found.done_s == (10.0,)
    assert found.mean_s == 10
    assert spent_of(tmp_path / "nothing", None).all_s == 0


def queue_of(recorded: Made, tmp_path: Path, budget: float | None) -> Queue:
    found = entries(asked_for(recorded("one", AS_IT_IS), tmp_path / "out"), "n")
    return Queue(found, asked_for(tmp_path, tmp_path / "out", budget=budget))


@pytest.mark.parametrize(("budget_s", "runs", "pays"), [(20, 3, True), (17, 3, False), (17, 2, True), (None, 99, True)])
def test_the_budget_pays_by_the_records_own_time(
    recorded: Made, tmp_path: Path, budget_s: float | None, runs: int, pays: bool
) -> None:
    queue = queue_of(recorded, tmp_path, None if budget_s is None else budget_s / 3600)
    assert queue.may_spend(queue.places[0], runs) is pays  # the record's logs say 6 s a run
    assert not queue.overspent


def test_what_was_spent_before_counts(recorded: Made, tmp_path: Path) -> None:
    queue = queue_of(recorded, tmp_path, 60 / 3600)
    directory = queue.places[0].entry.directory
    assert directory is not None
    tell(directory, 1, 1, "running", 0)
    tell(directory, 1, 1, "succeeded", 30, 30)
    assert queue.left_s() == pytest.approx(30)
    assert queue.may_spend(queue.places[0], 1)  # by the mean so far
    assert not queue.may_spend(queue.places[0], 2)
    tell(directory, 2, 1, "running", 0)
    tell(directory, 2, 1, "failed", 59, 59)
    assert queue.overspent


class Room:
    """A pool that makes every run at once: value by seed, None for one that fails."""

    def __init__(self, listener: Any, value: Callable[[int], float | None]) -> None:
        self.listener, self.value, self.queue = listener, value, list[Any]()

    @property
    def open(self) -> int:
        return len(self.queue)

    def submit(self, order: Any, **more: Any) -> None:
        self.queue.append(order)

    def clear(self) -> None:
        self.queue.clear()

    def close(self) -> None:
        self.queue.clear()

    def show(self, *more: Any) -> None: ...

    def poll(self) -> None:
        order = self.queue.pop(0)
        self.listener.started(order, "node")
        order.folder.mkdir(parents=True)
        value = self.value(order.seed)
        text = (
            "Traceback (most recent call last):\nImportError: no module x\n"
            if value is None
            else make_log(order.seed, value, TINY)
        )
        (order.folder / "train.log").write_text(text)
        table = begin(order, ["torchrun"], {}, "node")
        manifest = finish(
            order, table, judge_log(order.folder / "train.log", int(value is None), order.seed, order.rules)
        )
        self.listener.ended(order, "node", Ended(state=manifest.state, reason=manifest.reason, manifest=manifest))


def finished(
    queue: Queue, values: dict[str, Callable[[int], float | None]], monkeypatch: pytest.MonkeyPatch
) -> list[Row]:
    def pool(size: Any, listener: Any, **more: Any) -> Room:
        return Room(listener, values[listener.progress.name])

    monkeypatch.setitem(sys.modules, "orchestration.driver.engine", SimpleNamespace(Pool=pool))
    while queue.turn():
        pass
    return rows_of(queue)


def near(base: float) -> Callable[[int], float]:
    return lambda seed: base + seed % 100 / 1e5


def test_a_queue_answers_for_every_record(recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"honest": AS_IT_IS, "too-good": TOO_GOOD, "broken": AS_IT_IS}
    asked = Asked(records=[recorded(name, values) for name, values in names.items()], output=tmp_path / "out")
    values: dict[str, Callable[[int], float | None]] = {
        "honest": near(1.2), "too-good": near(1.2), "broken": lambda seed: None,
    }  # fmt: skip
    queue = Queue(entries(asked, "n"), asked)
    rows = {row.record: row for row in finished(queue, values, monkeypatch)}
    assert {name: row.answer.word for name, row in rows.items()} == {
        "honest": Word.HOLDS_UP,
        "too-good": Word.DOES_NOT_HOLD_UP,
        "broken": Word.CANNOT_TELL,
    }
    assert rows["honest"].fresh_n == 3
    assert "prediction interval" in rows["too-good"].answer.reason
    assert "ImportError: no module x" in rows["broken"].answer.reason
    again = Queue(entries(asked, "n"), asked)  # the same command again: nothing is run twice
    assert [row.answer for row in finished(again, {}, monkeypatch)] == [row.answer for row in rows.values()]


def test_a_budget_that_pays_for_no_look_buys_nothing(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of(recorded, tmp_path, 17 / 3600)
    (row,) = finished(queue, {"one": near(1.2)}, monkeypatch)
    assert row.answer.word == Word.CANNOT_TELL
    assert "The budget does not pay for the next look" in row.answer.reason
    assert row.fresh_n == 0


def test_a_record_in_use_does_not_stop_the_queue(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(records=[recorded("one", AS_IT_IS), recorded("two", AS_IT_IS)], output=tmp_path / "out")
    queue = Queue(entries(asked, "n"), asked)
    held = Lock(tmp_path / "out" / "sweeps" / "one")
    rows = finished(queue, {"two": near(1.2)}, monkeypatch)
    held.release()
    assert [row.answer.word for row in rows] == [Word.CANNOT_TELL, Word.HOLDS_UP]
    assert "is in use" in rows[0].answer.reason


def test_a_head_that_is_gone_leaves_named_states(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_all(room: Room) -> None:
        for order in room.queue:
            room.listener.started(order, "node")

    def pool(size: Any, listener: Any, **more: Any) -> Room:
        return Room(listener, near(1.2))

    monkeypatch.setitem(sys.modules, "orchestration.driver.engine", SimpleNamespace(Pool=pool))
    queue = queue_of(recorded, tmp_path, None)
    with monkeypatch.context() as held:
        held.setattr(Room, "poll", begin_all)
        queue.turn()
        (rerun,) = [place.rerun for place in queue.active]
        assert rerun is not None
        queue.abandon()
    rerun.lock.release()
    events = [json.loads(line) for line in rerun.journal.path.read_text().splitlines()]
    assert [event["state"] for event in events] == ["running"] * 3 + ["stopped"] * 3
    assert {event["reason"] for event in events[3:]} == {"Ray's head no longer answers"}
    again = Queue([queue.places[0].entry], queue.asked)
    (row,) = finished(again, {"one": near(1.2)}, monkeypatch)
    assert row.answer.word == Word.HOLDS_UP


def test_an_answer_does_not_rest_on_a_journal_that_was_edited(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of(recorded, tmp_path, None)
    journal = tmp_path / "out" / "sweeps" / "one" / "events.jsonl"

    def value(seed: int) -> float:
        if journal.read_text().count("succeeded") == 2:  # the last run that is needed
            journal.write_text(journal.read_text().replace("1.2", "1.1"))
        return near(1.2)(seed)

    (row,) = finished(queue, {"one": value}, monkeypatch)
    assert row.answer.word == Word.CANNOT_TELL
    assert str(journal) in row.answer.reason


# -- before training is bought -------------------------------------------------------------------------------------------


def node(name: str, missing: tuple[str, ...] = (), no_sandbox: str | None = None, cpus: int = 2) -> Any:
    holds = lambda size: int(cpus // size.cpus if not size.gpus else 0)  # noqa: E731
    there = SimpleNamespace(name=name, resources={"CPU": cpus}, holds=holds)
    said = before.Seen(no_sandbox=no_sandbox, missing=frozenset(missing))
    return SimpleNamespace(node=there, said=said, fault=None)


def test_what_a_cluster_lacks_is_said_before_anything_runs(recorded: Made, tmp_path: Path) -> None:
    arms = {"candidate": {"env": {"DATA_PATH": str(tmp_path)}}}
    pairs, folder = (f"DATA_PATH={tmp_path}",), recorded("one", AS_IT_IS, arms=arms)
    asked = asked_for(folder, tmp_path / "out", sandbox=Sandbox.REQUIRE, pairs=pairs)
    (entry,) = entries(asked, "n")
    assert before.lacking(entry, [node("a"), node("b")], asked) is None
    missing = before.lacking(entry, [node("a"), node("b", missing=(str(tmp_path),))], asked)
    assert missing == f"DATA_PATH is {tmp_path}, which is not on node b: put it there, or give --env DATA_PATH=..."
    small = before.lacking(entry, [node("a", cpus=0)], asked)
    assert small is not None
    assert small.startswith("A run asks for 1 CPU on one node")
    none = before.lacking(entry, [node("a", no_sandbox="not permitted")], asked)
    assert none == "No node can make a sandbox: not permitted."
    assert "not permitted" in before.sandbox_notes([node("a", no_sandbox="not permitted")], asked)[0]
    assert before.look([str(tmp_path), "/not/there"], try_sandbox=False).missing == {"/not/there"}


def test_an_artifact_that_contradicts_the_claim(recorded: Made, tmp_path: Path) -> None:
    folder = recorded("one", AS_IT_IS)
    assert before.evaluation(entry_of(folder, tmp_path / "out"), Sandbox.NONE) is None
    (folder / "final_model.int8.ptz").write_bytes(b"no artifact")
    unpaid = before.evaluation(entry_of(folder, tmp_path / "out"), Sandbox.NONE)
    assert isinstance(unpaid, before.Evaluated)
    assert "--env DATA_PATH" in (unpaid.fault or "")
    entry = entry_of(folder, tmp_path / "two", pairs=(f"DATA_PATH={tmp_path}", f"TOKENIZER_PATH={tmp_path}"))
    assert callable(before.evaluation(entry, Sandbox.NONE))
    assert before.contradiction(entry, before.Evaluated(value=1.2018)) is None
    assert before.contradiction(entry, before.Evaluated(fault="why")) is None
    assert "Training was not bought" in (before.contradiction(entry, before.Evaluated(value=1.21)) or "")


def test_an_evaluation_is_read_and_confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], **more: Any) -> Any:
        asked.append(words)
        return SimpleNamespace(stdout="evaluated val_loss:2.5 val_bpb:1.25\n", stderr="", returncode=0)

    monkeypatch.setattr(before.subprocess, "run", run)
    monkeypatch.setattr(before.sandbox, "fault", lambda: None)
    env = {"DATA_PATH": "/data", "TOKENIZER_PATH": "/tokens"}
    assert before.evaluate(b"x", env, "val_bpb", Sandbox.NONE).value == 1.25
    assert before.evaluate(b"x", env, "val_loss", Sandbox.REQUIRE).value == 2.5
    assert [any("sandbox.py" in word for word in words) for words in asked] == [False, True]
    monkeypatch.setattr(before.sandbox, "fault", lambda: "not permitted")
    assert before.evaluate(b"x", env, "val_bpb", Sandbox.AUTO).value == 1.25
    assert (
        before.evaluate(b"x", env, "val_bpb", Sandbox.REQUIRE).fault == "this node can make no sandbox: not permitted"
    )
    assert len(asked) == 3
    failed = SimpleNamespace(stdout="", stderr="Traceback\nSettingsError: no artifact\n", returncode=1)
    monkeypatch.setattr(before.subprocess, "run", lambda *words, **more: failed)
    assert before.evaluate(b"x", env, "val_bpb", Sandbox.NONE).fault == "SettingsError: no artifact"


def served(records: list[Path], output: Path, monkeypatch: pytest.MonkeyPatch, scores: float | None = None) -> Service:
    """A verification on a stand-in for Ray: two nodes, runs near 1.2, and artifacts that score so."""

    @contextmanager
    def cluster(head_gone: Any) -> Iterator[Any]:
        yield SimpleNamespace(causes=None)

    def pool(size: Any, listener: Any, **more: Any) -> Room:
        return Room(listener, near(1.2))

    nodes = SimpleNamespace(
        ask_nodes=lambda question: [node("a"), node("b")],
        ask=lambda question, size, within_s: before.Evaluated(value=scores),
    )
    for name, stand_in in (("engine", SimpleNamespace(Pool=pool)), ("nodes", nodes)):
        monkeypatch.setitem(sys.modules, f"orchestration.driver.{name}", stand_in)
    monkeypatch.setitem(sys.modules, "orchestration.driver.start.connect", SimpleNamespace(cluster=cluster))
    monkeypatch.setattr(service, "prepare_ray", lambda: None)
    monkeypatch.setattr(service, "end_on_signals", lambda: None)
    pairs = () if scores is None else (f"DATA_PATH={output.parent}", f"TOKENIZER_PATH={output.parent}")
    return Service(Asked(records=records, output=output, pairs=pairs), nonce_of(output, "n"), "again")


@pytest.mark.parametrize(("claimed", "code"), [(AS_IT_IS, 0), (TOO_GOOD, 1)], ids=["holds up", "does not"])
def test_the_exit_code_says_whether_every_claim_holds_up(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: dict[int, float], code: int
) -> None:
    assert served([recorded("one", claimed)], tmp_path / "out", monkeypatch).run() == code


def test_what_cannot_be_rerun_is_told_without_ray(command: Callable[..., Any], recorded: Made, tmp_path: Path) -> None:
    arms = {"candidate": {"env": {"DATA_PATH": "/far/away"}}}
    found = command("orchestration.verify", recorded("one", AS_IT_IS, arms=arms), "--output", tmp_path / "out")
    assert found.returncode == 3, found.stderr
    assert "Starting Ray" not in found.stdout
    (row,) = json.loads((tmp_path / "out" / "verify.json").read_text())["records"]
    assert row["verdict"] == "cannot tell"
    assert "DATA_PATH is /far/away" in row["reason"]


def test_training_is_not_bought_against_an_artifact_that_contradicts(
    recorded: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded("one", AS_IT_IS)
    (folder / "final_model.int8.ptz").write_bytes(b"an artifact")
    assert served([folder], tmp_path / "bad", monkeypatch, scores=1.3).run() == 1
    assert not list((tmp_path / "bad" / "sweeps").glob("*/candidate"))
    good = served([folder], tmp_path / "good", monkeypatch, scores=1.2)
    assert good.run() == 0
    (row,) = json.loads((tmp_path / "good" / "verify.json").read_text())["records"]
    assert row["artifact"] == "scores 1.200000"
    assert row["fresh_n"] == 3


# -- how it is shown -----------------------------------------------------------------------------------------------------


def test_every_view_shows_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interval = Interval(level=0.99, low=1.19, high=1.21)
    rows = [
        Row(
            record="a<b>|[red]", claim_mean=1.2, claim_n=3, fresh_mean=1.201, fresh_n=3, interval=interval, hours=0.5,
            answer=Answered(word=Word.HOLDS_UP, reason="It does."), state="over", check="supported",
        ),
        Row(record="b", answer=Answered(word=Word.NOT_YET, reason=""), state="waits", place=2),
    ]  # fmt: skip
    write(tmp_path, rows, "n0nce", "python -m orchestration.verify a b")
    table = json.loads((tmp_path / "verify.json").read_text())
    assert table["nonce"] == "n0nce"
    documented = (ROOT / "docs" / "json.md").read_text()
    assert not [key for key in (*table, *table["records"][0]) if f"`{key}`" not in documented]
    assert [one["verdict"] for one in table["records"]] == ["holds up", "not yet"]
    assert table["records"][0]["interval"] == {"level": 0.99, "low": 1.19, "high": 1.21}
    assert "a&lt;b&gt;" in (tmp_path / "verify.html").read_text()
    show(rows)
    for text in ((tmp_path / "verify.md").read_text(), (tmp_path / "verify.html").read_text(), capsys.readouterr().out):
        text = html.unescape(text).replace("\\", "")
        for word in ("1.200000 (n 3)", "1.201000 (n 3)", "1.19000 to 1.21000", "holds up", "0.5 CPU-hours", "place 2"):
            assert word in text


def test_usage_errors(command: Callable[..., Any], recorded: Made, tmp_path: Path) -> None:
    folder = recorded("one", AS_IT_IS)
    for more, words in (
        (("--env", "A"), "KEY=VALUE"),
        (("--max-seeds", "2"), "3<=x<=30"),
        (("--nonce", " "), "--nonce"),
        (("--rules", "golf"), "neither a ruleset"),
        (("--sota", "-1"), "--sota is -1"),
    ):
        found = command("orchestration.verify", folder, "--output", tmp_path / more[0], *more)
        assert found.returncode == 2, found.stderr
        assert words in found.stderr
    assert not (tmp_path / "--rules").exists()
    assert not (tmp_path / "--sota").exists()


# -- whole verifications -------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(private_ray: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head on which nothing runs, and two nodes."""
    for name, value in private_ray.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(num_cpus=2)
        found.environment = clean_environment() | private_ray | {"RAY_ADDRESS": found.address}
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def three(recorded: Made) -> list[Path]:
    return [recorded("honest", AS_IT_IS), recorded("too-good", TOO_GOOD), recorded("broken", AS_IT_IS, BROKEN)]


def start(records: list[Path], output: Path, environment: dict[str, str], log: Path, *more: str) -> Any:
    words = [sys.executable, "-m", "orchestration.verify", *map(str, records), "--output", str(output), *more]
    with open(log, "ab") as out:
        return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=out, stderr=out)


def right(output: Path, log: str) -> None:
    """Check the three answers, that no seed has two results, and that every view has the cost."""
    table = json.loads((output / "verify.json").read_text())
    rows = {row["record"]: row for row in table["records"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "honest": "holds up",
        "too-good": "does not hold up",
        "broken": "cannot tell",
    }
    assert "no_such_module_anywhere" in rows["broken"]["reason"]
    assert rows["honest"]["fresh_n"] == rows["too-good"]["fresh_n"] == 3
    assert rows["broken"]["fresh_n"] == 0
    assert rows["too-good"]["fresh_mean"] > rows["too-good"]["interval"]["high"]
    assert all(row["hours"] > 0 and row["place"] == 0 for row in rows.values())
    for sweep in (output / "sweeps").iterdir():
        events = [json.loads(line) for line in (sweep / "events.jsonl").read_text().splitlines()]
        done = [event["seed"] for event in events if event["state"] in ("succeeded", "failed")]
        assert len(done) == len(set(done)), sweep
        assert not set(done) & set(AS_IT_IS)
    assert f"Cost: {table['cost']}" in log
    assert table["cost"] in (output / "verify.html").read_text()


@pytest.mark.slow
def test_three_records_on_two_nodes_killed_and_continued(cluster: Any, three: list[Path], tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    more = ("--env", "PAUSE=1", "--budget", "1")
    process = start(three, output, cluster.environment, log, *more)
    try:
        until(lambda: any(b"succeeded" in one.read_bytes() for one in output.glob("sweeps/*/events.jsonl")), log=log)
    finally:
        process.kill()
        process.wait()
    before_it = (output / "sweeps" / "honest" / "events.jsonl").read_text().splitlines()
    process = start(three, output, cluster.environment, log, *more)
    try:
        assert process.wait(300) == 1, log.read_text()
    finally:
        process.kill()
    assert (output / "sweeps" / "honest" / "events.jsonl").read_text().splitlines()[: len(before_it)] == before_it
    right(output, log.read_text())
