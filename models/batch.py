"""The one batch type: sequences one after the other in flat columns, nothing padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from models.attention.sequences import Sequences

_TOKEN_COLUMNS = ("item", "behavior", "timestamp", "query_time", "position", "target", "target_behavior")


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """T events of B sequences; sequence b is `offsets[b]:offsets[b + 1]`, oldest event first. All int64."""

    item: Tensor
    """[tokens] item id."""
    behavior: Tensor
    """[tokens] behavior id."""
    timestamp: Tensor
    """[tokens] seconds; zeros when the log has no time."""
    query_time: Tensor
    """[tokens] seconds: the instant at which the event after this one is predicted."""
    offsets: Tensor
    """[sequences + 1] where each sequence starts, then the number of tokens."""
    position: Tensor
    """[tokens] 0 for the oldest event of its window, then 1, 2, ..."""
    target: Tensor
    """[tokens] the item to predict; 0 where there is no loss."""
    target_behavior: Tensor
    """[tokens] the behavior of the event to predict; 0 where there is none."""
    sequence: Tensor
    """[sequences] row number of each sequence in the data set."""
    has_time: bool
    """Whether timestamps mean anything."""

    @cached_property
    def sequences(self) -> Sequences:
        """Where sequences start, as attention wants it; shared by all layers."""
        return Sequences.from_offsets(self.offsets)

    @property
    def num_tokens(self) -> int:
        return self.item.shape[0]

    @property
    def num_sequences(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> Tensor:
        """[sequences] tokens of each sequence."""
        return self.offsets.diff()

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence of this batch, 0 without sequences."""
        return self.sequences.max_length

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        # Lengths are known here; reading them back from an accelerator would wait for it.
        moved.__dict__["sequences"] = Sequences(moved.offsets, self.sequences.lengths)
        return moved

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory, from which copies to a GPU need not block."""
        pinned = self._map(lambda tensor: tensor.pin_memory())
        pinned.__dict__["sequences"] = Sequences(pinned.offsets, self.sequences.lengths)
        return pinned

    def validate(self) -> PackedBatch:
        """Check shapes, types and order; returns the batch itself.

        Raises:
            ValueError: the first rule that is broken.
        """
        for name, tensor in self._tensors().items():
            if tensor.dtype != torch.int64 or tensor.ndim != 1:
                raise ValueError(f"{name} must be flat and int64, not {list(tensor.shape)} {tensor.dtype}")
            if tensor.device != self.item.device:
                raise ValueError(f"{name} is on {tensor.device}, item on {self.item.device}")
        for name in _TOKEN_COLUMNS:
            if getattr(self, name).shape != self.item.shape:
                raise ValueError(f"{name} and item differ in length")
        self._validate_offsets()
        if self.num_tokens and min(int(self.item.min()), int(self.target.min())) < 0:
            raise ValueError("items and targets cannot be negative")
        if self.num_tokens and int(self.item.min()) == 0:
            raise ValueError("item 0 is padding, which a packed batch does not have")
        return self

    def _validate_offsets(self) -> None:
        if self.offsets.numel() == 0 or int(self.offsets[0]) != 0 or int(self.offsets[-1]) != self.num_tokens:
            raise ValueError(f"offsets must run from 0 to the number of tokens, {self.num_tokens}")
        if bool((self.lengths < 0).any()):
            raise ValueError("offsets must not fall")
        if self.sequence.numel() != self.num_sequences:
            raise ValueError(f"sequence has {self.sequence.numel()} rows for {self.num_sequences} sequences")
        starts = torch.repeat_interleave(self.offsets[:-1], self.lengths)
        if not torch.equal(self.position, torch.arange(self.num_tokens, device=self.item.device) - starts):
            raise ValueError("positions must count up from 0 within each sequence")

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "has_time"}

    def _map(self, change: Callable[[Tensor], Tensor]) -> PackedBatch:
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self._tensors().items()}
        return replace(self, **changed)

    @classmethod
    def from_lists(
        cls,
        items: Sequence[Sequence[int]],
        *,
        behaviors: Sequence[Sequence[int]] | None = None,
        timestamps: Sequence[Sequence[int]] | None = None,
        query_times: Sequence[Sequence[int]] | None = None,
        targets: Sequence[Sequence[int]] | None = None,
    ) -> PackedBatch:
        """Build a batch from Python lists, one a sequence; meant for tests and small examples.

        Args:
            items: item ids of each sequence.
            behaviors: behavior ids; all 1 by default.
            timestamps: seconds; without them the batch has no time.
            query_times: seconds; by default time known: that of the next event (the last event: its own).
            targets: items to predict; by default the next item (0 for the last event).
        """
        behaviors = behaviors if behaviors is not None else [[1] * len(row) for row in items]
        times = timestamps if timestamps is not None else [[0] * len(row) for row in items]
        if query_times is None:
            query_times = [_next(row, row[-1:]) for row in times]
        return cls(
            item=_flat(items),
            behavior=_flat(behaviors),
            timestamp=_flat(times),
            query_time=_flat(query_times),
            offsets=Sequences.from_lengths(len(row) for row in items).offsets,
            position=_flat([range(len(row)) for row in items]),
            target=_flat(targets if targets is not None else [_next(row, [0]) for row in items]),
            target_behavior=_flat([_next(row, [0]) for row in behaviors]),
            sequence=torch.arange(len(items)),
            has_time=timestamps is not None,
        ).validate()


def _next(row: Sequence[int], last: Sequence[int]) -> list[int]:
    return [*row[1:], *last] if row else []


def _flat(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.int64)
