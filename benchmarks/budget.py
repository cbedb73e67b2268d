"""What a training step must compute and move: computed from the recipe alone, nothing is measured.

Rates are those of one H100 SXM. Its peak is 989 TFLOP/s of dense bfloat16; large matrix products reach about 800, the
best attention kernels about 500. Its memory moves 3.35 TB/s; a copy reaches about 2.8.
"""

from __future__ import annotations

from dataclasses import dataclass

PEAK_TFLOPS, PRODUCT_TFLOPS, ATTENTION_TFLOPS, MEMORY_TBS = 989.0, 800.0, 500.0, 2.8
SHARE_TOKENS = 49_152


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


SEQ4096 = Recipe()


@dataclass(frozen=True, slots=True)
class Part:
    """Work of one kind: arithmetic in TFLOP at a rate, and memory traffic in GB. It takes the longer of the two or more."""

    name: str
    tflop: float
    gigabytes: float
    tflops: float = PRODUCT_TFLOPS

    @property
    def least_ms(self) -> float:
        return max(1000 * self.tflop / self.tflops, self.gigabytes / MEMORY_TBS)


def budget(r: Recipe, tokens: int, ranks: int = 8) -> list[Part]:
    """Return the parts of one step on one GPU with `tokens` of its own, forward and backward.

    A is one activation (tokens x dim, bfloat16). Traffic is counted as compiled code moves it: a chain of elementwise
    work reads its inputs once and writes its outputs once; a product reads both factors and writes its result; attention
    is a fused kernel that reads q, k, v and writes its output, and does so again with their gradients.
    """
    a = tokens * r.dim * 2 / 1e9
    kv = r.kv_dim / r.dim
    wide = 1 + 2 * kv  # of the joint q, k, v product, in A
    products_forward = (1 + wide) + 2 + (1 + r.mlp) + (r.mlp + 1)
    weights = 3 * 6 * r.matrix_params / 1e9  # cast from float32 to bfloat16, three times
    elementwise = (
        # mix and norm; norm, rotary and gain of q and k; residual and norm; squared ReLU; residual
        (4 + 2 * (1 + kv) + 4 + 2 * r.mlp + 3)
        # backward: twice as many inputs as forward, once more as outputs, roughly
        * 2.5
    )
    attention_flops = 12 * r.dim * r.sequence / 2 * tokens * r.layers
    head = 6 * r.dim * r.vocab * tokens
    logits = tokens * r.vocab * 2 / 1e9
    newton = sum(4 * min(m) ** 2 * max(m) + 2 * min(m) ** 3 for m in r.matrices) * r.layers * r.newton_schulz / ranks
    return [
        Part(
            "products of the blocks", 6 * r.matrix_params * tokens / 1e12, 3 * products_forward * a * r.layers + weights
        ),
        Part("attention", attention_flops / 1e12, (1 + wide) * a * r.layers * 3.5, ATTENTION_TFLOPS),
        Part("elementwise in the blocks", 0.0, elementwise * a * r.layers),
        Part("head and loss", head / 1e12, 3 * (a + logits) + 3 * logits),
        Part(
            "Muon, a rank's own share",
            newton / 1e12,
            10 * r.matrix_params * 4 / ranks / 1e9 + 2 * r.matrix_params * 4 / 1e9,
        ),
        Part("Adam, gradients zeroed", 0.0, (r.params * 4 * 2 + 28 * (r.params - r.matrix_params)) / 1e9),
    ]


def peak_share(parts: list[Part], ms: float) -> float:
    """Return the model's arithmetic in `ms` as a share of the GPU's peak.

    It is 6 FLOP a parameter and token, and causal attention.
    """
    useful = sum(part.tflop for part in parts if part.name in ("products of the blocks", "attention", "head and loss"))
    return useful / (ms / 1000) / PEAK_TFLOPS
