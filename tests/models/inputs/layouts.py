"""Layouts other than one token an event, small ones: that there can be others."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.attention import Causal, Mask, Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors, MakeLayout, Sizes
from models.inputs.tokens import Tokens
from models.layers.roles import Role


def rows_of(batch: PackedBatch) -> Tensor:
    """[events] the sequence of each event; of events past the last sequence, any."""
    place = torch.arange(batch.num_events, device=batch.offsets.device)
    return torch.searchsorted(batch.offsets[1:], place, right=True).clamp(max=batch.num_sequences - 1)


class ItemsAndBehaviors(nn.Module):
    """`c c i b i b ...`: two learned tokens of context, then an item token and a behavior token an event.

    A behavior token asks what follows its event. Item tokens do not know the behavior of their own event.
    """

    columns = CORE.select("position", "timestamp", "query_time")
    vectors = frozenset({"behavior"})
    context = 2
    parameter_roles = {"start": Role.EMBEDDING}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(self.context, sizes.dim).normal_(0.0, 0.3))

    def max_tokens(self, max_length: int) -> int:
        return self.context + 2 * max_length

    def tokens(self, batch: PackedBatch) -> Tokens:
        row, c = rows_of(batch), self.context
        item = 2 * torch.arange(len(row), device=row.device) + c * (row + 1)
        sequences = self.sequences(batch)
        start, first = self.starts(sequences), batch.offsets[:-1].clamp(max=max(len(row) - 1, 0))
        total = sequences.num_tokens

        def column(of_start: Tensor, of_item: Tensor, of_behavior: Tensor) -> Tensor:
            filled = (
                of_item.new_zeros(total).index_copy(0, item, of_item).index_copy(0, item + 1, of_behavior)
            )
            return filled.index_copy(0, start.flatten(), of_start.expand(start.shape).flatten())

        began = batch.timestamp[first][:, None] if len(row) else start.new_zeros(start.shape)
        return Tokens(
            sequences=sequences,
            position=column(
                torch.arange(c, device=row.device), c + 2 * batch.position, c + 1 + 2 * batch.position
            ),
            timestamp=column(began, batch.timestamp, batch.timestamp),
            query_time=column(began, batch.timestamp, batch.query_time),
            mask=Causal(context=c),
            asking=item + 1,
        )

    def sequences(self, batch: PackedBatch) -> Sequences:
        known, c = batch.sequences, self.context
        offsets = 2 * known.offsets + c * torch.arange(len(known.offsets), device=known.offsets.device)
        if known.room is None:
            return Sequences(offsets, tuple(c + 2 * length for length in known.lengths))
        total = 2 * known.num_tokens + c * known.num_sequences
        return Sequences.unread(offsets, tokens=total, longest=self.max_tokens(known.max_length))

    def starts(self, sequences: Sequences) -> Tensor:
        """[sequences, context] the context tokens of each sequence."""
        return sequences.offsets[:-1, None] + torch.arange(self.context, device=sequences.offsets.device)

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        asking, start = tokens.asking, self.starts(tokens.sequences)
        assert asking is not None
        x = events["item"].new_zeros(tokens.sequences.num_tokens, self.start.shape[1])
        x = x.index_copy(0, asking - 1, events["item"]).index_copy(0, asking, events["behavior"])
        return x.index_copy(0, start.flatten(), self.start.expand(*start.shape, -1).flatten(0, 1))


@dataclass(frozen=True, eq=False)
class EvenTokens(Tokens):
    """A layout may keep more for itself."""

    own: Tensor = field(kw_only=True)
    """[events] the token of each event; one past the last for an event without."""


class EvenItems(nn.Module):
    """A learned token, and one of each event whose item has an even id; other events have none.

    An event without a token asks by the last token before it.
    """

    columns = CORE.select("item", "position", "timestamp", "query_time")
    vectors: frozenset[str] = frozenset()
    parameter_roles = {"start": Role.EMBEDDING}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(sizes.dim).normal_(0.0, 0.3))

    def max_tokens(self, max_length: int) -> int:
        return 1 + max_length

    def tokens(self, batch: PackedBatch) -> Tokens:
        row = rows_of(batch)
        inside = torch.arange(len(row), device=row.device) < batch.offsets[-1]
        present = ((batch.item % 2 == 0) & inside).long()
        before = torch.cat([present.new_zeros(1), present.cumsum(0)])  # events with a token before each
        place = torch.arange(len(batch.offsets), device=row.device)
        offsets = before[batch.offsets] + place
        known = batch.sequences
        if known.room is None:
            sequences = Sequences.from_offsets(offsets)
            total = sequences.num_tokens
        else:
            total = known.num_tokens + known.num_sequences
            sequences = Sequences.unread(offsets, tokens=total, longest=self.max_tokens(known.max_length))
        asking = before[1:] + row  # its own token, or the last one before
        own = torch.where(present > 0, asking, total)  # one more, which is cut off

        def column(of_event: Tensor) -> Tensor:
            return of_event.new_zeros(total + 1).index_copy(0, own, of_event)[:total]

        return EvenTokens(
            sequences=sequences,
            position=column(asking - offsets[row]),
            timestamp=column(batch.timestamp),
            query_time=column(batch.query_time),
            mask=Causal(),
            asking=asking,
            own=own,
        )

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        assert isinstance(tokens, EvenTokens)
        item, total, start = events["item"], tokens.sequences.num_tokens, tokens.sequences.offsets[:-1]
        x = item.new_zeros(total + 1, item.shape[1]).index_copy(0, tokens.own, item)[:total]
        return x.index_copy(0, start, self.start.expand(len(start), -1))


class LastTwoAreCandidates:
    """One token an event, of which the last two of a sequence do not see each other."""

    columns = CORE.select("position", "timestamp", "query_time")
    vectors: frozenset[str] = frozenset()

    def max_tokens(self, max_length: int) -> int:
        return max_length

    def tokens(self, batch: PackedBatch) -> Tokens:
        lengths = batch.sequences.offsets.diff()
        candidates = lengths.clamp(max=2)
        history = (lengths - candidates)[rows_of(batch)] if batch.num_sequences else batch.position
        mask: Mask = Causal(candidates=candidates)
        position = torch.minimum(batch.position, history)
        return Tokens(batch.sequences, position, batch.timestamp, batch.query_time, mask)

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        return torch.stack(list(events.values())).sum(0)


OTHERS: dict[str, MakeLayout] = {
    "items_and_behaviors": ItemsAndBehaviors,
    "even_items": EvenItems,
    "candidates": lambda sizes: LastTwoAreCandidates(),
}
