"""How fast the trainer is compared with another version of itself, and whether both train alike.

    python -m benchmarks.trainer [--against REVISION] [--rounds 3]     # CPU: the demo's recipe
    python -m benchmarks.trainer --curves [--against REVISION]         # 5 seeds of each, 200 steps, two-sample tests
    python -m benchmarks.trainer --device cuda [--against REVISION]    # seq4096 on one GPU, next to benchmarks.budget

The versions take turns. Each runs as a whole program and is read only through its log, so any version can be named. The
data is the demo's with another validation split; speed does not depend on the text. The table is appended to
benchmarks/results/trainer.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from analysis.stats.fixed import Sample, welch_t
from benchmarks.budget import SEQ4096, SHARE_TOKENS, budget, peak_share
from benchmarks.kernels import profile_lines
from benchmarks.table import publish
from trainer.dataset import DEMO_DATASET, DEMO_TOKENIZER, build_demo
from trainer.shards import SHARD_HEADER_INTS, shard_bytes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "trainer.md"
SCRIPT = "trainer/train_gpt.py"
VALIDATION_TOKENS = {"cpu": 32 * 1024 + 1, "cuda": 128 * 32 * 1024 + 1}
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


@dataclass(frozen=True, slots=True)
class Result:
    """What one run's log says: training and validation in tokens per second, the whole process in seconds."""

    train: float
    validation: float
    wall_s: float
    choice: str


def run(script: Path, env: dict[str, str], folder: Path) -> tuple[str, float]:
    """Run `script` once; return its log below the embedded source, and the wall seconds."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SEED")
    }
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, script], env=kept | env, cwd=folder, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise SystemExit(f"{script} exited with {found.returncode}: {found.stderr[-2000:]}")
    return found.stdout.split("=" * 100 + "\n", 1)[1], time.monotonic() - began


def measured(log: str, wall_s: float, batch_tokens: int) -> Result:
    """Read the speeds; training counts from step 3 on, because the first steps allocate."""
    steps = {int(n): float(ms) for n, ms in re.findall(r"^step:(\d+)/\d+ train_loss:\S+ train_time:(\d+)ms", log, re.M)}
    last = max(steps)
    (evaluation_ms,) = re.findall(r"eval_time:(\d+)ms", log)
    (tokens,) = re.findall(r"^val_loader:.* tokens:(\d+)", log, re.M)
    choice = re.search(r"^(?:Running on CPU in (\S+ on \d+ threads)|Attention by (\S+))", log, re.M)
    return Result(
        train=1000 * batch_tokens * (last - 2) / (steps[last] - steps[2]),
        validation=1000 * int(tokens) / float(evaluation_ms),
        wall_s=wall_s,
        choice=next((text for text in choice.groups() if text), "") if choice else "as it always was",
    )


def prepare(folder: Path, say: Callable[[str], object], validation_tokens: int) -> dict[str, str]:
    """Write the demo's data with another validation split; return the variables that name it."""
    build_demo(ROOT / "data", say)
    source, target = ROOT / "data" / "datasets" / DEMO_DATASET, folder / "data"
    target.mkdir()
    (target / "fineweb_train_000000.bin").symlink_to(source / "fineweb_train_000000.bin")
    tokens = np.fromfile(source / "fineweb_val_000000.bin", dtype="<u2", offset=4 * SHARD_HEADER_INTS)
    (target / "fineweb_val_000000.bin").write_bytes(shard_bytes(np.resize(tokens, validation_tokens)))
    return {
        "DATA_PATH": str(target),
        "TOKENIZER_PATH": str(ROOT / "data" / "tokenizers" / f"{DEMO_TOKENIZER}.model"),
    }


def versions(folder: Path, against: str | None) -> dict[str, Path]:
    """Return this checkout's trainer and, written below `folder`, that of another revision."""
    found = {"this version": ROOT / SCRIPT}
    if against:
        content = subprocess.run(
            ["git", "show", f"{against}:{SCRIPT}"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        found[against] = folder / "other.py"
        found[against].write_bytes(content)
    return found


def speed(
    scripts: dict[str, Path], env: dict[str, str], batch_tokens: int, rounds: int, folder: Path
) -> dict[str, Result]:
    """Run the versions in turns; return the medians of each."""
    results: dict[str, list[Result]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name, script in scripts.items():
            results[name].append(measured(*run(script, env, folder), batch_tokens))
    return {
        name: Result(
            train=statistics.median(one.train for one in own),
            validation=statistics.median(one.validation for one in own),
            wall_s=statistics.median(one.wall_s for one in own),
            choice=own[0].choice,
        )
        for name, own in results.items()
    }


def cpu_lines(scripts: dict[str, Path], data: dict[str, str], rounds: int, folder: Path) -> list[str]:
    recipe = tomllib.loads((ROOT / "trainer/recipes/demo-candidate.toml").read_text())["env"]
    env = {name: str(value) for name, value in recipe.items()} | data
    env |= {"ITERATIONS": "10", "OMP_NUM_THREADS": "1"}
    medians = speed(scripts, env, int(env["TRAIN_BATCH_TOKENS"]), rounds, folder)
    first = next(iter(medians.values()))
    lines = [
        f"## {date.today()}, {platform.machine()}, {os.cpu_count()} cores: the demo's recipe on one core, medians of {rounds}",
        "",
        "| version | computes in | training, tokens/s | validation, tokens/s | 10 steps and two validations | this version's speed to it |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, one in medians.items():
        lines.append(
            f"| {name} | {one.choice} | {one.train:,.0f} | {one.validation:,.0f} | {one.wall_s:.1f} s | "
            f"{first.train / one.train:.2f} training, {first.validation / one.validation:.2f} validation |"
        )
    return [*lines, ""]


def curve_lines(scripts: dict[str, Path], data: dict[str, str], folder: Path) -> list[str]:
    """Train the same seeds under both versions; compare the difference of their means with the spread between seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in range(1, CURVE_SEEDS + 1):
        for name, script in scripts.items():
            env = data | CURVE_RECIPE | {"SEED": str(seed), "OMP_NUM_THREADS": "1"}
            log, _ = run(script, env, folder)
            own = values.setdefault(name, {})
            for step in CURVE_STEPS:
                (loss,) = re.findall(rf"^step:{step}/\d+ train_loss:(\S+)", log, re.M)
                own.setdefault(f"train_loss at step {step}", []).append(float(loss))
            own.setdefault("final val_bpb", []).append(float(re.findall(r"_exact val_loss:\S+ val_bpb:(\S+)", log)[0]))
    ours, theirs = values.values()
    lines = [
        f"## {date.today()}, {platform.machine()}: {CURVE_SEEDS} seeds of each version, 200 steps of 1,024 tokens",
        "",
        f"| value | {' | '.join(scripts)} | sd between seeds | difference, in sd | Welch p, two-sided | difference of the same seeds, largest, in sd |",
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


def gpu_lines(scripts: dict[str, Path], data: dict[str, str], rounds: int, folder: Path) -> list[str]:
    """Time whole runs on one GPU, which does all 8 shares of a step, then profile one share by kind of kernel."""
    env = data | {"ITERATIONS": "30", "MAX_WALLCLOCK_SECONDS": "0", "VAL_LOSS_EVERY": "0", "TRAIN_LOG_EVERY": "5"}
    medians = speed(scripts, env, SEQ4096.batch_tokens, rounds, folder)
    parts = budget(SEQ4096, SHARE_TOKENS)
    lines = [
        f"## {date.today()}, {_gpu_name()}: seq4096, {SHARE_TOKENS:,} tokens (a GPU's share of a step on eight), medians of {rounds}",
        "",
        "| version | attention | ms a share, optimizers of a whole step / 8 included | share of 989 TFLOP/s | validation, tokens/s |",
        "|---|---|---:|---:|---:|",
    ]
    for name, one in medians.items():
        ms = 1000 * SHARE_TOKENS / one.train
        share = peak_share(parts, ms)
        lines.append(f"| {name} | {one.choice} | {ms:.2f} | {100 * share:.1f} % | {one.validation:,.0f} |")
    return [*lines, "", *profile_lines(data, parts), ""]


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--against", metavar="REVISION", help="another version, by its git revision")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each version; medians are shown (default 3)")
    parser.add_argument("--curves", action="store_true", help="compare loss curves, not speed")
    parser.add_argument("--no-results", action="store_true", help="append nothing to the file of results")
    options = parser.parse_args()
    if options.curves and not options.against:
        parser.error("--curves needs --against: the version to compare with, e.g. --against HEAD~1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(folder, lambda line: print(line, file=sys.stderr), VALIDATION_TOKENS[options.device])
        scripts = versions(folder, options.against)
        if options.curves:
            lines = curve_lines(scripts, data, folder)
        elif options.device == "cuda":
            lines = gpu_lines(scripts, data, options.rounds, folder)
        else:
            lines = cpu_lines(scripts, data, options.rounds, folder)
    print("\n".join(lines)) if options.no_results else publish(lines, RESULTS)


if __name__ == "__main__":
    main()
