"""What every attention kernel is given."""

from __future__ import annotations

from dataclasses import dataclass
from operator import gt
from typing import Literal, get_args

import torch
from torch import Tensor

from models.attention.bias import RelativeBias
from models.attention.masks import Mask
from models.attention.sequences import Sequences

Activation = Literal["silu", "softmax", "identity"]
_ACTIVATIONS = get_args(Activation)


@dataclass(frozen=True, eq=False)
class AttentionInputs:
    """The arguments of `models.attention.attention`, checked."""

    q: Tensor
    """[tokens, heads, qk_dim], or [query tokens, ...]"""
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
    queries: Sequences | None = None
    """Of q, where it holds only the last tokens of each sequence."""

    def __post_init__(self) -> None:
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"the activation is one of {', '.join(_ACTIVATIONS)}, not '{self.activation}'")
        q, k, v = self.q.shape, self.k.shape, self.v.shape
        # Number by number: slices of shapes take longer than all else here.
        if not (len(q) == len(k) == len(v) == 3 and q[1] == k[1] == v[1] and q[2] == k[2] and k[0] == v[0]):
            raise ValueError(f"shapes do not go together: {self.shapes()}")
        if torch.compiler.is_compiling():
            # What follows looks at lengths, and a graph would then hold for the lengths of one batch only.
            return
        if self.sequences.num_tokens != k[0]:
            raise ValueError(f"{self.sequences.num_tokens} tokens in sequences, {k[0]} in k")
        if self.query_sequences.num_tokens != q[0]:
            raise ValueError(f"{self.query_sequences.num_tokens} tokens in sequences, {q[0]} in q")
        self._check_queries()
        candidates = self.mask.candidates
        if candidates is not None and candidates.shape != (self.sequences.num_sequences,):
            raise ValueError("a mask counts the candidates of each sequence")
        if self.bias is not None:
            self.bias.check(self.sequences, self.queries, q[1])

    @property
    def query_sequences(self) -> Sequences:
        """Of q, whether it holds all tokens or the last ones."""
        return self.queries or self.sequences

    def _check_queries(self) -> None:
        if self.queries is None:
            return
        lengths, kept = self.sequences.lengths, self.queries.lengths
        if len(kept) != len(lengths) or any(map(gt, kept, lengths)):  # each layer looks: no loop in Python
            raise ValueError("queries are the last tokens of each sequence, no more than it has")

    @property
    def unread(self) -> list[str]:
        """The reason against kernels that need to know lengths, where only the device knows them."""
        known = self.sequences.room is None and self.query_sequences.room is None
        return [] if known else ["lengths are known to the device only"]

    @property
    def of_several(self) -> list[str]:
        """The reason against kernels whose candidates see the history and themselves alone."""
        mask = self.mask
        return ["candidates of one token each"] if mask.candidates is not None and mask.candidate > 1 else []

    def shapes(self) -> str:
        """Shapes, type and device, for messages."""
        q, k, v = (list(tensor.shape) for tensor in (self.q, self.k, self.v))
        return f"q {q}, k {k}, v {v}, {str(self.q.dtype).removeprefix('torch.')} on {self.q.device}"
