"""Forward passes over the last tokens of windows, the others out of pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.backbones.backbone import Backbone
from models.data.batch import PackedBatch
from models.inputs.embedding import InputEmbedding
from models.serving.cache.events import EventColumns, Question
from models.serving.cache.pages import Pages
from models.serving.cache.past import PagedPast
from models.serving.cache.ragged import Ints, counted_up, offsets_of, on_device, sequences_of
from models.serving.cache.window import Growth


class Passes:
    """What a cache computes; each method is one pass for all users of a call, who have a row of `table` each.

    Args:
        embedding: of the model.
        backbone: of the model.
        events: the columns that are read.
        pages: what is remembered.
    """

    def __init__(
        self, embedding: InputEmbedding, backbone: Backbone, events: EventColumns, pages: Pages
    ) -> None:
        self.embedding, self.backbone, self.events, self.pages = embedding, backbone, events, pages
        self._number: dict[nn.Module, int] = {
            layer: number for number, layer in enumerate(backbone.attention_layers)
        }

    @property
    def device(self) -> torch.device:
        return self.pages.keys[0].device

    def grow(self, growth: Growth, table: Tensor, batch: PackedBatch) -> Tensor:
        """[users, dim] outputs after the newest events, of windows that now have those of a batch.

        Args:
            growth: what is computed of each.
            table: [users, most] pages.
            batch: the new events, on the device.
        """
        values = self._grown(growth, table, batch)
        outputs = self._outputs(table, growth.base, growth.fresh, values, keep=True)
        return outputs[on_device(np.cumsum(growth.fresh) - 1, self.device)]

    def ask(self, table: Tensor, length: Ints, question: Question) -> Tensor:
        """[users, dim] outputs after the newest events, asked otherwise.

        Args:
            table: [users, most] pages.
            length: [users] events of each window.
            question: what is asked.
        """
        return self._asked(table, length, question)[1]

    def windows(self, table: Tensor, length: Ints, question: Question) -> tuple[Tensor, PackedBatch]:
        """[events, dim] outputs after all events, of which the newest is asked otherwise; and the events.

        Args:
            table: [users, most] pages.
            length: [users] events of each window.
            question: what is asked.
        """
        assert self.pages.outputs is not None
        values, newest = self._asked(table, length, question)
        rows = self._rows(table, np.zeros_like(length), length)
        last = on_device(np.cumsum(length) - 1, self.device)
        every = {
            name: column[rows].index_copy_(0, last, values[name])
            for name, column in self.pages.columns.items()
        }
        outputs = self.pages.outputs[rows].to(newest.dtype).index_copy_(0, last, newest)
        place = on_device(counted_up(np.zeros_like(length), length), self.device)
        return outputs, self._batch(every, sequences_of(length, self.device), place)

    def _asked(self, table: Tensor, length: Ints, question: Question) -> tuple[dict[str, Tensor], Tensor]:
        """[users] kept columns of newest events, and [users, dim] outputs after them."""
        values = self._newest(table, length - 1, question)
        ones = np.ones_like(length)
        return values, self._outputs(table, length - 1, ones, values, keep=False)

    def candidates(
        self, table: Tensor, length: Ints, items: Tensor, counts: Ints, question: Question
    ) -> Tensor:
        """[candidates, dim] outputs of a micro-batch: the newest event of each user, and candidates after it.

        Args:
            table: [users, most] pages.
            length: [users] events of each window.
            items: [candidates] ids, user after user.
            counts: [users] how many each has, 1 at least.
            question: what the newest event is asked, and what is known of the candidates.
        """
        fresh = counts + 1
        newest_at = offsets_of(fresh)[:-1]
        place = on_device(counted_up(newest_at + 1, counts), self.device)
        row = on_device(np.repeat(np.arange(len(counts)), counts), self.device)
        newest = self._newest(table, length - 1, question)
        more = {name: told[row] for name, told in question.items()}
        last = {name: column[row] for name, column in newest.items()}
        candidates = self.events.candidates(items, more, last)
        front = on_device(newest_at, self.device)
        values = {
            name: column.new_empty(int(fresh.sum()))
            .index_copy_(0, front, column)
            .index_copy_(0, place, candidates[name])
            for name, column in newest.items()
        }
        return self._outputs(table, length - 1, fresh, values, keep=False, candidates=counts)[place]

    def _grown(self, growth: Growth, table: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """[new tokens] kept columns of events that are computed: remembered ones first, then the batch's."""
        device = self.device
        starts = offsets_of(growth.fresh)[:-1]
        begin = offsets_of(np.array(batch.sequences.lengths, np.int64))
        old = on_device(counted_up(starts, growth.remembered), device)
        new = on_device(counted_up(starts + growth.remembered, growth.given), device)
        given = on_device(counted_up(begin[1:] - growth.given, growth.given), device)
        rows = self._rows(table, growth.first, growth.remembered)
        values = {}
        for column in self.events.kept:
            stored = self.pages.columns[column.name]
            filled = stored.new_empty(int(growth.fresh.sum())).index_copy_(0, old, stored[rows])
            values[column.name] = filled.index_copy_(0, new, batch[column.name][given].to(filled.dtype))
        # The newest of the remembered ones now knows what came next: the batch's first event of its user.
        some = np.flatnonzero(growth.remembered)
        next_event = on_device(begin[:-1][some], device)
        question = {
            stored: self.events.own(batch, stored)[next_event]
            for stored in dict.fromkeys(self.events.asked.values())
        }
        return self.events.told(values, on_device((starts + growth.remembered - 1)[some], device), question)

    def _newest(self, table: Tensor, place: Ints, question: Question) -> dict[str, Tensor]:
        """[users] kept columns of one event of each, which is asked something."""
        rows = self._rows(table, place, np.ones_like(place))
        values = {name: column[rows] for name, column in self.pages.columns.items()}
        return self.events.told(values, torch.arange(len(place), device=self.device), question)

    def _outputs(
        self,
        table: Tensor,
        base: Ints,
        fresh: Ints,
        values: dict[str, Tensor],
        *,
        keep: bool,
        candidates: Ints | None = None,
    ) -> Tensor:
        """[new tokens, dim] of the backbone.

        Args:
            table: [users, most] their pages.
            base: [users] events of each window that are not computed again.
            fresh: [users] those that are, after them; candidates too.
            values: [new tokens] kept columns of these.
            keep: whether they are written to the pages.
            candidates: [users] how many of them, the last ones, are candidates.
        """
        device, total = self.device, base + fresh
        sequences, queries = sequences_of(total, device), sequences_of(fresh, device)
        place = counted_up(base, fresh)
        new = on_device(counted_up(offsets_of(total)[:-1] + base, fresh), device)
        kept = self._rows(table, base, fresh) if keep else None
        if kept is not None:
            for name, column in values.items():
                self.pages.columns[name].index_copy_(0, kept, column)
        source = self._rows(table, np.zeros_like(total), total, None if keep else base)
        timestamp = self.pages.columns["timestamp"][source].index_copy_(0, new, values["timestamp"])
        if candidates is not None:
            place = np.minimum(place, np.repeat(total - candidates, fresh))
        batch = self._batch(values, queries, on_device(place, device))
        x, tokens = self.embedding(batch)
        if candidates is not None:
            tokens = replace(tokens, mask=Causal(candidates=on_device(candidates, device)))
        most = 0 if candidates is None else int(candidates.max())
        past = PagedPast(self.pages, self._number, sequences, timestamp, source, new, kept, most)
        outputs: Tensor = self.backbone(x, tokens, past)
        if kept is not None and self.pages.outputs is not None:
            self.pages.outputs.index_copy_(0, kept, outputs.to(self.pages.outputs.dtype))
        return outputs

    def _batch(self, values: dict[str, Tensor], sequences: Sequences, position: Tensor) -> PackedBatch:
        derived = {
            column.name: position if column.name == "position" else torch.zeros_like(position)
            for column in self.events.derived
        }
        columns, nobody = self.events.all, torch.full_like(sequences.offsets[1:], -1)
        batch = PackedBatch(columns, {**values, **derived}, sequences.offsets, nobody, has_time=True)
        batch.__dict__["sequences"] = sequences  # read from `offsets`, lengths would wait for the device
        return batch

    def _rows(self, table: Tensor, first: Ints, counts: Ints, limit: Ints | None = None) -> Tensor:
        """[sum of counts] rows in the pages of places from `first` on; any, from place `limit` on."""
        device, total = table.device, int(counts.sum())
        number = on_device(counts, device)
        row = torch.repeat_interleave(number, output_size=total)
        start = on_device(first - offsets_of(counts)[:-1], device)
        place = torch.arange(total, device=device) + start[row]
        if limit is not None:
            place = torch.minimum(place, on_device(np.maximum(limit - 1, 0), device)[row])
        return self.pages.rows(table, row, place)
