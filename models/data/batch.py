"""The one batch type: sequences one after the other in flat columns, nothing padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.attention.sequences import Room, Sequences

# Columns of a common buffer begin at multiples of so many numbers: GPUs load aligned memory faster, and
# compiled kernels are made for it.
_ALIGNMENT = 16

TOKEN_COLUMNS = ("item", "behavior", "timestamp", "query_time", "position", "target", "target_behavior")


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

    @classmethod
    def empty(cls, lengths: npt.NDArray[np.int64], *, has_time: bool, pin: bool = False) -> PackedBatch:
        """A batch whose token columns and rows are to be filled in, all in one buffer.

        One buffer goes to a device in one copy.

        Args:
            lengths: [sequences] tokens of each.
            has_time: whether its timestamps will mean anything.
            pin: whether the buffer is page-locked, so that copies to a GPU need not block.
        """
        tokens = int(lengths.sum())
        buffer = torch.empty(buffer_size(tokens, len(lengths)), dtype=torch.int64, pin_memory=pin)
        batch = cls._in(buffer, tokens, len(lengths), has_time, tuple(lengths.tolist()))
        offsets = batch.offsets.numpy()
        offsets[0] = 0
        np.cumsum(lengths, out=offsets[1:])
        return batch

    @classmethod
    def _in(
        cls, buffer: Tensor, tokens: int, rows: int, has_time: bool, known: tuple[int, ...] | Room
    ) -> PackedBatch:
        """A batch of views into a buffer: token columns, offsets, sequence; and what is known of lengths."""
        end = len(TOKEN_COLUMNS) * _stride(tokens)
        columns = _rows_of(buffer, tokens)[:, :tokens]
        offsets = buffer[end : end + rows + 1]
        batch = cls(
            **dict(zip(TOKEN_COLUMNS, columns.unbind(), strict=True)),
            offsets=offsets,
            sequence=buffer[end + rows + 1 : end + 2 * rows + 1],
            has_time=has_time,
        )
        batch.__dict__["buffer"] = buffer
        batch.__dict__["sequences"] = (
            Sequences(offsets, (), known) if isinstance(known, Room) else Sequences(offsets, known)
        )
        return batch

    def _with_buffer(self, buffer: Tensor) -> PackedBatch:
        """The same batch in a buffer elsewhere."""
        sequences = self.sequences
        known = sequences.room or sequences.lengths
        return self._in(buffer, self.num_tokens, self.num_sequences, self.has_time, known)

    @property
    def buffer(self) -> Tensor | None:
        """What all columns are views of, where the batch was made by `empty`."""
        return self.__dict__.get("buffer")

    def token_rows(self) -> Tensor:
        """[columns, tokens or a few more] the token columns of a batch made by `empty`, contiguous rows."""
        assert self.buffer is not None
        return _rows_of(self.buffer, self.num_tokens)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device; in one copy, where the batch is one buffer."""
        if self.buffer is not None:
            return self._with_buffer(self.buffer.to(device, non_blocking=non_blocking))
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        # Lengths are known here; reading them back from an accelerator would wait for it.
        moved.__dict__["sequences"] = Sequences(moved.offsets, self.sequences.lengths)
        return moved

    @classmethod
    def of_room(
        cls, buffer: Tensor, tokens: int, sequences: int, longest: int, *, has_time: bool
    ) -> PackedBatch:
        """The batch of a given size that a buffer holds, or will hold: lengths are not known on the host.

        Args:
            buffer: [`buffer_size`] int64, as `padded` fills it.
            tokens: of the columns; those after the last sequence belong to none.
            sequences: some of them may be empty.
            longest: no sequence has more tokens.
            has_time: whether timestamps mean anything.
        """
        return cls._in(buffer, tokens, sequences, has_time, Room(tokens, longest))

    def padded(self, tokens: int, sequences: int, longest: int, buffer: Tensor | None = None) -> PackedBatch:
        """The same batch in a buffer of a given size, for steps that are recorded once and replayed.

        Tokens after the last sequence are zeros and belong to none, sequences after the last are empty (their
        row number is -1), and lengths are no longer known on the host.

        Args:
            tokens: room for so many, at least as many as there are.
            sequences: likewise.
            longest: no sequence of any batch has more tokens.
            buffer: [`buffer_size`] int64 to be filled; a new one by default.

        Raises:
            ValueError: the batch does not fit.
        """
        if self.num_tokens > tokens or self.num_sequences > sequences or self.max_length > longest:
            raise ValueError(
                f"{self.num_tokens} tokens in {self.num_sequences} sequences of up to {self.max_length} do "
                f"not fit into {tokens} in {sequences} of up to {longest}"
            )
        if buffer is None:
            pinned = self.item.device.type == "cpu" and self.item.is_pinned()
            buffer = torch.empty(
                buffer_size(tokens, sequences), dtype=torch.int64, device=self.item.device, pin_memory=pinned
            )
        padded = self.of_room(buffer, tokens, sequences, longest, has_time=self.has_time)
        padded.token_rows()[:, self.num_tokens :] = 0
        for name in TOKEN_COLUMNS:
            getattr(padded, name)[: self.num_tokens] = getattr(self, name)
        padded.offsets.fill_(self.num_tokens)[: self.num_sequences + 1] = self.offsets
        padded.sequence.fill_(-1)[: self.num_sequences] = self.sequence
        return padded

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory, from which copies to a GPU need not block."""
        if self.buffer is not None:
            return self._with_buffer(self.buffer.pin_memory())
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
        for name in TOKEN_COLUMNS:
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


def _rows_of(buffer: Tensor, tokens: int) -> Tensor:
    stride = _stride(tokens)
    return buffer[: len(TOKEN_COLUMNS) * stride].view(len(TOKEN_COLUMNS), stride)


def buffer_size(tokens: int, rows: int) -> int:
    """Numbers in the buffer of a batch of so many tokens and sequences."""
    return len(TOKEN_COLUMNS) * _stride(tokens) + 2 * rows + 1


def _stride(tokens: int) -> int:
    """Numbers from one column of a buffer to the next."""
    return -(-tokens // _ALIGNMENT) * _ALIGNMENT


def _next(row: Sequence[int], last: Sequence[int]) -> list[int]:
    return [*row[1:], *last] if row else []


def _flat(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.int64)
