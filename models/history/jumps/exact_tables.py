"""Co-occurrence without the asking user's own pairs, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from behavior.cooccurrence import ExactTables


class Row(NamedTuple):
    """A row of every table for a user and an item, of any shape."""

    own: Tensor
    """int64 the user's own row, or one past all where they have none."""
    log_total: Tensor
    """[tables, ...] float32 logarithm of the sum of what others have counted; minus infinity of nothing."""


class ExactLookUp(nn.Module):
    """`C_-u[a, i] = (C[a, i] - own_u[a, i]) / (R[a] - own_u[a])` for any user u and items a and i.

    All look-ups are searches in sorted arrays: of fixed shape, and waiting for nothing. Where all that was
    counted is the user's own, the difference is exactly 0. Not part of a state: made of the data set again.

    Args:
        tables: in host memory.
    """

    key: Tensor
    follower: Tensor
    offsets: Tensor
    count: Tensor
    total: Tensor
    own_row: Tensor
    own_key: Tensor
    own_offsets: Tensor
    own_place: Tensor
    own_count: Tensor
    own_total: Tensor

    def __init__(self, tables: ExactTables) -> None:
        super().__init__()
        self.items, self.tables = tables.items, len(tables.count)
        last = np.array([np.iinfo(np.int64).max])
        source = np.repeat(np.arange(tables.items), np.diff(tables.offsets))
        of_row = np.repeat(np.arange(len(tables.own_row)), np.diff(tables.own_offsets))
        buffers = {
            "key": np.append(source * tables.items + tables.follower, last),
            "follower": tables.follower,
            "offsets": tables.offsets,
            "count": _with_none(tables.count),
            "total": tables.total,
            "own_row": np.append(tables.own_row, last),
            "own_key": np.append(of_row * tables.items + tables.follower[tables.own_place], last),
            # One past all is a row without pairs.
            "own_offsets": np.append(tables.own_offsets, tables.own_offsets[-1:]),
            "own_place": tables.own_place,
            "own_count": _with_none(tables.own_count),
            "own_total": _with_none(tables.own_total),
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def row(self, user: Tensor, item: Tensor) -> Row:
        """Rows of users and items.

        Args:
            user: int64 row numbers in the data set; a negative one is nobody there, from whom nothing is
                subtracted.
            item: int64 numbers of items, broadcastable with `user`.
        """
        own = _find(self.own_row, (user * self.items + item).masked_fill(user < 0, -1))
        total = self.total[:, item] - self.own_total[:, own]
        return Row(own, total.clamp(min=0.0).log())

    def log_shares(self, row: Row, item: Tensor, follower: Tensor) -> Tensor:
        """[tables, ...] float32 logarithm of `C_-u`; minus infinity of nothing.

        Args:
            row: of users and items.
            item: as of `row`.
            follower: int64 numbers of items, broadcastable with `item`; negative ones follow nothing.
        """
        place = _find(self.key, (item * self.items + follower).masked_fill(follower < 0, -1))
        own = _find(self.own_key, (row.own * self.items + follower).masked_fill(follower < 0, -1))
        others = (self.count[:, place] - self.own_count[:, own]).clamp(min=0.0).log()
        nothing = others.isinf() | row.log_total.isinf()
        return (
            (others - row.log_total.masked_fill(nothing, 0.0))
            .clamp(max=0.0)
            .masked_fill(nothing, float("-inf"))
        )

    def masses(self, weight: Tensor, item: Tensor, own: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """`sum over tables of weight * (C[a, i] - own_u[a, i])`, all followers i of the items of queries.

        Args:
            weight: [tables, queries, events].
            item: [queries, events] int64 numbers of items.
            own: [queries, events] as of `Row`.

        Yields:
            For each of the events: query, follower and mass, [pairs] each; a query and a follower stand there
            once.
        """
        for event in range(item.shape[1]):
            begin, length = self._range(self.offsets, item[:, event])
            query, place = _spread(begin, length)
            others = self.count[:, place]
            own_begin, own_length = self._range(self.own_offsets, own[:, event])
            own_query, own_pair = _spread(own_begin, own_length)
            # Where in the spread rows the places of the user's own pairs are.
            at = (length.cumsum(0) - length - begin)[own_query] + self.own_place[own_pair]
            others[:, at] -= self.own_count[:, own_pair]
            mass = (weight[:, :, event][:, query] * others.clamp(min=0.0)).sum(0)
            yield query, self.follower[place].long(), mass

    def _range(self, offsets: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        begin = offsets[row]
        return begin, offsets[row + 1] - begin


def _find(keys: Tensor, key: Tensor) -> Tensor:
    """The place of each key among sorted ones, or the last place, which is none's."""
    place = torch.searchsorted(keys, key)
    return place.masked_fill(keys[place] != key, len(keys) - 1)


def _spread(begin: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of ranges, and of what is in them, one after the other. Waits for the device."""
    which = torch.repeat_interleave(length)
    return which, torch.arange(len(which), device=begin.device) + (begin - length.cumsum(0) + length)[which]


def _with_none(values: np.ndarray) -> np.ndarray:
    """[tables, n + 1] with zeros for what is not found."""
    return np.pad(values, ((0, 0), (0, 1)))
