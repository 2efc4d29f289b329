"""A time bias without buckets: a function of the time difference with two learned numbers.

FuXi-beta and FuXi-gamma replace look-ups in a bucket table, a large part of the time of inference, by a power
or an exponential of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.kinds import DecayKind


@dataclass(frozen=True, eq=False)
class TimeDecay:
    """`amount * (1 + |d|)^-rate` (power) or `amount * exp(-rate * |d|)` (exponential), d in seconds."""

    amount: Tensor
    """[1] float, shared by all heads, or [heads]."""
    rate: Tensor
    """[1] or [heads], like `amount`; positive, or the bias grows with the difference."""
    kind: DecayKind = "power"

    def __post_init__(self) -> None:
        if self.kind not in ("power", "exponential"):
            raise ValueError(f"a time decay is 'power' or 'exponential', not '{self.kind}'")
        if self.amount.ndim != 1 or self.amount.shape != self.rate.shape:
            raise ValueError("a time decay has an amount and a rate: one for all heads, or one a head")

    def materialize(self, difference: Tensor) -> Tensor:
        """[1 or heads, *difference.shape] of int64 differences in seconds."""
        dtype = torch.promote_types(self.amount.dtype, torch.float32)
        exponent = difference.abs().to(dtype)
        if self.kind == "power":
            exponent = torch.log1p(exponent)
        shape = (-1,) + (1,) * difference.ndim
        return self.amount.view(shape) * torch.exp(-self.rate.view(shape) * exponent)
