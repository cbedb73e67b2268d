"""The model: a U of transformer blocks with grouped-query attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.plain.settings import Settings


def rmsnorm(x: Tensor) -> Tensor:
    """Normalise the last dimension, without a weight."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """A matrix without bias: kept in float32, cast to the type of what it multiplies."""

    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__(inputs, outputs, bias=False)
        if zero:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def rotate(x: Tensor, base: float) -> Tensor:
    """Turn each pair (first half, second half) of a head by the position times the pair's frequency.

    The recipe leaves open in which sense. This one is the trainer's, so that both can hold the same weights.
    """
    length, width = x.shape[-2:]
    frequencies = base ** (-torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(length, device=x.device, dtype=torch.float32), frequencies)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.base, self.heads, self.kv_heads = s.rope_base, s.num_heads, s.num_kv_heads
        self.width = s.model_dim // s.num_heads
        self.q = Linear(s.model_dim, s.model_dim)
        self.k = Linear(s.model_dim, s.num_kv_heads * self.width)
        self.v = Linear(s.model_dim, s.num_kv_heads * self.width)
        self.out = Linear(s.model_dim, s.model_dim, zero=True)
        self.q_gain = nn.Parameter(torch.full((s.num_heads,), s.qk_gain_init))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q = self.q(x).view(batch, length, self.heads, self.width).transpose(1, 2)
        k = self.k(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)
        v = self.v(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)
        q, k = rotate(rmsnorm(q), self.base), rotate(rmsnorm(k), self.base)
        q = q * self.q_gain.to(q.dtype).view(1, -1, 1, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv_heads != self.heads)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.attn = Attention(s)
        self.up = Linear(s.model_dim, s.mlp_mult * s.model_dim)
        self.down = Linear(s.mlp_mult * s.model_dim, s.model_dim, zero=True)
        self.mix = nn.Parameter(torch.stack((torch.ones(s.model_dim), torch.zeros(s.model_dim))))
        self.attn_scale = nn.Parameter(torch.ones(s.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(s.model_dim))

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        mix = self.mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.attn_scale.to(x.dtype) * self.attn(rmsnorm(x))
        return x + self.mlp_scale.to(x.dtype) * self.down(F.relu(self.up(rmsnorm(x))).square())


class Model(nn.Module):
    """The language model. Activations and products are in `dtype`; the embedding itself is bfloat16.

    Parameters have the trainer's names, so that both can load the same weights.
    """

    def __init__(self, s: Settings, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.dtype, self.softcap, self.half = dtype, s.logit_softcap, s.num_layers // 2
        self.embed = nn.Embedding(s.vocab_size, s.model_dim)
        nn.init.normal_(self.embed.weight, std=s.tied_embed_init_std if s.tie_embeddings else 1.0)
        self.embed.to(torch.bfloat16)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.num_layers))
        self.skip_weights = nn.Parameter(torch.ones(min(self.half, s.num_layers - self.half), s.model_dim))
        self.head = None if s.tie_embeddings else Linear(s.model_dim, s.vocab_size, zero=True)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss in nats per token."""
        return F.cross_entropy(self.logits(tokens).flatten(0, 1).float(), targets.flatten())

    def logits(self, tokens: Tensor) -> Tensor:
        x = x0 = rmsnorm(self.embed(tokens).to(self.dtype))
        stack = []
        for i, block in enumerate(self.blocks):
            if i >= self.half and stack:
                x = x + self.skip_weights[i - self.half].to(x.dtype) * stack.pop()
            x = block(x, x0)
            if i < self.half:
                stack.append(x)
        x = rmsnorm(x)
        logits = self.head(x) if self.head else F.linear(x, self.embed.weight.to(x.dtype))
        return self.softcap * torch.tanh(logits / self.softcap)

    def matrices(self) -> list[nn.Parameter]:
        """Return the block matrices, which Muon updates."""
        return [p for p in self.blocks.parameters() if p.ndim == 2 and p.size(0) > 2]

    def vectors(self) -> list[nn.Parameter]:
        """Return the scales, gains, mixes and skip weights, which Adam updates."""
        return [p for p in self.blocks.parameters() if p.ndim == 1 or p.size(0) == 2] + [self.skip_weights]
