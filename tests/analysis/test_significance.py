"""`report` and `check` as a reviewer calls them: numbers, formats, exit codes, sentences."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
from click.testing import CliRunner

from analysis.evidence.options import Options
from analysis.report.markdown import markdown as markdown_of
from analysis.significance import main
from analysis.untrusted.escape import markdown, printable
from analysis.verdict.judge import judge
from analysis.verdict.numbers import format_p
from tests.analysis.verdicts import CONTROL, SEEDS, WEAK
from tests.conftest import RATIO, ROOT, SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]
METRIC_LINE = make_log(1, 1.2).count("\n")


def report(*arguments: str | Path) -> tuple[int, dict]:
    """`report` in this process: a new one takes half a second to start."""
    found = CliRunner().invoke(main, ["report", *map(str, arguments), "--format", "json"])
    return found.exit_code, json.loads(found.stdout)


def test_json_of_a_supported_claim(record: Record) -> None:
    code, table = report(record(SEEDS), "--sota", "1.21613611")
    assert code == 0
    assert table["schema_version"] == 2
    assert table["verdict"] == "supported"
    assert table["rules"] == "parameter-golf"
    assert table["metric"] == "val_bpb"
    assert table["unit"] == "bpb"
    assert table["threshold"] == pytest.approx(1.21113611, abs=1e-12)
    assert table["test"]["name"] == "one-sample t"
    assert table["test"]["statistic"] == pytest.approx(-9.039720939803, abs=1e-9)
    assert table["test"]["p_value"] == pytest.approx(0.006008638100610, abs=1e-9)
    assert table["upper_bound"] == pytest.approx(1.2088919205, abs=1e-9)
    assert table["n"] == 3
    assert table["test"]["df"] == 2
    assert table["sota"] == 1.21613611
    assert table["margin"] == 0.005
    assert table["alpha"] == 0.01
    run = table["runs"][0]
    assert run["seed"] == 1337
    assert run["log"] == "train_seed1337.log"
    assert run["label"] == "final_int8_zlib_roundtrip_exact"
    assert run["val_bpb"] == 1.20143417
    assert run["steps"] == 100
    assert run["train_time_ms"] == 6009
    assert run["artifact_bytes"] == 15820 + len(SOURCE)
    assert table["findings"] == []


def test_the_other_unit_is_always_printed_beside(record: Record) -> None:
    folder = record(SEEDS)
    _, in_bpb = report(folder, "--sota", "1.21613611")
    nats, e_value = in_bpb["also"]
    assert e_value["reading"] == "open-ended e-value"
    assert e_value["verdict"] == "not_supported"
    assert e_value["test"]["statistic"] == pytest.approx(30.389251455524672, rel=1e-9)
    assert nats["unit"] == "nats"
    assert nats["threshold"] == pytest.approx(1.21613611 - 0.005 * RATIO, abs=1e-8)
    _, in_nats = report(folder, "--sota", "1.21613611", "--unit", "nats")
    assert in_nats["threshold"] == pytest.approx(nats["threshold"], abs=1e-15)
    assert in_nats["also"][0]["threshold"] == pytest.approx(in_bpb["threshold"], abs=1e-15)


def test_a_frame_passes_no_gate(command: Run, record: Record, tmp_path: Path) -> None:
    """A table that somebody typed: nothing of it can be checked."""
    frame = tmp_path / "typed.csv"
    assert command("analysis.logs", record(SEEDS), "--output", frame).returncode == 0
    found = command("analysis.significance", "check", frame, "--sota", "1.3")
    assert found.returncode == 1
    assert "error: no-logs: " in found.stdout
    assert found.stdout.startswith("REFUSED: ")
    assert report(frame, "--sota", "1.3")[0] == 0
    found = command("analysis.significance", "check", record(SEEDS, "other"), "--control", frame)
    assert found.returncode == 1
    assert "error: no-logs: " in found.stdout


def test_a_control_without_a_log_is_said(command: Run, record: Record, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = command("analysis.significance", "check", record(SEEDS), "--control", tmp_path / "empty")
    assert found.returncode == 3
    assert "empty: it holds no training log" in found.stdout


def test_markdown_says_refused_where_the_gate_does(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    (folder / "README.md").unlink()
    found = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", "markdown")
    assert found.stdout.startswith("## seedproof: refused\n")


def test_the_gate_says_by_which_rules_it_judged(command: Run, record: Record) -> None:
    found = command("analysis.significance", "check", record(SEEDS), "--sota", "1.3")
    assert "  rules: parameter-golf; to beat: SOTA 1.3000 (given, not checked)" in found.stdout.splitlines()


def test_against_control_runs(record: Record) -> None:
    folder, control = record(SEEDS), record(CONTROL, "control")
    code, table = report(folder, "--control", control)
    assert code == 1
    assert table["sota"] == pytest.approx(math.fsum(CONTROL.values()) / 3)
    assert table["test"]["name"] == "Welch t"
    assert table["test"]["p_value"] == pytest.approx(0.498, abs=5e-4)
    assert table["upper_bound"] == pytest.approx(1.2073827257816427, rel=1e-12)
    readings = {(also["test"]["name"], also["unit"]): also for also in table["also"][1:]}
    ignoring = next(also for also in table["also"] if "control's mean" in also["reading"])
    assert ignoring["test"]["name"] == "one-sample t"
    assert ignoring["test"]["df"] == 2
    assert readings["Welch t", "bpb"]["test"]["p_value"] == pytest.approx(0.498, abs=5e-4)
    assert readings["Welch t", "nats"]["test"]["p_value"] == pytest.approx(0.095, abs=5e-4)
    assert ("pooled t", "bpb") in readings


def test_a_sota_and_a_control_must_both_be_beaten(record: Record) -> None:
    folder, strong, weak = record(SEEDS), record(CONTROL, "strong"), record(WEAK, "weak")
    code, table = report(folder, "--control", strong, "--sota", "1.21613611")
    assert (code, table["verdict"]) == (1, "not_supported")
    assert table["test"]["name"] == "one-sample t"
    assert table["test"]["p_value"] < 0.01
    (control,) = table["criteria"]
    assert (control["name"], control["verdict"], control["test"]["name"]) == ("control", "not_supported", "Welch t")
    assert control["test"]["p_value"] == pytest.approx(0.498, abs=5e-4)
    code, table = report(folder, "--control", weak, "--sota", "1.21613611")
    assert (code, [one["verdict"] for one in table["criteria"]]) == (0, ["supported"])
    code, table = report(folder, "--control", weak, "--sota", "1.20613611")
    assert (code, table["verdict"], [one["verdict"] for one in table["criteria"]]) == (
        1,
        "not_supported",
        ["supported"],
    )


def test_options_override_the_ruleset(record: Record) -> None:
    folder = record(SEEDS)
    assert report(folder, "--sota", "1.21613611", "--alpha", "0.005")[0] == 1
    assert report(folder, "--sota", "1.21613611", "--margin", "0.012")[0] == 1
    assert report(folder, "--sota", "1.21613611", "--margin", "0")[1]["threshold"] == 1.21613611


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["What is to be beaten", "--sota", "--control"]),
        (("--sota", "nan"), ["--sota"]),
        (("--sota", "1.2", "--alpha", "7"), ["--alpha"]),
        (("--sota", "1.2", "--margin", "-1"), ["--margin", "0 or more"]),
        (("--sota", "1.2", "--rules", "nope"), ["'nope'", "parameter-golf"]),
        (("--sota", "1.2", "--unit", "bits"), ["bits", "nats"]),
        (("--control", "/does/not/exist"), ["/does/not/exist"]),
    ],
)
def test_usage_errors(command: Run, record: Record, arguments: tuple[str, ...], words: list[str]) -> None:
    for verb in ("report", "check"):
        found = command("analysis.significance", verb, record(SEEDS, verb), *arguments)
        assert found.returncode == 2
        assert found.stdout == ""
        for word in words:
            assert word in found.stderr


def test_a_path_that_does_not_exist_is_a_usage_error(command: Run) -> None:
    found = command("analysis.significance", "check", "/nope", "--sota", "1")
    assert found.returncode == 2
    assert "/nope" in found.stderr


@pytest.mark.parametrize(
    ("logs", "word"),
    [
        ([], "No training log"),
        ([make_log(1, 1.2)], "one run"),
        ([make_log(1, 1.2), make_log(2, float("nan"))], "nan"),
        ([make_log(1, 1.2), make_log(2, 1.2)], "no spread"),
        ([make_log(1, 1.2), make_log(1, 1.3)], "Seed 1 is there twice"),
    ],
)
def test_unusable_evidence_leaves_with_3_and_a_sentence(
    command: Run, tmp_path: Path, logs: list[str], word: str
) -> None:
    for index, log in enumerate(logs):
        (tmp_path / f"{index}.log").write_text(log)
    code, table = report(tmp_path, "--sota", "1.3")
    assert code == 3
    assert table["verdict"] == "unusable"
    assert table["test"] is None
    assert word in table["reason"]
    found = command("analysis.significance", "check", tmp_path, "--sota", "1.3")
    assert found.returncode == 3
    assert word in found.stderr


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_format_shows_verdict_numbers_and_places(command: Run, record: Record, tmp_path: Path, form: str) -> None:
    output = tmp_path / "out"
    found = command(
        "analysis.significance",
        "report",
        record(SEEDS),
        "--sota",
        "1.21613611",
        "--control",
        record(WEAK, "control"),
        "--format",
        form,
        "--output",
        output,
    )
    assert found.returncode == 0
    assert found.stdout == ""
    text = output.read_text().replace("\\", "")
    for word in (
        "upported",
        "1.21113611",
        "0.006009",
        "-9.0397",
        "1.20889192",
        f"train_seed1338.log:{METRIC_LINE}",
        "Welch",
    ):
        assert word in text or word.upper() in text, word


def test_the_page_needs_no_network_and_escapes_what_it_shows(command: Run, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<b>"
    folder.mkdir()
    for seed in (1, 2):
        (folder / f"<b>{seed}.log").write_text(make_log(seed, 1.2 + seed / 1000))
    found = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", "html")
    assert found.returncode in (0, 1)
    assert "<script" not in found.stdout
    assert "alert(1)<b>" not in found.stdout
    assert "<b>1.log" not in found.stdout
    loaded = re.sub(r'<a href="https://[^"]+">', "", found.stdout)  # a link is followed, not loaded
    assert "http" not in loaded.replace("http://www.w3.org/", "")


def test_check_in_github_actions(python: Run, record: Record, tmp_path: Path) -> None:
    folder, summary = record(SEEDS), tmp_path / "summary.md"
    (folder / "train.log").write_bytes((folder / "train_seed1337.log").read_bytes())
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    found = python("-m", "analysis.significance", "check", folder, "--sota", "1.21613611", env=env)
    assert found.returncode == 0
    assert "::notice title=seedproof::SUPPORTED" in found.stdout
    assert f"file={folder}/train.log,line=1,title=duplicate-log::" in found.stdout
    assert summary.read_text().startswith("## seedproof: supported")
    assert "::" not in python("-m", "analysis.significance", "check", folder, "--sota", "1.21613611").stdout


def test_text_from_outside_is_shown_and_not_obeyed(command: Run, tmp_path: Path) -> None:
    assert printable("a\x1b[31mb\u202ec") == "a\\x1b[31mb\\x202ec"
    assert markdown("`x` <b> @you [a](b)|") == r"\`x\` &lt;b&gt; &#64;&#8203;you \[a\]\(b\)\|"
    name = "a\n::error::x%.log"
    for seed, log in ((1, name), (2, "b.log")):
        (tmp_path / log).write_text(make_log(seed, 1.2) + make_log(seed, 1.2 + seed / 1000))
    found = command("analysis.significance", "check", tmp_path, "--sota", "1.3", env={"GITHUB_ACTIONS": "true"})
    commands = [line for line in found.stdout.splitlines() if line.startswith("::")]
    assert any("title=several-runs-in-log" in line for line in commands)
    assert not any(line.startswith("::error::") for line in found.stdout.splitlines())


@pytest.mark.parametrize(
    ("command", "environment", "start"),
    [
        ("report", {}, "\x1b[32m\x1b[1mSUPPORTED\x1b[0m: "),
        ("check", {}, "\x1b[32m\x1b[1mSUPPORTED\x1b[0m: "),
        ("check", {"NO_COLOR": "1"}, "SUPPORTED: "),
        ("check", {"TERM": "dumb"}, "SUPPORTED: "),
        ("check", {"CI": "true"}, "SUPPORTED: "),
    ],
)
def test_colour_is_for_terminals(record: Record, command: str, environment: dict[str, str], start: str) -> None:
    arguments = ["-m", "analysis.significance", command, str(record(SEEDS)), "--sota", "1.21613611"]
    plain = ("NO_COLOR", "TERM", "CI", "GITHUB_ACTIONS")
    own = {name: value for name, value in os.environ.items() if name not in plain}
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", 0) as terminal,
        subprocess.Popen(
            [sys.executable, *arguments], stdout=theirs, env=own | {"TERM": "xterm"} | environment, cwd=ROOT
        ) as process,
    ):
        os.close(theirs)
        shown = terminal.read(60).decode()
        with contextlib.suppress(OSError):  # so a terminal says that nobody writes any more
            while terminal.read(4096):
                pass
        assert process.wait(60) == 0
    assert shown.startswith(start)


def test_a_comment_shows_a_screen_and_hides_the_rest(record: Record, tmp_path: Path) -> None:
    folder, control = record(SEEDS), record(CONTROL, "control")
    for number in range(8):
        (folder / f"copy{number}.log").write_bytes((folder / "train_seed1337.log").read_bytes())
    shown = markdown_of(judge((folder,), Options(sota=1.21613611, control=control)))
    head, *hidden = shown.split("<details>")
    assert len(head.splitlines()) < 25
    assert "train_seed1338.log".replace("_", "\\_") in head
    assert [part.split("</summary>")[0].removeprefix("<summary>") for part in hidden] == [
        "Numbers, by the rules of parameter-golf",
        "Every claim",
        "Control",
        "Further criteria",
        "Sensitivity",
        "What the numbers assume",
    ]
    assert shown.count("<details>") == shown.count("</details>") == 6


def test_p_is_never_printed_as_zero() -> None:
    assert format_p(0.0060086) == "= 0.006009"
    assert format_p(2.4e-5) == "< 1e-4"
    assert format_p(9.9e-13) == "< 1e-12"
    assert format_p(0.0) == "< 1e-300"


def test_the_source_record(real_logs: Path) -> None:
    folder = real_logs / "parameter-golf" / "2026-03-19_TrainingOptSeq4096"
    code, table = report(folder, "--sota", "1.21613611")
    assert code == 0
    assert table["test"]["statistic"] == pytest.approx(-9.039720939803, abs=1e-9)
    assert table["test"]["p_value"] == pytest.approx(0.006008638100610, abs=1e-9)
    assert [(run["log"], run["line"]) for run in table["runs"]] == [
        ("train.log", 632),
        ("train_seed1338.log", 679),
        ("train_seed1339.log", 675),
    ]


def test_candidate_and_control_must_carry_one_metric(record: Record) -> None:
    folder, control = record(SEEDS), record(CONTROL, "control")
    for log in control.glob("*.log"):
        log.write_text(log.read_text().replace("final_int8_zlib_roundtrip", "final_other"))
    code, table = report(folder, "--control", control)
    assert code == 3
    assert table["verdict"] == "unusable"
    assert "different metrics" in table["reason"]


def test_control_rows_findings_and_frames(record: Record, tmp_path: Path) -> None:
    folder, control = record(SEEDS), record(CONTROL, "control")
    (control / "copy.log").write_bytes((control / "train_seed1.log").read_bytes())
    _, table = report(folder, "--control", control)
    assert {row["arm"] for row in table["control"]} == {"control"}
    assert table["control"][0]["log"] == str(control / "train_seed1.log")
    assert [finding["file"] for finding in table["findings"]] == [str(control / "copy.log")]
    assert table["sota_is"] == "control's mean"
    assert table["n"] == 3


def test_what_was_read_is_kept_when_nothing_can_be_told(record: Record) -> None:
    folder = record({1: 1.2})
    (folder / "copy.log").write_bytes((folder / "train_seed1.log").read_bytes())
    _, table = report(folder, "--sota", "1.3")
    assert table["sota"] == 1.3
    assert table["n"] == 1
    assert len(table["runs"]) == 1
    assert [finding["code"] for finding in table["findings"]] == ["too-few-seeds", "duplicate-log"]


def test_the_level_of_the_bound_is_not_rounded(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    for alpha, level in (("0.001", "99.9%"), ("0.025", "97.5%"), ("0.01", "99%")):
        found = command("analysis.significance", "report", folder, "--sota", "1.3", "--alpha", alpha)
        assert f"{level} upper bound" in found.stdout


def test_an_output_that_cannot_be_written_is_a_usage_error(command: Run, record: Record, tmp_path: Path) -> None:
    folder, output = record(SEEDS), tmp_path / "no" / "x"
    for words in (("analysis.significance", "report", folder, "--sota", "1.3"), ("analysis.logs", folder)):
        found = command(*words, "--output", output)
        assert found.returncode == 2
        assert "cannot be written" in found.stderr


def test_a_sweep_whose_plan_was_changed_cannot_be_told(command: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"sota": 2, "sha256": "x"}')
    found = command("analysis.significance", "check", tmp_path)
    assert found.returncode == 3
    assert "changed after it was frozen" in found.stderr


# -- the speedruns -----------------------------------------------------------------------------------------------------


def speedrun(folder: Path, *losses: float) -> Path:
    folder.mkdir()
    for number, loss in enumerate(losses):
        text = f"step:0/9 val_loss:10.8 train_time:0ms\nstep:9/9 val_loss:{loss} train_time:{99 + number}ms step_avg:11ms\n"
        (folder / f"{number}.txt").write_text(text)
    return folder


def test_the_target_of_a_ruleset_needs_no_sota(command: Run, tmp_path: Path) -> None:
    folder = speedrun(tmp_path / "a", 3.2755, 3.2753, 3.2758, 3.2794)
    code, table = report(folder, "--rules", "nanogpt-track-1")
    assert code == 1
    assert table["sota"] == 3.28
    assert table["sota_is"] == "target"
    assert table["metric"] == "val_loss"
    assert table["test"]["p_value"] == pytest.approx(0.01837576, abs=1e-8)
    assert [also["reading"] for also in table["also"]] == ["open-ended e-value"]
    assert [one["code"] for one in table["findings"]] == ["criterion-not-tested"]  # the time
    assert table["runs"][0]["label"] == "val_loss"
    text = command("analysis.significance", "report", folder, "--rules", "nanogpt-track-1").stdout
    assert "threshold (the target)" in text
    assert report(folder, "--rules", "nanogpt-track-1", "--sota", "3.29")[1]["sota"] == 3.29


@pytest.mark.parametrize(("gain", "code"), [(0.00201, 0), (0.00199, 1)])
def test_track_3_passes_at_its_own_critical_value(command: Run, tmp_path: Path, gain: float, code: int) -> None:
    """Four runs: (3.28 - mean) sqrt(4) >= 0.004, so the mean must be 0.002 below; p is 0.001 there."""
    folder = speedrun(tmp_path / "a", *(3.28 - gain + d for d in (-0.001, 0.001, -0.002, 0.002)))
    found, table = report(folder, "--rules", "nanogpt-track-3")
    assert found == code
    assert table["test"]["name"] == "known-sigma z"
    assert table["test"]["df"] is None
    assert table["test"]["p_value"] == pytest.approx(0.00105, abs=6e-5)
    assert table["upper_bound"] == pytest.approx(3.28 - gain + 3.0902323 * 0.0013 / 2, abs=1e-6)
    assert [also["test"]["name"] for also in table["also"]] == ["one-sample t"]
    for form in ("text", "markdown", "html"):
        page = command("analysis.significance", "report", folder, "--rules", "nanogpt-track-3", "--format", form)
        assert page.returncode == code
        assert "spread between runs is known" in page.stdout


def test_a_run_that_stopped_early_has_no_result(tmp_path: Path) -> None:
    folder = speedrun(tmp_path / "a", 3.2755, 3.2753)
    (folder / "9.txt").write_text("step:0/9 val_loss:10.8 train_time:0ms\nstep:5/9 val_loss:5.1 train_time:9ms\n")
    code, table = report(folder, "--rules", "nanogpt-track-1")
    assert code == 3
    assert [finding["code"] for finding in table["findings"]] == ["no-final-metric"]
    assert "9.txt holds a run without a final metric" in table["reason"]


def test_the_real_speedruns(real_logs: Path) -> None:
    logs = real_logs / "modded-nanogpt"
    for folder, rules, n, mean, p, code in (
        ("track_1_short/2025-12-22_MultiTokenPrediction", "nanogpt-track-1", 14, 3.278742857, 0.000304815, 0),
        ("track_1_short/2024-12-10_MFUTweaks", "nanogpt-track-1", 8, 3.27755, 0.013890, 1),
        ("track_3_optimization/20260430_muonh", "nanogpt-track-3", 10, 3.27821, 6.676e-6, 0),
    ):
        found, table = report(logs / folder, "--rules", rules)
        assert found == code
        assert table["n"] == n
        assert table["mean"] == pytest.approx(mean, abs=1e-9)
        assert table["test"]["p_value"] == pytest.approx(p, rel=1e-3)
        values = [run["val_loss"] for run in table["runs"]]
        if rules == "nanogpt-track-1":
            assert table["test"]["p_value"] == pytest.approx(
                scipy.stats.ttest_1samp(values, 3.28, alternative="less").pvalue
            )


def test_the_boundary_of_a_rounded_rule_passes(tmp_path: Path) -> None:
    """3.28 - 3.278 is 0.001999... in binary; the rule asks for 0.002 * sqrt(4) >= 0.004."""
    for name, value, code in (("on", 3.278, 0), ("off", 3.27801, 1)):
        folder = speedrun(tmp_path / name, *(value + d for d in (-0.001, 0.001, -0.002, 0.002)))
        assert report(folder, "--rules", "nanogpt-track-3")[0] == code


def test_a_known_spread_needs_none_in_the_runs(command: Run, tmp_path: Path) -> None:
    folder = speedrun(tmp_path / "a", 3.2785, 3.2785, 3.2785, 3.2785, 3.2785, 3.2785, 3.2785, 3.2785)
    code, table = report(folder, "--rules", "nanogpt-track-3")
    assert code == 0
    assert table["sd"] == 0
    assert table["also"] == []
    assert report(folder, "--rules", "nanogpt-track-1")[0] == 3
    found = command("analysis.significance", "check", folder, "--rules", "nanogpt-track-3", "--alpha", "0.05")
    assert found.returncode == 2
    assert "scaled_gain" in found.stderr


def test_no_path_is_left_out_for_lying_deeper(tmp_path: Path) -> None:
    shallow = speedrun(tmp_path / "a", 3.275, 3.2752)
    (tmp_path / "x").mkdir()
    deep = speedrun(tmp_path / "x" / "y", 3.30, 3.3002)
    single = deep / "0.txt"
    assert report(shallow, deep, "--rules", "nanogpt-track-1")[1]["n"] == 4
    assert report(shallow, single, "--rules", "nanogpt-track-1")[1]["n"] == 3


def test_the_last_validation_must_be_at_the_last_step(tmp_path: Path) -> None:
    folder = speedrun(tmp_path / "a", 3.275, 3.2752)
    (folder / "9.txt").write_text("step:5/9 val_loss:3.2 train_time:5ms\nstep:9/9 train_time:9ms step_avg:1ms\n")
    assert report(folder, "--rules", "nanogpt-track-1")[0] == 3


def test_a_summary_that_cannot_be_written_does_not_change_the_verdict(command: Run, record: Record) -> None:
    env = {"GITHUB_STEP_SUMMARY": "/nowhere/at/all"}
    found = command("analysis.significance", "check", record(SEEDS), "--sota", "1.21613611", env=env)
    assert found.returncode == 0
    assert "cannot be written" in found.stderr


def test_json_begins_no_command_of_a_runner(command: Run, record: Record) -> None:
    folder = record(SEEDS)
    (folder / "##[error]x.log").write_text(make_log(9, 1.3))
    found = command("analysis.significance", "report", folder, "--sota", "1.3", "--format", "json")
    assert "##[" not in found.stdout
    assert "##[error]x.log" in str(json.loads(found.stdout))
