"""What all blocks of a backbone share in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from models.attention import Mask, RelativeTime, Sequences
from models.layers.rope import Rotation


class Past(Protocol):
    """What attention remembers of earlier tokens, where only the last ones of each sequence are computed."""

    @property
    def sequences(self) -> Sequences:
        """Of all tokens, remembered and new."""

    @property
    def timestamp(self) -> Tensor:
        """[all tokens] int64 seconds."""

    @property
    def candidates(self) -> int:
        """Most candidates at the end of a sequence (M-FALCON), which all take one position."""

    @property
    def in_place(self) -> bool:
        """Whether keys and values are read where they are, by `attend`, and `sequences` and `timestamp` are
        of new tokens; or else they are what `extend` gives."""

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[all tokens, heads, width] keys and values of a layer, of those of its new tokens."""

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Mask, activate: bool
    ) -> Tensor:
        """[new tokens, heads, value_dim] attention of a layer.

        Args:
            layer: an attention layer.
            query, key, value: [new tokens, heads, width].
            mask: what they see.
            activate: whether SiLU of these three is still to be taken.
        """


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
    queries: Sequences | None = None
    """Of the tokens that are computed, where they are only the last ones of each sequence."""
    past: Past | None = None
    """Where the keys and values of all others come from."""

    @property
    def beyond(self) -> int:
        """Tokens by which a sequence may be longer than a table of positions: candidates share one."""
        return 0 if self.past is None else self.past.candidates
