"""What a layout is: which tokens the events of a batch become, and which of them are queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.inputs.tokens import Tokens

EventVectors = Mapping[str, Tensor]
"""Vectors of events by what they are of, in the order in which they are added up, [events, dim] each: `item`;
`behavior` of the event; `next_behavior`, that of the event to predict, out of the same table;
`query_behavior`, that of the event to predict, out of a table of its own."""


class Layout(Protocol):
    """Maps events to tokens.

    An event may be one token, several (item and behavior, say) or none; tokens of context may stand in front
    of a sequence, and candidates at its end. Tokens of a sequence stand together, and sequences in the order
    of the batch; a sequence of events may be several of tokens. Every event has a query token, whose output
    predicts the next event; that of an event without a token of its own is the last token before it, so that
    there has to be one.

    A layout with parameters is an `nn.Module` that names their roles; the model then holds them.

    What is made of a batch is made of tensors on its device, without waiting for it, and without asking for
    lengths that only the device knows (`Sequences.room`): a captured CUDA graph replays it for other batches.
    Where the batch's lengths are known on the host, those of its tokens are as well, so that every attention
    kernel can be used.

    What follows an event is in no token up to its query, but for the time of the query, and the behavior to
    predict where that is a condition (`next_behavior`, `query_behavior`).
    """

    @property
    def columns(self) -> Columns:
        """Columns of the batch that `tokens` and `arrange` read."""

    @property
    def vectors(self) -> frozenset[str]:
        """Names of the event vectors that `arrange` needs, besides those that settings add to the item's."""

    def max_tokens(self, max_length: int) -> int:
        """Most tokens of a sequence of `max_length` events; the size of position tables."""

    def tokens(self, batch: PackedBatch) -> Tokens:
        """The tokens of a batch."""

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        """[tokens, dim] token vectors, before scale, positions and dropout.

        Args:
            events: the event vectors that there are; [events, dim] each.
            tokens: of the same batch.
            batch: what they were made of, with the layout's `columns`.
        """


@dataclass(frozen=True)
class Sizes:
    """What a layout is made for."""

    dim: int
    """Width of token vectors."""
    num_behaviors: int
    """Behaviors of the data set, ids 1 to so many."""


MakeLayout = Callable[[Sizes], Layout]
"""Makes a layout with fresh weights, if it has any."""
