"""Lines in other words: names of metrics, JSON lines and dicts, sizes, and numbers whose unit is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.reading.reader import read_log
from analysis.reading.run import Run

LOG = Path("train.log")
FINAL = "final_x val_loss:2.0 val_bpb:1.2\n"
SOURCE = 'import os\nNAMES = "val loss", "val/loss"\n{"step": 1, "val_loss": 2}\n'


def read(text: str) -> Run:
    (run,) = read_log(LOG, text.encode())
    return run


@pytest.mark.parametrize(
    "line",
    [
        "step:5/5 val_loss:3.27",
        "step:5/5 val/loss:3.27",
        "step 5/5 | val loss 3.27 | lr 0.1",
        "step 5/5: train loss 3.1, val loss 3.27",
        "iter 5/5: loss 3.1, eval_loss=3.27, time 20.1ms",
        "iteration:5/5 validation_loss: 3.27",
        "Step 5/5 Validation Loss: 3.27",
        '{"step": 5, "total_steps": 5, "val_loss": 3.27}',
        '{"event": "eval", "step": 5, "max_steps": 5, "val/loss": 3.27, "lr": 1e-3}',
        "{'eval_loss': 3.27, 'step': 5, 'total_steps': 5, 'epoch': 0.1}",
    ],
)
def test_names_of_a_validation(line: str) -> None:
    run = read(f"step:4/5 train_loss:3.3\n{line}\n")
    assert run.validation is not None
    assert (run.validation.val_loss, run.validated_step, run.total_steps, run.validation.line) == (3.27, 5, 5, 2)


@pytest.mark.parametrize(
    "line",
    [
        "final_x val loss: 2.0286 val bpb: 1.2014",
        "final_x | validation/loss 2.0286 | validation/bpb 1.2014",
        '{"event": "final_x", "val_loss": 2.0286, "val_bpb": 1.2014}',
        '{"label": "final_x", "step": 5, "eval/loss": 2.0286, "eval/bpb": 1.2014}',
        "{'final_x_val_loss': 2.0286, 'final_x_val_bpb': 1.2014, 'n': 3}",
    ],
)
def test_names_of_a_final_metric(line: str) -> None:
    (metric,) = read(f"step:5/5 train_loss:3.3\n{line}\n").finals
    assert (metric.label, metric.val_loss, metric.val_bpb, metric.line) == ("final_x", 2.0286, 1.2014, 2)
    assert metric.decimals == 4


def test_a_json_line_without_a_label_is_no_final_metric() -> None:
    run = read('step:5/5 train_loss:3.3\n{"name": "A toy", "val_loss": 2.0286, "val_bpb": 1.2014}\n')
    assert run.metrics == ()


def test_facts_in_json_lines() -> None:
    run = read('{"seed": 42, "world_size": 8}\n{"step": 5, "train_loss": 3.3, "train_time_seconds": 0.599}\n')
    assert (run.seed, run.world_size, run.train_time_ms) == (42, 8, 599)


def test_an_embedded_source_keeps_its_names() -> None:
    run = read(f"{SOURCE}\n{'=' * 100}\nstep:5/5 val loss:3.27\n")
    assert run.source is not None
    assert run.source.text == SOURCE.encode()


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "ms"),
    [
        ("train_time:600ms", 600),
        ("train_time: 0.6 s", 600),
        ("train_time_ms:600", 600),
        ("train_time_s=0.6", 600),
        ("train_time:600", None),
        ("train_time:600 step:5", None),
        ("train_time:600 h", None),
    ],
)
def test_a_time_without_a_unit_is_unknown(printed: str, ms: float | None) -> None:
    assert read(f"step:5/5 train_loss:3.3 {printed}\n{FINAL}").train_time_ms == ms


@pytest.mark.parametrize(
    ("lines", "sizes"),
    [
        ("Total submission size int8+zlib: 15840000\n", {}),
        ("artifact_bytes: 15840000\n", {"artifact_bytes": 15840000}),
        ("Total submission size: 15900000 bytes\nTotal submission size: 15800000 bytes\n", {"artifact_bytes": 15900000}),
        (
            "Total submission size int8+zlib: 15900000 bytes\nTotal submission size int8+zlib: 15800000 bytes\n",
            {"artifact_bytes": 15900000},
        ),
        (
            "Code size: 47642 bytes | Serialized model int6+zstd: 15400321 bytes | Total submission size: 15447963 bytes\n",
            {"code_bytes": 47642, "model_bytes": 15400321, "artifact_bytes": 15447963},
        ),
        (
            "Model: 15400321 bytes | Code: 47642 bytes | Total: 15447963 bytes\n",
            {"code_bytes": 47642, "artifact_bytes": 15447963},
        ),
        (
            "model int6+zstd=15,400,321 bytes, code=47,642 bytes\n",
            {"code_bytes": 47642, "model_bytes": 15400321, "artifact_bytes": 15447963},
        ),
        ("Total limit: 16000000 bytes | Total submission size: 15447963 bytes\n", {"artifact_bytes": 15447963}),
        ("Code size: 146673 bytes\nCode size (compressed): 30305 bytes\n", {"code_bytes": 30305, "unpacked_code_bytes": 146673}),
        ("Code size (lzma): 30305 bytes\nCode size: 146673 bytes\n", {"code_bytes": 30305, "unpacked_code_bytes": 146673}),
        ("Compressed code size: 30305 bytes\nUncompressed code size: 146,673 bytes\n", {"code_bytes": 30305, "unpacked_code_bytes": 146673}),
        ("Code size: 30305 bytes (compressed)\n", {"code_bytes": 30305}),
        ("Code size: 300 bytes\nCode size: 30305 bytes\nCode size: 20 bytes\n", {"code_bytes": 30305}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "step:5/5 train_loss:3.3\n"])
def test_sizes(before: str, lines: str, sizes: dict[str, Any]) -> None:
    run = read(f"{before}{lines}{FINAL}")
    names = ("code_bytes", "unpacked_code_bytes", "model_bytes", "artifact_bytes")
    assert {name: size for name in names if (size := getattr(run, name)) is not None} == sizes
