"""The programs that benchmarks.trainer compares: each runs as a whole process and is read only through its log."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from trainer.dataset import DEMO_DATASET, DEMO_TOKENIZER, build_demo
from trainer.shards import SHARD_HEADER_INTS, shard_bytes

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "trainer/train_gpt.py"
TRAINER, PLAIN = "trainer", "plain reference"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program by its name and its arguments after `python`."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What one run says: ms of each step but the first two, ms of the final evaluation, and of the whole process."""

    steps_ms: tuple[float, ...]
    evaluation_ms: float
    wall_s: float
    peak_mib: float
    choice: str
    log: str


@dataclass(frozen=True, slots=True)
class Medians:
    """The medians over all rounds."""

    step_ms: float
    evaluation_ms: float
    wall_s: float
    peak_mib: float
    choice: str


def contestants(folder: Path, against: str | None) -> list[Contestant]:
    """Return the trainer, the plain reference and, written below `folder`, the trainer of another revision."""
    found = [Contestant(TRAINER, (str(ROOT / SCRIPT),)), Contestant(PLAIN, ("-m", "benchmarks.plain"))]
    if against:
        content = subprocess.run(
            ["git", "show", f"{against}:{SCRIPT}"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        (folder / "other.py").write_bytes(content)
        found.append(Contestant(f"our own {against}", (str(folder / "other.py"),)))
    return found


def prepare(folder: Path, say: Callable[[str], object], validation_tokens: int) -> dict[str, str]:
    """Write the demo's data with another validation split; return the variables that name it."""
    build_demo(ROOT / "data", say)
    source, target = ROOT / "data" / "datasets" / DEMO_DATASET, folder / f"data-{validation_tokens}"
    target.mkdir()
    (target / "fineweb_train_000000.bin").symlink_to(source / "fineweb_train_000000.bin")
    tokens = np.fromfile(source / "fineweb_val_000000.bin", dtype="<u2", offset=4 * SHARD_HEADER_INTS)
    (target / "fineweb_val_000000.bin").write_bytes(shard_bytes(np.resize(tokens, validation_tokens)))
    return {
        "DATA_PATH": str(target),
        "TOKENIZER_PATH": str(ROOT / "data" / "tokenizers" / f"{DEMO_TOKENIZER}.model"),
    }


def run(one: Contestant, env: dict[str, str], folder: Path) -> Result:
    """Run a contestant once."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SEED")
    }
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *one.arguments],
            env=kept | {"PYTHONPATH": str(ROOT)} | env,
            cwd=folder,
            stdout=out,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)  # the peak memory of this process, not of all so far
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode())
    if process.returncode:
        raise SystemExit(f"{one.name} exited with {process.returncode}: {texts[1][-2000:]}")
    return _result(texts[0], time.monotonic() - began, usage.ru_maxrss / 1024)


def _result(text: str, wall_s: float, peak_mib: float) -> Result:
    log = text.split("=" * 100 + "\n", 1)[-1]  # without the embedded source
    times = {int(n): float(ms) for n, ms in re.findall(r"^step:(\d+)/\d+ train_loss:\S+ train_time:(\d+)ms", log, re.M)}
    shown = sorted(step for step in times if step >= 2)  # the first two allocate
    (evaluation_ms,) = re.findall(r"eval_time:(\d+)ms", log)
    choice = re.search(r"^(?:Running on CPU in (\S+ on \d+ threads)|Attention by (\S+))", log, re.M)
    return Result(
        steps_ms=tuple((times[b] - times[a]) / (b - a) for a, b in pairwise(shown)),
        evaluation_ms=float(evaluation_ms),
        wall_s=wall_s,
        peak_mib=peak_mib,
        choice=next((word for word in choice.groups() if word), "") if choice else "unknown",
        log=log,
    )


def medians(who: Sequence[Contestant], env: dict[str, str], rounds: int, folder: Path) -> dict[str, Medians]:
    """Run all in turns; return the medians of each."""
    results: dict[str, list[Result]] = {one.name: [] for one in who}
    for _ in range(rounds):
        for one in who:
            results[one.name].append(run(one, env, folder))
    return {
        name: Medians(
            step_ms=statistics.median(ms for one in own for ms in one.steps_ms),
            evaluation_ms=statistics.median(one.evaluation_ms for one in own),
            wall_s=statistics.median(one.wall_s for one in own),
            peak_mib=statistics.median(one.peak_mib for one in own),
            choice=own[0].choice,
        )
        for name, own in results.items()
    }
