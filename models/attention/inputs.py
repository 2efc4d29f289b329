"""What every attention kernel is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.attention.bias import RelativeBias
from models.attention.masks import Mask
from models.attention.sequences import Sequences

Activation = Literal["silu", "softmax"]


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """The arguments of `models.attention.attention`, checked."""

    q: Tensor
    """[tokens, heads, qk_dim]"""
    k: Tensor
    """[tokens, heads, qk_dim]"""
    v: Tensor
    """[tokens, heads, v_dim]"""
    sequences: Sequences
    activation: Activation
    mask: Mask
    bias: RelativeBias | None
    qk_scale: float
    output_scale: float

    def __post_init__(self) -> None:
        if self.activation not in ("silu", "softmax"):
            raise ValueError(f"the activation is 'silu' or 'softmax', not '{self.activation}'")
        if self.q.ndim != 3 or self.q.shape != self.k.shape or self.q.shape[:2] != self.v.shape[:2]:
            raise ValueError(f"shapes do not go together: {self.shapes()}")
        if torch.compiler.is_compiling():
            # What follows looks at lengths, and a graph would then hold for the lengths of one batch only.
            return
        if self.sequences.num_tokens != self.q.shape[0]:
            raise ValueError(f"{self.sequences.num_tokens} tokens in sequences, {self.q.shape[0]} in q")
        if self.bias is not None:
            self.bias.check(self.sequences)

    def shapes(self) -> str:
        """Shapes, type and device, for messages."""
        q, k, v = (list(tensor.shape) for tensor in (self.q, self.k, self.v))
        return f"q {q}, k {k}, v {v}, {str(self.q.dtype).removeprefix('torch.')} on {self.q.device}"
