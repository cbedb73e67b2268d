"""Logs of our own in every known shape: the reader reads what was written, and the commands judge it right."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from analysis.reading.reader import read_log
from analysis.record.claim import read_claim
from tests import dialects
from tests.dialects import EXACT, Builder, Told, claim_of, final, program, write_record

Run = Callable[..., subprocess.CompletedProcess[str]]
LOG = Path("train.log")
LOSSES = {
    "parameter-golf": (2.02911713, 2.03172045, 2.02740101),
    "nanogpt-track-1": (3.2744, 3.2761, 3.2752),
    "nanogpt-track-3": (3.2744, 3.2761, 3.2752, 3.2757),
}
LENGTH = frozenset({"last_step", "total_steps", "train_time_ms"})
MACHINE = frozenset({"world_size", "python", "torch", "gpu"})
DATA = frozenset({"train_shards", "val_tokens", "dataset", "tokenizer"})
SIZES = frozenset({"model_params", "code_bytes", "model_bytes", "artifact_bytes"})
FACTS = LENGTH | MACHINE | DATA | SIZES | {"seed"}
NO_SUBMISSION = DATA | SIZES | {"seed"}
CONSOLE = frozenset({"source", "python", "torch", "gpu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A family: `silent` are the facts that it does not print, `raises` the findings on its clean folder."""

    write: Builder
    told: Told
    label: str = EXACT
    decimals: int = 8
    rules: str = "parameter-golf"
    silent: frozenset[str] = frozenset()
    raises: frozenset[str] = frozenset()

    @property
    def is_speedrun(self) -> bool:
        return self.rules != "parameter-golf"

    def runs(self) -> list[Told]:
        """Return one run for each of the ruleset's losses, with seeds from 1338 on where the family prints seeds."""
        losses = enumerate(LOSSES[self.rules], start=1338)
        return [replace(self.told, seed=None if self.is_speedrun else seed, val_loss=loss) for seed, loss in losses]

    def record(self, folder: Path) -> Path:
        runs = self.runs()
        return write_record(folder, self.write, runs, None if self.is_speedrun else claim_of(runs))


ROOT = Told(source=program(EXACT.removesuffix("_exact"), EXACT))
SPEEDRUN = Told(source=program(), last_step=500, last_validation_is_worse_by=0.0)
TWO_FILES = f"{program()}\n\n{'-' * 40}\n# kernels.py\n{'-' * 40}\n\nimport os\n\nKERNELS = os.sep\n"
TRACK_1 = Dialect(
    write=dialects.speedrun_track_1,
    told=SPEEDRUN,
    label="val_loss",
    decimals=4,
    rules="nanogpt-track-1",
    silent=NO_SUBMISSION | {"world_size"},
)
DIALECTS = {
    "root script": Dialect(write=dialects.root_script, told=ROOT),
    "root script on a console": Dialect(write=dialects.root_console, told=ROOT, silent=CONSOLE),
    "epoch prefix": Dialect(write=dialects.prefixed, told=ROOT, silent=CONSOLE),
    "embedded helper": Dialect(write=dialects.with_helper, told=ROOT),
    "several runs": Dialect(
        write=dialects.several_runs, told=ROOT, raises=frozenset({"runs-left-out", "several-runs-in-log"})
    ),
    "several final labels": Dialect(
        write=dialects.final_labels,
        told=Told(source=program("final_int6_roundtrip", "final_int6_sliding_window", "final_int6_ttt_exact")),
        label="final_int6_ttt_exact",
    ),
    "hyper-parameter block": Dialect(
        write=dialects.hyperparameter_block,
        told=Told(
            source=program("quantized", "quantized_sliding_window"),
            tokenizer="fineweb_8192_bpe.model",
            dataset="fineweb10B_sp8192",
            val_tokens=40_540_160,
        ),
        label="quantized_sliding_window",
        silent=frozenset({"source"}),
    ),
    "letters": Dialect(
        write=dialects.letters,
        told=Told(source=program("final_plain", "final_sliding")),
        label="final_sliding",
        decimals=4,
        silent=DATA | {"gpu", "model_bytes"},
    ),
    "speedrun track 1": TRACK_1,
    "speedrun of two files": replace(TRACK_1, told=replace(SPEEDRUN, source=TWO_FILES)),
    "speedrun track 3": replace(
        TRACK_1,
        write=dialects.speedrun_track_3,
        decimals=5,
        rules="nanogpt-track-3",
        silent=NO_SUBMISSION | {"python"},
    ),
}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


# -- the reader --------------------------------------------------------------------------------------------------------


@each_dialect
def test_every_fact_is_read_as_it_was_written(dialect: Dialect) -> None:
    told = dialect.runs()[0]
    run = read_log(LOG, dialect.write(told).encode())[-1]
    for fact in FACTS:
        assert getattr(run, fact) == (None if fact in dialect.silent else getattr(told, fact)), fact
    assert (run.source and run.source.text.decode()) == (None if "source" in dialect.silent else told.source)


@each_dialect
def test_the_metric_is_read_with_its_label_decimals_and_line(dialect: Dialect) -> None:
    told = dialect.runs()[0]
    text = dialect.write(told)
    run = read_log(LOG, text.encode())[-1]
    metric = run.validation if dialect.is_speedrun else run.finals[-1]
    assert metric is not None
    assert metric.label == dialect.label
    assert metric.decimals == dialect.decimals
    assert metric.val_loss == round(told.val_loss, dialect.decimals)
    assert metric.val_bpb == (None if dialect.is_speedrun else round(told.val_bpb, dialect.decimals))
    assert metric.line == max(n for n, line in enumerate(text.split("\n"), start=1) if dialect.label in line)


@each_dialect
def test_every_step_is_read(dialect: Dialect) -> None:
    told = dialect.runs()[0]
    text = dialect.write(told)
    run = read_log(LOG, text.encode())[-1]
    training = [step for step in run.steps if step.val_loss is None]
    assert [step.step for step in training] == list(told.train_losses)
    assert [step.train_loss for step in training] == [
        None if dialect.is_speedrun else loss for loss in told.train_losses.values()
    ]
    assert {step.step: step.val_loss for step in run.steps if step.val_loss is not None} == told.validations
    lines = text.split("\n")
    assert all(f"{step.step}/{told.total_steps}" in lines[step.line - 1] for step in run.steps)
    timed = [step for step in run.steps if step.train_time_ms is not None]
    within = 3000 if dialect.write is dialects.hyperparameter_block else 0.5  # it prints tenths of minutes
    assert timed
    assert all(step.train_time_ms == pytest.approx(step.step * told.step_ms, abs=within) for step in timed)


@pytest.mark.parametrize(
    "prefix",
    [
        "{epoch}.{step:03d}: ",
        "[rank0]: ",
        "(train pid={epoch}, ip=10.0.0.1) ",
        "2026-05-03 11:00:00,{step:03d} - INFO - ",
        "train | ",
    ],
)
def test_a_prefix_changes_nothing_but_the_lines(prefix: str) -> None:
    told = replace(ROOT, seed=7)
    (plain,) = read_log(LOG, dialects.root_console(told).encode())
    (run,) = read_log(LOG, dialects.prefixed(told, prefix).encode())
    assert run.steps == plain.steps
    assert replace(run, curve=()) == replace(plain, curve=())


def test_each_run_of_a_log_is_read_with_its_first_line() -> None:
    text = dialects.several_runs(ROOT)
    runs = read_log(LOG, text.encode())
    assert [run.finals[-1].val_loss for run in runs] == pytest.approx([2.23, 2.13, 2.03])
    lines = text.split("\n")
    rulers = [n for n, line in enumerate(lines, start=1) if line == dialects.RULER]
    assert [run.line for run in runs] == [1, *rulers[2::2]]


@pytest.mark.parametrize(
    "shape",
    [
        "Total submission size int8+zlib: {total} bytes",
        "Total submission size quantized+brotli: {total:,} bytes",
        "Total submission size: {total} bytes",
        "total_artifact_bytes: {total}",
        "artifact_bytes:   {total}",
        "budget:{total}/16000000 (15.40/16.00MB) FITS",
        "Code size: {code} bytes\nSerialized model int8+zlib: {model} bytes",
        "Total submission size int6: 99999999 bytes\nTotal submission size int8+zlib: {total} bytes",
        "Total submission size: 99999999 bytes\nTotal submission size int8+zlib: {total} bytes",
        "Total submission size limit: 16000000 bytes\nTotal submission size int8+zlib: {total} bytes",
    ],
)
def test_shapes_of_a_size(shape: str) -> None:
    printed = shape.format(total=ROOT.artifact_bytes, model=ROOT.model_bytes, code=ROOT.code_bytes)
    (run,) = read_log(LOG, f"{dialects.root_training(ROOT)}\n{printed}\n{final(ROOT, EXACT)}\n".encode())
    assert run.artifact_bytes == ROOT.artifact_bytes


# -- claims ------------------------------------------------------------------------------------------------------------


def claims(runs: list[Told]) -> Mapping[str, dict[str, Any]]:
    """Return submission JSONs of different shapes that claim the mean of the same runs."""
    about = {"name": "a toy", "author": "nobody", "date": "2026-05-03"}
    usual, seeds = claim_of(runs), [run.seed for run in runs]
    mean, size, values = usual["val_bpb"], usual["bytes_total"], [run.val_bpb for run in runs]
    each = {str(run.seed): {"val_bpb": run.val_bpb, "val_loss": run.val_loss, "steps": 320} for run in runs}
    listed = [{"seed": run.seed, "val_bpb": run.val_bpb, "log": f"train_seed{run.seed}.log"} for run in runs]
    deeper = {"metrics": {"val_bpb": {"mean": mean, "std": 0.001}}}
    return {
        "a table of seeds": usual | {"seeds": seeds, "seed_results": each, "val_bpb_std": 0.0013},
        "a list of runs": about | {"mean_val_bpb": mean, "bytes_total": size, "runs": listed},
        "a key a seed": usual | {f"seed_{run.seed}_val_bpb": run.val_bpb for run in runs},
        "a list of values": about | deeper | {"total_bytes": size, "seeds": seeds, "val_bpbs": values},
        "texts": about | {"mean_val_bpb": f"{mean} (3 seeds)", "artifact_bytes": f"{size:,} bytes", "seeds": seeds},
        "next to a baseline": usual | {"seeds": seeds, "baseline_val_bpb": 1.25, "delta_bpb": -0.04, "p_value": 0.001},
    }


@pytest.mark.parametrize("shape", claims(DIALECTS["root script"].runs()))
def test_a_claim_is_read_in_every_shape(tmp_path: Path, command: Run, shape: str) -> None:
    dialect = DIALECTS["root script"]
    runs = dialect.runs()
    folder = write_record(tmp_path / "record", dialect.write, runs, claims(runs)[shape])
    claim = read_claim(folder / "submission.json")
    assert float(claim.val_bpb or 0) == pytest.approx(fmean(run.val_bpb for run in runs), abs=1e-8)
    assert list(claim.seeds) == [1338, 1339, 1340]
    assert claim.artifact_bytes == runs[0].artifact_bytes
    found = command("analysis.audit", folder, "--format", "json")
    assert json.loads(found.stdout)["findings"] == []


# -- the commands ------------------------------------------------------------------------------------------------------


@each_dialect
def test_a_clean_folder_raises_nothing(tmp_path: Path, command: Run, dialect: Dialect) -> None:
    folder = dialect.record(tmp_path / "record")
    found = command("analysis.audit", folder, "--rules", dialect.rules, "--format", "json")
    assert {finding["code"] for finding in json.loads(found.stdout)["findings"]} == dialect.raises
    assert found.returncode == 0


@each_dialect
def test_the_verdict_counts_every_run_once(tmp_path: Path, command: Run, dialect: Dialect) -> None:
    folder, runs = dialect.record(tmp_path / "record"), dialect.runs()
    sota = () if dialect.is_speedrun else ("--sota", "1.25")
    found = command("analysis.significance", "report", folder, "--rules", dialect.rules, *sota, "--format", "json")
    table = json.loads(found.stdout)
    values = [round(run.val_loss if dialect.is_speedrun else run.val_bpb, dialect.decimals) for run in runs]
    assert table["n"] == len(runs)
    assert table["mean"] == pytest.approx(fmean(values), abs=1e-10)
    assert [run["val_loss" if dialect.is_speedrun else "val_bpb"] for run in table["runs"]] == values
    assert [run["seed"] for run in table["runs"]] == [run.seed for run in runs]
    assert table["verdict"] == "supported"
    assert found.returncode == 0
