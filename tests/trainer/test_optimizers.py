"""Optimizer, schedule, artifact and the choice of machine equal plain references."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import TINY_MODEL, TinyData, matrices_of
from trainer import train_gpt
from trainer.train_gpt import (
    GPT,
    Muon,
    Settings,
    deal,
    dequantise,
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
    owned = matrices_of(GPT(TINY))
    before = [p.detach().clone() for p in owned]
    for p in owned:
        p.grad = torch.randn_like(p)
    muon = Muon(owned, 5, 0, 1, torch.float32)
    muon.step(0.1, 0.9)
    for p, start in zip(owned, before, strict=True):
        scale = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
        update = orthogonalise((p.grad + 0.9 * p.grad)[None], 5, torch.float32)[0]
        torch.testing.assert_close(p.detach(), start - 0.1 * scale * update, rtol=0, atol=1e-5)


def test_the_ranks_share_the_work_of_the_iterations() -> None:
    """Count the arithmetic of a 512-wide model with 9 layers: 18 matrices of each of three kinds."""
    owned = matrices_of(GPT(Settings()))

    def work(p: torch.Tensor) -> int:  # G G', G' G and the product with X, in multiply-adds
        n, m = min(p.shape), max(p.shape)
        return n * n * m + n**3 + n * n * m

    total = sum(map(work, owned))
    for ranks in (1, 2, 4, 8):
        shares = deal(owned, ranks)
        assert sorted(id(p) for share in shares for p in share) == sorted(map(id, owned))
        assert max(sum(map(work, share)) for share in shares) < 1.02 * total / ranks
    gathered = 2 * 8 * max(sum(p.numel() for p in share) for share in deal(owned, 8))
    assert gathered < 1.1 * 2 * sum(p.numel() for p in owned)  # bytes, with the padding that equal parts need
    for rank in range(8):
        muon = Muon(owned, 5, rank, 8, torch.bfloat16)
        assert len({buffer.shape for *_, buffer in muon.own}) <= 4  # each is compiled once; the limit is 8


def test_learning_rate_by_steps() -> None:
    s = replace(TINY, iterations=100, warmdown_iters=20, max_wallclock_seconds=0)
    assert [lr_scale(s, step, 0) for step in (0, 79, 80, 90, 99, 100)] == [1, 1, 1, 0.5, 0.05, 0]


def test_learning_rate_by_time() -> None:
    s = replace(TINY, warmdown_iters=100, max_wallclock_seconds=60)
    assert lr_scale(s, 0, 0.0) == 1
    assert lr_scale(s, 500, 50_000) == 1  # 10 s left = 100 steps of 100 ms
    assert lr_scale(s, 550, 55_000) == pytest.approx(0.5)
    assert lr_scale(s, 600, 60_001) == 0


def test_the_cap_is_checked_after_each_step_by_the_time_without_validation(
    tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = Settings.from_env(tiny_data.env | {"MAX_WALLCLOCK_SECONDS": "1", "VAL_LOSS_EVERY": "1", "ITERATIONS": "9"})
    trainer = train_gpt.Trainer(s, 0, 1, torch.device("cpu"), torch.float32)
    now = [0.0]

    def takes(seconds: float, result: object) -> Callable[..., object]:
        def call(*_: object) -> object:
            now[0] += seconds
            return result

        return call

    monkeypatch.setattr(train_gpt.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(trainer, "step", takes(0.5, None))
    monkeypatch.setattr(trainer.validation, "run", takes(7.0, (1.0, 1.0)))
    lines: list[str] = []
    trainer.train(lines.append)
    assert [line for line in lines if "val_loss" in line] == [
        f"step:{step}/9 val_loss:1.0000 val_bpb:1.0000 train_time:{500 * step}ms step_avg:{500.0 if step else 0.0:.2f}ms"
        for step in (0, 1, 2)
    ]
    assert lines[-1] == "stopping_early: wallclock_cap train_time:1000ms step:2/9"


def test_a_tied_model_trains_alike_whatever_the_rate_of_a_head_of_its_own(tiny_data: TinyData) -> None:
    trained = []
    for rate in ("0.008", "0.016"):  # the demo's null rests on it
        s = Settings.from_env(tiny_data.env | {"HEAD_LR": rate})
        trainer = train_gpt.Trainer(s, 0, 1, torch.device("cpu"), torch.float32)
        trainer.step(0, 1.0)
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


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | str]:
    """Replace a GPU's attention: each kernel takes a time or fails with a text; return these, to be filled in."""
    found: dict[str, float | str] = {}
    enabled: set[str] = set()
    now = [0.0]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        (name,) = enabled
        taken = found[name]
        if isinstance(taken, str):
            raise RuntimeError(taken)
        now[0] += taken
        assert not q.is_contiguous()
        assert q.transpose(1, 2).shape[2] == 4
        return q * v.mean() * k.mean()

    for name in train_gpt.ATTENTION:
        monkeypatch.setattr(
            torch.backends.cuda,
            f"enable_{name}_sdp",
            lambda on, name=name: enabled.add(name) if on else enabled.discard(name),
        )
    monkeypatch.setattr(train_gpt, "attend", attend)
    monkeypatch.setattr(train_gpt.time, "perf_counter", lambda: now[0])
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    return found


def test_the_fastest_attention_wins_and_one_that_cannot_run_is_named(kernels: dict[str, float | str]) -> None:
    s = replace(TINY, train_seq_len=128, train_batch_tokens=1024)
    kernels |= {"cudnn": 0.00101, "flash": 0.001, "mem_efficient": "no kernel for it\nsecond line", "math": 0.02}
    said = train_gpt.choose_attention(s, torch.device("cpu"))
    assert said == (
        "Attention by flash (cudnn 1.010 ms, flash 1.000 ms, mem_efficient cannot run: no kernel for it, math 20.000 ms)"
    )
    assert torch.compiler.config.cache_key_tag == "flash"
    kernels["cudnn"] = 0.0009
    assert train_gpt.choose_attention(s, torch.device("cpu")).startswith("Attention by cudnn (")
    short = replace(s, train_seq_len=64)  # there cudnn has errors
    assert train_gpt.choose_attention(short, torch.device("cpu")).startswith("Attention by flash (flash 1.000 ms, mem")


def test_attention_that_no_kernel_computes_is_an_error(kernels: dict[str, float | str]) -> None:
    kernels |= dict.fromkeys(train_gpt.ATTENTION, "out of memory")
    with pytest.raises(
        train_gpt.SettingsError, match="No attention kernel can run here: cudnn cannot run: out of memory"
    ):
        train_gpt.choose_attention(replace(TINY, train_seq_len=128, train_batch_tokens=1024), torch.device("cpu"))


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
