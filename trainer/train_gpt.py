"""Train one GPT with one seed and print its exact val_bpb.

    torchrun --standalone --nproc_per_node=8 train_gpt.py        # or plain `python train_gpt.py`

Environment variables configure it (see Settings). It runs on CUDA (nccl) or a CPU (gloo), on 1, 2, 4 or 8 ranks.
It is one file and needs only torch, numpy and sentencepiece, because every record holds a copy: its bytes count in
the artifact, and its SHA-256 identifies the program.

A step always works on 8 slots of tokens; each of N ranks takes 8/N of them. So a gradient step is the same on a laptop
and on eight GPUs. The seed sets the initial weights; the order of the data is fixed (shards in name order). On CUDA the
activations are bfloat16, on a CPU of type CPU_DTYPE. With DETERMINISTIC=1 a seed gives the same losses to the last bit
on one machine and number of ranks.

The result is the loss of the artifact, not of the weights in memory: int8 weights, zlib, written, read back,
dequantised and validated again.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import sentencepiece
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Log = Callable[[str], None]
all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # its name before torch 2.13

NEAR_CAP_STEPS = 4  # so near the cap the device is synchronised before the clock is read
CPU_DTYPES = ("float32", "bfloat16")
SLOTS = 8  # micro-batches in one gradient step, over all ranks
RULER = "=" * 100

# -- Settings --


class SettingsError(ValueError):
    """A setting that cannot work: one sentence names the variable and the values."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every environment variable of the recipe, in lower case. The defaults are the seq4096 recipe."""

    data_path: str = "./data/datasets/fineweb10B_sp1024"
    tokenizer_path: str = "./data/tokenizers/fineweb_1024_bpe.model"
    run_id: str = "final_model"  # names the artifact file: RUN_ID.int8.ptz
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
    warmup_steps: int = 20
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
    muon_backend_steps: int = 5
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    grad_clip_norm: float = 0.0  # 0 = no clipping
    val_batch_size: int = 524288  # tokens, all ranks
    val_loss_every: int = 1000  # 0 = only at the end
    train_log_every: int = 200  # 0 = only steps 1-10
    deterministic: bool = False  # flash attention on CUDA, no kernel that adds in random order
    cpu_dtype: str = "float32"  # or bfloat16; never chosen by a clock, so that all runs of a sweep compute alike

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the variables that are set; an empty one counts as not set."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            text, kind = env.get(field.name.upper(), ""), type(field.default)
            read = {"0": False, "1": True, "false": False, "true": True}.__getitem__ if kind is bool else kind
            try:
                if text:
                    values[field.name] = read(text.lower() if kind is bool else text)
            except (KeyError, ValueError):
                wanted = {bool: "0 or 1", int: "a whole number", float: "a number"}[kind]
                raise SettingsError(f"{field.name.upper()} must be {wanted}, not {text!r}.") from None
        return cls(**values)

    def check(self, world_size: int) -> None:
        """Refuse shapes, batches and rank counts that cannot work, before anything is built."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.type != "str"}
        counts = ("vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_mult", "train_seq_len")
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise SettingsError(f"{name.upper()} must be a finite number, not {value}.")
            if value < 0:
                raise SettingsError(f"{name.upper()} must not be negative, got {value}.")
            if value < 1 and name in (*counts, "train_batch_tokens", "val_batch_size", "muon_backend_steps"):
                raise SettingsError(f"{name.upper()} must be at least 1, not {value}.")
            if value >= 1 and name in ("beta1", "beta2"):
                raise SettingsError(f"{name.upper()} must be less than 1, not {value}.")
        s, unit = self, SLOTS * self.train_seq_len
        sequences = f"{SLOTS} sequences of TRAIN_SEQ_LEN={s.train_seq_len} ({unit} tokens)"
        cap, shape = s.max_wallclock_seconds, f"MODEL_DIM={s.model_dim} does not split into NUM_HEADS={s.num_heads}"
        for bad, sentence in (
            (
                world_size not in (1, 2, 4, 8),
                f"WORLD_SIZE={world_size} does not divide {SLOTS}: set --nproc_per_node to 1, 2, 4 or 8.",
            ),
            (s.cpu_dtype not in CPU_DTYPES, f"CPU_DTYPE must be float32 or bfloat16, not {s.cpu_dtype!r}."),
            (s.seed >= 2**63, f"SEED must be less than 2^63, not {s.seed}."),
            (s.logit_softcap == 0, "LOGIT_SOFTCAP must be more than 0, got 0.0."),
            (s.model_dim % (2 * s.num_heads), f"{shape} heads of an even size."),
            (s.num_heads % s.num_kv_heads, f"NUM_KV_HEADS={s.num_kv_heads} does not divide NUM_HEADS={s.num_heads}."),
            (
                s.train_batch_tokens % unit,
                f"TRAIN_BATCH_TOKENS={s.train_batch_tokens} is not a multiple of {sequences}.",
            ),
            (s.val_batch_size < unit, f"VAL_BATCH_SIZE={s.val_batch_size} is smaller than {sequences}."),
            (
                s.deterministic and cap > 0,
                f"DETERMINISTIC=1 needs MAX_WALLCLOCK_SECONDS=0, not {cap}: a cap ties the schedule to the clock.",
            ),
            (Path(s.run_id).name != s.run_id, f"RUN_ID must be a plain file name, not {s.run_id!r}."),
        ):
            if bad:
                raise SettingsError(sentence)


# -- Data: shards of uint16 tokens, and the bytes of each token --

SHARD_MAGIC, SHARD_VERSION, SHARD_HEADER_INTS = 20240520, 1, 256


def open_shard(path: Path) -> np.ndarray:
    """Map one shard's tokens (uint16) into memory after checking its header against its size."""
    header_bytes = 4 * SHARD_HEADER_INTS
    size = path.stat().st_size
    header = np.fromfile(path, dtype="<i4", count=3)
    if size < header_bytes:
        raise SettingsError(f"DATA_PATH holds {path} with {size} bytes; a shard's header alone has {header_bytes}.")
    if header[0] != SHARD_MAGIC or header[1] != SHARD_VERSION:
        wanted = f"expected magic {SHARD_MAGIC}, version {SHARD_VERSION}; got {header[:2].tolist()}"
        raise SettingsError(f"DATA_PATH holds {path}, which does not start with a token shard's header ({wanted}).")
    count, present = int(header[2]), (size - header_bytes) / 2
    if size != header_bytes + 2 * count:
        raise SettingsError(f"DATA_PATH holds {path}, whose header says {count} tokens; the file has {present:g}.")
    if count == 0:
        return np.empty(0, dtype="<u2")
    return np.memmap(path, dtype="<u2", mode="r", offset=header_bytes, shape=(count,))


def open_shards(data_path: str, split: str) -> list[np.ndarray]:
    """Open all shards of a split ("train" or "val") in name order."""
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
    """The training tokens as one endless sequence: shards in name order, then from the start again."""

    def __init__(self, shards: list[np.ndarray]) -> None:
        self.shards = shards
        self.starts = np.cumsum([0] + [len(shard) for shard in shards])
        self.total = int(self.starts[-1])

    def read(self, position: int, count: int) -> np.ndarray:
        """Return `count` tokens (int64) from `position` on; both wrap around the end."""
        out = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            at = (position + done) % self.total
            index = int(np.searchsorted(self.starts, at, side="right")) - 1
            part = self.shards[index][at - self.starts[index] :][: count - done]
            out[done : done + len(part)] = part
            done += len(part)
        return out


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

    A piece counts its UTF-8 bytes without the leading U+2581. That mark is one space, and counts unless the token
    before is silent (control, unknown, unused): there SentencePiece added it as a dummy prefix. A byte-fallback piece
    counts one byte, a silent piece none.
    """

    size: Tensor  # int16: bytes without the mark
    marked: Tensor  # bool: begins with U+2581
    silent: Tensor  # bool: control, unknown or unused

    @classmethod
    def of(cls, tokenizer: sentencepiece.SentencePieceProcessor, device: torch.device) -> TokenBytes:
        count = tokenizer.vocab_size()
        size, marked, silent = np.zeros(count, dtype=np.int16), np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        for token in range(count):
            if tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token):
                silent[token] = True
            elif tokenizer.is_byte(token):
                size[token] = 1
            else:
                piece = tokenizer.id_to_piece(token)
                marked[token] = piece.startswith("\u2581")
                size[token] = len(piece.removeprefix("\u2581").encode())
        return cls(*(torch.from_numpy(table).to(device) for table in (size, marked, silent)))

    def count(self, previous: Tensor, target: Tensor) -> Tensor:
        """Return the bytes of each target token, given the token before it; same shape as `target`."""
        return self.size[target].long() + (self.marked[target] & ~self.silent[previous]).long()


# -- Machine: its type, and its fastest kernel, measured at the start --

ATTENTION = ("cudnn", "flash", "mem_efficient", "math")


@dataclass(frozen=True, slots=True)
class Machine:
    """The device and type of one rank, and a line for the log on how they were chosen."""

    device: torch.device
    dtype: torch.dtype = torch.bfloat16  # of activations, matrix products and Muon's iteration
    choice: str = ""

    @classmethod
    def choose(cls, s: Settings, device: torch.device) -> Machine:
        """Choose attention's kernel on CUDA."""
        if device.type == "cuda":
            shape = (s.train_batch_tokens // SLOTS // s.train_seq_len, s.train_seq_len, s.model_dim // s.num_heads)
            heads = (s.num_heads, s.num_kv_heads, s.num_kv_heads)
            q, k, v = (torch.randn(shape[0], n, *shape[1:], device=device).bfloat16().requires_grad_() for n in heads)

            def layer(name: str) -> None:
                for each in ATTENTION:
                    getattr(torch.backends.cuda, f"enable_{each}_sdp")(each == name)
                attend(q, k, v).backward(q.detach())

            usable = ATTENTION[1:] if s.train_seq_len % 128 else ATTENTION  # cudnn before 9.15 errs at other lengths
            tries = {name: partial(layer, name) for name in (("flash", "math") if s.deterministic else usable)}
            best, times = fastest(tries)
            layer(best)  # leaves only this kernel enabled
            torch.compiler.config.cache_key_tag = best  # reuse no graph compiled for another kernel
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return cls(device, choice=f"Attention by {best} ({times})")
        threads = torch.get_num_threads()
        said = f"Running on CPU in {s.cpu_dtype} on {threads} threads a rank"
        return cls(device, getattr(torch, s.cpu_dtype), said)


def fastest(tries: Mapping[str, Callable[[], None]]) -> tuple[str, str]:
    """Return rank 0's fastest, and all times in words.

    A later one must be 1.2 times as fast to win, so that noise does not decide.
    """
    times = dict.fromkeys(tries, math.inf)
    for name, call in tries.items():
        with contextlib.suppress(RuntimeError):  # cannot run here
            for _ in range(6):  # the first also warms up
                start = time.perf_counter()
                call()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                times[name] = min(times[name], time.perf_counter() - start)
    best = next(iter(times))
    for name, seconds in times.items():
        best = name if seconds < times[best] / 1.2 else best
    chosen = [best]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)
    said = (f"{name} {1000 * t:.3f} ms" if t < math.inf else f"{name} cannot run" for name, t in times.items())
    return chosen[0], ", ".join(said)


# -- Model --


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def project(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply in the activations' type; the weight itself stays float32."""
    return F.linear(x, weight.to(x.dtype))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Apply causal attention; each: (batch, heads, length, head_dim), fewer heads in k and v."""
    dtype = q.dtype
    if q.is_cpu and q.size(2) <= 128:  # there the bfloat16 kernel's backward pass takes twice float32's time
        q, k, v = q.float(), k.float(), v.float()
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.size(1) != k.size(1))
    return y.to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding over the two halves of the head. x: (batch, length, heads, head_dim)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


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
        weight = torch.cat((self.q.weight, self.k.weight, self.v.weight))  # one product reads x once, not three times
        qkv = project(x, weight).view(batch, length, -1, self.head_dim)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        q, k = rotate(rms_norm(qk), cos[:length, None], sin[:length, None]).split((self.heads, self.kv_heads), dim=2)
        y = attend(*(each.transpose(1, 2) for each in (q * self.q_gain.to(x.dtype)[:, None], k, v)))
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
        x = torch.addcmul(mix[0] * x, mix[1], x0)
        x = torch.addcmul(x, self.attn_scale.to(x.dtype), self.attn(rms_norm(x), cos, sin))
        hidden = F.relu(project(rms_norm(x), self.up.weight)).square()
        return torch.addcmul(x, self.mlp_scale.to(x.dtype), project(hidden, self.down.weight))


class SoftcapCrossEntropy(torch.autograd.Function):
    """Nats (tokens,) of targets (tokens,) under cap * tanh(logits / cap), logits (tokens, vocabulary), in float32.

    Compiled, both passes read the logits once and store no float32 copy: backward computes the rest again.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, cap: float) -> Tensor:
        capped = (logits.float() / cap).tanh_().mul_(cap)
        total = capped.logsumexp(-1, keepdim=True)
        ctx.save_for_backward(logits, targets, total)
        ctx.cap = cap
        return (total - capped.gather(-1, targets[:, None])).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, total = ctx.saved_tensors
        tanh = (logits.float() / ctx.cap).tanh_()
        share = torch.sub(tanh * ctx.cap, total).exp_()
        share -= (torch.arange(logits.size(-1), device=logits.device) == targets[:, None]).float()
        slope = (1 - tanh.square_()).mul_(gradient[:, None])
        return share.mul_(slope).to(logits.dtype), None, None


class GPT(nn.Module):
    """A U of blocks: the first half pushes its outputs, the second half adds them back in reverse order."""

    def __init__(self, s: Settings, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.settings, self.dtype = s, dtype
        self.embed = nn.Embedding(s.vocab_size, s.model_dim)
        if s.tie_embeddings:
            nn.init.normal_(self.embed.weight, std=s.tied_embed_init_std)
        self.embed.to(torch.bfloat16)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.num_layers))
        self.pushes = s.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(min(self.pushes, s.num_layers - self.pushes), s.model_dim))
        self.head = None if s.tie_embeddings else nn.Linear(s.model_dim, s.vocab_size, bias=False)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
        head_dim = s.model_dim // s.num_heads
        frequency = s.rope_base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angle = torch.outer(torch.arange(s.train_seq_len, dtype=torch.float32), frequency)
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)  # each (TRAIN_SEQ_LEN, head_dim / 2)
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)

    def compile_halves(self) -> None:
        """Compile each half as one graph. At the seam between them the second half's gradients are complete."""
        self.front = torch.compile(self.front, dynamic=False, fullgraph=True)
        self.back = torch.compile(self.back, dynamic=False, fullgraph=True)

    def front(self, tokens: Tensor) -> list[Tensor]:
        """Return the normalised embedding and the outputs of the first half."""
        states = [rms_norm(self.embed(tokens).to(self.dtype))]
        for block in self.blocks[: self.pushes]:
            states.append(block(states[-1], states[0], self.cos, self.sin))
        return states

    def back(self, states: list[Tensor], targets: Tensor) -> Tensor:
        x0, stack = states[0], states[1:]  # torch.compile before 2.13 makes `x0, *stack` a tuple
        x = states[-1]
        for index, block in enumerate(self.blocks[self.pushes :]):
            if stack:
                x = torch.addcmul(x, self.skip_weights[index].to(x.dtype), stack.pop())
            x = block(x, x0, self.cos, self.sin)
        logits = project(rms_norm(x), self.embed.weight if self.head is None else self.head.weight)
        logits, targets, cap = logits.flatten(0, 1), targets.flatten(), self.settings.logit_softcap
        if torch.compiler.is_compiling():
            return SoftcapCrossEntropy.apply(logits, targets, cap)
        # cap * tanh(x / cap) = 2 * cap * sigmoid(2 * x / cap) - cap: faster on a CPU, and the shift changes no loss
        return F.cross_entropy((logits.float() * (2 / cap)).sigmoid_() * (2 * cap), targets, reduction="none")

    def forward(self, tokens: Tensor, targets: Tensor, at_seam: Callable[[], None] | None = None) -> Tensor:
        """Return the nats (batch x length) of `targets` (batch, length) given `tokens` of the same shape, in float32.

        The backward pass calls `at_seam` once it has all gradients of the second half but the tied embedding's.
        """
        states = self.front(tokens)
        if at_seam is not None:
            states[-1].register_hook(lambda _: at_seam())
        return self.back(states, targets)


# -- Parameters and gradients as banks: an all-reduce for each half of the model, one update per shape --


class Banks:
    """The float32 parameters in one flat buffer, and their gradients in another.

    The second half of the model comes first, because its gradients are complete first. In each half, block matrices of
    one shape are adjacent: Muon works on a (count, rows, cols) view. So are the vectors, which Adam sees as one tensor.
    The gradient buffer ends with the bfloat16 embedding's gradient, summed in float32, and SIGNALS numbers that the
    same all-reduce sums: loss and elapsed time.
    """

    SIGNALS = 2

    def __init__(self, model: GPT) -> None:
        self.embed = model.embed.weight
        back = [*model.blocks[model.pushes :].parameters(), model.skip_weights]
        groups: list[tuple[Any, list[nn.Parameter]]] = []  # each is contiguous
        early = 0
        for half in (back, list(model.blocks[: model.pushes].parameters())):
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for p in half:
                # mix (2 x D) is a pair of vectors, not a matrix, and so are the skip weights
                is_matrix = p.ndim == 2 and p.shape[0] > 2 and p is not model.skip_weights
                shapes.setdefault(tuple(p.shape) if is_matrix else (), []).append(p)
            groups += shapes.items()
            if half is back:
                groups += [(None, [model.head.weight])] if model.head is not None else []
                early = sum(p.numel() for _, group in groups for p in group)

        count, device = sum(p.numel() for _, group in groups for p in group), self.embed.device
        self.flat = torch.empty(count, device=device)
        self.grad = torch.zeros(count + self.embed.numel() + self.SIGNALS, device=device)
        self.early, self.late = self.grad[:early], self.grad[early:]
        self.early_sum: dist.Work | None = None
        self.signals = self.grad[-self.SIGNALS :]
        self.embed_sum = self.grad[count : -self.SIGNALS].view_as(self.embed)
        self.embed.grad = torch.zeros_like(self.embed)
        self.matrices: list[tuple[Tensor, Tensor]] = []  # (parameters, gradients), each (count, rows, cols)
        self.vectors: list[nn.Parameter] = []
        at = 0
        for shape, group in groups:
            start = at
            for p in group:
                piece = slice(at, at := at + p.numel())
                self.flat[piece] = p.data.reshape(-1)
                p.data, p.grad = self.flat[piece].view_as(p), self.grad[piece].view_as(p)
            flat, grad = self.flat[start:at], self.grad[start:at]
            if shape:
                self.matrices.append((flat.view(-1, *shape), grad.view(-1, *shape)))
            elif shape == ():
                self.vectors.append(nn.Parameter(flat))
                self.vectors[-1].grad = grad

    def add_embedding(self) -> None:
        """Add a micro-batch's bfloat16 gradient to the sum."""
        self.embed_sum.add_(self.embed.grad)
        self.embed.grad.zero_()

    def reduce_early(self) -> None:
        """Start to sum the second half's gradients over the ranks, during the first half's backward pass."""
        self.early_sum = dist.all_reduce(self.early, async_op=True)

    def reduce(self, clip_norm: float) -> None:
        """Sum the rest and the signals over the ranks if `reduce_early` ran; clip if asked."""
        if self.early_sum is not None:
            dist.all_reduce(self.late)
            self.early_sum.wait()
            self.early_sum = None
        if clip_norm > 0:
            gradients = self.grad[: -self.SIGNALS]
            gradients.mul_((clip_norm / (gradients.norm() + 1e-6)).clamp(max=1.0))
        self.embed.grad.copy_(self.embed_sum)


# -- Optimizers --


def orthogonalise(g: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Run a quintic Newton-Schulz iteration towards the nearest semi-orthogonal matrix. g: (count, rows, cols).

    The coefficients trade exactness for speed: singular values end between about 0.7 and 1.2, so bfloat16 is enough.
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


class Muon:
    """Nesterov momentum, orthogonalised. Every rank updates its share of each bank; one all-gather shares the results."""

    def __init__(self, banks: Banks, steps: int, rank: int, world_size: int, machine: Machine) -> None:
        self.steps, self.rank, self.world_size, self.dtype = steps, rank, world_size, machine.dtype
        on_gpu = machine.device.type == "cuda"
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if on_gpu else orthogonalise
        at, self.shares = 0, []  # of each bank: parameters, span in a rank's updates, own gradients, their momentum
        for p, g in banks.matrices:
            size = -(-len(p) // world_size)  # rounded up
            own = g[rank * size : (rank + 1) * size]
            self.shares.append((p, slice(at, at := at + size * p[0].numel()), own, torch.zeros_like(own)))
        self.updates = torch.zeros(world_size, at, dtype=self.dtype, device=machine.device)

    def step(self, lr: float, momentum: float) -> None:
        mine = self.updates[self.rank]
        for _, span, own, buffer in self.shares:
            if len(own):
                buffer.mul_(momentum).add_(own)
                found = self.orthogonalise(own.add(buffer, alpha=momentum), self.steps, self.dtype)
                mine[span][: own.numel()] = found.flatten()
        if self.world_size > 1:  # as bytes: some releases of gloo lack bfloat16
            all_gather(self.updates.view(torch.uint8).view(-1), mine.clone().view(torch.uint8))
        for p, span, *_ in self.shares:
            updates = self.updates[:, span].reshape(-1, *p.shape[1:])[: len(p)]
            p.add_(updates, alpha=-lr * max(1.0, p.shape[1] / p.shape[2]) ** 0.5)


def lr_scale(s: Settings, step: int, elapsed_ms: float, step_ms: float) -> float:
    """Return the rates' scale: 1, then linear to 0 over the last WARMDOWN_ITERS steps.

    Under a wall-clock cap these are the last WARMDOWN_ITERS average step times (`step_ms`) before it.
    """
    if s.max_wallclock_seconds > 0:
        remaining, warmdown = 1000.0 * s.max_wallclock_seconds - elapsed_ms, s.warmdown_iters * step_ms
    else:
        remaining, warmdown = float(s.iterations - step), float(s.warmdown_iters)
    return min(1.0, max(remaining, 0.0) / max(warmdown, 1e-9))


def muon_momentum(s: Settings, step: int) -> float:
    """Return the momentum, which rises linearly from the warm-up start to its final value."""
    share = min(step / s.muon_momentum_warmup_steps, 1.0) if s.muon_momentum_warmup_steps > 0 else 1.0
    return (1 - share) * s.muon_momentum_warmup_start + share * s.muon_momentum


# -- Artifact: int8 + zlib --

INT8_MIN_ELEMENTS = 65536  # tensors of at most this size stay floats
INT8_CLIP_QUANTILE = 0.9999984
ARTIFACT_CAP_BYTES = 16_000_000  # code and weights, decimal
CONTROL_TENSORS = ("attn_scale", "mlp_scale", "mix", "q_gain", "skip_weights")


def quantise(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Pack large matrices as int8 with one scale a row, other large tensors with one scale, small ones as floats."""
    packed: dict[str, dict[str, Tensor]] = {"int8": {}, "scale": {}, "float": {}}
    for name, value in state.items():
        t = value.detach().float().cpu().contiguous()
        if t.numel() <= INT8_MIN_ELEMENTS:
            control = name.rsplit(".", 1)[-1] in CONTROL_TENSORS
            packed["float"][name] = t.clone() if control else t.half()
            continue
        rows = t if t.ndim == 2 else t.reshape(1, -1)
        clip = torch.quantile(rows.abs(), INT8_CLIP_QUANTILE, dim=1, keepdim=True)
        scale = (clip / 127.0).clamp(min=1.0 / 127.0)
        clipped = torch.minimum(torch.maximum(rows, -clip), clip)
        packed["int8"][name] = torch.round(clipped / scale).clamp(-127, 127).to(torch.int8).view_as(t)
        packed["scale"][name] = scale.squeeze(1).half()
    return packed


def dequantise(packed: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Restore the state dict in float32; loading it casts to each parameter's own type."""
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
    """Write a file that appears complete or not at all. Without `keep`, only find out whether that would work."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            partial.replace(path)
        elif path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def rescue(path: Path, floats: bytes) -> str:
    """Write the float weights beside the artifact, or else to a temporary folder, and say where they are."""
    for folder in (os.getcwd, tempfile.mkdtemp):
        with contextlib.suppress(OSError):
            rescued = Path(folder(), f"{path}.float.pt")
            write_whole(rescued, floats)
            return f"The float weights are in {rescued}: torch.load reads them."
    return "No folder takes the float weights either."


ARTIFACT_SETTINGS = (
    *("vocab_size", "num_layers", "model_dim", "num_heads", "num_kv_heads", "mlp_mult", "tie_embeddings"),
    *("rope_base", "logit_softcap", "train_seq_len", "val_batch_size"),
)


# -- Validation --


CPU_VAL_BATCH_TOKENS = 4096  # activations stay in cache: 2.5 times as fast as VAL_BATCH_SIZE's default


class Validation:
    """The whole validation split in windows of TRAIN_SEQ_LEN without overlap.

    Batches do not depend on the number of ranks (rank r takes batches r, r + N, ...). The last is padded to the shape
    of the others.
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
        batch_tokens = s.val_batch_size // SLOTS
        if device.type == "cpu":
            batch_tokens = min(batch_tokens, CPU_VAL_BATCH_TOKENS)
        self.batch = min(max(batch_tokens // s.train_seq_len, 1), self.windows)
        flat = torch.from_numpy(tokens[: self.tokens + 1].astype(np.int64)).to(device)
        self.flat = F.pad(flat, (0, -self.windows % self.batch * s.train_seq_len))

    @torch.no_grad()
    def run(self, model: nn.Module) -> tuple[float, float]:
        """Return val_loss (nats a token) and val_bpb (bits a byte), summed in float64 over all ranks."""
        device = self.flat.device
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # nats, bytes
        inputs, targets = self.flat[:-1].view(-1, self.seq_len), self.flat[1:].view(-1, self.seq_len)
        for first in range(self.rank * self.batch, self.windows, self.world_size * self.batch):
            x, y = inputs[first : first + self.batch], targets[first : first + self.batch]
            real = min(self.windows - first, self.batch) * self.seq_len
            nats = model(x, y)[:real]
            sums[0] += nats.double().sum()
            sums[1] += self.token_bytes.count(x.reshape(-1)[:real], y.reshape(-1)[:real]).sum()
        if self.world_size > 1:
            dist.all_reduce(sums)
        nats_total, bytes_total = sums.tolist()
        if not math.isfinite(nats_total):
            raise DivergedError(f"The validation loss is {nats_total}: the run has diverged.")
        return nats_total / self.tokens, nats_total / math.log(2) / bytes_total


# -- The run --


@dataclass(slots=True)
class Clock:
    """Training time in ms, paused while stopped. Stopping synchronises the device."""

    device: torch.device
    banked_ms: float = 0.0
    since: float | None = None

    def start(self) -> None:
        self.since = self.since if self.since is not None else time.perf_counter()

    def stop(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.banked_ms, self.since = self.elapsed_ms(), None

    def elapsed_ms(self) -> float:
        return self.banked_ms + (1000.0 * (time.perf_counter() - self.since) if self.since is not None else 0.0)

    def spent(self, step: int) -> str:
        return f"train_time:{self.elapsed_ms():.0f}ms step_avg:{self.elapsed_ms() / max(step, 1):.2f}ms"


class Trainer:
    """Model, optimizers, data and training step of one rank."""

    def __init__(self, s: Settings, rank: int, world_size: int, machine: Machine) -> None:
        self.s, self.rank, self.world_size = s, rank, world_size
        self.device = device = machine.device
        shards = open_shards(s.data_path, "train")
        check_tokens(shards[0], s.vocab_size, s.data_path)
        self.train_shards, self.stream = len(shards), TokenStream(shards)
        if self.stream.total <= s.train_seq_len:
            what = f"DATA_PATH={s.data_path} holds {self.stream.total} training tokens"
            raise SettingsError(f"{what}, too few for one sequence of TRAIN_SEQ_LEN={s.train_seq_len}.")
        self.validation = Validation(s, TokenBytes.of(load_tokenizer(s), device), device, rank, world_size)

        torch.manual_seed(s.seed)
        self.model = GPT(s, machine.dtype).to(device)  # built on the CPU: one seed gives the same weights everywhere
        if device.type == "cuda":
            self.model.compile_halves()
        self.banks = Banks(self.model)
        self.muon = Muon(self.banks, s.muon_backend_steps, rank, world_size, machine)
        embed_lr = s.tied_embed_lr if s.tie_embeddings else s.embed_lr
        groups = [{"params": [self.banks.embed], "lr": embed_lr}, {"params": self.banks.vectors, "lr": s.scalar_lr}]
        if self.model.head is not None:
            groups.append({"params": [self.model.head.weight], "lr": s.head_lr})
        for group in groups:
            group["base_lr"] = group["lr"]
        self.adam = torch.optim.Adam(groups, betas=(s.beta1, s.beta2), eps=s.adam_eps, fused=True)
        self.near_cap = False
        self.pending: tuple[int, Tensor, torch.cuda.Event] | None = None

    def micro_batches(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this rank's inputs and targets of a step: (slots of this rank, sequences, TRAIN_SEQ_LEN) each."""
        s, slots = self.s, SLOTS // self.world_size
        slot = s.train_batch_tokens // SLOTS
        span = self.stream.read(step * s.train_batch_tokens + self.rank * slots * slot, slots * slot + 1)
        check_tokens(span, s.vocab_size, s.data_path)
        tokens = torch.from_numpy(span)
        if self.device.type == "cuda":
            tokens = tokens.pin_memory().to(self.device, non_blocking=True)
        shape = (slots, -1, s.train_seq_len)
        return tokens[:-1].view(shape), tokens[1:].view(shape)

    def step(self, step: int, scale: float, clock: Clock) -> None:
        """Take one gradient step. Then `banks.signals` holds what all ranks agree on (see `agreed`)."""
        s = self.s
        self.banks.grad.zero_()
        self.banks.embed.grad.zero_()
        losses = []
        slots = list(zip(*self.micro_batches(step), strict=True))
        for index, (x, y) in enumerate(slots):
            last = index == len(slots) - 1 and self.world_size > 1
            loss = self.model(x, y, self.banks.reduce_early if last else None).mean() / SLOTS
            loss.backward()
            self.banks.add_embedding()
            losses.append(loss.detach())
        self.banks.signals[0] = torch.stack(losses).sum()
        self.banks.signals[1].fill_(clock.elapsed_ms() / self.world_size)  # a copy would wait for the device
        self.banks.reduce(s.grad_clip_norm)
        for group in self.adam.param_groups:
            group["lr"] = group["base_lr"] * scale
        self.adam.step()
        self.muon.step(s.matrix_lr * scale, muon_momentum(s, step))

    def agreed(self, steps: int, clock: Clock) -> tuple[int, float, bool]:
        """Return (steps done, mean elapsed ms, cap reached by any rank), the same on every rank.

        On CUDA this is the previous step's answer: waiting for it keeps the host close to the device without a stall in
        every step. In the last steps before the cap the host waits for the device, so that the clock is exact.
        """
        signals, cap_ms, capped = self.banks.signals, 1000.0 * self.s.max_wallclock_seconds, torch.zeros(1)
        if self.device.type != "cuda" or self.near_cap:
            if self.near_cap:
                torch.cuda.synchronize()
            if cap_ms > 0:
                capped = torch.tensor([float(cap_ms <= clock.elapsed_ms())], device=self.device)
                if self.world_size > 1:
                    dist.all_reduce(capped)
        else:
            copy = torch.empty(Banks.SIGNALS, pin_memory=True).copy_(signals, non_blocking=True)
            event = torch.cuda.current_stream().record_event()
            before, self.pending = self.pending, (steps, copy, event)
            if before is None:
                return 0, 0.0, False
            steps, signals, event = before
            event.synchronize()
        loss, elapsed_ms = signals.tolist()
        if not math.isfinite(loss):
            raise DivergedError(f"The training loss at step {steps} is {loss}: the run has diverged.")
        self.near_cap = self.device.type == "cuda" and 0 < cap_ms <= elapsed_ms + NEAR_CAP_STEPS * elapsed_ms / steps
        return steps, elapsed_ms, bool(capped) or 0 < cap_ms <= elapsed_ms

    def rehearse(self) -> None:
        """Write the float weights and remove them: a folder without room is found before the training is paid for."""
        content, where = torch_bytes(self.model.state_dict()), "."
        try:
            where = os.getcwd()
            write_whole(Path(f"{self.s.run_id}.int8.ptz"), content, keep=False)
        except OSError as error:
            what = f"The working directory {where} cannot take the weights ({len(content)} bytes): {error}"
            raise SettingsError(f"{what}. Make room, or start in another folder.") from None

    def warm_up(self, log: Log) -> None:
        """Take real steps that prime compilation and memory, then put everything back to the start."""
        clock, saved = Clock(self.device), [t.detach().clone() for t in (self.banks.flat, self.banks.embed)]
        for step in range(self.s.warmup_steps):
            self.step(step, 1.0, clock)
            log(f"warmup_step:{step + 1}/{self.s.warmup_steps}")
        self.banks.flat.copy_(saved[0])
        self.banks.embed.data.copy_(saved[1])
        for *_, momentum in self.muon.shares:
            momentum.zero_()
        self.adam.state.clear()
        clock.stop()  # waits for the device
        if self.world_size > 1:
            dist.barrier()

    def train(self, log: Log) -> None:
        """Train to the last step or the cap, and log progress."""
        s, clock, total = self.s, Clock(self.device), self.s.iterations
        step, timed_steps, timed_ms, capped = 0, 0, 0.0, False
        while True:
            last = capped or step == total
            if last or (s.val_loss_every > 0 and step % s.val_loss_every == 0):
                clock.stop()
                val_loss, val_bpb = self.validation.run(self.model)
                log(f"step:{step}/{total} val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} {clock.spent(step)}")
            if last:
                break
            clock.start()
            self.step(step, lr_scale(s, step, timed_ms, timed_ms / max(timed_steps, 1)), clock)
            step += 1
            if step <= 10 or (s.train_log_every > 0 and step % s.train_log_every == 0):
                loss = float(self.banks.signals[0])
                log(f"step:{step}/{total} train_loss:{loss:.4f} {clock.spent(step)}")
            timed_steps, timed_ms, capped = self.agreed(step, clock)
        if step < total:
            log(f"stopping_early: wallclock_cap train_time:{clock.elapsed_ms():.0f}ms step:{step}/{total}")

    def finish(self, log: Log, code_bytes: int) -> None:
        """Write the artifact, read it back and validate that: this is the result."""
        s = self.s
        if self.device.type == "cuda":
            peaks = torch.cuda.max_memory_allocated() >> 20, torch.cuda.max_memory_reserved() >> 20
        else:  # the process's peak resident size, for both
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
            peaks = peak, peak
        log(f"peak memory allocated: {peaks[0]} MiB reserved: {peaks[1]} MiB")
        path = Path(f"{s.run_id}.int8.ptz")
        if self.rank == 0:
            state = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}
            floats = torch_bytes(state)
            log(f"Serialized model: {len(floats)} bytes")
            log(f"Code size: {code_bytes} bytes")
            log(f"Total submission size: {len(floats) + code_bytes} bytes")
            kept = {name: getattr(s, name) for name in ARTIFACT_SETTINGS} | {"dtype": str(self.model.dtype)[6:]}
            try:
                packed = quantise(state)
                raw = torch_bytes({"settings": kept, **packed})
                compressed = zlib.compress(raw, 9)
                write_whole(path, compressed)
            except Exception as error:
                raise SystemExit(f"train_gpt.py: {path} failed: {error!r}. {rescue(path, floats)}") from None
            weights, payload = len(compressed), sum(payload_bytes(part) for part in packed.values())
            ratios = f"payload:{payload} raw_torch:{len(raw)} payload_ratio:{payload_bytes(state) / payload:.2f}x"
            log(f"Serialized model int8+zlib: {weights} bytes ({ratios})")
            log(f"Total submission size int8+zlib: {weights + code_bytes} bytes")
            left = f"{ARTIFACT_CAP_BYTES - weights - code_bytes} of {ARTIFACT_CAP_BYTES}"
            log(f"size_ledger code:{code_bytes} weights:{weights} left:{left}")
            log(f"artifact:{path}")
        if self.world_size > 1:
            dist.barrier()
        content = zlib.decompress(path.read_bytes())
        self.model.load_state_dict(dequantise(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)))
        start = time.perf_counter()
        val_loss, val_bpb = self.validation.run(self.model)
        eval_ms = 1000.0 * (time.perf_counter() - start)
        log(f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{eval_ms:.0f}ms")
        log(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")


def log_machine(log: Log, machine: Machine) -> None:
    log(f"Running Python {sys.version}")
    log(f"Running PyTorch {torch.__version__}")
    if machine.device.type == "cuda":
        try:
            found = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60, check=False).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            found = f"nvidia-smi: {error}"
        log(found)
    log(machine.choice)


def log_settings(log: Log, t: Trainer) -> None:
    s = t.s
    embed_lr, head_lr = (s.tied_embed_lr, 0.0) if s.tie_embeddings else (s.embed_lr, s.head_lr)
    log(f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={s.tokenizer_path}")
    log(f"train_loader:dataset:{Path(s.data_path).resolve().name} train_shards:{t.train_shards}")
    log(f"val_loader:shards pattern={Path(s.data_path) / 'fineweb_val_*.bin'} tokens:{t.validation.tokens}")
    log(f"model_params:{sum(p.numel() for p in t.model.parameters())}")
    log(f"world_size:{t.world_size} grad_accum_steps:{SLOTS // t.world_size}")
    log(f"attention_mode:gqa num_heads:{s.num_heads} num_kv_heads:{s.num_kv_heads}")
    rates = f"matrix_lr:{s.matrix_lr} scalar_lr:{s.scalar_lr}"
    log(f"tie_embeddings:{s.tie_embeddings} embed_lr:{embed_lr} head_lr:{head_lr} {rates}")
    lengths = f"warmup_steps:{s.warmup_steps} max_wallclock_seconds:{s.max_wallclock_seconds:.3f}"
    batch = f"train_batch_tokens:{s.train_batch_tokens} train_seq_len:{s.train_seq_len}"
    log(f"{batch} iterations:{s.iterations} {lengths}")
    log(f"seed:{s.seed}")


def run(rank: int, world_size: int, local_rank: int) -> None:
    """Run one rank from start to end."""
    cuda = torch.cuda.is_available()
    settings = Settings.from_env(os.environ)
    settings.check(world_size)
    load_tokenizer(settings)
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
    machine = Machine.choose(settings, device)
    trainer = Trainer(settings, rank, world_size, machine)

    if rank == 0:
        trainer.rehearse()
    source = Path(__file__).read_bytes()
    log: Log = (lambda line: print(line, flush=True)) if rank == 0 else (lambda line: None)
    log(source.decode())
    log(RULER)
    if rank == 0:
        log_machine(log, machine)
    log(RULER)
    log_settings(log, trainer)
    trainer.warm_up(log)
    trainer.train(log)
    trainer.finish(log, len(source))
    if world_size > 1:
        # no teardown: gloo's threads sometimes abort it, and torchrun would call the run failed
        dist.barrier()
        sys.stdout.flush()
        os._exit(0)


def ranks(env: Mapping[str, str]) -> tuple[int, int, int]:
    """Return RANK, WORLD_SIZE and LOCAL_RANK, which torchrun sets; without it there is one rank."""
    found = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_PORT": "0"}
    found |= {name: env[name] for name in found if env.get(name)}
    for name, text in found.items():
        if not text.isdecimal():
            raise SettingsError(f"{name} must be a whole number, not {text!r}.")
    rank, world_size, local_rank, _ = map(int, found.values())
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if world_size > 1 else ():
        if not env.get(name):
            raise SettingsError(f"WORLD_SIZE={world_size} needs {name}, which is not set: start with torchrun.")
    if rank >= world_size:
        raise SettingsError(f"RANK={rank} must be less than WORLD_SIZE={world_size}.")
    return rank, world_size, local_rank


def announce_sigterm() -> None:
    """On SIGTERM, end the log with a line, then the process. A thread does it: the main one may wait for a GPU."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(tell)

    def wait() -> None:
        while os.read(told, 1)[0] != signal.SIGTERM:
            pass
        with contextlib.suppress(OSError):
            os.write(1, b"terminated: SIGTERM\n")
        ctypes.CDLL(None).signal(signal.SIGTERM, None)  # Python's own allows it in the main thread only
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    rank = 0
    try:
        rank, world_size, local_rank = ranks(os.environ)
        if rank == 0:
            announce_sigterm()
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
