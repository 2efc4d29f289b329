"""SASRec: self-attentive sequential recommendation (arXiv 1808.09781), wired as in its authors' code.

One departure: dropout falls on the result of attention, not on its weights, which fused kernels never hold.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.attention import Causal, RelativeTime, Sequences, attention
from models.backbones.config import BackboneConfig
from models.batch import PackedBatch
from models.layers.feed_forward import PointwiseFeedForward
from models.layers.relative_bias import RelativeBiasTables

NORM_EPS = 1e-8


class SASRecBlock(nn.Module):
    """`q = norm(x)`; `a = attention(q, x, x) + q`; `y = ffn(norm(a)) + norm(a)`.

    Only queries are normalized, keys and values are not, and both residual paths start behind the norm.
    Softmax over the causal past, scale `1 / sqrt(qk_dim)`; no projection after the heads are joined.
    """

    def __init__(self, config: BackboneConfig, max_length: int) -> None:
        super().__init__()
        self.heads, self.kernel = config.heads, config.kernel
        self.scale = config.query_dim**-0.5
        self.query_norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.query = nn.Linear(config.dim, config.heads * config.query_dim)
        self.key = nn.Linear(config.dim, config.heads * config.query_dim)
        self.value = nn.Linear(config.dim, config.heads * config.value_dim)
        self.bias = RelativeBiasTables(config.relative_bias, max_length)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward_norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.feed_forward = PointwiseFeedForward(config.dim, config.dropout)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, sequences: Sequences, relative_time: RelativeTime) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        queries = self.query_norm(x)
        attended = attention(
            self.query(queries).unflatten(-1, (self.heads, -1)),  # [tokens, heads, qk_dim]
            self.key(x).unflatten(-1, (self.heads, -1)),
            self.value(x).unflatten(-1, (self.heads, -1)),  # [tokens, heads, v_dim]
            sequences,
            activation="softmax",
            mask=Causal(),
            bias=self.bias(relative_time),
            qk_scale=self.scale,
            kernel=self.kernel,
        )
        normed = self.feed_forward_norm(self.dropout(attended.flatten(1)) + queries)
        return self.feed_forward(normed) + normed


class SASRec(nn.Module):
    """A stack of SASRec blocks and a last LayerNorm."""

    def __init__(self, config: BackboneConfig, max_length: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SASRecBlock(config, max_length) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """[tokens, dim] -> [tokens, dim]; sequences of `batch` do not see each other."""
        relative_time = RelativeTime(batch.query_time, batch.timestamp, batch.sequences)
        for block in self.blocks:
            x = block(x, batch.sequences, relative_time)
        return self.norm(x)
