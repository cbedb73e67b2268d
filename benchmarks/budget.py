"""What a GPU's share of a training step must take at the least, and what it may really take. Nothing is measured.

    python -m benchmarks.budget

The floor is the arithmetic and the memory traffic at the rates of an H100's data sheet. No program with these kernels is
faster, and none comes near. The forecast takes rates that programs reach. It is the number to expect.
"""

from __future__ import annotations

from dataclasses import dataclass

# The data sheet of the H100 SXM, dense bfloat16: rates of the floor
PEAK_TFLOPS, PEAK_TBS = 989.0, 3.35
# Rates that programs reach. The first two are assumptions; a copy's is usual on this GPU.
NARROW_TFLOPS = 500.0  # products with 512 to 1,024 columns: large ones reach about 800
COLLECTIVE_TBS = 0.3  # an all-reduce or all-gather between eight GPUs
COPY_TBS = 2.8
# Forward at 64 columns a head, causal, 4,096 tokens, by the FlashAttention-3 paper (arXiv:2407.08608). Backward is slower.
BEST_ATTENTION_TFLOPS = 420.0
RECOMPUTED = 3.5 / 3  # backward computes the scores again: 2.5 times forward's arithmetic, usually counted as 2
# Kernels of a step, counted from benchmarks/results/lowering.md, and what they cost beyond their own work: assumptions
KERNELS, GAP_US = 355, 2.5  # 226 of Triton, 111 products, 18 of attention
# On rank 0 of eight: 45 products, 10 of Triton, 15 of momentum, 2 for each of 24 groups to apply. One after the other, of small matrices
MUON_KERNELS, MUON_KERNEL_US = 118, 8.0
HOST_MS = 0.5  # the GPU waits once a step for the host

GPUS, SHARE_TOKENS = 8, 49_152


@dataclass(frozen=True, slots=True)
class Published:
    """One published row: 8 H100."""

    sequence: int
    batch_tokens: int
    step_ms: float

    @property
    def tokens(self) -> int:
        """Return one GPU's tokens of a step."""
        return self.batch_tokens // GPUS


PUBLISHED = (Published(4096, 393_216, 71.47), Published(2048, 524_288, 51.89), Published(1024, 524_288, 43.54))


@dataclass(frozen=True, slots=True)
class Recipe:
    """The shape of a model and its step."""

    layers: int = 9
    dim: int = 512
    heads: int = 8
    kv_heads: int = 4
    mlp: int = 2
    vocab: int = 1024
    sequence: int = 4096
    batch_tokens: int = 393_216
    newton_schulz: int = 5

    @property
    def kv_dim(self) -> int:
        return self.dim // self.heads * self.kv_heads

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Return (rows, columns) of one block's matrices."""
        d, kv = self.dim, self.kv_dim
        return [(d, d), (kv, d), (kv, d), (d, d), (self.mlp * d, d), (d, self.mlp * d)]

    @property
    def matrix_params(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.matrices)

    @property
    def params(self) -> int:
        """Return the number of parameters: 17,059,912 at the defaults.

        They are matrices, embedding, vectors (4 a block: two of mix, two scales), gains and skip weights.
        """
        skips = min(self.layers // 2, self.layers - self.layers // 2)
        vectors = self.layers * (4 * self.dim + self.heads) + skips * self.dim
        return self.matrix_params + self.vocab * self.dim + vectors

    def attention_tflop(self, tokens: int, sequence: int | None = None) -> float:
        """Return causal attention's arithmetic by the usual count: backward is twice forward."""
        return 12 * self.layers * self.dim * (sequence or self.sequence) / 2 * tokens / 1e12

    def useful_tflop(self, tokens: int) -> float:
        """Return the usual count of the model's arithmetic: 6 FLOP a parameter and token, and causal attention."""
        return 6 * self.params * tokens / 1e12 + self.attention_tflop(tokens)


SEQ4096 = Recipe()


def peak_share(r: Recipe, tokens: int, ms: float) -> float:
    """Return the model's arithmetic in `ms` as a share of the GPU's peak."""
    return r.useful_tflop(tokens) / (ms / 1000) / PEAK_TFLOPS


# -- what the published rows say about attention -----------------------------------------------------------------------


def published_attention_tflops() -> float:
    """Return the marginal rate of the published program's attention, by the usual count: 222 TFLOP/s.

    From 1,024 to 2,048 tokens, at the same batch, only attention grows: 1.855 TFLOP more in 8.35 ms.
    """
    _, longer, shorter = PUBLISHED
    more = SEQ4096.attention_tflop(longer.tokens, longer.sequence - shorter.sequence)
    return more / (longer.step_ms - shorter.step_ms) * 1000


def published_rest_ms() -> tuple[float, float]:
    """Return what all but attention takes the published program at 49,152 tokens, by the two shorter rows: 26 to 35 ms.

    At 65,536 tokens it is 35 ms. The less is right if all of it grows with the tokens, the more if none does.
    """
    shorter = PUBLISHED[-1]
    attention = SEQ4096.attention_tflop(shorter.tokens, shorter.sequence) / published_attention_tflops() * 1000
    rest = shorter.step_ms - attention
    return rest * SHARE_TOKENS / shorter.tokens, rest


# -- the budget --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """Work of one kind: the arithmetic carried out, the memory traffic, the ms to expect and why."""

    name: str
    tflop: float
    gigabytes: float
    forecast_ms: float
    basis: str

    @property
    def floor_ms(self) -> float:
        """Return the longer of arithmetic and traffic at the data sheet's rates."""
        return max(1000 * self.tflop / PEAK_TFLOPS, self.gigabytes / PEAK_TBS)


def budget(r: Recipe, tokens: int) -> list[Part]:
    """Return the parts of one step on one of eight GPUs, with `tokens` of its own."""
    return [*_model(r, tokens), *_update(r), *_waiting(r)]


def _model(r: Recipe, tokens: int) -> list[Part]:
    """Return the parts of forward and backward.

    A is one activation (tokens x dim, bfloat16). Traffic is counted as compiled code moves it: a chain of elementwise
    work reads its inputs once and writes its outputs once; a product reads both factors and writes its result; attention
    is a fused kernel that reads q, k, v and writes its output, and does so again with their gradients.
    """
    a = tokens * r.dim * 2 / 1e9
    kv = r.kv_dim / r.dim
    wide = 1 + 2 * kv  # of the joint q, k, v product, in A
    products = 6 * r.matrix_params * tokens / 1e12
    products_forward = (1 + wide) + 2 + (1 + r.mlp) + (r.mlp + 1)
    products_gb = 3 * products_forward * a * r.layers + 3 * 6 * r.matrix_params / 1e9  # weights cast to bfloat16
    # mix and norm; norm, rotary and gain of q and k; residual and norm; squared ReLU; residual
    elementwise = 4 + 2 * (1 + kv) + 4 + 2 * r.mlp + 3
    elementwise_gb = 2.5 * elementwise * a * r.layers  # backward: twice as many inputs, once more as outputs, roughly
    attention, rate = r.attention_tflop(tokens), published_attention_tflops()
    head, logits = 6 * r.dim * r.vocab * tokens / 1e12, tokens * r.vocab * 2 / 1e9
    head_gb, loss_gb = 3 * (a + logits), 3 * logits
    head_ms = 1000 * head / NARROW_TFLOPS + loss_gb / COPY_TBS
    narrow, copy = f"{NARROW_TFLOPS:.0f} TFLOP/s, assumed", f"a copy's {COPY_TBS} TB/s"
    return [
        Part("products of the blocks", products, products_gb, 1000 * products / NARROW_TFLOPS, narrow),
        Part(
            "attention, with what backward recomputes",
            attention * RECOMPUTED,
            (1 + wide) * a * r.layers * 3.5,
            1000 * attention / rate,
            f"published: {rate:.0f} TFLOP/s by the usual count, {rate * RECOMPUTED:.0f} with the recomputation",
        ),
        Part("elementwise in the blocks", 0.0, elementwise_gb, elementwise_gb / COPY_TBS, copy),
        Part("head and loss", head, head_gb + loss_gb, head_ms, "both of these"),
    ]


def _update(r: Recipe) -> list[Part]:
    """Return the parts of the optimizers. Muon's matrices are shared among the GPUs."""
    newton = sum(4 * min(m) ** 2 * max(m) + 2 * min(m) ** 3 for m in r.matrices) * r.layers * r.newton_schulz / GPUS
    muon_gb = 10 * r.matrix_params * 4 / GPUS / 1e9 + 2 * r.matrix_params * 4 / 1e9
    adam_gb = (r.params * 4 * 2 + 28 * (r.params - r.matrix_params)) / 1e9
    muon_ms = MUON_KERNELS * MUON_KERNEL_US / 1000
    small = f"{MUON_KERNELS} small kernels, counted, of {MUON_KERNEL_US:.0f} us, assumed"
    return [
        Part("Muon, a GPU's own share", newton / 1e12, muon_gb, muon_ms, small),
        Part("Adam, gradients zeroed", 0.0, adam_gb, adam_gb / COPY_TBS, f"a copy's {COPY_TBS} TB/s"),
    ]


def _waiting(r: Recipe) -> list[Part]:
    """Return what the GPU waits for. A perfect program hides it all: the floor is 0."""
    each = (GPUS - 1) / GPUS
    # all-reduce of the gradients (float32), half of it during backward; all-gather of the updates (bfloat16)
    sent_gb = (2 * each * r.params * 4 / 2 + each * r.matrix_params * 2) / 1e9
    gaps_ms = KERNELS * GAP_US / 1000
    return [
        Part("collectives", 0.0, 0.0, sent_gb / COLLECTIVE_TBS, f"{sent_gb:.2f} GB at {COLLECTIVE_TBS} TB/s, assumed"),
        Part("gaps between kernels", 0.0, 0.0, gaps_ms, f"{KERNELS}, counted, of {GAP_US} us, assumed"),
        Part("host, once a step", 0.0, 0.0, HOST_MS, "assumed"),
    ]


def table(parts: list[Part]) -> list[str]:
    """Return the parts and their sums as a table."""
    tflop, gigabytes = sum(part.tflop for part in parts), sum(part.gigabytes for part in parts)
    floor, forecast = sum(part.floor_ms for part in parts), sum(part.forecast_ms for part in parts)
    return [
        "| not measured: for one of 8 H100 | TFLOP | GB moved | floor, ms | forecast, ms | the forecast's rate |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {p.name} | {p.tflop:.2f} | {p.gigabytes:.2f} | {p.floor_ms:.2f} | {p.forecast_ms:.2f} | {p.basis} |"
            for p in parts
        ),
        f"| sum | {tflop:.2f} | {gigabytes:.2f} | {floor:.1f} | {forecast:.1f} | |",
    ]


def main() -> None:
    parts = budget(SEQ4096, SHARE_TOKENS)
    attention = next(part for part in parts if part.name.startswith("attention"))
    best_ms = 1000 * attention.tflop / BEST_ATTENTION_TFLOPS
    forecast = sum(part.forecast_ms for part in parts)
    less, more = published_rest_ms()
    published = PUBLISHED[0].step_ms
    print(f"seq4096, {SHARE_TOKENS:,} tokens: one GPU's share of a step on eight.", "", *table(parts), "", sep="\n")
    print(
        f"With attention at {BEST_ATTENTION_TFLOPS:.0f} TFLOP/s ({best_ms:.1f} ms), the best published kernel's forward rate, the "
        f"forecast is {forecast - attention.forecast_ms + best_ms:.1f} ms.\n"
        f"The published program takes {published} ms. Its two shorter rows say {attention.forecast_ms:.1f} ms for attention and "
        f"{less:.1f} to {more:.1f} ms for the rest:\nat 4,096 tokens it takes "
        f"{published - attention.forecast_ms - more:.0f} to {published - attention.forecast_ms - less:.0f} ms more than that, "
        "and the rows do not say why."
    )


if __name__ == "__main__":
    main()
