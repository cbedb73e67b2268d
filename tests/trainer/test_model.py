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
from tests.trainer.conftest import TINY_MODEL, disturb
from trainer.train_gpt import GPT, Gradients, Settings, orthogonalise, payload_bytes, quantise

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


def disturbed(layers: int, cap: float = 30.0) -> tuple[GPT, plain.Model]:
    """Return a model away from its initial values and the plain one with the same weights, all in float32."""
    torch.manual_seed(1)
    changed = {"num_layers": layers, "logit_softcap": cap}
    model = GPT(replace(TINY, **changed), torch.float32)
    reference = plain.Model(replace(PLAIN, **changed), torch.float32)
    disturb(model, by=0.2)
    reference.load_state_dict(model.state_dict())
    model.embed.float()  # the values stay bfloat16's
    reference.embed.float()
    return model, reference


@pytest.mark.parametrize(("layers", "cap"), [(1, 30.0), (4, 30.0), (5, 30.0), (3, 0.001), (3, 999.0)])
def test_the_model_equals_the_plain_one(layers: int, cap: float) -> None:
    model, reference = disturbed(layers, cap)
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with torch.no_grad():
        expected = F.cross_entropy(reference.logits(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        torch.testing.assert_close(model(inputs, targets), expected, rtol=1e-5, atol=1e-5 + cap * 2**-22)


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
    disturb(low)
    high.load_state_dict(low.state_dict())
    tokens = torch.randint(0, TINY.vocab_size, (4, 33))
    with torch.no_grad():
        nats = [model(tokens[:, :-1], tokens[:, 1:]) for model in (low, high)]
    assert nats[0].dtype == torch.float32
    assert float(nats[0].mean()) == pytest.approx(float(nats[1].mean()), abs=0.01)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo causes both warnings
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # said by torch
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
    tokens = torch.randint(0, TINY.vocab_size, (2, 33))
    seams: list[int] = []
    for _ in range(3):
        model(tokens[:, :-1], tokens[:, 1:], lambda: seams.append(len(seams))).mean().backward()
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-0.1)
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


def random_model(layers: int = 3) -> tuple[GPT, torch.Tensor]:
    torch.manual_seed(2)
    model = GPT(replace(TINY, num_layers=layers))
    disturb(model)
    return model, torch.randint(0, TINY.vocab_size, (2, 16))


def test_the_flat_buffer_holds_the_gradients_of_all_passes() -> None:
    model, tokens = random_model()
    model(tokens, tokens).mean().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    gradients = Gradients(model)
    for _ in range(2):
        model(tokens, tokens).mean().backward()
        gradients.add()
        assert all(p.grad is None for p in model.parameters())
    gradients.reduce(clip_norm=0.0)
    for name, p in model.named_parameters():
        assert p.grad.dtype == p.dtype
        assert torch.equal(p.grad, 2 * expected[name])
    assert gradients.flat.numel() == sum(p.numel() for p in model.parameters()) + 1  # the loss
    assert gradients.loss.data_ptr() == gradients.flat[-1:].data_ptr()


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_at_the_seam_the_second_halfs_gradients_are_complete(layers: int) -> None:
    model, tokens = random_model(layers)
    gradients = Gradients(model)
    at_seam: list[tuple[torch.Tensor, torch.Tensor]] = []

    def seam() -> None:
        gradients.add()
        at_seam.append((gradients.early.clone(), gradients.late.clone()))

    model(tokens, tokens, seam).mean().backward()
    gradients.add()
    ((early, late),) = at_seam
    assert torch.equal(early, gradients.early)
    assert torch.count_nonzero(early) > 0.9 * early.numel()
    assert torch.count_nonzero(late) == 0  # the first half's backward pass is still to come
    assert torch.count_nonzero(gradients.late) > 0
    assert len(early) + len(late) == len(gradients.flat)


def test_the_sum_of_embedding_gradients_is_float32() -> None:
    """Check that each bfloat16 gradient counts in full: 1 rank with 8 passes must equal 8 ranks with one."""
    model = GPT(TINY)
    gradients, embed = Gradients(model), model.embed.weight
    for value in (256.0, 1.0, 1.0):  # in bfloat16 256 + 1 is 256
        embed.grad = torch.full_like(embed, value)
        gradients.add()
    assert gradients.views[embed].dtype == torch.float32
    assert float(gradients.views[embed][0, 0]) == 258.0


def test_gradients_are_clipped_by_the_global_norm() -> None:
    model, tokens = random_model()
    gradients = Gradients(model)
    model(tokens, tokens).mean().backward()
    gradients.add()
    gradients.reduce(clip_norm=0.01)
    norm = math.sqrt(sum(float(p.grad.float().pow(2).sum()) for p in model.parameters()))
    assert norm == pytest.approx(0.01, rel=0.01)


def test_compiled_functions_work_on_every_supported_torch() -> None:
    """Find starred targets: torch.compile before 2.13 makes them tuples without pop, and only a GPU run would show it."""
    for half in (GPT.front, GPT.back, orthogonalise):
        tree = ast.parse(textwrap.dedent(inspect.getsource(half)))
        starred = [node for node in ast.walk(tree) if isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Store)]
        assert not starred
