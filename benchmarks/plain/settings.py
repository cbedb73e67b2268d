"""The recipe's settings, from environment variables of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Settings:
    """Hold one run's settings; the defaults are the seq4096 recipe."""

    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp_mult: int = 2
    tie_embeddings: int = 1
    rope_base: float = 10000.0
    logit_softcap: float = 30.0
    qk_gain_init: float = 1.5
    tied_embed_init_std: float = 0.005
    train_seq_len: int = 4096
    train_batch_tokens: int = 393_216
    val_batch_size: int = 524_288
    iterations: int = 20_000
    warmup_steps: int = 20
    warmdown_iters: int = 3000
    max_wallclock_seconds: float = 600.0
    val_loss_every: int = 1000
    train_log_every: int = 200
    embed_lr: float = 0.6
    head_lr: float = 0.008
    tied_embed_lr: float = 0.03
    matrix_lr: float = 0.02
    scalar_lr: float = 0.02
    muon_momentum: float = 0.99
    muon_momentum_warmup_start: float = 0.92
    muon_momentum_warmup_steps: int = 1500
    muon_backend_steps: int = 5
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    grad_clip_norm: float = 0.0
    seed: int = 1337
    run_id: str = "plain"
    data_path: str = "data/datasets/fineweb10B_sp1024"
    tokenizer_path: str = "data/tokenizers/fineweb_1024_bpe.model"

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Settings:
        """Read every variable that the environment holds."""
        given = {field.name: env.get(field.name.upper()) for field in fields(cls)}
        return cls(**{name: type(getattr(cls, name))(text) for name, text in given.items() if text is not None})
