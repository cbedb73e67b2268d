"""Train one GPT with one seed and print its exact val_bpb.

    torchrun --standalone --nproc_per_node=8 train_gpt.py        # or plain `python train_gpt.py`

Environment variables configure it (see Settings). It runs on CUDA (nccl) or a CPU (gloo), on 1, 2, 4 or 8 ranks. Every
record holds a copy of this one file: its bytes count in the artifact, and its SHA-256 identifies the program.

A step is 8 micro-batches; each of N ranks takes 8/N of them. So a gradient step is the same on a laptop and on eight
GPUs. The seed sets the initial weights; the order of the data is fixed. Activations are bfloat16 on CUDA, CPU_DTYPE on a
CPU. With DETERMINISTIC=1 a seed gives the same losses to the last bit on one machine and number of ranks.

The result is the loss of the artifact, not of the weights in memory: int8, zlib, written, read back, validated again.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import faulthandler
import io
import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import sentencepiece
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Log = Callable[[str], None]
# torch before 2.13 has the second
all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor

MICRO_BATCHES = 8  # of a step, over all ranks

# -- Settings --

ARCHITECTURE = ("vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_mult")
ARCHITECTURE += ("rope_base", "logit_softcap", "train_seq_len")


class SettingsError(ValueError):
    """A setting that cannot work: names the variable and the value."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every environment variable of the recipe, in lower case. The defaults are the seq4096 recipe."""

    data_path: str = "./data/datasets/fineweb10B_sp1024"
    tokenizer_path: str = "./data/tokenizers/fineweb_1024_bpe.model"
    run_id: str = "final_model"  # of the artifact: RUN_ID.int8.ptz
    seed: int = 1337
    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp_mult: int = 2
    tie_embeddings: bool = True
    tied_embed_init_std: float = 0.005
    rope_base: float = 10000.0
    logit_softcap: float = 30.0
    qk_gain_init: float = 1.5
    train_seq_len: int = 4096
    train_batch_tokens: int = 393216  # of one step, all ranks
    iterations: int = 20000
    warmup_steps: int = 20  # untimed and undone: they prime compilation
    warmdown_iters: int = 3000
    max_wallclock_seconds: float = 600.0  # 0 = no cap
    embed_lr: float = 0.6  # untied embedding only
    head_lr: float = 0.008  # untied head only
    tied_embed_lr: float = 0.030
    matrix_lr: float = 0.020
    scalar_lr: float = 0.020
    muon_momentum: float = 0.99
    muon_momentum_warmup_start: float = 0.92
    muon_momentum_warmup_steps: int = 1500
    muon_backend_steps: int = 5  # Newton-Schulz iterations
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    grad_clip_norm: float = 0.0  # 0 = no clipping
    val_batch_size: int = 524288  # tokens, all ranks
    val_loss_every: int = 1000  # 0 = only at the end
    train_log_every: int = 200  # 0 = only steps 1-10
    deterministic: bool = False  # no kernel that adds in random order
    cpu_dtype: str = "float32"  # or bfloat16

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the variables that are set; an empty one counts as not set."""
        booleans = {"0": False, "1": True, "false": False, "true": True}
        values = {}
        for field in fields(cls):
            text, kind = env.get(field.name.upper()), type(field.default)
            if not text:
                continue
            try:
                values[field.name] = booleans[text.lower()] if kind is bool else kind(text)
            except (KeyError, ValueError):
                wanted = {bool: "0 or 1", int: "a whole number", float: "a number"}[kind]
                raise SettingsError(f"{field.name.upper()} must be {wanted}, not {text!r}.") from None
        return cls(**values)

    def check(self, world_size: int) -> None:
        """Refuse shapes, batches and rank counts that cannot work."""
        positive = (*ARCHITECTURE, "train_batch_tokens", "val_batch_size", "muon_backend_steps")
        limits = {"beta1": 1, "beta2": 1, "seed": 2**63, "logit_softcap": 1000}  # float32 is too coarse above
        for name, value in asdict(self).items():
            if isinstance(value, str):
                continue
            if not 0 <= value < math.inf:
                raise SettingsError(f"{name.upper()} must be finite and not negative, not {value}.")
            if value == 0 and name in positive:
                raise SettingsError(f"{name.upper()} must be more than 0, not {value}.")
            if value >= limits.get(name, math.inf):
                raise SettingsError(f"{name.upper()} must be less than {limits[name]}, not {value}.")
        if world_size not in (1, 2, 4, 8):
            raise SettingsError(f"WORLD_SIZE={world_size} must be 1, 2, 4 or 8: set --nproc_per_node.")
        if self.cpu_dtype not in ("float32", "bfloat16"):
            raise SettingsError(f"CPU_DTYPE must be float32 or bfloat16, not {self.cpu_dtype!r}.")
        if self.model_dim % (2 * self.num_heads):
            raise SettingsError(f"MODEL_DIM={self.model_dim} must be a multiple of 2 * NUM_HEADS={self.num_heads}.")
        if self.num_heads % self.num_kv_heads:
            raise SettingsError(f"NUM_KV_HEADS={self.num_kv_heads} must divide NUM_HEADS={self.num_heads}.")
        least = MICRO_BATCHES * self.train_seq_len
        sequences = f"{MICRO_BATCHES} sequences of TRAIN_SEQ_LEN={self.train_seq_len} ({least} tokens)"
        if self.train_batch_tokens % least:
            raise SettingsError(f"TRAIN_BATCH_TOKENS={self.train_batch_tokens} must be a multiple of {sequences}.")
        if self.val_batch_size < least:
            raise SettingsError(f"VAL_BATCH_SIZE={self.val_batch_size} must be at least {sequences}.")
        if self.deterministic and self.max_wallclock_seconds > 0:
            raise SettingsError("DETERMINISTIC=1 needs MAX_WALLCLOCK_SECONDS=0: a cap ties the rates to the clock.")
        if Path(self.run_id).name != self.run_id:
            raise SettingsError(f"RUN_ID must be a plain file name, not {self.run_id!r}.")


# -- Data: shards of uint16 tokens, and the bytes of each token --

SHARD_START = (20240520, 1)  # magic, version
SHARD_HEADER = 1024  # bytes: 256 int32, the third is the number of tokens


def open_shard(path: Path) -> np.ndarray:
    """Map one shard's tokens (uint16) into memory; check its header and size."""
    size, header = path.stat().st_size, np.fromfile(path, dtype="<i4", count=3)
    if size < SHARD_HEADER:
        raise SettingsError(f"DATA_PATH holds {path} with {size} bytes; a shard's header alone has {SHARD_HEADER}.")
    if (start := tuple(header[:2].tolist())) != SHARD_START:
        wanted = f"expected magic and version {SHARD_START}; got {start}"
        raise SettingsError(f"DATA_PATH holds {path}, which does not start with a token shard's header ({wanted}).")
    count, present = int(header[2]), (size - SHARD_HEADER) / 2
    if count != present:
        raise SettingsError(f"DATA_PATH holds {path}, whose header says {count} tokens; the file has {present:g}.")
    if count == 0:
        return np.empty(0, dtype="<u2")
    return np.memmap(path, dtype="<u2", mode="r", offset=SHARD_HEADER, shape=(count,))


def open_shards(data_path: str, split: str) -> list[np.ndarray]:
    """Open all shards of a split, in name order."""
    paths = sorted(Path(data_path).glob(f"fineweb_{split}_*.bin"))
    if not paths:
        raise SettingsError(f"DATA_PATH={data_path} holds no file fineweb_{split}_*.bin.")
    try:
        return [open_shard(path) for path in paths]
    except OSError as error:
        raise SettingsError(f"DATA_PATH={data_path} has a shard that cannot be read: {error}.") from None


def check_tokens(tokens: np.ndarray, vocab_size: int, data_path: str) -> None:
    """Refuse a shard written with a larger vocabulary than the model's."""
    if (top := int(tokens.max(initial=0))) >= vocab_size:
        where = f"DATA_PATH={data_path} holds token {top}, outside VOCAB_SIZE={vocab_size}"
        raise SettingsError(f"{where}: it was written with another tokenizer.")


class TokenStream:
    """The training tokens as one endless sequence: shards in name order, again and again."""

    def __init__(self, shards: list[np.ndarray]) -> None:
        self.shards = shards
        self.starts = np.cumsum([0] + [len(shard) for shard in shards])
        self.total = int(self.starts[-1])

    def read(self, position: int, count: int) -> np.ndarray:
        """Return `count` tokens (int64) from `position` on; both wrap around the end."""
        parts = []
        while count > 0:
            at = position % self.total
            index = int(np.searchsorted(self.starts, at, side="right")) - 1
            parts.append(self.shards[index][at - self.starts[index] :][:count])
            position, count = position + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts).astype(np.int64)


def load_tokenizer(settings: Settings) -> sentencepiece.SentencePieceProcessor:
    """Load the SentencePiece model, which must have exactly VOCAB_SIZE pieces."""
    path = Path(settings.tokenizer_path)
    tokenizer = sentencepiece.SentencePieceProcessor()
    try:
        tokenizer.load(str(path))
    except (RuntimeError, OSError):
        raise SettingsError(f"TOKENIZER_PATH={path} is not a SentencePiece model.") from None
    pieces = tokenizer.vocab_size()
    if pieces != settings.vocab_size:
        raise SettingsError(f"VOCAB_SIZE={settings.vocab_size}, but TOKENIZER_PATH={path} has {pieces} pieces.")
    return tokenizer


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """The bytes that each token adds to the text, as three tables of vocabulary size.

    A piece counts its UTF-8 bytes. Its leading U+2581 is one space, which counts unless the token before is silent:
    there SentencePiece added it as a dummy prefix. A byte-fallback piece counts one byte, a silent piece none.
    """

    size: Tensor  # int64: bytes without the mark
    marked: Tensor  # bool: begins with U+2581
    silent: Tensor  # bool: control, unknown or unused

    @classmethod
    def of(cls, tokenizer: sentencepiece.SentencePieceProcessor, device: torch.device) -> TokenBytes:
        count = tokenizer.vocab_size()
        size, marked, silent = [0] * count, [False] * count, [False] * count
        for token in range(count):
            if tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token):
                silent[token] = True
            elif tokenizer.is_byte(token):
                size[token] = 1
            else:
                piece = tokenizer.id_to_piece(token)
                marked[token] = piece.startswith("\u2581")
                size[token] = len(piece.removeprefix("\u2581").encode())
        return cls(*(torch.tensor(table, device=device) for table in (size, marked, silent)))

    def count(self, previous: Tensor, target: Tensor) -> Tensor:
        """Return the bytes of each target token, given the token before it; same shape as `target`."""
        return self.size[target] + (self.marked[target] & ~self.silent[previous])


# -- Model --


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def project(x: Tensor, weight: Tensor) -> Tensor:
    """Apply a linear layer's weight in the type of x; the weight itself stays float32."""
    return F.linear(x, weight.to(x.dtype))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Apply causal attention; each: (batch, heads, length, head_dim), fewer heads in k and v."""
    dtype = q.dtype
    if q.is_cpu and q.size(2) <= 128:  # there the bfloat16 kernel's backward pass takes twice float32's time
        q, k, v = q.float(), k.float(), v.float()
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.size(1) != k.size(1)).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE: turn the halves (a, b) of each head into (a cos + b sin, b cos - a sin).

    x: (batch, length, heads, head_dim); cos, sin: (length, 1, head_dim), the second half of sin negated.
    """
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, -1), sin)


class Attention(nn.Module):
    """Causal grouped-query attention, q and k normalised per head, with a learned gain on q."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = s.num_heads, s.num_kv_heads, s.model_dim // s.num_heads
        kv_dim = self.kv_heads * self.head_dim
        widths = (s.model_dim, kv_dim, kv_dim, s.model_dim)
        self.q, self.k, self.v, self.out = (nn.Linear(s.model_dim, width, bias=False) for width in widths)
        nn.init.zeros_(self.out.weight)
        self.q_gain = nn.Parameter(torch.full((s.num_heads,), s.qk_gain_init))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        weight = torch.cat((self.q.weight, self.k.weight, self.v.weight))  # one product reads x once
        qkv = project(x, weight).view(batch, length, -1, self.head_dim)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        q, k = rotate(rms_norm(qk), cos[:length, None], sin[:length, None]).split((self.heads, self.kv_heads), dim=2)
        q = q * self.q_gain.to(x.dtype)[:, None]
        y = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return project(y.transpose(1, 2).reshape(batch, length, -1), self.out.weight)


class Block(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.stack((torch.ones(s.model_dim), torch.zeros(s.model_dim))))
        self.attn = Attention(s)
        self.attn_scale = nn.Parameter(torch.ones(s.model_dim))
        self.up = nn.Linear(s.model_dim, s.mlp_mult * s.model_dim, bias=False)
        self.down = nn.Linear(s.mlp_mult * s.model_dim, s.model_dim, bias=False)
        nn.init.zeros_(self.down.weight)
        self.mlp_scale = nn.Parameter(torch.ones(s.model_dim))

    def forward(self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        mix = self.mix.to(x.dtype)
        # addcmul(a, b, c) = a + b * c in one kernel
        x = torch.addcmul(mix[0] * x, mix[1], x0)
        x = torch.addcmul(x, self.attn_scale.to(x.dtype), self.attn(rms_norm(x), cos, sin))
        hidden = F.relu(project(rms_norm(x), self.up.weight)).square()
        return torch.addcmul(x, self.mlp_scale.to(x.dtype), project(hidden, self.down.weight))


class GPT(nn.Module):
    """A U of blocks: the first half pushes its outputs, the second adds them back in reverse order."""

    def __init__(self, s: Settings, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.cap, self.dtype = s.logit_softcap, dtype
        self.embed = nn.Embedding(s.vocab_size, s.model_dim)
        if s.tie_embeddings:
            nn.init.normal_(self.embed.weight, std=s.tied_embed_init_std)
        self.embed.to(torch.bfloat16)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.num_layers))
        self.half = s.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.half, s.model_dim))
        self.head = None if s.tie_embeddings else nn.Linear(s.model_dim, s.vocab_size, bias=False)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
        head_dim = s.model_dim // s.num_heads
        frequency = s.rope_base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angle = torch.outer(torch.arange(s.train_seq_len, dtype=torch.float32), frequency)
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self.register_buffer("cos", torch.cat((cos, cos), dim=1), persistent=False)  # each (TRAIN_SEQ_LEN, head_dim)
        self.register_buffer("sin", torch.cat((sin, -sin), dim=1), persistent=False)

    def compile_halves(self) -> None:
        self.front = torch.compile(self.front, dynamic=False, fullgraph=True)
        self.back = torch.compile(self.back, dynamic=False, fullgraph=True)

    def front(self, tokens: Tensor) -> list[Tensor]:
        """Return the normalised embedding and the outputs of the first half."""
        states = [rms_norm(F.embedding(tokens, self.embed.weight.to(self.dtype)))]
        for block in self.blocks[: self.half]:
            states.append(block(states[-1], states[0], self.cos, self.sin))
        return states

    def back(self, states: list[Tensor], targets: Tensor) -> Tensor:
        x0, stack = states[0], states[1:]  # torch.compile before 2.13 makes `x0, *stack` a tuple
        x = states[-1]
        for index, block in enumerate(self.blocks[self.half :]):
            if stack:
                x = torch.addcmul(x, self.skip_weights[index].to(x.dtype), stack.pop())
            x = block(x, x0, self.cos, self.sin)
        logits = project(rms_norm(x), self.embed.weight if self.head is None else self.head.weight)
        # cap * tanh(x / cap) = 2 * cap * sigmoid(2 * x / cap) - cap: faster on a CPU, and the shift changes no loss
        capped = (logits.flatten(0, 1).float() * (2 / self.cap)).sigmoid_() * (2 * self.cap)
        return F.cross_entropy(capped, targets.flatten(), reduction="none")

    def forward(self, tokens: Tensor, targets: Tensor, at_seam: Callable[[], None] | None = None) -> Tensor:
        """Return each target's loss in nats: flat, float32. `tokens` and `targets` are (batch, length).

        The backward pass calls `at_seam` once the second half's gradients are complete, except a tied embedding's.
        """
        states = self.front(tokens)
        if at_seam is not None:
            states[-1].register_hook(lambda _: at_seam())
        return self.back(states, targets)


# -- Gradients --


class Gradients:
    """The gradients of a step in one flat float32 buffer: one all-reduce for each half of the model.

    `early` is the second half, whose gradients are complete first. `late` is the rest, with the embedding and the loss.
    `add` moves every `grad` here in few kernels; autograd itself would need one for each parameter.
    """

    def __init__(self, model: GPT) -> None:
        back = [*model.blocks[model.half :].parameters(), model.skip_weights]
        back += [model.head.weight] if model.head is not None else []
        parameters = [*back, *model.blocks[: model.half].parameters(), model.embed.weight]
        sizes = [p.numel() for p in parameters]
        self.flat = torch.zeros(sum(sizes) + 1, device=model.embed.weight.device)
        *views, self.loss = self.flat.split([*sizes, 1])
        self.views = {p: view.view_as(p) for p, view in zip(parameters, views, strict=True)}
        early = sum(p.numel() for p in back)
        self.early, self.late = self.flat[:early], self.flat[early:]
        self.early_sum: dist.Work | None = None

    def add(self) -> None:
        """Add what the backward pass has left so far."""
        ready = [p for p in self.views if p.grad is not None]
        torch._foreach_add_([self.views[p] for p in ready], [p.grad.float() for p in ready])
        for p in ready:
            p.grad = None

    def reduce_early(self) -> None:
        """Start to sum the second half over the ranks, during the first's backward pass."""
        self.add()
        self.early_sum = dist.all_reduce(self.early, async_op=True)

    def reduce(self, clip_norm: float) -> None:
        """Sum the rest over the ranks, clip if asked, and give each parameter its gradient."""
        if self.early_sum is not None:
            dist.all_reduce(self.late)
            self.early_sum.wait()
            self.early_sum = None
        if clip_norm > 0:
            gradients = self.flat[:-1]  # without the loss
            gradients.mul_((clip_norm / (gradients.norm() + 1e-6)).clamp(max=1.0))
        for p, view in self.views.items():
            p.grad = view.to(p.dtype)


# -- Optimizers --


def orthogonalise(g: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Run a quintic Newton-Schulz iteration towards the nearest semi-orthogonal matrix. g: (count, rows, cols).

    Its coefficients trade exactness for speed: singular values end between about 0.7 and 1.2, so bfloat16 is enough.
    Source: Jordan et al. 2024, Muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def deal(matrices: list[nn.Parameter], ranks: int) -> list[list[nn.Parameter]]:
    """Share the matrices among the ranks by cost: the costliest first, each to the least loaded rank."""

    def work(p: nn.Parameter) -> int:
        short, long = sorted(p.shape)
        return 2 * short * short * long + short**3  # of one iteration

    shares = [[] for _ in range(ranks)]
    for p in sorted(matrices, key=work, reverse=True):
        min(shares, key=lambda share: sum(map(work, share))).append(p)
    return [sorted(share, key=lambda p: p.shape) for share in shares]


class Muon:
    """Nesterov momentum, orthogonalised. Each rank updates its share of the matrices; one all-gather shares the results."""

    def __init__(
        self, matrices: list[nn.Parameter], steps: int, rank: int, world_size: int, dtype: torch.dtype
    ) -> None:
        self.steps, self.dtype, self.world_size = steps, dtype, world_size
        device = matrices[0].device
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if device.type == "cuda" else orthogonalise
        # each: a rank, its matrices of one shape, their span in its updates
        self.groups = []
        for owner, share in enumerate(deal(matrices, world_size)):
            start = 0
            for shape, same in itertools.groupby(share, key=lambda p: p.shape):
                group = list(same)
                span = slice(start, start + len(group) * shape.numel())
                self.groups.append((owner, group, span))
                start = span.stop
        longest = max(span.stop for *_, span in self.groups)
        self.updates = torch.zeros(world_size, longest, dtype=dtype, device=device)
        self.mine = self.updates[0] if world_size == 1 else self.updates[0].clone()
        # this rank's groups, with their momentum
        self.own = [
            (group, span, torch.zeros(len(group), *group[0].shape, device=device))
            for owner, group, span in self.groups
            if owner == rank
        ]

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        for group, span, buffer in self.own:
            g = torch.stack([p.grad for p in group])
            buffer.mul_(momentum).add_(g)
            g.add_(buffer, alpha=momentum)
            self.mine[span] = self.orthogonalise(g, self.steps, self.dtype).flatten()
        if self.world_size > 1:  # as bytes: some gloo builds lack bfloat16
            all_gather(self.updates.view(torch.uint8).view(-1), self.mine.view(torch.uint8))
        for owner, group, span in self.groups:
            rows, cols = group[0].shape
            updates = self.updates[owner, span].float().view(-1, rows, cols).unbind()
            torch._foreach_add_(group, updates, alpha=-lr * max(1.0, rows / cols) ** 0.5)


def lr_scale(s: Settings, step: int, elapsed_ms: float) -> float:
    """Return the learning rates' factor: 1, then linear to 0 over WARMDOWN_ITERS steps or, under a cap, their mean time."""
    if s.max_wallclock_seconds > 0:
        remaining = 1000.0 * s.max_wallclock_seconds - elapsed_ms
        warmdown = s.warmdown_iters * elapsed_ms / max(step, 1)
    else:
        remaining, warmdown = s.iterations - step, s.warmdown_iters
    return min(1.0, max(remaining, 0.0) / max(warmdown, 1e-9))


def muon_momentum(s: Settings, step: int) -> float:
    """Return the momentum, which rises linearly from the warm-up start to its final value."""
    share = min(step / s.muon_momentum_warmup_steps, 1.0) if s.muon_momentum_warmup_steps > 0 else 1.0
    return (1 - share) * s.muon_momentum_warmup_start + share * s.muon_momentum


# -- Artifact: int8 + zlib --

FLOAT_MAX_ELEMENTS = 65536  # larger tensors become int8
INT8_CLIP_QUANTILE = 0.9999984  # of absolute values, a row
CONTROL_TENSORS = ("attn_scale", "mlp_scale", "mix", "q_gain", "skip_weights")
ARTIFACT_SETTINGS = (*ARCHITECTURE, "tie_embeddings", "val_batch_size")


def quantise(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Pack large matrices as int8 with a scale a row, other large tensors with one; the rest float16, CONTROL_TENSORS float32."""
    packed = {"int8": {}, "scale": {}, "float": {}}
    for name, value in state.items():
        t = value.float()
        if t.numel() <= FLOAT_MAX_ELEMENTS:
            control = name.rsplit(".", 1)[-1] in CONTROL_TENSORS
            packed["float"][name] = t.clone() if control else t.half()
            continue
        rows = t if t.ndim == 2 else t.reshape(1, -1)
        clip = torch.quantile(rows.abs(), INT8_CLIP_QUANTILE, dim=1, keepdim=True)
        scale = (clip / 127.0).clamp(min=1.0 / 127.0)
        codes = torch.round(rows.clamp(-clip, clip) / scale).clamp(-127, 127)
        packed["int8"][name] = codes.to(torch.int8).view_as(t)
        packed["scale"][name] = scale.squeeze(1).half()
    return packed


def dequantise(packed: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Restore the state dict in float32."""
    state = {name: t.float() for name, t in packed["float"].items()}
    for name, t in packed["int8"].items():
        scale = packed["scale"][name].float()
        state[name] = t.float() * (scale[:, None] if t.ndim == 2 else scale)
    return state


def payload_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def torch_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes, keep: bool = True) -> None:
    """Write a file that appears complete or not at all. Without `keep`, only find out if that would work."""
    unfinished = path.with_name(path.name + ".partial")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            unfinished.replace(path)
        elif path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def rescue(path: Path, floats: bytes) -> str:
    """Write the float weights next to the artifact, or else in a temporary folder; say where they are."""
    for find in (os.getcwd, tempfile.mkdtemp):
        with contextlib.suppress(OSError):
            rescued = Path(find(), f"{path}.float.pt")
            write_whole(rescued, floats)
            return f"The float weights are in {rescued}: torch.load reads them."
    return "No folder takes the float weights either."


# -- Validation --


CPU_TOKENS = 1024  # in one pass on a CPU: activations stay in cache


class Validation:
    """The whole validation split in windows of TRAIN_SEQ_LEN without overlap.

    Rank r of N takes the batches r, r + N, ...; the last is padded to the shape of the others.
    """

    def __init__(self, s: Settings, token_bytes: TokenBytes, device: torch.device, rank: int, world_size: int) -> None:
        tokens = np.concatenate(open_shards(s.data_path, "val"))
        self.windows = (len(tokens) - 1) // s.train_seq_len
        if self.windows < 1:
            what = f"DATA_PATH={s.data_path} holds {len(tokens)} validation tokens"
            raise SettingsError(f"{what}, too few for one window of TRAIN_SEQ_LEN={s.train_seq_len} and its target.")
        check_tokens(tokens, s.vocab_size, s.data_path)
        self.tokens = self.windows * s.train_seq_len
        self.seq_len, self.token_bytes, self.rank, self.world_size = s.train_seq_len, token_bytes, rank, world_size
        batch_tokens = s.val_batch_size // MICRO_BATCHES
        if device.type == "cpu":
            batch_tokens = min(batch_tokens, CPU_TOKENS)
        self.batch = min(max(batch_tokens // s.train_seq_len, 1), self.windows)  # windows
        flat = torch.from_numpy(tokens[: self.tokens + 1].astype(np.int64)).to(device)
        self.flat = F.pad(flat, (0, (-self.windows % self.batch) * s.train_seq_len))

    @torch.no_grad()
    def run(self, model: nn.Module) -> tuple[float, float]:
        """Return val_loss (nats a token) and val_bpb (bits a byte), summed in float64 over all ranks."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.flat.device)  # nats, bytes
        inputs, targets = self.flat[:-1].view(-1, self.seq_len), self.flat[1:].view(-1, self.seq_len)
        for first in range(self.rank * self.batch, self.windows, self.world_size * self.batch):
            x, y = inputs[first : first + self.batch], targets[first : first + self.batch]
            real = min(self.windows - first, self.batch) * self.seq_len
            nats = model(x, y)[:real]
            sums[0] += nats.double().sum()
            sums[1] += self.token_bytes.count(x.flatten()[:real], y.flatten()[:real]).sum()
        if self.world_size > 1:
            dist.all_reduce(sums)
        nats_total, bytes_total = sums.tolist()
        if not math.isfinite(nats_total):
            raise DivergedError(f"The validation loss is {nats_total}: the run has diverged.")
        return nats_total / self.tokens, nats_total / math.log(2) / bytes_total


# -- Machine --

ATTENTION = ("cudnn", "flash", "mem_efficient", "math")


def best_ms(call: Callable[[], None]) -> float:
    """Return the least of six times: the first call warms up."""
    times = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(1000.0 * (time.perf_counter() - start))
    return min(times)


def choose_attention(s: Settings, device: torch.device) -> str:
    """Time one layer's attention, forward and backward, by each kernel; enable rank 0's fastest; describe all."""
    heads, head_dim = (s.num_heads, s.num_kv_heads, s.num_kv_heads), s.model_dim // s.num_heads
    shape = (s.train_batch_tokens // MICRO_BATCHES // s.train_seq_len, s.train_seq_len)
    qkv = torch.randn(*shape, sum(heads), head_dim, device=device).bfloat16().requires_grad_()
    gradient = torch.randn(*shape, s.num_heads, head_dim, device=device).bfloat16()
    tries = ATTENTION[1:] if s.train_seq_len % 128 else ATTENTION  # cudnn before 9.15 errs at other lengths
    if s.deterministic:
        tries = ("flash", "math")  # the others add in random order

    def enable(name: str) -> None:
        for each in ATTENTION:
            getattr(torch.backends.cuda, f"enable_{each}_sdp")(each == name)

    def layer() -> None:
        q, k, v = (part.transpose(1, 2) for part in qkv.split(heads, dim=2))  # strided as in the model
        attend(q, k, v).transpose(1, 2).backward(gradient)

    times, said = {}, []
    for name in tries:
        enable(name)
        try:
            times[name] = best_ms(layer)
            said.append(f"{name} {times[name]:.3f} ms")
        except RuntimeError as error:
            said.append(f"{name} cannot run: {str(error).partition(chr(10))[0]}")
    if not times:
        raise SettingsError(f"No attention kernel can run here: {', '.join(said)}.")
    chosen = [min(times, key=times.get)]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)
    enable(chosen[0])
    torch.compiler.config.cache_key_tag = chosen[0]  # reuse no graph compiled for another kernel
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return f"Attention by {chosen[0]} ({', '.join(said)})"


def keep_freed_memory() -> None:
    """Stop glibc from returning freed memory: Linux would zero every activation's pages again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(option, 32 << 20)


# -- The run --


class Trainer:
    """Model, optimizers, data and training step of one rank."""

    def __init__(self, s: Settings, rank: int, world_size: int, device: torch.device, dtype: torch.dtype) -> None:
        self.s, self.rank, self.world_size, self.device = s, rank, world_size, device
        self.step_tokens = s.train_batch_tokens // world_size  # of this rank
        shards = open_shards(s.data_path, "train")
        check_tokens(shards[0], s.vocab_size, s.data_path)
        self.train_shards, self.stream = len(shards), TokenStream(shards)
        if self.stream.total <= s.train_seq_len:
            what = f"DATA_PATH={s.data_path} holds {self.stream.total} training tokens"
            raise SettingsError(f"{what}, too few for one sequence of TRAIN_SEQ_LEN={s.train_seq_len}.")
        self.validation = Validation(s, TokenBytes.of(load_tokenizer(s), device), device, rank, world_size)

        torch.manual_seed(s.seed)
        self.model = model = GPT(s, dtype).to(device)  # built on the CPU: one seed, the same weights everywhere
        if device.type == "cuda":
            model.compile_halves()
        self.gradients = Gradients(model)
        matrices = [layer.weight for layer in model.blocks.modules() if isinstance(layer, nn.Linear)]
        self.muon = Muon(matrices, s.muon_backend_steps, rank, world_size, dtype)
        in_muon = set(matrices)
        vectors = [model.skip_weights, *(p for p in model.blocks.parameters() if p not in in_muon)]
        embed_lr = s.tied_embed_lr if s.tie_embeddings else s.embed_lr
        rates = [([model.embed.weight], embed_lr), (vectors, s.scalar_lr)]
        rates += [([model.head.weight], s.head_lr)] if model.head is not None else []
        groups = [{"params": own, "base_lr": lr} for own, lr in rates]
        self.adam = torch.optim.Adam(groups, betas=(s.beta1, s.beta2), eps=s.adam_eps, fused=True)
        self.passes = MICRO_BATCHES // world_size  # a CPU merges small micro-batches
        while device.type == "cpu" and self.passes > 1 and self.step_tokens // self.passes < CPU_TOKENS:
            self.passes //= 2
        self.ahead = 0, self.batch(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this rank's inputs and targets of a step: (passes, sequences, TRAIN_SEQ_LEN) each."""
        s = self.s
        span = self.stream.read(step * s.train_batch_tokens + self.rank * self.step_tokens, self.step_tokens + 1)
        check_tokens(span, s.vocab_size, s.data_path)
        tokens = torch.from_numpy(span)
        if self.device.type == "cuda":
            tokens = tokens.pin_memory().to(self.device, non_blocking=True)
        shape = (self.passes, -1, s.train_seq_len)
        return tokens[:-1].view(shape), tokens[1:].view(shape)

    def step(self, step: int, scale: float) -> None:
        """Take one gradient step. Then `gradients.loss` is the mean loss over all ranks."""
        s, gradients = self.s, self.gradients
        if self.ahead[0] != step:
            self.ahead = step, self.batch(step)
        gradients.flat.zero_()
        self.model.zero_grad()
        inputs, targets = self.ahead[1]
        for i in range(self.passes):
            last = i == self.passes - 1
            at_seam = gradients.reduce_early if last and self.world_size > 1 else None
            loss = self.model(inputs[i], targets[i], at_seam).mean() / (self.passes * self.world_size)
            loss.backward()
            gradients.add()
            gradients.loss += loss.detach()
        gradients.reduce(s.grad_clip_norm)
        for group in self.adam.param_groups:
            group["lr"] = group["base_lr"] * scale
        self.adam.step()
        self.muon.step(s.matrix_lr * scale, muon_momentum(s, step))
        if step + 1 < s.iterations:
            self.ahead = step + 1, self.batch(step + 1)  # read while the device works

    def check_room(self) -> None:
        """Write the float weights and remove them, to find a full disk before training is paid for."""
        content, where = torch_bytes(self.model.state_dict()), "."
        try:
            where = os.getcwd()
            write_whole(Path(f"{self.s.run_id}.int8.ptz"), content, keep=False)
        except OSError as error:
            what = f"The working directory {where} cannot take the weights ({len(content)} bytes): {error}"
            raise SettingsError(f"{what}. Make room, or start in another folder.") from None

    def warm_up(self, log: Log) -> None:
        """Take real steps that prime compilation and memory, then restore the start."""
        saved = {name: t.clone() for name, t in self.model.state_dict().items()}
        for step in range(self.s.warmup_steps):
            self.step(step, 1.0)
            log(f"warmup_step:{step + 1}/{self.s.warmup_steps}")
        self.model.load_state_dict(saved)
        for *_, momentum in self.muon.own:
            momentum.zero_()
        self.adam.state.clear()
        self.gradients.loss.item()  # waits for the device
        if self.world_size > 1:
            dist.barrier()

    def train(self, log: Log) -> None:
        """Train to the last step or the cap. The time of validation does not count."""
        s, total, cap_ms = self.s, self.s.iterations, 1000.0 * self.s.max_wallclock_seconds
        step, elapsed_ms, spent = 0, 0.0, "train_time:0ms step_avg:0.00ms"
        began = time.perf_counter()
        while True:
            done = step == total or 0 < cap_ms <= elapsed_ms
            if done or (s.val_loss_every > 0 and step % s.val_loss_every == 0):
                paused = time.perf_counter()
                val_loss, val_bpb = self.validation.run(self.model)
                log(f"step:{step}/{total} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} {spent}")
                began += time.perf_counter() - paused
            if done:
                break
            self.step(step, lr_scale(s, step, elapsed_ms))
            step += 1
            loss = float(self.gradients.loss)  # waits for the device
            if not math.isfinite(loss):
                raise DivergedError(f"The training loss at step {step} is {loss}: the run has diverged.")
            clock = torch.tensor(1000.0 * (time.perf_counter() - began), dtype=torch.float64, device=self.device)
            if self.world_size > 1:  # the slowest rank's time, so that all decide alike
                dist.all_reduce(clock, dist.ReduceOp.MAX)
            elapsed_ms = float(clock)
            spent = f"train_time:{elapsed_ms:.0f}ms step_avg:{elapsed_ms / step:.2f}ms"
            if step <= 10 or (s.train_log_every > 0 and step % s.train_log_every == 0):
                log(f"step:{step}/{total} train_loss:{loss:.4f} {spent}")
        if step < total:
            log(f"stopping_early: wallclock_cap train_time:{elapsed_ms:.0f}ms step:{step}/{total}")

    def finish(self, log: Log, code_bytes: int) -> None:
        """Write the artifact, read it back and validate that: this is the result."""
        s = self.s
        if self.device.type == "cuda":
            allocated, reserved = torch.cuda.max_memory_allocated() >> 20, torch.cuda.max_memory_reserved() >> 20
        else:  # the process's peak resident size, for both
            unit = 20 if sys.platform == "darwin" else 10
            allocated = reserved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> unit
        log(f"peak memory allocated: {allocated} MiB reserved: {reserved} MiB")
        path = Path(f"{s.run_id}.int8.ptz")
        if self.rank == 0:
            state = {name: t.cpu() for name, t in self.model.state_dict().items()}
            floats = torch_bytes(state)
            log(f"Serialized model: {len(floats)} bytes")
            log(f"Code size: {code_bytes} bytes")
            log(f"Total submission size: {len(floats) + code_bytes} bytes")
            kept = {name: getattr(s, name) for name in ARTIFACT_SETTINGS}
            kept["dtype"] = str(self.model.dtype).removeprefix("torch.")
            try:
                packed = quantise(state)
                raw = torch_bytes({"settings": kept, **packed})
                compressed = zlib.compress(raw, 9)
                write_whole(path, compressed)
            except Exception as error:
                raise SystemExit(f"train_gpt.py: {path} failed: {error!r}. {rescue(path, floats)}") from None
            payload = sum(payload_bytes(part) for part in packed.values())
            ratios = f"payload:{payload} raw_torch:{len(raw)} payload_ratio:{payload_bytes(state) / payload:.2f}x"
            log(f"Serialized model int8+zlib: {len(compressed)} bytes ({ratios})")
            log(f"Total submission size int8+zlib: {len(compressed) + code_bytes} bytes")
            log(f"artifact:{path}")
        if self.world_size > 1:
            dist.barrier()
        content = io.BytesIO(zlib.decompress(path.read_bytes()))
        self.model.load_state_dict(dequantise(torch.load(content, map_location="cpu", weights_only=True)))
        start = time.perf_counter()
        val_loss, val_bpb = self.validation.run(self.model)
        eval_ms = 1000.0 * (time.perf_counter() - start)
        log(f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{eval_ms:.0f}ms")
        log(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")


def log_machine(log: Log, choice: str) -> None:
    log(f"Running Python {sys.version}")
    log(f"Running PyTorch {torch.__version__}")
    if torch.cuda.is_available():
        try:
            log(subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60, check=False).stdout)
        except (OSError, subprocess.TimeoutExpired) as error:
            log(f"nvidia-smi: {error}")
    log(choice)


def log_settings(log: Log, t: Trainer) -> None:
    s = t.s
    embed_lr, head_lr = (s.tied_embed_lr, 0.0) if s.tie_embeddings else (s.embed_lr, s.head_lr)
    log(f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={s.tokenizer_path}")
    log(f"train_loader:dataset:{Path(s.data_path).resolve().name} train_shards:{t.train_shards}")
    log(f"val_loader:shards pattern={Path(s.data_path) / 'fineweb_val_*.bin'} tokens:{t.validation.tokens}")
    log(f"model_params:{sum(p.numel() for p in t.model.parameters())}")
    log(f"world_size:{t.world_size} grad_accum_steps:{MICRO_BATCHES // t.world_size}")
    log(f"attention_mode:gqa num_heads:{s.num_heads} num_kv_heads:{s.num_kv_heads}")
    log(
        f"tie_embeddings:{s.tie_embeddings} embed_lr:{embed_lr} head_lr:{head_lr} "
        f"matrix_lr:{s.matrix_lr} scalar_lr:{s.scalar_lr}"
    )
    log(
        f"train_batch_tokens:{s.train_batch_tokens} train_seq_len:{s.train_seq_len} iterations:{s.iterations} "
        f"warmup_steps:{s.warmup_steps} max_wallclock_seconds:{s.max_wallclock_seconds:.3f}"
    )
    log(f"seed:{s.seed}")


def run(rank: int, world_size: int, local_rank: int) -> None:
    cuda = torch.cuda.is_available()
    settings = Settings.from_env(os.environ)
    settings.check(world_size)
    if cuda and local_rank >= torch.cuda.device_count():
        raise SettingsError(f"LOCAL_RANK={local_rank} has no GPU: this machine has {torch.cuda.device_count()}.")
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if cuda:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    if world_size > 1:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    if cuda:
        dtype, choice = torch.bfloat16, choose_attention(settings, device)
    else:
        keep_freed_memory()
        dtype = getattr(torch, settings.cpu_dtype)
        choice = f"Running on CPU in {settings.cpu_dtype} on {torch.get_num_threads()} threads a rank"
    trainer = Trainer(settings, rank, world_size, device, dtype)
    if rank == 0:
        trainer.check_room()
    source = Path(__file__).read_bytes()

    def log(line: str) -> None:
        if rank == 0:
            print(line, flush=True)

    log(source.decode())
    log("=" * 100)
    if rank == 0:
        log_machine(log, choice)
    log("=" * 100)
    log_settings(log, trainer)
    trainer.warm_up(log)
    trainer.train(log)
    trainer.finish(log, len(source))
    if world_size > 1:
        # no teardown: gloo's threads sometimes abort in it
        dist.barrier()
        os._exit(0)


def ranks(env: Mapping[str, str]) -> tuple[int, int, int]:
    """Return RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them; without it there is one rank."""
    found = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_PORT": "0"}
    found |= {name: env[name] for name in found if env.get(name)}
    for name, text in found.items():
        if not text.isdecimal():
            raise SettingsError(f"{name} must be a whole number, not {text!r}.")
    rank, world_size, local_rank, _ = map(int, found.values())
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if world_size > 1 and not env.get(name):
            raise SettingsError(f"WORLD_SIZE={world_size} needs {name}, which is not set: start with torchrun.")
    if rank >= world_size:
        raise SettingsError(f"RANK={rank} must be less than WORLD_SIZE={world_size}.")
    return rank, world_size, local_rank


def end_by_sigterm() -> None:
    """Log a last line at SIGTERM, then end by it. In a thread: the main one may wait for a GPU."""
    told, tell = os.pipe()
    faulthandler.register(signal.SIGTERM, tell, False)  # writes at once
    os.read(told, 1)
    with contextlib.suppress(OSError):
        os.write(1, b"terminated: SIGTERM\n")
    faulthandler.unregister(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    rank = 0
    try:
        rank, world_size, local_rank = ranks(os.environ)
        if rank == 0:
            _thread.start_new_thread(end_by_sigterm, ())
        run(rank, world_size, local_rank)
    except (SettingsError, DivergedError, torch.OutOfMemoryError) as error:
        said = str(error)
        if isinstance(error, torch.OutOfMemoryError):
            said = f"A GPU's memory ran out. Lower TRAIN_BATCH_TOKENS, or VAL_BATCH_SIZE if it was validating. {said}"
        elif rank > 0:
            time.sleep(10)  # rank 0 says it once; torchrun then ends the others
        print(f"train_gpt.py: {said}", file=sys.stderr, flush=True)
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from None


if __name__ == "__main__":
    main()
