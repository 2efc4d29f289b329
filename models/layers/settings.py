"""All settings of one block of a backbone, none left open."""

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
    check_choices,
)
from models.layers.transfer import AS_PUBLISHED, Transfer


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """Sizes and choices of a block; `BackboneConfig.block_settings` makes them of preset and config."""

    dim: int
    heads: int
    query_dim: int
    """Width of queries and keys per head."""
    value_dim: int
    """Width of values per head."""
    max_length: int
    """Longest history in events: HSTU's N."""
    max_tokens: int
    """Most tokens of a sequence: the size of position tables."""

    bias: BiasSetting
    bias_per_head: bool
    decay: DecayKind
    channels: bool
    """FuXi: position and time biases are channels of their own instead of being added to scores."""

    activation: Literal["silu", "softmax"]
    gate: bool
    """HSTU: the attention output is multiplied by U, a projection of the same input."""
    pointwise: bool
    """HSTU: SiLU on U, V, Q and K."""
    separate_projections: bool
    """SASRec: a linear layer each for queries, keys and values, which then may have different inputs."""
    output_projection: bool
    attention_norm: NormKind
    """Of the attention output, over all heads together."""

    residual: ResidualKind
    norm: NormKind
    norm_eps: float
    feed_forward: FeedForwardKind
    feed_forward_width: int

    attention_dropout: float
    """On the attention output, normalized and gated, before the output projection."""
    hidden_dropout: float
    """On what attention and feed-forward add to the residual path."""
    feed_forward_dropout: float

    projection_bias: bool
    output_bias: bool
    feed_forward_bias: bool
    projection_std: float | None
    """Standard deviation of the initial weights of U, V, Q and K; None: Xavier uniform."""
    feed_forward_std: float | None
    """The same of the first layer of the feed-forward network."""
    output_std: float | None
    """The same of the layers that write to the residual path."""
    kernel: str | None
    """Attention kernel by name; None: the first that supports the input."""
    recompute: RecomputeMode
    attributes: int = 0
    """Features that queries and keys are told of apart from the item (DIF-SR)."""
    attribute_dim: int = 0
    """Width of each one's queries and keys per head."""
    transfer: Transfer = AS_PUBLISHED
    """The model's size beside that of the base whose learning rate it has; standard deviations follow it."""

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def num_channels(self) -> int:
        """Attention outputs that are concatenated."""
        parts = {"both": 2, "position": 1, "time": 1, "decay": 1}
        return 1 + parts.get(self.bias, 0) if self.channels else 1

    @property
    def compared_dim(self) -> int:
        """Width of queries and keys per head as attention has them, with those of features."""
        return self.query_dim + self.attributes * self.attribute_dim

    @property
    def attended_dim(self) -> int:
        """Width of the attention output, all heads and channels."""
        return self.num_channels * self.heads * self.value_dim

    @property
    def scales(self) -> tuple[float, float]:
        """Scale of the dot products and of the output: softmax `(query_dim^-0.5, 1)`, SiLU `(1, 1 / N)`.

        With transfer, dot products of either are divided by `query_dim`, but for what the base has.
        """
        query = self.transfer.query
        if self.activation == "softmax":
            return (self.query_dim * query) ** -0.5, 1.0
        return 1.0 / query, 1.0 / self.max_length
