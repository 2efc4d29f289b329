"""Co-occurrence without the asking user's own pairs, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from behavior.cooccurrence import ExactTables
from behavior.cooccurrence.count import UNIT
from behavior.cooccurrence.exact_kernels import sums_of_rows


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
        member: [domain ids, items] bool, where only items of a domain are to compete.
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
    of_domain: Tensor | None
    own_of_domain: Tensor | None

    def __init__(self, tables: ExactTables, member: Tensor | None = None) -> None:
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
        self._of_domains(tables, None if member is None else member.cpu().numpy())

    def _of_domains(self, tables: ExactTables, member: np.ndarray | None) -> None:
        """[tables, domain ids, rows] sums of rows over items of a domain, and of users' own rows."""
        found: list[Tensor | None] = [None, None]
        if member is not None:
            own = tables.follower[tables.own_place]
            sums = (
                _sums(tables.count, tables.follower, tables.offsets, member),
                _sums(tables.own_count, own, tables.own_offsets, member),
            )
            found = [torch.from_numpy(sums[0]), torch.from_numpy(np.pad(sums[1], ((0, 0), (0, 0), (0, 1))))]
        self.register_buffer("of_domain", found[0], persistent=False)
        self.register_buffer("own_of_domain", found[1], persistent=False)

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

    def log_within(self, row: Row, item: Tensor, domain: Tensor) -> Tensor:
        """[tables, ...] float32 logarithm of what the items of a domain have of `C_-u`; minus infinity of
        nothing.

        Args:
            row: of users and items.
            item: as of `row`.
            domain: int64 domain ids, broadcastable with `item`.
        """
        if self.of_domain is None or self.own_of_domain is None:
            raise ValueError("domains of items are not known: the tables were made without them")
        left = self.of_domain[:, domain, item] - self.own_of_domain[:, domain, row.own]
        others = left.clamp(min=0.0).log()
        nothing = others.isinf() | row.log_total.isinf()
        return (others - row.log_total.masked_fill(nothing, 0.0)).masked_fill(nothing, float("-inf"))

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


def _sums(count: np.ndarray, follower: np.ndarray, offsets: np.ndarray, member: np.ndarray) -> np.ndarray:
    """[tables, domain ids, rows] float32 sums of the counts of a row for items of each domain.

    In whole units, so that equal counts have equal sums.
    """
    units = np.rint(count.astype(np.float64) * UNIT).astype(np.int64)
    sums = [[sums_of_rows(one * own[follower], offsets) for own in member] for one in units]
    return (np.array(sums) / UNIT).astype(np.float32)


def _with_none(values: np.ndarray) -> np.ndarray:
    """[tables, n + 1] with zeros for what is not found."""
    return np.pad(values, ((0, 0), (0, 1)))
