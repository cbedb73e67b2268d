"""Shared fixtures: small logs of our own, the real logs next to some checkouts, private Ray instances."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import settings

from analysis.rules.ruleset import load
from analysis.sweepdir.plan import plan_digest

os.environ.pop("COLUMNS", None)  # which pytest-xdist sets: what is printed is as wide as it says
ROOT = Path(__file__).resolve().parent.parent
REAL_LOGS = ROOT.parent / "shared" / "logs"
Done = subprocess.CompletedProcess[str]
for size in ("COLUMNS", "LINES"):  # readline sets them, and the output would be wrapped
    os.environ.pop(size, None)
settings.register_profile("usual", deadline=None)  # a busy machine is no failure
settings.load_profile("usual")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests on real logs where there are none: tests/dialects.py writes logs of the same shapes."""
    if not REAL_LOGS.is_dir():
        on_real_logs = [item for item in items if "real_logs" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=on_real_logs)
        items[:] = [item for item in items if item not in on_real_logs]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what commands cache away from the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def real_logs() -> Path:
    """Return the folder of real public logs. It is next to some checkouts and no part of the project."""
    return REAL_LOGS


@pytest.fixture
def python() -> Callable[..., Done]:
    """Run `python ARGUMENTS` from the project's root, as a user would."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 300, cwd: Path = ROOT) -> Done:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=clean_environment() | (env or {}),
            timeout=timeout,
            cwd=cwd,
            check=False,
        )

    return run


@pytest.fixture
def command() -> Callable[..., Done]:
    """Call what `python -m MODULE ARGUMENTS` calls, in this process: a new one takes half a second to start."""

    def run(module: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Done:
        environment = {name: None for name in os.environ if name not in clean_environment()} | {"NO_COLOR": "1"}
        words = [*map(str, arguments)]
        found = CliRunner().invoke(import_module(module).main, words, env=environment | (env or {}))
        return subprocess.CompletedProcess([module, *words], found.exit_code, found.stdout, found.stderr)

    return run


def until(condition: Callable[[], object], within_s: float = 300, log: Path | None = None) -> None:
    """Wait for what must come about; a machine may be slow, so only a promise of ours is given a short time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-5000:] if log else f"not within {within_s} s"
        time.sleep(0.02)


def clean_environment() -> dict[str, str]:
    """The environment without what CI, a cluster or a recipe may have set."""
    ours = ("SEED", "DATA_PATH", "TOKENIZER_PATH", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    unwanted = ("COLUMNS", "MAKE", "MFLAGS", "GITHUB_", "RAY_", *ours)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture
def private_ray() -> Iterator[dict[str, str]]:
    """Environment for a Ray of this test alone; whatever is left of it afterwards is killed."""
    folder = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))  # short: Ray's sockets live below it
    try:
        # a token in the home folder would make a cluster ask for one that a client without this variable does not send
        yield {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    finally:
        kill(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def kill(marker: str) -> None:
    """End what is left of a test, and what that starts while it ends."""
    deadline = time.monotonic() + 60
    while (pids := processes_of(marker)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def processes_of(marker: str) -> list[int]:
    """Living processes with `marker` in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if marker.encode() in text and b") Z" not in (entry / "stat").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


SOURCE = '''\
"""A made-up trainer: long enough to be taken for a program, and able to print the labels of its log."""
import os

print(f"step:{1}/{100} train_loss:{6.9:.4f} train_time:{60}ms step_avg:{60.0:.2f}ms")

print("final_int8_zlib_roundtrip")
print("final_int8_zlib_roundtrip_exact")
'''
LOG_TEMPLATE = """\
{source}
{ruler}
Running Python 3.11.3 (main)
Running PyTorch 2.8.0+cu128
| N/A   25C    P0            115W /  700W |    1519MiB /  81559MiB |
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:18:00.0 Off |
{ruler}
val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model
train_loader:dataset:fineweb10B_sp1024 train_shards:80
val_loader:shards pattern=./data/fineweb_val_*.bin tokens:62021632
model_params:1234
world_size:8 grad_accum_steps:1
train_batch_tokens:393216 train_seq_len:4096 iterations:100
seed:{seed}
warmup_step:1/2
warmup_step:2/2
step:0/100 val_loss:6.9357 val_bpb:4.1077 train_time:0ms step_avg:0.01ms
step:1/100 train_loss:{first:.4f} train_time:60ms step_avg:60.00ms
step:2/100 train_loss:{second:.4f} train_time:120ms step_avg:60.00ms
step:3/100 train_loss:8.{third:04d} train_time:180ms step_avg:60.00ms
step:4/100 train_loss:6.5 train_time:240ms step_avg:60.00ms
step:50/100 train_loss:2.5 train_time:3000ms step_avg:60.00ms
step:100/100 val_loss:{trained_loss:.4f} val_bpb:{trained:.4f} train_time:60{third:02d}ms step_avg:60.00ms
peak memory allocated: 7748 MiB reserved: 8070 MiB
Serialized model: 67224 bytes
Code size: {code} bytes
Total submission size: {raw} bytes
Serialized model int8+zlib: 15820 bytes (payload:17178 raw_torch:17224 payload_ratio:3.91x)
Total submission size int8+zlib: {total} bytes
final_int8_zlib_roundtrip val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:2107ms
final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}
"""
RATIO = 0.592256


def make_log(seed: int, bpb: float, source: str = SOURCE) -> str:
    """A small complete log of our own trainer's dialect, in which everything fits."""
    code = len(source.encode())
    return LOG_TEMPLATE.format(
        ruler="=" * 100,
        source=source,
        seed=seed,
        bpb=bpb,
        loss=bpb / RATIO,
        trained=bpb + 0.0486,  # before the evaluation
        trained_loss=(bpb + 0.0486) / RATIO,
        code=code,
        raw=67224 + code,
        total=15820 + code,
        first=6.93 + seed % 89 / 1000,
        second=12.1 + seed % 97 / 100,
        third=seed % 83,
    )


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Make a record folder in which everything fits: record({1: 1.20, 2: 1.21, 3: 1.22}) claims the mean.

    With `claim` the headline is another one; `bare` leaves the logs alone.
    """

    def make(values: dict[int, float], name: str = "record", claim: object = None, bare: bool = False) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for seed, bpb in values.items():
            (folder / f"train_seed{seed}.log").write_text(make_log(seed, bpb))
        if not bare:
            mean = sum(values.values()) / len(values)
            table = {
                "name": "a record", "author": "somebody", "date": "2026-04-05",
                "val_bpb": round(mean, 8), "val_loss": round(mean / RATIO, 8), "bytes_total": 15820 + len(SOURCE),
            }  # fmt: skip
            table |= {} if claim is None else {"val_bpb": claim, "val_loss": None}
            (folder / "submission.json").write_text(json.dumps(table, indent=1))
            (folder / "README.md").write_text("# A record\n")
            (folder / "train_gpt.py").write_text(SOURCE)
        return folder

    return make


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Path]:
    """A sweep directory as `sweep run` leaves it: sweep({1: 1.20, 2: None}, sota=1.3, looks=[3, 4, 5]).

    `values` are the runs that are there, in the order in which they ended; None is a failed one. The plan's seeds are
    `seeds`, else those of the values; with `looks` it is sequential. `control` are the control's runs; with `paired` the
    plan tests the differences of the two runs of a seed.
    """

    def make(
        values: dict[int, float | None],
        name: str = "sweep",
        sota: float | None = 1.3,
        seeds: list[int] | None = None,
        looks: list[int] | None = None,
        boundary: str = "flat",
        control: dict[int, float | None] | None = None,
        paired: bool = False,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        design: dict[str, Any] = {"name": "fixed"}
        if looks:
            design = {"name": "sequential", "looks": looks, "boundary": boundary}
        plan: dict[str, Any] = {
            "version": 1,
            "script": {"path": "/x/train_gpt.py", "sha256": hashlib.sha256(SOURCE.encode()).hexdigest(), "bytes": len(SOURCE)},
            "arms": {"candidate": {"env": {}}} | ({"control": {"env": {"A": "1"}}} if control is not None else {}),
            "ruleset": asdict(load("parameter-golf")),
            "sota": sota,
            "design": design | ({"paired": True} if paired else {}),
            "seeds": seeds or list(values),
            "seeds_are": "given",
        } | changes  # fmt: skip
        (folder / "plan.json").write_text(json.dumps(plan | {"sha256": plan_digest(plan)}))
        (folder / "script.py").write_text(SOURCE)
        for arm, runs in (("candidate", values), ("control", control or {})):
            for minute, (seed, value) in enumerate(runs.items()):
                attempt = folder / arm / f"seed-{seed}" / "attempt-1"
                attempt.mkdir(parents=True)
                (attempt / "train.log").write_text("died\n" if value is None else make_log(seed, value))
                times = {
                    "started": f"2026-04-05T10:{minute:02d}:00+00:00",
                    "ended": f"2026-04-05T10:{minute:02d}:59+00:00",
                }
                state = "failed" if value is None else "succeeded"
                said = {"arm": arm, "seed": seed, "attempt": 1, "state": state, "reason": None}
                (attempt / "run.json").write_text(json.dumps(said | times))
        return folder

    return make
