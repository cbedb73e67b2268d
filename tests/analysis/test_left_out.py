"""Every complete run counts or is explained: runs left out, other configurations, files that are not read."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.options import Options
from analysis.record.selection import Why
from analysis.rules.findings import Code, Severity
from analysis.verdict.judge import judge
from analysis.verdict.verdict import Verdict
from tests.conftest import SOURCE, make_log

Folder = Callable[..., Path]
GOOD = {1: 1.200, 2: 1.201, 3: 1.202}
SOTA = 1.2161


def judged(folder: Path, sota: float = SOTA) -> Verdict:
    return judge([folder], Options(sota=sota))


def severity(verdict: Verdict, code: Code) -> Severity | None:
    return next((found.severity for found in verdict.findings if found.code is code), None)


def claiming(folder: Path, seeds: list[int], more: dict[str, str]) -> Path:
    """Return the folder with further logs, and a JSON that names some seeds."""
    claim = json.loads((folder / "submission.json").read_text())
    (folder / "submission.json").write_text(json.dumps(claim | {"seeds": seeds}))
    for name, text in more.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("values", "expected", "passes"),
    [({4: 1.23, 5: 1.235}, Severity.ERROR, False), ({4: 1.2005, 5: 1.2015}, Severity.WARNING, True)],
)
def test_poor_runs_next_to_the_claim_refuse_it_and_good_ones_are_named(
    record: Folder, values: dict[int, float], expected: Severity, passes: bool
) -> None:
    more = {f"train_seed{seed}.log": make_log(seed, value) for seed, value in values.items()}
    verdict = judged(claiming(record(GOOD), list(GOOD), more))
    assert verdict.verdict == "supported"
    assert verdict.n == 3
    assert severity(verdict, Code.RUNS_LEFT_OUT) is expected
    assert verdict.all_runs is not None
    assert (verdict.all_runs.verdict == "supported") is passes
    assert verdict.all_runs.test.df == 4
    assert verdict.to_json()["all_runs"]["verdict"] == verdict.all_runs.verdict


def test_where_every_run_counts_there_is_no_other_reading(record: Folder) -> None:
    verdict = judged(record(GOOD))
    assert verdict.all_runs is None
    assert severity(verdict, Code.RUNS_LEFT_OUT) is None


def test_runs_that_ended_without_a_result_are_losses(record: Folder) -> None:
    cut = make_log(9, 1.3).split("stopping_early")[0].split("peak")[0]
    verdict = judged(claiming(record(GOOD), list(GOOD), {"train_seed9.log": cut}))
    assert severity(verdict, Code.RUNS_LEFT_OUT) is Severity.ERROR


def test_a_poor_run_before_the_good_one_in_a_log_is_left_out(record: Folder) -> None:
    folder = record(GOOD)
    for seed, value in GOOD.items():
        (folder / f"train_seed{seed}.log").write_text(make_log(seed, value + 0.05) + make_log(seed, value))
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is Severity.ERROR


def test_another_program_or_configuration_is_not_the_claims(record: Folder) -> None:
    other_program = make_log(9, 1.3, SOURCE + "ANOTHER = 1\n")
    setting = "Hyperparameters:\n  matrix_lr: {}\nval_bpb:enabled"
    folder = record(GOOD)
    for seed, value in GOOD.items():
        log = make_log(seed, value).replace("val_bpb:enabled", setting.format(0.03))
        (folder / f"train_seed{seed}.log").write_text(log)
    other_setting = make_log(8, 1.3).replace("val_bpb:enabled", setting.format(0.026))
    more = {"train_seed9.log": other_program, "train_seed8.log": other_setting}
    assert severity(judged(claiming(folder, list(GOOD), more)), Code.RUNS_LEFT_OUT) is None


def test_two_configurations_in_folders_are_named_and_not_pooled(tmp_path: Path) -> None:
    for name, rate in (("lr03", 0.03), ("lr026", 0.026)):
        (tmp_path / name).mkdir()
        for seed, value in GOOD.items():
            text = make_log(seed, value + rate).replace(
                "val_bpb:enabled", f"Hyperparameters:\n  lr: {rate}\nval_bpb:enabled"
            )
            (tmp_path / name / f"train_seed{seed}.log").write_text(text)
    verdict = judged(tmp_path)
    assert verdict.verdict == "unusable"
    for word in ("2 folders", "lr03 (3 runs)", "lr026 (3 runs)", "--control"):
        assert word in verdict.reason


def test_hidden_renamed_and_compressed_runs_are_named(record: Folder) -> None:
    folder = record(GOOD)
    (folder / ".old").mkdir()
    (folder / ".old" / "train_seed7.log").write_text(make_log(7, 1.3))
    (folder / "train_seed8.log.gz").write_bytes(gzip.compress(make_log(8, 1.3).encode()))
    (folder / "train_seed9.log.xz").write_bytes(lzma.compress(make_log(9, 1.3).encode()))
    (folder / "train_seed10.log.bz2").write_bytes(bz2.compress(make_log(10, 1.3).encode()))
    (folder / "train_seed11.log.zst").write_bytes(b"\x28\xb5\x2f\xfd\0\0" + bytes(50))
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("train_seed12.log", make_log(12, 1.3))
    with tarfile.open(folder / "copies.tgz", "w:gz") as archive:
        archive.add(folder / "train_seed1.log", "again/train_seed1.log")
    with tarfile.open(folder / "more.tgz", "w:gz") as archive:
        (folder / "train_seed1.log.txt.part").write_text(make_log(13, 1.3).split("final_int8")[0])
        archive.add(folder / "train_seed1.log.txt.part", "more/train_seed13.log")
        (folder / "train_seed1.log.txt.part").unlink()
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("train_gpt.py", SOURCE)
    (folder / "weights.bin").write_bytes(b"\0" * 5000 + make_log(9, 1.3).encode())
    (folder / "requirements.txt.sig").write_bytes(b"sig")
    named = {found.file for found in judged(folder).findings if found.code is Code.RUN_NOT_READ}
    packed = {"train_seed8.log.gz", "train_seed9.log.xz", "train_seed10.log.bz2", "train_seed11.log.zst"}
    assert named == {".old/train_seed7.log", "more.zip", "more.tgz"} | packed


def test_a_log_in_utf_16_is_read(record: Folder) -> None:
    folder = record(GOOD)
    for name, encoding in (
        ("train_seed1.log", "utf-16"),
        ("train_seed2.log", "utf-16-le"),
        ("train_seed3.log", "utf-16-be"),
    ):
        (folder / name).write_bytes((folder / name).read_text().encode(encoding))
    verdict = judged(folder)
    assert verdict.n == 3
    assert verdict.errors == 0


def test_values_come_before_seed_numbers(record: Folder) -> None:
    """One wrong seed number in the JSON does not pull in another configuration's log."""
    folder = record(GOOD)
    for seed in GOOD:
        log = folder / f"train_seed{seed}.log"
        log.write_text(log.read_text().replace(f"seed:{seed}", f"matrix_lr:0.02 seed:{seed}", 1))
    (folder / "other_seed4.log").write_text(make_log(4, 1.25).replace("seed:4", "matrix_lr:0.04 seed:4", 1))
    claim = json.loads((folder / "submission.json").read_text())
    said = {"1": {"val_bpb": 1.2000}, "2": {"val_bpb": 1.2010}, "4": {"val_bpb": 1.2020}}
    text = json.dumps(claim | {"seed_results": said})
    (folder / "submission.json").write_text(re.sub(r"(1\.20\d?)(?=})", lambda match: f"{match[1]:0<6}", text))
    verdict = judged(folder)
    assert [run.log for run in verdict.runs] == [f"train_seed{seed}.log" for seed in GOOD]
    assert [one.code for one in verdict.findings if one.severity == "error"] == ["seed-mismatch"]


def test_a_run_that_ended_in_nan_is_a_loss(record: Folder) -> None:
    text = make_log(4, 1.2)
    text = text[: text.rindex("final_int8_zlib_roundtrip val_loss")]
    for label in ("final_int8_zlib_roundtrip", "final_int8_zlib_roundtrip_exact"):
        text += f"{label} val_loss:nan val_bpb:nan\n"
    verdict = judged(claiming(record(GOOD), list(GOOD), {"train_seed4.log": text}))
    assert severity(verdict, Code.RUNS_LEFT_OUT) is Severity.ERROR


def test_a_log_packed_next_to_itself_is_the_same_run(record: Folder) -> None:
    folder = record(GOOD)
    (folder / "train_seed1.log.gz").write_bytes(gzip.compress((folder / "train_seed1.log").read_bytes()))
    assert severity(judged(folder), Code.RUN_NOT_READ) is None


def test_a_run_without_a_labelled_result_is_named_where_the_last_validation_counts(tmp_path: Path) -> None:
    for n, loss in enumerate((3.2761, 3.2769, 3.2764)):
        steps = [f"step:{step}/9 train_time:{step * (60 + n)}ms step_avg:60.00ms" for step in range(1, 9)]
        text = "\n".join([*steps, f"step:9/9 val_loss:{loss} train_time:{600 + n}ms step_avg:60.00ms", ""])
        (tmp_path / f"{n}.{'txt' if n else 'txt.bak'}").write_text(text)
    verdict = judge([tmp_path], Options(rules="nanogpt-track-1"))
    assert severity(verdict, Code.RUN_NOT_READ) is not None


def test_runs_in_files_that_are_no_logs_refuse_a_claim_that_fails_with_them(record: Folder) -> None:
    for name, bpb, expected in (("bad", 1.25, Severity.ERROR), ("good", 1.2011, Severity.WARNING)):
        folder = record(GOOD, name)
        with zipfile.ZipFile(folder / "more.zip", "w") as archive:
            archive.writestr("train_seed12.log", make_log(12, bpb))
        (folder / "train_seed13.log.bak").write_bytes(make_log(13, bpb + 0.0003).encode("utf-16"))
        verdict = judged(folder)
        assert [one.severity for one in verdict.findings] == [expected, expected]
        assert {one.code for one in verdict.findings} == {Code.RUN_NOT_READ}
        assert verdict.all_runs is not None
        assert verdict.all_runs.test.df == 4
        assert [(one.result.seed, one.why) for one in verdict.left_out] == [(12, Why.NOT_A_LOG), (13, Why.NOT_A_LOG)]


def test_an_empty_log_named_like_the_claimed_ones_is_a_run_without_a_result(record: Folder) -> None:
    folder = record(GOOD)
    (folder / "stderr.log").write_text("")
    claiming(folder, list(GOOD), {})
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is None
    (folder / "train_seed9.log").write_text("")
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is Severity.ERROR


def test_a_run_of_the_program_that_ends_in_another_metric_has_no_result(record: Folder) -> None:
    source, step, training = make_log(9, 1.25).partition("\nstep:")
    other = source + step + training.replace("final_int8", "my_int8")
    folder = claiming(record(GOOD), list(GOOD), {"train_seed9.log": other})
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is Severity.ERROR


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("val_loss_every:", "val_loss_every:1"),
        lambda text: text.replace("\nimport ", "\n# another comment\nimport ", 1),
    ],
    ids=["none", "another interval of the log", "a comment"],
)
def test_a_folder_called_control_and_small_changes_do_not_make_another_experiment(
    record: Folder, change: Callable[[str], str]
) -> None:
    folder = record(GOOD)
    (folder / "control").mkdir()
    text = change(make_log(9, 1.25).replace("seed:9", "val_loss_every:500 seed:9", 1))
    (folder / "control/train_seed9.log").write_text(text)
    claiming(folder, list(GOOD), {})
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is Severity.ERROR


def test_files_that_tell_nothing_of_a_run_are_none_of_the_claims(record: Folder) -> None:
    folder = claiming(record(GOOD), list(GOOD), {
        "notes.txt": "step 1: download the data\nstep 2: run it\n",
        "more.txt": "step 500 lr 0.02 val_loss 2.10\nstep 600 lr 0.02 val_loss 2.05\n",
        "crash.log": make_log(9, 1.2).split("step:2/")[0] + "torch.OutOfMemoryError\n",
    })  # fmt: skip
    assert severity(judged(folder), Code.RUNS_LEFT_OUT) is None
