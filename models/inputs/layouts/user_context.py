"""Features of users as tokens of context in front of any layout's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.catalog import ItemFeature
from models.data.columns import Columns
from models.data.side import FIRST_SEQUENCE, FIRST_VISITOR
from models.inputs.item_features import FeatureEmbeddings, others
from models.inputs.layout import EventVectors, Layout
from models.inputs.tokens import Tokens

_ONE_AT_A_TIME = RLock()
"""Threads share a model, whose tables are others while it is visited."""


@dataclass(frozen=True, eq=False)
class ContextTokens(Tokens):
    """Tokens of another layout, with context before them."""

    inner: Tokens = field(kw_only=True)
    """The other layout's tokens."""
    place: Tensor = field(kw_only=True)
    """[tokens of the other layout] where each is now."""
    front: Tensor = field(kw_only=True)
    """[sequences, context] where the tokens of context are."""

    def queries(self, outputs: Tensor) -> Tensor:
        """What the other layout asks of its own tokens."""
        return self.inner.queries(F.embedding(self.place, outputs))

    def behavior_queries(self, outputs: Tensor) -> Tensor:
        """What the other layout predicts the next behavior by."""
        return self.inner.behavior_queries(F.embedding(self.place, outputs))


class WithUserContext(nn.Module):
    """A token a feature of the user, then the tokens of another layout.

        gender  age  |  event  event  event

    Every token sees all tokens of context, and these see each other alone. They stand at positions 0, 1, ..,
    so that those of events begin at their number; biases by position count from the first event, as
    `models.attention.masks.Mask` says. They happen, and ask, when the first token after them happens. They
    are no events: N does not count them. A sequence of no known user has missing values; `visited` is for
    those that are not in the data set.

    Args:
        inner: the layout of events.
        features: of the users of all sequences, as `models.data.side.SideInformation` has them.
        dim: width of token vectors.
        max_values: of a user's values of a feature, how many count; None: all.
    """

    def __init__(
        self, inner: Layout, features: Sequence[ItemFeature], dim: int, max_values: int | None = None
    ) -> None:
        super().__init__()
        self.inner = inner
        self.users = FeatureEmbeddings(features, dim, max_values)
        self.context = len(self.users)

    @property
    def columns(self) -> Columns:
        return self.inner.columns

    @property
    def vectors(self) -> frozenset[str]:
        return self.inner.vectors

    def max_tokens(self, max_length: int) -> int:
        return self.context + self.inner.max_tokens(max_length)

    def tokens(self, batch: PackedBatch) -> ContextTokens:
        inner, c = self.inner.tokens(batch), self.context
        device, count = inner.position.device, inner.position.shape[0]
        sequences = self._sequences(inner.sequences)
        # Tokens past the last sequence move as far as those of the last one.
        token = torch.arange(count, device=device)
        row = torch.searchsorted(inner.sequences.offsets[1:], token, right=True)
        place = token + c * (row.clamp(max=max(inner.sequences.num_sequences - 1, 0)) + 1)
        front = sequences.offsets[:-1, None] + torch.arange(c, device=device)
        began = inner.sequences.offsets[:-1].clamp(max=max(count - 1, 0))

        def put(of_inner: Tensor, of_context: Tensor) -> Tensor:
            moved = of_inner.new_zeros(sequences.num_tokens).index_copy(0, place, of_inner)
            return moved.index_copy(0, front.flatten(), of_context.expand(front.shape).flatten())

        def moved(of_events: Tensor | None) -> Tensor | None:
            return None if of_events is None else place[of_events]

        when = inner.timestamp[began][:, None] if count else began[:, None]
        return ContextTokens(
            sequences=sequences,
            position=put(inner.position + c, torch.arange(c, device=device)),
            timestamp=put(inner.timestamp, when),
            query_time=put(inner.query_time, when),
            mask=_with_context(inner.mask, c),
            asking=place if inner.asking is None else moved(inner.asking),
            asking_behavior=moved(inner.asking_behavior),
            items=moved(inner.items),
            inner=inner,
            place=place,
            front=front,
        )

    @contextmanager
    def visited(self, features: Sequence[ItemFeature]) -> Iterator[None]:
        """Sequences `FIRST_VISITOR`, `FIRST_VISITOR - 1`, .. have these features, by rows from
        `FIRST_SEQUENCE` on; those of the data set are not to be looked up meanwhile."""
        with _ONE_AT_A_TIME, others(self.users, features):
            yield

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        assert isinstance(tokens, ContextTokens)
        x = self.inner.arrange(events, tokens.inner, batch)
        moved = x.new_zeros(tokens.sequences.num_tokens, x.shape[1]).index_copy(0, tokens.place, x)
        # No user is -1, as the sequences that pad a batch are.
        visitor = FIRST_SEQUENCE + FIRST_VISITOR - batch.sequence
        row = torch.where(batch.sequence > FIRST_VISITOR, batch.sequence + FIRST_SEQUENCE, visitor)
        if batch.num_sequences:  # of which several of tokens may be made
            row = row[:, None].expand(-1, tokens.front.shape[0] // batch.num_sequences).flatten()
        users = self.users(row)
        return moved.index_copy(0, tokens.front.flatten(), torch.stack(users, 1).flatten(0, 1).to(x.dtype))

    def _sequences(self, inner: Sequences) -> Sequences:
        count, c = inner.num_sequences, self.context
        offsets = inner.offsets + c * torch.arange(count + 1, device=inner.offsets.device)
        if inner.room is None:
            return Sequences(offsets, tuple(c + length for length in inner.lengths))
        room = inner.room
        return Sequences.unread(offsets, tokens=room.tokens + c * count, longest=room.longest + c)


def _with_context(mask: Mask, context: int) -> Mask:
    return Mask(mask.window, mask.prefix, mask.context + context, mask.candidates, mask.candidate)
