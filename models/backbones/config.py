"""Settings of a backbone: its kind, its sizes, and what may differ from the published kind."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from behavior.config import Config
from models.attention.kinds import DecayKind
from models.backbones.consistency import contradictions
from models.backbones.kinds import BACKBONES
from models.backbones.preset import DropoutPlace, Preset
from models.backbones.transfer import TransferConfig
from models.layers.kinds import (
    BiasSetting,
    FeedForwardKind,
    NormKind,
    RecomputeMode,
    ResidualKind,
    published_width,
)
from models.layers.settings import BlockSettings
from models.layers.transfer import Transfer
from models.registered import bad_name


class BackboneConfig(Config):
    """A stack of equal blocks over [tokens, dim]. Empty settings are as published for the kind."""

    kind: str = Field("hstu", description=f"backbone: {', '.join(BACKBONES)}")
    blocks: int = Field(2, ge=1, description="number of blocks")
    dim: int = Field(50, ge=1, description="width of embeddings and hidden states")
    heads: int = Field(1, ge=1, description="attention heads")
    qk_dim: int | None = Field(None, ge=1, description="query and key width per head; empty: dim / heads")
    v_dim: int | None = Field(None, ge=1, description="width of values per head; empty: dim / heads")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="dropout rate wherever the kind has dropout")
    input_dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="dropout rate on the input embeddings; empty: dropout"
    )
    attention_dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="dropout rate on the attention output, before the output projection"
    )
    hidden_dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="dropout rate on what is added to the residual path"
    )
    feed_forward_dropout: float | None = Field(
        None, ge=0.0, lt=1.0, description="dropout rate inside the feed-forward network"
    )
    bias: BiasSetting | None = Field(
        None,
        description="relative attention bias: both, time, position (learned tables), decay (a learned "
        "function of time), rope (rotary position embedding instead) or none",
    )
    bias_tables: Literal["shared", "per_head"] | None = Field(
        None, description="one relative bias for all heads of a block, or one per head; empty: shared"
    )
    decay: DecayKind | None = Field(
        None, description="form of the decay with time, for bias decay: power or exponential; empty: power"
    )
    activation: Literal["silu", "softmax"] | None = Field(
        None,
        description="activation of attention scores: silu (pointwise; output divided by N) or softmax",
    )
    gate: bool | None = Field(None, description="HSTU's U: an elementwise gate on the attention output")
    pointwise: bool | None = Field(None, description="HSTU's pointwise projection: SiLU on U, V, Q and K")
    residual: ResidualKind | None = Field(
        None, description="residual connection: hstu, pre_norm (Llama's), post_norm, gated (LiGR's) or sasrec"
    )
    norm: NormKind | None = Field(
        None, description="norms on the residual path: layer or rms, each also _without_affine, or none"
    )
    attention_norm: NormKind | None = Field(
        None, description="norm of the attention output; choices as for norm"
    )
    final_norm: bool | None = Field(None, description="whether a norm follows the last block")
    feed_forward: FeedForwardKind | None = Field(
        None, description="feed-forward network: none, relu, gelu, swiglu or multi_stage (FuXi's)"
    )
    feed_forward_width: int | None = Field(None, ge=1, description="hidden width of the feed-forward network")
    learned_positions: bool | None = Field(
        None, description="learned absolute position embeddings added to the input"
    )
    scale_input: bool | None = Field(None, description="item embeddings multiplied by sqrt(dim) in the input")
    attention_window: int | None = Field(
        None,
        ge=1,
        description="local attention: an event sees itself and the attention_window - 1 events before it, in "
        "every block; empty: all events before it",
    )
    attention_global: int = Field(
        0,
        ge=0,
        description="semi-local attention (ULTRA-HSTU): the first events of the history, which every later "
        "event sees besides its attention_window",
    )
    recompute: RecomputeMode = Field(
        "none",
        description="activation checkpointing, what the backward pass recomputes: none, pointwise (all but "
        "matrix products and attention) or block (everything)",
    )
    attention: str = Field("auto", description="attention kernel by name; auto: the first that fits")
    transfer: TransferConfig = Field(
        default_factory=TransferConfig, description="learning rates that hold at other widths and depths"
    )

    @field_validator("kind")
    @classmethod
    def _exists(cls, kind: str) -> str:
        if kind not in BACKBONES:
            raise bad_name("backbone", kind, BACKBONES, "add it to models.backbones.kinds.BACKBONES")
        return kind

    @model_validator(mode="after")
    def _fits_together(self) -> BackboneConfig:
        if self.dim % self.heads and None in (self.qk_dim, self.v_dim):
            raise ValueError(f"dim ({self.dim}) is not a multiple of heads ({self.heads})")
        if self.attention_global and self.attention_window is None:
            raise ValueError(
                f"attention_global is {self.attention_global}, and without attention_window an event sees "
                "all before it anyway: set attention_window, or leave attention_global out"
            )
        given = {name for name, value in self if value is not None}
        found = contradictions(
            self.kind, self.block_settings(max_length=1), given, final_norm=bool(self.final_norm)
        )
        for problem in found:
            raise ValueError(problem)
        return self

    @property
    def query_dim(self) -> int:
        """Width of queries and keys per head."""
        return self.qk_dim or self.dim // self.heads

    @property
    def value_dim(self) -> int:
        """Width of values per head."""
        return self.v_dim or self.dim // self.heads

    @property
    def preset(self) -> Preset:
        """The kind as published."""
        return BACKBONES[self.kind]

    @property
    def relative_bias(self) -> BiasSetting:
        """The relative bias: as set, else as published."""
        return self.bias or self.preset.bias

    @property
    def residual_kind(self) -> ResidualKind:
        """The residual connection: as set, else as published."""
        return self.residual or self.preset.residual

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block; blocks of the post-norm pattern end with one already."""
        if self.final_norm is not None:
            return self.final_norm
        return self.preset.final_norm and self.residual_kind != "post_norm"

    @property
    def input_dropout_rate(self) -> float:
        """Dropout rate on the input embeddings."""
        return self.dropout if self.input_dropout is None else self.input_dropout

    @property
    def has_learned_positions(self) -> bool:
        """Whether learned absolute position embeddings are added to the input."""
        return _chosen(self.learned_positions, self.preset.learned_positions)

    @property
    def scales_input(self) -> bool:
        """Whether item embeddings are multiplied by sqrt(dim) in the input."""
        return _chosen(self.scale_input, self.preset.scale_input)

    @property
    def relative_size(self) -> Transfer:
        """The size beside that of the base whose learning rate the model has."""
        return self.transfer.of_size(self.dim, self.blocks, self.heads, qk_dim=self.qk_dim)

    @property
    def kernel(self) -> str | None:
        """Name of the attention kernel; None: chosen by its input."""
        return None if self.attention == "auto" else self.attention

    def block_settings(
        self,
        max_length: int,
        max_tokens: int | None = None,
        attributes: int = 0,
        attribute_dim: int | None = None,
    ) -> BlockSettings:
        """All settings of a block, none left open.

        Args:
            max_length: longest history in events, N.
            max_tokens: most tokens of a sequence; by default as many as events.
            attributes: features that queries and keys alone are told of (`Tokens.attributes`).
            attribute_dim: width of each one's per head; by default a quarter of the item's, 4 at least.
        """
        preset, transfer = self.preset, self.relative_size
        feed_forward = self.feed_forward or preset.feed_forward
        return BlockSettings(
            dim=self.dim,
            heads=self.heads,
            query_dim=self.query_dim,
            value_dim=self.value_dim,
            max_length=max_length,
            max_tokens=max_length if max_tokens is None else max_tokens,
            bias=self.relative_bias,
            bias_per_head=self.bias_tables == "per_head",
            decay=self.decay or "power",
            channels=preset.channels,
            activation=self.activation or preset.activation,
            gate=_chosen(self.gate, preset.gate),
            pointwise=_chosen(self.pointwise, preset.pointwise),
            separate_projections=preset.separate_projections or self.residual_kind == "sasrec",
            output_projection=preset.output_projection,
            attention_norm=self.attention_norm or preset.attention_norm,
            residual=self.residual_kind,
            norm=self.norm or preset.norm,
            norm_eps=preset.norm_eps,
            feed_forward=feed_forward,
            feed_forward_width=self.feed_forward_width or self._published_width(feed_forward),
            attention_dropout=self._dropout("attention", self.attention_dropout),
            hidden_dropout=self._dropout("hidden", self.hidden_dropout),
            feed_forward_dropout=self._dropout("feed_forward", self.feed_forward_dropout),
            projection_bias=preset.projection_bias,
            output_bias=preset.output_bias,
            feed_forward_bias=preset.feed_forward_bias,
            projection_std=transfer.scaled(preset.projection_std),
            feed_forward_std=transfer.scaled(preset.feed_forward_std),
            output_std=transfer.scaled(self._output_std()),
            kernel=self.kernel,
            recompute=self.recompute,
            attributes=attributes,
            attribute_dim=(attribute_dim or max(4, self.query_dim // 4)) if attributes else 0,
            transfer=transfer,
        )

    def _published_width(self, feed_forward: FeedForwardKind) -> int:
        multiple = self.preset.feed_forward_multiple
        return multiple * self.dim if multiple else published_width(feed_forward, self.dim)

    def _dropout(self, place: DropoutPlace, setting: float | None) -> float:
        if setting is not None:
            return setting
        return self.dropout if place in self.preset.dropout else 0.0

    def _output_std(self) -> float | None:
        std = self.preset.output_std
        # Where residuals follow the depth, weights need not.
        blocks = self.blocks / self.relative_size.depth
        return std / (2 * blocks) ** 0.5 if std and self.preset.output_std_by_depth else std


def _chosen(setting: bool | None, published: bool) -> bool:
    return published if setting is None else setting
