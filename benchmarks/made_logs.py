"""Made-up logs for benchmarks.reading: the same ones every time, with what each says at its end."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SOURCES = 16  # different scripts of a kind; logs share them, as the seeds of one submission do
NAMES = (
    "hidden",
    "weight_decay",
    "momentum",
    "embedding",
    "rotary",
    "token",
    "window",
    "batch",
    "shard",
    "grad",
    "scale",
    "attn_norm",
    "lr_schedule",
    "residual",
    "bucket",
    "state",
    "rank",
    "cooldown",
    "logits",
    "block",
    "seq_len",
    "param",
    "quantile",
)
STATEMENTS = (
    "{a} = {b}.view(-1, {n}).to(dtype=torch.bfloat16)",
    "{a} = {b} * {n} + self.{c}(x)[..., :{n}]",
    "{a}, {b} = {c}.chunk(2, dim=-1)",
    'log0(f"{a}:{{{b}:.4f}} {c}:{{1000 * {a} / max({b}, 1):.2f}}ms")',
    'raise ValueError(f"{a} must be at least {n}, got {{{b}!r}} for {{{c}.shape}}")',
    'pattern = re.compile(r"^(?P<{a}>[A-Za-z_]\\w*)\\s*[:=]\\s*(\\d+(?:\\.\\d+)?)$")',
    "assert {a}.size(0) == {n}, ({a}.shape, {b}, '{c}')",
    "dist.all_reduce({a}, op=dist.ReduceOp.AVG)",
    "# {a} before {b}: the {c} of the last {n} steps would be counted twice otherwise",
    "x = x + F.linear(norm(x), self.{a}.type_as(x)).relu().square().mul({n} ** -0.5)",
    "{a}_{n} = [p for n, p in model.named_parameters() if p.ndim >= 2 and '{b}' not in n and p.numel() > {n}]",
    "return {a}",
    "",
)
PRINTS = """
def report(step, total, val_loss, val_bpb, training_time_ms):
    log0(f"step:{step}/{total} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} train_time:{training_time_ms:.0f}ms")
    log0(f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{training_time_ms:.0f}ms")
    log0(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")
"""


def make_source(rng: random.Random, size: int) -> str:
    """Return a script of about `size` bytes that parses and does nothing sensible."""
    parts = [
        "import os\nimport re\nfrom pathlib import Path\n\nimport torch\nimport torch.nn.functional as F\n",
        PRINTS,
    ]
    length = sum(map(len, parts))
    while length < size:
        a, b, c = rng.sample(NAMES, 3)
        lines = ["", f"def {a}_{b}_{rng.randrange(1000)}(self, x, {a}, {b}={rng.random():.3g}, *, {c}=None):"]
        lines.append(f'    """The {a} of every {b}, scaled by {c}."""')
        depth = 1
        for _ in range(rng.randint(4, 30)):
            a, b, c = rng.sample(NAMES, 3)
            if depth < 5 and rng.random() < 0.2:
                opening = rng.choice(("if {a} > {n} and {b} is not None:", "for {a} in range({n}):", "with {a}.{b}():"))
                lines.append(" " * 4 * depth + opening.format(a=a, b=b, n=rng.randrange(512)))
                depth += 1
            body = rng.choice(STATEMENTS).format(a=a, b=b, c=c, n=rng.randrange(1, 4096))
            lines.append(" " * 4 * depth + body if body else "")
            if not body or body[0] == "#":
                lines.append(" " * 4 * depth + f"{a} = {b}")
            elif depth > 1 and rng.random() < 0.3:
                depth -= 1
        parts.append("\n".join(lines) + "\n")
        length += len(parts[-1])
    return "".join(parts)


def header(rng: random.Random) -> str:
    """Return what a run prints about its machine: versions, and a box like nvidia-smi's."""
    rule = "+" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "+\n"
    box = [rule, rule.replace("-", "="), f"|{'GPU  Name':41}|{'Bus-Id':24}|{'Volatile Uncorr. ECC':22}|\n"]
    for gpu in range(8):
        used = rng.randrange(1000, 80000)
        box += [
            f"|   {gpu}  NVIDIA H100 80GB HBM3          On  |   00000000:{rng.randrange(256):02X}:00.0 Off |{'0':>21} |\n",
            f"| N/A   {rng.randrange(25, 60)}C    P0    {rng.randrange(70, 700):>3}W /  700W | {used:>6}MiB /  81559MiB |"
            f"{rng.randrange(100):>5}%      Default |\n",
            f"|{'':41}|{'':24}|{'Disabled':>21} |\n",
            rule,
        ]
    box += [f"|    {i % 8}   N/A  N/A    {rng.randrange(10**5):>6}      C   python3   {i:>5}MiB |\n" for i in range(20)]
    return f"Running Python 3.12.7 (main)\nRunning PyTorch 2.6.0+cu124\nsmi\n{''.join(box)}"


@dataclass(frozen=True, slots=True)
class Written:
    """What a made-up log says at its end."""

    path: Path
    val_loss: float
    val_bpb: float | None
    line: int


def write_labelled(path: Path, rng: random.Random, source: str, size: int) -> Written:
    """Write a log of `size` bytes with labelled final metrics."""
    seed = rng.randrange(10_000)
    facts = (
        "val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/bpe_1024.model\n"
        "train_loader:dataset:web10B shards:80\nval_loader:shards pattern=./data/web_val_*.bin tokens:62021632\n"
        f"model_params:17059912\nworld_size:8 grad_accum_steps:1\nseed:{seed}\n"
    ) + "".join(f"warmup_step:{i}/20\n" for i in range(1, 21))
    val_loss = 2.0 + rng.random() / 10
    val_bpb = 0.592256 * val_loss
    time_ms = 600_000 + rng.randrange(1000)
    ending = (
        f"peak memory allocated: 10184 MiB reserved: 10588 MiB\nSerialized model: 67224983 bytes\n"
        f"Code size: {len(source)} bytes\nTotal submission size: {67224983 + len(source)} bytes\n"
        f"Serialized model int8+zlib: 15815847 bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)\n"
        f"Total submission size int8+zlib: {15815847 + len(source)} bytes\n"
        f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{rng.randrange(999, 9999)}ms\n"
    )
    parts = [source, "\n", "=" * 100, "\n", header(rng), facts]
    room = size - sum(map(len, parts)) - len(ending) - 80
    total = max(20_000, room // 60)
    every = max(1, total * 60 // max(room, 60))
    step = 0
    while room > 0:
        step += every
        timing = f"train_time:{43.5 * step:.0f}ms step_avg:{43.5 + rng.random():.2f}ms"
        loss = 2 + 5 / (1 + step / 500) + rng.random() / 9
        losses = f"val_loss:{loss:.4f} val_bpb:{0.6 * loss:.4f}" if step // every % 4 == 0 else f"train_loss:{loss:.4f}"
        parts.append(f"step:{step}/{total} {losses} {timing}\n")
        room -= len(parts[-1])
    parts += [f"stopping_early: wallclock_cap train_time:{time_ms}ms step:{step}/{total}\n", ending]
    exact = f"{val_loss:.8f}", f"{val_bpb:.8f}"
    parts.append(f"final_int8_zlib_roundtrip_exact val_loss:{exact[0]} val_bpb:{exact[1]}\n")
    text = "".join(parts)
    path.write_text(text)
    return Written(path, float(exact[0]), float(exact[1]), text.count("\n"))


def write_speedrun(path: Path, rng: random.Random, source: str, size: int) -> Written:
    """Write a log of about `size` bytes that ends in a validation."""
    parts = [source, "\n", "=" * 100, "\n", header(rng), "=" * 100, "\n"]
    room = size - sum(map(len, parts))
    total = max(1, room // (44 + 2 * len(str(room // 50))))
    loss = ""
    for step in range(total + 1):
        timing = f"train_time:{69 * step + rng.randrange(60)}ms step_avg:{69 + rng.random():.2f}ms"
        if step % 125 == 0 or step == total:
            loss = f"{3.2 + 7 / (1 + step / 40) + rng.random() / 50:.4f}"
            parts.append(f"step:{step}/{total} val_loss:{loss} {timing}\n")
        else:
            parts.append(f"step:{step}/{total} {timing}\n")
    text = "".join(parts)
    path.write_text(f"{text}peak memory allocated: 31125 MiB reserved: 46794 MiB\n")
    return Written(path, float(loss), None, text.count("\n"))


KINDS: dict[str, tuple[Callable[[Path, random.Random, str, int], Written], int, float]] = {
    # how a log is written, the bytes of its source, and the share of a small log that the source may take
    "labelled": (write_labelled, 55_000, 0.35),
    "speedrun": (write_speedrun, 70_000, 0.45),
}


def make_logs(folder: Path, count: int, kilobytes: int) -> dict[str, list[Written]]:
    """Write `count` logs, the kinds by turns."""
    made: dict[str, list[Written]] = {kind: [] for kind in KINDS}
    sources: dict[str, list[str]] = {}
    for kind, (_, length, share) in KINDS.items():
        rng = random.Random(kind)  # noqa: S311 - the same logs every time
        small = min(length, int(1000 * kilobytes * share))
        sources[kind] = [make_source(rng, small) for _ in range(min(SOURCES, count))]
        ast.parse(sources[kind][0])
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        rng = random.Random(number)  # noqa: S311
        path = folder / f"{number:06}_{kind}.log"
        made[kind].append(KINDS[kind][0](path, rng, rng.choice(sources[kind]), 1000 * kilobytes))
    return made
