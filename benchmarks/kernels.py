"""What one rank of eight does on one GPU: time and launches by kind of kernel, for benchmarks.trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.budget import SEQ4096, SHARE_TOKENS, budget, peak_share, table

WARM, TIMED, PROFILED = 10, 20, 5  # steps

# Kinds of kernels, by words in their names. The first that fits counts: compiled kernels are named after all they fuse.
KINDS = (
    ("fused elementwise (compiled)", ("triton",)),
    ("attention", ("flash", "sdpa", "fmha", "cudnn_generated_fort_native", "attention")),
    ("matrix products", ("gemm", "cutlass", "nvjet", "cublas", "sm90_xmma", "wgmma", "_mm_", "bmm")),
    ("Adam", ("adam",)),
    ("copies", ("memcpy", "memset")),
)


def profile_lines(data: dict[str, str]) -> list[str]:
    """Profile one rank of eight in this process, with fake collectives; return tables of its kernels and its budget."""
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from trainer import train_gpt as t

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    s = t.Settings.from_env(data | {"MAX_WALLCLOCK_SECONDS": "0"})
    device = torch.device("cuda", 0)
    torch.set_float32_matmul_precision("high")
    choice = t.choose_attention(s, device)
    t.all_gather = lambda *_: None  # the fake one would copy into all shares
    trainer = t.Trainer(s, 0, 8, device, torch.bfloat16)

    def steps(count: int) -> None:
        for step in range(count):
            trainer.step(step, 1.0)
            trainer.gradients.loss.item()  # a run waits for each step
        torch.cuda.synchronize()

    total = _step_ms(steps)
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    spent = _by_kind(steps)
    dist.destroy_process_group()
    share = peak_share(SEQ4096, SHARE_TOKENS, total)
    return [
        f"One rank of eight, without its collectives: {total:.2f} ms per step, {100 * share:.1f} % of "
        f"peak, {peak_gib:.1f} GiB at the peak. {choice}",
        "",
        "| kind of kernel | ms | launches |",
        "|---|---:|---:|",
        *(
            f"| {kind} | {ms:.2f} | {launches} |"
            for kind, (ms, launches) in sorted(spent.items(), key=lambda row: -row[1][0])
        ),
        "",
        *table(budget(SEQ4096, SHARE_TOKENS)),
    ]


def _step_ms(steps: Callable[[int], None]) -> float:
    """Return the ms per step, and count peak memory from here on."""
    import torch

    steps(WARM)
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    steps(TIMED)
    return 1000 * (time.perf_counter() - began) / TIMED


def _by_kind(steps: Callable[[int], None]) -> dict[str, tuple[float, int]]:
    """Return ms and launches per step of each kind of kernel."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        steps(PROFILED)
    spent: dict[str, tuple[float, int]] = {}
    events: Any = found.key_averages()
    for event in events:
        if not event.self_device_time_total:  # the host's own calls
            continue
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS if any(word in name for word in words)), "other")
        ms, launches = spent.get(kind, (0.0, 0))
        spent[kind] = ms + event.self_device_time_total / (1000 * PROFILED), launches + event.count // PROFILED
    return spent
