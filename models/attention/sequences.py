"""Where each sequence starts in a flat run of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences that stand one after the other, without padding, in tensors of shape [tokens, ...].

    Immutable and made once a batch, so that every layer shares the numbers that would otherwise cost a
    synchronization with the device each time.
    """

    offsets: Tensor
    """[sequences + 1] int64, from 0 to the number of tokens; sequence b is `offsets[b]:offsets[b + 1]`."""
    lengths: tuple[int, ...]
    """Tokens of each sequence, on the host."""

    @classmethod
    def from_offsets(cls, offsets: Tensor) -> Sequences:
        """Read the lengths from `offsets`; waits for the device if they are on one."""
        return cls(offsets, tuple(offsets.diff().tolist()))

    @classmethod
    def from_lengths(cls, lengths: Iterable[int], device: torch.device | str = "cpu") -> Sequences:
        """Lay sequences of these lengths one after the other."""
        lengths = tuple(lengths)
        offsets = torch.tensor((0, *lengths), dtype=torch.int64).cumsum(0)
        return cls(offsets.to(device), lengths)

    @property
    def num_sequences(self) -> int:
        return len(self.lengths)

    @cached_property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def max_length(self) -> int:
        """Length of the longest sequence, 0 without sequences."""
        return max(self.lengths, default=0)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Sequences:
        return Sequences(self.offsets.to(device, non_blocking=non_blocking), self.lengths)

    def padded_index(self) -> tuple[Tensor, Tensor]:
        """How to copy flat tokens into rows of equal length.

        Returns:
            index: [sequences, max_length] int64, the token at each place (0 where there is none).
            present: [sequences, max_length] bool, whether there is one.
        """
        place = torch.arange(self.max_length, device=self.offsets.device)
        index = self.offsets[:-1, None] + place
        present = index < self.offsets[1:, None]
        return torch.where(present, index, 0), present
