"""Published values of a backbone's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.layers.kinds import (
    BiasSetting,
    FeedForwardKind,
    NormKind,
    ResidualKind,
    check_choices,
)

DropoutPlace = Literal["attention", "hidden", "feed_forward"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published backbone. Fields up to `scale_input` are settings, the others are fixed by the kind.

    Raises:
        ValueError: a choice that there is not, or a final norm after blocks that end with one.
    """

    bias: BiasSetting
    activation: Literal["silu", "softmax"]
    gate: bool = False
    pointwise: bool = False
    residual: ResidualKind
    norm: NormKind
    attention_norm: NormKind = "none"
    final_norm: bool = False
    """Whether a norm follows the last block; blocks of the post-norm pattern end with one already."""
    feed_forward: FeedForwardKind
    feed_forward_multiple: int | None = None
    """Hidden width over dim; None: that of the kind of feed-forward."""
    dropout: frozenset[DropoutPlace]
    """Where dropout is applied, besides the input."""
    learned_positions: bool = True
    scale_input: bool = True
    """Whether item embeddings are multiplied by sqrt(dim)."""

    norm_eps: float
    channels: bool = False
    separate_projections: bool = False
    output_projection: bool = True
    projection_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    projection_std: float | None = None
    feed_forward_std: float | None = None
    output_std: float | None = None
    output_std_by_depth: bool = False
    """Whether `output_std` is divided by sqrt(2 blocks)."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.final_norm and self.residual == "post_norm":
            raise ValueError("residual is post_norm, whose blocks end with a norm: leave final_norm out")
