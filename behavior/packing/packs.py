"""The result of packing: which piece of which sequence lies in which pack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.errors import UserError
from behavior.packing.cost import TOKENS, Cost
from behavior.packing.lengths import is_list
from behavior.runtime.compiled import compiled


@dataclass(frozen=True, eq=False)
class Packs:
    """Pieces of sequences, pack by pack; a piece is a whole sequence where that was not cut.

    Pack p holds pieces `offsets[p]` to `offsets[p + 1]`; none is empty.
    """

    sequence: np.ndarray  # [pieces] int32 number of the sequence in the input
    start: np.ndarray  # [pieces] int32 its first event in the piece
    stop: np.ndarray  # [pieces] int32 the event after its last one
    offsets: np.ndarray  # [packs + 1] int64
    budget: float  # of a pack, in units of `cost`
    cost: Cost = TOKENS

    def __len__(self) -> int:
        """Number of packs."""
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """[pieces] int32 tokens of each piece."""
        return self.stop - self.start

    @cached_property
    def tokens(self) -> np.ndarray:
        """[packs] int64 tokens of each pack."""
        return self._sums(self.lengths)

    @cached_property
    def costs(self) -> np.ndarray:
        """[packs] float64 cost of each pack, at most the budget."""
        return self.costs_by(self.cost)

    def costs_by(self, cost: Cost) -> np.ndarray:
        """[packs] float64 what each pack costs by another measure."""
        return self._sums(cost.of(self.lengths))

    @property
    def fill(self) -> float:
        """The share of all budgets that is used."""
        return float(self.costs.sum() / (self.budget * max(1, len(self))))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        kind = np.result_type(values, np.int64)
        return np.add.reduceat(values, self.offsets[:-1], dtype=kind) if len(self) else np.zeros(0, kind)

    @property
    def numbers(self) -> np.ndarray:
        """[pieces] int32 the pack of each piece."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    def take(self, packs: Any) -> Packs:
        """Some of the packs, in the order given.

        Args:
            packs: their numbers. [taken] integer
        """
        packs = np.asarray(packs, np.int64)
        pieces = _ranges(self.offsets[packs], self.offsets[packs + 1])
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.diff(self.offsets)[packs])))
        return self._of_pieces(pieces, offsets)

    def regrouped(self, packs: np.ndarray, count: int) -> Packs:
        """The same pieces in other packs.

        Args:
            packs: the new pack of each piece. [pieces] int32
            count: number of packs.
        """
        return self._of_pieces(*grouped(packs, count))

    def _of_pieces(self, pieces: np.ndarray, offsets: np.ndarray) -> Packs:
        own = {name: getattr(self, name)[pieces] for name in ("sequence", "start", "stop")}
        return replace(self, **own, offsets=offsets)

    def apply(self, lists: Any) -> pa.Table:
        """Pack Arrow lists: a row a pack, tokens end to end.

            sequences [[1, 2], [3, 4, 5], [6]] in packs of 3 tokens
            sequence  [[1], [0, 2]]
            start     [[0], [0, 0]]
            length    [[3], [2, 1]]
            tokens    [[3, 4, 5], [1, 2, 6]]

        Values are copied once, into the order of the packs, and not at all where they are in that order, as
        those of one array are after `pack_sequences(..., in_order=True)`.

        Args:
            lists: the sequences whose lengths were packed: an array of lists, or a table, of which the list
                columns are taken. Events beyond the lengths that were packed are left out.

        Returns:
            sequence, start, length: of each piece; then `tokens`, or the list columns by their names. Lists
            are large (64-bit offsets) where those of the input are.

        Raises:
            UserError: the lists are not those that were packed: one is shorter than its pieces, or null.
        """
        if isinstance(lists, pa.RecordBatch | pa.Table):
            fields = zip(lists.schema.names, lists.columns, strict=True)
            columns = {name: column for name, column in fields if is_list(column.type)}
        else:
            columns = {"tokens": lists}
        packed = {
            "sequence": _nest(self.offsets, pa.array(self.sequence)),
            "start": _nest(self.offsets, pa.array(self.start)),
            "length": _nest(self.offsets, pa.array(self.lengths)),
        }
        bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.tokens)))
        for name, column in columns.items():
            packed[name] = _nest(bounds, *self._values(column, name))
        return pa.table(packed)

    def _values(self, lists: Any, name: str) -> tuple[pa.Array, bool]:
        """All tokens in the order of the packs, and whether they came in large lists."""
        if isinstance(lists, pa.ChunkedArray):
            lists = lists.chunk(0) if lists.num_chunks == 1 else lists.combine_chunks()
        if not isinstance(lists, pa.Array) or not is_list(lists.type):
            raise UserError("only lists can be packed", where=name, fix="give an Arrow array of lists")
        if pa.types.is_fixed_size_list(lists.type):
            lists = lists.cast(pa.list_(lists.type.value_type))
        offsets = lists.offsets.to_numpy().astype(np.int64, copy=False)
        _check(lists, offsets, self, name)
        large = pa.types.is_large_list(lists.type)
        first = offsets[self.sequence] + self.start
        beyond = first + self.lengths
        if len(first) == 0 or (first[1:] == beyond[:-1]).all():
            begin = int(first[0]) if len(first) else 0
            return lists.values.slice(begin, int(self.tokens.sum())), large
        return lists.values.take(pa.array(_ranges(first, beyond))), large


def _nest(offsets: np.ndarray, values: pa.Array, large: bool = False) -> pa.Array:
    if not large and len(values) < 2**31:
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)


def _check(lists: pa.Array, offsets: np.ndarray, packs: Packs, name: str) -> None:
    if lists.null_count:
        raise UserError("a list is null", where=name, fix="fill or drop nulls first")
    missing = packs.sequence >= len(lists)
    if not missing.any():
        missing = packs.stop > np.diff(offsets)[packs.sequence]
    if missing.any():
        piece = int(np.argmax(missing))
        raise UserError(
            f"there is no event {packs.stop[piece] - 1:,} in sequence {packs.sequence[piece]:,}",
            where=name,
            fix="apply packs to the sequences whose lengths were packed",
        )


def pieces_of(lengths: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut sequences into windows of at most `longest` events, in order.

    Windows end with the newest event: the oldest is the short one, where a history is short in any case.

    Args:
        lengths: of the sequences. [sequences] int32
        longest: events of a window.

    Returns:
        sequence, start, stop: of each piece. [pieces] int32
    """
    sequence = np.arange(len(lengths), dtype=np.int32)
    if not (lengths > longest).any():
        return sequence, np.zeros(len(lengths), np.int32), lengths
    counts = np.maximum(1, -(-lengths // longest))
    sequence = np.repeat(sequence, counts)
    beyond = np.cumsum(counts)[sequence]
    later = beyond - np.arange(1, len(sequence) + 1)  # pieces of the same sequence
    stop = (lengths[sequence] - later * longest).astype(np.int32)
    return sequence, np.maximum(0, stop - np.int32(longest)), stop


@compiled
def grouped(packs: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Items by pack, in input order within each: their positions ([items] int32), and where packs begin."""
    offsets = np.zeros(count + 1, np.int64)
    for pack in packs:
        offsets[pack + 1] += 1
    for pack in range(count):
        offsets[pack + 1] += offsets[pack]
    fill = offsets[:-1].copy()
    order = np.empty(len(packs), np.int32)
    for item in range(len(packs)):
        order[fill[packs[item]]] = item
        fill[packs[item]] += 1
    return order, offsets


@compiled
def _ranges(first: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """All numbers from each first one to the one before its end, one range after the other. int64"""
    numbers = np.empty((beyond - first).sum(), np.int64)
    at = 0
    for place in range(len(first)):
        for number in range(first[place], beyond[place]):
            numbers[at] = number
            at += 1
    return numbers
