"""--registry: what was entered before it started, against what the evidence shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.make import make_case
from analysis.evidence.options import Options, resolve
from analysis.evidence.registered.against import with_registry
from analysis.evidence.registered.read import read_entries
from analysis.reading.result import Tried
from analysis.report.text import text
from analysis.sweepdir.plan import read_plan
from analysis.sweepdir.registry import Entry, RegistryError, branch_of
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict

Folder = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
VALUES = {1: 1.2014, 2: 1.1994, 3: 1.2031}
OWN, OTHER, DRIVER, SECOND = "aa" * 8, "bb" * 8, "cc" * 8, "dd" * 8


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


@pytest.fixture
def mine(sweep: Folder) -> Path:
    """A sweep of three seeds, each in one attempt."""
    folder = sweep(VALUES)
    (folder / "sweep.lock").write_text(json.dumps({"sweep": OWN, "released": "now"}))
    return folder


def enter(registry: Path, plan: str, *runs: tuple[int, int], sweep: str = OWN, driver: str = DRIVER) -> None:
    """Enter the plan and attempts of the candidate, given as seed and attempt."""
    of_runs = [{"arm": "candidate", "seed": seed, "attempt": attempt} for seed, attempt in runs]
    for more in ({}, *of_runs):
        entry = Entry(plan=plan, sweep=sweep, driver=driver, time="2026-04-05T09:00:00+00:00", by="me", **more)
        (registry / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (registry / entry.name).write_bytes(entry.content())
        os.utime(registry / entry.name, (1_775_000_000,) * 2)


def judged(folder: Path, registry: Path, **options: Any) -> Verdict:
    return judge((folder,), Options(registry=f"file://{registry}", rules="parameter-golf", sota=1.3, **options))


def found_in(verdict: Verdict) -> list[tuple[str, str]]:
    codes = ("attempts-left-out", "not-registered")
    return [(one.code, one.severity) for one in verdict.findings if one.code in codes]


def test_evidence_that_shows_all_that_was_entered(mine: Path, registry: Path) -> None:
    enter(registry, read_plan(mine).sha256, (1, 1), (2, 1), (3, 1))
    verdict = judged(mine, registry)
    assert found_in(verdict) == []
    assert verdict.registry is not None
    assert verdict.registry.entered == "2026-03-31T23:33:20+00:00"  # by the store's clock, not as the entry says
    assert verdict.registry.sweeps == (OWN,)
    assert all(one.in_evidence for one in verdict.registry.attempts)
    assert "3 of 3 attempts entered are in the evidence" in text(verdict)
    assert verdict.checks == judge((mine,), Options(rules="parameter-golf", sota=1.3)).checks + 1


def test_without_the_option_nothing_is_said(mine: Path) -> None:
    verdict = judge((mine,), Options(rules="parameter-golf", sota=1.3))
    assert verdict.registry is None
    assert "registry" not in text(verdict)
    assert verdict.to_json()["registry"] is None


def test_an_attempt_that_is_not_shown_is_an_error(mine: Path, registry: Path) -> None:
    plan = read_plan(mine).sha256
    enter(registry, plan, (1, 1), (2, 1), (3, 1), (2, 2))
    verdict = judged(mine, registry)
    assert found_in(verdict) == [("attempts-left-out", "error")]
    (finding,) = [one for one in verdict.findings if one.code == "attempts-left-out"]
    assert "candidate seed 2 attempt 2 of sweep aaaaaaaa" in finding.message
    (mine / "candidate" / "seed-2" / "attempt-2").mkdir()
    for name in ("run.json", "train.log"):
        os.rename(mine / "candidate/seed-2/attempt-1" / name, mine / "candidate/seed-2/attempt-2" / name)
    assert found_in(judged(mine, registry)) == [("attempts-left-out", "error")]  # an empty folder shows nothing
    table = json.loads((mine / "candidate/seed-2/attempt-2/run.json").read_text())
    (mine / "candidate/seed-2/attempt-1/run.json").write_text(json.dumps(table | {"state": "lost"}))
    assert found_in(judged(mine, registry)) == []


def test_another_sweep_of_the_same_plan_is_visible(mine: Path, registry: Path) -> None:
    plan = read_plan(mine).sha256
    enter(registry, plan, (1, 1), (2, 1), (3, 1))
    enter(registry, plan, (1, 1), sweep=OTHER)
    verdict = judged(mine, registry)
    assert found_in(verdict) == [("attempts-left-out", "error")]
    assert verdict.registry is not None
    assert verdict.registry.sweeps == (OWN, OTHER)
    assert "by 2 sweeps" in text(verdict)


def test_an_attempt_that_two_drivers_entered_is_a_warning(mine: Path, registry: Path) -> None:
    plan = read_plan(mine).sha256
    enter(registry, plan, (1, 1), (2, 1), (3, 1))
    enter(registry, plan, (1, 1), driver=SECOND)
    assert found_in(judged(mine, registry)) == [("attempts-left-out", "warning")]


@pytest.mark.parametrize("runs", [[], [(1, 1), (2, 1)]])
def test_a_plan_or_run_that_was_not_entered_is_a_warning(
    mine: Path, registry: Path, runs: list[tuple[int, int]]
) -> None:
    if runs:
        enter(registry, read_plan(mine).sha256, *runs)
    assert found_in(judged(mine, registry)) == [("not-registered", "warning")]


def test_a_record_does_not_tell_its_sweep_so_its_logs_are_counted(mine: Path, record: Folder, registry: Path) -> None:
    folder = record(VALUES)
    (folder / "plan.json").write_bytes((mine / "plan.json").read_bytes())
    enter(registry, read_plan(mine).sha256, (1, 1), (2, 1), (3, 1))
    assert found_in(judged(folder, registry)) == []
    enter(registry, read_plan(mine).sha256, (3, 2))
    assert found_in(judged(folder, registry)) == [("attempts-left-out", "error")]


def test_a_records_retries_are_shown_with_their_logs(mine: Path, record: Folder, registry: Path) -> None:
    folder = record(VALUES)
    (folder / "plan.json").write_bytes((mine / "plan.json").read_bytes())
    enter(registry, read_plan(mine).sha256, (1, 1), (2, 1), (3, 1), (3, 2))
    case = make_case(resolve((folder,), Options(rules="parameter-golf", sota=1.3)))
    lost = Tried(arm="candidate", seed=3, attempt=1, state="lost", log="attempts/lost.log")
    counts = Tried(arm="candidate", seed=3, attempt=2, state="succeeded", log="train_seed3.log")
    runs = [replace(run, attempts=(lost, counts)) if run.seed == 3 else run for run in case.runs]
    found = with_registry(replace(case, runs=tuple(runs)), f"file://{registry}", read_plan(mine), (folder,))
    assert found.registry is not None
    assert all(one.in_evidence for one in found.registry.attempts)
    runs[-1] = replace(runs[-1], attempts=(replace(lost, log=None), counts))  # its log is gone
    found = with_registry(replace(case, runs=tuple(runs)), f"file://{registry}", read_plan(mine), (folder,))
    assert "attempts-left-out" in [one.code for one in found.findings]


def test_evidence_without_a_plan_cannot_be_looked_up(record: Folder, registry: Path) -> None:
    verdict = judged(record(VALUES), registry)
    assert found_in(verdict) == [("not-registered", "warning")]
    assert "attempts against the registry" in [one.check for one in verdict.not_checked]


def test_what_is_no_entry_is_not_read(mine: Path, registry: Path) -> None:
    plan = read_plan(mine).sha256
    enter(registry, plan, (1, 1), (2, 1), (3, 1))
    folder = registry / plan / OWN
    for name in ("notes.txt", "candidate-seed-1-attempt-2.json", f"other-seed-1-attempt-2.{DRIVER}.json"):
        (folder / name).write_text("{}")
    os.mkfifo(folder / f"candidate-seed-1-attempt-2.{DRIVER}.json")
    (folder / f"candidate-seed-1-attempt-1.{DRIVER}.json").write_text("[" * 100_000)  # the path says it all
    assert found_in(judged(mine, registry)) == []


def test_check_exits_with_1_for_a_hidden_attempt_and_2_for_no_registry(
    mine: Path, registry: Path, command: Command, tmp_path: Path
) -> None:
    enter(registry, read_plan(mine).sha256, (1, 1), (2, 1), (3, 1), (3, 2))
    check = ("analysis.significance", "check", mine, "--rules", "parameter-golf", "--registry")
    found = command(*check, f"file://{registry}")
    assert found.returncode == 1
    assert "  registry: plan " in found.stdout
    assert "error: attempts-left-out: plan.json:1: " in found.stdout
    for url, why in (
        (f"file://{tmp_path}/none", "there is no such folder"),
        ("nosuch://x", "cannot be read"),
        (f"git+file://{tmp_path}/none#b", "cannot be read"),
        ("git+https://user:hunter2secret@example.org/x", "is no branch"),
    ):
        found = command(*check, url)
        assert found.returncode == 2, url
        assert why in found.stderr
        assert "hunter2secret" not in found.stderr


@pytest.mark.parametrize(
    "url",
    ["git+file:///x", "git+file:///x#", "git+file:///x#-f", "git+file:///x#a..b", "git+ext::sh#b", "git+file://-x#b"],
)
def test_a_branch_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="is no branch"):
        branch_of(url)


def test_a_registry_that_is_no_url_is_refused_without_a_plan_too(command: Callable[..., Any], record: Folder) -> None:
    for folder in (record({1: 1.2, 2: 1.201, 3: 1.202}), record({1: 1.2, 2: 1.201, 3: 1.202}, "bare", bare=True)):
        found = command("analysis.significance", "check", folder, "--sota", "1.3", "--registry", "my-registry")
        assert found.returncode == 2
        assert "--registry my-registry is no URL" in found.stderr


def test_a_registry_of_too_many_entries_is_refused(mine: Path, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.evidence.registered.read.MOST_ENTRIES", 3)
    plan = read_plan(mine).sha256
    enter(registry, plan, (1, 1), (2, 1), (3, 1))
    with pytest.raises(RegistryError, match="holds 4 entries of this plan; at most 3 are read"):
        read_entries(f"file://{registry}", plan)
