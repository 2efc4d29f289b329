"""The input of a step that is captured as a CUDA graph: of one of few sizes, always in the same memory."""

from __future__ import annotations

from typing import NamedTuple

import torch

from models.data.batch import PackedBatch
from models.data.segments import buffer_size
from models.distributed.tables import TargetPlaces
from models.tasks.loss_batch import LossBatch

_PARTS = 8
"""Sizes between a power of two and the next: less than an eighth is padding."""
_SMALLEST = 64
_NUMBERS = 2
"""What all processes together have: the denominator of the loss, and the mean weight of positions."""


class StepSize(NamedTuple):
    """What a captured step has room for; all steps that round up to it replay the same graph."""

    tokens: int
    sequences: int
    positions: int
    """Tokens that predict something."""
    others: int = 0
    """Targets that are not the item of the next event, where both are looked up at once."""

    @classmethod
    def holding(cls, step: LossBatch) -> StepSize:
        """The smallest size that holds a step."""
        batch = step.batch
        sizes = [batch.num_events, batch.num_sequences, len(step.positions)]
        return cls(*map(round_up, sizes if step.places is None else [*sizes, len(step.places.others)]))


def round_up(count: int) -> int:
    """The next of few sizes: multiples of 64, and from 512 on eight between powers of two.

    >>> [round_up(count) for count in (0, 65, 1024, 1025, 14_000, 20_000)]
    [64, 128, 1024, 1152, 14336, 20480]
    """
    octave = 1 << max(count - 1, 0).bit_length() >> 1
    unit = max(octave // _PARTS, _SMALLEST)
    return max(-(-count // unit), 1) * unit


class _Staged:
    """Sends what comes next to a GPU while it takes the step before, which reads the buffer.

    Args:
        buffer: where it is to be.
    """

    def __init__(self, buffer: torch.Tensor) -> None:
        self.buffer, self.own = buffer, torch.empty_like(buffer)
        self.stream = torch.cuda.Stream(buffer.device)
        self.stream.wait_stream(torch.cuda.current_stream(buffer.device))
        self.taken = torch.cuda.Event()

    def send(self, host: torch.Tensor) -> None:
        """Copy from page-locked memory; work that is queued from now on finds it in the buffer."""
        main = torch.cuda.current_stream(self.buffer.device)
        self.stream.wait_event(self.taken)
        with torch.cuda.stream(self.stream):
            self.own.copy_(host, non_blocking=True)
        main.wait_stream(self.stream)
        self.buffer.copy_(self.own)
        self.taken.record(main)


class StaticInput:
    """The fixed memory that the steps of one size are copied into, one after the other.

    Args:
        size: room.
        like: a step, for its columns, whether timestamps mean anything and whether positions have weights.
        longest: no sequence has more tokens.
        device: where the step is taken.
    """

    def __init__(self, size: StepSize, like: LossBatch, *, longest: int, device: torch.device) -> None:
        self.size, self.longest = size, longest
        self.columns, self.has_time = like.batch.columns, like.batch.has_time
        self.weighted = like.mean_weight is not None
        self._batch_size = buffer_size(self.columns, size.tokens, size.sequences)
        # The batch, positions, how many of them there are, places of targets, and numbers: one buffer is
        # filled by one copy.
        places = size.positions if size.others else 0
        self._parts = [size.positions, 1, places, size.others, _NUMBERS]
        total = self._batch_size + sum(self._parts) * torch.int64.itemsize
        self.buffer = torch.zeros(total, dtype=torch.uint8, device=device)
        self._staged = _Staged(self.buffer) if device.type == "cuda" else None

    def put(self, step: LossBatch, denominator: float = 0.0) -> None:
        """Put a step in, from the host; nothing is waited for.

        Args:
            step: no larger than the size.
            denominator: of its loss, where that is not the number of its positions.
        """
        host = torch.empty(self.buffer.shape, dtype=torch.uint8, pin_memory=self.buffer.device.type == "cuda")
        batch, (positions, number, places, others, numbers) = self._divided(host)
        numbers.view(torch.float64)[0] = denominator
        numbers.view(torch.float64)[1] = 1.0 if step.mean_weight is None else step.mean_weight
        step.batch.padded(self.size.tokens, self.size.sequences, self.longest, batch)
        count = len(step.positions)
        positions[:count] = step.positions
        # Others do not count, but are looked up. Not one token for all: their gradients would queue for it.
        positions[count:] = torch.arange(count, self.size.positions)
        number[0] = count
        if step.places is not None:
            place, found = step.places
            moved = self.size.tokens - step.batch.num_events
            places[:count] = place + moved * (place >= step.batch.num_events)
            places[count:] = positions[count:]
            others[: len(found)] = found
            others[len(found) :] = 0
        if self._staged is None:
            self.buffer.copy_(host)
        else:
            self._staged.send(host)

    def step(self) -> LossBatch:
        """The step that is in. To be asked for within the capture, once a capture.

        What is found out once a batch, such as where attention's tiles are, is then replayed as well.
        """
        room, (positions, number, places, others, numbers) = self._divided(self.buffer)
        batch = PackedBatch.of_room(
            room,
            self.size.tokens,
            self.size.sequences,
            self.longest,
            has_time=self.has_time,
            columns=self.columns,
        )
        place = torch.arange(self.size.positions, device=self.buffer.device)
        mean_weight = numbers.view(torch.float64)[1].float() if self.weighted else None
        step = LossBatch(batch, positions, place < number[0], mean_weight=mean_weight)
        step.places = TargetPlaces(places, others) if self.size.others else None
        return step

    @property
    def denominator(self) -> torch.Tensor:
        """That of the step that is in, a float32 scalar."""
        return self._divided(self.buffer)[1][-1].view(torch.float64)[0].float()

    def _divided(self, buffer: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The bytes of the batch; int64: positions, how many there are, places of targets, other targets, and
        numbers, which are float64."""
        tail = buffer[self._batch_size :].view(torch.int64)
        return buffer[: self._batch_size], tail.split(self._parts)
