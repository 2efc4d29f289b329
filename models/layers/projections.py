"""The projections U, V, Q and K, without the key bias that softmax is invariant to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.initialization import init_linear
from models.layers.settings import BlockSettings


def key_bias_matters(settings: BlockSettings) -> bool:
    """Whether a bias on keys changes the result of attention.

    `q.(k + b) = q.k + q.b` adds the same to all scores of a query, which softmax takes out again, whatever
    relative bias is added. Such a parameter's gradient is zero but for rounding, of which Adam makes steps of
    full length. Rotated keys (RoPE) and SiLU of keys or scores tell the difference.
    """
    return settings.activation != "softmax" or settings.bias == "rope" or settings.pointwise


class FusedProjections(nn.Linear):
    """One linear layer for [U,] V, Q, K, which stand in this order.

    Where a bias on keys does nothing, `bias` is that of the others alone.
    """

    def __init__(self, settings: BlockSettings) -> None:
        qk, v = settings.heads * settings.query_dim, settings.heads * settings.value_dim
        widths = [*([settings.attended_dim] if settings.gate else []), v, qk, qk]
        super().__init__(settings.dim, sum(widths), bias=settings.projection_bias)
        self.widths, self.std = widths, settings.projection_std
        self.unbiased = 0 if self.bias is None or key_bias_matters(settings) else qk
        """How many of the last outputs have no bias."""
        if self.unbiased:
            self.bias = nn.Parameter(self.bias.detach()[: -self.unbiased].clone())

    def draw(self) -> None:
        """Initialize the weights, and set biases to zero."""
        init_linear(self, self.std, self.widths)

    @property
    def former_lengths(self) -> dict[str, int]:
        """See `models.runs.former`."""
        return {"bias": self.out_features} if self.unbiased else {}

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, sum(widths)]."""
        return F.linear(x, self.weight, F.pad(self.bias, (0, self.unbiased)) if self.unbiased else self.bias)


class SeparateProjections(nn.Module):
    """A linear layer each, so that keys and values may have another input than queries (SASRec)."""

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
        self.unbiased_key = bias and not key_bias_matters(settings)
        if self.unbiased_key:
            # After it was made: a layer without a bias draws fewer random numbers.
            self.key.register_parameter("bias", None)

    @property
    def former_lengths(self) -> dict[str, int]:
        """See `models.runs.former`."""
        return {"key.bias": self.key.out_features} if self.unbiased_key else {}

    def forward(self, queries_from: Tensor, keys_from: Tensor) -> list[Tensor]:
        """[tokens, dim] twice -> [U,] V, Q, K."""
        rest = [self.value(keys_from), self.query(queries_from), self.key(keys_from)]
        return rest if self.gate is None else [self.gate(queries_from), *rest]
