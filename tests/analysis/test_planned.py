"""Verdicts against a plan: what is missing, extra, out of order, or not what was planned."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.options import Options
from analysis.report.gate import gate
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import derive_seeds
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from tests.analysis.verdicts import CONTROL, SEEDS, TEN, everywhere
from tests.conftest import RATIO, SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Folder = Callable[..., Path]
RULES = load("parameter-golf")


def test_exactly_the_plans_runs(sweep: Folder, tmp_path: Path) -> None:
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}),), Options(require_plan=True))
    assert verdict.verdict == "supported"
    assert verdict.plan is not None
    assert (verdict.plan.exact, verdict.plan.seeds) == (True, [1, 2, 3])
    table = verdict.to_json()
    assert (table["plan"]["exact"], table["plan"]["missing"], table["plan"]["extra"]) == (True, [], [])
    assert "plan-not-followed" not in [finding.code for finding in verdict.findings]
    everywhere(verdict)


def test_seeds_that_are_added_to_a_fixed_plan_are_said_with_their_price(sweep: Folder, record: Folder) -> None:
    planned = sweep({1: 1.2051, 2: 1.2062, 3: 1.2049}, sota=1.215)
    more = record({1: 1.2051, 2: 1.2062, 3: 1.2049, 4: 1.2044, 5: 1.2056}, "more")
    shutil.copy(planned / "plan.json", more)
    followed = judge((more,), Options(sota=1.215)).plan
    assert followed is not None
    assert followed.extra == [4, 5]
    (price,) = followed.differs
    assert "3 to 5 would pass 2.2 % of false claims" in price  # 0.022121 in the table of looks 3..5 at p < 0.01
    exact = judge((planned,)).plan
    assert exact is not None
    assert not exact.differs


def deviating(verdict: Verdict) -> dict[str, Any]:
    table: dict[str, Any] = verdict.to_json()["plan"]
    assert not table["exact"]
    assert [finding.severity for finding in verdict.findings if finding.code == "plan-not-followed"] == ["warning"]
    return table


def test_a_missing_planned_run_of_a_fixed_plan_cannot_be_told(sweep: Folder) -> None:
    verdict = judge((sweep({1: 1.20, 2: 1.201}, seeds=[1, 2, 3]),))
    assert (verdict.verdict, deviating(verdict)["missing"]) == ("unusable", [3])


def test_a_gap_in_a_sequential_plan_ends_what_counts(sweep: Folder) -> None:
    values = {1: 1.2014, 2: 1.1994, 3: 1.2031, 5: 1.2, 6: 1.21}
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),))
    assert (verdict.verdict, verdict.n, deviating(verdict)["missing"]) == ("continue", 3, [4])
    assert [log.split("/")[1] for log in verdict.not_counted] == ["seed-5", "seed-6"]


def test_a_gap_beyond_the_verdict_is_none(sweep: Folder) -> None:
    values = {
        1: 1.2014,
        2: 1.2013,
        3: 1.2015,
        5: 1.2,
    }  # 4 and 5 were under way together; 5 ended before the verdict was in
    verdict = judge((sweep(values, seeds=TEN, looks=TEN[2:], sota=1.2161),), Options(require_plan=True))
    assert verdict.plan is not None
    assert (verdict.verdict, verdict.n, verdict.plan.exact) == ("supported", 3, True)
    assert [log.split("/")[1] for log in verdict.not_counted] == ["seed-5"]


def test_runs_that_were_not_planned_are_extra(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    attempt = folder / "candidate/seed-9/attempt-1"
    attempt.mkdir(parents=True)
    (attempt / "train.log").write_text(make_log(9, 1.1))
    verdict = judge((folder,))
    assert (verdict.verdict, deviating(verdict)["extra"]) == ("supported", [9])
    strict = judge((folder,), Options(require_plan=True))
    assert (strict.verdict, strict.exit_code) == ("not_supported", 1)
    assert "not planned: seed 9" in strict.reason


def test_a_seed_that_was_started_after_a_later_ones_result_is_out_of_order(sweep: Folder) -> None:
    verdict = judge((sweep({1: 1.20, 3: 1.201, 2: 1.202}, seeds=[1, 2, 3]),))
    assert (verdict.verdict, deviating(verdict)["out_of_order"]) == ("supported", [2])


def test_a_retry_is_in_order_by_its_first_attempt_and_a_second_result_is_none(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    first = folder / "candidate/seed-1/attempt-1/run.json"
    lost = json.loads(first.read_text()) | {"state": "lost"}
    again = folder / "candidate/seed-1/attempt-2"
    again.mkdir()
    (again / "train.log").write_text(make_log(1, 1.2))
    times = {"started": "2026-04-05T11:00:00+00:00", "ended": "2026-04-05T11:10:00+00:00"}
    (again / "run.json").write_text(json.dumps({"state": "succeeded", "seed": 1} | times))
    assert deviating(judge((folder,)))["rerun"] == [1]
    first.write_text(json.dumps(lost))
    plan = judge((folder,)).plan
    assert plan is not None
    assert plan.exact


@pytest.mark.parametrize("started", [None, 7, "yesterday", "2026-04-05T10:00:00"])
def test_an_order_that_cannot_be_told_is_not_exact(sweep: Folder, started: object) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    path = folder / "candidate/seed-2/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    (clause,) = deviating(judge((folder,)))["differs"]
    assert "run.json" in clause


def test_times_are_compared_across_time_zones(sweep: Folder) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    path = folder / "candidate/seed-1/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": "2026-04-05T09:00:00-12:00"}))
    assert deviating(judge((folder,)))["out_of_order"] == [1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"alpha": 0.02}, "alpha 0.02 instead of the plan's 0.01"),
        ({"margin": 0.001}, "margin 0.001"),
        ({"sota": 1.31}, "SOTA 1.31 instead of the plan's 1.3"),
        ({"unit": "nats"}, "unit nats"),
        (
            {"rules": "nanogpt-track-1"},
            "judged by the rules nanogpt-track-1, planned by parameter-golf, which differ in metric, unit, margin",
        ),
    ],
)
def test_a_claim_that_is_not_the_plans_is_said(sweep: Folder, asked: dict[str, Any], words: str) -> None:
    folder = sweep({1: 1.20, 2: 1.201, 3: 1.202})
    assert any(words in clause for clause in deviating(judge((folder,), Options(**asked)))["differs"])


def test_derived_seeds_are_derived_again(sweep: Folder, tmp_path: Path) -> None:
    basis = json.loads((sweep({1: 1.2, 2: 1.21, 3: 1.22}, "basis") / "plan.json").read_text())
    basis = {key: value for key, value in basis.items() if key != "sha256"} | {"seeds_are": "derived"}
    seeds = derive_seeds(basis, 3)
    good = sweep(dict(zip(seeds, (1.2, 1.201, 1.202), strict=True)), "good", seeds_are="derived")
    verdict = judge((good,), Options(require_plan=True))
    assert verdict.verdict == "supported"
    assert verdict.plan is not None
    assert verdict.plan.seeds_are == "derived"
    picked = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "picked", seeds_are="derived")
    (clause,) = deviating(judge((picked,)))["differs"]
    assert "seeds" in clause
    broken = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "broken", seeds_are="derived", script={"path": "x"})
    assert len(deviating(judge((broken,)))["differs"]) >= 1


def test_another_control_or_script_than_the_planned_one_is_said(sweep: Folder, record: Folder) -> None:
    control = record(CONTROL, "control")
    folder = sweep({1: 1.19, 2: 1.191, 3: 1.192})
    assert "other control runs" in " ".join(deviating(judge((folder,), Options(control=control)))["differs"])
    own = sweep({1: 1.19, 2: 1.191, 3: 1.192}, "own", sota=None, control={1: 1.21, 2: 1.211, 3: 1.212})
    assert "SOTA 1.3 instead of what the plan compares with" in deviating(judge((own,), Options(sota=1.3)))["differs"]
    path = folder / "candidate/seed-2/attempt-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"script": {"sha256": "0"}}))
    assert "candidate seed 2 ran another script than the planned one" in deviating(judge((folder,)))["differs"]


def test_runs_of_another_path_are_not_planned(sweep: Folder, record: Folder) -> None:
    more = record({11: 1.2, 12: 1.201}, bare=True)
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}), more))
    assert (verdict.n, deviating(verdict)["extra"]) == (5, [11, 12])


OWN_RULES: list[dict[str, Any]] = [
    {"alpha": 0.4, "margin": 0.0},
    {"name": "my-golf"},
    {"findings": {"rules-changed": "off"}},
]


def test_a_sweep_that_brings_its_own_rules_passes_no_gate_unless_they_are_named(
    command: Run, sweep: Folder, tmp_path: Path
) -> None:
    for number, changes in enumerate(OWN_RULES):
        folder = sweep({1: 1.20, 2: 1.201, 3: 1.202}, f"sweep-{number}", ruleset=load_table() | changes)
        found = command("analysis.significance", "check", folder)
        assert (found.returncode, "error: rules-changed: plan.json:1: Found the rules" in found.stdout) == (1, True)
        assert judge((folder,)).verdict == "supported"
        named = command("analysis.significance", "check", folder, "--rules", "parameter-golf")
        assert (named.returncode, "error: rules-changed" in named.stdout) == (0, False)
    asked = command("analysis.significance", "check", tmp_path / "sweep-0", "--alpha", "0.4", "--margin", "0")
    assert asked.returncode == 0
    shipped = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "as shipped")
    assert command("analysis.significance", "check", shipped).returncode == 0


@pytest.mark.parametrize("key", ["artifact_bytes", "minimum_runs", "data"])
def test_a_plan_that_leaves_out_a_key_of_its_rules_changes_them(sweep: Folder, key: str) -> None:
    table = {name: value for name, value in load_table().items() if name != key}
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}, ruleset=table),))
    (found,) = [one for one in verdict.findings if one.code == "rules-changed"]
    assert (verdict.gate, key in found.message) == ("refused", True)


def test_a_ruleset_is_never_looked_for_outside_the_shipped_ones(sweep: Folder, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text("version = 1\n")
    verdict = judge((sweep({1: 1.20, 2: 1.201, 3: 1.202}, ruleset=load_table() | {"name": str(rules)}),))
    assert "which are not shipped" in " ".join(finding.message for finding in verdict.findings)


def test_a_sweep_with_a_record_beside_its_runs_cannot_be_told(sweep: Folder) -> None:
    for name in ("train_seed9.log", "submission.json"):
        folder = sweep({1: 1.20, 2: 1.201, 3: 1.202}, "with " + name)
        (folder / name).write_text(make_log(9, 1.3))
        verdict = judge((folder,), Options(sota=1.3))
        assert (verdict.verdict, f"and {name} " in verdict.reason) == ("unusable", True)


def with_plan(folder: Path, sweep: Folder, seeds: list[int], **changes: Any) -> Path:
    plan = sweep({}, "of " + folder.name, seeds=seeds, ruleset=load_table(), **changes) / "plan.json"
    (folder / "plan.json").write_bytes(plan.read_bytes())
    return folder


def load_table() -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(RULES)


def test_a_record_folder_may_hold_the_plan_of_its_runs(record: Folder, sweep: Folder, command: Run) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS), sota=1.21613611)
    found = command("analysis.significance", "check", folder, "--sota", "1.21613611", "--require-plan")
    assert found.returncode == 0, found.stdout
    plan = judge((folder,), Options(sota=1.21613611)).plan
    assert plan is not None
    assert plan.exact
    four = with_plan(record(SEEDS, "four"), sweep, [*SEEDS, 1340], sota=1.21613611)
    verdict = judge((four,), Options(sota=1.21613611))
    assert (verdict.verdict, deviating(verdict)["missing"]) == ("supported", [1340])
    assert judge((four,), Options(sota=1.21613611, require_plan=True)).verdict == "not_supported"
    other = with_plan(record(SEEDS, "other"), sweep, list(SEEDS), script={"sha256": "0" * 64}, sota=1.21613611)
    assert deviating(judge((other,), Options(sota=1.21613611)))["differs"] == ["its script is not in the folder"]
    edited = with_plan(record(SEEDS, "edited"), sweep, list(SEEDS), sota=1.21613611)
    log = edited / "train_seed1338.log"
    log.write_text(make_log(1338, SEEDS[1338], SOURCE + "# better\n"))
    differs = deviating(judge((edited,), Options(sota=1.21613611)))["differs"]
    assert differs == ["a log embeds another program than the planned script"]


def test_logs_that_the_claim_leaves_out_were_not_planned(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record({1: 1.2, 2: 1.201, 3: 1.202, 4: 1.3, 5: 1.31}), sweep, [1, 2, 3])
    claim = json.loads((folder / "submission.json").read_text())
    claim |= {"val_bpb": 1.201, "val_loss": 1.201 / RATIO, "seeds": [1, 2, 3]}
    (folder / "submission.json").write_text(json.dumps(claim))
    verdict = judge((folder,), Options(sota=1.3))
    assert (verdict.n, deviating(verdict)["extra"]) == (3, [4, 5])
    assert "not counted: train_seed4.log, train_seed5.log" in gate(verdict)


def test_a_plan_above_logs_in_folders_is_a_records(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS), sota=1.21613611)
    (folder / "logs").mkdir()
    for log in folder.glob("*.log"):
        log.rename(folder / "logs" / log.name)
    for content in (None, '{"my": "plan for the weekend"}'):
        if content:
            (folder / "plan.json").write_text(content)
            (folder / "submission.json").unlink()
        verdict = judge((folder,), Options(sota=1.21613611))
        assert verdict.verdict == "supported"
        assert (verdict.plan is None) == bool(content)


def test_the_plan_of_a_record_gives_the_looks_and_the_order(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, [1339, 1338, 1337, *TEN[:7]], looks=TEN[2:], sota=1.21613611)
    verdict = judge((folder,), Options(sota=1.21613611))
    assert (verdict.verdict, verdict.design) == ("continue", "sequential")
    assert [run.seed for run in verdict.runs] == [1339, 1338, 1337]
    assert verdict.sequential is not None
    assert verdict.sequential.next_seeds == [1]
    assert not verdict.notes


def test_a_plan_that_was_changed_cannot_be_told_and_a_file_of_that_name_is_none(record: Folder, sweep: Folder) -> None:
    folder = with_plan(record(SEEDS), sweep, list(SEEDS))
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"sota": 1.3', '"sota": 1.4'))
    verdict = judge((folder,), Options(sota=1.3))
    assert (verdict.verdict, "changed after it was frozen" in verdict.reason) == ("unusable", True)
    (folder / "plan.json").write_text('{"my": "plan for the weekend"}')
    assert judge((folder,), Options(sota=1.3)).plan is None


def test_require_plan_without_a_plan_does_not_pass(command: Run, record: Folder) -> None:
    folder = record(SEEDS)
    for verb in ("report", "check"):
        found = command("analysis.significance", verb, folder, "--sota", "1.21613611", "--require-plan")
        assert found.returncode == 1
        assert found.stdout.startswith("NOT SUPPORTED: ")
        assert "there is no plan.json in the PATH" in found.stdout
    assert judge((folder,), Options(sota=1.1, require_plan=True)).reason.startswith("The mean")


def test_the_plan_decides_on_the_design(command: Run, sweep: Folder) -> None:
    for folder, design, planned in (
        (sweep({1: 1.2, 2: 1.21, 3: 1.22}), "sequential", "fixed"),
        (sweep({1: 1.2}, "other", seeds=TEN, looks=TEN[2:]), "fixed", "sequential"),
    ):
        found = command("analysis.significance", "check", folder, "--design", design)
        assert (found.returncode, f"the plan is {planned}" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("design", "word"),
    [
        ("sequential", "design is 'sequential'"),
        ({"name": "bayes"}, "must be 'fixed' or 'sequential'"),
        ({"name": "sequential", "looks": [3, 3], "boundary": "flat"}, "rising list"),
        ({"name": "sequential", "looks": [3, True], "boundary": "flat"}, "rising list"),
        ({"name": "sequential", "looks": [1, 2, 3], "boundary": "flat"}, "begin at 2"),
        ({"name": "sequential", "looks": [2], "boundary": "flat"}, "end at the 3 planned seeds"),
        ({"name": "sequential", "looks": [3], "boundary": "haybittle"}, "allowed: flat, pocock, obrien-fleming"),
    ],
)
def test_a_design_that_cannot_be_meant(sweep: Folder, design: object, word: str) -> None:
    verdict = judge((sweep({1: 1.2, 2: 1.21, 3: 1.22}, design=design),))
    assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sota": 10**400}, "sota is"),
        ({"sota": True}, "sota is True"),
        ({"arms": {}}, "arms is {}"),
        ({"arms": {"candidate": {}, "other": {}}}, "arms is"),
        ({"arms": {"candidate": 1}}, "arms is"),
        ({"seeds": [10**4000, 1, 2]}, "seeds is"),
        ({"seeds": list(range(2000))}, "at most 1000"),
        ({"seeds": [1, 1]}, "different"),
        ({"seeds_are": "given\n::error file=x::pwned\n\x1b[31m"}, "allowed: given, derived"),
    ],
)
def test_a_plan_that_cannot_be_meant(sweep: Folder, record: Folder, changes: dict[str, Any], word: str) -> None:
    folder = sweep({1: 1.2, 2: 1.21, 3: 1.22}, **({"seeds": [1, 2, 3]} | changes))
    beside = record(SEEDS)
    (beside / "plan.json").write_bytes((folder / "plan.json").read_bytes())
    for path in (folder, beside):
        verdict = judge((path,), Options(sota=1.3))
        assert (verdict.verdict, word in verdict.reason) == ("unusable", True), verdict.reason
        assert "\x1b" not in gate(verdict)
