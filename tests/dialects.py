"""Training logs of our own making, in the shapes that the reader knows: one builder a family.

A builder takes what a run is to say (`Told`) and returns its log; `write_record` makes a folder of such logs. Names and
numbers are invented, except the data sets and tokenizers that the rules know.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

RULER = "=" * 100
BPB_PER_NAT = {"fineweb_1024_bpe.model": 0.592256, "fineweb_8192_bpe.model": 0.387132}
EXACT = "final_int8_zlib_roundtrip_exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one log says. The facts have the names that the reader gives them."""

    source: str
    seed: int | None = 1337
    val_loss: float = 2.03
    last_validation_is_worse_by: float = 0.002
    last_step: int = 320
    total_steps: int = 500
    step_ms: int = 75
    world_size: int = 8
    python: str = "3.11.2"
    torch: str = "2.9.0+cu128"
    gpu: str = "NVIDIA H100 80GB HBM3"
    train_shards: int = 64
    val_tokens: int = 62_021_632
    dataset: str = "fineweb10B_sp1024"
    tokenizer: str = "fineweb_1024_bpe.model"
    model_params: int = 17_100_200
    model_bytes: int = 15_400_321

    @property
    def val_bpb(self) -> float:
        return round(self.val_loss * BPB_PER_NAT[self.tokenizer], 8)

    @property
    def train_time_ms(self) -> int:
        return self.last_step * self.step_ms

    @property
    def code_bytes(self) -> int:
        return len(self.source.encode())

    @property
    def artifact_bytes(self) -> int:
        return self.model_bytes + self.code_bytes

    @property
    def train_losses(self) -> dict[int, float]:
        """Return the logged training losses: the first five steps, then every tenth. No two runs share them."""
        noise = random.Random(f"{self.seed} {self.val_loss}")
        logged = [*range(1, 6), *range(10, self.last_step + 1, 10)]
        return {step: round(self.val_loss + 5 / step**0.5 + noise.uniform(-0.2, 0.2), 4) for step in logged}

    @property
    def validations(self) -> dict[int, float]:
        """Return the validations in training: before it, half way and at its end."""
        half, last = self.val_loss + 0.4, self.val_loss + self.last_validation_is_worse_by
        return {0: 6.9, self.last_step // 20 * 10: round(half, 4), self.last_step: round(last, 4)}

    def curve(self, train: str, val: str) -> str:
        """Return the step lines. The templates may use step, total, loss, bpb, ms, s, m and avg."""
        lines = []
        for step in sorted({*self.train_losses, *self.validations}):
            for losses, line in ((self.train_losses, train), (self.validations, val)):
                if step in losses:
                    ms, loss = step * self.step_ms, losses[step]
                    times = {"ms": ms, "s": ms / 1000, "m": ms / 60_000, "avg": ms / max(step, 1)}
                    said = {"total": self.total_steps, "loss": loss, "bpb": loss * BPB_PER_NAT[self.tokenizer]}
                    lines.append(line.format(step=step, **said, **times))
        return "\n".join(lines)


Builder = Callable[[Told], str]


def program(*labels: str) -> str:
    """Return a script that parses and can print these labels. Its texts look like log lines and must not be read."""
    said = "\n".join(f"    print(f'{label} val_loss:{{loss:.8f}} val_bpb:{{bpb:.8f}}')" for label in labels)
    return f'''"""An invented trainer. It trains nothing."""
import math

STEPS = 500


def train(loss: float, bpb: float) -> None:
    for step in range(STEPS):
        print(f"step:{{step}}/{{STEPS}} train_loss:{{loss / math.sqrt(step + 1):.4f}}")
    print("seed:99")
{said or "    print(loss, bpb)"}
'''


# -- parts that families share -----------------------------------------------------------------------------------------


def machine(told: Told) -> str:
    return f"""{RULER}
Running Python {told.python} (main, May  3 2026, 10:11:12) [GCC 13.1.0]
Running PyTorch {told.torch} compiled for CUDA 12.8
|=========================================+========================+======================|
|   0  {told.gpu}          On  |   00000000:0A:00.0 Off |                    0 |
{RULER}"""


def root_training(told: Told) -> str:
    steps = told.curve(
        "step:{step}/{total} train_loss:{loss:.4f} train_time:{ms}ms step_avg:{avg:.2f}ms",
        "step:{step}/{total} val_loss:{loss:.4f} val_bpb:{bpb:.4f} train_time:{ms}ms step_avg:{avg:.2f}ms",
    )
    return f"""val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/{told.tokenizer}
train_loader:dataset:{told.dataset} train_shards:{told.train_shards}
val_loader:shards pattern=./data/{told.dataset}/val_*.bin tokens:{told.val_tokens}
model_params:{told.model_params}
world_size:{told.world_size} grad_accum_steps:1
train_batch_tokens:131072 train_seq_len:2048 iterations:{told.total_steps} warmup_steps:1
seed:{told.seed}
warmup_step:1/1
{steps}
stopping_early: wallclock_cap train_time:{told.train_time_ms}ms step:{told.last_step}/{told.total_steps}
peak memory allocated: 9001 MiB reserved: 9100 MiB"""


def sizes(told: Told, codec: str = "int8+zlib") -> str:
    return f"""Serialized model: 68000123 bytes
Code size: {told.code_bytes} bytes
Total submission size: {68_000_123 + told.code_bytes} bytes
Serialized model {codec}: {told.model_bytes} bytes (payload:17200000 raw_torch:17300000 payload_ratio:3.95x)
Total submission size {codec}: {told.artifact_bytes} bytes"""


def final(told: Told, label: str, decimals: int = 8, worse_by: float = 0.0) -> str:
    told = replace(told, val_loss=told.val_loss + worse_by)
    return f"{label} val_loss:{told.val_loss:.{decimals}f} val_bpb:{told.val_bpb:.{decimals}f}"


# -- families ----------------------------------------------------------------------------------------------------------


def root_console(told: Told) -> str:
    """Return what the root training script of Parameter Golf prints to a console: a launcher's lines, no source."""
    return f"""W0503 11:00:00.000000 4242 torch/distributed/run.py:803] *****************
W0503 11:00:00.000000 4242 torch/distributed/run.py:803] Setting OMP_NUM_THREADS to 1
logs/toy.txt
{root_training(told)}
{sizes(told)}
{final(told, EXACT.removesuffix("_exact"), 4)} eval_time:1900ms
{final(told, EXACT)}
"""


def root_script(told: Told) -> str:
    """Return the root script's own log file: the source, the machine, then what the console shows."""
    console = root_console(told).partition("logs/toy.txt\n")[2]
    return f"{told.source}\n{machine(told)}\n{console}"


def with_helper(told: Told) -> str:
    """Return a log with two embedded files, each closed by a ruler: a helper's short one, then the trainer's."""
    return f"import os\n\nHELP = os.sep\n\n{RULER}\n{root_script(told)}"


def prefixed(told: Told, prefix: str = "{epoch}.{step:03d}: ") -> str:
    """Return a console log with a prefix before every line; by default the seconds since 1970."""
    lines = enumerate(root_console(told).splitlines())
    return "".join(prefix.format(epoch=1_777_800_000 + n, step=n % 1000) + line + "\n" for n, line in lines)


def several_runs(told: Told) -> str:
    """Return three runs of one program in one log: two earlier and worse ones, then the one that counts."""
    return "".join(root_script(replace(told, val_loss=told.val_loss + worse)) for worse in (0.2, 0.1, 0))


def final_labels(told: Told) -> str:
    """Return a log with three final metrics, rounded and exact, between diagnostics; the last one is the result."""
    return f"""{told.source}
{machine(told)}
{root_training(told)}
{final(told, "DIAGNOSTIC post_ema", 4, worse_by=-0.01)} eval_time:1900ms
{sizes(told, "int6+zstd")}
{final(told, "final_int6_roundtrip", 4, worse_by=0.03)} eval_time:1900ms
{final(told, "final_int6_roundtrip_exact", worse_by=0.03)}
{final(told, "final_int6_sliding_window stride:64", 4, worse_by=0.01)} eval_time:70000ms
{final(told, "final_int6_sliding_window_exact stride:64", worse_by=0.01)}
{final(told, "ttt_chunk 3/7", worse_by=-0.02)}
{final(told, "final_int6_ttt", 4)} eval_time:300000ms
{final(told, "final_int6_ttt_exact")}
"""


def hyperparameter_block(told: Told) -> str:
    """Return a log that lists all its settings in a block, counts minutes and quantizes before it evaluates."""
    steps = told.curve(
        "{step}/{total} train_loss: {loss:.4f} train_time: {m:.1f}m tok/s: 8000000",
        "{step}/{total} val_loss: {loss:.4f} val_bpb: {bpb:.4f}",
    )
    return f"""{RULER}
Hyperparameters:
  datasets_dir: ./data/datasets/{told.dataset}
  matrix_lr: 0.02
  run_id: toy-{told.seed}
  seed: {told.seed}
  tokenizer_path: ./data/tokenizers/{told.tokenizer}
  world_size: {told.world_size}
{machine(told)}
train_shards: {told.train_shards}
val_tokens: {told.val_tokens}
model_params:{told.model_params}
warmup_step: 1/20
{steps}
stopping_early: wallclock_cap train_time: {told.train_time_ms}ms step: {told.last_step}/{told.total_steps}
{final(told, "pre-quantization post-ema", worse_by=-0.01)} eval_time:6000ms
Code size: {told.code_bytes} bytes
Serialized model quantized+brotli: {told.model_bytes} bytes
Total submission size quantized+brotli: {told.artifact_bytes} bytes
{final(told, "quantized", worse_by=0.04)} eval_time:7000ms
{final(told, "quantized_sliding_window")} eval_time:80000ms
"""


def letters(told: Told) -> str:
    """Return a terse log: settings on one line, single letters for ranks, seed and times, four decimals."""
    steps = told.curve(
        "step:{step}/{total} loss:{loss:.4f} t:{ms}ms avg:{avg:.1f}ms",
        "step:{step}/{total} val_loss:{loss:.4f} val_bpb:{bpb:.4f} train_time:{ms}ms zero_frac:0.3",
    )
    return f"""{told.source}
{RULER}
Python {told.python} | packaged by nobody | (main, May  3 2026) [GCC 13.1.0]
PyTorch {told.torch}
--- Hyperparameters ---
adam_lr=0.05 run_id=toy_{told.seed} seed={told.seed} dim=512
params:{told.model_params} L:10 d:512 h:8 kv:4 ws:{told.world_size} ga:1 s:{told.seed}
warmup:1/1
{steps}
stopping_early: wallclock_cap train_time:{told.train_time_ms}ms step:{told.last_step}/{told.total_steps}
artifact:15.40MB ternary:60000000(14000000B) fp:2500000(1400321B) code:{told.code_bytes}
budget:{told.artifact_bytes}/16000000 (15.40/16.00MB) FITS
{final(told, "final_plain", 4, worse_by=0.05)}
{final(told, "final_sliding", 4)} (stride=16, T=0.90) eval_time:400000ms
"""


def speedrun_track_1(told: Told) -> str:
    """Return a NanoGPT speedrun's log: it prints no seed and ends in its last validation."""
    steps = told.curve(
        "step:{step}/{total} train_time:{ms}ms step_avg:{avg:.2f}ms",
        "step:{step}/{total} val_loss:{loss:.4f} train_time:{ms}ms step_avg:{avg:.2f}ms",
    )
    return f"{told.source}\n{machine(told)}\n{steps}\npeak memory allocated: 30000 MiB\n"


def speedrun_track_3(told: Told) -> str:
    """Return the log of the optimizer track: seconds, five decimals, the device and the ranks on one line."""
    steps = told.curve(
        "step:{step}/{total} train_time:{s:.3f}s step_avg:{avg:.2f}ms",
        "step:{step}/{total} val_loss:{loss:.5f} train_time:{s:.3f}s step_avg:{avg:.2f}ms",
    )
    return f"""{told.source}
{RULER}
Running PyTorch {told.torch} compiled for CUDA 12.8
Running on device_name={told.gpu} with world_size={told.world_size}
{RULER}
{steps}
"""


# -- folders -----------------------------------------------------------------------------------------------------------


def claim_of(runs: Sequence[Told]) -> dict[str, Any]:
    """Return the usual submission JSON of these runs: their means, and the largest artifact."""
    about = {"name": "a toy", "author": "nobody", "date": "2026-05-03"}
    means = {what: round(fmean(getattr(run, what) for run in runs), 8) for what in ("val_loss", "val_bpb")}
    return about | means | {"bytes_total": max(run.artifact_bytes for run in runs)}


def write_record(folder: Path, write: Builder, runs: Sequence[Told], claim: dict[str, Any] | None = None) -> Path:
    """Write a folder in which everything fits: the logs, README, script and, with a claim, submission.json."""
    folder.mkdir()
    for n, told in enumerate(runs):
        name = f"{n}.txt" if told.seed is None else f"train_seed{told.seed}.log"
        (folder / name).write_text(write(told))
    (folder / "README.md").write_text("# A toy\n")
    (folder / "train_gpt.py").write_text(runs[0].source)
    if claim is not None:
        (folder / "submission.json").write_text(json.dumps(claim, indent=1))
    return folder
