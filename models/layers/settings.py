"""What one block of a backbone is made of, every setting decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.attention.kinds import DecayKind
from models.layers.kinds import (
    BiasSetting,
    FeedForwardKind,
    NormKind,
    RecomputeMode,
    ResidualKind,
)


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """Sizes and choices of a block; `models.backbones.config` makes it from a preset and what a user set."""

    dim: int
    heads: int
    query_dim: int
    """Width of queries and keys, a head."""
    value_dim: int
    """Width of values, a head."""
    max_length: int
    """Longest history in events: HSTU's N."""
    max_tokens: int
    """Most tokens of a sequence: the size of position tables."""

    bias: BiasSetting
    bias_per_head: bool
    decay: DecayKind
    channels: bool
    """FuXi: positions and times have attention of their own instead of being added to the scores."""

    activation: Literal["silu", "softmax"]
    gate: bool
    """HSTU: the result of attention is multiplied by U, a projection of the same input."""
    pointwise: bool
    """HSTU: SiLU on all projections."""
    separate_projections: bool
    """SASRec: a layer each for queries, keys and values, which then may have different inputs."""
    output_projection: bool
    attention_norm: NormKind
    """Of the result of attention, over all heads together."""

    residual: ResidualKind
    norm: NormKind
    norm_eps: float
    feed_forward: FeedForwardKind
    feed_forward_width: int

    attention_dropout: float
    """On the result of attention, normed and gated, before the output projection."""
    hidden_dropout: float
    """On what attention and feed-forward add to the residual path."""
    feed_forward_dropout: float

    projection_bias: bool
    output_bias: bool
    feed_forward_bias: bool
    projection_std: float | None
    """Deviation of the first weights of U, V, Q, K; None for Xavier uniform."""
    feed_forward_std: float | None
    """The same of the feed-forward's inner layers."""
    output_std: float | None
    """The same of what adds to the residual path."""
    kernel: str | None
    """Attention kernel by name, None for the first that fits."""
    recompute: RecomputeMode

    @property
    def num_channels(self) -> int:
        """How many results of attention stand side by side."""
        parts = {"both": 2, "position": 1, "time": 1, "decay": 1}
        return 1 + parts.get(self.bias, 0) if self.channels else 1

    @property
    def attended_dim(self) -> int:
        """Width of the result of attention, all heads and channels."""
        return self.num_channels * self.heads * self.value_dim

    @property
    def scales(self) -> tuple[float, float]:
        """Factors of the dot products and of the result: softmax `(query_dim^-0.5, 1)`, SiLU `(1, 1 / N)`."""
        if self.activation == "softmax":
            return self.query_dim**-0.5, 1.0
        return 1.0, 1.0 / self.max_length
