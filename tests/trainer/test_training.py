"""Whole runs of a tiny model: log contract, seeds, ranks, clock, artifact."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.reading.reader import read_log
from tests.conftest import ROOT, clean_environment, until
from tests.trainer.conftest import TinyData

pytestmark = pytest.mark.slow
Run = Callable[..., subprocess.CompletedProcess[str]]
TRAINER = ROOT / "trainer" / "train_gpt.py"

NUMBER = r"\d+(?:\.\d+)?"
CONTRACT = [
    r"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=\S+",
    r"train_loader:dataset:\S+ train_shards:\d+",
    r"val_loader:shards pattern=\S+ tokens:\d+",
    r"model_params:\d+",
    r"world_size:\d grad_accum_steps:\d",
    r"attention_mode:gqa num_heads:\d+ num_kv_heads:\d+",
    rf"tie_embeddings:True embed_lr:{NUMBER} head_lr:0\.0 matrix_lr:{NUMBER} scalar_lr:{NUMBER}",
    r"train_batch_tokens:\d+ train_seq_len:\d+ iterations:\d+ warmup_steps:\d+ max_wallclock_seconds:\d+\.\d{3}",
    r"seed:\d+",
    r"warmup_step:1/2",
    r"warmup_step:2/2",
    r"step:0/12 val_loss:\d+\.\d{4} val_bpb:\d+\.\d{4} train_time:\d+ms step_avg:\d+\.\d\dms",
    *[rf"step:{i}/12 train_loss:\d+\.\d{{4}} train_time:\d+ms step_avg:\d+\.\d\dms" for i in range(1, 7)],
    r"step:6/12 val_loss:\d+\.\d{4} val_bpb:\d+\.\d{4} train_time:\d+ms step_avg:\d+\.\d\dms",
    *[rf"step:{i}/12 train_loss:\d+\.\d{{4}} train_time:\d+ms step_avg:\d+\.\d\dms" for i in range(7, 11)],
    r"step:12/12 val_loss:\d+\.\d{4} val_bpb:\d+\.\d{4} train_time:\d+ms step_avg:\d+\.\d\dms",
    r"peak memory allocated: \d+ MiB reserved: \d+ MiB",
    r"Serialized model: \d+ bytes",
    r"Code size: \d+ bytes",
    r"Total submission size: \d+ bytes",
    r"Serialized model int8\+zlib: \d+ bytes \(payload:\d+ raw_torch:\d+ payload_ratio:\d+\.\d\dx\)",
    r"Total submission size int8\+zlib: \d+ bytes",
    r"artifact:final_model\.int8\.ptz",
    r"final_int8_zlib_roundtrip val_loss:\d+\.\d{4} val_bpb:\d+\.\d{4} eval_time:\d+ms",
    r"final_int8_zlib_roundtrip_exact val_loss:\d+\.\d{8} val_bpb:\d+\.\d{8}",
]


def train(python: Run, tiny_data: TinyData, folder: Path, ranks: int = 0, **env: str) -> str:
    """Train once in `folder` on `ranks` ranks (0: without torchrun) and return the log."""
    folder.mkdir(parents=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks else []
    found = python(*launcher, TRAINER, env=tiny_data.env | env, cwd=folder)
    assert found.returncode == 0, found.stderr
    (folder / "train.log").write_text(found.stdout)
    return found.stdout


def losses(log: str) -> list[str]:
    return re.findall(r"step:\d+/\d+ (?:train|val)_loss:(\S+)", log)


def last_line(log: str) -> tuple[float, float]:
    found = re.fullmatch(r"final_int8_zlib_roundtrip_exact val_loss:(\S+) val_bpb:(\S+)", log.strip().split("\n")[-1])
    assert found
    return float(found[1]), float(found[2])


def test_the_log_is_the_contract_and_our_reader_reads_it(python: Run, tiny_data: TinyData, tmp_path: Path) -> None:
    log = train(python, tiny_data, tmp_path / "run", SEED="42")
    source = TRAINER.read_text()
    assert log.startswith(source)
    head, machine, body = log[len(source) :].split("=" * 100 + "\n", 2)
    assert head == "\n"
    assert machine.startswith("Running Python 3.")
    assert "Running PyTorch 2." in machine
    assert re.search(r"^Running on CPU in float32 on 1 threads a rank$", machine, re.M)
    lines = body.strip().split("\n")
    assert len(lines) == len(CONTRACT)
    for line, pattern in zip(lines, CONTRACT, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)

    (run,) = read_log(tmp_path / "run" / "train.log")
    artifact = tmp_path / "run" / "final_model.int8.ptz"
    assert run.seed == 42
    assert run.last_step == 12
    assert run.total_steps == 12
    assert run.world_size == 1
    assert run.source is not None
    assert run.source.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert run.source.size_bytes == run.code_bytes == len(source.encode())
    assert run.model_bytes == artifact.stat().st_size
    assert run.artifact_bytes == artifact.stat().st_size + run.code_bytes
    assert (run.finals[-1].val_loss, run.finals[-1].val_bpb) == last_line(log)
    assert float(losses(log)[-1]) < float(losses(log)[0]) - 0.5  # it learns


def test_a_seed_is_one_trajectory_whatever_the_warm_up_and_the_ranks(
    python: Run, tiny_data: TinyData, tmp_path: Path
) -> None:
    def run(name: str, ranks: int = 0, **env: str) -> str:
        # 2,048 tokens are two passes: of one rank, or one of each of two
        return train(
            python, tiny_data, tmp_path / name, ranks=ranks, DETERMINISTIC="1", **env | {"TRAIN_BATCH_TOKENS": "2048"}
        )

    cold, warm = run("cold", SEED="1", WARMUP_STEPS="0"), run("warm", SEED="1", WARMUP_STEPS="5")
    assert losses(cold) == losses(warm)
    assert last_line(cold) == last_line(warm)
    artifacts = [(tmp_path / name / "final_model.int8.ptz").read_bytes() for name in ("cold", "warm")]
    assert artifacts[0] == artifacts[1]
    assert losses(run("other", SEED="2", WARMUP_STEPS="0")) != losses(cold)
    two = run("two", ranks=2, SEED="1", WARMUP_STEPS="0")
    assert "world_size:2 grad_accum_steps:4" in two
    assert list(map(float, losses(two))) == pytest.approx(list(map(float, losses(cold))), abs=1e-3)
    assert last_line(two) == pytest.approx(last_line(cold), abs=1e-3)


def test_the_wall_clock_cap_stops_all_ranks_in_time(python: Run, tiny_data: TinyData, tmp_path: Path) -> None:
    capped = {"MAX_WALLCLOCK_SECONDS": "2", "ITERATIONS": "100000", "WARMDOWN_ITERS": "10", "VAL_LOSS_EVERY": "0"}
    log = train(python, tiny_data, tmp_path / "cap", ranks=2, RUN_ID="capped", **capped)
    (found,) = re.findall(r"^stopping_early: wallclock_cap train_time:(\d+)ms step:(\d+)/100000$", log, re.MULTILINE)
    assert 1900 <= int(found[0]) < 3000  # any rank at the cap stops all: rank 0 may be just short of it
    assert re.search(rf"^step:{found[1]}/100000 val_loss", log, re.MULTILINE)
    assert (tmp_path / "cap" / "capped.int8.ptz").is_file()


def test_untied_embeddings_and_clipping(python: Run, tiny_data: TinyData, tmp_path: Path) -> None:
    log = train(python, tiny_data, tmp_path / "x", TIE_EMBEDDINGS="0", GRAD_CLIP_NORM="1.0", NUM_KV_HEADS="4")
    assert "tie_embeddings:False embed_lr:0.6 head_lr:0.008 " in log
    assert float(losses(log)[-1]) < float(losses(log)[0]) - 0.1


@pytest.mark.parametrize(
    ("env", "word"),
    [({}, "training loss at step"), ({"TRAIN_LOG_EVERY": "0", "VAL_LOSS_EVERY": "0", "WARMUP_STEPS": "0"}, "loss")],
)
def test_a_run_that_diverges_says_so_and_fails(
    python: Run, tiny_data: TinyData, tmp_path: Path, env: dict[str, str], word: str
) -> None:
    wild = {"SCALAR_LR": "1e30", "TIED_EMBED_LR": "1e30"}
    found = python(TRAINER, env=tiny_data.env | wild | env, cwd=tmp_path)
    assert found.returncode == 1
    assert re.search(rf"train_gpt.py: The .*{word}.* is nan: the run has diverged", found.stderr)


def test_the_artifact_alone_reproduces_the_result(python: Run, tiny_data: TinyData, tmp_path: Path) -> None:
    log = train(python, tiny_data, tmp_path / "run", ranks=2)
    artifact = tmp_path / "run" / "final_model.int8.ptz"
    found = python("-m", "trainer.evaluate", artifact, "--data", tiny_data.folder, "--tokenizer", tiny_data.tokenizer)
    assert found.returncode == 0, found.stderr
    values = tuple(map(float, re.fullmatch(r"evaluated val_loss:(\S+) val_bpb:(\S+)\n", found.stdout).groups()))
    assert values == pytest.approx(last_line(log), abs=1e-6)


def test_sigterm_ends_a_run_in_seconds(tiny_data: TinyData, tmp_path: Path) -> None:
    endless = {"ITERATIONS": "1000000", "VAL_LOSS_EVERY": "0", "TRAIN_LOG_EVERY": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(TRAINER)]
    environment = clean_environment() | tiny_data.env | endless
    log = tmp_path / "log"
    with (
        open(log, "wb") as out,
        subprocess.Popen(launcher, stdout=out, stderr=out, env=environment, cwd=tmp_path) as process,
    ):
        try:
            until(lambda: b"step:20/" in log.read_bytes(), log=log)
            ranks = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
            assert len(ranks) == 2
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) != 0
            assert time.monotonic() - told < 10
            assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
            assert log.read_text().splitlines().count("terminated: SIGTERM") == 1  # rank 0's
        finally:
            process.kill()
