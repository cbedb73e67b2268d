"""A folder without room is found before training; weights survive an artifact that fails; a told end is in the log."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.reading.reader import read_log
from tests.conftest import ROOT, clean_environment, until
from tests.trainer.conftest import TinyData
from trainer import train_gpt
from trainer.shards import shard_bytes, write_whole
from trainer.train_gpt import Settings, SettingsError, Trainer, open_shards

TRAINER = ROOT / "trainer" / "train_gpt.py"
LIMIT = 40_000  # bytes: less than the tiny model's float weights and its artifact


@pytest.fixture
def trainer(tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return Trainer(Settings.from_env(tiny_data.env), 0, 1, torch.device("cpu"), torch.float32)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let a write beyond `size` bytes fail, as on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_room_is_left_as_it_was(trainer: Trainer) -> None:
    Path("final_model.int8.ptz").write_text("an earlier one")
    trainer.check_room()
    assert names(Path.cwd()) == ["final_model.int8.ptz"]
    assert Path("final_model.int8.ptz").read_text() == "an earlier one"


def test_a_full_disk_is_found_before_training(trainer: Trainer) -> None:
    needed = len(train_gpt.torch_bytes(trainer.model.state_dict()))
    with files_of_at_most(LIMIT), pytest.raises(SettingsError) as error:
        trainer.check_room()
    assert f"{Path.cwd()} cannot take the weights ({needed} bytes): [Errno 27] File too large" in str(error.value)
    assert names(Path.cwd()) == []


def test_a_folder_that_is_gone_or_has_the_artifacts_name_is_found_before_training(trainer: Trainer) -> None:
    Path("final_model.int8.ptz").mkdir()
    with pytest.raises(SettingsError, match=r"final_model\.int8\.ptz is a folder"):
        trainer.check_room()
    assert names(Path.cwd()) == ["final_model.int8.ptz"]
    Path("final_model.int8.ptz").rmdir()
    Path.cwd().rmdir()
    with pytest.raises(SettingsError, match=r"cannot take the weights .* \[Errno 2\]"):
        trainer.check_room()


@pytest.mark.slow
def test_the_program_finds_a_full_disk_before_it_says_anything(tiny_data: TinyData, tmp_path: Path) -> None:
    program = f'ulimit -f 40; exec "{sys.executable}" "{TRAINER}"'
    environment = clean_environment() | tiny_data.env
    done = subprocess.run(
        ["bash", "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"train_gpt\.py: The working directory .* cannot take the weights .*\n", done.stderr)
    assert names(tmp_path) == []


def out_of_memory(*_: Any) -> bytes:
    raise MemoryError


def assert_rescued(trainer: Trainer, said: str, folder: Path) -> None:
    path = Path(re.findall(r"The float weights are in (\S+): torch\.load reads them\.", said)[0])
    assert path.is_relative_to(folder)
    assert names(path.parent) == ["final_model.int8.ptz.float.pt"]
    state = torch.load(path, weights_only=True)
    assert state.keys() == trainer.model.state_dict().keys()
    assert all(torch.equal(state[name], t) for name, t in trainer.model.state_dict().items())


def test_float_weights_are_kept_where_the_artifact_fails(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "compress", out_of_memory)
    with pytest.raises(SystemExit) as end:
        trainer.finish(lambda line: None, 1)
    assert str(end.value).startswith("train_gpt.py: final_model.int8.ptz failed: MemoryError(). ")
    assert_rescued(trainer, str(end.value), Path.cwd())


def test_float_weights_are_kept_elsewhere_if_the_folder_is_gone(trainer: Trainer, tmp_path: Path) -> None:
    Path.cwd().rmdir()
    with pytest.raises(SystemExit) as end:
        trainer.finish(lambda line: None, 1)
    assert "final_model.int8.ptz failed: FileNotFoundError(" in str(end.value)
    assert_rescued(trainer, str(end.value), tmp_path / "temporary")


def test_a_disk_that_fills_up_during_training_is_named(trainer: Trainer) -> None:
    with files_of_at_most(LIMIT // 4), pytest.raises(SystemExit) as end:
        trainer.finish(lambda line: None, 1)
    assert "failed: OSError(27, 'File too large'). No folder takes the float weights either." in str(end.value)
    assert names(Path.cwd()) == []


@pytest.mark.slow
def test_sigterm_ends_the_log_with_a_line_and_the_process_by_that_signal(tiny_data: TinyData, tmp_path: Path) -> None:
    endless = {"ITERATIONS": "1000000", "VAL_LOSS_EVERY": "0", "TRAIN_LOG_EVERY": "1"}
    log = tmp_path / "train.log"
    environment = clean_environment() | tiny_data.env | endless
    with (
        open(log, "wb") as out,
        subprocess.Popen([sys.executable, str(TRAINER)], stdout=out, env=environment, cwd=tmp_path) as process,
    ):
        try:
            until(lambda: b"step:20/" in log.read_bytes(), log=log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
    lines = log.read_text().splitlines()
    assert lines[-1] == "terminated: SIGTERM"
    (run,) = read_log(log)
    assert run.last_step == int(re.findall(r"^step:(\d+)/", lines[-2])[0])
    assert not run.finals


@pytest.mark.slow
def test_sigterm_ends_a_rank_that_waits_for_another(tiny_data: TinyData, tmp_path: Path) -> None:
    """Stop rank 1, so that rank 0 waits inside torch, where Python runs no handler of its own."""
    endless = {"ITERATIONS": "1000000", "VAL_LOSS_EVERY": "0", "TRAIN_LOG_EVERY": "1"}
    environment = clean_environment() | tiny_data.env | endless | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        environment["MASTER_PORT"] = str(free.getsockname()[1])
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            own = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with open(log, "wb") as out:
                ranks.append(subprocess.Popen([sys.executable, str(TRAINER)], stdout=out, env=own, cwd=tmp_path))
        until(lambda: b"step:20/" in logs[0].read_bytes(), log=logs[0])
        ranks[1].send_signal(signal.SIGSTOP)
        seen = [-1, logs[0].stat().st_size]
        while seen[-1] != seen[-2]:  # until rank 0 waits
            time.sleep(0.5)
            seen.append(logs[0].stat().st_size)
        ranks[0].send_signal(signal.SIGTERM)
        assert ranks[0].wait(10) == -signal.SIGTERM
        assert logs[0].read_text().endswith("\nterminated: SIGTERM\n")
    finally:
        for process in ranks:
            process.kill()
            process.wait()


@pytest.mark.parametrize("used", [0, 1])
def test_a_token_beyond_the_vocabulary_ends_only_a_run_that_trains_on_it(
    tiny_data: TinyData, tmp_path: Path, used: int
) -> None:
    env = tiny_data.env | {"ITERATIONS": str(2 + used), "DATA_PATH": str(tmp_path)}
    tokens = open_shards(str(tiny_data.folder), "train")[0]
    spoilt = tokens[512:2048].copy()
    spoilt[2 * 512 + 1 - 512] = 400  # an input of the third step alone
    shards = {"train_000000": tokens[:512], "train_000001": spoilt, "val_000000": tokens[:2048]}
    for name, part in shards.items():
        write_whole(tmp_path / f"fineweb_{name}.bin", shard_bytes(part))
    trainer = Trainer(Settings.from_env(env), 0, 1, torch.device("cpu"), torch.float32)
    with pytest.raises(SettingsError, match="holds token 400, outside VOCAB_SIZE=400") if used else nullcontext():
        trainer.train(lambda line: None)
