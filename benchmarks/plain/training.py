"""A training step, and the validation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch

from benchmarks.plain.data import Bytes, Stream, read_shard, shards
from benchmarks.plain.model import Model
from benchmarks.plain.optimizers import momentum, optimizers_of, rate
from benchmarks.plain.settings import Settings

MICRO_BATCHES = 8  # one process does the work of the recipe's eight ranks, one after the other
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Validation:
    """The whole validation split, in windows without overlap."""

    def __init__(self, s: Settings) -> None:
        tokens = torch.cat([read_shard(path) for path in shards(s.data_path, "val")])
        usable = (len(tokens) - 1) // s.train_seq_len * s.train_seq_len
        self.inputs = tokens[:usable].view(-1, s.train_seq_len)
        self.targets = tokens[1 : usable + 1].view(-1, s.train_seq_len)
        self.bytes = int(Bytes(s.tokenizer_path, s.vocab_size).of(self.inputs, self.targets).sum())
        self.windows = max(1, s.val_batch_size // MICRO_BATCHES // s.train_seq_len)

    @torch.inference_mode()
    def __call__(self, model: Callable[..., torch.Tensor]) -> tuple[float, float]:
        """Return nats per token and bits per byte."""
        nats = torch.zeros((), dtype=torch.float64, device=DEVICE)
        for x, y in zip(self.inputs.split(self.windows), self.targets.split(self.windows), strict=True):
            nats += model(x.to(DEVICE), y.to(DEVICE)).double() * y.numel()
        return nats.item() / self.targets.numel(), nats.item() / math.log(2) / self.bytes


class Training:
    """A model with its optimizers and its place in the data."""

    def __init__(self, s: Settings, dtype: torch.dtype, micro_batches: int = MICRO_BATCHES) -> None:
        torch.manual_seed(s.seed)
        self.micro_batches = micro_batches
        self.s, self.model = s, Model(s, dtype).to(DEVICE)
        self.compiled = torch.compile(self.model, dynamic=False) if DEVICE.type == "cuda" else self.model
        self.optimizers, self.stream = optimizers_of(self.model, s), Stream(s.data_path)

    def step(self, step: int, seconds: float) -> torch.Tensor:
        """Do one gradient step and return its mean loss."""
        self.model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=DEVICE)
        for _ in range(self.micro_batches):
            x, y = self.stream.batch(self.s.train_batch_tokens // self.micro_batches, self.s.train_seq_len)
            loss = self.compiled(x.to(DEVICE), y.to(DEVICE)) / self.micro_batches
            loss.backward()
            total += loss.detach()
        if self.s.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.s.grad_clip_norm)
        self.optimizers[-1].param_groups[0]["momentum"] = momentum(self.s, step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate(self.s, step, seconds)
            optimizer.step()
        return total

    def warm_up(self) -> None:
        """Do some steps, then go back to the start."""
        weights = copy.deepcopy(self.model.state_dict())
        states = [copy.deepcopy(optimizer.state_dict()) for optimizer in self.optimizers]
        for step in range(self.s.warmup_steps):
            self.step(step, 0.0)
        self.model.load_state_dict(weights)
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        self.stream = Stream(self.s.data_path)
