"""What all blocks of a backbone share in one pass."""

from __future__ import annotations

from dataclasses import dataclass

from models.attention import Mask, RelativeTime, Sequences
from models.layers.rope import Rotation


@dataclass(frozen=True, eq=False)
class SequenceContext:
    """Made once a batch."""

    sequences: Sequences
    relative_time: RelativeTime
    mask: Mask
    rotation: Rotation | None = None
    """Where queries and keys are rotated (RoPE)."""
