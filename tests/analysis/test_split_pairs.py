"""The finding `pair-split`: pairs of a plan whose two runs were on two hosts, or on hosts that nobody named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.audit import audit
from analysis.rules.findings import Finding
from analysis.sweepdir.plan import plan_digest
from tests.conftest import SOURCE, make_log

Folder = Callable[..., Path]
CANDIDATE, CONTROL = {1: 1.2014, 2: 1.1994, 3: 1.2031}, {1: 1.2314, 2: 1.2294, 3: 1.2331}
PAIRED = {"name": "fixed", "paired": True}


def splits(folder: Path) -> list[Finding]:
    return [one for one in audit((folder,)).findings if one.code == "pair-split"]


def placed(
    folder: Path, hosts: dict[tuple[str, int], str | None], nodes: dict[tuple[str, int], str] | None = None
) -> Path:
    """Say in run.json on which host each run was, and in a journal on which node."""
    for path in sorted(folder.glob("*/seed-*/attempt-1/run.json")):
        table = json.loads(path.read_text())
        table["host"] = hosts.get((table["arm"], table["seed"]), "one")
        path.write_text(json.dumps(table))
        for state in ("running", table["state"]) if nodes is not None else ():
            event = {key: table[key] for key in ("arm", "seed", "attempt")} | {"state": state, "time": table["started"]}
            node = (nodes or {}).get((table["arm"], table["seed"]), table["arm"])
            with open(folder / "events.jsonl", "a") as file:
                file.write(json.dumps(event | {"node": node}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ({}, None),
        ({("control", 2): "two", ("candidate", 2): "two"}, None),
        ({("control", 2): "two"}, "the pair of seed 2 split over two hosts"),
        ({("control", 2): "two", ("candidate", 3): "three"}, "the pairs of seeds 2, 3 split over two hosts"),
        ({("control", 1): None}, "no host named for a run of seed 1"),
        ({("control", 1): None, ("candidate", 1): None}, "no host named for a run of seed 1"),
        (
            {("control", 1): None, ("control", 3): "two"},
            "the pair of seed 3 split over two hosts, and no host named for a run of seed 1",
        ),
    ],
)
def test_a_pair_on_two_hosts_is_named(
    sweep: Folder, hosts: dict[tuple[str, int], str | None], found: str | None
) -> None:
    folder = placed(sweep(CANDIDATE, sota=None, control=CONTROL, design=PAIRED), hosts)
    said = [(one.severity, one.file, one.found) for one in splits(folder)]
    expected = f"Found {found}; expected both runs of a seed on one host."
    assert said == ([] if found is None else [("warning", "events.jsonl", expected)])


def test_an_unpaired_plan_has_no_pairs(sweep: Folder) -> None:
    folder = placed(sweep(CANDIDATE, sota=None, control=CONTROL), {("control", 2): "two", ("control", 3): None})
    assert splits(folder) == []


def test_a_seed_without_both_values_is_no_pair(sweep: Folder) -> None:
    less = {seed: value for seed, value in CONTROL.items() if seed != 2}
    folder = placed(sweep({**CANDIDATE, 3: None}, sota=None, control=less, design=PAIRED), dict.fromkeys(
        [("control", 3), ("control", 2), ("candidate", 2)], "two"))  # fmt: skip
    assert splits(folder) == []


def test_one_node_is_one_host_by_the_drivers_word(sweep: Folder) -> None:
    """A run can write to its run.json; the journal is the driver's."""
    runs = [(arm, seed) for arm in ("candidate", "control") for seed in CANDIDATE]
    nodes = {(arm, seed): f"node {seed}" for arm, seed in runs}
    hosts: dict[tuple[str, int], str | None] = {("control", 1): None, ("control", 2): "two", ("control", 3): "two"}
    folder = placed(sweep(CANDIDATE, sota=None, control=CONTROL, design=PAIRED), hosts, nodes | {("control", 3): "new"})
    (one,) = splits(folder)
    assert one.found.startswith("Found the pair of seed 3 split over two hosts; ")


def test_a_new_ray_on_the_same_host_splits_nothing(sweep: Folder) -> None:
    folder = placed(sweep(CANDIDATE, sota=None, control=CONTROL, design=PAIRED), {}, {("control", 1): "after a resume"})
    assert splits(folder) == []


def record_of(folder: Path, attempts: list[dict[str, Any]], design: dict[str, Any] = PAIRED) -> Path:
    """A record folder as `record` makes it of a sweep with a control."""
    (folder / "control").mkdir(parents=True)
    for below, values in ((folder, CANDIDATE), (folder / "control", CONTROL)):
        for seed, value in values.items():
            (below / f"train_seed{seed}.log").write_text(make_log(seed, value))
    plan: dict[str, Any] = {
        "script": {"path": "/x/train_gpt.py"}, "arms": {"candidate": {"env": {}}, "control": {"env": {}}},
        "ruleset": {"name": "parameter-golf"}, "seeds": [*CANDIDATE], "design": design,
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan | {"sha256": plan_digest(plan)}))
    (folder / "train_gpt.py").write_text(SOURCE)
    claim = {
        "name": "a",
        "author": "b",
        "date": "2026-04-05",
        "val_bpb": sum(CANDIDATE.values()) / 3,
        "seeds": [*CANDIDATE],
    }
    (folder / "submission.json").write_text(json.dumps(claim | {"attempts": attempts}))
    return folder


def attempts(**hosts: str | None) -> list[dict[str, Any]]:
    runs = [(arm, seed) for arm in ("candidate", "control") for seed in CANDIDATE]
    return [
        {"arm": arm, "seed": seed, "attempt": 1, "state": "succeeded", "host": hosts.get(f"{arm}_{seed}", f"host {seed}"),
         "log": ("control/" if arm == "control" else "") + f"train_seed{seed}.log"}
        for arm, seed in runs
    ]  # fmt: skip


def test_a_record_tells_of_its_pairs_by_the_attempts_of_its_json(tmp_path: Path) -> None:
    assert splits(record_of(tmp_path / "whole", attempts())) == []
    (one,) = splits(record_of(tmp_path / "split", attempts(control_2="host 1")))
    assert (one.severity, one.file) == ("warning", "submission.json")
    assert one.found.startswith("Found the pair of seed 2 split over two hosts; ")
    (one,) = splits(record_of(tmp_path / "unknown", attempts(candidate_3=None)))
    assert one.found.startswith("Found no host named for a run of seed 3; ")
    (one,) = splits(record_of(tmp_path / "silent", []))
    assert one.found.startswith("Found no host named for a run of seeds 1, 2, 3; ")
    assert splits(record_of(tmp_path / "unpaired", [], {"name": "fixed"})) == []


def test_a_changed_plan_is_not_read_for_pairs(tmp_path: Path) -> None:
    folder = record_of(tmp_path / "r", attempts(control_2="host 1"))
    (folder / "plan.json").write_text((folder / "plan.json").read_text().replace("parameter-golf", "other"))
    assert splits(folder) == []
    shutil.rmtree(folder)
