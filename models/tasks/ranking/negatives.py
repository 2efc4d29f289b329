"""Sampled negatives of training batches: sequences that end with another item than they did."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from models.data.batch import PackedBatch
from models.data.columns import Column
from models.data.loading import SequenceSource
from models.data.origins import Place, Samples
from models.data.sequences import Int64Array, SequenceData, concat_sequences
from models.evaluation.actions.labels import SAMPLED
from models.evaluation.actions.rows import LabelledRows
from models.evaluation.actions.sampled import Had, Negatives, items_had
from models.tasks.loss_batch import LossBatch

ITEM, BEHAVIOR = "target_item", "target_behavior"
PLACE = Column("place in sequence", "int64", origin=Place())


class BatchNegatives:
    """Appends, for rows of a batch, sequences with the same history and an item that was drawn.

    So a negative is asked about as the last item of a sequence is, given what its positive was given, at the
    same time, by any backbone and head; and no history has a negative in it. It costs its history once more.

    Args:
        negatives: how many, of which items.
        counters: columns that are told of an item that is asked about, and so of one that is drawn; there
            being any, all sequences stay in memory, and batches have `PLACE`.
        time_known: whether a question knows when it is asked.
    """

    def __init__(self, negatives: Negatives, counters: Sequence[Column] = (), *, time_known: bool) -> None:
        self.negatives, self.time_known = negatives, time_known
        self.counters = tuple(counters)
        self._had: dict[str, Int64Array] = {}
        self._data: SequenceData | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of batches."""
        return (PLACE,) if self.counters else ()

    def look_at(self, source: SequenceSource) -> None:
        """Learn which items the users of a training source have had, and what else is counted."""
        if self.counters:
            self._data = concat_sequences(list(source))
        if self.negatives.config.left_out == "event":
            return
        row, counts, items = [], [], []
        for data in source:
            offsets, had = items_had(data, data.train_end, self.negatives.first_item)
            row.append(data.row)
            counts.append(np.diff(offsets))
            items.append(had)
        order = np.argsort(np.concatenate(row))
        begin = np.cumsum(np.concatenate([[0], *counts]))
        self._had = {
            "row": np.concatenate(row)[order],
            "begin": begin[:-1][order],
            "count": np.concatenate(counts)[order],
            "items": np.concatenate(items),
        }

    def extended(self, batch: PackedBatch, positions: torch.Tensor) -> LossBatch:
        """A batch with negatives, and the positions that have a loss.

        Draws follow from the batch: another order of an epoch brings others, a resumed run the same.

        Args:
            batch: on the host.
            positions: [positions] of rows, as `RankingTask.prepare` has them.
        """
        place = positions.numpy()
        offsets, first = batch.offsets.numpy(), place < 0
        sequence = np.where(first, -1 - place, np.searchsorted(offsets[1:], place, side="right"))
        begin = offsets[sequence]
        last = np.where(first, begin, place)
        items = batch[ITEM].numpy(), batch.item.numpy()
        own = np.where(first, items[1][last], items[0][last])
        seed = zlib.crc32(batch.item.numpy().tobytes(), zlib.crc32(batch.sequence.numpy().tobytes()))
        had = self._of(batch.sequence.numpy()[sequence])
        ratio = self.negatives.config.ratio
        keys = np.arange(len(place)).astype(np.uint64)
        number, item = self.negatives.draw(own, keys, ratio, seed, had)
        copied = _Copied(batch, sequence[number], begin[number], last[number] + 1)
        drawn, bare = torch.from_numpy(item), torch.from_numpy(first[number])
        for name, behavior, chosen in ((ITEM, BEHAVIOR, ~bare), ("item", "behavior", bare)):
            ends = copied.ends[chosen]
            copied.batch[name][ends] = drawn[chosen].to(copied.batch[name].dtype)
            copied.batch[behavior][ends] = SAMPLED
        self._count(batch, copied, sequence[number], last[number], item)
        new = torch.arange(batch.num_sequences, copied.batch.num_sequences)
        return LossBatch(copied.batch, torch.cat([positions, torch.where(bare, -1 - new, copied.ends)]))

    def _count(
        self, batch: PackedBatch, copied: _Copied, sequence: Int64Array, last: Int64Array, item: Int64Array
    ) -> None:
        """Fill in what is told of drawn items, as samples of one event each: the one that asks."""
        if not self.counters:
            return
        data = self._data
        assert data is not None
        order = np.argsort(data.row)
        row = order[np.searchsorted(data.row, batch.sequence.numpy()[sequence], sorter=order)]
        event = data.offsets[row] + batch[PLACE.name].numpy()[last]
        # What comes next says when it is asked; of the first item, which is no question, nothing comes.
        after = np.minimum(event + 1, data.offsets[row + 1] - 1)
        starts = np.arange(len(event) + 1)
        samples = Samples(
            data.events,
            data.about,
            starts,
            event,
            after,
            time_known=self.time_known,
            loss_on_all=True,
            offsets=data.offsets,
            asked=item,
        )
        for column in self.counters:
            assert column.origin is not None
            found = np.empty(len(event), np.float32)
            column.origin.fill(found, samples)
            copied.batch[column.name][copied.ends] = torch.from_numpy(found)

    def _of(self, rows: Int64Array) -> Had | None:
        """The items of the users of these rows of the data set; None: only a row's own is left out."""
        if not self._had:
            return None
        user = np.searchsorted(self._had["row"], rows)
        counts = self._had["count"][user]
        starts = np.concatenate(([0], np.cumsum(counts)))
        flat = np.arange(int(starts[-1])) + np.repeat(self._had["begin"][user] - starts[:-1], counts)
        return starts, self._had["items"][flat]


def ask_about_sampled(batch: PackedBatch, asked: torch.Tensor, rows: LabelledRows) -> None:
    """Put the items of sampled rows in the place of those that the log has after their histories.

    Args:
        batch: on the host, in which each sampled row has a sequence of its own.
        asked: [rows] what the model is asked (`RankingModel.forward`).
        rows: those rows.
    """
    sampled = torch.from_numpy(np.flatnonzero(rows.behavior == SAMPLED))
    items, place = torch.from_numpy(rows.item)[sampled], asked[sampled]
    bare = place >= batch.num_events
    batch[ITEM][place[~bare]] = items[~bare].to(batch[ITEM].dtype)
    first = batch.offsets[place[bare] - batch.num_events]
    batch.item[first] = items[bare].to(batch.item.dtype)


def sampled_items(lengths: Int64Array, asked: torch.Tensor, rows: LabelledRows) -> Int64Array:
    """[windows] the item of the sampled row of each window; -1 of windows of rows of the log.

    Args:
        lengths: [windows] events of each.
        asked: [rows] what the model is asked.
        rows: those rows.
    """
    ends, place = np.cumsum(lengths), asked.numpy()
    events = int(lengths.sum())
    window = np.where(place < events, np.searchsorted(ends, place, side="right"), place - events)
    sampled = rows.behavior == SAMPLED
    found = np.full(len(lengths), -1)
    found[window[sampled]] = rows.item[sampled]
    return found


class _Copied:
    """A batch, and behind it copies of events of its sequences, as sequences of their own.

    Args:
        batch: on the host.
        sequence: [copies] number of the sequence in the batch.
        begin, stop: [copies] which events.
    """

    def __init__(self, batch: PackedBatch, sequence: Int64Array, begin: Int64Array, stop: Int64Array) -> None:
        lengths = stop - begin
        before = np.cumsum(lengths) - lengths
        event = np.arange(int(lengths.sum())) + np.repeat(begin - before, lengths)
        every = np.concatenate([np.diff(batch.offsets.numpy()), lengths])
        self.batch = PackedBatch.empty(
            every, has_time=batch.has_time, columns=batch.columns, pin=batch.item.is_pinned()
        )
        old, chosen = batch.num_events, torch.from_numpy(event)
        for column in batch.columns:
            self.batch[column.name][:old] = batch[column.name]
            self.batch[column.name][old:] = batch[column.name][chosen]
        self.batch.sequence[: batch.num_sequences] = batch.sequence
        self.batch.sequence[batch.num_sequences :] = batch.sequence[torch.from_numpy(sequence)]
        self.ends = torch.from_numpy(old + np.cumsum(lengths) - 1)
        """[copies] the last event of each."""
