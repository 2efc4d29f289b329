"""HSTU: hierarchical sequential transduction units (arXiv 2402.17152, section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Causal, RelativeTime, Sequences, attention
from models.backbones.config import BackboneConfig
from models.batch import PackedBatch
from models.layers.relative_bias import RelativeBiasTables

NORM_EPS = 1e-6


class HSTUBlock(nn.Module):
    """`U, V, Q, K = split(SiLU(f1(norm(x))))`; `y = f2(dropout(norm(A V) * U)) + x` (eqs. 1 to 3).

    `A = SiLU(Q K^T + rab) / N` under a causal mask, without softmax; N is `max_length`, a constant,
    whatever the lengths in the batch. Both norms are without affine parameters, the second one over all heads
    together.
    """

    def __init__(self, config: BackboneConfig, max_length: int) -> None:
        super().__init__()
        self.heads, self.max_length, self.kernel = config.heads, max_length, config.kernel
        qk, v = config.heads * config.query_dim, config.heads * config.value_dim
        self.widths = [v, v, qk, qk]  # U, V, Q, K
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS, elementwise_affine=False)
        self.f1 = nn.Linear(config.dim, sum(self.widths), bias=False)
        self.bias = RelativeBiasTables(config.relative_bias, max_length)
        self.attention_norm = nn.LayerNorm(v, eps=NORM_EPS, elementwise_affine=False)
        self.dropout = nn.Dropout(config.dropout)
        self.f2 = nn.Linear(v, config.dim)
        nn.init.normal_(self.f1.weight, 0.0, 0.02)
        nn.init.xavier_uniform_(self.f2.weight)
        nn.init.zeros_(self.f2.bias)

    def forward(self, x: Tensor, sequences: Sequences, relative_time: RelativeTime) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        u, v, q, k = F.silu(self.f1(self.norm(x))).split(self.widths, dim=-1)
        attended = attention(
            q.unflatten(-1, (self.heads, -1)),  # [tokens, heads, qk_dim]
            k.unflatten(-1, (self.heads, -1)),
            v.unflatten(-1, (self.heads, -1)),  # [tokens, heads, v_dim]
            sequences,
            activation="silu",
            mask=Causal(),
            bias=self.bias(relative_time),
            output_scale=1.0 / self.max_length,
            kernel=self.kernel,
        )
        gated = self.attention_norm(attended.flatten(1)) * u
        return self.f2(self.dropout(gated)) + x


class HSTU(nn.Module):
    """A stack of HSTU blocks."""

    def __init__(self, config: BackboneConfig, max_length: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(HSTUBlock(config, max_length) for _ in range(config.blocks))

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """[tokens, dim] -> [tokens, dim]; sequences of `batch` do not see each other."""
        relative_time = RelativeTime(batch.query_time, batch.timestamp, batch.sequences)
        for block in self.blocks:
            x = block(x, batch.sequences, relative_time)
        return x
