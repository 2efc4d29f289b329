"""Where each sequence starts in a flat run of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Room(NamedTuple):
    """What is known of sequences whose lengths are not."""

    tokens: int
    """Of the tensors; those past the last sequence belong to none."""
    longest: int
    """No sequence has more tokens."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences that stand one after the other, without padding, in tensors of shape [tokens, ...].

    Immutable and made once a batch, so that every layer shares the numbers that would otherwise cost a
    synchronization with the device each time.
    """

    offsets: Tensor
    """[sequences + 1] int64, from 0 to the number of tokens; sequence b is `offsets[b]:offsets[b + 1]`."""
    lengths: tuple[int, ...]
    """Tokens of each sequence, on the host; none where only the device knows them."""
    room: Room | None = None
    """Where only the device knows lengths: for steps that are recorded once and replayed with others."""

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

    @classmethod
    def unread(cls, offsets: Tensor, *, tokens: int, longest: int) -> Sequences:
        """Sequences whose lengths are never read from `offsets`; some of them may be empty.

        Args:
            offsets: [sequences + 1] int64.
            tokens: size of the tensors.
            longest: no sequence has more tokens.
        """
        return cls(offsets, (), Room(tokens, longest))

    @property
    def num_sequences(self) -> int:
        return self.offsets.shape[0] - 1

    @cached_property
    def num_tokens(self) -> int:
        return sum(self.lengths) if self.room is None else self.room.tokens

    @cached_property
    def max_length(self) -> int:
        """Length of the longest sequence, 0 without sequences; where lengths are not known, their limit."""
        return max(self.lengths, default=0) if self.room is None else self.room.longest

    def is_like(self, other: Sequences) -> bool:
        """Whether all sequences are known to be as long as those of `other`, without asking the device."""
        if self.room is None and other.room is None:
            return self.lengths == other.lengths
        return self.offsets is other.offsets

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Sequences:
        return Sequences(self.offsets.to(device, non_blocking=non_blocking), self.lengths, self.room)

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
