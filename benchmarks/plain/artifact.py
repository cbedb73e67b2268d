"""The artifact: large tensors as int8, the rest as floats, all compressed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LARGE = 65_536
QUANTILE = 0.9999984
CONTROL = ("mix", "attn_scale", "mlp_scale", "q_gain", "skip_weights")


def quantise(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 codes and float16 scales: a scale for each row of a matrix, or one for any other tensor."""
    values = tensor.float()
    rows = values if values.ndim == 2 else values.reshape(1, -1)
    clip = torch.quantile(rows.abs(), QUANTILE, dim=1, keepdim=True)
    scale = (clip / 127).clamp_min(1 / 127)
    codes = (rows.clamp(-clip, clip) / scale).round().clamp(-127, 127).to(torch.int8)
    return codes.view_as(values), (scale[:, 0] if values.ndim == 2 else scale[0, 0]).half()


def dequantise(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 values that codes and scales stand for."""
    return codes.float() * (scale.float()[:, None] if scale.ndim else scale.float())


def content_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what an artifact holds of a model's state: codes with scales, or floats."""
    content: dict[str, Any] = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel() > LARGE:
            content[name] = quantise(tensor)
        else:
            content[name] = tensor.float() if name.split(".")[-1] in CONTROL else tensor.half()
    return content


def packed(state: Mapping[str, Tensor]) -> bytes:
    """Return the artifact."""
    file = io.BytesIO()
    torch.save(content_of(state), file)
    return zlib.compress(file.getvalue(), 9)


def unpacked(artifact: bytes) -> dict[str, Tensor]:
    """Return the weights that an artifact holds."""
    content = torch.load(io.BytesIO(zlib.decompress(artifact)), weights_only=True)
    return {name: dequantise(*held) if isinstance(held, tuple) else held for name, held in content.items()}
