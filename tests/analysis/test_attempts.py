"""Attempts that ended without a result, after which the seed was run again: found, shown, and counted in the worst case."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.audit import audit
from analysis.evidence.options import Options
from analysis.sweepdir.plan import read_plan
from analysis.verdict.judge import judge
from analysis.verdict.verdict import ReadingKind, Verdict
from tests.analysis.verdicts import everywhere
from tests.conftest import make_log

Folder = Callable[..., Path]
GOOD = {1: 1.2014, 2: 1.1994, 3: 1.2031}
SOTA = 1.2161
WALL = 600.0


def last_seen(bpb: float, seed: int = 1) -> str:
    """The log of a run that ended after a validation."""
    whole = make_log(seed, bpb)
    return (
        whole[: whole.index("step:100/100")]
        + f"step:60/100 val_loss:{bpb / 0.592256:.4f} val_bpb:{bpb:.4f} train_time:3600ms\n"
    )


def journal(folder: Path, *events: dict[str, Any]) -> None:
    """Write what the driver would have written: the end of each run that is there and, before those, of these attempts."""
    lines = [{"state": "lost", "reason": "its worker went away", "wall_s": 300.0, "minute": 0} | one for one in events]
    for path in sorted(folder.glob("*/seed-*/attempt-*/run.json")):
        said = json.loads(path.read_text())
        if any(
            (one["arm"], one["seed"], one["attempt"]) == (said["arm"], said["seed"], said["attempt"]) for one in lines
        ):
            continue
        log = path.with_name("train.log").read_bytes()
        named = {name: said[name] for name in ("arm", "seed", "attempt", "state")}
        lines.append(named | {"reason": None, "wall_s": WALL, "minute": int(said["started"][14:16])} | sealed(log))
    with open(folder / "events.jsonl", "w") as file:
        for one in lines:
            minute = one.pop("minute")
            common = {"arm": one["arm"], "seed": one["seed"], "attempt": one["attempt"]}
            file.write(json.dumps(common | {"time": f"2026-04-05T10:{minute:02d}:00+00:00", "state": "running"}) + "\n")
            ended = {"time": f"2026-04-05T10:{minute:02d}:59+00:00", "log_sha256": None, "last": None, "metric": None}
            file.write(json.dumps(ended | one) + "\n")


def sealed(log: bytes) -> dict[str, Any]:
    return {"log_sha256": hashlib.sha256(log).hexdigest(), "log_bytes": len(log)}


def remade(folder: Path, log: str | None, arm: str = "candidate", **event: Any) -> Path:
    """Put a lost attempt before the result of seed 1."""
    runs = folder / arm / "seed-1"
    (runs / "attempt-1").rename(runs / "attempt-2")
    table = json.loads((runs / "attempt-2/run.json").read_text()) | {"attempt": 2}
    (runs / "attempt-2/run.json").write_text(json.dumps(table))
    (runs / "attempt-1").mkdir()
    said = {"arm": arm, "seed": 1, "attempt": 1}
    if log is not None:
        (runs / "attempt-1/train.log").write_text(log)
        said |= sealed(log.encode())
    # what the script itself may have written there
    (runs / "attempt-1/run.json").write_text(
        json.dumps(said | {"state": "running", "started": "2026-04-05T10:00:00+00:00"})
    )
    journal(folder, said | event)
    return folder


def found(verdict: Verdict) -> list[tuple[str, str, int]]:
    return [(one.severity, one.file, one.line) for one in verdict.findings if one.code == "attempts-remade"]


def worst(verdict: Verdict) -> Any:
    return next((one for one in verdict.also if one.kind is ReadingKind.WORST_CASE), None)


def test_a_bad_last_value_fails_the_worst_case_and_is_an_error(sweep: Folder) -> None:
    folder = remade(sweep(GOOD, sota=SOTA), last_seen(1.25), last=1.25)
    verdict = judge((folder,))
    assert verdict.verdict == "supported"
    assert verdict.gate == "refused"
    line = last_seen(1.25).count("\n")
    assert found(verdict) == [("error", "candidate/seed-1/attempt-1/train.log", line)]
    (message,) = [one.message for one in verdict.findings if one.code == "attempts-remade"]
    assert "candidate seed 1, attempt 1: lost after 300 s" in message
    assert "1.25" in message
    reading = worst(verdict)
    assert reading.verdict == "not_supported"
    assert reading.test is not None
    everywhere(verdict)
    table = verdict.to_json()
    assert [len(run["attempts"]) for run in table["runs"]] == [2, 1, 1]
    assert table["runs"][0]["attempts"][0] == {
        "attempt": 1,
        "state": "lost",
        "reason": "its worker went away",
        "log": "candidate/seed-1/attempt-1/train.log",
        "last": 1.25,
        "wall_s": 300.0,
        "started": "2026-04-05T10:00:00+00:00",
        "ended": "2026-04-05T10:00:59+00:00",
    }
    assert [one.code for one in audit((folder,)).findings if one.code == "attempts-remade"] == ["attempts-remade"]


def test_a_last_value_with_which_the_claim_passes_is_a_warning(sweep: Folder) -> None:
    verdict = judge((remade(sweep(GOOD, sota=SOTA), last_seen(1.2030), last=1.2030),))
    assert verdict.gate == "supported"
    assert [one[0] for one in found(verdict)] == ["warning"]
    assert worst(verdict).verdict == "supported"
    assert worst(verdict).test.p_value != verdict.test.p_value  # type: ignore[union-attr]
    everywhere(verdict)


@pytest.mark.parametrize(("log", "state"), [("no value\n", "lost"), (None, "lost"), ("", "stopped")])
def test_an_attempt_without_a_value_is_a_loss(sweep: Folder, log: str | None, state: str) -> None:
    folder = remade(sweep(GOOD, sota=SOTA), log, state=state)
    if log is None:
        shutil.rmtree(folder / "candidate/seed-1/attempt-1")  # as a script can do
    verdict = judge((folder,))
    assert verdict.gate == "refused"
    reading = worst(verdict)
    assert (reading.verdict, reading.test) == ("not_supported", None)
    everywhere(verdict)


def test_an_attempt_that_ended_early_is_listed_and_not_in_the_worst_case(sweep: Folder) -> None:
    verdict = judge((remade(sweep(GOOD, sota=SOTA), "begun\n", wall_s=WALL * 0.04),))
    assert verdict.gate == "supported"
    assert [one[0] for one in found(verdict)] == ["warning"]
    assert worst(verdict) is None
    unknown = judge((remade(sweep(GOOD, "unknown", sota=SOTA), "begun\n", wall_s=None),))
    assert unknown.gate == "refused"
    hidden = judge((remade(sweep(GOOD, "hidden", sota=SOTA), make_log(1, 1.25), wall_s=1.0),))  # it had its result
    assert hidden.gate == "refused"


def test_a_good_last_value_of_the_control_counts_against_the_claim(sweep: Folder) -> None:
    control = {1: 1.2251, 2: 1.2242, 3: 1.2263}
    folder = remade(sweep(GOOD, sota=None, control=control), last_seen(1.2), arm="control", last=1.2)
    verdict = judge((folder,))
    assert verdict.verdict == "supported"
    assert [one[:2] for one in found(verdict)] == [("error", "control/seed-1/attempt-1/train.log")]
    assert worst(verdict).verdict == "not_supported"
    assert [len(run["attempts"]) for run in verdict.to_json()["control"]] == [2, 1, 1]
    bad = remade(sweep(GOOD, "bad", sota=None, control=control), last_seen(1.3), arm="control", last=1.3)
    assert judge((bad,)).gate == "supported"
    everywhere(verdict)


def test_no_attempt_was_made_again(sweep: Folder) -> None:
    folder = sweep(GOOD, sota=SOTA)
    for _ in range(2):  # without a journal, and with one
        verdict = judge((folder,))
        assert verdict.gate == "supported"
        assert found(verdict) == []
        assert worst(verdict) is None
        assert [len(run["attempts"]) for run in verdict.to_json()["runs"]] == [1, 1, 1]
        journal(folder)


def test_a_sweep_without_a_journal_is_read_from_its_files(sweep: Folder) -> None:
    folder = remade(sweep(GOOD, sota=SOTA), last_seen(1.25))
    (folder / "events.jsonl").unlink()
    path = folder / "candidate/seed-1/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "lost", "wall_s": 300.0}))
    verdict = judge((folder,))
    assert verdict.gate == "refused"
    assert worst(verdict).test is not None  # by the value that its log shows


@pytest.mark.parametrize("reason", [None, "it printed its result before this: the verdict was in"])
def test_what_a_run_prints_while_it_is_ended_counts_for_nothing(sweep: Folder, reason: str | None) -> None:
    folder = sweep(GOOD, sota=SOTA)
    log = folder / "candidate/seed-2/attempt-1/train.log"
    told = {"arm": "candidate", "seed": 2, "attempt": 1, "state": "succeeded", "reason": reason, "minute": 1}
    journal(folder, told | sealed(log.read_bytes()))
    before = judge((folder,)).mean
    with open(log, "a") as file:
        file.write("final_int8_zlib_roundtrip_exact val_loss:1.68854 val_bpb:1.00000000\n")
    verdict = judge((folder,))
    assert (verdict.gate == "supported", verdict.mean == before) == ((True, True) if reason else (False, False))
    assert ("log-clobbered" in [one.code for one in verdict.findings]) == (reason is None)


def test_a_journal_that_is_gone_or_misses_an_attempt_is_a_plan_not_followed(sweep: Folder) -> None:
    folder = sweep(GOOD, sota=SOTA, max_attempts=3)
    journal(folder)
    asked = Options(require_plan=True)
    assert judge((folder,), asked).gate == "supported"
    whole = (folder / "events.jsonl").read_text()
    (folder / "candidate/seed-3/attempt-1").rename(folder / "candidate/seed-3/attempt-2")
    second = [
        line.replace('"attempt": 1', '"attempt": 2') if '"seed": 3' in line else line for line in whole.splitlines()
    ]
    (folder / "events.jsonl").write_text("\n".join(second) + "\n")
    missing = judge((folder,), asked)
    assert missing.plan is not None
    assert missing.gate != "supported", missing.reason
    assert "the journal misses an attempt of candidate seed 3" in missing.plan.faults()
    (folder / "events.jsonl").unlink()
    gone = judge((folder,), asked)
    assert gone.plan is not None
    assert gone.gate != "supported"
    assert "journal events.jsonl is missing" in gone.plan.faults()


def test_what_a_script_writes_into_its_folder_changes_nothing(sweep: Folder) -> None:
    folder = remade(sweep(GOOD, sota=SOTA), last_seen(1.25), last=1.25)
    before = judge((folder,)).to_json()
    for state in ("succeeded", "failed", "pending", "nonsense"):
        forged = {"state": state, "wall_s": 1.0, "last": 1.0, "metric": {"val_bpb": 1.0}, "files": {}}
        for path in folder.glob("candidate/*/*/run.json"):
            path.write_text(json.dumps(forged))
        assert judge((folder,)).to_json() == before
    (folder / "candidate/seed-3/attempt-9").mkdir()  # an attempt of no driver's
    (folder / "candidate/seed-3/attempt-9/run.json").write_text('{"state": "succeeded"}')
    assert judge((folder,)).to_json() == before
    log = folder / "candidate/seed-1/attempt-1/train.log"
    log.write_text(last_seen(1.19))  # the value that the driver saw stands
    after = judge((folder,))
    assert after.gate == "refused"
    assert ("log-clobbered", "error") in [(one.code, one.severity) for one in after.findings]
    assert worst(after).verdict == "not_supported"


def test_what_a_run_printed_after_it_was_given_up_is_no_change_of_its_log(sweep: Folder) -> None:
    folder = remade(sweep(GOOD, sota=SOTA), last_seen(1.203), last=1.203)
    with open(folder / "candidate/seed-1/attempt-1/train.log", "a") as file:
        file.write("ended by SIGTERM\n")
    assert "log-clobbered" not in [one.code for one in judge((folder,)).findings]


def test_a_sequential_sweep_has_its_worst_case_at_its_look(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.2013, 3: 1.2015}
    folder = remade(sweep(values, seeds=[1, 2, 3, 4, 5], looks=[3, 4, 5], sota=SOTA), last_seen(1.25), last=1.25)
    assert read_plan(folder).design.sequential
    verdict = judge((folder,))
    assert (verdict.verdict, verdict.gate) == ("supported", "refused")
    assert worst(verdict).verdict == "not_supported"


def test_the_worst_case_at_a_look_has_the_test_of_the_look(sweep: Folder) -> None:
    """Arms in step are pooled: an attempt that was no worse than its run refuses nothing, though Welch's p is above the boundary."""
    mine = {1: 1.2001, 2: 1.1996, 3: 1.2003, 4: 1.2000}
    theirs = {1: 1.2102, 2: 1.2135, 3: 1.2080, 4: 1.2129}
    folder = sweep(mine, sota=None, control=theirs, seeds=[1, 2, 3, 4, 5], looks=[3, 4, 5])
    verdict = judge((remade(folder, None, last=1.20005),))
    assert (verdict.verdict, verdict.n, verdict.gate) == ("supported", 4, "supported")
    welch = next(one for one in verdict.also if one.kind is ReadingKind.WELCH_AT_LOOK)
    assert welch.verdict == "not_supported"
    assert (worst(verdict).verdict, worst(verdict).test.name) == ("supported", "pooled t")
