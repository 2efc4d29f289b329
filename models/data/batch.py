"""The one batch type: sequences one after the other in flat columns, nothing padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.attention.sequences import Room, Sequences
from models.data.checks import check_columns, check_sequences, check_values
from models.data.columns import Column, Columns
from models.data.declared import CORE
from models.data.segments import buffer_size, segments


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """T events of B sequences; sequence b is `offsets[b]:offsets[b + 1]`, oldest event first.

    Core columns are attributes, too: `batch.item` is `batch["item"]`.
    """

    columns: Columns
    """What is known of each event; always with `item`."""
    values: Mapping[str, Tensor]
    """[events] each, of the dtype that its column declares."""
    offsets: Tensor
    """[sequences + 1] int64: where each sequence starts, then the number of events."""
    sequence: Tensor
    """[sequences] int64: row number of each sequence in the data set."""
    has_time: bool
    """Whether timestamps mean anything."""

    def __getitem__(self, name: str) -> Tensor:
        """[events] a column.

        Raises:
            KeyError: the batch has no such column: nobody asked for it when the data set was opened.
        """
        try:
            return self.values[name]
        except KeyError:
            raise KeyError(
                f"the batch has no column '{name}', only {', '.join(self.values)}: ask for it in "
                "Task.columns or Layout.columns"
            ) from None

    @property
    def item(self) -> Tensor:
        """[events] item id."""
        return self["item"]

    @property
    def behavior(self) -> Tensor:
        """[events] behavior id."""
        return self["behavior"]

    @property
    def timestamp(self) -> Tensor:
        """[events] seconds; zeros when the log has no time."""
        return self["timestamp"]

    @property
    def query_time(self) -> Tensor:
        """[events] seconds: the instant at which the event after this one is predicted."""
        return self["query_time"]

    @property
    def position(self) -> Tensor:
        """[events] 0 for the oldest event of its window, then 1, 2, ..."""
        return self["position"]

    @property
    def target(self) -> Tensor:
        """[events] the item to predict; 0 where there is no loss."""
        return self["target"]

    @property
    def target_behavior(self) -> Tensor:
        """[events] the behavior of the event to predict; 0 where there is none."""
        return self["target_behavior"]

    @cached_property
    def sequences(self) -> Sequences:
        """Where sequences start, as attention wants it; shared by all layers."""
        return Sequences.from_offsets(self.offsets)

    @property
    def num_events(self) -> int:
        return self.item.shape[0]

    @property
    def num_sequences(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> Tensor:
        """[sequences] events of each sequence."""
        return self.offsets.diff()

    @property
    def max_length(self) -> int:
        """Events of the longest sequence of this batch, 0 without sequences."""
        return self.sequences.max_length

    @property
    def buffer(self) -> Tensor | None:
        """[bytes] uint8: what all tensors are views of, where the batch was made by `empty`."""
        return self.__dict__.get("buffer")

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(tensor.nbytes for tensor in (*self.values.values(), self.offsets, self.sequence))

    @classmethod
    def empty(
        cls, lengths: npt.NDArray[np.int64], *, has_time: bool, columns: Columns = CORE, pin: bool = False
    ) -> PackedBatch:
        """A batch whose columns and row numbers are to be filled in, all in one buffer.

        One buffer goes to a device in one copy.

        Args:
            lengths: [sequences] events of each.
            has_time: whether its timestamps will mean anything.
            columns: one value per event.
            pin: whether the buffer is page-locked, so that copies to a GPU need not block.
        """
        events = int(lengths.sum())
        buffer = _new_buffer(columns, events, len(lengths), pin=pin)
        batch = cls._in(buffer, columns, events, len(lengths), has_time, tuple(lengths.tolist()))
        offsets = batch.offsets.numpy()
        offsets[0] = 0
        np.cumsum(lengths, out=offsets[1:])
        return batch

    @classmethod
    def _in(
        cls,
        buffer: Tensor,
        columns: Columns,
        events: int,
        sequences: int,
        has_time: bool,
        known: tuple[int, ...] | Room,
    ) -> PackedBatch:
        """A batch of views into a buffer, and what is known of lengths."""
        values, offsets, sequence = segments(buffer, columns, events, sequences)
        batch = cls(columns, values, offsets, sequence, has_time)
        batch.__dict__["buffer"] = buffer
        batch.__dict__["sequences"] = (
            Sequences(offsets, (), known) if isinstance(known, Room) else Sequences(offsets, known)
        )
        return batch

    @classmethod
    def of_room(
        cls,
        buffer: Tensor,
        events: int,
        sequences: int,
        longest: int,
        *,
        has_time: bool,
        columns: Columns = CORE,
    ) -> PackedBatch:
        """The batch of a given size that a buffer holds, or will hold: lengths are not known on the host.

        Args:
            buffer: [`buffer_size`] uint8, as `padded` fills it.
            events: of the columns; those after the last sequence belong to none.
            sequences: some of them may be empty.
            longest: no sequence has more events.
            has_time: whether timestamps mean anything.
            columns: one value per event.
        """
        return cls._in(buffer, columns, events, sequences, has_time, Room(events, longest))

    def padded(self, events: int, sequences: int, longest: int, buffer: Tensor | None = None) -> PackedBatch:
        """The same batch in a buffer of a given size, for steps that are captured once and replayed.

        Tokens after the last sequence belong to none and hold each column's fill value, sequences after the
        last are empty (their row number is -1), and lengths are no longer known on the host.

        Args:
            events: room for so many, at least as many as there are.
            sequences: likewise.
            longest: no sequence of any batch has more events.
            buffer: [`buffer_size`] uint8 to be filled; a new one by default.

        Raises:
            ValueError: the batch does not fit.
        """
        if self.num_events > events or self.num_sequences > sequences or self.max_length > longest:
            raise ValueError(
                f"{self.num_events} events in {self.num_sequences} sequences of up to {self.max_length} do "
                f"not fit into {events} in {sequences} of up to {longest}"
            )
        if buffer is None:
            device = self.item.device
            pin = device.type == "cpu" and self.item.is_pinned()
            buffer = _new_buffer(self.columns, events, sequences, pin=pin, device=device)
        padded = self.of_room(
            buffer, events, sequences, longest, has_time=self.has_time, columns=self.columns
        )
        for column in self.columns:
            room = padded[column.name]
            room[: self.num_events] = self[column.name]
            room[self.num_events :] = column.fill
        padded.offsets.fill_(self.num_events)[: self.num_sequences + 1] = self.offsets
        padded.sequence.fill_(-1)[: self.num_sequences] = self.sequence
        return padded

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device; in one copy, where the batch is one buffer."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory, from which copies to a GPU need not block."""
        return self._moved(lambda tensor: tensor.pin_memory())

    def _moved(self, move: Callable[[Tensor], Tensor]) -> PackedBatch:
        sequences = self.sequences
        if self.buffer is not None:
            known = sequences.room or sequences.lengths
            size = self.num_events, self.num_sequences
            return self._in(move(self.buffer), self.columns, *size, self.has_time, known)
        moved = replace(
            self,
            values={name: move(tensor) for name, tensor in self.values.items()},
            offsets=move(self.offsets),
            sequence=move(self.sequence),
        )
        # Lengths are known here; reading them back from an accelerator would wait for it.
        moved.__dict__["sequences"] = Sequences(moved.offsets, sequences.lengths, sequences.room)
        return moved

    def with_values(self, **changed: Tensor) -> PackedBatch:
        """The same sequences with other values in some columns, [events] each; no longer one buffer."""
        batch = replace(self, values={**self.values, **changed})
        batch.__dict__["sequences"] = self.sequences
        return batch

    def validate(self) -> PackedBatch:
        """Check columns, shapes, dtypes and order; returns the batch itself. Waits for the device.

        Raises:
            ValueError: the first rule that is broken.
        """
        check_columns(self.columns, self.values)
        check_sequences(self.item, self.offsets, self.sequence)
        check_values(self.values, self.offsets)
        return self

    @classmethod
    def from_lists(
        cls,
        items: Sequence[Sequence[int]],
        *,
        behaviors: Sequence[Sequence[int]] | None = None,
        timestamps: Sequence[Sequence[int]] | None = None,
        query_times: Sequence[Sequence[int]] | None = None,
        targets: Sequence[Sequence[int]] | None = None,
        more: Mapping[Column, Sequence[Sequence[float]]] | None = None,
    ) -> PackedBatch:
        """Build a batch from Python lists, one a sequence; meant for tests and small examples.

        Args:
            items: item ids of each sequence.
            behaviors: behavior ids; all 1 by default.
            timestamps: seconds; without them the batch has no time.
            query_times: seconds; by default time known: that of the next event (the last event: its own).
            targets: items to predict; by default the next item (0 for the last event).
            more: values of columns besides the core ones.
        """
        behaviors = behaviors if behaviors is not None else [[1] * len(row) for row in items]
        times = timestamps if timestamps is not None else [[0] * len(row) for row in items]
        if query_times is None:
            query_times = [_next(row, row[-1:]) for row in times]
        core = {
            "item": items,
            "behavior": behaviors,
            "timestamp": times,
            "query_time": query_times,
            "position": [range(len(row)) for row in items],
            "target": targets if targets is not None else [_next(row, [0]) for row in items],
            "target_behavior": [_next(row, [0]) for row in behaviors],
        }
        rows = {**core, **{column.name: lists for column, lists in (more or {}).items()}}
        columns = Columns.merged(CORE, more or ())
        return cls(
            columns,
            {column.name: _flat(rows[column.name], column.torch_dtype) for column in columns},
            offsets=Sequences.from_lengths(len(row) for row in items).offsets,
            sequence=torch.arange(len(items)),
            has_time=timestamps is not None,
        ).validate()


def _new_buffer(
    columns: Columns, events: int, sequences: int, *, pin: bool, device: torch.device | None = None
) -> Tensor:
    size = buffer_size(columns, events, sequences)
    return torch.empty(size, dtype=torch.uint8, pin_memory=pin, device=device)


def _next(row: Sequence[int], last: Sequence[int]) -> list[int]:
    return [*row[1:], *last] if row else []


def _flat(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=dtype)
