"""Which share of a training step on a CPU lies inside matrix products, for benchmarks.trainer.

    CPU_DTYPE=float32 ... python -m benchmarks.products trainer|plain

It trains two steps in this process, profiles the third, and prints two percentages of the time in PyTorch's operations: matrix
products, and attention, which is made of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", "aten::mkldnn_linear")


def trainer_step() -> Callable[[int], object]:
    from trainer import train_gpt as t

    device = torch.device("cpu")
    t.keep_freed_memory()
    s = t.Settings.from_env(os.environ)
    trainer = t.Trainer(s, 0, 1, device, getattr(torch, s.cpu_dtype))
    return lambda step: trainer.step(step, 1.0)


def plain_step() -> Callable[[int], object]:
    from benchmarks.plain.settings import Settings
    from benchmarks.plain.training import Training

    training = Training(Settings.of(os.environ), getattr(torch, os.environ["CPU_DTYPE"]))
    return lambda step: training.step(step, 0.0)


def main() -> None:
    step = {"trainer": trainer_step, "plain": plain_step}[sys.argv[1]]()
    step(0)
    step(1)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step(2)
    events: Any = found.key_averages()
    spent = {event.key: event.self_cpu_time_total for event in events}
    products = sum(us for name, us in spent.items() if name in PRODUCTS)
    attention = sum(us for name, us in spent.items() if "scaled_dot_product" in name)
    total = sum(spent.values())
    print(f"products:{100 * products / total:.1f} attention:{100 * attention / total:.1f}")


if __name__ == "__main__":
    main()
