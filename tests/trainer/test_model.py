"""Model, optimizer, schedule and artifact against plain references."""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
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
    SoftcapCrossEntropy,
    dequantise,
    fastest,
    lr_scale,
    orthogonalise,
    payload_bytes,
    quantise,
)

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
    model = GPT(replace(TINY, num_layers=layers), torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    model.embed.float()  # its values stay those of bfloat16
    tokens = torch.randint(0, TINY.vocab_size, (9,))
    with torch.no_grad():
        expected = F.cross_entropy(plain_forward(model, tokens[:-1]), tokens[1:], reduction="none")
        found = model(tokens[None, :-1], tokens[None, 1:])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_gradients_equal_a_plain_models() -> None:
    torch.manual_seed(1)
    model = GPT(replace(TINY, num_layers=3), torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    model.embed.float()
    tokens = torch.randint(0, TINY.vocab_size, (9,))
    F.cross_entropy(plain_forward(model, tokens[:-1]), tokens[1:]).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model(tokens[None, :-1], tokens[None, 1:]).mean().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=2e-3, atol=2e-5, msg=name)


def test_bfloat16_activations_stay_near_float32() -> None:
    torch.manual_seed(1)
    low, high = GPT(TINY), GPT(TINY, torch.float32)
    with torch.no_grad():
        for p in low.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    high.load_state_dict(low.state_dict())
    tokens = torch.randint(0, TINY.vocab_size, (4, 33))
    with torch.no_grad():
        nats = [model(tokens[:, :-1], tokens[:, 1:]) for model in (low, high)]
    assert nats[0].dtype == torch.float32
    assert float(nats[0].mean()) == pytest.approx(float(nats[1].mean()), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradient_equal_autograds(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    logits = (torch.randn(7, 50) * 40).to(dtype).requires_grad_()
    targets, weights = torch.randint(0, 50, (7,)), torch.rand(7)
    plain = logits.detach().double().requires_grad_()
    expected = F.cross_entropy(30 * torch.tanh(plain / 30), targets, reduction="none")
    found = SoftcapCrossEntropy.apply(logits, targets, 30.0)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    tolerance = 1e-5 if dtype == torch.float32 else 4e-3  # bfloat16 keeps 8 bits of the gradient
    torch.testing.assert_close(logits.grad.double(), plain.grad, rtol=tolerance, atol=tolerance)


def test_no_float32_copy_of_the_logits_is_kept() -> None:
    logits = torch.randn(64, TINY.vocab_size).bfloat16().requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        SoftcapCrossEntropy.apply(logits, torch.zeros(64, dtype=torch.long), 30.0)
    assert [t.dtype for t in kept if t.numel() >= logits.numel()] == [torch.bfloat16]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # both are Dynamo's own doing
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_each_half_is_one_graph_and_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", compiled)
    torch.manual_seed(6)
    eager, model = GPT(TINY, torch.float32), GPT(TINY, torch.float32)
    model.load_state_dict(eager.state_dict())
    model.compile_halves()  # fullgraph: a break in a graph would raise
    banks = Banks(model)
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    seams: list[int] = []
    for _ in range(3):
        model(tokens[:, :-1], tokens[:, 1:], lambda: seams.append(len(seams))).mean().backward()
        banks.flat.add_(banks.grad[: banks.flat.numel()], alpha=-0.1)
    assert (len(graphs), seams) == (2, [0, 1, 2])
    with torch.no_grad():
        for _ in range(2):
            model(tokens[:, :-1], tokens[:, 1:])
    assert len(graphs) == 4  # the validation's pair
    fresh = GPT(TINY, torch.float32)
    fresh.load_state_dict(eager.state_dict())
    fresh.compile_halves()
    torch.testing.assert_close(fresh(tokens[:, :-1], tokens[:, 1:]), eager(tokens[:, :-1], tokens[:, 1:]))
    torch.compiler.reset()


def test_banks_hold_the_same_parameters_and_gradients() -> None:
    torch.manual_seed(2)
    model, tokens = GPT(TINY), torch.randint(0, TINY.vocab_size, (2, 16))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    model(tokens, tokens).mean().backward()
    expected = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    banks = Banks(model)
    model(tokens, tokens).mean().backward()
    banks.add_embedding()
    banks.reduce(clip_norm=0.0)
    for name, p in model.named_parameters():
        assert torch.equal(p, expected[name][0])
        assert torch.equal(p.grad, expected[name][1])
    numbers = sum(p.numel() for p, _ in banks.matrices) + sum(p.numel() for p in banks.vectors)
    assert numbers == banks.flat.numel() == sum(p.numel() for p in model.parameters()) - model.embed.weight.numel()


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_at_the_seam_the_second_halfs_gradients_are_complete(layers: int) -> None:
    torch.manual_seed(2)
    model, tokens = GPT(replace(TINY, num_layers=layers)), torch.randint(0, TINY.vocab_size, (2, 16))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    banks = Banks(model)
    at_seam: list[tuple[torch.Tensor, torch.Tensor]] = []
    model(tokens, tokens, lambda: at_seam.append((banks.early.clone(), banks.late.clone()))).mean().backward()
    ((early, late),) = at_seam
    assert torch.equal(early, banks.early)
    assert torch.count_nonzero(early) > 0.9 * early.numel()
    assert torch.count_nonzero(late) == 0  # the first half's backward pass is still to come
    assert len(early) + len(late) == len(banks.grad)


def test_the_sum_of_embedding_gradients_is_float32() -> None:
    """Each micro-batch's bfloat16 gradient counts in full, so that 1 rank with 8 of them is 8 ranks with one."""
    model = GPT(TINY)
    banks = Banks(model)
    for value in (256.0, 1.0, 1.0):  # in bfloat16 256 + 1 is 256
        model.embed.weight.grad.fill_(value)
        banks.add_embedding()
    assert banks.embed_sum.dtype == torch.float32
    assert float(banks.embed_sum[0, 0]) == 258.0


def test_gradients_are_clipped_by_the_global_norm() -> None:
    model, tokens = GPT(TINY), torch.randint(0, TINY.vocab_size, (2, 16))
    banks = Banks(model)
    model(tokens, tokens).mean().backward()
    banks.add_embedding()
    banks.reduce(clip_norm=0.01)
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


@pytest.mark.parametrize("shape", [(3, 16, 32), (2, 32, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float32, 1e-5)])
def test_newton_schulz_equals_its_polynomial_of_the_singular_values(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    """U p(p(...p(s / |s|))) V' in float64, with p(x) = 3.4445 x - 4.7750 x^3 + 2.0315 x^5."""
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
    times = iter((998.0, 999.0, 999.0, 1000.0))  # before the optimizers and after them, of two steps
    clock = SimpleNamespace(elapsed_ms=lambda: next(times))
    trainer.step(0, 1.0, clock)
    assert trainer.agreed(1, clock) == (1, 998.0, False)
    trainer.step(1, 1.0, clock)
    assert trainer.agreed(2, clock) == (2, 999.0, True)


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
    """Row by row and number by number, as the recipe says it."""
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


def test_the_quickest_wins_by_a_fifth_and_what_cannot_run_is_named() -> None:
    def takes(seconds: float) -> Callable[[], None]:
        return lambda: time.sleep(seconds)

    def broken() -> None:
        raise RuntimeError("no kernel")

    best, said = fastest({"a": takes(0.02), "b": takes(0.019), "c": broken})
    assert best == "a"  # b is not quicker by enough
    assert re.fullmatch(r"a \d+\.\d{3} ms, b \d+\.\d{3} ms, c cannot run", said)
    assert fastest({"c": broken, "a": takes(0.02), "d": takes(0.001)})[0] == "d"


def test_a_cpu_computes_in_the_type_that_it_is_faster_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for quick in (torch.float32, torch.bfloat16):

        def mm(x: torch.Tensor, _: torch.Tensor, quick: torch.dtype = quick) -> None:
            time.sleep(0 if x.dtype == quick else 0.01)

        monkeypatch.setattr(torch, "mm", mm)
        machine = Machine.choose(TINY, torch.device("cpu"))
        assert machine.dtype == quick
        assert f"in {str(quick).removeprefix('torch.')} on 1 threads a rank (float32 on 1 threads " in machine.choice
        fixed = Machine.choose(replace(TINY, deterministic=True), torch.device("cpu"))
        assert fixed.dtype == torch.float32


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


def test_what_is_compiled_can_be_on_every_supported_torch() -> None:
    """Before 2.13 a starred target is a tuple to torch.compile, and has no pop; only a GPU run would show it."""
    for half in (GPT.front, GPT.back, orthogonalise):
        tree = ast.parse(textwrap.dedent(inspect.getsource(half)))
        starred = [node for node in ast.walk(tree) if isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Store)]
        assert not starred
