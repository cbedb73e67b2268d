"""Model, optimizer, schedule and artifact against plain references."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import TINY_MODEL
from trainer import train_gpt
from trainer.train_gpt import GPT, Banks, Muon, Settings, dequantise, lr_scale, orthogonalise, payload_bytes, quantise

TINY = Settings.from_env(TINY_MODEL)


def test_parameter_count_at_the_defaults() -> None:
    model = GPT(Settings())
    assert sum(p.numel() for p in model.parameters()) == 17_059_912
    assert model.skip_weights.shape == (4, 512)
    assert sum(payload_bytes(part) for part in quantise(model.state_dict()).values()) == 17_178_912


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = GPT(TINY)
    assert model.embed.weight.dtype == torch.bfloat16
    assert float(model.embed.weight.detach().float().std()) == pytest.approx(0.005, rel=0.05)
    block = model.blocks[0]
    assert torch.count_nonzero(block.attn.out.weight) == 0
    assert torch.count_nonzero(block.down.weight) == 0
    assert block.attn.q_gain.tolist() == [1.5] * 4
    assert block.mix.tolist() == [[1.0] * 32, [0.0] * 32]
    untied = GPT(replace(TINY, tie_embeddings=False))
    assert torch.count_nonzero(untied.head.weight) == 0


def plain_forward(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    """The recipe's architecture in float32, position by position and head by head; returns the logits."""
    s = model.settings
    size = s.model_dim // s.num_heads

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()

    def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
        out = x.clone()
        for i in range(size // 2):
            angle = position * s.rope_base ** (-2 * i / size)
            a, b = x[i], x[i + size // 2]
            out[i] = a * math.cos(angle) + b * math.sin(angle)
            out[i + size // 2] = b * math.cos(angle) - a * math.sin(angle)
        return out

    x = x0 = norm(model.embed.weight.float()[tokens])
    stack = []
    for index, block in enumerate(model.blocks):
        if index >= s.num_layers // 2 and stack:
            x = x + model.skip_weights[index - s.num_layers // 2] * stack.pop()
        x = block.mix[0] * x + block.mix[1] * x0
        h = norm(x)
        attended = torch.zeros_like(x)
        for head in range(s.num_heads):
            kv = head // (s.num_heads // s.num_kv_heads)
            rows, kv_rows = slice(head * size, (head + 1) * size), slice(kv * size, (kv + 1) * size)
            q = [rotated(norm(v), t) * block.attn.q_gain[head] for t, v in enumerate(h @ block.attn.q.weight[rows].T)]
            k = [rotated(norm(v), t) for t, v in enumerate(h @ block.attn.k.weight[kv_rows].T)]
            v = h @ block.attn.v.weight[kv_rows].T
            for t in range(len(tokens)):
                scores = torch.stack([q[t] @ k[u] / math.sqrt(size) for u in range(t + 1)])
                attended[t, rows] = scores.softmax(0) @ v[: t + 1]
        x = x + block.attn_scale * (attended @ block.attn.out.weight.T)
        hidden = (norm(x) @ block.up.weight.T).clamp(min=0).square()
        x = x + block.mlp_scale * (hidden @ block.down.weight.T)
        if index < s.num_layers // 2:
            stack.append(x)
    logits = norm(x) @ model.embed.weight.float().T
    return s.logit_softcap * torch.tanh(logits / s.logit_softcap)


@pytest.mark.parametrize("layers", [1, 4, 5])
def test_the_model_equals_a_plain_one(layers: int) -> None:
    torch.manual_seed(1)
    model = GPT(replace(TINY, num_layers=layers))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    model.float()
    tokens = torch.randint(0, TINY.vocab_size, (9,))
    with torch.no_grad():
        expected = F.cross_entropy(plain_forward(model, tokens[:-1]), tokens[1:], reduction="none")
        found = model(tokens[None, :-1], tokens[None, 1:], "none")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_banks_hold_the_same_parameters_and_gradients() -> None:
    torch.manual_seed(2)
    model, tokens = GPT(TINY), torch.randint(0, TINY.vocab_size, (2, 16))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    model(tokens, tokens).backward()
    expected = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    banks = Banks(model)
    banks.zero_grad()
    model(tokens, tokens).backward()
    banks.reduce(world_size=1, clip_norm=0.0)
    for name, p in model.named_parameters():
        assert torch.equal(p, expected[name][0])
        assert torch.equal(p.grad, expected[name][1])
    assert sum(p.numel() for p, _ in banks.matrices) + banks.vectors.numel() == banks.flat.numel()


def test_gradients_are_clipped_by_the_global_norm() -> None:
    model, tokens = GPT(TINY), torch.randint(0, TINY.vocab_size, (2, 16))
    banks = Banks(model)
    model(tokens, tokens).backward()
    banks.reduce(world_size=1, clip_norm=0.01)
    norm = math.sqrt(sum(float(p.grad.float().pow(2).sum()) for p in model.parameters()))
    assert norm == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("shape", [(3, 16, 32), (2, 32, 16), (1, 24, 24)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    x = orthogonalise(u * torch.linspace(0.2, 5, u.shape[-1]) @ v, 5).float()
    assert x.shape == shape
    singular = torch.linalg.svdvals(x)
    assert singular.min() > 0.6
    assert singular.max() < 1.25


def test_a_muon_step_is_nesterov_orthogonal_and_scaled() -> None:
    torch.manual_seed(4)
    model = GPT(TINY)
    banks = Banks(model)
    p, g = next((p, g) for p, g in banks.matrices if p.shape[-2] > p.shape[-1])
    for _, gradient in banks.matrices:
        gradient.normal_()
    muon, before = Muon(banks, 5, 0, 1, compiled=False), p.clone()
    muon.step(0.1, 0.9)
    expected = before - 0.1 * math.sqrt(p.shape[-2] / p.shape[-1]) * orthogonalise(g + 0.9 * g, 5).float()
    torch.testing.assert_close(p, expected)


def test_learning_rate_by_steps() -> None:
    s = replace(TINY, iterations=100, warmdown_iters=20, max_wallclock_seconds=0)
    assert [lr_scale(s, step, 0, 0) for step in (0, 79, 80, 90, 99, 100)] == [1, 1, 1, 0.5, 0.05, 0]


def test_learning_rate_by_time() -> None:
    s = replace(TINY, warmdown_iters=100, max_wallclock_seconds=60)
    assert lr_scale(s, 0, 0.0, 0.0) == 1
    assert lr_scale(s, 500, 50_000, 100) == 1  # 10 s left = 100 steps of 100 ms
    assert lr_scale(s, 550, 55_000, 100) == pytest.approx(0.5)
    assert lr_scale(s, 600, 60_001, 100) == 0


def test_muon_momentum_warms_up() -> None:
    s = Settings()
    values = [train_gpt.muon_momentum(s, step) for step in (0, 750, 1500, 9999)]
    assert values == pytest.approx([0.92, 0.955, 0.99, 0.99])


@given(st.floats(0.001, 30), st.integers(0, 1000))
def test_quantised_matrices_come_back_within_half_a_step(spread: float, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(300, 256) * spread
    packed = quantise({"w": weight})
    assert packed["int8"]["w"].dtype == torch.int8
    assert packed["scale"]["w"].dtype == torch.float16
    back = dequantise(packed)["w"]
    step = packed["scale"]["w"].float()[:, None]
    assert bool((step >= torch.tensor(1 / 127).half()).all())
    clip = torch.quantile(weight.abs(), 0.9999984, dim=1, keepdim=True)
    error = (back - torch.minimum(torch.maximum(weight, -clip), clip)).abs()
    assert bool((error <= 0.5 * step + 127 * step * 2**-11 + 1e-6).all())  # rounding, and the float16 scale


def test_what_stays_a_float() -> None:
    state = {"small": torch.randn(256, 256), "blocks.0.mix": torch.randn(2, 8), "long": torch.randn(70_000)}
    packed = quantise(state)
    assert packed["float"]["small"].dtype == torch.float16
    assert packed["float"]["blocks.0.mix"].dtype == torch.float32
    assert packed["scale"]["long"].numel() == 1
    assert payload_bytes(packed["int8"]) == 70_000
    assert torch.equal(dequantise(packed)["blocks.0.mix"], state["blocks.0.mix"])


def test_a_file_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    for name in ("x", "missing"):
        with pytest.raises(train_gpt.SettingsError, match=name):
            train_gpt.load_artifact(tmp_path / name)
