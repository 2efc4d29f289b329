"""What a backbone is told of its tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.attention.masks import Mask
from models.attention.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch, sequence after sequence; made once a batch by a `models.inputs.layout.Layout`.

    Tokens past the last sequence belong to none: a CUDA graph has room for more than there are.
    """

    sequences: Sequences
    """Where the sequences of tokens start."""
    position: Tensor
    """[tokens] int64 row of learned and rotary position embeddings, below `Layout.max_tokens`."""
    timestamp: Tensor
    """[tokens] int64 seconds: the time of the event, that of each token as a key."""
    query_time: Tensor
    """[tokens] int64 seconds: the time of the prediction, that of each token as a query."""
    mask: Mask
    """Which tokens of its sequence a token attends to."""
    asking: Tensor | None = None
    """[events] int64: index of the query token of each event, whose output is the query for what follows the
    event; None: token i, for event i."""
    beside: Tensor | None = None
    """[events] int64: index of another token whose output is added to that of the query; None: none is."""
    asking_behavior: Tensor | None = None
    """[events] int64: index of the token of each event that predicts the next behavior, where the query is
    told it; None: the query."""
    items: Tensor | None = None
    """[events] int64: index of the token that holds each event's item, no two the same; None: the query."""
    attributes: tuple[Tensor, ...] = ()
    """[tokens, dim] each: features of events, and positions, that queries and keys are told of, and values
    are not (`attention_only`)."""

    def of_items(self, values: Tensor) -> Tensor:
        """[tokens, ...] of [events, ...]: the values of events at the tokens of their items, else zeros."""
        place = self.asking if self.items is None else self.items
        if place is None:
            return values
        return values.new_zeros(self.position.shape[0], *values.shape[1:]).index_copy(0, place, values)

    def queries(self, outputs: Tensor) -> Tensor:
        """[events, dim] of [tokens, dim]: the output of each event's query token, with what stands beside."""
        # Not `outputs[asking]`, whose gradient for a token that is the query of two events depends on the
        # order of threads.
        known = outputs if self.asking is None else F.embedding(self.asking, outputs)
        return known if self.beside is None else known + F.embedding(self.beside, outputs)

    def behavior_queries(self, outputs: Tensor) -> Tensor:
        """[events, dim] of [tokens, dim]: what is known after each event, without the behavior wanted."""
        if self.asking_behavior is None:
            return self.queries(outputs)
        return F.embedding(self.asking_behavior, outputs)
