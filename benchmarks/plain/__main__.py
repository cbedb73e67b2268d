"""Train once: `DTYPE=float32 TRAIN_SEQ_LEN=128 ... python -m benchmarks.plain`."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.plain.artifact import packed, unpacked
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
        self.bytes = Bytes(s.tokenizer_path, s.vocab_size).count(self.inputs, self.targets)
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

    def __init__(self, s: Settings, dtype: torch.dtype) -> None:
        torch.manual_seed(s.seed)
        self.s, self.model = s, Model(s, dtype).to(DEVICE)
        self.compiled = torch.compile(self.model, dynamic=False) if DEVICE.type == "cuda" else self.model
        self.optimizers, self.stream = optimizers_of(self.model, s, dtype), Stream(s.data_path)

    def step(self, step: int, seconds: float) -> torch.Tensor:
        """Do one gradient step and return its mean loss."""
        self.model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=DEVICE)
        for _ in range(MICRO_BATCHES):
            x, y = self.stream.batch(self.s.train_batch_tokens // MICRO_BATCHES, self.s.train_seq_len)
            loss = self.compiled(x.to(DEVICE), y.to(DEVICE)) / MICRO_BATCHES
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


def train(training: Training, validation: Validation) -> None:
    """Do all steps and print their lines."""
    s, seconds, step = training.s, 0.0, 0
    while True:
        capped = 0 < s.max_wallclock_seconds <= seconds
        last = step == s.iterations or capped
        timed = f"train_time:{seconds * 1000:.0f}ms step_avg:{seconds * 1000 / max(step, 1):.2f}ms"
        if last or (s.val_loss_every > 0 and step % s.val_loss_every == 0):
            nats, bits = validation(training.compiled)
            print(f"step:{step}/{s.iterations} val_loss:{nats:.4f} val_bpb:{bits:.4f} {timed}", flush=True)
        if last:
            return
        began = now()
        loss = training.step(step, seconds)
        seconds += now() - began
        step += 1
        if step <= 10 or (s.train_log_every > 0 and step % s.train_log_every == 0):
            timed = f"train_time:{seconds * 1000:.0f}ms step_avg:{seconds * 1000 / step:.2f}ms"
            print(f"step:{step}/{s.iterations} train_loss:{loss.item():.4f} {timed}", flush=True)


def main() -> None:
    s = Settings.of(os.environ)
    training, validation = Training(s, getattr(torch, os.environ.get("DTYPE", "bfloat16"))), Validation(s)
    print(f"model_params:{sum(p.numel() for p in training.model.parameters())}", flush=True)
    training.warm_up()
    train(training, validation)
    path = Path(f"{s.run_id}.int8.ptz")
    path.write_bytes(packed(training.model))
    print(f"Serialized model int8+zlib: {path.stat().st_size} bytes", flush=True)
    training.model.load_state_dict(unpacked(path.read_bytes()))
    began = now()
    nats, bits = validation(training.compiled)
    milliseconds = 1000 * (now() - began)
    print(f"final_int8_zlib_roundtrip val_loss:{nats:.4f} val_bpb:{bits:.4f} eval_time:{milliseconds:.0f}ms")
    print(f"final_int8_zlib_roundtrip_exact val_loss:{nats:.8f} val_bpb:{bits:.8f}")


if __name__ == "__main__":
    main()
