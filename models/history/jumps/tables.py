"""Co-occurrence as jump logits read it: tables of folds that look pairs up, and rows of followers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from behavior.cooccurrence import (
    CooccurrenceConfig,
    CooccurrenceTable,
    CrossFitted,
    ExactTables,
    Histories,
    PairWeights,
    count_exact,
    cross_fit,
)
from models.data.sequences import SequenceData

NOBODY = -1
"""In rows of followers: there is none in this place."""


@dataclass(frozen=True, eq=False)
class FoldTables:
    """The logarithms of C of several tables, found by table, item and follower.

    Searching an array of sorted keys is one operation of fixed shape: nothing waits for the device, and it
    can be captured. Memory: 12 bytes a pair of each table, and 1 byte an item.
    """

    keys: Tensor
    """[pairs + 1] int64, ascending: `(table * items + item) * items + follower`; the last is none's."""
    log_share: Tensor
    """[pairs + 1] float32."""
    has_followers: Tensor
    """[tables * items] bool, whether a row has any pair."""
    items: int
    within: Tensor | None = None
    """[domain ids, tables * items] float32 logarithm of what the items of a domain have of each row, minus
    infinity of nothing; None: nobody asks."""

    @classmethod
    def of(cls, tables: Sequence[CooccurrenceTable]) -> FoldTables:
        """Of tables whose rows sum to one, in host memory."""
        items = tables[0].items
        keys = [
            (number * items + table.source.astype(np.int64)) * items + table.follower
            for number, table in enumerate(tables)
        ]
        last = np.array([np.iinfo(np.int64).max])
        shares = [np.log(table.count) for table in tables]
        return cls(
            keys=torch.from_numpy(np.concatenate([*keys, last])),
            log_share=torch.from_numpy(np.concatenate([*shares, np.zeros(1, np.float32)])),
            has_followers=torch.from_numpy(np.concatenate([np.diff(table.offsets) > 0 for table in tables])),
            items=items,
        )

    def to(self, device: torch.device) -> FoldTables:
        """The same on a device."""
        within = None if self.within is None else self.within.to(device)
        shares, has_followers = self.log_share.to(device), self.has_followers.to(device)
        return FoldTables(self.keys.to(device), shares, has_followers, self.items, within)

    def of_domains(self, member: Tensor) -> FoldTables:
        """The same, and what the items of domains have of each row.

        Args:
            member: [domain ids, items] bool, on the device of the tables.
        """
        keys, share = self.keys[:-1], self.log_share[:-1].double().exp()
        row, follower = keys.div(self.items, rounding_mode="floor"), keys % self.items
        sums = [
            share.new_zeros(len(self.has_followers)).index_add_(0, row, share * own[follower])
            for own in member
        ]
        return replace(self, within=torch.stack(sums).log().float())

    @property
    def nbytes(self) -> int:
        parts = (self.keys, self.log_share, self.has_followers, self.within)
        return sum(part.nbytes for part in parts if part is not None)

    def log_within(self, table: Tensor, item: Tensor, domain: Tensor) -> Tensor:
        """[queries, events] float32 logarithm of what the items of a domain have of a row.

        Args:
            table, item, domain: int64 numbers, broadcast.
        """
        if self.within is None:
            raise ValueError("domains of items are not known: of_domains(member) counts them")
        row = table * self.items + item
        return self.within[domain, row.clamp(0, self.within.shape[1] - 1)]

    def look_up(self, table: Tensor, item: Tensor, follower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """C of pairs.

        Args:
            table, item, follower: int64 numbers, broadcast; where one is out of range, results mean nothing.

        Returns:
            log C float32 (0 where there is no pair), whether there is a pair, and whether the item has any
            followers; all of the broadcast shape.
        """
        row = table * self.items + item
        key = row * self.items + follower
        place = torch.searchsorted(self.keys, key)
        found = self.keys[place] == key
        has = self.has_followers[row.clamp(0, len(self.has_followers) - 1)]
        return self.log_share[place].masked_fill(~found, 0.0), found, has.expand_as(key)


def follower_rows(table: CooccurrenceTable, neighbors: int) -> tuple[Tensor, Tensor]:
    """A table as rows of equal length, which a checkpoint has room for whatever was counted.

    Returns:
        followers [items, neighbors] int32, `NOBODY` where there are fewer, and log C [items, neighbors]
        float32, 0 there.
    """
    lengths = np.diff(table.offsets)
    place = np.arange(table.pairs) - np.repeat(table.offsets[:-1], lengths)
    followers = np.full((table.items, neighbors), NOBODY, np.int32)
    log_share = np.zeros((table.items, neighbors), np.float32)
    followers[table.source, place], log_share[table.source, place] = table.follower, np.log(table.count)
    return torch.from_numpy(followers), torch.from_numpy(log_share)


def count_tables(
    parts: Iterable[SequenceData], config: CooccurrenceConfig, folds: int, behaviors: Sequence[str] = ()
) -> CrossFitted:
    """Count the training parts of sequences, whichever they are (`models.data.loading.part`).

    Args:
        parts: the sequences.
        config: which pairs count.
        folds: of users.
        behaviors: their names, in the order of their ids.
    """
    return cross_fit(_histories(parts, behaviors), config, folds=folds)


def count_exact_tables(parts: Iterable[SequenceData], weights: PairWeights) -> ExactTables:
    """Count the training parts of sequences, and what each user adds.

    Args:
        parts: the sequences, numbered as those of batches are.
        weights: which pairs count.
    """
    parts = list(parts)
    has_time = bool(parts) and parts[0].about.has_time
    times = [data.timestamp[data.in_training()] for data in parts] if has_time else []
    return count_exact(_histories(parts, ()), np.concatenate(times) if times else None, weights)


def _histories(parts: Iterable[SequenceData], behaviors: Sequence[str]) -> Histories:
    items, kinds, lengths, rows = [], [], [np.zeros(1, np.int64)], []
    num_items = 0
    for data in parts:
        inside, num_items = data.in_training(), data.about.num_items
        items.append(_numbers(data.item[inside], data.about.first_item))
        kinds.append(data.behavior[inside].astype(np.int8))
        lengths.append(data.train_end)
        rows.append(data.row)
    return Histories(
        item=np.concatenate(items),
        offsets=np.cumsum(np.concatenate(lengths)),
        row=np.concatenate(rows),
        items=num_items,
        behavior=np.concatenate(kinds) if len(behaviors) > 1 else None,
        behaviors=tuple(behaviors),
    )


def _numbers(ids: npt.NDArray, first_item: int) -> npt.NDArray[np.int32]:
    return np.maximum(ids.astype(np.int32) - first_item, -1).astype(np.int32)
