"""The attention sublayer of a block: projections, attention, gate and residual, of any kind of backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.layers.attributes import AttributeProjections
from models.layers.context import SequenceContext
from models.layers.dropout import Dropout
from models.layers.initialization import init_linear
from models.layers.kernels import activated_parts, fits_parts
from models.layers.linear import Linear
from models.layers.norm import make_norm, norm_gate_drop
from models.layers.projections import FusedProjections, SeparateProjections
from models.layers.recompute import Ingredients, keep_inputs_only
from models.layers.relative_bias import RelativeBiasTables
from models.layers.residual import Residual
from models.layers.rope import Rotation, rotate
from models.layers.settings import BlockSettings


class AttentionLayer(nn.Module):
    """`residual(f2(dropout(norm(attention(Q, K, V)) * U)))` with `U, V, Q, K = split(SiLU(f1(norm(x))))`.

    That is HSTU (arXiv 2402.17152, eqs. 1 to 3); settings leave parts out or change them. With channels
    (FuXi-alpha, arXiv 2502.03036) the bias is not added to the scores: position and time each have attention
    over the same values whose weights are the bias itself, and the results stand side by side.

    With attributes (DIF-SR, arXiv 2204.11046) features of an event have queries and keys of their own, by
    `models.layers.attributes`; scores are the sum of the item's and theirs, values are of the item alone.
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.settings = settings
        self.residual = Residual(
            settings.residual,
            settings.dim,
            settings.norm,
            settings.norm_eps,
            settings.hidden_dropout,
            settings.transfer.residual,
        )
        self.f1: FusedProjections | SeparateProjections = (
            SeparateProjections(settings) if settings.separate_projections else FusedProjections(settings)
        )
        heads = settings.heads if settings.bias_per_head else None
        self.bias = RelativeBiasTables(settings.bias, settings.max_tokens, heads, settings.decay)
        self.attention_norm = make_norm(settings.attention_norm, settings.attended_dim, settings.norm_eps)
        self.dropout = Dropout(settings.attention_dropout)
        self.f2: nn.Module = (
            Linear(settings.attended_dim, settings.dim, bias=settings.output_bias)
            if settings.output_projection
            else nn.Identity()
        )
        self.attributes = AttributeProjections(settings) if settings.attributes else None
        # After all parts are made: the order of random numbers is part of what a seed means.
        if isinstance(self.f1, FusedProjections):
            self.f1.draw()
        if isinstance(self.f2, nn.Linear):
            init_linear(self.f2, settings.output_std)

    def forward(self, x: Tensor, context: SequenceContext) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        # What is remembered has no gradient.
        if self.settings.recompute == "pointwise" and torch.is_grad_enabled() and context.past is None:
            return self._forward_keeping_little(x, context)
        entered, projected = self.project(x)
        return self.residual.leave(x, entered, self.transform(projected, context))

    def transform(self, projected: list[Tensor], context: SequenceContext) -> Tensor:
        """[tokens, dim] output of f2, of what `project` gives."""
        past = context.past
        in_place = past is not None and past.in_place
        # There, what reads projections activates them on the way, unless something stands in between.
        late = in_place and self.settings.pointwise and context.rotation is None and self.attributes is None
        # In kernels, U is activated where it is multiplied by.
        fused = not late and self.settings.pointwise and len(projected) == 1 and fits_parts(projected[0])
        if fused:
            assert isinstance(self.f1, FusedProjections)
            *gates, value, query, key = activated_parts(projected[0], tuple(self.f1.widths))
            gate = gates[0] if gates else None
        else:
            gate, (value, query, key) = self.split(
                projected if late else [self.activate(part) for part in projected]
            )
        query, key = self.shape(query, context.rotation), self.shape(key, context.rotation)
        if self.attributes is not None:
            query, key = (
                self.widen(part, more)
                for part, more in zip((query, key), self.attributes(context), strict=True)
            )
        value = self.shape(value)
        if past is not None and in_place:
            attended = past.attend(self, query, key, value, context.mask, activate=late).flatten(1)
        else:
            if past is not None:
                key, value = past.extend(self, key, value)
            attended = self.attend(query, key, value, context)
        return self.f2(norm_gate_drop(self.attention_norm, self.dropout, attended, gate, silu=late or fused))

    def _forward_keeping_little(self, x: Tensor, context: SequenceContext) -> Tensor:
        """The same, which saves x, the outputs of f1 and of attention, and dropout's mask."""
        entered, projected = keep_inputs_only(self.project, x)
        gate, (value, query, key) = self.split(projected)
        attended = self.attend_keeping_little(query, key, value, context)
        mask = self.dropout.draw(*attended.shape, device=x.device)
        combined = keep_inputs_only(self.activate_and_combine, attended, gate, mask)
        return self.residual.leave(x, entered, combined)

    def project(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The input as the residual lets it in; of it, before SiLU, one fused projection, or [U,] V, Q, K."""
        entered = self.residual.enter(x)
        return entered, self.project_entered(x, entered)

    def project_entered(self, x: Tensor, entered: Tensor) -> list[Tensor]:
        """The second of these, given the first."""
        if isinstance(self.f1, SeparateProjections):
            # In SASRec, keys and values come from the input before its norm.
            return self.f1(entered, x if self.settings.residual == "sasrec" else entered)
        return [self.f1(entered)]

    def split(self, projected: list[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
        """U or None, and V, Q, K: [tokens, width] each."""
        parts = (
            list(projected[0].split(self.f1.widths, dim=-1))
            if isinstance(self.f1, FusedProjections)
            else projected
        )
        return (parts[0] if self.settings.gate else None), parts[-3:]

    def activate(self, projected: Tensor) -> Tensor:
        """SiLU, where the kind has it."""
        return F.silu(projected) if self.settings.pointwise else projected

    def shape(self, part: Tensor, rotation: Rotation | None = None) -> Tensor:
        """[tokens, heads, width] of [tokens, heads * width]; with RoPE, if there is a rotation."""
        part = part.unflatten(-1, (self.settings.heads, -1))
        return part if rotation is None else rotate(part, rotation)

    def widen(self, part: Tensor, attributes: Tensor) -> Tensor:
        """[tokens, heads, width + more] queries or keys of the item, and next to them those of its features.

        One dot product of both is the sum of the items' and the features' scores.

        Args:
            part: [tokens, heads, width], ready.
            attributes: [tokens, heads, more], as they are projected; no position turns them.
        """
        return torch.cat([part, self.activate(attributes).to(part.dtype)], dim=-1)

    def activate_and_shape(
        self, part: Tensor, rotation: Rotation | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """All of it."""
        shaped = self.shape(self.activate(part), rotation)
        return shaped if attributes is None else self.widen(shaped, attributes)

    # A kernel of its own, chosen by lengths that a compiled graph must not depend on.
    @torch.compiler.disable
    def attend(self, query: Tensor, key: Tensor, value: Tensor, context: SequenceContext) -> Tensor:
        """[tokens, heads * channels * value_dim]; of each head the position, the time, then the semantic
        channel."""
        settings = self.settings
        qk_scale, output_scale = settings.scales
        attended = attention(
            query,
            key,
            value,
            context.sequences,
            activation=settings.activation,
            mask=context.mask,
            bias=None if settings.channels else self.bias(context.relative_time, context.beyond),
            qk_scale=qk_scale,
            output_scale=output_scale,
            queries=context.queries,
            kernel=settings.kernel,
        )
        if settings.channels:
            attended = torch.cat([*self._bias_channels(query, value, context), attended], dim=-1)
        return attended.flatten(1)

    @torch.compiler.disable
    def attend_keeping_little(
        self, query: Tensor, key: Tensor, value: Tensor, context: SequenceContext
    ) -> Tensor:
        """The same of projections before SiLU and rotation, both of which the backward pass recomputes."""
        ingredients = Ingredients()
        more = (None, None) if self.attributes is None else self.attributes(context)
        query, key = (
            ingredients.make(self.activate_and_shape, part, context.rotation, attributes)
            for part, attributes in zip((query, key), more, strict=True)
        )
        value = ingredients.make(self.activate_and_shape, value)
        with ingredients.saving():
            return self.attend(query, key, value, context)

    def combine(self, attended: Tensor, gate: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """`f2(dropout(norm(attended) * U))`, [tokens, dim].

        Args:
            attended: [tokens, heads * channels * value_dim].
            gate: U, of the same shape, or None.
            mask: of dropout, of the same shape; None to draw one.
        """
        return self.f2(norm_gate_drop(self.attention_norm, self.dropout, attended, gate, mask))

    def activate_and_combine(self, attended: Tensor, gate: Tensor | None, mask: Tensor | None) -> Tensor:
        """The same of U before SiLU."""
        return self.combine(attended, None if gate is None else self.activate(gate), mask)

    def _bias_channels(self, query: Tensor, value: Tensor, context: SequenceContext) -> list[Tensor]:
        """FuXi's channels, [tokens, heads, value_dim] each: values weighted by one part of the bias alone."""
        keys = value.new_zeros(*value.shape[:2], 1)  # as queries: scores are the bias alone
        queries = keys if context.queries is None else value.new_zeros(*query.shape[:2], 1)
        return [
            attention(
                queries,
                keys,
                value,
                context.sequences,
                activation="identity",
                mask=context.mask,
                bias=part,
                queries=context.queries,
                kernel=self.settings.kernel,
            )
            for part in self.bias.separate(context.relative_time, context.beyond)
        ]
