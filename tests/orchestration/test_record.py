"""Submission folders from finished sweeps: what is in them, what a reviewer's check says of them, what is refused."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis import significance
from analysis.evidence.audit import audit
from analysis.evidence.options import Options
from analysis.record.claim import read_claim
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import plan_digest
from analysis.verdict.judge import judge
from analysis.verdict.verdict import ReadingKind
from orchestration import record
from orchestration.submission import build
from orchestration.submission.readme import public
from orchestration.submission.reviewer import as_toml
from tests.conftest import RATIO, ROOT, SOURCE

GOOD = {1337: 1.20143417, 1338: 1.19945102, 1339: 1.20319508}
BAD = {1337: 1.21, 1338: 1.22, 1339: 1.2}
SOTA = 1.21613611
CONTROLS = {1337: 1.2251, 1338: 1.2242, 1339: 1.2263}
FIRST_LOOK = {11: 1.2101, 12: 1.2102, 13: 1.2103}  # not enough at three seeds of at most six
LONG = [11, 12, 13, 14, 15, 16]
FOREIGN_SOURCE = "import os\n\n" + "# somebody else's trainer, which does not print its seed\n" * 4
Finish = Callable[..., Path]


@pytest.fixture
def finish(sweep: Callable[..., Path]) -> Finish:
    """A sweep that has ended: that of the fixture `sweep`, with its script and the digests that run.json gives of logs."""

    def make(values: dict[int, float | None], source: str = SOURCE, **options: Any) -> Path:
        script = {"path": "/home/alice/code/train.py", "sha256": digest(source.encode()), "bytes": len(source)}
        options = {"sota": SOTA, "gpus_per_run": 8, "script": script, **options}
        folder = sweep(values, **options)
        (folder / "script.py").write_text(source)
        for manifest in folder.glob("*/*/attempt-*/run.json"):
            seal(manifest)
        return folder

    return make


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def seal(manifest: Path, **more: Any) -> None:
    """Add to a run.json what it says at the end of a run, and more."""
    table = json.loads(manifest.read_text()) | {"host": socket.gethostname()}
    log = manifest.with_name("train.log")
    table |= {"files": {"train.log": {"sha256": digest(log.read_bytes())}}} if log.is_file() else {}
    manifest.write_text(json.dumps(table | more))


def attempt(folder: Path, arm: str, seed: int, number: int, **manifest: Any) -> None:
    """Add an attempt of a run; the attempts that are there follow it where they have its number."""
    runs = folder / arm / f"seed-{seed}"
    if (runs / f"attempt-{number}").exists():
        (runs / f"attempt-{number}").rename(runs / f"attempt-{number + 1}")
    (runs / f"attempt-{number}").mkdir(parents=True)
    times = {"started": "2026-04-05T09:00:00+00:00", "ended": "2026-04-05T09:01:00+00:00"}
    (runs / f"attempt-{number}" / "run.json").write_text(json.dumps({"seed": seed, "reason": None} | times | manifest))


def rewrite(plan: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a plan and freeze it again."""
    table = json.loads(plan.read_text())
    del table["sha256"]
    change(table)
    plan.write_text(json.dumps(table | {"sha256": plan_digest(table)}))


def make(folder: Path, output: Path, *more: str, name: str = "Longer context", author: str = "A. Author") -> Result:
    arguments = [str(folder), "--name", name, "--author", author, "--output", str(output), *more]
    return CliRunner().invoke(record.main, arguments)


def made(folder: Path, output: Path, *more: str, **options: str) -> Result:
    found = make(folder, output, *more, **options)
    assert found.exit_code == 0, found.output
    return found


def reviewed(command: str) -> Result:
    """What the reviewer's command says, called as it was printed."""
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "analysis.significance", "check"]
    return CliRunner().invoke(significance.main, words[3:])


def passes(found: Result) -> str:
    """The command that a record names, after it said that nothing is wrong; with what it said."""
    command = found.stdout.splitlines()[-1].removeprefix("Check it with: ")
    check = reviewed(command)
    assert check.exit_code == 0, check.output
    said = re.findall(r"\b(?:error|warning|info): ([a-z-]+): ", check.stdout)
    assert set(said) <= {"criterion-not-tested"}  # the prior record's times are not the submitter's
    assert "not counted" not in check.stdout
    return command


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_supported_sweep_becomes_a_folder_that_passes_its_check(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = finish(GOOD), tmp_path / "new" / "records" / "mine"
    found = made(folder, output, "--github-id", "author", "--blurb", "Twice the context.")
    files = files_of(output)
    assert set(files) == {
        "README.md",
        "submission.json",
        "plan.json",
        "train_gpt.py",
        "train.log",
        "train_seed1338.log",
        "train_seed1339.log",
    }
    assert files["train_gpt.py"] == SOURCE.encode()
    assert files["plan.json"] == (folder / "plan.json").read_bytes()
    for seed, name in ((1337, "train.log"), (1338, "train_seed1338.log"), (1339, "train_seed1339.log")):
        assert files[name] == (folder / f"candidate/seed-{seed}/attempt-1/train.log").read_bytes()
    assert passes(found) == (
        f"python -m analysis.significance check {output} --sota {SOTA} --rules parameter-golf --require-plan"
    )
    monkeypatch.setattr(sys, "argv", ["/x/bin/seedproof", "record"])
    again = made(folder, tmp_path / "again", "--github-id", "author")
    assert f"Check it with: seedproof check {tmp_path / 'again'} --sota {SOTA}" in again.stdout
    table = json.loads(files["submission.json"])
    size = 15820 + len(SOURCE)
    assert {key: table[key] for key in list(table)[:12]} == {
        "author": "A. Author",
        "github_id": "author",
        "name": "Longer context",
        "blurb": "Twice the context.",
        "date": "2026-04-05",
        "val_loss": pytest.approx(1.20136009 / RATIO, abs=1e-8),
        "val_bpb": 1.20136009,
        "val_loss_std": pytest.approx(0.00187313 / RATIO, abs=1e-8),
        "val_bpb_std": 0.00187313,
        "bytes_total": size,
        "bytes_code": len(SOURCE),
        "seeds": [1337, 1338, 1339],
    }
    assert table["seed_results"]["1338"] == {
        "val_loss": round(1.19945102 / RATIO, 8),
        "val_bpb": 1.19945102,
        "steps": 100,
        "train_time_ms": 6010.0,
        "artifact_bytes": size,
        "log": "train_seed1338.log",
    }
    claim = read_claim(output / "submission.json")
    assert not claim.schema
    assert {seed: [float(value) for value in said.val_bpbs] for seed, said in claim.seeds.items()} == {
        seed: [value] for seed, value in GOOD.items()
    }


def test_the_readme_says_it_all_in_numbers_of_the_logs(finish: Finish, tmp_path: Path, monkeypatch: Any) -> None:
    folder = finish(GOOD)
    made(folder, tmp_path / "mine", "--blurb", "Twice the context.", "--github-id", "gh")
    text = (tmp_path / "mine" / "README.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# Longer context"
    assert lines[2].startswith("This claim is **supported**: The mean val\\_bpb of 3 seeds, 1.2014, is below 1.2111 at")
    assert lines[4] == "By A. Author (GitHub: gh), 2026-04-05."
    assert lines[6] == "Twice the context."
    size = 15820 + len(SOURCE)
    assert f"| 1338 | 2.02522392 | 1.19945102 | 100 | 6010 ms | {size} bytes | `train_seed1338.log`, line 38 |" in lines
    assert "| mean | 2.02844731 | 1.20136009 |  |  |  |  |" in lines
    assert "| sd | 0.00316271 | 0.00187313 |  |  |  |  |" in lines
    for row in (
        "threshold (SOTA - 0.005 bpb) | 1.21613611 - 0.00500000 = 1.21113611",
        "test | one-sample t",
        "df | 2",
        "t | -9.039",
        "p | 0.006009",
        "99% upper bound of the mean | 1.208",
    ):
        assert f"\n| {row}" in text
    assert "Nothing: every run had its result at the first attempt." in lines
    assert re.search(r"^The plan \w{12} \\\(fixed, given seeds\\\): exactly the planned runs\.$", text, re.MULTILINE)
    assert "    torchrun --standalone --nproc_per_node=8 train_gpt.py" in lines
    assert "The logs say: ranks 8; GPU NVIDIA H100 80GB HBM3; PyTorch 2.8.0+cu128; Python 3.11.3." in lines
    for name in files_of(tmp_path / "mine"):
        assert f"\n- `{name}`: " in text
    monkeypatch.chdir(tmp_path)  # the command in the README is for the folder above
    check = reviewed(lines[lines.index("## Check it") + 4].strip())
    assert check.exit_code == 0
    assert check.stdout.startswith("SUPPORTED: 0.0148 bpb better")


@pytest.mark.parametrize("sota", [None, SOTA + 0.01])
def test_a_control_lies_in_its_own_folder_and_is_the_plans(finish: Finish, tmp_path: Path, sota: float | None) -> None:
    folder = finish(GOOD, sota=sota, control=CONTROLS)
    command = passes(made(folder, tmp_path / "mine"))
    assert f"--control {tmp_path / 'mine' / 'control'} --rules parameter-golf --require-plan" in command
    assert ("--sota" in command) == (sota is not None)
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "## Control\n" in text
    assert "| 1338 | 2.06701156 | 1.2242 |" in text
    assert "A=1 \\" in text  # the control's recipe
    for seed in CONTROLS:
        log = folder / f"control/seed-{seed}/attempt-1/train.log"
        assert (tmp_path / f"mine/control/train_seed{seed}.log").read_bytes() == log.read_bytes()
    (tmp_path / "mine/control/train_seed1338.log").unlink()
    check = reviewed(command)
    assert check.exit_code == 1
    assert "no result for seed 1338" in check.stdout
    other = reviewed(command.replace(str(tmp_path / "mine" / "control"), str(tmp_path / "sweep" / "control")))
    assert ("tested against other control runs" in other.stdout) == (sota is None)


def test_a_paired_sweep_becomes_a_record_that_tells_which_pairs_were_split(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD, sota=None, control=CONTROLS, design={"name": "fixed", "paired": True})
    passes(made(folder, tmp_path / "whole"))
    text = (tmp_path / "whole/README.md").read_text()
    assert "\nThe plan is paired: candidate and control of a seed go to one node, back to back" in text
    seal(folder / "control/seed-1338/attempt-1/run.json", host="rack7.example.org")
    found = made(folder, tmp_path / "split")
    assert "warning: pair-split: submission.json:1: Found the pair of seed 1338 split over two hosts; " in found.stderr
    said = {path.name: path.read_text() for path in (tmp_path / "split").glob("*.*") if path.suffix != ".py"}
    assert not [name for name, content in said.items() if "rack7" in content or socket.gethostname() in content]
    hosts = {(one["arm"], one["seed"]): one["host"] for one in json.loads(said["submission.json"])["attempts"]}
    assert {key for key, host in hosts.items() if host != "host 1"} == {("control", 1338)}
    unpaired = finish(GOOD, name="unpaired", sota=None, control=CONTROLS)
    made(unpaired, tmp_path / "before")
    assert "paired" not in (tmp_path / "before/README.md").read_text()
    assert '"host"' not in (tmp_path / "before/submission.json").read_text()


@pytest.mark.parametrize("control", [None, dict.fromkeys(LONG[:3], 1.22)])
def test_of_a_sequential_sweep_only_the_seeds_that_count(finish: Finish, tmp_path: Path, control: Any) -> None:
    values: dict[int, float | None] = {11: 1.2001, 12: 1.2002, 13: 1.2003, 14: 1.2009}  # seed 14 came after the verdict
    sota = SOTA if control is None else None
    control = control and {seed: value + seed / 1e4 for seed, value in control.items()}
    folder = finish(values, seeds=LONG, looks=[3, 4, 5, 6], control=control, sota=sota)
    seal(folder / "candidate/seed-14/attempt-1/run.json", metric={"val_bpb": 1.2009})
    attempt(folder, "candidate", 15, 1, state="stopped", reason="the verdict was in")
    found = made(folder, tmp_path / "mine")
    assert {"train.log", "train_seed12.log", "train_seed13.log"} == {p.name for p in (tmp_path / "mine").glob("*.log")}
    assert json.loads((tmp_path / "mine/submission.json").read_text())["seeds"] == [11, 12, 13]
    text = (tmp_path / "mine/README.md").read_text()
    assert "- candidate seed 14, attempt 1: succeeded after the verdict was in, with a val\\_bpb of 1.2009\n" in text
    assert "- candidate seed 15, attempt 1: stopped: the verdict was in\n" in text
    assert "- candidate seed 16: not run, because the verdict was in\n" in text
    assert "| sequential p |" in text
    assert "--require-plan" in passes(found)
    check = reviewed(found.stdout.splitlines()[-1].removeprefix("Check it with: "))
    assert "at the look at 3 of at most 6 runs" in check.stdout
    assert ("against 3 control runs" in check.stdout) == (control is not None)


def test_a_sequential_sweep_that_goes_on_is_not_complete(finish: Finish, tmp_path: Path) -> None:
    folder = finish(FIRST_LOOK, seeds=LONG, looks=[3, 4, 5, 6], sota=1.2153)
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 4
    assert "no result of candidate seed 14 (pending)." in found.stderr
    assert f"python -m orchestration.sweep resume {folder}" in found.stderr


def test_what_is_not_supported_becomes_a_folder_only_as_a_non_record(finish: Finish, tmp_path: Path) -> None:
    folder, output = finish(BAD), tmp_path / "mine"
    refused = make(folder, output)
    assert refused.exit_code == 1
    assert not output.exists()
    assert "is not supported. The mean val_bpb" in refused.stderr
    assert "--non-record" in refused.stderr
    found = made(folder, output, "--non-record")
    assert "not supported, 3 seeds" in found.stdout
    line = (output / "README.md").read_text().splitlines()[2]
    assert line.startswith("This is a non-record submission, and its claim is **not supported**: The mean")
    assert json.loads((output / "submission.json").read_text())["non_record"] is True
    check = reviewed(found.stdout.splitlines()[-1].removeprefix("Check it with: "))
    assert check.exit_code == 1
    assert check.stdout.startswith("NOT SUPPORTED: ")
    assert "warning" not in check.stdout + found.stderr
    assert "It exits with code 1" in (output / "README.md").read_text()


def test_a_record_may_not_break_the_rules_a_non_record_says_where_it_does(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD, control=CONTROLS, sota=None)
    for log in folder.glob("control/*/attempt-1/train.log"):
        log.write_text(log.read_text().replace("world_size:8", "world_size:1"))
        seal(log.with_name("run.json"))
    refused = make(folder, tmp_path / "mine")
    assert refused.exit_code == 1
    assert "error: world-size: control/train_seed1337.log:1 and 2 more files: Found world_size 1" in refused.stderr
    assert ".partial" not in refused.stderr
    assert left_in(tmp_path) == ["sweep"]
    found = made(folder, tmp_path / "mine", "--non-record")
    assert "error: world-size: control/" in found.stderr
    assert "\n- **error** `world-size` control/train\\_seed1337.log:" in (tmp_path / "mine/README.md").read_text()


def test_not_even_a_non_record_has_files_that_do_not_fit(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    rewrite(folder / "plan.json", lambda plan: plan["script"].update(sha256=digest(b"x = 1\n" * 40)))
    (folder / "script.py").write_text("x = 1\n" * 40)
    refused = make(folder, tmp_path / "mine", "--non-record")
    assert refused.exit_code == 1
    assert "warning: source-not-shipped: train.log:" in refused.stderr
    assert left_in(tmp_path) == ["sweep"]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_failed_and_missing_runs(finish: Finish, tmp_path: Path) -> None:
    found = make(finish(GOOD | {1340: None}), tmp_path / "mine", "--non-record")
    assert found.exit_code == 4
    assert "1 of the planned runs failed, the first is candidate seed 1340" in found.stderr
    folder = finish(GOOD, name="other", seeds=[*GOOD, 1340])
    attempt(folder, "candidate", 1340, 1, state="lost", reason="the disk was full")
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 4
    assert "no result of candidate seed 1340 (lost)." in found.stderr
    assert f"Run what is missing with: python -m orchestration.sweep resume {folder}" in found.stderr
    folder = finish(GOOD, name="third", control=CONTROLS | {1339: None}, sota=SOTA)
    assert make(folder, tmp_path / "mine").exit_code == 4  # a control's run is planned, too
    assert not (tmp_path / "mine").exists()


def test_evidence_that_no_verdict_can_rest_on(finish: Finish, tmp_path: Path) -> None:
    found = make(finish({1: 1.2}), tmp_path / "mine")
    assert found.exit_code == 3
    assert "at least two seeds" in found.stderr


def test_runs_that_are_not_the_plans_are_refused(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    attempt(folder, "candidate", 1400, 1, state="succeeded")
    found = make(folder, tmp_path / "mine", "--non-record")
    assert found.exit_code == 1
    assert "not planned: seed 1400" in found.stderr


def lost(folder: Path, arm: str, seed: int, log: str, **manifest: Any) -> Path:
    """Put a lost attempt before the result of a run; return its log."""
    attempt(folder, arm, seed, 1, **{"state": "lost", "wall_s": 300.0} | manifest)
    path = folder / arm / f"seed-{seed}" / "attempt-1" / "train.log"
    path.write_text(log)
    seal(path.with_name("run.json"))
    return path


SEEN = "seed:{seed}\nstep:60/100 val_loss:{loss:.4f} val_bpb:{bpb:.4f} train_time:3600ms step_avg:60.00ms\n"


def seen(seed: int, bpb: float) -> str:
    return SEEN.format(seed=seed, bpb=bpb, loss=bpb / RATIO)


def test_lost_attempts_are_listed_with_their_logs_without_naming_a_machine(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD, control=CONTROLS, sota=None)
    reason = f"the disk was full on {socket.gethostname()} (10.0.0.7); see {folder}/train.log"
    log = lost(folder, "candidate", 1338, seen(1338, 1.2), reason=reason, host=socket.gethostname())
    lost(folder, "control", 1339, seen(1339, 1.23), reason="hung: no line for 300 s")
    found = made(folder, tmp_path / "mine")
    assert (
        "warning: attempts-remade: attempts/candidate-seed-1338-attempt-1.log:2: Found 2 attempts that" in found.stderr
    )
    files = files_of(tmp_path / "mine")
    assert files["attempts/candidate-seed-1338-attempt-1.log"] == log.read_bytes()
    assert "attempts/control-seed-1339-attempt-1.log" in files
    text = files["README.md"].decode()
    said = "- candidate seed 1338, attempt 1: lost: the disk was full on HOST (HOST); see train.log\n"
    assert said.replace("(", "\\(").replace(")", "\\)") in text
    assert "- control seed 1339, attempt 1: lost: hung: no line for 300 s\n" in text
    assert "Nothing:" not in text
    assert socket.gethostname() not in text + files["submission.json"].decode()
    table = json.loads(files["submission.json"])
    assert [(one["arm"], one["seed"], one["attempt"], one["state"]) for one in table["attempts"]] == [
        ("candidate", 1337, 1, "succeeded"), ("candidate", 1338, 1, "lost"), ("candidate", 1338, 2, "succeeded"),
        ("candidate", 1339, 1, "succeeded"), ("control", 1337, 1, "succeeded"), ("control", 1338, 1, "succeeded"),
        ("control", 1339, 1, "lost"), ("control", 1339, 2, "succeeded"),
    ]  # fmt: skip
    check = reviewed(found.stdout.splitlines()[-1].removeprefix("Check it with: "))
    assert check.exit_code == 0
    assert "not counted" not in check.stdout
    assert [line.split(": ")[1] for line in check.stdout.splitlines() if ": attempts/" in line] == ["attempts-remade"]
    verdict = judge((tmp_path / "mine",), Options(control=tmp_path / "mine/control"))
    assert [len(run.attempts) for run in (*verdict.runs, *verdict.control)] == [1, 2, 1, 1, 1, 2]
    assert [one.kind for one in verdict.also].count(ReadingKind.WORST_CASE) == 1
    claims = [one.claim.at.line for one in verdict.claims if one.claim.at.file == "submission.json"]
    at = files["submission.json"].decode().splitlines().index('  "attempts": [') + 1
    assert all(line < at or line > at + 70 for line in claims)  # nothing in there is a claim of the runs' numbers


def test_a_record_of_attempts_in_whose_worst_case_the_claim_fails_is_refused(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    log = lost(folder, "candidate", 1338, seen(1338, 1.25), reason="a rank was killed by SIGKILL")
    refused = make(folder, tmp_path / "mine")
    assert refused.exit_code == 1
    assert "error: attempts-remade: " in refused.stderr
    log.write_text(seen(1338, 1.2))
    assert "attempt-1/train.log cannot be shown to be the run's" in make(folder, tmp_path / "mine").stderr
    log.write_text(f"hf_q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA\n{seen(1338, 1.2)}")
    seal(log.with_name("run.json"))
    assert f"{log}:1 holds what looks like a secret" in make(folder, tmp_path / "mine").stderr
    assert left_in(tmp_path) == ["sweep"]


def test_what_a_reviewer_finds_in_a_records_attempts(finish: Finish, tmp_path: Path) -> None:
    lost(folder := finish(GOOD), "candidate", 1338, seen(1338, 1.2))
    made(folder, output := tmp_path / "mine")
    log = output / "attempts/candidate-seed-1338-attempt-1.log"

    def found(*codes: str) -> list[tuple[str, str]]:
        verdict = judge((output,), Options(sota=SOTA))
        return [(one.severity, one.code) for one in verdict.findings if one.code in codes]

    assert found("attempts-remade", "runs-left-out", "no-final-metric") == [("warning", "attempts-remade")]
    assert [one.code for one in audit((output,)).findings] == ["attempts-remade"]
    log.write_text(seen(1338, 1.25))
    assert found("attempts-remade") == [("error", "attempts-remade")]
    log.write_text((output / "train_seed1339.log").read_text().replace("1.2031", "1.2532"))  # of another seed
    assert ("error", "attempts-remade") in found("attempts-remade")
    log.unlink()
    assert found("attempts-remade") == [("error", "attempts-remade")]
    (message,) = [one.message for one in audit((output,)).findings]
    assert "its log is missing" in message
    claim = output / "submission.json"
    table = json.loads(claim.read_text())
    log.parent.mkdir(exist_ok=True)
    log.write_text((output / "train_seed1338.log").read_text().replace("1.1994", "1.2594").replace("1.1994", "1.2594"))
    for hidden in ([], [one for one in table["attempts"] if one["state"] == "lost"], "none", [[]], {"a": 1}):
        claim.write_text(json.dumps(table | {"attempts": hidden}))
        assert found("attempts-remade") == []
        assert found("runs-left-out") == [("error", "runs-left-out")]  # then its log is a run like others
    early = [one | {"wall_s": 0.1 if one["state"] == "lost" else 1e6} for one in table["attempts"]]
    claim.write_text(json.dumps(table | {"attempts": early}))
    assert found("attempts-remade") == [("error", "attempts-remade")]  # it had its result


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda folder: append(folder / "candidate/seed-1338/attempt-1/train.log"),
            ["seed-1338/attempt-1/train.log cannot be shown to be the run's", "SHA-256"],
        ),
        (lambda folder: append(folder / "script.py"), ["script.py was changed"]),
        (lambda folder: (folder / "script.py").unlink(), ["script.py cannot be read"]),
        (lambda folder: append_key(folder / "plan.json"), ["plan.json was changed after it was frozen"]),
        (lambda folder: shutil.rmtree(folder / "candidate"), ["is not complete"]),
        (lambda folder: (folder / "plan.json").unlink(), ["is not a sweep directory", "sweep run"]),
    ],
)
def test_what_was_changed_after_the_sweep_is_refused(
    finish: Finish, tmp_path: Path, spoil: Callable[[Path], None], words: list[str]
) -> None:
    folder = finish(GOOD)
    spoil(folder)
    found = make(folder, tmp_path / "mine", "--non-record")
    assert found.exit_code == (4 if "is not complete" in words else 1 if "SHA-256" in words else 2), found.output
    for word in words:
        assert word in found.stderr
    assert left_in(tmp_path) == ["sweep"]


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def append_key(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sota": 1.3}))


def test_a_log_that_nothing_says_the_digest_of_is_refused(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    seal(folder / "candidate/seed-1339/attempt-1/run.json", files=None)
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 1
    assert "when the run ended nothing recorded it" in found.stderr


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten(finish: Finish, tmp_path: Path, kind: str) -> None:
    folder, output = finish(GOOD), tmp_path / "mine"
    {"file": output.touch, "folder": output.mkdir, "dangling link": lambda: output.symlink_to("nowhere")}[kind]()
    found = make(folder, output)
    assert found.exit_code == 2
    assert "already exists" in found.stderr
    assert left_in(tmp_path) == ["mine", "sweep"]


@pytest.mark.parametrize("what", ["write", "check"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device", "/x")])
def test_an_interruption_leaves_nothing(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, error: BaseException
) -> None:
    folder, true, calls = finish(GOOD), getattr(build, what), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == (2 if what == "write" else 1):
            raise error
        return true(*arguments)

    monkeypatch.setattr(build, what, interrupted)
    found = make(folder, tmp_path / "new" / "mine")
    assert calls
    assert found.exit_code == (2 if isinstance(error, OSError) else 1)
    assert "Traceback" not in found.output
    assert left_in(tmp_path) == ["sweep"]


def test_a_sweep_that_is_driven_now_is_left_alone(finish: Finish, tmp_path: Path) -> None:
    from orchestration.disk.lock import Lock

    folder = finish(GOOD)
    lock = Lock(folder)
    try:
        found = make(folder, tmp_path / "mine")
    finally:
        lock.release()
    assert found.exit_code == 2
    assert "is in use" in found.stderr
    made(folder, tmp_path / "mine")


# -- scripts that print less, rules that are not shipped ---------------------------------------------------------------


def foreign(finish: Finish, **options: Any) -> Path:
    """A sweep of a script that prints a step, a final line of its own and what the rules cap."""
    folder = finish(GOOD, source=FOREIGN_SOURCE, **options)
    values = {arm: GOOD if arm == "candidate" else CONTROLS for arm in ("candidate", "control")}
    for log in folder.glob("*/*/attempt-1/train.log"):
        bpb = values[log.parts[-4]][int(log.parts[-3].removeprefix("seed-"))]
        log.write_text(
            f"world_size:8\nstep:1/3 train_loss:{bpb + 1:.4f} train_time:99ms\nTotal submission size: 12000000 bytes\n"
            f"my_final_score val_loss: {bpb / 0.6:.8f} val_bpb: {bpb:.8f}\n"
        )
        seal(log.with_name("run.json"))
    return folder


@pytest.mark.parametrize("control", [None, CONTROLS])
def test_a_foreign_script_that_prints_no_seed(finish: Finish, tmp_path: Path, control: dict[int, float] | None) -> None:
    folder = foreign(finish, control=control, sota=None if control else SOTA)
    found = made(folder, tmp_path / "mine")
    output = tmp_path / "mine"
    assert not (output / "plan.json").exists()  # it could not be compared with the logs
    assert "warning: seed-missing: train.log:1" in found.stderr
    assert "\n- **warning** `seed-missing`" in (output / "README.md").read_text()
    table = json.loads((output / "submission.json").read_text())
    assert table["bytes_total"] == 12_000_000
    assert table["bytes_code"] == len(FOREIGN_SOURCE)
    assert table["seeds"] == list(GOOD)
    assert "seed_results" not in table  # whose values they are could not be told
    check = reviewed(found.stdout.splitlines()[-1].removeprefix("Check it with: "))
    assert check.exit_code == 0, check.output
    assert set(re.findall(r"^  (\w+: [a-z-]+):", check.stdout, re.MULTILINE)) == {"warning: seed-missing"}


def test_a_sequential_sweep_without_printed_seeds(finish: Finish, tmp_path: Path) -> None:
    folder = foreign(finish, seeds=[*GOOD, 1340, 1341], looks=[3, 4, 5], sota=1.26)
    found = made(folder, tmp_path / "mine")
    command = found.stdout.splitlines()[-1].removeprefix("Check it with: ")
    assert command.endswith("--rules parameter-golf --design sequential")
    assert reviewed(command).exit_code == 0


def test_a_check_that_says_otherwise_than_the_sweep(finish: Finish, tmp_path: Path) -> None:
    folder = foreign(
        finish, seeds=[*GOOD, 1340], looks=[3, 4], sota=1.2185
    )  # enough for two looks, not for the usual eight
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 1
    assert not (tmp_path / "mine").exists()
    assert "would not say what the sweep says: " in found.stderr
    assert "print seed:N." in found.stderr


def test_a_script_that_is_too_short_to_be_one_is_refused(finish: Finish, tmp_path: Path) -> None:
    folder = foreign(finish)
    (folder / "script.py").write_text("x = 1\n")
    rewrite(folder / "plan.json", lambda plan: plan["script"].update(sha256=digest(b"x = 1\n")))
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 1
    assert "error: script-stub: train_gpt.py:1" in found.stderr


def test_a_log_of_the_last_validation_and_no_bpb(finish: Finish, tmp_path: Path) -> None:
    rules = asdict(load("nanogpt-track-1"))
    folder = finish(GOOD, source=FOREIGN_SOURCE, sota=None, ruleset=rules)
    for number, log in enumerate(sorted(folder.glob("*/*/attempt-1/train.log"))):
        log.write_text(f"step:0/10 val_loss:10.8\nstep:10/10 val_loss:3.27{number} train_time:99ms step_avg:9.9ms\n")
        seal(log.with_name("run.json"))
    found = made(folder, tmp_path / "mine")
    assert passes(found).endswith("/mine --rules nanogpt-track-1")
    table = json.loads((tmp_path / "mine/submission.json").read_text())
    assert table["val_loss"] == 3.271  # the mean is one run's value too, by chance
    assert "val_bpb" not in table


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margin": 0.004}, "--rules parameter-golf --margin 0.004 --require-plan"),
        (
            {"margin": 0.004, "unit": "nats", "alpha": 0.02},
            "--rules parameter-golf --margin 0.004 --unit nats --alpha 0.02 --require-plan",
        ),
        (
            {"name": "mine", "gpu": None, "train_time_s": 1e-05 + 99, "findings": {"missing-file": "off"}},
            "--rules OUT/rules.toml --require-plan",
        ),
        ({"gpu": "H100 \"é'"}, "--rules OUT/rules.toml --require-plan"),
    ],
)
def test_rules_that_are_not_as_shipped(finish: Finish, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    rules, output = asdict(load("parameter-golf")) | changes, tmp_path / "mine"
    options = () if "gpu" not in changes or changes["gpu"] is None else ("--non-record",)
    found = made(finish(GOOD, ruleset=rules), output, *options)
    command = found.stdout.splitlines()[-1]
    assert command.endswith(words.replace("OUT", str(output)))
    assert (output / "rules.toml").exists() == ("OUT" in words)
    if not options:
        passes(found)


def test_a_ruleset_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    for name in ("parameter-golf", "nanogpt-track-1", "nanogpt-track-3"):
        rules = replace(load(name), findings={"missing-file": "off"}, alpha=1e-05, gpu='a "b" \\ c\té')
        (tmp_path / f"{name}.toml").write_text(as_toml(rules), encoding="utf-8")
        assert load(str(tmp_path / f"{name}.toml")) == rules


# -- what is published -------------------------------------------------------------------------------------------------

HOSTILE = "a|b](http://x.test) <img src=x onerror=alert(1)> @all `c` **d**\n::error::no\n# no\u202e\x1b[31m ##[set-output]\udc80"


def test_a_hostile_name_is_text_everywhere(finish: Finish, tmp_path: Path) -> None:
    found = made(
        finish(GOOD), tmp_path / "mine", "--blurb", HOSTILE, "--github-id", HOSTILE, name=HOSTILE, author=HOSTILE
    )
    passes(found)
    table = json.loads((tmp_path / "mine/submission.json").read_text())
    assert {table[key] for key in ("name", "author", "blurb", "github_id")} == {HOSTILE}
    text = (tmp_path / "mine/README.md").read_text()
    assert not re.search(r"<img|\]\(http|@all|^::|^# no|\x1b|\u202e|(?<!\\)\*\*d|##\[", text, re.MULTILINE)
    assert len([line for line in text.splitlines() if line.startswith("# ")]) == 1


@pytest.mark.parametrize("option", ["name", "author"])
def test_an_empty_name_is_refused(finish: Finish, tmp_path: Path, option: str) -> None:
    found = make(finish(GOOD), tmp_path / "mine", **{option: " \n"})
    assert found.exit_code == 2
    assert f"--{option} is empty" in found.stderr


def test_generated_files_name_no_path_host_or_user(finish: Finish, tmp_path: Path) -> None:
    env = {
        "DATA_PATH": "/home/alice/data/fineweb10B_sp1024",
        "LR": "0.03",
        "NOTE": "it's `x`\nq",
    }
    rules = asdict(load("parameter-golf")) | {"name": "own"}
    folder = finish(
        GOOD,
        arms={"candidate": {"env": env}, "control": {"env": env | {"LR": "0.04"}}},
        control=CONTROLS,
        ruleset=rules,
    )
    found = made(folder, tmp_path / "mine", "--blurb", "x")
    assert "/home/alice/code/train.py, /home/alice/data/fineweb10B_sp1024." in found.stderr
    text = (tmp_path / "mine/README.md").read_text()
    for line in ("DATA_PATH=fineweb10B_sp1024", "LR=0.03", "LR=0.04", "NOTE='it'\"'\"'s `x`\\x0aq'"):
        assert f"\n    {line} \\\n" in text
    for name in ("README.md", "submission.json", "rules.toml"):
        content = (tmp_path / "mine" / name).read_text()
        assert not re.search(r"(?<![\w.])~?/[\w.]", content), name
        for word in (str(tmp_path), "alice", "/home", socket.gethostname(), f"/{getpass.getuser()}/", ".partial"):
            assert word not in content, (name, word)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see /home/al/x/train.log, line 3", "see train.log, line 3"),
        ("~/data and/or a/b ./c", "data and/or a/b ./c"),
        ("FileNotFoundError('/data/x.bin')", "FileNotFoundError('x.bin')"),
        ("node7.lan: 10.1.2.3:29500 refused; node77 too", "HOST: HOST:29500 refused; node77 too"),
        ("torch 2.8.0.1", "torch HOST"),  # four numbers with dots may be an address
    ],
)
def test_what_is_published_of_a_text(text: str, shown: str) -> None:
    assert public(text, ["node7.lan", "node7"]) == shown


def test_the_same_sweep_gives_the_same_bytes(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD, control=CONTROLS)
    for parent in ("a", "b"):
        made(folder, tmp_path / parent / "mine")
    assert files_of(tmp_path / "a" / "mine") == files_of(tmp_path / "b" / "mine")
    made(folder, tmp_path / "mine", "--date", "2026-05-01")
    assert json.loads((tmp_path / "mine/submission.json").read_text())["date"] == "2026-05-01"


def test_the_day_is_that_of_the_last_run_in_utc(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    seal(folder / "candidate/seed-1339/attempt-1/run.json", ended="2026-04-05T23:30:00-05:00")
    made(folder, tmp_path / "mine")
    assert json.loads((tmp_path / "mine/submission.json").read_text())["date"] == "2026-04-06"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom orchestration.record import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"scipy", "pandas", "numpy", "torch", "ray"} & set(found.stderr.split())
    assert "--non-record" in found.stdout


def test_a_secret_in_a_log_is_not_published(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    log = folder / "candidate/seed-1338/attempt-1/train.log"
    token = "hf_" + "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"
    log.write_text(f"login with {token}\n" + log.read_text())
    seal(log.with_name("run.json"), files={"train.log": {"sha256": digest(log.read_bytes())}})
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 1
    assert f"{log}:1 holds what looks like a secret (Hugging Face token)" in found.stderr
    assert token not in found.output
    assert not (tmp_path / "mine").exists()


def test_a_script_of_several_files_is_no_record(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    rewrite(folder / "plan.json", lambda plan: plan["script"].update(modules=["kernels"]))
    found = make(folder, tmp_path / "mine")
    assert found.exit_code == 1
    assert "imports kernels from its own folder" in found.stderr


def test_the_readings_against_the_control_are_not_left_out(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD, sota=1.21613611, control={1337: 1.2160, 1338: 1.2158, 1339: 1.2166})
    found = made(folder, tmp_path / "mine")
    assert found.exit_code == 0
    text = (tmp_path / "mine/README.md").read_text()
    assert "| Welch against 3 control runs, margin of 0.005 bpb | supported |" in text
    assert "control: The mean val\\_bpb of 3 seeds" in text


def test_a_non_record_with_errors_does_not_read_like_a_pass(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    rules = asdict(load("parameter-golf")) | {"artifact_bytes": 1000}
    rewrite(folder / "plan.json", lambda plan: plan.update(ruleset=rules))
    found = made(folder, tmp_path / "mine", "--non-record")
    assert "but the check refuses it for the findings above." in found.stdout
    text = (tmp_path / "mine/README.md").read_text()
    assert "but a check refuses the folder because of the findings below" in text
    assert "It exits with code 1, because of what it finds." in text


def test_what_the_runs_were_made_on(finish: Finish, tmp_path: Path) -> None:
    folder = finish(GOOD)
    for seed in GOOD:
        gpus = [{"name": "NVIDIA H100" if seed != 1339 else "NVIDIA A100"}] * 8
        data = {"tokenizer": {"sha256": "a" * 64}, "shards": {"count": 80, "digests": []}}
        seal(folder / f"candidate/seed-{seed}/attempt-1/run.json", gpus=gpus, versions={"torch": "2.8.0"}, data=data)
    made(folder, tmp_path / "mine")
    text = (tmp_path / "mine/README.md").read_text()
    same = "torch 2.8.0, tokenizer aaaaaaaaaaaa, 80 data files "
    assert f"- candidate seed 1337, candidate seed 1338: 8 x NVIDIA H100, {same}" in text
    assert f"- candidate seed 1339: 8 x NVIDIA A100, {same}" in text


@pytest.mark.parametrize(
    ("name", "word"),
    [("-dash", "cannot be typed"), ("a\nb", "cannot be typed"), ("sweep/candidate/x", "is inside the sweep")],
)
def test_names_that_would_do_harm(finish: Finish, tmp_path: Path, name: str, word: str) -> None:
    folder = finish(GOOD)
    assert folder.name == "sweep"
    found = make(folder, tmp_path / name)
    assert found.exit_code == 2, found.stderr
    assert word in found.stderr


def test_values_of_a_recipe_that_are_no_paths_stay_as_they_are(finish: Finish, tmp_path: Path) -> None:
    env = {
        "REPO": "https://huggingface.co/foo/bar",
        "PATTERN": "data/*/fineweb_*.bin",
        "VERSION": "1.2.3.4",
        "DATA_PATH": "/x/y/z",
    }
    folder = finish(GOOD, arms={"candidate": {"env": env}})
    made(folder, tmp_path / "mine")
    text = (tmp_path / "mine/README.md").read_text()
    for line in (
        "REPO=https://huggingface.co/foo/bar",
        "PATTERN='data/*/fineweb_*.bin'",
        "VERSION=1.2.3.4",
        "DATA_PATH=z",
    ):
        assert f"    {line} \\\n" in text
