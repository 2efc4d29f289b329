"""Settings of learning rates that hold at other widths and depths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from behavior.config import Config, Unused
from models.layers.transfer import AS_PUBLISHED, Transfer

TransferRule = Literal["none", "mup", "depth_mup", "completep"]

_EXPONENTS: dict[TransferRule, float] = {"depth_mup": 0.5, "completep": 1.0}
"""Of depth, in the factor of what a block adds to the residual path."""


class TransferConfig(Config):
    """Width and depth transfer: `learning_rate` is that of a base size, and fits others."""

    rule: TransferRule = Field(
        "none",
        description="how initial weights, learning rates and residuals follow the size of the model: none: "
        "as published, whatever the size; mup: with width (maximal update parametrization, arXiv "
        "2203.03466); depth_mup: with depth, too, residuals divided by the root of blocks / base_blocks "
        "(arXiv 2310.02244); completep: divided by blocks / base_blocks (arXiv 2505.01618)",
    )
    base_dim: int = Field(64, ge=1, description="width at which all is as without transfer")
    base_blocks: int = Field(2, ge=1, description="number of blocks at which all is as without transfer")
    base_heads: int | None = Field(
        None, ge=1, description="heads at base_dim; empty: as many as the model has, wider or narrower"
    )

    def unused(self) -> Iterable[Unused]:
        """See `behavior.config.Config.unused`."""
        if self.rule == "none":
            names = ["base_dim", "base_blocks", "base_heads"]
            yield Unused(names, "rule is none", "set rule to mup, depth_mup or completep")
        elif self.rule == "mup":
            yield Unused(["base_blocks"], "rule is mup, which is of width", "set rule to completep")

    def of_size(self, dim: int, blocks: int, heads: int, *, qk_dim: int | None) -> Transfer:
        """How a model of some size differs from the base.

        Args:
            dim: width.
            blocks: number of them.
            heads: attention heads.
            qk_dim: width of queries and keys of a head, where it does not follow from width and heads.
        """
        if self.rule == "none":
            return AS_PUBLISHED
        width = dim / self.base_dim
        query = width * (self.base_heads or heads) / heads if qk_dim is None else 1.0
        if self.rule == "mup":
            return Transfer(width, query)
        return Transfer(width, query, blocks / self.base_blocks, _EXPONENTS[self.rule])
