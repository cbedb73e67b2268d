"""Optimizer, schedule, artifact and the choice of machine equal plain references."""

from __future__ import annotations

import math
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import TINY_MODEL, TinyData
from trainer import train_gpt
from trainer.train_gpt import (
    GPT,
    Banks,
    Machine,
    Muon,
    Settings,
    dequantise,
    fastest,
    lr_scale,
    orthogonalise,
    payload_bytes,
    quantise,
)

TINY = Settings.from_env(TINY_MODEL)


@pytest.mark.parametrize("shape", [(3, 16, 32), (2, 32, 16), (1, 24, 24)])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    x = orthogonalise(u * torch.linspace(0.2, 5, u.shape[-1]) @ v, 5).float()
    assert x.shape == shape
    singular = torch.linalg.svdvals(x)
    assert singular.min() > 0.6
    assert singular.max() < 1.25


@pytest.mark.parametrize("shape", [(3, 16, 32), (2, 32, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float32, 1e-5)])
def test_newton_schulz_equals_its_polynomial_of_the_singular_values(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    """Compare with U p(p(...p(s / |s|))) V' in float64, with p(x) = 3.4445 x - 4.7750 x^3 + 2.0315 x^5."""
    torch.manual_seed(7)
    g = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(g, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found = orthogonalise(g.float(), 5, dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), u * s[:, None] @ v, rtol=0, atol=tolerance)


def test_a_muon_step_is_nesterov_orthogonal_and_scaled() -> None:
    torch.manual_seed(4)
    model = GPT(TINY)
    banks = Banks(model)
    p, g = next((p, g) for p, g in banks.matrices if p.shape[-2] > p.shape[-1])
    for _, gradient in banks.matrices:
        gradient.normal_()
    muon, before = Muon(banks, 5, 0, 1, Machine(torch.device("cpu"))), p.clone()
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


def test_the_cap_is_checked_after_the_step(tiny_data: TinyData) -> None:
    s = Settings.from_env(tiny_data.env | {"MAX_WALLCLOCK_SECONDS": "1"})
    trainer = train_gpt.Trainer(s, 0, 1, Machine(torch.device("cpu"), torch.float32))
    times = iter((998.0, 999.0, 999.0, 1000.0))  # before and after the optimizers, in two steps
    clock = SimpleNamespace(elapsed_ms=lambda: next(times))
    trainer.step(0, 1.0, clock)
    assert trainer.agreed(1, clock) == (1, 998.0, False)
    trainer.step(1, 1.0, clock)
    assert trainer.agreed(2, clock) == (2, 999.0, True)


def test_a_tied_model_trains_alike_whatever_the_rate_of_a_head_of_its_own(tiny_data: TinyData) -> None:
    trained = []
    for rate in ("0.008", "0.016"):  # the demo's null rests on it
        s = Settings.from_env(tiny_data.env | {"HEAD_LR": rate})
        trainer = train_gpt.Trainer(s, 0, 1, Machine(torch.device("cpu"), torch.float32))
        trainer.step(0, 1.0, SimpleNamespace(elapsed_ms=lambda: 0.0))
        trained.append(trainer.model.state_dict())
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())


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


def test_the_quantiser_equals_a_plain_one() -> None:
    """Compare row by row and number by number with the recipe's definition."""
    torch.manual_seed(8)
    weight = torch.randn(40, 2000) * torch.logspace(-3, 1, 40)[:, None]
    packed = quantise({"w": weight})
    for row, codes, scale in zip(weight.tolist(), packed["int8"]["w"].tolist(), packed["scale"]["w"], strict=True):
        ordered = sorted(abs(x) for x in row)
        place = 0.9999984 * (len(row) - 1)  # between the two largest, as numpy's and torch's quantile
        low = int(place)
        clip = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
        step = max(clip / 127, 1 / 127)
        assert float(scale) == pytest.approx(step, rel=1e-3)  # float16
        for x, code in zip(row, codes, strict=True):
            exact = max(-clip, min(clip, x)) / step
            assert abs(code - exact) <= 0.5 + 1e-3
            assert -127 <= code <= 127


def test_the_same_weights_make_the_same_bytes() -> None:
    torch.manual_seed(9)
    state = GPT(TINY).state_dict()
    copies = [{name: t.clone() for name, t in state.items()} for _ in range(2)]
    artifacts = [zlib.compress(train_gpt.torch_bytes(quantise(copy)), 9) for copy in copies]
    assert artifacts[0] == artifacts[1]


def test_the_fastest_wins_by_a_fifth_and_one_that_cannot_run_is_named() -> None:
    def takes(seconds: float) -> Callable[[], None]:
        return lambda: time.sleep(seconds)

    def broken() -> None:
        raise RuntimeError("no kernel")

    best, said = fastest({"a": takes(0.02), "b": takes(0.019), "c": broken})
    assert best == "a"  # b is not fast enough to win
    assert re.fullmatch(r"a \d+\.\d{3} ms, b \d+\.\d{3} ms, c cannot run", said)
    assert fastest({"c": broken, "a": takes(0.02), "d": takes(0.001)})[0] == "d"


def test_a_cpu_computes_in_the_type_that_the_recipe_names() -> None:
    for kind in ("float32", "bfloat16"):
        machine = Machine.choose(replace(TINY, cpu_dtype=kind), torch.device("cpu"))
        assert machine == Machine(
            torch.device("cpu"), getattr(torch, kind), f"Running on CPU in {kind} on 1 threads a rank"
        )
    assert TINY.cpu_dtype == "float32"


def test_deterministic_runs_have_no_clock_in_their_schedule() -> None:
    with pytest.raises(train_gpt.SettingsError, match="DETERMINISTIC=1 needs MAX_WALLCLOCK_SECONDS=0"):
        replace(TINY, deterministic=True, max_wallclock_seconds=60.0).check(1)


def test_out_of_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train_gpt, "run", run)
    with pytest.raises(SystemExit) as end:
        train_gpt.main()
    assert end.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("train_gpt.py: A GPU's memory ran out. Lower TRAIN_BATCH_TOKENS, or VAL_BATCH_SIZE")
    assert "2.00 GiB" in said
