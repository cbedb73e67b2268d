"""Muon, the Adam groups, and the schedules of learning rate and momentum."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.plain.model import Model
from benchmarks.plain.settings import Settings


def orthogonalise(gradient: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Bring all singular values near one, by Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.to(dtype)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is made orthogonal."""

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, momentum: float, steps: int, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum})
        self.steps, self.dtype = steps, dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["buffer"] = torch.zeros_like(p)
                buffer = state["buffer"].mul_(group["momentum"]).add_(p.grad)
                update = orthogonalise(p.grad + group["momentum"] * buffer, self.steps, self.dtype)
                scale = max(1.0, p.size(0) / p.size(1)) ** 0.5
                p.add_(update.to(p.dtype), alpha=-group["lr"] * scale)


def optimizers_of(model: Model, s: Settings) -> list[torch.optim.Optimizer]:
    """Return Adam for embedding, head and vectors, and Muon, which comes last; `initial_lr` is what is scheduled."""
    adam = [
        {"params": [model.embed.weight], "lr": s.tied_embed_lr if s.tie_embeddings else s.embed_lr},
        {"params": model.vectors(), "lr": s.scalar_lr},
    ]
    if model.head:
        adam.append({"params": [model.head.weight], "lr": s.head_lr})
    made = [
        torch.optim.Adam(adam, betas=(s.beta1, s.beta2), eps=s.adam_eps, fused=True),
        Muon(model.matrices(), s.matrix_lr, s.muon_momentum, s.muon_backend_steps, model.dtype),
    ]
    for group in (group for optimizer in made for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return made


def rate(s: Settings, step: int, seconds: float) -> float:
    """Return what the learning rates are multiplied by at a step, after so many seconds of training."""
    if s.warmdown_iters <= 0:
        return 1.0
    if s.max_wallclock_seconds <= 0:
        return min(1.0, max(0.0, (s.iterations - step) / s.warmdown_iters))
    warmdown = s.warmdown_iters * seconds / max(step, 1)
    left = max(0.0, s.max_wallclock_seconds - seconds)
    return left / warmdown if left < warmdown else 1.0


def momentum(s: Settings, step: int) -> float:
    """Return Muon's momentum at a step."""
    done = min(1.0, step / s.muon_momentum_warmup_steps) if s.muon_momentum_warmup_steps else 1.0
    return (1 - done) * s.muon_momentum_warmup_start + done * s.muon_momentum
