"""Passes of models whose layout has a sequence a behavior (`channels`): new tokens are the last ones of
several sequences of a user, and a query is made of what the newest tokens of all of these say.

An event is one token, whose keys, values and output lie in the event's own row of the pages. Which tokens
stand before it follows from the behaviors of the whole window, so that its events are read, and their vectors
looked up, in each pass; keys and values, and all that blocks compute, are of new tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.backbones.backbone import Backbone
from models.data.batch import PackedBatch
from models.inputs.embedding import InputEmbedding
from models.inputs.layouts.channels import ChannelTokens
from models.inputs.tokens import Tokens
from models.serving.cache.call import Lengths, Numbers, Shape
from models.serving.cache.pages import Pages
from models.serving.cache.past import PagedPast
from models.serving.cache.ragged import Spread, in_room, spread
from models.serving.cache.values import Columns, Values


@dataclass(frozen=True, eq=False)
class Window:
    """The events of all windows of a pass, those that are remembered and those that are computed."""

    batch: PackedBatch
    """All of them, candidates last of each user."""
    rows: Tensor
    """[events] of the pages; of candidates, and past the last user, any."""
    computed: Tensor
    """[events] bool."""
    happened: Tensor
    """[events] bool: whether they are no candidates."""
    place: Tensor
    """[computed events] where they are among all."""
    kept: bool
    """Whether what is computed of events is written to the pages."""


@dataclass(frozen=True, eq=False)
class Scattered:
    """Which tokens of windows are computed."""

    window: Window
    tokens: ChannelTokens
    """Of all events, candidates at one position."""
    new: Spread
    """Tokens that are computed, of each sequence of tokens its last ones."""
    place: Tensor
    """[new tokens] where each is among all; one past all: nowhere."""
    candidates: Tensor
    """[sequences of tokens] how many there are in each."""

    @classmethod
    def of(cls, window: Window, made: Tokens, shape: Shape) -> Scattered:
        """Of the tokens that the layout makes of a window."""
        assert isinstance(made, ChannelTokens)
        offsets, count = made.sequences.offsets, made.position.shape[0]

        def in_sequences(events: Tensor) -> Tensor:
            """[sequences of tokens] how many of these events each has."""
            moved = torch.zeros_like(made.place).index_copy(0, made.place, events.long())
            return F.pad(moved.cumsum(0), (1, 0))[offsets].diff()

        new = spread(in_sequences(window.computed), shape.fresh)
        place = (offsets[1:] - new.offsets.diff())[new.row] + new.place
        candidates = in_sequences(~window.happened)
        # As if each candidate alone came next.
        number = torch.arange(count, device=offsets.device)
        row = torch.searchsorted(offsets[1:], number, right=True).clamp(max=len(candidates) - 1)
        next_one = (offsets.diff() - candidates)[row]
        tokens = replace(made, position=torch.minimum(made.position, next_one))
        return cls(window, tokens, new, place.masked_fill(~new.inside, count), candidates)

    @property
    def queries(self) -> Sequences:
        """Of new tokens."""
        every = self.tokens.sequences
        if every.room is None:
            return Sequences.from_offsets(self.new.offsets)
        return Sequences.unread(self.new.offsets, tokens=len(self.place), longest=every.max_length)

    def chosen(self, shape: Shape) -> Tokens:
        """The new tokens."""
        every, old = self.tokens, self.tokens.mask
        there = self.place.clamp(max=len(every.position) - 1)
        candidates = self.candidates if shape.candidates else None
        return Tokens(
            sequences=self.queries,
            position=every.position[there],
            timestamp=every.timestamp[there],
            query_time=every.query_time[there],
            mask=Mask(old.window, old.prefix, old.context, candidates),
            attributes=tuple(each[there] for each in every.attributes),
        )

    def rows_of_tokens(self) -> Tensor:
        """[tokens] rows of the pages."""
        return torch.zeros_like(self.window.rows).index_copy(0, self.tokens.place, self.window.rows)

    def past(self, pages: Pages, number: Mapping[nn.Module, int], shape: Shape) -> PagedPast:
        """Where keys and values are, and are written to."""
        rows, nowhere = self.rows_of_tokens(), len(pages.happened) - 1
        kept = None
        if self.window.kept:
            happened = torch.zeros_like(self.window.happened)
            happened = happened.index_copy(0, self.tokens.place, self.window.happened)
            kept = torch.where(F.pad(happened, (0, 1))[self.place], F.pad(rows, (0, 1))[self.place], nowhere)
        return PagedPast(
            pages,
            number,
            self.tokens.sequences,
            self.tokens.timestamp,
            torch.cat([rows, rows.new_full((1,), nowhere)]),
            self.place,
            kept,
            shape.most_candidates,
        )

    def known(self, outputs: Tensor, pages: Pages) -> tuple[Tensor, Tensor]:
        """[computed events, dim] what is known after each, and what its token says of it.

        Args:
            outputs: [new tokens, dim] of the backbone.
            pages: what all others have said.
        """
        assert pages.outputs is not None
        tokens, count, new = self.tokens, len(self.tokens.position), len(outputs)
        number = torch.full((count + 1,), new, device=outputs.device)
        number = number.index_copy(0, self.place, torch.arange(new, device=outputs.device))
        own = F.embedding(number[tokens.place[self.window.place]].clamp(max=new - 1), outputs)
        newest = tokens.newest[self.window.place]  # [computed events, behaviors]
        where = number[newest]
        rows = F.pad(self.rows_of_tokens(), (0, 1))[newest]
        said = torch.where(
            (where < new)[..., None],
            F.embedding(where.clamp(max=new - 1), outputs),
            F.embedding(rows, pages.outputs).to(outputs.dtype),
        )
        said = said.masked_fill((newest == count)[..., None], 0.0)
        return own + tokens.merge(said.flatten(1)), own


class ScatteredPasses:
    """Computes them.

    Args:
        embedding: of the model.
        backbone: of the model.
        columns: of events.
        number: of each attention layer.
    """

    def __init__(
        self, embedding: InputEmbedding, backbone: Backbone, columns: Columns, number: Mapping[nn.Module, int]
    ) -> None:
        self.embedding, self.backbone, self.columns, self.number = embedding, backbone, columns, number
        self.pages = columns.pages

    def window(
        self,
        shape: Shape,
        values: Values,
        events: Spread,
        numbers: Numbers,
        table: Tensor,
        whose: Tensor,
        lengths: Lengths | None,
    ) -> Window:
        """All events of each user, those that are computed with these columns."""
        base, history = numbers.base, numbers.base + numbers.remembered + numbers.given
        every = spread(history + numbers.candidates, shape.tokens)
        rows = self.pages.rows(table, every.row, every.place)
        computed = every.inside & (every.place >= base[every.row])
        number = events.offsets[every.row] + every.place - base[every.row]
        number = number.clamp(0, max(shape.events - 1, 0))
        columns = {
            name: torch.where(computed, values[name][number], column[rows])
            for name, column in self.pages.columns.items()
        }
        for column in self.columns.events.kept:
            columns[column.name] = columns[column.name].masked_fill(~every.inside, column.fill)
        place = torch.minimum(every.place, history[every.row]).masked_fill(~every.inside, 0)
        sequences = in_room(every.offsets, lengths and lengths.all, shape.tokens, shape.longest)
        where = every.offsets[events.row] + base[events.row] + events.place
        return Window(
            batch=self.columns.batch(columns, sequences, place, whose),
            rows=rows,
            computed=computed,
            happened=every.inside & (every.place < history[every.row]),
            place=where.clamp(max=max(shape.tokens - 1, 0)),
            kept=shape.kept,
        )

    def known(self, shape: Shape, window: Window) -> tuple[Tensor, Tensor]:
        """[events, dim] what the backbone knows after each event that is computed, and what its token
        says."""
        scattered = Scattered.of(window, self.embedding.layout.tokens(window.batch), shape)
        x, tokens = self.embedding(window.batch, scattered.tokens)
        assert isinstance(tokens, ChannelTokens)
        scattered = replace(scattered, tokens=tokens)
        chosen = scattered.chosen(shape)
        there = scattered.place.clamp(max=max(len(x) - 1, 0))
        outputs = self.backbone(x[there], chosen, scattered.past(self.pages, self.number, shape))
        return scattered.known(outputs, self.pages)

    def after_events(self, batch: PackedBatch, outputs: Tensor) -> Tensor:
        """[events, dim] what is known after each event of whole windows, of what their tokens say.

        Args:
            batch: the windows.
            outputs: [events, dim].
        """
        tokens = self.embedding.layout.tokens(batch)
        assert isinstance(tokens, ChannelTokens)
        return tokens.queries(torch.zeros_like(outputs).index_copy(0, tokens.place, outputs))
