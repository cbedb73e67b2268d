"""The log grammar, rule by rule, on small logs of our own."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.logs import log_files, read_log
from tests.conftest import RATIO, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
LOG = Path("train.log")


def read(text: str):
    return read_log(LOG, text.encode())


def test_a_complete_log() -> None:
    text = make_log(1337, 1.20143417)
    (run,) = read(text)
    assert (run.seed, run.world_size, run.model_params, run.torch) == (1337, 8, 1234, "2.8.0+cu128")
    assert run.gpu == "NVIDIA H100 80GB HBM3"
    assert (run.code_bytes, run.model_bytes, run.artifact_bytes) == (50, 15820, 15870)
    assert (run.last_step, run.total_steps, run.train_time_ms) == (100, 100, 6000)
    assert [(step.step, step.train_loss) for step in run.steps if step.train_loss] == [(1, 6.9), (50, 2.5)]
    assert [metric.label for metric in run.finals] == ["final_int8_zlib_roundtrip_exact"]
    assert [(metric.label, metric.decimals) for metric in run.metrics] == [
        ("final_int8_zlib_roundtrip", 4),
        ("final_int8_zlib_roundtrip_exact", 8),
    ]
    exact = run.finals[-1]
    assert exact.val_bpb == 1.20143417
    assert exact.val_loss == pytest.approx(1.20143417 / RATIO, abs=1e-8)
    assert text.split("\n")[exact.line - 1].startswith("final_int8_zlib_roundtrip_exact")


def test_the_embedded_source_is_cut_out_and_its_digest_kept() -> None:
    source = 'import os\nprint("final val_loss:1.0 val_bpb:1.0")\nseed:99\n'
    text = f"{source}\n{'=' * 100}\nseed:3\nfinal val_loss:2.0 val_bpb:1.2\n"
    (run,) = read(text)
    assert run.seed == 3
    assert [metric.val_bpb for metric in run.finals] == [1.2]
    assert (run.source_sha256, run.source_bytes) == (hashlib.sha256(source.encode()).hexdigest(), len(source))


def test_launcher_lines_before_the_source_are_not_part_of_it() -> None:
    source = "import os\n"
    noise = "W0318 14:37:59.159000 871689 site-packages/torch/distributed/run.py:852]\n*****************\n"
    (run,) = read(f"{noise}{source}\n{'=' * 100}\nfinal val_loss:2.0 val_bpb:1.2\n")
    assert run.source_bytes == len(source)


@pytest.mark.parametrize(
    "line",
    [
        "final_x val_loss:2.0286 val_bpb:1.2014",
        "final_x val_loss: 2.0286 val_bpb: 1.2014",
        "final_x val_loss=2.0286 val_bpb=1.2014",
        "final_x: val_loss=2.0286, val_bpb=1.2014",
        "final_x stride:64 val_loss:2.0286 val_bpb:1.2014 eval_time:12ms",
        "[rank0]: final_x val_loss:2.0286 val_bpb:1.2014",
        "(work pid=123) final_x val_loss:2.0286 val_bpb:1.2014",
        "1773800000.123: final_x val_loss:2.0286 val_bpb:1.2014",
        "\x1b[32mfinal_x val_loss:2.0286 val_bpb:1.2014\x1b[0m",
        "final_x val_loss:2.0286 val_bpb:1.2014\r",
    ],
)
def test_shapes_of_a_final_metric_line(line: str) -> None:
    (run,) = read(line + "\n")
    (metric,) = run.finals
    assert (metric.label, metric.val_loss, metric.val_bpb, metric.decimals) == ("final_x", 2.0286, 1.2014, 4)


@pytest.mark.parametrize(
    "line",
    [
        "step:100/200 val_loss:2.0 val_bpb:1.2",
        "ttt_chunk 3/7 val_loss:2.0 val_bpb:1.2",
        "ttp: b1 val_loss:2.0 val_bpb:1.2",
        "sliding_eval 10% val_loss:2.0 val_bpb:1.2",
        "running_val val_loss:2.0 val_bpb:1.2",
        "val_bpb:enabled tokenizer_kind=sentencepiece",
        "val_loss:2.0 val_bpb:1.2",
        "final_x val_loss:2.0",
        '    log(f"final_x val_loss:{a} val_bpb:{b}")',
    ],
)
def test_lines_that_are_no_final_metric(line: str) -> None:
    assert not [metric for run in read(line + "\n") for metric in run.metrics]


@pytest.mark.parametrize("label", ["DIAGNOSTIC post_ema", "pre-quantization post-ema", "diagnostic quantized"])
def test_diagnostics_are_kept_apart(label: str) -> None:
    (run,) = read(f"{label} val_loss:2.0 val_bpb:1.2\n")
    assert [metric.label for metric in run.metrics] == [label]
    assert run.finals == []


def test_nan_is_read_as_nan() -> None:
    (run,) = read("final_x val_loss:nan val_bpb:nan\n")
    assert math.isnan(run.finals[0].val_bpb)


def test_runs_are_split_where_the_steps_fall_back() -> None:
    body = "step:10/20 train_loss:3.0 train_time:1ms\nfinal val_loss:2.0 val_bpb:1.{}\n"
    runs = read("seed:5\n" + body.format(2) + body.format(3).replace("step:10", "step:1"))
    assert [(run.seed, run.finals[0].val_bpb) for run in runs] == [(5, 1.2), (5, 1.3)]


def test_runs_are_split_at_a_new_source_and_at_a_new_warm_up() -> None:
    assert len(read(make_log(1, 1.2) + make_log(2, 1.3))) == 2
    first, second = "final_x val_loss:2.0 val_bpb:1.2\n", "seed:2\nfinal_x val_loss:2.0 val_bpb:1.3\n"
    assert [run.seed for run in read("seed:1\n" + first + second)] == [1, 2]
    body = "warmup_step:1/1\nstep:5/5 val_loss:2 val_bpb:1\n"
    assert len(read(body + body)) == 2


def test_a_run_that_died_before_its_first_step_is_a_run() -> None:
    (run,) = read("seed:4\nwarmup_step:1/20\nCUDA out of memory\n")
    assert (run.seed, run.trained) == (4, False)


def test_a_file_without_steps_or_metrics_is_no_log() -> None:
    assert read("torch==2.8\nnumpy\n") == []


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_a_crash(content: bytes) -> None:
    read_log(LOG, content)


@given(st.lists(st.sampled_from(make_log(1, 1.2).encode().split(b"\n")), max_size=30), st.integers(0, 2000))
def test_any_order_and_any_cut_of_real_lines_is_read(lines: list[bytes], cut: int) -> None:
    read_log(LOG, b"\n".join(lines)[:cut])


def test_only_logs_below_a_folder_are_read(tmp_path: Path) -> None:
    for name in ("b.log", "sub/a.txt", "train_gpt.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [path.name for path in log_files(tmp_path)] == ["b.log", "a.txt"]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_command_prints_one_row_a_run(python: Run, record: Callable[..., Path], form: str) -> None:
    found = python("-m", "analysis.logs", record({7: 1.2, 8: 1.3}), "--format", form)
    assert found.returncode == 0
    rows = json.loads(found.stdout) if form == "json" else found.stdout.strip().split("\n")[1:]
    assert len(rows) == 2


def test_parquet_needs_a_file_and_an_empty_folder_is_said(python: Run, tmp_path: Path) -> None:
    assert python("-m", "analysis.logs", tmp_path, "--format", "parquet").returncode == 2
    found = python("-m", "analysis.logs", tmp_path)
    assert found.returncode == 3
    assert str(tmp_path) in found.stderr


def test_real_logs(reference: Path) -> None:
    """The runs that the claims of the root-family records rest on."""
    expected = json.loads((reference / "logs" / "expected.json").read_text())
    for folder in ("2026-03-17_NaiveBaseline", "2026-03-19_TrainingOptSeq4096"):
        for wanted in expected[folder]["runs"]:
            (run,) = read_log(reference / "logs" / "parameter-golf" / folder / wanted["log"])
            metric = run.finals[-1]
            assert (run.seed, metric.label, metric.line) == (wanted["seed"], wanted["metric"], wanted["line"])
            assert (metric.val_loss, metric.val_bpb) == (wanted["val_loss"], wanted["val_bpb"])
            assert (run.train_time_ms, run.last_step) == (wanted["train_time_ms"], wanted["last_step"])
            assert (run.artifact_bytes, run.code_bytes) == (wanted["artifact_bytes_total"], wanted["code_bytes"])
            assert (run.world_size, run.torch) == (wanted["world_size"], wanted["torch"])
