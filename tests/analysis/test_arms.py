"""Arms: groups of runs in folders next to each other are compared with each other, and never one sample."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import scipy.stats

from analysis.evidence.case import Case
from analysis.evidence.make import make_case
from analysis.evidence.options import Options, resolve
from analysis.record.arms import propose
from analysis.record.folder import read_record
from analysis.record.metrics import metrics_of
from analysis.record.selection import Why
from analysis.record.stated.said import Holds, Kind
from analysis.rules.ruleset import load
from analysis.verdict.judge import judge

RULES = load("nanogpt-track-1")
GOOD = [3.2781, 3.2774, 3.2779, 3.2768, 3.2785]
POOR = [3.2791, 3.2802, 3.2797, 3.2806]


def speedrun(loss: float, program: str, ms: int = 50, steps: Sequence[int] = (0, 50, 100)) -> str:
    lines = (
        f"step:{step}/100 val_loss:{loss + (100 - step) / 50:.4f} train_time:{step * ms + round(loss * 1e4) % 97}ms\n"
        for step in steps
    )
    return f"import torch\nprint('{program}')\n{'=' * 100}\n{''.join(lines)}"


def write(folder: Path, name: str, losses: Sequence[float], program: str | None = None) -> None:
    below = folder / name
    below.mkdir(parents=True, exist_ok=True)
    for i, loss in enumerate(losses):
        (below / f"r{i}.txt").write_text(speedrun(loss, program or name or "top"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "2026-01-01_Faster"


def fill(folder: Path, arms: Mapping[str, Sequence[float]]) -> None:
    for name, losses in arms.items():
        write(folder, name, losses)


def case_of(folder: Path, control: Path | None = None, rules: str = "nanogpt-track-1") -> Case:
    return make_case(resolve([folder], Options(rules=rules, control=control)))


def proposed(folder: Path) -> tuple[str | None, str | None, list[str]]:
    record = read_record([folder])
    arms = propose(record, [run for run in record.runs if metrics_of(run, RULES)], RULES)
    assert arms is not None
    return arms.candidate and arms.candidate.name, arms.control and arms.control.name, [one.name for one in arms.others]


@pytest.mark.parametrize(
    ("names", "candidate", "control", "others"),
    [
        (["baseline", "this_pr"], "this_pr", "baseline", []),
        (["prior_record", "candidate"], "candidate", "prior_record", []),
        (["Old-Main", "new"], "new", "Old-Main", []),
        (["baseline", "this_pr", "this_pr_v2", "this_pr_v10"], "this_pr_v10", "baseline", ["this_pr", "this_pr_v2"]),
        (["v1", "v2"], "v2", None, ["v1"]),
        (["baseline", "prior", "this_pr"], "this_pr", None, ["baseline", "prior"]),
        (["", "baseline"], "the folder itself", "baseline", []),
        (["", "baseline", "extra"], "the folder itself", "baseline", []),
        (["runs/baseline", "runs/this_pr"], "runs/this_pr", "runs/baseline", []),
        (["baseline/logs", "this_pr"], "this_pr", "baseline", []),
        (["adam", "muon"], None, None, ["adam", "muon"]),
        (["baseline", "adam", "muon"], None, None, ["adam", "baseline", "muon"]),
        (["baseline", "main"], None, None, ["baseline", "main"]),
    ],
)
def test_which_arm_is_proposed(
    folder: Path, names: list[str], candidate: str | None, control: str | None, others: list[str]
) -> None:
    fill(folder, {name: [loss + i / 1000 for loss in GOOD] for i, name in enumerate(names)})
    found = proposed(folder)
    assert (*found[:2], sorted(found[2])) == (candidate, control, sorted(others))


@pytest.mark.parametrize("names", [["extra"], ["ablations", "extra"]])
def test_folders_beside_top_runs_are_left_out_as_deeper(folder: Path, names: list[str]) -> None:
    fill(folder, {"": GOOD} | {name: [3.28 + i / 1000, 3.285 + i / 1000] for i, name in enumerate(names)})
    case = case_of(folder)
    assert (len(case.runs), case.arms, case.control) == (5, None, ())
    assert {one.why for one in case.left_out} == {Why.DEEPER}


def test_one_run_in_each_numbered_folder_is_one_sample(folder: Path) -> None:
    for i, loss in enumerate(GOOD):
        write(folder, f"seed{i}", [loss], "one")
    case = case_of(folder)
    assert (len(case.runs), case.arms, case.fault) == (5, None, None)


def test_the_readme_says_which_arm_is_claimed(folder: Path) -> None:
    fill(folder, {"adam": GOOD, "muon": POOR})
    (folder / "README.md").write_text(f"# Muon\n\n```\nlosses = {POOR[::-1]}\nprint(ttest_1samp(losses, 3.28))\n```\n")
    assert proposed(folder) == ("muon", None, ["adam"])


def test_a_readme_that_lists_the_prior_state_too(folder: Path) -> None:
    fill(folder, {"a": GOOD, "b": POOR, "baseline": [3.2801, 3.2799]})
    (folder / "README.md").write_text(f"losses = {GOOD}\n\nother_losses = [3.2801, 3.2799]\n")
    assert proposed(folder) == ("a", "baseline", ["b"])


def test_the_case_has_both_arms_and_the_verdict_says_so(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": GOOD})
    case = case_of(folder)
    assert [run.log for run in case.runs] == [f"this_pr/r{i}.txt" for i in range(5)]
    assert [(run.log, run.val_loss) for run in case.control] == [(f"baseline/r{i}.txt", v) for i, v in enumerate(POOR)]
    assert case.left_out == ()
    verdict = judge([folder], Options(rules="nanogpt-track-1"))
    said = [note for note in verdict.notes if note.startswith("compared: ")]
    assert said == [
        "compared: this_pr (5 runs) as the candidate, baseline (4 runs) as the control; name others with PATH and --control"
    ]
    assert verdict.n == 5


def test_other_versions_are_left_out_and_said(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": [3.2793, 3.2788], "this_pr_v2": GOOD})
    case = case_of(folder)
    assert {(one.result.log.split("/")[0], one.why) for one in case.left_out} == {("this_pr", Why.OTHER_ARM)}
    assert case.arms is not None
    assert "the last of 2 versions" in case.arms.sentence
    assert "not counted: this_pr (2 runs)" in case.arms.sentence


def test_an_older_version_of_the_same_program_is_a_run_left_out(folder: Path) -> None:
    write(folder, "this_pr", POOR, "one program")
    write(folder, "this_pr_v2", GOOD, "one program")
    assert [one.code for one in case_of(folder).findings].count("runs-left-out") == 1


def test_open_arms_are_unusable_evidence_with_the_commands(folder: Path) -> None:
    fill(folder, {"adam": GOOD, "muon": POOR})
    case = case_of(folder)
    assert case.runs == ()
    assert case.fault is not None
    for said in ("adam (5 runs)", "muon (4 runs)", f"{folder}/adam --control {folder}/muon"):
        assert said in case.fault
    assert judge([folder], Options(rules="nanogpt-track-1")).exit_code == 3


def test_the_reviewer_names_the_control(folder: Path) -> None:
    fill(folder, {"adam": GOOD, "muon": POOR})
    case = case_of(folder, folder / "muon")
    assert (len(case.runs), len(case.control), case.fault) == (5, 4, None)
    assert {run.log for run in case.runs}.isdisjoint(run.log for run in case.control)
    assert case.left_out == ()


def test_a_proposed_control_that_cannot_be_used_is_said(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": GOOD})
    (folder / "baseline" / "r9.txt").write_text(speedrun(3.2, "baseline", steps=(0, 50)))
    case = case_of(folder)
    assert (len(case.runs), case.control, case.fault) == (5, (), None)
    assert case.arms is not None
    assert "no control: baseline: r9.txt holds a run without" in case.arms.sentence


def test_a_run_of_the_candidate_without_a_result_is_still_missed(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": GOOD})
    (folder / "this_pr" / "r9.txt").write_text(speedrun(3.2, "this_pr", steps=(0, 50)))
    fault = case_of(folder).fault
    assert fault is not None
    assert "this_pr/r9.txt" in fault


def test_an_authors_own_arm_does_not_replace_a_target(folder: Path, tmp_path: Path) -> None:
    fill(folder, {"baseline": [3.4, 3.41, 3.42], "this_pr": [3.31, 3.30, 3.32]})
    rules = tmp_path / "target.toml"
    rules.write_text(
        'version = 2\nmetric = "val_loss"\ntarget = 3.28\ntest = "one-sample t"\nalpha = 0.01\n'
        'final = "last validation"\nseeds = "unprinted"\n'
    )
    verdict = judge((folder,), Options(rules=str(rules)))
    assert (verdict.verdict, verdict.sota, verdict.sota_is) == ("not_supported", 3.28, "target")
    assert "the rules fix what is to be beaten" in " ".join(verdict.notes)


def test_arms_of_rules_without_a_target(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": GOOD})
    rules = folder.parent / "ours.toml"
    rules.write_text(
        'version = 1\nmetric = "val_loss"\nmargin = 0.0\nunit = "nats"\ntest = "one-sample t"\nalpha = 0.01\n'
        'final = "last validation"\nseeds = "unprinted"\n'
    )
    verdict = judge([folder], Options(rules=str(rules)))
    assert (verdict.n, verdict.verdict, len(verdict.control)) == (5, "supported", 4)


def test_a_claim_still_decides(folder: Path) -> None:
    """A JSON whose number is the mean of one arm's runs names them."""
    fill(folder, {"adam": GOOD, "muon": POOR})
    (folder / "submission.json").write_text(json.dumps({"name": "a", "val_loss": round(sum(POOR) / len(POOR), 6)}))
    case = case_of(folder)
    assert {run.log.split("/")[0] for run in case.runs} == {"muon"}


def test_a_readmes_p_is_that_of_the_arm_which_it_claims(folder: Path) -> None:
    fill(folder, {"baseline": POOR, "this_pr": GOOD})
    p = scipy.stats.ttest_1samp(GOOD, 3.28, alternative="less").pvalue
    (folder / "README.md").write_text(f"# Faster\n\nlosses = {GOOD}\n\nMean loss 3.27774, p = {p:.6f} (n = 5)\n")
    verdict = judge([folder], Options(rules="nanogpt-track-1"))
    assert verdict.mean == pytest.approx(sum(GOOD) / 5)
    assert verdict.test is not None
    assert verdict.test.p_value == pytest.approx(p)
    assert {one.claim.kind: str(one.holds) for one in verdict.claims} == {
        "list of values": "yes",
        "mean": "yes",
        "p": "yes",
        "number of runs": "yes",
    }


def test_a_readmes_p_of_the_times_is_that_of_the_criterion(folder: Path) -> None:
    fill(folder, {"this_pr": GOOD, "baseline": POOR})
    ours, theirs = ([50 * 100 + round(loss * 1e4) % 97 for loss in losses] for losses in (GOOD, POOR))
    p = scipy.stats.ttest_ind(ours, theirs, equal_var=False, alternative="less").pvalue
    (folder / "README.md").write_text(f"# Faster\n\nlosses = {GOOD}\n\nWelch's t-test of the times: p = {p:.4f}\n")
    (claim,) = [one for one in case_of(folder).claims if one.claim.kind is Kind.P]
    assert claim.holds is Holds.YES
    (folder / "README.md").write_text(f"# Faster\n\nlosses = {GOOD}\n\nWelch's t-test of the times: p = {p / 3:.4f}\n")
    (claim,) = [one for one in case_of(folder).claims if one.claim.kind is Kind.P]
    assert claim.holds is not Holds.YES
