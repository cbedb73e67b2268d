"""The model, its loss and its gradients equal plain references."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import model as plain
from benchmarks.plain.settings import Settings as PlainSettings
from tests.trainer.conftest import TINY_MODEL
from trainer.train_gpt import GPT, Banks, Settings, SoftcapCrossEntropy, orthogonalise, payload_bytes, quantise

TINY, PLAIN = Settings.from_env(TINY_MODEL), PlainSettings.of(TINY_MODEL)


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


def disturbed(layers: int) -> tuple[GPT, plain.Model]:
    """Return a model away from its initial values and the plain one with the same weights, all in float32."""
    torch.manual_seed(1)
    model = GPT(replace(TINY, num_layers=layers), torch.float32)
    reference = plain.Model(replace(PLAIN, num_layers=layers), torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    reference.load_state_dict(model.state_dict())
    model.embed.float()  # the values stay bfloat16's
    reference.embed.float()
    return model, reference


@pytest.mark.parametrize("layers", [1, 4, 5])
def test_the_model_equals_the_plain_one(layers: int) -> None:
    model, reference = disturbed(layers)
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with torch.no_grad():
        expected = F.cross_entropy(reference.logits(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        torch.testing.assert_close(model(inputs, targets), expected, rtol=1e-5, atol=1e-5)


def test_the_gradients_equal_the_plain_models() -> None:
    model, reference = disturbed(layers=3)
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    model(tokens[:, :-1], tokens[:, 1:]).mean().backward()
    reference(tokens[:, :-1], tokens[:, 1:]).backward()
    expected = dict(reference.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name].grad, rtol=1e-3, atol=1e-6, msg=name)


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


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo causes both warnings
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
    model.compile_halves()  # fullgraph: a graph break would raise
    banks = Banks(model)
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    seams: list[int] = []
    for _ in range(3):
        model(tokens[:, :-1], tokens[:, 1:], lambda: seams.append(len(seams))).mean().backward()
        banks.flat.add_(banks.grad[: banks.flat.numel()], alpha=-0.1)
    assert len(graphs) == 2
    assert seams == [0, 1, 2]
    with torch.no_grad():
        for _ in range(2):
            model(tokens[:, :-1], tokens[:, 1:])
    assert len(graphs) == 4  # two more for validation
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
    """Check that each bfloat16 gradient counts in full: 1 rank with 8 micro-batches must equal 8 ranks with one."""
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


def test_compiled_functions_work_on_every_supported_torch() -> None:
    """Find starred targets: torch.compile before 2.13 makes them tuples without pop, and only a GPU run would show it."""
    for half in (GPT.front, GPT.back, orthogonalise):
        tree = ast.parse(textwrap.dedent(inspect.getsource(half)))
        starred = [node for node in ast.walk(tree) if isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Store)]
        assert not starred
