"""One token an event."""

from __future__ import annotations

from torch import Tensor

from models.attention.masks import Causal
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors
from models.inputs.tokens import Tokens


class OneTokenPerEvent:
    """One token an event, the sum of the event's vectors, which is also its query token.

    Positions count from the oldest event of the window. A token attends to itself and all before it. Whether
    the behavior of the event is ignored or added is a setting, `embedding.behaviors`; added, it is the action
    embedding of HSTU's successors (ULTRA-HSTU, arXiv 2602.16986), at half the tokens of `interleaved`.

    Two users, six events; `?` marks the tokens that ask what comes next:

    >>> from models.inputs.layouts.picture import SIX_EVENTS, picture
    >>> print(picture(OneTokenPerEvent(), SIX_EVENTS))
    i5? i6? i5? i7?
    i6? i9?
    >>> print(picture(OneTokenPerEvent(), SIX_EVENTS, "behavior"))
    i5+b1? i6+b1? i5+b2? i7+b1?
    i6+b3? i9+b1?
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
