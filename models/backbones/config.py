"""What a backbone is made of: the settings all kinds share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from behavior.config import Config
from behavior.errors import UserError
from models.layers.relative_bias import BiasSetting, uses_time

# What each paper has, where the setting is left open.
_PUBLISHED_BIAS: dict[str, BiasSetting] = {"hstu": "both", "sasrec": "none"}


class BackboneConfig(Config):
    """A stack of equal blocks over [tokens, dim]."""

    kind: Literal["hstu", "sasrec"] = Field("hstu", description="backbone: hstu or sasrec")
    blocks: int = Field(2, ge=1, description="number of blocks")
    dim: int = Field(50, ge=1, description="width of embeddings and hidden states")
    heads: int = Field(1, ge=1, description="attention heads")
    qk_dim: int | None = Field(None, ge=1, description="query and key width a head; empty: dim / heads")
    v_dim: int | None = Field(None, ge=1, description="value width a head; empty: dim / heads")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="dropout of hidden states and of the input")
    bias: BiasSetting | None = Field(
        None, description="relative attention bias: both, time, position or none; empty: as published"
    )
    attention: str = Field("auto", description="attention kernel by name; auto: the first that fits")

    @model_validator(mode="after")
    def _widths_fit(self) -> BackboneConfig:
        if self.dim % self.heads and None in (self.qk_dim, self.v_dim):
            raise ValueError(f"dim ({self.dim}) is not a multiple of heads ({self.heads})")
        if self.kind == "sasrec" and self.heads * self.value_dim != self.dim:
            raise ValueError("sasrec adds attention to its input: heads * v_dim must be dim; leave v_dim out")
        return self

    @property
    def query_dim(self) -> int:
        """Width of queries and keys, a head."""
        return self.qk_dim or self.dim // self.heads

    @property
    def value_dim(self) -> int:
        """Width of values, a head."""
        return self.v_dim or self.dim // self.heads

    @property
    def relative_bias(self) -> BiasSetting:
        """The bias setting, the published one where it was left open."""
        return self.bias or _PUBLISHED_BIAS[self.kind]

    @property
    def kernel(self) -> str | None:
        """Name of the attention kernel, None to choose by input."""
        return None if self.attention == "auto" else self.attention


def check_time_bias(config: BackboneConfig, *, has_time: bool, setting: str = "model.bias") -> None:
    """Refuse a time bias on data without timestamps.

    Args:
        config: the backbone.
        has_time: whether the data has timestamps.
        setting: name of the bias setting, for the message.

    Raises:
        UserError: the bias needs times that are not there.
    """
    if has_time or not uses_time(config.relative_bias):
        return
    raise UserError(
        f"the relative time bias of '{config.kind}' needs timestamps, and this data set has none",
        where=f"{setting} = {config.relative_bias}",
        fix=f"--set {setting}={'position' if config.relative_bias == 'both' else 'none'}",
    )
