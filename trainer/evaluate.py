"""Measure val_loss and val_bpb of an artifact. Nothing is trained.

    python -m trainer.evaluate ARTIFACT --data data/datasets/demo_sp1024 --tokenizer data/tokenizers/demo_1024_bpe.model

The artifact holds the settings that rebuild the model. It may come from a stranger: nothing in it is executed, and it
cannot make this process much larger than UNPACKED_LIMIT_BYTES.
"""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from trainer.extra import installed

UNPACKED_LIMIT_BYTES = 1 << 27  # an artifact of 16 MB unpacks to 20 or 30; int8 weights become four times as large
STORED_AS = {  # device, layout and type
    "int8": ("cpu strided int8",),
    "scale": ("cpu strided float16",),
    "float": ("cpu strided float16", "cpu strided float32"),
}
LONGEST_SEQUENCE = 1 << 16  # tokens; attention grows with its square


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", envvar="DATA_PATH", required=True, help="Folder with fineweb_val_*.bin.  [or DATA_PATH]")
@click.option("--tokenizer", envvar="TOKENIZER_PATH", required=True, help="SentencePiece model.  [or TOKENIZER_PATH]")
def main(artifact: Path, data: str, tokenizer: str) -> None:
    """Evaluate ARTIFACT on the validation split.

    On the CPU that trained it the result equals the log's last line. A run on a GPU validates with compiled kernels, and
    other machines round differently: expect differences from about the fifth decimal.
    """
    with installed():
        from trainer.train_gpt import DivergedError, SettingsError

    try:
        val_loss, val_bpb = evaluate(artifact, data, tokenizer)
    except SettingsError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    except DivergedError as error:
        click.echo(f"Error: {artifact}: {error}", err=True)
        raise SystemExit(3) from None
    click.echo(f"evaluated val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")


def evaluate(artifact: Path, data: str, tokenizer: str) -> tuple[float, float]:
    """Return val_loss (nats a token) and val_bpb of an artifact. Raise train_gpt's SettingsError or DivergedError."""
    import torch

    from trainer import train_gpt

    kept, state = open_artifact(artifact)
    try:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(kept.pop("dtype", None))
        kinds = {field.name: type(field.default) for field in fields(train_gpt.Settings)}
        kept_kinds = {name: type(value) for name, value in kept.items()}
        if dtype is None or kept_kinds != {name: kinds[name] for name in train_gpt.ARTIFACT_SETTINGS}:
            raise ValueError("its settings are not the ones that this trainer writes")
        paths: dict[str, Any] = {"data_path": data, "tokenizer_path": tokenizer}
        settings = train_gpt.Settings(
            **kept, **paths, train_batch_tokens=train_gpt.MICRO_BATCHES * kept["train_seq_len"]
        )
        settings.check(world_size=1)
        if settings.train_seq_len > LONGEST_SEQUENCE:
            raise ValueError(f"its sequences are {settings.train_seq_len} tokens long, over {LONGEST_SEQUENCE}")
        fused = torch.cuda.is_available() and dtype == torch.bfloat16  # GPUs have no fused attention for float32
        device = torch.device("cuda" if fused else "cpu")
        if settings.num_layers > len(state):
            raise ValueError(f"it says {settings.num_layers} layers and holds {len(state)} tensors")
        with torch.device("meta"):  # shapes only: the settings may ask for more than fits into memory
            shapes = {name: t.shape for name, t in train_gpt.GPT(settings).state_dict().items()}
        if shapes != {name: t.shape for name, t in state.items()}:
            raise ValueError("its tensors do not fit the model in its settings")
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise train_gpt.SettingsError(f"{artifact} is not an artifact of this trainer: {_first_line(error)}") from error
    token_bytes = train_gpt.TokenBytes.of(train_gpt.load_tokenizer(settings), device)
    validation = train_gpt.Validation(settings, token_bytes, device, rank=0, world_size=1)
    model = train_gpt.GPT(settings, dtype)
    model.load_state_dict(state)
    return validation.run(model.to(device))


def open_artifact(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that rebuild the model, and its float32 state dict.

    Raise SettingsError for a file that is not an artifact, pickled code, content that unpacks to more than the limit
    (in zlib or in the archive inside), tensors of another layout or type than the trainer writes, and tensors that claim
    more elements than are stored.
    """
    import torch

    from trainer.train_gpt import SettingsError, dequantise, payload_bytes

    try:
        with open(path, "rb") as file:
            inflate = zlib.decompressobj()
            raw = inflate.decompress(file.read(UNPACKED_LIMIT_BYTES), UNPACKED_LIMIT_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise ValueError(f"it is cut off, continues after its end, or unpacks to over {UNPACKED_LIMIT_BYTES} bytes")
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(raw):
                raise ValueError("its archive claims more bytes than it has")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about tensors that are refused below
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        packed = {part: content[part] for part in STORED_AS}
        for part, tensors in packed.items():
            for name, t in tensors.items():
                is_tensor = isinstance(t, torch.Tensor)
                kind = f"{t.device} {t.layout} {t.dtype}".replace("torch.", "") if is_tensor else type(t).__name__
                if kind not in STORED_AS[part]:
                    raise ValueError(f"its tensor {name!r} is {kind}, not {' or '.join(STORED_AS[part])}")
        if sum(payload_bytes(tensors) for tensors in packed.values()) > len(raw):
            raise ValueError("its tensors claim more elements than it has bytes")
        return dict(content["settings"]), dequantise(packed)
    except Exception as error:  # zlib, pickle and torch each raise their own classes
        raise SettingsError(f"{path} is not an artifact of this trainer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    main()
