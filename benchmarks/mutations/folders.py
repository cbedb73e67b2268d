"""Make clean record folders in several dialects from fixed seeds, as a claimant has them before any change.

Each folder is `record` in a scratch folder of its own. The standing record's runs, if there are any, are in `standing`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.evidence.options import Options
from benchmarks.mutations.claims import write_claims, write_sweep
from tests import dialects
from tests.dialects import BPB_PER_NAT, EXACT, Builder, Told, program

SEEDS = (1337, 42, 2025)
TRAIN_TIME_MS = 598_000
WARM_LOSSES = (6.94, 12.2, 10.9, 9.4, 8.3, 7.6, 7.2, 6.9, 6.7, 6.5)
RULE = "-" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Made(Told):
    """One run whose losses and clock scatter as those of real runs do.

    noise, clock: what makes them this run's own. scale, shift, jitter: what was done to its training losses afterwards.
    eval_ms: of the longest evaluation. ratio: its bits per byte for one nat, where not the tokenizer's.
    """

    noise: int
    clock: int
    train_every: int = 200
    val_every: int = 1000
    scale: float = 1.0
    shift: float = 0.0
    jitter: float = 0.0
    ms_a_step: float = 87.0
    ratio: float | None = None

    @property
    def val_bpb(self) -> float:
        return round(self.val_loss * (self.ratio or BPB_PER_NAT[self.tokenizer]), 8)

    @property
    def train_time_ms(self) -> int:
        return self.time_of(self.last_step)

    def time_of(self, step: int) -> int:
        own, at = random.Random(f"clock {self.clock}"), random.Random(f"clock {self.clock} {step}")
        drift, phase = 1 + own.uniform(-0.002, 0.002), own.uniform(0, 6.28)
        wander = 60 * (math.sin(step / 317 + phase) - math.sin(phase)) + at.uniform(0, 4)
        return round(step * self.ms_a_step * drift + wander) if step else 0

    @property
    def train_losses(self) -> dict[int, float]:
        losses = {}
        for step in [*range(1, 11), *range(self.train_every, self.last_step + 1, self.train_every)]:
            own, after = random.Random(f"loss {self.noise} {step}"), random.Random(f"jitter {self.seed} {step}")
            usual = WARM_LOSSES[step - 1] if step <= len(WARM_LOSSES) else 1.9 + 12 / step**0.5
            loss = usual + own.gauss(0, 0.002 if step == 1 else 0.04)
            losses[step] = round(loss * self.scale + self.shift + after.uniform(-self.jitter, self.jitter), 4)
        return losses

    @property
    def validations(self) -> dict[int, float]:
        last = self.val_loss + self.last_validation_is_worse_by
        found = {0: round(6.93 + random.Random(f"val {self.noise}").gauss(0, 0.002), 4)}
        for step in range(self.val_every, self.last_step, self.val_every):
            own = random.Random(f"val {self.noise} {step}").gauss(0, 0.004)
            found[step] = round(last + 0.9 * (1 - step / self.last_step) ** 0.7 + own, 4)
        return found | {self.last_step: round(last, 4)}

    def curve(self, train: str, val: str) -> str:
        lines = []
        logged = ((self.train_losses, train), (self.validations, val))
        for step in sorted({step for losses, _ in logged for step in losses}):
            for losses, line in logged:
                if step in losses:
                    ms, loss = self.time_of(step), losses[step]
                    times = {"ms": ms, "s": ms / 1000, "m": ms / 60_000, "avg": ms / max(step, 1)}
                    bpb = loss * (self.ratio or BPB_PER_NAT[self.tokenizer])
                    lines.append(line.format(step=step, total=self.total_steps, loss=loss, bpb=bpb, **times))
        return "\n".join(lines)


# -- dialects that tests/dialects.py lacks -----------------------------------------------------------------------------


def launched(told: Told) -> str:
    """Return a console log behind a launcher's prefix."""
    return dialects.prefixed(told, "[default0]: ")


def foreign(told: Told) -> str:
    """Return a log of another trainer, with a table of settings, times in seconds, and its own words for the result."""
    steps = told.curve(
        "step {step}/{total} | loss: {loss:.4f} | train_time: {ms}ms",
        "step {step}/{total} | val_loss: {loss:.4f} | val_bpb: {bpb:.4f} | train_time: {ms}ms",
    )
    return f"""mytrainer 0.4 on {told.world_size} GPUs, world_size: {told.world_size}
{dialects.machine(told)}
tokenizer_path: ./data/tokenizers/{told.tokenizer}
data_path: ./data/{told.dataset}
train_shards: {told.train_shards}
val_tokens: {told.val_tokens}
seed: {told.seed}
lr: 0.0032 width: 512 depth: 11
{steps}
saved best.pt
Code size: {told.code_bytes} bytes
Serialized model zstd: {told.model_bytes} bytes
Total submission size zstd: {told.artifact_bytes} bytes
result on the whole split: val_loss={told.val_loss:.6f} val_bpb={told.val_bpb:.6f} eval_time: 91.4s
"""


# -- folders -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A kind of record folder. facts: those of each run that differ from the usual ones."""

    name: str
    write: Builder
    source: str
    rules: str = "parameter-golf"
    loss: float = 2.03
    decimals: int = 8
    facts: dict[str, Any] = field(default_factory=dict)
    has_standing: bool = False
    is_sweep: bool = False

    @property
    def embeds(self) -> bool:
        """Return whether the logs embed their program."""
        return self.write not in (dialects.hyperparameter_block, launched, foreign)

    @property
    def is_speedrun(self) -> bool:
        return self.rules != "parameter-golf"


SCRIPT = program("final_int8_zlib_roundtrip", EXACT)
SEVERAL = (
    f"{program()}\n\n{RULE}\n# kernels.py\n{RULE}\nimport os\n\n\ndef kernel(x: float) -> float:\n    return x * 2\n"
)
LABELS = ("final_int6_roundtrip", "final_int6_sliding_window", "final_int6_ttt", "DIAGNOSTIC post_ema", "ttt_chunk 3/7")
WORDY = program(*LABELS, *(f"{label}_exact" for label in LABELS[:3]))
SP8192 = {"tokenizer": "fineweb_8192_bpe.model", "dataset": "fineweb10B_sp8192", "val_tokens": 40_540_160}
SPEEDRUN = {"last_step": 700, "total_steps": 700, "ms_a_step": 66.0, "train_every": 1, "val_every": 70}
DIALECTS = (
    Dialect(name="golf", write=dialects.root_script, source=SCRIPT),
    Dialect(name="several finals", write=dialects.final_labels, source=WORDY),
    Dialect(name="settings block", write=dialects.hyperparameter_block, source=WORDY, loss=2.8, facts=SP8192),
    Dialect(name="terse", write=dialects.letters, source=program("final_plain", "final_sliding"), decimals=4),
    Dialect(name="launcher prefix", write=launched, source=SCRIPT),
    Dialect(name="own trainer", write=foreign, source=SCRIPT, decimals=6),
    Dialect(
        name="speedrun",
        write=dialects.speedrun_track_1,
        source=SEVERAL,
        rules="nanogpt-track-1",
        loss=3.2771,
        decimals=4,
        facts=SPEEDRUN,
    ),
    Dialect(name="with control", write=dialects.root_script, source=SCRIPT, has_standing=True),
    Dialect(name="sweep", write=dialects.root_script, source=SCRIPT, is_sweep=True),
)


def runs_of(dialect: Dialect, loss: float, seeds: Sequence[int | None], first: int = 0) -> list[Made]:
    """Return honest runs. Another `first` gives other runs of the dialect."""
    made = []
    for number, seed in enumerate(seeds, start=first):
        own = random.Random(f"{dialect.name} {number}")
        usual: dict[str, Any] = {"last_step": round(TRAIN_TIME_MS / 87) + own.randint(-8, 3), "total_steps": 20_000}
        facts = {"val_loss": round(loss + 0.0009 * (number % 3 - 1) + own.gauss(0, 0.0001), 8)}
        facts |= {"last_validation_is_worse_by": 0.0 if dialect.is_speedrun else 0.0031 + own.gauss(0, 0.0002)}
        facts |= {"model_bytes": 15_400_321 + own.randint(-9000, 9000)}
        made.append(Made(source=dialect.source, seed=seed, noise=number, clock=number, **usual | dialect.facts | facts))
    return made


@dataclass(slots=True)
class Folder:
    """A folder on disk and the runs that it was written from. A change edits it, or rewrites it from other runs."""

    dialect: Dialect
    root: Path
    runs: list[Made]
    options: Options

    @property
    def path(self) -> Path:
        return self.root / "record"

    @property
    def standing(self) -> Path:
        return self.root / "standing"

    @property
    def logs(self) -> list[Path]:
        return [self.log(run, number) for number, run in enumerate(self.runs)]

    def log(self, run: Made, number: int) -> Path:
        if self.dialect.is_sweep:
            return self.path / "candidate" / f"seed-{run.seed}" / "attempt-1" / "train.log"
        return self.path / (f"{number}d0f3a1c-run.txt" if run.seed is None else f"train_seed{run.seed}.log")

    def extra(self, **facts: Any) -> Made:
        """Return one more run, with its own seed, that is bad enough to make the claim fail."""
        seed = None if self.dialect.is_speedrun else 7
        worse = self.runs[0].val_loss + (0.012 if self.dialect.is_speedrun else 0.03)
        return replace(runs_of(self.dialect, worse, [seed], first=17)[0], **facts)

    def text_of(self, run: Made) -> str:
        return written(self.dialect.write, run)


@cache
def written(write: Builder, run: Made) -> str:
    """Return the log of a run. It is cached, because most changed folders hold the same logs."""
    return write(run)


def make(dialect: Dialect, root: Path) -> Folder:
    """Write the clean folder of a dialect."""
    seeds = [None] * 5 if dialect.is_speedrun else SEEDS
    runs = runs_of(dialect, dialect.loss, seeds)
    beaten = None if dialect.is_speedrun else round(fmean(run.val_bpb for run in runs) + 0.013, 4)
    options = Options(rules=None if dialect.is_sweep else dialect.rules, sota=beaten, require_plan=dialect.is_sweep)
    folder = Folder(dialect, root, runs, options)
    if dialect.has_standing:
        folder.options = Options(rules=dialect.rules, control=folder.standing)
        folder.standing.mkdir()
        for run in runs_of(dialect, dialect.loss + 0.025, (5, 6, 8), first=30):
            (folder.standing / f"train_seed{run.seed}.log").write_text(written(dialect.write, run))
    rewrite(folder, runs)
    return folder


def rewrite(folder: Folder, runs: Sequence[Made]) -> None:
    """Write the folder from these runs, so that logs, JSON and README agree."""
    folder.path.mkdir(parents=True, exist_ok=True)
    for log in folder.logs:
        log.unlink(missing_ok=True)
    folder.runs = list(runs)
    if folder.dialect.is_sweep:
        write_sweep(folder)
    for run, log in zip(folder.runs, folder.logs, strict=True):
        log.write_text(folder.text_of(run))
    if not folder.dialect.is_sweep:
        write_claims(folder)
