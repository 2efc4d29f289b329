"""Attention with its projections, gate and residual: one layer whose settings make it HSTU's, Llama's, ..."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.layers.context import SequenceContext
from models.layers.initialization import init_linear
from models.layers.norm import make_norm
from models.layers.relative_bias import RelativeBiasTables
from models.layers.residual import Residual
from models.layers.rope import rotate
from models.layers.settings import BlockSettings


class Projected(NamedTuple):
    """What attention is given."""

    gate: Tensor | None
    """[tokens, heads * channels * value_dim] U, or None."""
    value: Tensor
    """[tokens, heads, value_dim]"""
    query: Tensor
    """[tokens, heads, query_dim]"""
    key: Tensor
    """[tokens, heads, query_dim]"""


class SeparateProjections(nn.Module):
    """A linear layer each, so that keys and values can come from another input than queries (SASRec)."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        qk, v = settings.heads * settings.query_dim, settings.heads * settings.value_dim
        bias, std = settings.projection_bias, settings.projection_std
        self.query = nn.Linear(settings.dim, qk, bias=bias)
        self.key = nn.Linear(settings.dim, qk, bias=bias)
        self.value = nn.Linear(settings.dim, v, bias=bias)
        self.gate = nn.Linear(settings.dim, settings.attended_dim, bias=bias) if settings.gate else None
        for layer in (self.query, self.key, self.value, *([self.gate] if self.gate else [])):
            init_linear(layer, std)

    def forward(self, queries_from: Tensor, keys_from: Tensor) -> list[Tensor]:
        """[tokens, dim] twice -> [U,] V, Q, K."""
        rest = [self.value(keys_from), self.query(queries_from), self.key(keys_from)]
        return rest if self.gate is None else [self.gate(queries_from), *rest]


class AttentionLayer(nn.Module):
    """`residual(f2(dropout(norm(attention(Q, K, V)) * U)))` with `U, V, Q, K = split(SiLU(f1(norm(x))))`.

    That is HSTU (arXiv 2402.17152, eqs. 1 to 3); settings leave parts out or change them. With channels
    (FuXi-alpha, arXiv 2502.03036) the bias is not added to the scores: position and time each have attention
    over the same values whose weights are the bias itself, and the results stand side by side.
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.settings = settings
        qk, v = settings.heads * settings.query_dim, settings.heads * settings.value_dim
        # [U,] V, Q, K
        self.widths = [*([settings.attended_dim] if settings.gate else []), v, qk, qk]
        self.residual = Residual(
            settings.residual, settings.dim, settings.norm, settings.norm_eps, settings.hidden_dropout
        )
        self.f1: nn.Module = (
            SeparateProjections(settings)
            if settings.separate_projections
            else nn.Linear(settings.dim, sum(self.widths), bias=settings.projection_bias)
        )
        heads = settings.heads if settings.bias_per_head else None
        self.bias = RelativeBiasTables(settings.bias, settings.max_length, heads, settings.decay)
        self.attention_norm = make_norm(settings.attention_norm, settings.attended_dim, settings.norm_eps)
        self.dropout = nn.Dropout(settings.attention_dropout)
        self.f2: nn.Module = (
            nn.Linear(settings.attended_dim, settings.dim, bias=settings.output_bias)
            if settings.output_projection
            else nn.Identity()
        )
        if isinstance(self.f1, nn.Linear):
            init_linear(self.f1, settings.projection_std, self.widths)
        if isinstance(self.f2, nn.Linear):
            init_linear(self.f2, settings.output_std)

    def forward(self, x: Tensor, context: SequenceContext) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        entered = self.residual.enter(x)
        projected = self.project(entered, x)
        attended = self.attend(projected, context)
        gated = self.gate(attended, projected.gate)
        return self.residual.leave(x, entered, self.f2(gated))

    def project(self, entered: Tensor, x: Tensor) -> Projected:
        """U, V, Q, K of each token.

        Args:
            entered: [tokens, dim] what the residual pattern lets in.
            x: [tokens, dim] input of the layer; in SASRec's pattern, keys and values come from it.
        """
        heads = self.settings.heads
        if isinstance(self.f1, SeparateProjections):
            parts = self.f1(entered, x if self.settings.residual == "sasrec" else entered)
            parts = [F.silu(part) for part in parts] if self.settings.pointwise else parts
        else:
            joint = self.f1(entered)
            parts = list((F.silu(joint) if self.settings.pointwise else joint).split(self.widths, dim=-1))
        value, query, key = (part.unflatten(-1, (heads, -1)) for part in parts[-3:])
        return Projected(parts[0] if self.settings.gate else None, value, query, key)

    # A kernel of its own, chosen by lengths that a compiled graph must not depend on.
    @torch.compiler.disable
    def attend(self, projected: Projected, context: SequenceContext) -> Tensor:
        """[tokens, heads * channels * value_dim]; of each head first what positions, then times, then scores
        say."""
        settings = self.settings
        query, key, value = projected.query, projected.key, projected.value
        if context.rotation is not None:
            query, key = rotate(query, context.rotation), rotate(key, context.rotation)
        qk_scale, output_scale = settings.scales
        attended = attention(
            query,
            key,
            value,
            context.sequences,
            activation=settings.activation,
            mask=context.mask,
            bias=None if settings.channels else self.bias(context.relative_time),
            qk_scale=qk_scale,
            output_scale=output_scale,
            kernel=settings.kernel,
        )
        if settings.channels:
            attended = torch.cat([*self._bias_channels(value, context), attended], dim=-1)
        return attended.flatten(1)

    def gate(self, attended: Tensor, gate: Tensor | None) -> Tensor:
        """`dropout(norm(attended) * U)`, [tokens, heads * channels * value_dim]."""
        normed = self.attention_norm(attended)
        return self.dropout(normed if gate is None else normed * gate)

    def _bias_channels(self, value: Tensor, context: SequenceContext) -> list[Tensor]:
        """[tokens, heads, value_dim] a part of the bias: sums of values whose weights are that part alone."""
        nothing = value.new_zeros(*value.shape[:2], 1)  # queries and keys whose products are zero
        return [
            attention(
                nothing,
                nothing,
                value,
                context.sequences,
                activation="identity",
                mask=context.mask,
                bias=part,
                kernel=self.settings.kernel,
            )
            for part in self.bias.separate(context.relative_time)
        ]
