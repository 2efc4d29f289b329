"""Layouts: which tokens the events of a batch become, and which of them are queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from models.attention.masks import Causal
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.declared import CORE
from models.inputs.tokens import Tokens
from models.registered import unknown_name

EventVectors = Mapping[str, Tensor]
"""Vectors of events by what they are of, in the order in which they are added up, [events, dim] each: `item`;
`behavior` of the event; `query_behavior`, that of the event to predict."""


class Layout(Protocol):
    """Maps events to tokens.

    An event may be one token, several (item and behavior, say) or none; tokens of context may stand in front
    of a sequence, and candidates at its end. Tokens of a sequence stand together, and sequences in the order
    of the batch. Every event has a query token, whose output predicts the next event; that of an event
    without a token of its own is the last token before it, so that there has to be one.

    A layout with parameters is an `nn.Module` that names their roles; the model then holds them.

    What is made of a batch is made of tensors on its device, without waiting for it, and without asking for
    lengths that only the device knows (`Sequences.room`): a captured CUDA graph replays it for other batches.
    Where the batch's lengths are known on the host, those of its tokens are as well, so that every attention
    kernel can be used.
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


class OneTokenPerEvent:
    """One token an event, the sum of the event's vectors, which is also its query token.

    Positions count from the oldest event of the window. A token attends to itself and all before it.
    """

    columns = CORE.select("position", "timestamp", "query_time")
    vectors: frozenset[str] = frozenset()

    def max_tokens(self, max_length: int) -> int:
        return max_length

    def tokens(self, batch: PackedBatch) -> Tokens:
        return Tokens(batch.sequences, batch.position, batch.timestamp, batch.query_time, Causal())

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        first, *others = events.values()
        for vectors in others:
            first = first + vectors
        return first


LAYOUTS: dict[str, Callable[[int], Layout]] = {"event": lambda dim: OneTokenPerEvent()}
"""Makes a layout, by its name in `embedding.layout`, for token vectors of a width."""


def make_layout(name: str, dim: int) -> Layout:
    """A layout with fresh weights, if it has any.

    Args:
        name: one of `LAYOUTS`.
        dim: width of token vectors.

    Raises:
        UserError: there is no such layout; names the nearest.
    """
    if name not in LAYOUTS:
        register = "add it to models.inputs.layout.LAYOUTS"
        raise unknown_name("layout", name, LAYOUTS, register, where="embedding.layout")
    return LAYOUTS[name](dim)
