"""All sweeps below a folder: the list, the table, the index page, one frame of all; and how a driver is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow.dataset
import pytest

from analysis.reading.result import COLUMNS
from analysis.sweepdir.plan import plan_digest
from orchestration.disk import lock as lock_module
from orchestration.disk.lock import Lock, read_owner
from orchestration.driver.care import Care
from orchestration.driver.head import prepare_ray, where_dashboard
from orchestration.overview import show as show_module
from orchestration.overview import stop as stop_module
from orchestration.overview.find import sweeps_below
from orchestration.overview.stop import holds, sweep_called
from tests.conftest import ROOT, clean_environment, until
from tests.orchestration.test_sweep import sweep_arguments

Run = Callable[..., subprocess.CompletedProcess[str]]
Make = Callable[..., Path]
VALUES = {1: 1.2, 2: 1.201, 3: 1.202}


@pytest.fixture
def many(sweep: Make, tmp_path: Path) -> Path:
    """A folder with a finished sweep, one without a run, one with a damaged plan, and what is no sweep of its own."""
    root = tmp_path / "root"
    for group in ("a", "b", ".hidden"):
        (root / group).mkdir(parents=True)
    sweep(VALUES, name="root/a/done", control=VALUES)
    sweep({}, name="root/b/new", seeds=[1, 2], looks=[2])
    shutil.copytree(root / "a/done", root / "a/done/copy")
    shutil.copytree(root / "a/done", root / ".hidden/old")
    damaged = sweep({1: 1.2, 2: None}, name="root/b/damaged")
    text = (damaged / "plan.json").read_text()
    (damaged / "plan.json").write_text(text.replace('"given"', '"derived"'))
    (root / "b/elsewhere").symlink_to(root / "a")
    return root


def listed(command: Run, root: Path) -> dict[str, dict[str, Any]]:
    found = command("orchestration.sweep", "list", root, "--format", "json")
    assert found.returncode == 0, found.stderr
    return {row["sweep"]: row for row in json.loads(found.stdout)}


def elsewhere(directory: Path, **changes: object) -> None:
    """Leave a lock that a driver of another host holds."""
    owner = {"sweep": "S", "driver": "D", "host": "other", "pid": 77, "user": "u", "since": "then"} | changes
    (directory / "sweep.lock").write_text(json.dumps(owner))


def set_age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


# -- the list ----------------------------------------------------------------------------------------------------------


def test_every_sweep_below_a_folder_is_listed_once(command: Run, many: Path) -> None:
    rows = listed(command, many)
    assert [*rows] == ["a/done", "b/damaged", "b/new"]
    done, new, damaged = rows["a/done"], rows["b/new"], rows["b/damaged"]
    assert (done["rules"], done["design"], done["done"], done["runs"]) == ("parameter-golf", "fixed", 6, 6)
    assert (done["failed"], done["running"], done["lost"], done["verdict"], done["driver"]) == (0, 0, 0, None, None)
    assert done["plan_sha256"] == json.loads((many / "a/done/plan.json").read_text())["sha256"]
    assert (new["design"], new["done"], new["runs"]) == ("sequential", 0, 2)
    assert "was changed after it was frozen" in damaged["fault"]
    assert {damaged[name] for name in ("runs", "done", "verdict", "plan_sha256")} == {None}
    text = command("orchestration.sweep", "list", many).stdout.splitlines()
    assert [line.split()[0] for line in text] == ["sweep", "a/done", "b/new", "b/damaged:"]


def test_a_paired_sweep_is_listed_as_such(command: Run, sweep: Make, tmp_path: Path) -> None:
    sweep(VALUES, name="one", sota=None, control=VALUES, design={"name": "fixed", "paired": True})
    sweep(VALUES, name="two")
    rows = listed(command, tmp_path)
    assert [(row["design"], row["paired"]) for row in rows.values()] == [("fixed", True), ("fixed", False)]
    for words in (("list", tmp_path), ("status", tmp_path)):
        text = command("orchestration.sweep", *words).stdout
        assert text.count("fixed, in pairs") == 1


def test_a_sweep_that_lost_its_plan_is_listed_as_damaged(command: Run, sweep: Make, tmp_path: Path) -> None:
    folder = sweep(VALUES, name="lost")
    (folder / "plan.json").unlink()
    assert listed(command, tmp_path) == {}  # logs of anybody's
    for name in ("events.jsonl", "sweep.lock"):
        (folder / name).touch()
    assert "it has no plan.json" in listed(command, tmp_path)["lost"]["fault"]


def test_a_folder_without_sweeps_is_an_empty_list_and_nothing_to_show(command: Run, tmp_path: Path) -> None:
    assert listed(command, tmp_path) == {}
    for verb in ("status", "collect"):
        found = command("orchestration.sweep", verb, tmp_path)
        assert found.returncode == 2
        assert "is not a sweep directory: it has no plan.json, and no folder below it is one" in found.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_said(command: Run, many: Path) -> None:
    (many / "b").chmod(0)
    try:
        assert listed(command, many)["b"]["fault"] == "cannot be read: Permission denied"
    finally:
        (many / "b").chmod(0o755)


def test_the_verdict_is_the_last_one_unless_runs_changed_after_it(command: Run, sweep: Make, tmp_path: Path) -> None:
    folder = sweep(VALUES)
    for gate, shown in (("supported", "supported"), ("refused", "refused"), ("\x1b[1m", None), (7, None)):
        (folder / "verdict.json").write_text(json.dumps({"verdict": "supported", "gate": gate}))
        assert listed(command, tmp_path)["sweep"]["verdict"] == shown
    (folder / "verdict.json").write_text(json.dumps({"gate": "supported"}))
    (folder / "events.jsonl").touch()
    set_age(folder / "verdict.json", 60)
    assert listed(command, tmp_path)["sweep"]["verdict"] is None
    set_age(folder / "events.jsonl", 90)
    assert listed(command, tmp_path)["sweep"]["verdict"] == "supported"
    (folder / "verdict.json").write_text("{")
    assert listed(command, tmp_path)["sweep"]["verdict"] is None


def test_who_drives_a_sweep_is_listed_and_a_run_that_nobody_drives_is_lost(
    command: Run, sweep: Make, tmp_path: Path
) -> None:
    folder = sweep(VALUES)
    (folder / "candidate/seed-2/attempt-1/run.json").unlink()
    row = listed(command, tmp_path)["sweep"]
    assert (row["done"], row["running"], row["lost"], row["driver"]) == (2, 0, 1, None)
    elsewhere(folder, job="raysubmit_1")
    row = listed(command, tmp_path)["sweep"]
    assert (row["done"], row["running"], row["lost"]) == (2, 1, 0)
    assert row["driver"] == "process 77 of u on other (Ray job raysubmit_1), since then"


def test_no_log_is_opened_for_the_list(command: Run, many: Path) -> None:
    for log in (many / "a/done").glob("*/*/*/train.log"):
        log.unlink()
        os.mkfifo(log)  # whoever opens it waits
    assert listed(command, many)["a/done"]["done"] == 6


# -- the index page ----------------------------------------------------------------------------------------------------


def test_the_index_page_links_every_report_and_shows_names_literally(command: Run, sweep: Make, tmp_path: Path) -> None:
    names = ["plain", "<b>#1 100%", "javascript:alert(1)", "::error::x\x1b[1m"]
    (tmp_path / "root").mkdir()
    for name in names:
        (sweep(VALUES, name=f"root/{name}") / "report.html").write_text("report")
    sweep(VALUES, name="root/no report")
    damaged = sweep(VALUES, name="root/<i>damaged")
    (damaged / "plan.json").write_text("<script>alert(1)</script>")
    output = tmp_path / "root" / "pages" / "index.html"
    output.parent.mkdir()
    found = command("orchestration.sweep", "list", tmp_path / "root", "--format", "html", "--output", output)
    assert found.returncode == 0, found.stderr
    page = output.read_text()
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == len(names)
    for link in links:
        assert link.startswith("../")
        assert (output.parent / unquote(link)).read_text() == "report"
    assert "<b>" not in page
    assert "<script" not in page
    assert "<i>" not in page
    assert "\x1b" not in page
    assert "no report" in page
    assert "6 sweeps at" in page


# -- the table of many, and watching it --------------------------------------------------------------------------------


def test_status_of_a_folder_shows_the_progress_of_what_runs(command: Run, sweep: Make, tmp_path: Path) -> None:
    sweep(VALUES, name="idle")
    folder = sweep(VALUES, name="busy")
    (folder / "candidate/seed-3/attempt-1/run.json").unlink()
    (folder / "candidate/seed-3/attempt-1/train.log").write_text(
        "step:7/100 train_loss:2.5 train_time:70ms step_avg:10ms\n"
    )
    elsewhere(folder)
    found = command("orchestration.sweep", "status", tmp_path)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["sweep", "busy", "idle"]
    assert lines[3:] == ["busy candidate seed 3: step 7/100, 10.0 ms/step"]


def test_watching_many_ends_with_the_last_driver(
    command: Run, sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = [Lock(sweep(VALUES, name=name)) for name in ("a", "b")]
    monkeypatch.setattr(show_module.time, "sleep", lambda _: locks.pop().release())
    found = command("orchestration.sweep", "status", tmp_path, "--watch")
    assert found.returncode == 0, found.stderr
    assert not locks
    assert found.stdout.count("driven by") == 3


# -- one frame of all --------------------------------------------------------------------------------------------------


@pytest.fixture
def readable(many: Path) -> Path:
    shutil.rmtree(many / "b/damaged")
    return many


def test_one_frame_holds_every_sweep(command: Run, readable: Path, tmp_path: Path) -> None:
    found = command("orchestration.sweep", "collect", readable, "--format", "json")
    assert (found.returncode, found.stderr) == (0, "")
    rows = json.loads(found.stdout)
    assert [*rows[0]] == ["sweep", "plan_sha256", *COLUMNS, "values", "attempts"]
    assert [row["sweep"] for row in rows] == ["a/done"] * 6 + ["b/new"] * 2
    assert len({row["plan_sha256"] for row in rows}) == 2
    csv = command("orchestration.sweep", "collect", readable).stdout.splitlines()
    assert (len(csv), csv[0].split(",")) == (9, ["sweep", "plan_sha256", *COLUMNS])
    one = json.loads(command("orchestration.sweep", "collect", readable / "a/done", "--format", "json").stdout)
    of_the_run = [*rows[0]][2:]
    assert one == [{name: row[name] for name in of_the_run} for row in rows[:6]]  # as ever
    for root in (readable, readable / "a/done"):
        written = command("orchestration.sweep", "collect", root, "--output", readable / "runs.csv")
        assert written.stderr.count("runs.csv") == 1


def test_a_dataset_is_one_table_for_pandas_arrow_and_duckdb(command: Run, readable: Path, tmp_path: Path) -> None:
    empty = json.loads((readable / "b/new/plan.json").read_text()) | {"seeds": [], "design": {"name": "fixed"}}
    (readable / "c").mkdir()
    (readable / "c/plan.json").write_text(json.dumps(empty | {"sha256": plan_digest(empty)}))
    output = tmp_path / "all"
    for _ in range(2):  # the second takes the first one's place
        found = command("orchestration.sweep", "collect", readable, "--format", "parquet", "--output", output)
        assert found.returncode == 0, found.stderr
    assert len([*output.iterdir()]) == 3
    table = pyarrow.dataset.dataset(output).to_table()
    schemas = {str(pyarrow.parquet.read_schema(part).remove_metadata()) for part in output.iterdir()}
    assert len(schemas) == 1
    frame = pd.read_parquet(output)
    assert (len(frame), table.num_rows) == (8, 8)
    assert [*frame.columns] == ["sweep", "plan_sha256", *COLUMNS]
    assert str(frame["seed"].dtype) == "Int64"
    assert dict(frame.groupby("sweep").size()) == {"a/done": 6, "b/new": 2}
    try:
        import duckdb
    except ModuleNotFoundError:
        return
    ((count,),) = duckdb.sql(f"FROM '{output}/**/*.parquet'").count("*").fetchall()
    assert count == 8


def test_a_dataset_takes_the_place_of_nothing_else(command: Run, readable: Path, tmp_path: Path) -> None:
    words = ("orchestration.sweep", "collect", readable, "--format", "parquet")
    assert "name it with --output DIR" in command(*words).stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    found = command(*words, "--output", tmp_path / "mine")
    assert found.returncode == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_sweep_that_cannot_be_read_is_left_out_and_said(command: Run, many: Path) -> None:
    (many / "a/done/candidate/seed-1/attempt-1/train.log").write_text("nothing\n")
    found = command("orchestration.sweep", "collect", many, "--format", "json")
    assert found.returncode == 3
    assert {row["sweep"] for row in json.loads(found.stdout)} == {"b/new"}
    assert "a/done is left out: " in found.stderr
    assert "b/damaged is left out: " in found.stderr
    assert "2 of 3 sweeps are left out" in found.stderr


def test_sweeps_at_a_url_are_collected_as_those_of_a_folder(
    command: Run, readable: Path, sweep: Make, record: Make, tmp_path: Path
) -> None:
    folder = record(VALUES)
    shutil.copy(readable / "a/done/plan.json", folder)
    folder.rename(readable / "record")  # which holds the plan of its runs
    (readable / "b/new/sweep.lock").touch()  # nothing ran yet
    (readable / "b/elsewhere").unlink()
    words = ("--format", "json")
    here = command("orchestration.sweep", "collect", readable, *words)
    there = command("orchestration.sweep", "collect", readable.as_uri(), *words)
    assert (there.returncode, there.stderr) == (0, "")
    assert here.stdout == there.stdout
    one = command("orchestration.sweep", "collect", (readable / "a/done").as_uri(), *words)
    assert one.stdout == command("orchestration.sweep", "collect", readable / "a/done", *words).stdout
    for url, said in (("nosuch://x", "cannot be read"), (tmp_path.joinpath("none").as_uri(), "cannot be read")):
        found = command("orchestration.sweep", "collect", url)
        assert found.returncode == 2
        assert said in found.stderr
    (tmp_path / "empty").mkdir()
    assert "There is no sweep at" in command("orchestration.sweep", "collect", (tmp_path / "empty").as_uri()).stderr


def test_a_thousand_runs_are_collected_without_a_word(command: Run, sweep: Make, tmp_path: Path) -> None:
    sweep({1: 1.2}, name="large", seeds=[*range(1, 1001)])
    sweep({1: 1.2}, name="small")
    found = command("orchestration.sweep", "collect", tmp_path, "--format", "json")
    assert (found.returncode, found.stderr, len(json.loads(found.stdout))) == (0, "", 1001)


# -- stopping a driver -------------------------------------------------------------------------------------------------


@pytest.fixture
def driven(sweep: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep with a driver: this process, which gives the lock back when it gets SIGINT."""
    folder = sweep(VALUES | {4: None}, seeds=[1, 2, 3, 4, 5])
    lock = Lock(folder)
    before = signal.signal(signal.SIGINT, lambda *_: lock.release())
    monkeypatch.setattr(stop_module, "WAIT_S", 1.0)
    yield folder
    signal.signal(signal.SIGINT, before)
    if read_owner(folder).released is None:
        lock.release()


def test_a_driver_of_this_machine_is_interrupted_and_waited_for(command: Run, driven: Path) -> None:
    found = command("orchestration.sweep", "stop", driven)
    assert found.returncode == 0, found.stderr
    assert f"Sent SIGINT to process {os.getpid()} of" in found.stderr
    assert found.stdout.splitlines()[0] == "3 of 5 runs succeeded."
    assert "orchestration.sweep resume" in found.stdout
    again = command("orchestration.sweep", "stop", driven)
    assert again.returncode == 0
    assert "No driver was running" in again.stdout


def test_a_driver_that_does_not_stop_is_said(command: Run, driven: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found = command("orchestration.sweep", "stop", driven)
    assert found.returncode == 4
    assert "is still driven after 1 s" in found.stderr


def test_a_process_that_does_not_hold_the_lock_is_left_alone(command: Run, driven: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for pid in (other.pid, 1, 0, -1):
            table = json.loads((driven / "sweep.lock").read_text()) | {"pid": pid}
            (driven / "sweep.lock").write_text(json.dumps(table))
            found = command("orchestration.sweep", "stop", driven)
            assert found.returncode == 4, pid
            assert f"names process {pid}, but" in found.stderr
            assert not holds(pid, driven / "sweep.lock")
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


def test_a_driver_elsewhere_is_named_with_the_command_that_stops_it(command: Run, sweep: Make) -> None:
    folder = sweep(VALUES)
    for changes, said in (
        ({}, "Run: ssh other kill -INT 77"),
        ({"host": "-oProxyCommand=x"}, "is driven elsewhere: process 77 of u on -oProxyCommand=x, since then.\n"),
        ({"pid": -1}, "on other, since then.\n"),
        ({"job": "raysubmit_1"}, "Run: ray job stop --address http://HEAD:8265 raysubmit_1"),
        ({"job": "--help"}, "names a Ray job that cannot exist: '--help'."),
        ({"host": socket.gethostname(), "space": f"{own_kernel()}pid:[1]"}, "in another container of this machine"),
    ):
        elsewhere(folder, **changes)
        with open(folder / "sweep.lock", "rb") as file:
            lock_module.fcntl.flock(file, lock_module.fcntl.LOCK_EX)
            found = command("orchestration.sweep", "stop", folder)
        assert found.returncode == 4, changes
        assert said in found.stderr


def own_kernel() -> str:
    return (lock_module._space() or "").partition("pid:")[0]


def test_a_ray_job_is_stopped_through_its_address(
    command: Run, sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep(VALUES)
    elsewhere(folder, job="raysubmit_1")
    (tmp_path / "bin").mkdir()
    ray = tmp_path / "bin" / "ray"
    monkeypatch.setattr(stop_module.shutil, "which", lambda name, path=None: str(ray))
    address = {"RAY_ADDRESS": "http://head:8265"}
    ray.write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    ray.chmod(0o755)
    found = command("orchestration.sweep", "stop", folder, env=address)
    assert found.returncode == 4
    assert "failed: no such job" in found.stderr
    ray.write_text(f"#!/bin/sh\necho $* > {tmp_path}/said\nrm {folder}/sweep.lock\n")
    found = command("orchestration.sweep", "stop", folder, env=address)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "said").read_text() == "job stop --address http://head:8265 raysubmit_1\n"


def test_a_sweep_is_found_by_its_name(
    command: Run, sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweeps/deep").mkdir(parents=True)
    for name in ("sweeps/one", "sweeps/deep/two", "here", "sweeps/twin", "sweeps/deep/twin"):
        sweep(VALUES, name=name)
    assert sweep_called("one") == Path("sweeps/one")
    assert sweep_called("two") == Path("sweeps/deep/two")
    assert sweep_called("here") == Path("here")
    assert sweep_called("deep/twin") == Path("sweeps/deep/twin")
    assert len(sweeps_below(Path("sweeps")).sweeps) == 4
    found = command("orchestration.sweep", "stop", "twin")
    assert found.returncode == 2
    assert "2 sweeps are called twin" in found.stderr
    found = command("orchestration.sweep", "stop", "hare")
    assert found.returncode == 2
    assert "Did you mean 'here'?" in found.stderr


# -- Ray's dashboard -----------------------------------------------------------------------------------------------


def test_the_dashboard_is_said_with_the_token_that_was_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    token = prepare_ray()
    assert token is not None
    assert os.environ["RAY_AUTH_TOKEN"] == token
    assert where_dashboard("127.0.0.1:8265", token).endswith(f"http://127.0.0.1:8265 (it asks for a token: {token})")
    assert prepare_ray() is None  # it is the user's own now
    assert where_dashboard("127.0.0.1:8265", None).endswith("http://127.0.0.1:8265")
    assert "Ray has no dashboard" in where_dashboard(None, token)


def test_how_to_go_on_names_the_dashboard_as_it_was_asked_for() -> None:
    assert Care(dashboard=True, parallel=2).words() == ["--parallel", "2", "--dashboard"]


# -- a real sweep ------------------------------------------------------------------------------------------------------

SLOW = """\
import time
print("step:7/100 val_loss:2.0833 val_bpb:1.2500 train_time:70ms step_avg:10ms", flush=True)
time.sleep(120)
"""
# the driver shows its gauges more often than every five seconds
OFTEN = "from orchestration.driver import loop; loop.GAUGE_S = 0.2; from orchestration.sweep import main; main()"


@pytest.mark.slow
def test_ray_shows_a_sweep_while_it_runs_and_stop_ends_it(
    command: Run, private_ray: dict[str, str], tmp_path: Path
) -> None:
    script, log, output = tmp_path / "slow.py", tmp_path / "driver.log", tmp_path / "out"
    script.write_text(SLOW)
    arguments = ["-c", OFTEN, *sweep_arguments(script, output, "--sota", "1.3", "--seeds", "1,", "--dashboard")[2:]]
    environment = clean_environment() | private_ray | {"RAY_metrics_report_interval_ms": "500"}
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, stdout=out, stderr=out)
    try:
        until(lambda: dashboard_of(log) or process.poll() is not None, log=log)
        url = dashboard_of(log)
        assert b"Ray Dashboard" in read(url)
        tags = ("out", "candidate", "1")
        shown = {("ray_seedproof_step", *tags): 7.0, ("ray_seedproof_val_bpb", *tags): 1.25}
        until(lambda: gauges(url) == shown, log=log)
        stopped = command("orchestration.sweep", "stop", output)
        assert stopped.returncode == 0, stopped.stderr
        assert stopped.stdout.startswith("0 of 1 runs succeeded.\n")
        assert process.wait(60) == 4
        assert json.loads((output / "candidate/seed-1/attempt-1/run.json").read_text())["state"] == "stopped"
    finally:
        process.kill()
        process.wait()


def dashboard_of(log: Path) -> str:
    found = re.search(r"Ray's dashboard: (http://\S+)$", log.read_text(), re.MULTILINE)
    return found[1] if found else ""


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        return answer.read()


def gauges(url: str) -> dict[tuple[str, ...], float]:
    """Return our gauges by name, sweep, arm and seed, from every address that a dashboard tells Prometheus of."""
    found = {}
    for target in (one for group in json.loads(read(f"{url}/api/prometheus/sd")) for one in group["targets"]):
        with contextlib.suppress(OSError):  # some are not up yet
            text = read(f"http://{target}/metrics").decode()
            for name, labels, value in re.findall(r"^(ray_seedproof_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
                tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                found[(name, tags["sweep"], tags["arm"], tags["seed"])] = float(value)
    return found
