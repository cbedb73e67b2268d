"""A stranger's artifact is measured, or refused with one sentence, and never executed."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.trainer.conftest import TinyData, disturb
from trainer.evaluate import main
from trainer.train_gpt import (
    ARTIFACT_SETTINGS,
    GPT,
    Settings,
    TokenBytes,
    Validation,
    dequantise,
    load_tokenizer,
    quantise,
    torch_bytes,
)

CPU = torch.device("cpu")
LIMIT = 1 << 24  # the real limit takes seconds to reach


def content_of(s: Settings) -> dict[str, Any]:
    torch.manual_seed(0)
    disturb(model := GPT(s))
    settings = {name: getattr(s, name) for name in ARTIFACT_SETTINGS} | {"dtype": "bfloat16"}
    return {"settings": settings, **quantise(model.state_dict())}


def evaluate(tiny_data: TinyData, artifact: Path) -> Any:
    arguments = [str(artifact), "--data", str(tiny_data.folder), "--tokenizer", str(tiny_data.tokenizer)]
    return CliRunner().invoke(main, arguments)


def write(path: Path, content: Any) -> Path:
    path.write_bytes(zlib.compress(torch_bytes(content), 9))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_artifact_is_measured_as_the_run_measured_it(
    tiny_data: TinyData, tmp_path: Path, dtype: torch.dtype
) -> None:
    s = Settings.from_env(tiny_data.env)
    content = content_of(s)
    content["settings"]["dtype"] = str(dtype).removeprefix("torch.")
    model = GPT(s, dtype)
    model.load_state_dict(dequantise(content))
    expected = Validation(s, TokenBytes.of(load_tokenizer(s), CPU), CPU, 0, 1).run(model)
    found = evaluate(tiny_data, write(tmp_path / "a.ptz", content))
    assert found.exit_code == 0
    assert found.stderr == ""
    values = [float(word.split(":")[1]) for word in found.stdout.split()[1:]]
    assert values == pytest.approx(expected, abs=1e-8)


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def code(content: dict[str, Any]) -> bytes:
    return zlib.compress(torch_bytes(content | {"settings": Harmful()}))


def zlib_bomb(_: dict[str, Any]) -> bytes:
    packer = zlib.compressobj(9)
    return packer.compress(bytes(LIMIT + 1)) + packer.flush()


def archive_bomb(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO(torch_bytes(content))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(1 << 26))
    return zlib.compress(buffer.getvalue())


def without_storage(content: dict[str, Any]) -> bytes:
    vast = torch.zeros(1, dtype=torch.float16).expand(1 << 40)
    return zlib.compress(torch_bytes(content | {"float": content["float"] | {"skip_weights": vast}}))


def set_to(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda content: zlib.compress(torch_bytes(content | {"settings": content["settings"] | changes}))


def stored_as(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], bytes]:
    def make(content: dict[str, Any]) -> bytes:
        content["float"]["skip_weights"] = change(content["float"]["skip_weights"])
        return zlib.compress(torch_bytes(content))

    return make


def other_tensor(content: dict[str, Any]) -> bytes:
    return zlib.compress(torch_bytes(content | {"float": content["float"] | {"skip_weights": torch.zeros(3, 3)}}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (code, "Weights only load failed"),
        (zlib_bomb, f"unpacks to over {LIMIT} bytes"),
        (archive_bomb, "claims more bytes than it has"),
        (without_storage, "claim more elements than it has bytes"),
        (set_to(num_layers=10**12), "it says 1000000000000 layers and holds"),
        (set_to(model_dim=1 << 20), "do not fit the model in its settings"),
        (set_to(model_dim=1 << 40), "Storage size calculation overflowed"),
        (set_to(train_seq_len=1 << 40), "VAL_BATCH_SIZE=1024 must be at least 8 sequences"),
        (
            set_to(train_seq_len=1 << 40, val_batch_size=1 << 50),
            "its sequences are 1099511627776 tokens long, over 65536",
        ),
        (set_to(num_heads=0), "NUM_HEADS must be more than 0"),
        (set_to(num_layers="x"), "settings are not the ones that this trainer writes"),
        (set_to(dtype="float16"), "settings are not the ones that this trainer writes"),
        (set_to(dtype=[]), "unhashable type"),
        (set_to(lr=1), "settings are not the ones that this trainer writes"),
        (set_to(data_path="/etc"), "settings are not the ones that this trainer writes"),
        (other_tensor, "do not fit the model in its settings"),
        (stored_as(lambda t: t.to_sparse()), "'skip_weights' is cpu sparse_coo float32, not cpu strided float16 or"),
        (stored_as(lambda t: t.to(torch.complex64)), "'skip_weights' is cpu strided complex64, not"),
        (stored_as(lambda t: t.double()), "'skip_weights' is cpu strided float64, not"),
        (stored_as(lambda t: t.long()), "'skip_weights' is cpu strided int64, not"),
        (stored_as(lambda t: t.to("meta")), "'skip_weights' is meta strided float32, not"),
        (stored_as(lambda t: t.tolist()), "'skip_weights' is list, not"),
        (lambda content: code(content)[:100], "it is cut off"),
        (lambda content: zlib.compress(torch_bytes(content)) + b"more", "continues after its end"),
        (lambda _: b"nothing", "incorrect header check"),
        (lambda _: b"", "it is cut off"),
        (lambda content: zlib.compress(torch_bytes(content["int8"])), "it has no 'int8'"),
        (lambda content: zlib.compress(torch_bytes([1, 2])), "list indices"),
    ],
)
def test_a_file_that_is_not_an_artifact_is_refused(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.evaluate.UNPACKED_LIMIT_BYTES", LIMIT)
    Path("a.ptz").write_bytes(make(content_of(Settings.from_env(tiny_data.env))))
    found = evaluate(tiny_data, Path("a.ptz"))
    assert found.exit_code == 2, found.exception
    assert found.stdout == "", found.exception
    (sentence,) = found.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert words in sentence
    assert not Path("executed").exists()


def test_weights_that_are_not_finite_are_reported(tiny_data: TinyData, tmp_path: Path) -> None:
    content = content_of(Settings.from_env(tiny_data.env))
    content["float"]["skip_weights"] = content["float"]["skip_weights"] * math.nan
    found = evaluate(tiny_data, write(tmp_path / "a.ptz", content))
    assert found.exit_code == 3
    assert found.stdout == ""
    assert "a.ptz: The validation loss is nan" in found.stderr
