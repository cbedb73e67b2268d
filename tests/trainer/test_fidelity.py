"""The trainer does what the plain trainer does: losses, bytes of text, int8 codes, schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.plain import artifact
from benchmarks.plain.optimizers import momentum, rate
from benchmarks.plain.settings import Settings as PlainSettings
from benchmarks.plain.training import Training, Validation
from tests.trainer.conftest import TINY_MODEL, TinyData
from trainer import train_gpt
from trainer.train_gpt import GPT, Settings, Trainer

CPU, STEPS = torch.device("cpu"), 20
SHARED = TINY_MODEL | {"ITERATIONS": "20", "MUON_MOMENTUM_WARMUP_STEPS": "10"}


def losses(tiny_data: TinyData, dtype: torch.dtype, *micro_batches: int) -> torch.Tensor:
    """Train the trainer, and the plain one with so many micro-batches a step, from the same weights on the same tokens."""
    env = tiny_data.env | SHARED
    ours = Trainer(Settings.from_env(env), 0, 1, CPU, dtype)
    references = [Training(PlainSettings.of(env), dtype, count) for count in micro_batches]
    for each in references:
        each.model.load_state_dict(ours.model.state_dict())
    rows = []
    for step in range(STEPS):
        ours.step(step, train_gpt.lr_scale(ours.s, step, 0.0))
        rows.append([float(ours.gradients.loss), *(float(each.step(step, 0.0)) for each in references)])
    found = torch.tensor(rows)
    assert found[0, 0] - found[-1, 0] > 0.5  # it learns
    return found.T


@pytest.mark.parametrize("tokens", [0, 128, 1024])
def test_losses_of_20_steps_agree(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Compare without any rounding to bfloat16, in 8, 4 and 1 passes; both round the embedding in every other type."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    monkeypatch.setattr(train_gpt, "CPU_TOKENS", tokens)
    ours, reference = losses(tiny_data, torch.float32, 8)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_of_20_steps_agree_within_the_noise_of_summation(tiny_data: TinyData, dtype: torch.dtype) -> None:
    """Compare the difference with the plain trainer's own when it sums a step in 4 micro-batches, not in 8."""
    ours, reference, other = losses(tiny_data, dtype, 8, 4)
    difference, noise = ours - reference, (other - reference).square().mean().sqrt()
    assert abs(difference[0]) < 1e-5  # nothing has been updated yet
    assert difference.square().mean().sqrt() < 3 * noise


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-4)])
def test_the_validation_agrees_and_counts_the_same_bytes(tiny_data: TinyData, dtype: torch.dtype, noise: float) -> None:
    env = tiny_data.env | SHARED
    ours, reference = Trainer(Settings.from_env(env), 0, 1, CPU, dtype), Training(PlainSettings.of(env), dtype)
    ours.step(0, 1.0)
    reference.model.load_state_dict(ours.model.state_dict())
    found, expected = ours.validation.run(ours.model), Validation(reference.s)(reference.model)
    assert found == pytest.approx(expected, rel=noise)
    # nats a token / bits a byte = bytes a token x ln 2
    assert found[0] / found[1] == pytest.approx(expected[0] / expected[1], rel=1e-12)


def test_int8_codes_and_the_round_trip_are_identical() -> None:
    torch.manual_seed(1)
    model = GPT(replace(Settings.from_env(SHARED), model_dim=256, num_layers=2))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3 * torch.rand(len(p), *[1] * (p.ndim - 1)))
    state = model.state_dict() | {"long": torch.randn(70_000)}
    packed = train_gpt.quantise(state)
    assert len(packed["int8"]) == 6  # embedding, two up, two down, and the long vector
    back, content = train_gpt.dequantise(packed), artifact.content_of(state)
    for name, held in content.items():
        if isinstance(held, tuple):
            assert torch.equal(packed["int8"][name], held[0])
            assert torch.equal(packed["scale"][name].squeeze(), held[1])
        else:
            assert torch.equal(packed["float"][name], held)
    for name, value in artifact.unpacked(artifact.packed(state)).items():
        assert torch.equal(back[name], value.float())


@pytest.mark.parametrize("cap", [0.0, 60.0])
def test_schedules_are_equal(cap: float) -> None:
    env = SHARED | {"ITERATIONS": "100", "WARMDOWN_ITERS": "30", "MAX_WALLCLOCK_SECONDS": str(cap)}
    ours, reference = Settings.from_env(env), PlainSettings.of(env)
    for step in range(101):
        found = train_gpt.lr_scale(ours, step, 600.0 * step)
        assert found == pytest.approx(rate(reference, step, 0.6 * step), abs=1e-9)
        assert train_gpt.muon_momentum(ours, step) == momentum(reference, step)
