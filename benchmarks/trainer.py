"""How fast the trainer is compared with the plain reference, in the same number type, and whether both train alike.

    python -m benchmarks.trainer [--rounds 3]              # CPU: the demo's shape and the record's, float32 and bfloat16
    python -m benchmarks.trainer --curves                  # 5 seeds of each, 200 steps, two-sample tests
    python -m benchmarks.trainer --device cuda             # seq4096 on one GPU, with a profile next to benchmarks.budget

The plain reference (benchmarks/plain) is the recipe in the most obvious PyTorch. `--against REVISION` also runs an older version of
our own trainer: such a ratio says what we have changed, not how fast the trainer is. The programs take turns, so that a
busy machine slows all of them alike; the load is printed. The data is the demo's with another validation split; speed does not
depend on the text. The table is appended to benchmarks/results/trainer.md.

Before you compare with a program of another author, note its torch. Since torch 2.12, `rms_norm` is in the float32 list of
autocast on CUDA (AT_FORALL_FP32 in ATen/autocast_mode.h). Under torch.autocast the same call returns bfloat16 with torch
2.11 and float32 with 2.12, and a residual stream that begins with a norm becomes float32 too: more traffic, more memory, other
rounding (PyTorch's issue 188955). Neither our trainer nor the plain reference uses autocast, so their norms keep the type of the
activations with every torch. A ratio to a program with autocast counts only on a torch before 2.12, or with its norms kept out of
autocast on both sides. It would otherwise measure PyTorch's list and not the trainers.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from analysis.stats.fixed import Sample, welch_t
from benchmarks.budget import SEQ4096, SHARE_TOKENS, peak_share
from benchmarks.contestants import PLAIN, ROOT, TRAINER, Contestant, Medians, contestants, medians, prepare, run
from benchmarks.kernels import profile_lines
from benchmarks.table import publish

RESULTS = Path(__file__).with_name("results") / "trainer.md"
VALIDATION_TOKENS = {"cpu": 32 * 1024 + 1, "cuda": 128 * 32 * 1024 + 1}
TYPES = ("float32", "bfloat16")
# name: recipe, its changes, validation tokens
SHAPES = {
    "demo shape (4 layers of 128, 4,096 tokens)": (
        "demo-candidate",
        {"NUM_LAYERS": "4", "ITERATIONS": "10"},
        32 * 1024 + 1,
    ),
    "full shape (9 layers of 512, 8,192 tokens)": (
        "baseline",
        {"TRAIN_BATCH_TOKENS": "8192", "VAL_BATCH_SIZE": "8192", "ITERATIONS": "4"},
        8 * 1024 + 1,
    ),
}
ONE_CORE = {"OMP_NUM_THREADS": "1", "WARMUP_STEPS": "0", "VAL_LOSS_EVERY": "0", "MAX_WALLCLOCK_SECONDS": "0"}
ENOUGH = 85.0  # percent of a step in products and attention: beyond it nothing but these could become faster
CURVE_SEEDS, CURVE_STEPS = 5, (50, 100, 150, 200)
CURVE_RECIPE = {
    "NUM_LAYERS": "3",
    "MODEL_DIM": "64",
    "NUM_HEADS": "2",
    "NUM_KV_HEADS": "1",
    "TRAIN_SEQ_LEN": "64",
    "TRAIN_BATCH_TOKENS": "1024",
    "VAL_BATCH_SIZE": "8192",
    "ITERATIONS": "200",
    "WARMUP_STEPS": "0",
    "WARMDOWN_ITERS": "60",
    "MAX_WALLCLOCK_SECONDS": "0",
    "VAL_LOSS_EVERY": "0",
    "TRAIN_LOG_EVERY": "10",
    "TIED_EMBED_LR": "0.02",
    "MATRIX_LR": "0.02",
    "SCALAR_LR": "0.02",
    "MUON_MOMENTUM_WARMUP_STEPS": "100",
    "MUON_MOMENTUM": "0.95",
    "MUON_MOMENTUM_WARMUP_START": "0.85",
}


def cpu_lines(who: list[Contestant], rounds: int, folder: Path) -> list[str]:
    """Compare at each shape and in each type; then say what the type adds."""
    lines = [f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: one core, medians of {rounds} rounds"]
    for shape, (recipe, changes, validation_tokens) in SHAPES.items():
        env = {name: str(value) for name, value in tomllib.loads(_recipe(recipe))["env"].items()}
        env |= prepare(folder, lambda line: print(line, file=sys.stderr), validation_tokens) | changes | ONE_CORE
        lines += ["", f"### {shape}", "", *HEADER]
        of_type = {}
        for kind in TYPES:
            found = medians(who, env | {"CPU_DTYPE": kind}, rounds, folder)
            shares = {name: _shares(name, env | {"CPU_DTYPE": kind}) for name in (TRAINER, PLAIN)}
            rows = list(_rows(found, shares))
            lines += rows
            of_type[kind] = found
            print(f"{shape}, load {os.getloadavg()[0]:.1f}:", *rows, sep="\n", file=sys.stderr, flush=True)
        gains = (
            f"{of_type['float32'][name].step_ms / of_type['bfloat16'][name].step_ms:.2f} for the {name}"
            for name in (TRAINER, PLAIN)
        )
        lines += ["", f"What bfloat16 adds here, float32's ms per step / bfloat16's: {', '.join(gains)}."]
    return [
        *lines,
        "",
        f"Load average: {', '.join(f'{load:.1f}' for load in os.getloadavg())} over the last 1, 5 and 15 minutes.",
        "",
    ]


HEADER = (
    "| program | computes in | ms per step | final evaluation, ms | peak memory, MiB | whole process, s | in products + attention | the trainer's speed to it: training, evaluation | the trainer's memory to it |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|",
)


def _recipe(name: str) -> str:
    return (ROOT / "trainer" / "recipes" / f"{name}.toml").read_text()


def _shares(name: str, env: dict[str, str]) -> tuple[float, float]:
    """Return the percentages of a step in matrix products and in attention."""
    command = [sys.executable, "-m", "benchmarks.products", "trainer" if name == TRAINER else "plain"]
    found = subprocess.run(command, env=os.environ | env, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    products, attention = re.findall(r"(?:products|attention):(\S+)", found)
    return float(products), float(attention)


def _rows(found: dict[str, Medians], shares: dict[str, tuple[float, float]]) -> Iterator[str]:
    ours = found[TRAINER]
    for name, one in found.items():
        products, attention = shares.get(name, (0.0, 0.0))
        share = f"{products:.0f} + {attention:.0f} %" if name in shares else ""
        enough = " (enough)" if products + attention > ENOUGH else ""
        yield (
            f"| {name} | {one.choice} | {one.step_ms:,.0f} | {one.evaluation_ms:,.0f} | {one.peak_mib:,.0f} | "
            f"{one.wall_s:.1f} | {share}{enough} | {one.step_ms / ours.step_ms:.2f}, "
            f"{one.evaluation_ms / ours.evaluation_ms:.2f} | {ours.peak_mib / one.peak_mib:.2f} |"
        )


def curve_lines(who: list[Contestant], data: dict[str, str], folder: Path) -> list[str]:
    """Train the same seeds with both; compare the difference of their means with the spread between seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in range(1, CURVE_SEEDS + 1):
        for one in who:
            log = run(one, data | CURVE_RECIPE | {"SEED": str(seed), "OMP_NUM_THREADS": "1"}, folder).log
            own = values.setdefault(one.name, {})
            for step in CURVE_STEPS:
                (loss,) = re.findall(rf"^step:{step}/\d+ train_loss:(\S+)", log, re.M)
                own.setdefault(f"train_loss at step {step}", []).append(float(loss))
            own.setdefault("final val_bpb", []).append(float(re.findall(r"_exact val_loss:\S+ val_bpb:(\S+)", log)[0]))
    ours, theirs = values.values()
    lines = [
        f"## {date.today()}, {platform.machine()}: {CURVE_SEEDS} seeds of each, 200 steps of 1,024 tokens",
        "",
        f"| value | {' | '.join(values)} | sd between seeds | difference, in sd | Welch p, two-sided | difference of the same seeds, largest, in sd |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for key in ours:
        a, b = Sample.of(ours[key]), Sample.of(theirs[key])
        sd = (a.sd**2 / 2 + b.sd**2 / 2) ** 0.5
        one_sided = welch_t(a, b, 0.0, 0.01).p_value
        largest = max(abs(x - y) for x, y in zip(ours[key], theirs[key], strict=True))
        lines.append(
            f"| {key} | {a.mean:.4f} | {b.mean:.4f} | {sd:.4f} | {(a.mean - b.mean) / sd:+.3f} | "
            f"{2 * min(one_sided, 1 - one_sided):.3f} | {largest / sd:.3f} |"
        )
    return [*lines, ""]


# -- one GPU -----------------------------------------------------------------------------------------------------------


def gpu_lines(who: list[Contestant], data: dict[str, str], rounds: int, folder: Path) -> list[str]:
    """Time whole runs on one GPU, which does all 8 shares of a step, then profile one share by kind of kernel."""
    env = data | {"ITERATIONS": "30", "MAX_WALLCLOCK_SECONDS": "0", "VAL_LOSS_EVERY": "0", "TRAIN_LOG_EVERY": "5"}
    found = medians(who, env, rounds, folder)
    lines = [
        f"## {date.today()}, {_gpu()}: seq4096, {SHARE_TOKENS:,} tokens (a GPU's share of a step on eight), medians of {rounds}",
        "",
        "| program | attention | ms a share, optimizers of a whole step / 8 included | share of 989 TFLOP/s | validation, tokens/s |",
        "|---|---|---:|---:|---:|",
    ]
    for name, one in found.items():
        ms = one.step_ms * SHARE_TOKENS / SEQ4096.batch_tokens
        share = peak_share(SEQ4096, SHARE_TOKENS, ms)
        lines.append(
            f"| {name} | {one.choice} | {ms:.2f} | {100 * share:.1f} % | {1000 * VALIDATION_TOKENS['cuda'] / one.evaluation_ms:,.0f} |"
        )
    return [*lines, "", *profile_lines(data), ""]


def _gpu() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--against", metavar="REVISION", help="also run our own trainer of another git revision")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program; medians are shown (default 3)")
    parser.add_argument("--curves", action="store_true", help="compare loss curves, not speed")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        who = contestants(folder, options.against)
        if options.device == "cpu" and not options.curves:
            lines = cpu_lines(who, options.rounds, folder)
        else:
            data = prepare(folder, lambda line: print(line, file=sys.stderr), VALIDATION_TOKENS[options.device])
            if options.curves:
                lines = curve_lines([who[0], who[-1]], data, folder)
            else:
                lines = gpu_lines(who, data, options.rounds, folder)
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)


if __name__ == "__main__":
    main()
