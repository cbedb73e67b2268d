"""Every finding: a record that raises it, and a near miss that does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from analysis.checks.folder import audit
from analysis.reading.seeding import constant_seeds
from analysis.record.folder import read_record
from analysis.record.selection import select, with_training
from analysis.rules.findings import DEFAULTS, Finding
from analysis.rules.ruleset import load
from analysis.sweepdir.plan import plan_digest
from tests.conftest import RATIO, SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
Record = Callable[..., Path]
Change = Callable[[Path], Any]
VALUES = {1337: 1.2014, 42: 1.1994, 7: 1.2031}
TOTAL = 15820 + len(SOURCE)
RULES = load("parameter-golf")


def findings(folder: Path) -> list[Finding]:
    record = read_record([folder])
    return audit(record, select(record, RULES), RULES)


def log(folder: Path, seed: int = 42) -> Path:
    return folder / f"train_seed{seed}.log"


def swap(old: str, new: str, *seeds: int) -> Change:
    """Replace in the logs of these seeds (42 when none is named)."""

    def change(folder: Path) -> None:
        for seed in seeds or (42,):
            text = log(folder, seed).read_text()
            assert old in text
            log(folder, seed).write_text(text.replace(old, new))

    return change


def claim(**values: object) -> Change:
    """Set keys of the submission JSON; None takes a key away."""

    def change(folder: Path) -> None:
        table = json.loads((folder / "submission.json").read_text()) | values
        kept = {key: value for key, value in table.items() if value is not None}
        (folder / "submission.json").write_text(json.dumps(kept, indent=1))

    return change


def write(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def remove(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def attempted(state: str) -> Change:
    """Name two attempts of seed 42 in the submission JSON: one that ended in this state, and its result."""
    named = [{"arm": "candidate", "seed": 42, "attempt": 1, "state": state}]
    named += [{"arm": "candidate", "seed": 42, "attempt": 2, "state": "succeeded", "log": "train_seed42.log"}]
    return claim(seeds=[*VALUES], attempts=named)


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def only(*seeds: int) -> Change:
    """Keep these seeds, and claim their mean."""

    def change(folder: Path) -> None:
        for seed in VALUES:
            if seed not in seeds:
                log(folder, seed).unlink()
        mean = sum(VALUES[seed] for seed in seeds) / len(seeds)
        claim(val_bpb=mean, val_loss=mean / RATIO)(folder)

    return change


def reseeded(seed: int, source: str) -> Change:
    """The log of 42 made with another program."""
    return lambda folder: log(folder, seed).write_text(make_log(seed, VALUES[seed], source))


def all_with(source: str) -> Change:
    return both(
        *(reseeded(seed, source) for seed in VALUES),
        write("train_gpt.py", source),
        claim(bytes_total=15820 + len(source.encode())),
    )


def trajectory(steps: str) -> Change:
    """Seed 42 with these losses at steps 1-4 and seed 7 with its own."""

    def change(folder: Path) -> None:
        own = [
            line
            for line in log(folder, 7).read_text().split("\n")
            if line.startswith(tuple(f"step:{n}/" for n in range(1, 5)))
        ]
        text = log(folder).read_text()
        for line, loss in zip(own, steps.split(), strict=True):
            number = line.split("/")[0]
            old = next(one for one in text.split("\n") if one.startswith(f"{number}/"))
            value = line.split("train_loss:")[1].split(" ")[0]
            text = text.replace(
                old, line.replace(f"train_loss:{value}", f"train_loss:{float(value) + float(loss):.4f}")
            )
        log(folder).write_text(text)

    return change


OTHER_LABEL = both(*(swap("\nfinal_int8_zlib_roundtrip", "\nfinal_ttt_lora", seed) for seed in VALUES))
CLOCK = "".join(f"step:{n}/900 train_loss:2.4 train_time:{60 * n}ms step_avg:60.00ms\n" for n in range(110, 400, 10))

CASES: dict[str, tuple[Change, Change]] = {  # code: (raises it, a near miss)
    "no-logs": (
        remove("train_seed1337.log", "train_seed42.log", "train_seed7.log"),
        remove("train_seed1337.log", "train_seed42.log"),
    ),
    "no-final-metric": (
        lambda folder: log(folder).write_text(log(folder).read_text().split("peak")[0]),
        write("requirements.txt", "torch\n"),
    ),
    "missing-file": (remove("README.md"), both(remove("README.md"), write("readme.rst", "x"))),
    "duplicate-seed": (
        both(write("again.log", make_log(42, 1.23)), claim(val_bpb=1.208475, val_loss=None)),
        lambda folder: (folder / "again.log").write_bytes(log(folder).read_bytes()),
    ),
    "seed-mismatch": (lambda folder: log(folder).rename(folder / "train_seed43.log"), lambda folder: log(folder).rename(folder / "train_b.log")),
    "same-trajectory": (trajectory("0.1 0.003 -0.003 0.0075"), trajectory("0 0.003 -0.003 0.0085")),
    "claimed-seed-without-log": (claim(seeds=[1337, 42, 7, 9]), claim(seeds=[1337, 42, 7])),
    "headline-unsupported": (claim(val_bpb=1.1984, val_loss=None), claim(val_bpb=1.2013, val_loss=None)),
    "headline-not-final": (claim(val_bpb=1.25, val_loss=None), claim(val_bpb=1.2013, val_loss=None)),
    "submission-unit": (claim(val_loss=1.2013), claim(val_loss=2.0283)),
    "size-over-cap": (
        both(swap(f"int8+zlib: {TOTAL} bytes", "int8+zlib: 16000001 bytes"), claim(bytes_total=TOTAL)),
        both(swap(f"int8+zlib: {TOTAL} bytes", "int8+zlib: 16000000 bytes"), claim(bytes_total=TOTAL)),
    ),
    "size-not-in-logs": (
        claim(bytes_total=TOTAL - 2),
        both(swap(f"zlib: {TOTAL} bytes", f"zlib: {TOTAL + 4} bytes"), claim(bytes_total=TOTAL + 1)),
    ),
    "time-over-cap": (swap("train_time:6042ms", "train_time:601001ms"), swap("train_time:6042ms", "train_time:601000ms")),
    "world-size": (swap("world_size:8", "world_size:4"), swap("world_size:8 ", "")),
    "runs-left-out": (
        both(write("train_seed9.log", make_log(9, 1.25)), claim(seeds=[1337, 42, 7])),
        both(write("train_seed9.log", make_log(9, 1.25, SOURCE + "ANOTHER = 1\n")), claim(seeds=[1337, 42, 7])),
    ),
    "run-not-read": (
        write("train_seed9.log.bak", make_log(9, 1.25)),
        write("notes.md", "\n".join(make_log(9, 1.25).splitlines()[-3:])),
    ),
    "source-differs": (reseeded(42, SOURCE + "# another\n"), all_with(SOURCE + "# another\n")),
    "code-size-differs": (reseeded(42, SOURCE + "# another\n"), all_with(SOURCE + "# another\n")),
    "config-differs": (
        both(*(swap("val_bpb:enabled", f"Hyperparameters:\n  lr: {lr}\n  run_id: {lr}x\nval_bpb:enabled", seed) for seed, lr in ((1337, 1), (42, 2), (7, 1)))),
        both(*(swap("val_bpb:enabled", f"Hyperparameters:\n  lr: 1\n  run_id: {seed}x\n  data_dir: /{seed}/\n  seed: {seed}\nval_bpb:enabled", seed) for seed in VALUES)),
    ),
    "source-size-mismatch": (swap(f"Code size: {len(SOURCE)}", f"Code size: {len(SOURCE) + 3}"), swap(f"Code size: {len(SOURCE)}", f"Code size: {len(SOURCE) + 2}")),
    "source-does-not-compile": (all_with(SOURCE + "def broken(:\n"), all_with(SOURCE + "def whole():\n    pass\n")),
    "label-not-in-source": (OTHER_LABEL, both(OTHER_LABEL, all_with(SOURCE + 'print(f"final_{os.name}_lora", "ttt", "_exact")\n'), OTHER_LABEL)),
    "script-stub": (write("train_gpt.py", "import os\n"), write("__init__.py", "")),
    "headline-is-best-seed": (claim(val_bpb=1.1994, val_loss=None), claim(val_bpb=1.2013, val_loss=None)),
    "headline-is-one-seed": (claim(val_bpb=1.2031, val_loss=None), claim(val_bpb=1.1994, val_loss=None)),
    "too-few-seeds": (only(42, 7), claim()),
    "several-runs-in-log": (
        lambda folder: log(folder).write_text(make_log(42, 1.3) + log(folder).read_text()),
        lambda folder: log(folder).write_text("Running again\n" + log(folder).read_text()),
    ),
    "log-clobbered": (
        swap("peak memory", CLOCK.replace("step_avg:60.00ms", "step_avg:20.00ms", 1) + "peak memory"),
        swap("peak memory", CLOCK + "peak memory"),
    ),
    "environment-differs": (swap("PyTorch 2.8.0", "PyTorch 2.7.1"), swap("Running PyTorch 2.8.0+cu128\n", "")),
    "data-differs": (swap("train_shards:80", "train_shards:25"), swap(" train_shards:80", "")),
    "hardware-unexpected": (swap("NVIDIA H100 80GB HBM3", "NVIDIA A100 80GB"), swap("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")),
    "bytes-per-token-unexpected": (
        lambda folder: log(folder).write_text(make_log(42, 1.1994).replace(f"{1.1994 / RATIO:.8f}", f"{1.1994 / (RATIO + 4e-4):.8f}")),
        lambda folder: log(folder).write_text(make_log(42, 1.1994).replace(f"{1.1994 / RATIO:.8f}", f"{1.1994 / (RATIO + 1e-5):.8f}")),
    ),
    "cap-unknown": (
        both(*(swap("world_size:8 ", "", seed) for seed in VALUES)),
        both(*(swap("world_size:8 ", "world_size=8 ", seed) for seed in VALUES)),
    ),
    "eval-time-over-cap": (swap("eval_time:2107ms", "eval_time:600001ms"), swap("eval_time:2107ms", "eval_time:600000ms")),
    "data-unexpected": (swap("tokens:62021632", "tokens:1048576"), swap("tokens:62021632", "tokens:61997056")),
    "seed-constant": (
        both(all_with(SOURCE + "torch.manual_seed(7)\n"), *(swap(f"\nseed:{seed}\n", "\n", seed) for seed in VALUES)),
        all_with(SOURCE + "torch.manual_seed(7)\n"),
    ),
    "code-size-unmatched": (write("train_gpt.py", SOURCE + "# one more line\n"), write("train_gpt.py", SOURCE.rstrip("\n"))),
    "source-not-shipped": (write("train_gpt.py", SOURCE.replace("hello", "h").replace("{1}", "{2}")), write("train_gpt.py", SOURCE.replace("\n", "\r\n"))),
    "claim-not-in-logs": (claim(val_bpb_std=0.0005), claim(val_bpb_std=0.0019)),
    "submission-schema": (claim(author=None), claim(author="somebody else", more={"a": [1]})),
    "seed-missing": (swap("seed:42\n", ""), swap("seed:42\n", "Seed = 42\n")),
    "file-not-read": (
        lambda folder: (folder / "away.log").symlink_to("/etc/hostname"),
        lambda folder: (folder / "here.log").symlink_to(log(folder)),
    ),
    "time-over-cap-by-one-step": (swap("train_time:6042ms", "train_time:600001ms"), swap("train_time:6042ms", "train_time:600000ms")),
    "metric-twice": (
        swap("final_int8_zlib_roundtrip_exact val_loss", "final_int8_zlib_roundtrip_exact val_loss:2.1 val_bpb:1.23\nfinal_int8_zlib_roundtrip_exact val_loss"),
        lambda folder: log(folder).write_text(f"{log(folder).read_text()}{log(folder).read_text().splitlines()[-1]}\n"),
    ),
    "final-better-than-training": (
        swap("val_bpb:1.2480", f"val_bpb:{1.2480 + 0.0026:.4f}"),
        swap("val_bpb:1.2480", f"val_bpb:{1.2480 + 0.0024:.4f}"),
    ),
    "attempts-remade": (attempted("lost"), attempted("pending")),
    "duplicate-log": (
        lambda folder: (folder / "train.log").write_text("[rank0]: hello\n" + log(folder).read_text()),
        write("notes.txt", "the same as before\n"),
    ),
}  # fmt: skip


def test_a_clean_record_comes_out_clean(record: Record) -> None:
    assert findings(record(VALUES)) == []


JUDGED = {
    "attempts-left-out",
    "criterion-not-tested",
    "not-registered",
    "pair-split",
    "plan-not-followed",
    "rules-changed",
    "spread-too-small",
    "evidence-removed",
}  # need a plan, a registry, a verdict or a commit: test_registry.py, test_planned.py, test_judge.py,
# test_criteria.py, test_action.py, test_split_pairs.py


GRAVE = {  # the rows of these are errors, which the codes are not by default
    "bytes-per-token-unexpected",  # of a known tokenizer
    "claim-not-in-logs",  # with an sd that makes the claim better
    "metric-twice",  # with the better value counted
    "seed-constant",  # where the rules ask for printed seeds
}


def test_every_code_has_a_case() -> None:
    assert CASES.keys() | JUDGED == DEFAULTS.keys()


@pytest.mark.parametrize("code", CASES)
def test_a_finding_and_its_near_miss(record: Record, code: str) -> None:
    raising, missing = CASES[code]
    folder = record(VALUES)
    raising(folder)
    found = [finding for finding in findings(folder) if finding.code == code]
    assert found, findings(folder)
    assert {finding.severity for finding in found} == {"error" if code in GRAVE else DEFAULTS[code]}
    for finding in found:
        assert finding.message.startswith("Found ")
        assert finding.message.endswith((".", "?"))
        named = folder / finding.file
        assert named.exists()
        assert named.is_dir() or named.is_symlink() or 1 <= finding.line <= named.read_text().count("\n") + 1
    near = record(VALUES, "near")
    missing(near)
    assert code not in [finding.code for finding in findings(near)], findings(near)


# -- variants of a code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (remove("submission.json"), "missing-file"),
        (remove("train_gpt.py"), "missing-file"),
        (write("submission.json", "{"), "missing-file"),
        (write("submission.json", "[1]"), "missing-file"),
        (write("train_seed9.log", ""), "no-final-metric"),
        (both(write("empty.log", ""), claim(seeds=[1337, 42, 7])), None),
        (claim(val_bpb=None, val_loss=1.2013), "submission-unit"),
        (claim(val_loss="2.0283", val_bpb="1.2013"), "submission-schema"),
        (claim(seed_results={"1337": 1.2014, "42": 1.1994, "8": 1.2031}), "seed-mismatch"),
        (claim(seed_results=[{"seed": 42, "val_bpb": 1.1994, "log": "train_seed7.log"}]), "seed-mismatch"),
        (claim(seed_results={"1337": 1.2014, "42": 1.1994, "7": 1.2099}), "claim-not-in-logs"),
        (swap("Total submission size int8", "Total submission size: 15 bytes, int8"), None),
        (swap(f"int8+zlib: {TOTAL} bytes", "int8+zlib: 16000 bytes"), "log-clobbered"),
        (swap("val_bpb:1.1994 ", "val_bpb:1.1995 "), "log-clobbered"),
        (both(*(swap(f"Total submission size int8+zlib: {TOTAL} bytes\n", "", seed) for seed in VALUES),
              *(swap("Total submission size: ", "Model and code: ", seed) for seed in VALUES),
              *(swap("Serialized model int8+zlib: ", "Model: ", seed) for seed in VALUES),
              claim(bytes_total=16_000_001)), "size-over-cap"),
    ],
)  # fmt: skip
def test_variants(record: Record, change: Change, code: str | None) -> None:
    folder = record(VALUES)
    change(folder)
    codes = {finding.code for finding in findings(folder)}
    assert codes == set() if code is None else code in codes


def test_settings_printed_as_tokens_are_compared_where_all_print_them(record: Record) -> None:
    folder = record(VALUES)
    swap("train_seq_len:4096", "train_seq_len:2048 only_here:1")(folder)
    (found,) = findings(folder)
    assert found.code == "config-differs"
    assert "train_seq_len 2048 instead of 4096" in found.message
    assert "only_here" not in found.message


def test_an_older_log_of_a_seed_is_not_counted(record: Record) -> None:
    """The claim is the mean, or the best, of the three that are named alike."""
    for name, value in (("mean", 1.2013), ("best", 1.1994)):
        folder = record(VALUES, name, claim=value)
        (folder / "train.log").write_text(make_log(42, 1.23))
        read = read_record([folder])
        selection = select(read, RULES)
        assert [read.shown(log) for log in selection.aside] == ["train.log"]
        assert {finding.code for finding in findings(folder)} <= {
            "headline-is-best-seed",
            "runs-left-out",
            "submission-schema",
        }


def test_model_and_code_are_the_total_where_none_is_printed(record: Record) -> None:
    folder = record(VALUES)
    for seed in VALUES:
        swap(f"Total submission size int8+zlib: {TOTAL} bytes\n", "", seed)(folder)
        swap("Total submission size: ", "Raw: ", seed)(folder)
    assert findings(folder) == []


def test_two_writers_in_one_file(record: Record) -> None:
    folder = record(VALUES)
    mixed = "".join(f"step:{n}/900 train_loss:3 train_time:{n}ms\n" for i in range(110, 200, 10) for n in (i, i - 7))
    swap("peak memory", mixed + "peak memory")(folder)
    assert "log-clobbered" in {finding.code for finding in findings(folder)}


def test_an_evaluation_alone_is_judged_by_the_training_log_of_its_seed(record: Record) -> None:
    """Times, sizes and steps come from there; a program that evaluates may have other settings than one that trains."""
    folder = record(VALUES)
    (folder / "eval").mkdir()
    for seed, bpb in VALUES.items():
        text = f"seed:{seed}\nworld_size:8\nfinal_int8_zlib_roundtrip_exact val_loss:{(bpb - 0.04) / RATIO:.8f} val_bpb:{bpb - 0.04:.8f}\n"
        (folder / "eval" / f"seed_{seed}.log").write_text(text)
    claim(
        val_bpb=1.1613, val_loss=None, seed_results={str(seed): {"val_bpb": bpb - 0.04} for seed, bpb in VALUES.items()}
    )(folder)
    assert findings(folder) == []
    swap("train_time:6042ms", "train_time:700000ms")(folder)
    assert [(finding.code, finding.file) for finding in findings(folder)] == [("time-over-cap", "eval/seed_42.log")]


def test_a_training_time_that_is_no_number_is_not_within_the_cap(record: Record) -> None:
    folder = record(VALUES)
    swap("train_time:6042ms", "train_time:nanms")(folder)
    assert [finding.code for finding in findings(folder)] == ["time-over-cap"]


def test_a_ruleset_can_grade_findings_otherwise(record: Record, tmp_path: Path, command: Run) -> None:
    folder = record(VALUES)
    both(remove("README.md"), swap("world_size:8", "world_size:4"))(folder)
    rules = (Path(__file__).parents[2] / "analysis" / "rules" / "rulesets" / "parameter-golf.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(rules + '\n[findings]\nmissing-file = "info"\nworld-size = "off"\n')
    found = command("analysis.audit", folder, "--rules", mine, "--format", "json")
    table = json.loads(found.stdout)
    assert found.returncode == 0
    assert [finding["code"] for finding in table["findings"]] == ["environment-differs", "missing-file"]
    assert table["findings"][1]["severity"] == "info"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_in_its_formats(command: Run, record: Record) -> None:
    folder = record(VALUES)
    clean = command("analysis.audit", folder)
    assert clean.returncode == 0
    assert clean.stderr == ""
    assert "nothing found (parameter-golf, 3 claimed runs, headline: their mean)" in clean.stdout
    swap("world_size:8", "world_size:4")(folder)
    found = command("analysis.audit", folder)
    assert found.returncode == 1
    assert "error: world-size: train_seed42.log:1: Found world_size 4; expected the 8 ranks" in found.stdout
    table = json.loads(command("analysis.audit", folder, "--format", "json").stdout)
    assert table["schema_version"] == 1
    assert table["rules"] == "parameter-golf"
    assert set(table["findings"][0]) == {"code", "severity", "file", "line", "message", "do"}
    lines = command("analysis.audit", folder, "--format", "github").stdout.splitlines()
    assert any(
        line.startswith(f"::error file={folder}/train_seed42.log,line=1,title=world-size::Found") for line in lines
    )


def test_check_fails_on_errors_and_report_says_so(command: Run, record: Record) -> None:
    folder = record(VALUES)
    swap("world_size:8", "world_size:4")(folder)
    found = command("analysis.significance", "check", folder, "--sota", "1.3")
    assert found.returncode == 1
    assert found.stdout.startswith("REFUSED: ")
    report = command("analysis.significance", "report", folder, "--sota", "1.3")
    assert report.returncode == 0
    assert report.stdout.startswith("REFUSED: ")
    assert "1 error " in report.stdout.splitlines()[1]


def test_what_cannot_be_audited_is_said(command: Run, record: Record, tmp_path: Path) -> None:
    record(VALUES)
    record(VALUES, name="another")
    found = command("analysis.audit", tmp_path)
    assert found.returncode == 2
    assert "holds 2 record folders" in found.stderr
    assert f"analysis.leaderboard {tmp_path}" in found.stderr
    assert command("analysis.significance", "check", tmp_path, "--sota", "1.3").returncode == 3
    (tmp_path / "runs.csv").write_text("a\n")
    assert command("analysis.audit", tmp_path / "runs.csv").returncode == 2
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    for plan in ({}, {"ruleset": {"nonsense": 1}, "arms": {"candidate": {}}, "seeds": [], "script": {}}):
        (sweep / "plan.json").write_text(json.dumps(plan | {"sha256": plan_digest(plan)}))
        assert command("analysis.audit", sweep).returncode == 3


def test_the_folder_around_one_record_means_that_record(command: Run, record: Record, tmp_path: Path) -> None:
    (tmp_path / "around").mkdir()
    folder = record(VALUES, name="around/mine")
    for words in (("analysis.audit",), ("analysis.significance", "check", "--sota", "1.3")):
        inside, around = (command(*words, path) for path in (folder, tmp_path / "around"))
        assert around.returncode == inside.returncode == 0
        assert around.stdout == inside.stdout
        assert str(folder) in around.stderr
    (tmp_path / "around" / "other.log").write_text((folder / "train_seed42.log").read_text())
    found = command("analysis.audit", tmp_path / "around")
    assert found.returncode == 2
    assert f"name {folder}" in found.stderr


# -- the real records --------------------------------------------------------------------------------------------------


FACTS = ("seed", "train_time_ms", "last_step", "total_steps", "world_size", "torch", "val_tokens")
by_log = itemgetter("log", "line")


CLAIMS_WRONG = {  # warnings that are true: an sd that the logs do not give; a loss and sizes of other artifacts
    "2026-04-06_SP8192_HessianSDClip_ProgressiveRecurrence",
    "2026-04-23_SP8192_CaseOps_SparseGate_QuantGate_Loop45_PhasedTTT_PolarNS_MinLR_FusedCE",
}


def test_the_real_records(real_logs: Path) -> None:
    """Every run that the ten public claims rest on, and exactly the errors that a careful reader raises."""
    expected = json.loads((real_logs / "expected.json").read_text())
    assert len(expected) == 10
    for folder, wanted in expected.items():
        record = read_record([real_logs / "parameter-golf" / folder])
        selection = select(record, RULES)
        found = []
        for one in selection.claimed:
            run, metric = with_training(one), one.metric
            values = {
                "metric": metric.label,
                "line": metric.line,
                "val_loss": metric.val_loss,
                "val_bpb": metric.val_bpb,
            }
            sizes = {"artifact_bytes_total": run.artifact_bytes, "code_bytes": run.code_bytes}
            found.append(
                {"log": record.shown(one.run.log)} | values | sizes | {fact: getattr(run, fact) for fact in FACTS}
            )
        assert sorted(found, key=by_log) == sorted(wanted["runs"], key=by_log), folder
        wrong = {"claim-not-in-logs"} if folder in CLAIMS_WRONG else set()
        assert {finding.code for finding in audit(record, selection, RULES)} == set(wanted["findings"]) | wrong, folder


# -- what a sceptical organiser tried ------------------------------------------------------------------------------------

SIZES = f"Total submission size int8+zlib: {TOTAL} bytes"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            both(
                *(swap("\nfinal_int8_zlib_roundtrip_exact", f"\nfinal_other val_loss:1.9 val_bpb:{bpb + 0.01}\nfinal_int8_zlib_roundtrip_exact", seed)
                  for seed, bpb in VALUES.items()),
                *(swap('print("final_int8_zlib_roundtrip")', 'print("final_other")               ', seed) for seed in VALUES),
                write("train_gpt.py", SOURCE.replace('print("final_int8_zlib_roundtrip")', 'print("final_other")               ')),
                claim(seed_results={str(seed): {"other_bpb": round(bpb + 0.01, 4), "val_bpb": bpb} for seed, bpb in VALUES.items()}),
            ), id="values of two metrics for each seed"),
        pytest.param(claim(seed_1337_val_bpb=1.2014), id="one seed is named and the mean of all is claimed"),
        pytest.param(claim(sliding_s64_val_bpb=1.1, val_bpb_by_stride={"64": 1.1}, metrics={"by_context": {"1024": 1.2}}), id="strides"),
        pytest.param(claim(runs={"1": {"seed": 42, "val_bpb": 1.1994}, "2": {"seed": 1337, "val_bpb": 1.2014}}), id="numbered runs"),
        pytest.param(claim(seeds={"seed1": 42, "seed2": 1337, "seed3": 7}), id="numbered seeds"),
        pytest.param(claim(seed1_val_bpb=1.2014, seed2_val_bpb=1.1994, seed3_val_bpb=1.2031), id="first, second and third seed"),
        pytest.param(claim(failed_seeds=[9], parent_pr_seed_results={"8": 1.3}), id="seeds of others"),
        pytest.param(claim(prequant_val_bpb=1.19, ema_bpb=1.18, last_step_val_loss=1.93), id="other numbers"),
        pytest.param(both(*(swap(SIZES, f"{SIZES}\nTotal submission size int6 (unpruned): 17000000 bytes", seed) for seed in VALUES)), id="an unpruned total"),
        pytest.param(both(*(swap(SIZES, f"{SIZES}\nTotal submission size int4+x: 17000000 bytes", seed) for seed in VALUES)), id="the JSON chooses the total"),
        pytest.param(both(*(swap("seed:", f"seed:{seed}\ncalib seed:1234\ndata seed: 0\nseed:", seed) for seed in VALUES)), id="seeds of parts"),
        pytest.param(both(*(swap("seed:", "gptq: world_size=1 calibration on rank 0\nseed:", seed) for seed in VALUES)), id="ranks of parts"),
        pytest.param(both(write("setup.py", "import x\n"), write("config.py", "")), id="helper scripts"),
        pytest.param(both(*(swap("val_bpb:enabled", f"Hyperparameters:\n  tag: a_seed{seed}\n  model: seed_{seed}.bin\nval_bpb:enabled", seed) for seed in VALUES)), id="values with the seed"),
        pytest.param(
            lambda folder: (folder / "console.log").write_text("".join(
                line for line in log(folder).read_text().splitlines(keepends=True) if "step:50/" not in line)),
            id="a console log with fewer lines"),
    ],
)  # fmt: skip
def test_no_false_error(record: Record, change: Change) -> None:
    folder = record(VALUES)
    change(folder)
    assert {finding.code for finding in findings(folder) if finding.severity != "info"} == set()


@pytest.mark.parametrize(
    "line",
    ["final_x (stride=64) {}", "Final x (3 epochs) {}", "[final] {}", "final_x:done {}", "final, {}", "final_x @64 {}",
     "final_x windows:12/12 {}", "final_eval step:7100 {}", "final_prequant_ttt {}", "TTT: {}", "[12:00:01] final_x {}",
     "2026-03-22T12:00:01.123+00:00 final_x {}", "train | final_x {}", "final_x docs:50/50 100% {}"],
)  # fmt: skip
def test_final_lines_with_more_than_a_label(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.log").write_text("seed:1\n" + line.format("val_loss:2.0 val_bpb:1.2 | pre-quant val_bpb:1.1") + "\n")
    (run,) = read_record([tmp_path]).runs
    assert [(metric.val_bpb, metric.diagnostic) for metric in run.metrics] == [(1.2, False)]


def test_speedruns_without_seeds_may_begin_alike(tmp_path: Path) -> None:
    for name, end in (("a", 3.275), ("b", 3.276)):
        steps = "".join(f"step:{n}/9 train_loss:{11 - n} train_time:{n}ms\n" for n in range(1, 9))
        (tmp_path / f"{name}.txt").write_text(f"{steps}step:9/9 val_loss:{end} train_time:9ms\n")
    rules = load("nanogpt-track-1")
    record = read_record([tmp_path])
    assert audit(record, select(record, rules), rules) == []


def test_single_logs_are_compared_with_each_other(command: Run, record: Record) -> None:
    folder = record(VALUES)
    reseeded(42, SOURCE + "# another\n")(folder)
    found = command("analysis.audit", *folder.glob("*.log"), "--format", "json")
    assert found.returncode == 1
    assert {"source-differs", "code-size-differs"} <= {
        finding["code"] for finding in json.loads(found.stdout)["findings"]
    }


def test_names_that_stdout_cannot_hold_are_no_crash(python: Run, record: Record) -> None:
    folder = record(VALUES, "r\u00e9")
    env = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for command in (
        ("analysis.audit",),
        ("analysis.logs",),
        ("analysis.leaderboard",),
        ("analysis.significance", "check", "--sota", "1.3"),
    ):
        found = python("-m", *command, folder, env=env)
        assert found.returncode == 0, found.stderr
        assert "Traceback" not in found.stderr, found.stderr


def test_a_trajectory_is_named_once_for_each_run_after_the_first(record: Record) -> None:
    seeds = {1 + 89 * 97 * 83 * n: 1.2 + n / 1000 for n in range(5)}  # all with the first losses of seed 1
    found = [finding for finding in findings(record(seeds)) if finding.code == "same-trajectory"]
    assert len(found) == len({finding.file for finding in found}) == 4


# -- what a claim may choose -------------------------------------------------------------------------------------------


def codes(folder: Path) -> set[str]:
    return {finding.code for finding in findings(folder)}


def test_the_size_goes_with_the_evaluation_of_that_artifact(record: Record) -> None:
    """Two artifacts in one log: the large one's value cannot be claimed with the small one's size."""
    folder = record(VALUES)
    for seed in VALUES:
        text = log(folder, seed).read_text()
        total = next(line for line in text.split("\n") if line.startswith("Total submission size int8+zlib: "))
        small = "Total submission size int4+zlib: 15900000 bytes\nfinal_int4_zlib_exact val_loss:2.3 val_bpb:1.36217\n"
        log(folder, seed).write_text(text.replace(total, "Total submission size int8+zlib: 17000279 bytes") + small)
    claim_of = json.loads((folder / "submission.json").read_text())
    for size in (15900000, 17000279):
        (folder / "submission.json").write_text(json.dumps(claim_of | {"bytes_total": size}))
        assert "size-over-cap" in codes(folder)


def test_a_value_before_quantisation_is_not_the_result_where_the_artifacts_follows(tmp_path: Path) -> None:
    def finals(*labels: str) -> list[str]:
        (tmp_path / "a.log").write_text("seed:1\n" + "".join(f"{label} val_loss:2.0 val_bpb:1.2\n" for label in labels))
        (run,) = read_record([tmp_path]).runs
        return [metric.label for metric in run.finals]

    assert finals("final_prequant_exact", "final_int8_zlib_exact") == ["final_int8_zlib_exact"]
    assert finals("final_prequant_ttt") == ["final_prequant_ttt"]


@pytest.mark.parametrize("before", [{"mean_val_bpb": 1.2013}, {}])
def test_the_headline_is_what_the_leaderboard_shows(record: Record, before: dict[str, float]) -> None:
    folder = record(VALUES)
    table = json.loads((folder / "submission.json").read_text())
    rest = {key: value for key, value in table.items() if key != "val_bpb"}
    text = json.dumps(before | rest)
    (folder / "submission.json").write_text(text[:-1] + f', "val_bpb": 1.05{"0" * 45}}}')
    assert "headline-unsupported" in codes(folder)


def test_copies_without_seeds_are_seen_by_their_losses(tmp_path: Path) -> None:
    def write_run(name: str, loss: float, ms: int) -> None:
        steps = "".join(
            f"step:{n}/5 val_loss:{loss - n / 100:.4f} train_time:{100 * n + ms}ms step_avg:100.00ms\n"
            for n in range(1, 6)
        )
        (tmp_path / name).write_text(steps)

    for name, loss, ms in (("a.log", 3.3, 0), ("b.log", 3.3, 7), ("c.log", 3.31, 0)):
        write_run(name, loss, ms)
    rules = load("nanogpt-track-3")
    read = read_record([tmp_path])
    found = [f.file for f in audit(read, select(read, rules), rules) if f.code == "same-trajectory"]
    assert found == ["b.log"]


# -- facts against the rules -------------------------------------------------------------------------------------------


def severities(folder: Path) -> dict[str, str]:
    return {finding.code: finding.severity for finding in findings(folder)}


def everywhere(old: str, new: str) -> Change:
    return swap(old, new, *VALUES)


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (swap("world_size:8 ", ""), "cap-unknown", "warning"),
        (both(*(lambda folder, seed=seed: log(folder, seed).write_text(
            re.sub(r"(train_time:\d+)ms", r"\1", log(folder, seed).read_text())) for seed in VALUES)), "cap-unknown", "error"),
        (both(everywhere("bytes", "things"), claim(bytes_total=None)), "cap-unknown", "error"),
        (claim(eval_time_s=601), "eval-time-over-cap", "error"),
        (claim(seed_results={"42": {"eval_time_ms": 601000}}), "eval-time-over-cap", "error"),
        (claim(eval_time="11 min"), "eval-time-over-cap", "error"),
        (claim(train_time_s=602), "time-over-cap", "error"),
        (claim(hardware="8xA100"), "hardware-unexpected", "error"),
        (claim(hardware="1x H100 80GB"), "hardware-unexpected", "error"),
        (everywhere("train_shards:80", "train_shards:1499"), "data-unexpected", "error"),
        (everywhere("dataset:fineweb10B_sp1024", "dataset:my_text"), "data-unexpected", "warning"),
        (everywhere("dataset:fineweb10B_sp1024", "dataset:fineweb_val"), "data-unexpected", "error"),
        (everywhere("train_shards:80", "train_files:./data/fineweb_val_*.bin train_shards:80"), "data-unexpected", "error"),
        (all_with(SOURCE + "train_files = 'data/fineweb_val_*.bin'\n"), "data-unexpected", "error"),
        (both(everywhere("fineweb_1024_bpe.model", "mine.model"), everywhere("tokens:62021632", "tokens:1048576")), "data-unexpected", "error"),
        (everywhere("final_int8_zlib_roundtrip val", "Total submission size lzma+int8_zlib: 17000000 bytes\nfinal_int8_zlib_roundtrip val"), "size-over-cap", "error"),
        (lambda folder: os.truncate(made(folder / "final_model.int8.ptz"), 16_000_001), "size-over-cap", "error"),
        (lambda folder: os.truncate(made(folder / "final_model.int8.ptz"), TOTAL + 1), "size-not-in-logs", "error"),
    ],
)  # fmt: skip
def test_what_the_rules_do_not_allow(record: Record, change: Change, code: str, severity: str) -> None:
    folder = record(VALUES)
    change(folder)
    assert severities(folder).get(code) == severity


def made(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    "change",
    [
        claim(eval_time_s=600, train_time_s=600.4, hardware="8xH100 80GB SXM"),
        claim(eval_time=700, max_eval_time_budget_s=700, baseline={"eval_time_s": 700}),
        both(everywhere("fineweb_1024_bpe.model", "mine.model")),
        everywhere("eval_time:2107ms", "eval_time:2107000"),
        lambda folder: os.truncate(made(folder / "final_model.int8.ptz"), 15820),
        all_with(SOURCE + "train_files = 'data/fineweb_train_*.bin'\nval_files = 'data/fineweb_val_*.bin'\n"),
    ],
)
def test_what_the_rules_allow(record: Record, change: Change) -> None:
    folder = record(VALUES)
    change(folder)
    assert {code for code, severity in severities(folder).items() if severity == "error"} == set()
    assert not severities(folder).keys() & {"data-unexpected", "cap-unknown", "hardware-unexpected"}


@pytest.mark.parametrize(
    ("program", "seeds"),
    [
        ("torch.manual_seed(7)", (7,)),
        ("SEED = 7\ntorch.manual_seed(SEED + rank)\nrandom.seed(SEED)", (7,)),
        ("class Args:\n    seed: int = 7\ntorch.manual_seed(args.seed)", (7,)),
        ("torch.manual_seed(int(os.environ['SEED']))", None),
        ("SEED = 7\nSEED = int(sys.argv[1])\ntorch.manual_seed(SEED)", None),
        ("torch.manual_seed(seed)", None),
        ("g = torch.Generator().manual_seed(7)", None),
        ("# torch.manual_seed(7)", None),
    ],
)
def test_constant_seeds_of_a_program(program: str, seeds: tuple[int, ...] | None) -> None:
    assert constant_seeds(program.encode()) == seeds


def test_candidate_and_control_are_compared(command: Run, record: Record) -> None:
    def checked(*changes: Change) -> dict[str, str]:
        for change in changes:
            change(control)
        found = command("analysis.significance", "report", folder, "--control", control, "--format", "json")
        return {one["code"]: one["severity"] for one in json.loads(found.stdout)["findings"]}

    folder, control = record(VALUES), record({seed: value + 0.02 for seed, value in VALUES.items()}, "control")
    assert not checked(everywhere("tokens:62021632", "tokens:61997056")).keys() & {
        "data-differs",
        "environment-differs",
    }
    assert checked(everywhere("PyTorch 2.8.0", "PyTorch 2.7.0"))["environment-differs"] == "warning"
    assert checked(everywhere("tokens:61997056", "tokens:31010816"))["data-differs"] == "error"


def test_a_sota_in_the_wrong_unit_is_refused(command: Run, record: Record) -> None:
    folder = record(VALUES)
    for sota, code in ((2.06, 2), (1.3, 0), (1.9, 0)):
        assert command("analysis.significance", "report", folder, "--sota", str(sota)).returncode == code


def test_a_gain_that_no_evaluation_makes_is_an_error(record: Record) -> None:
    for worse, severity in ((0.1015, "error"), (0.0985, None)):
        folder = record(VALUES, f"worse by {worse}")
        for seed, bpb in VALUES.items():
            swap(f"val_bpb:{bpb + 0.0486:.4f}", f"val_bpb:{bpb + worse:.4f}", seed)(folder)
        found = {one.severity for one in findings(folder) if one.code == "final-better-than-training"}
        assert found == (set() if severity is None else {severity})
