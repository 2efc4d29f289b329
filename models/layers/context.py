"""What all blocks of a backbone share in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.attention import Mask, RelativeTime, Sequences
from models.layers.rope import Rotation


# Not frozen: of a frozen one, torch.compile in torch 2.11 looks into every field, and compiles again for each
# number of sequences.
@dataclass(eq=False)
class SequenceContext:
    """Made once per forward pass, and not changed."""

    sequences: Sequences
    relative_time: RelativeTime
    mask: Mask
    rotation: Rotation | None = None
    """RoPE of queries and keys, where the backbone has it."""
    attributes: tuple[Tensor, ...] = ()
    """[tokens, dim] each: what queries and keys alone are told of, the same in all blocks."""
