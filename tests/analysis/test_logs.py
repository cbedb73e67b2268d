"""The log grammar, rule by rule, on small logs of our own."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.reading.reader import read_log
from analysis.untrusted.files import FileError, files_below
from tests.conftest import RATIO, SOURCE, make_log

Run = Callable[..., subprocess.CompletedProcess[str]]
LOG = Path("train.log")


def read(text: str):
    return read_log(LOG, text.encode())


def test_a_complete_log() -> None:
    text = make_log(1337, 1.20143417)
    (run,) = read(text)
    assert run.seed == 1337
    assert run.world_size == 8
    assert run.model_params == 1234
    assert run.torch == "2.8.0+cu128"
    assert run.gpu == "NVIDIA H100 80GB HBM3"
    assert run.python == "3.11.3"
    assert run.train_shards == 80
    assert run.val_tokens == 62021632
    assert run.dataset == "fineweb10B_sp1024"
    assert run.tokenizer == "fineweb_1024_bpe.model"
    assert run.code_bytes == len(SOURCE)
    assert run.model_bytes == 15820
    assert run.artifact_bytes == 15820 + len(SOURCE)
    assert run.source is not None
    assert run.source.text == SOURCE.encode()
    assert run.hyperparameters["train_batch_tokens"] == "393216"
    assert run.last_step == 100
    assert run.total_steps == 100
    assert run.train_time_ms == 6009
    assert [(step.step, step.train_loss) for step in run.steps if step.train_loss][-2:] == [(4, 6.5), (50, 2.5)]
    assert run.steps[-1].val_bpb == 1.25
    assert text.split("\n")[run.steps[-1].line - 1].startswith("step:100/100")
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
    assert run.source is not None
    assert run.source.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert run.source.size_bytes == len(source)


def test_launcher_lines_before_the_source_are_not_part_of_it() -> None:
    source = "import os\n"
    noise = "W0318 14:37:59.159000 871689 site-packages/torch/distributed/run.py:852]\n*****************\n"
    (run,) = read(f"{noise}{source}\n{'=' * 100}\nfinal val_loss:2.0 val_bpb:1.2\n")
    assert run.source is not None
    assert run.source.text == source.encode()


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
        "final_x val_bpb:1.2014 val_loss:2.0286",
        "final_x | val_loss 2.0286 | val_bpb 1.2014",
        "final_x val_loss:2.0286 val_bpb:1.2014 (stride=16, T=0.90) eval_time:429311ms",
        "2026-03-18 14:38:12,123 - INFO - final_x val_loss:2.0286 val_bpb:1.2014",
        " 42%|####      | 3/7\rfinal_x val_loss:2.0286 val_bpb:1.2014",
    ],
)
def test_shapes_of_a_final_metric_line(line: str) -> None:
    (run,) = read(line + "\n")
    (metric,) = run.finals
    assert metric.label == "final_x"
    assert metric.val_loss == 2.0286
    assert metric.val_bpb == 1.2014
    assert metric.decimals == 4


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
        "eval 10/50 val_loss:2.0 val_bpb:1.2",
        "eval 10% val_loss:2.0 val_bpb:1.2",
        "tttg: c1 val_loss:2.0 val_bpb:1.2",
        "batch 7 val_loss:2.0 val_bpb:1.2",
        "ema step:4000 val_loss:2.0 val_bpb:1.2",
        '    log(f"final_x val_loss:{a} val_bpb:{b}")',
    ],
)
def test_lines_that_are_no_final_metric(line: str) -> None:
    assert not [metric for run in read(line + "\n") for metric in run.metrics]


@pytest.mark.parametrize("label", ["DIAGNOSTIC post_ema", "pre-quantization post-ema", "diagnostic quantized"])
def test_diagnostics_are_kept_apart(label: str) -> None:
    (run,) = read(f"{label} val_loss:2.0 val_bpb:1.2\n")
    assert [metric.label for metric in run.metrics] == [label]
    assert run.finals == ()


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


def test_a_run_that_begins_with_a_header_again_has_facts_of_its_own() -> None:
    header = "val_bpb:enabled tokenizer_kind=a\nworld_size:{}\nlr:{}\nseed:5\nwarmup_step:1/1\n"
    body = "step:5/5 train_loss:2 train_time:9ms\nfinal_x val_loss:2.0 val_bpb:1.2\n"
    runs = read(header.format(8, 1) + body + header.format(4, 2) + body)
    assert [(run.world_size, run.hyperparameters["lr"], run.line) for run in runs] == [(8, "1", 1), (4, "2", 8)]


def test_a_run_that_died_before_its_first_step_is_a_run() -> None:
    (run,) = read("seed:4\nwarmup_step:1/20\nCUDA out of memory\n")
    assert run.seed == 4
    assert not run.trained


def test_a_file_without_steps_or_metrics_is_no_log() -> None:
    assert read("torch==2.8\nnumpy\n") == []


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_a_crash(content: bytes) -> None:
    read_log(LOG, content)


@given(st.lists(st.sampled_from(make_log(1, 1.2).encode().split(b"\n")), max_size=30), st.integers(0, 2000))
def test_any_order_and_any_cut_of_real_lines_is_read(lines: list[bytes], cut: int) -> None:
    read_log(LOG, b"\n".join(lines)[:cut])


def test_only_logs_below_a_folder_are_read(tmp_path: Path) -> None:
    for name in ("b.log", "sub/a.txt", "train_gpt.py", "README.md", ".git/x.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [path.name for path in files_below(tmp_path).logs] == ["b.log", "a.txt"]


# -- dialects ----------------------------------------------------------------------------------------------------------

BLOCK = """\
Hyperparameters:
  lr: 0.02
  seed: 42
  data_dir: ./data/
  world_size: 8
  tokenizer_path: ./data/tokenizers/fineweb_8192_bpe.model
  datasets_dir: ./data/datasets/fineweb10B_sp8192
train_shards: 128
val_tokens: 40540160
model_params:35943512
warmup_step: 1/20
0/20000 val_loss: 9.0090 val_bpb: 3.4877
1/20000 train_loss: 9.0111 train_time: 0.0m tok/s: 8242436
500/20000 train_loss: 3.3339 train_time: 0.8m tok/s: 7726831
4986/20000 val_loss: 2.8178 val_bpb: 1.0909
stopping_early: wallclock_cap train_time: 588136ms step: 4987/20000
pre-quantization post-ema val_loss:2.81543002 val_bpb:1.08994070 eval_time:6006ms
Code size (uncompressed): 146673 bytes
Code size (compressed): 30305 bytes
Serialized model quantized+brotli: 15,910,075 bytes
Total submission size quantized+brotli: 15940380 bytes
quantized_sliding_window val_loss:2.80691494 val_bpb:1.08664424 eval_time:84115ms
"""


def test_a_block_of_hyper_parameters_and_times_in_minutes() -> None:
    (run,) = read(BLOCK)
    assert run.seed == 42
    assert run.world_size == 8
    assert run.train_shards == 128
    assert run.val_tokens == 40540160
    assert run.tokenizer == "fineweb_8192_bpe.model"
    assert run.dataset == "fineweb10B_sp8192"
    assert run.complete_config
    assert run.hyperparameters["lr"] == "0.02"
    assert len(run.hyperparameters) == 6
    assert run.train_time_ms == 588136
    assert run.last_step == 4987
    assert run.total_steps == 20000
    assert [step.train_time_ms for step in run.steps] == [None, 0, 48_000, None]
    assert run.code_bytes == 30305
    assert run.unpacked_code_bytes == 146673
    assert run.model_bytes == 15910075
    assert run.artifact_bytes == 15940380
    assert run.totals == (("quantized+brotli", 15940380),)
    assert BLOCK.split("\n")[(run.size_line or 0) - 1].startswith("Total submission")
    assert [metric.label for metric in run.finals] == ["quantized_sliding_window"]


def test_a_dialect_of_one_line_blocks_and_letters() -> None:
    (run,) = read(
        "Python 3.13.12 | packaged by somebody |\nPyTorch 2.10.0+cu128\n--- Hyperparameters ---\n"
        "adam_lr=0.05 seed=7 run_id=abc\nparams:73685840 L:10 d:768 h:8 kv:4 ws:8 ga:1 s:7\nwarmup:1/5\nwarmup:2/5\n"
        "step:1000/10000 loss:3.3120 t:91478ms avg:91.5ms\n"
        "step:6530/10000 val_loss:3.0517 val_bpb:1.1816 train_time:599652ms zero_frac:0.336\n"
        "artifact:15.92MB ternary:64880640(14239486B) fp:2513744(2537376B) code:70853\n"
        "budget:15993853/16000000 (15.99/16.00MB) FITS\n"
        "final_sliding val_loss:2.9869 val_bpb:1.1565 (stride=16, T=0.90) eval_time:429311ms\n"
    )
    assert run.python == "3.13.12"
    assert run.torch == "2.10.0+cu128"
    assert run.seed == 7
    assert run.world_size == 8
    assert run.code_bytes == 70853
    assert run.artifact_bytes == 15993853
    assert run.train_time_ms == 599652
    assert run.steps[0].train_loss == 3.312
    assert run.steps[0].train_time_ms == 91478
    assert run.steps[0].step_avg_ms == 91.5
    assert run.complete_config


def test_a_speedrun_ends_in_its_last_validation() -> None:
    (run,) = read(
        "Running on device_name=NVIDIA H100 80GB HBM3 with world_size=8\n"
        "step:0/3325 val_loss:10.82584 train_time:0.000s step_avg:0.16ms\n"
        "step:1/3325 train_time:11.062s step_avg:11061.81ms\n"
        "step:3325/3325 val_loss:3.27796 train_time:504.537s step_avg:151.74ms\npeak memory allocated: 29863 MiB\n"
    )
    assert run.gpu == "NVIDIA H100 80GB HBM3"
    assert run.world_size == 8
    assert run.seed is None
    assert run.finals == ()
    assert run.validation is not None
    assert run.validation.val_loss == 3.27796
    assert run.validation.val_bpb is None
    assert run.validation.decimals == 5
    assert run.validation.line == 4
    assert run.train_time_ms == 504537
    assert run.last_step == 3325
    (old,) = read("s:0 tel:11.0\ns:1 trl:10.9\ns:5100 tel:3.2743\n")
    assert old.validation is not None
    assert old.validation.val_loss == 3.2743
    assert old.last_step == 5100
    assert old.steps[1].train_loss == 10.9


@pytest.mark.parametrize(
    "line", ["seed:42", "seed: 42", "SEED=42", "Using seed 42", "random seed: 42", "  seed: 42", "[rank0]: seed:42"]
)
def test_shapes_of_a_seed(line: str) -> None:
    (run,) = read(f"{line}\nfinal_x val_loss:2.0 val_bpb:1.2\n")
    assert run.seed == 42


@pytest.mark.parametrize("line", ["data_seed:42", "seeds:42", "seed_offset:42", "the seed is sown", "seed: 42.5e3x"])
def test_lines_that_are_no_seed(line: str) -> None:
    (run,) = read(f"{line}\nfinal_x val_loss:2.0 val_bpb:1.2\n")
    assert run.seed is None


def test_sizes_without_a_codec_count_only_when_there_is_no_other() -> None:
    end = "final_x val_loss:2.0 val_bpb:1.2\n"
    (run,) = read(f"Total submission size: 67272625 bytes\nTotal submission size int6+zstd: 15540675 bytes\n{end}")
    assert run.artifact_bytes == 15540675
    (run,) = read(f"Total submission size: 15272625 bytes\n{end}")
    assert run.artifact_bytes == 15272625
    (run,) = read(f"artifact_bytes:   15540675\nTotal artifact size: 15.9MB\n{end}")
    assert run.artifact_bytes == 15540675


def test_other_shells_wrote_the_same_log() -> None:
    text = make_log(1337, 1.20143417)
    (plain,) = read(text)
    for content in (text.replace("\n", "\r\n").encode(), text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        (run,) = read_log(LOG, content)
        assert run == plain


def test_the_source_of_a_second_run_begins_after_the_lines_of_the_first() -> None:
    first, second = make_log(1, 1.2), make_log(1, 1.3, SOURCE + "# changed\n")
    tail = "final_window_exact stride:64 val_loss:2.04 val_bpb:1.20840424\npeak memory: 3 MiB\nlogs/a.txt\n"
    runs = read(first + tail + second)
    assert [run.source and run.source.text.decode() for run in runs] == [SOURCE, SOURCE + "# changed\n"]
    assert [run.finals[-1].label for run in runs] == ["final_window_exact", "final_int8_zlib_roundtrip_exact"]


def test_blocks_between_rulers_that_are_no_source_are_read() -> None:
    ruler = "=" * 100
    (run,) = read(
        f"{ruler}\n{BLOCK.split('train_shards')[0]}{ruler}\nRunning PyTorch 2.11.0\n{ruler}\n0/2 val_loss: 3 val_bpb: 2\n"
    )
    assert run.source is None
    assert run.seed == 42
    assert run.torch == "2.11.0"
    assert run.last_step == 0


def test_a_short_ruler_inside_a_source_is_part_of_it() -> None:
    source = '"""Heading\n' + "=" * 40 + '\n"""\nimport os\n'
    (run,) = read(f"{source}\n{'=' * 100}\nseed:3\nfinal val_loss:2.0 val_bpb:1.2\n")
    assert run.source is not None
    assert run.source.text == source.encode()
    (run,) = read(f"import os\n\n{'=' * 40}\nseed:3\nfinal val_loss:2.0 val_bpb:1.2\n")
    assert run.source is not None


def test_two_writers_in_one_file_are_no_restarts() -> None:
    mixed = "".join(f"step:{a}/900 train_loss:3 train_time:{a}ms\n" for i in range(10, 100, 10) for a in (i, i - 7))
    (run,) = read("seed:1\n" + mixed)
    assert run.clobbered_at == 3
    once = "".join(f"step:{i}/900 train_loss:3 train_time:{i}ms\n" for i in (10, 20, 30, 20, 30, 40))
    assert [(run.last_step, run.clobbered_at) for run in read("seed:1\n" + once)] == [(30, None), (40, None)]


def test_a_log_with_too_many_runs_is_refused() -> None:
    with pytest.raises(FileError, match="no training log"):
        read("step:2/9 train_loss:3\nx\nstep:1/9 train_loss:3\nx\n" * 60_000)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_command_prints_one_row_a_run(command: Run, record: Callable[..., Path], form: str) -> None:
    found = command("analysis.logs", record({7: 1.2, 8: 1.3}), "--format", form)
    assert found.returncode == 0
    rows = json.loads(found.stdout) if form == "json" else found.stdout.strip().split("\n")[1:]
    assert len(rows) == 2


TRAINED = "step:50/100 train_loss:2.5 train_time:50ms step_avg:1ms\nstep:100/100 train_loss:2.4 train_time:99ms step_avg:1ms\n"


@pytest.mark.parametrize(
    ("log", "state"),
    [
        (TRAINED + "final_int8_exact val_loss:2.02 val_bpb:1.20143417\n", "succeeded"),
        (TRAINED, "failed"),  # no metric at all
        (TRAINED + "DIAGNOSTIC post_ema val_loss:2.02 val_bpb:1.2014\n", "failed"),
        (TRAINED + "step:100/100 val_loss:2.02 val_bpb:1.2014 train_time:99ms step_avg:1ms\n", "failed"),  # cut off
        (TRAINED + "step:100/100 val_loss:3.27 train_time:99ms step_avg:1ms\n", "succeeded"),  # a speedrun
        ("step:50/100 val_loss:3.27 train_time:50ms step_avg:1ms\n" + TRAINED, "failed"),
        ("step:50 val_loss:3.27 train_time:50ms step_avg:1ms\n", "succeeded"),  # plans no last step
    ],
)
def test_a_run_without_a_final_metric_has_not_succeeded(command: Run, tmp_path: Path, log: str, state: str) -> None:
    (tmp_path / "train.log").write_text(log)
    rows = json.loads(command("analysis.logs", tmp_path, "--format", "json").stdout)
    assert [row["state"] for row in rows] == [state]


def test_the_runs_of_a_control_are_said_to_be_one(command: Run, record: Callable[..., Path]) -> None:
    folder = record({7: 1.2, 8: 1.3})
    (folder / "control").mkdir()
    (folder / "train_seed8.log").rename(folder / "control" / "train_seed8.log")
    rows = json.loads(command("analysis.logs", folder, "--format", "json").stdout)
    assert [(row["seed"], row["arm"]) for row in rows] == [(7, "candidate"), (8, "control")]


def test_parquet_needs_a_file_and_an_empty_folder_is_said(command: Run, tmp_path: Path) -> None:
    assert command("analysis.logs", tmp_path, "--format", "parquet").returncode == 2
    found = command("analysis.logs", tmp_path)
    assert found.returncode == 3
    assert str(tmp_path) in found.stderr


def test_curves_are_one_row_a_step(command: Run, record: Callable[..., Path], tmp_path: Path) -> None:
    folder = record({7: 1.2, 8: 1.3})
    found = command("analysis.logs", "--curves", folder, "--format", "csv")
    lines = found.stdout.strip().split("\n")
    assert lines[0] == "log,run,seed,step,line,train_loss,val_loss,val_bpb,train_time_ms,step_avg_ms"
    assert len(lines) == 1 + 2 * 7
    assert lines[-1].split(",")[1:4] == ["1", "8", "100"]
    assert (
        command(
            "analysis.logs", "--curves", folder, "--format", "parquet", "--output", tmp_path / "c.parquet"
        ).returncode
        == 0
    )
    assert len(pd.read_parquet(tmp_path / "c.parquet")) == 14


def test_json_holds_every_metric_and_hyper_parameter(command: Run, record: Callable[..., Path]) -> None:
    rows = json.loads(command("analysis.logs", record({7: 1.2}), "--format", "json").stdout)
    assert [metric["decimals"] for metric in rows[0]["metrics"]] == [4, 8]
    assert rows[0]["hyperparameters"]["train_seq_len"] == "4096"


def test_no_printed_row_is_a_workflow_command(
    command: Run, record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(record({1: 1.2}, name=" ::error::x", bare=True).parent)
    found = command("analysis.logs", "--curves", " ::error::x", "--format", "csv")
    assert found.stdout.split("\n")[1].startswith(" \\x3a:error::x/train_seed1.log,")
    shown = command("analysis.logs", "--curves", " ::error::x").stdout
    assert not re.search(r"^\s*::", shown, re.MULTILINE)


def test_what_could_not_be_read_is_said_and_is_an_error(command: Run, record: Callable[..., Path]) -> None:
    folder = record({7: 1.2})
    (folder / "away.log").symlink_to("/etc/hostname")
    found = command("analysis.logs", folder)
    assert found.returncode == 3
    assert len(found.stdout.strip().split("\n")) == 2
    assert "away.log is a link that leads out of the folder" in found.stderr


def test_a_long_ruler_in_an_open_text_does_not_end_the_source() -> None:
    source = '"""Heading\n' + "=" * 100 + '\nprose\n"""\nimport os\n'
    (run,) = read(f"{source}\n{'=' * 100}\nseed:3\nfinal val_loss:2.0 val_bpb:1.2\n")
    assert run.source is not None
    assert run.source.text == source.encode()


def test_a_minified_source_is_taken_from_its_first_line() -> None:
    for source in ('_A="x";_B=1\nimport os\n', "A,B=1,2\nfrom os import *\n"):
        (run,) = read(
            f"Setting OMP_NUM_THREADS=1\nlogs/a.txt\n{source}\n{'=' * 100}\nseed:3\nfinal val_loss:2.0 val_bpb:1.2\n"
        )
        assert run.source is not None
        assert run.source.text == source.encode()


def test_what_comes_after_training_does_not_lengthen_it() -> None:
    (run,) = read(
        "step:7/9 train_loss:2 train_time:599ms\nstopping_early: wallclock_cap train_time:600ms step:7/9\n"
        "step:7/9 ttt val_loss:2.0 train_time:900ms\nfinal val_loss:2.0 val_bpb:1.2\n"
    )
    assert run.train_time_ms == 600
