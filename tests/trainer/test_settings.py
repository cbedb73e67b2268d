"""Settings and data that cannot work are refused before training: one sentence names the variable and both values."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.trainer.conftest import TinyData
from trainer.train_gpt import Settings, SettingsError, TokenStream, open_shard, open_shards, ranks

Run = Callable[..., subprocess.CompletedProcess[str]]

RECIPE_VARIABLES = """
TRAIN_SEQ_LEN TRAIN_BATCH_TOKENS TIED_EMBED_LR MATRIX_LR SCALAR_LR MUON_MOMENTUM MUON_MOMENTUM_WARMUP_START
MUON_MOMENTUM_WARMUP_STEPS WARMDOWN_ITERS VOCAB_SIZE NUM_LAYERS MODEL_DIM NUM_HEADS NUM_KV_HEADS MLP_MULT
TIE_EMBEDDINGS ROPE_BASE LOGIT_SOFTCAP QK_GAIN_INIT TIED_EMBED_INIT_STD ITERATIONS WARMUP_STEPS
MAX_WALLCLOCK_SECONDS MUON_BACKEND_STEPS BETA1 BETA2 ADAM_EPS GRAD_CLIP_NORM VAL_BATCH_SIZE VAL_LOSS_EVERY
TRAIN_LOG_EVERY SEED RUN_ID DATA_PATH TOKENIZER_PATH EMBED_LR HEAD_LR
"""
OURS = {"DETERMINISTIC", "CPU_DTYPE"}


def test_every_variable_of_the_recipe_is_a_setting_and_two_more() -> None:
    assert {field.name.upper() for field in fields(Settings)} == set(RECIPE_VARIABLES.split()) | OURS


def test_the_defaults_are_the_seq4096_recipe() -> None:
    s = Settings.from_env({})
    assert s.train_seq_len == 4096
    assert s.train_batch_tokens == 393216
    assert s.tied_embed_lr == 0.03
    assert s.matrix_lr == 0.02
    assert s.muon_momentum == 0.99
    assert s.warmdown_iters == 3000
    assert s.tie_embeddings is True
    assert s.seed == 1337
    for world_size in (1, 2, 4, 8):
        s.check(world_size)


def test_values_are_read_by_type() -> None:
    s = Settings.from_env({"SEED": "7", "MATRIX_LR": "1e-3", "TIE_EMBEDDINGS": "0", "RUN_ID": "x", "ITERATIONS": ""})
    assert s.seed == 7
    assert s.matrix_lr == 0.001
    assert s.tie_embeddings is False
    assert s.run_id == "x"
    assert s.iterations == 20000


@pytest.mark.parametrize(
    ("env", "world_size", "words"),
    [
        ({"ITERATIONS": "many"}, 1, ["ITERATIONS", "'many'"]),
        ({"TIE_EMBEDDINGS": "maybe"}, 1, ["TIE_EMBEDDINGS", "'maybe'"]),
        ({}, 3, ["WORLD_SIZE=3", "8"]),
        ({}, 16, ["WORLD_SIZE=16", "8"]),
        ({"TRAIN_BATCH_TOKENS": "16384"}, 1, ["TRAIN_BATCH_TOKENS=16384", "TRAIN_SEQ_LEN=4096"]),
        ({"TRAIN_BATCH_TOKENS": "400000"}, 1, ["TRAIN_BATCH_TOKENS=400000", "TRAIN_SEQ_LEN=4096"]),
        ({"VAL_BATCH_SIZE": "100"}, 1, ["VAL_BATCH_SIZE=100", "TRAIN_SEQ_LEN=4096"]),
        ({"NUM_HEADS": "7"}, 1, ["MODEL_DIM=512", "NUM_HEADS=7"]),
        ({"NUM_KV_HEADS": "3"}, 1, ["NUM_KV_HEADS=3", "NUM_HEADS=8"]),
        ({"NUM_LAYERS": "0"}, 1, ["NUM_LAYERS", "0"]),
        ({"MATRIX_LR": "nan"}, 1, ["MATRIX_LR", "nan"]),
        ({"WARMDOWN_ITERS": "-1"}, 1, ["WARMDOWN_ITERS", "-1"]),
        ({"RUN_ID": "../x"}, 1, ["RUN_ID", "../x"]),
        ({}, 0, ["WORLD_SIZE=0"]),
        ({"CPU_DTYPE": "float16"}, 1, ["CPU_DTYPE", "'float16'"]),
        ({"BETA1": "1"}, 1, ["BETA1", "1.0"]),
        ({"SEED": "99999999999999999999"}, 1, ["SEED", "99999999999999999999"]),
        ({"LOGIT_SOFTCAP": "1e6"}, 1, ["LOGIT_SOFTCAP", "less than 1000", "1000000.0"]),
    ],
)
def test_bad_settings(env: dict[str, str], world_size: int, words: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env(env).check(world_size)
    for word in words:
        assert word in str(error.value)


def shard(path: Path, tokens: list[int], count: int | None = None, magic: int = 20240520) -> Path:
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, 1, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + np.array(tokens, dtype="<u2").tobytes())
    return path


def test_shards_are_read_in_name_order_and_wrap_around(tmp_path: Path) -> None:
    shard(tmp_path / "fineweb_train_000001.bin", [4, 5])
    shard(tmp_path / "fineweb_train_000000.bin", [1, 2, 3])
    stream = TokenStream(open_shards(str(tmp_path), "train"))
    assert stream.read(0, 5).tolist() == [1, 2, 3, 4, 5]
    assert stream.read(4, 9).tolist() == [5, 1, 2, 3, 4, 5, 1, 2, 3]
    assert stream.read(10**9, 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 5}, ["5 tokens", "has 3"]),
        ({"count": 2}, ["2 tokens", "has 3"]),
        ({"magic": 1}, ["magic and version (20240520, 1)", "got (1, 1)"]),
    ],
)
def test_a_damaged_shard_is_refused(tmp_path: Path, change: dict[str, int], words: list[str]) -> None:
    path = shard(tmp_path / "s.bin", [1, 2, 3], **change)
    with pytest.raises(SettingsError) as error:
        open_shard(path)
    for word in [str(path), *words]:
        assert word in str(error.value)
    path.write_bytes(b"xy")
    with pytest.raises(SettingsError, match="header"):
        open_shard(path)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_a_shard_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "fineweb_val_000000.bin")
    with pytest.raises(SettingsError, match=rf"DATA_PATH={tmp_path} has a shard .*fineweb_val_000000.bin"):
        open_shards(str(tmp_path), "val")


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_ranks_are_those_of_torchrun_or_one() -> None:
    assert ranks({}) == ranks({"WORLD_SIZE": ""}) == (0, 1, 0)
    assert ranks(TORCHRUN) == (1, 2, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE must be a whole number, not 'x'"),
        ({"RANK": "-1"}, "RANK must be a whole number, not '-1'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number, not 'http'"),
        ({"RANK": ""}, "WORLD_SIZE=2 needs RANK"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE=2 needs MASTER_ADDR"),
        ({"MASTER_PORT": ""}, "WORLD_SIZE=2 needs MASTER_PORT"),
        ({"RANK": "2"}, "RANK=2 must be less than WORLD_SIZE=2"),
    ],
)
def test_ranks_that_no_launcher_sets_are_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ranks(TORCHRUN | change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WORLD_SIZE": "x"}, ["WORLD_SIZE", "'x'"]),
        ({"WORLD_SIZE": "2"}, ["WORLD_SIZE=2", "RANK", "torchrun"]),
        ({"TOKENIZER_PATH": __file__}, ["TOKENIZER_PATH", "is not a SentencePiece model"]),
        ({"RUN_ID": "taken"}, ["working directory", "taken.int8.ptz is a folder"]),
        ({"VOCAB_SIZE": "1024"}, ["VOCAB_SIZE=1024", "400 pieces"]),
        ({"DATA_PATH": "/nowhere"}, ["DATA_PATH=/nowhere", "fineweb_train_*.bin"]),
        ({"TOKENIZER_PATH": "/nowhere"}, ["TOKENIZER_PATH=/nowhere"]),
        ({"TRAIN_BATCH_TOKENS": "64"}, ["TRAIN_BATCH_TOKENS=64", "TRAIN_SEQ_LEN=32"]),
    ],
)
def test_the_program_ends_with_one_sentence(
    python: Run, tiny_data: TinyData, tmp_path: Path, change: dict[str, str], words: list[str]
) -> None:
    (tmp_path / "taken.int8.ptz").mkdir()
    found = python(ROOT / "trainer" / "train_gpt.py", env=tiny_data.env | change, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["taken.int8.ptz"]
    (sentence,) = found.stderr.strip().splitlines()
    assert sentence.startswith("train_gpt.py: ")
    for word in words:
        assert word in sentence


@pytest.mark.slow
def test_ranks_that_do_not_divide_8_are_refused_once_under_torchrun(python: Run, tiny_data: TinyData) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    found = python(*torchrun, ROOT / "trainer" / "train_gpt.py", env=tiny_data.env)
    assert found.returncode == 1
    assert found.stderr.count("train_gpt.py: WORLD_SIZE=3 must be 1, 2, 4 or 8") == 1
