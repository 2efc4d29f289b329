"""Which keys a query may look at: small objects that know rules, not tensors of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Mask:
    """What a query may see of its sequence; never another sequence. Without arguments: itself and all before.

    Every token has a *logical position*, its index in the sequence, but for two kinds. The tokens of a
    context (features of a user, say) have no order: all are at 0, the first event after them at 1. All
    candidates are where the first of them is, at the end of the history (M-FALCON, arXiv 2402.17152); of
    candidates of several tokens, the first tokens are there, and the others right after. Windows and position
    biases measure between logical positions.

    A query sees itself; context tokens see the whole context; and a query sees keys at lower logical
    positions, if these are less than `window` away, or belong to the context or to the `prefix` tokens after
    it. So candidates see the history, and their own earlier tokens, but not each other.
    """

    window: int | None = None
    """Size of a local window: the query itself and `window - 1` events before; None: all before."""
    prefix: int = 0
    """Tokens at the front, after the context, that a window does not hide."""
    context: int = 0
    """Tokens at the front of every sequence that all see, each other too."""
    candidates: Tensor | None = None
    """[sequences] int64: how many tokens at the end of each are candidates; context and candidates together
    are no longer than the sequence."""
    candidate: int = 1
    """Tokens of a candidate."""

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError("a window holds at least the query itself")
        if self.prefix < 0 or self.context < 0:
            raise ValueError("a prefix and a context hold no fewer than 0 tokens")
        if self.candidate < 1:
            raise ValueError("a candidate has one token at least")

    @property
    def front(self) -> int:
        """Tokens at the front that a window does not hide."""
        return self.context + self.prefix

    @property
    def shift(self) -> int:
        """Index less logical position of an event of the history."""
        return max(self.context - 1, 0)

    @property
    def is_plain(self) -> bool:
        """Whether there is a window at most."""
        return self.prefix == 0 and self.context == 0 and self.candidates is None

    def within(self, window: int, prefix: int) -> Mask:
        """The same mask with a local window, and with the first `prefix` events in sight of all.

        Raises:
            ValueError: it has a window already.
        """
        if self.window is not None:
            raise ValueError("this mask has a window already")
        return Mask(window, max(self.prefix, prefix), self.context, self.candidates, self.candidate)

    def history(self, sequences: Sequences) -> Tensor:
        """[sequences] int64 tokens before the candidates."""
        lengths = sequences.offsets.diff()
        return lengths if self.candidates is None else lengths - self.candidates

    def logical_positions(self, sequences: Sequences) -> Tensor:
        """[sequences, max_length] int64 of each token; [1, max_length] where all sequences are alike."""
        place = torch.arange(sequences.max_length, device=sequences.offsets.device)[None]
        if self.candidates is not None:
            history = self.history(sequences)[:, None]
            place = torch.minimum(place, history + (place - history).clamp(min=0) % self.candidate)
        return (place - self.shift).clamp(min=0)

    def materialize(self, sequences: Sequences, queries: Sequences | None = None) -> Tensor:
        """[sequences, queries, max_length] bool (query, key): the slow truth, quadratic in length.

        Args:
            sequences: of the keys.
            queries: of the queries, where they are only the last tokens of each sequence.
        """
        _, present = sequences.padded_index()
        place = torch.arange(sequences.max_length, device=present.device)[None]
        positions = self.logical_positions(sequences)
        # Of the queries alone, from the start: all pairs would be the square of the length.
        asking, asked, there = (
            each if queries is None else last_rows(each, sequences, queries)
            for each in (place, positions, present)
        )
        distance = asked[:, :, None] - positions[:, None, :]
        near = distance > 0
        if self.window is not None:
            near &= (distance < self.window) | (place < self.front)
        if self.candidates is not None and self.candidate > 1:
            ahead = self.history(sequences)[:, None]
            # Which candidate a token belongs to; 0 and below: to the history.
            asks, is_asked = (
                (each - ahead).div(self.candidate, rounding_mode="floor") for each in (asking, place)
            )
            near &= (is_asked < 0)[:, None, :] | (asks[:, :, None] == is_asked[:, None, :])
        seen = near | (asking[:, :, None] == place[:, None, :])
        if self.context:
            seen = seen | ((asking < self.context)[:, :, None] & (place < self.context))
        return seen & there[:, :, None] & present[:, None, :]


class Causal(Mask):
    """A query sees itself and everything before it."""

    def __init__(self, *, context: int = 0, candidates: Tensor | None = None) -> None:
        super().__init__(context=context, candidates=candidates)


class LocalWindow(Mask):
    """A query sees itself and the `size - 1` events before it."""

    def __init__(self, size: int, *, context: int = 0, candidates: Tensor | None = None) -> None:
        super().__init__(window=size, context=context, candidates=candidates)


class SemiLocal(Mask):
    """A local window, and the first `prefix` events of the sequence (ULTRA-HSTU's semi-local attention)."""

    def __init__(self, size: int, prefix: int, *, context: int = 0, candidates: Tensor | None = None) -> None:
        super().__init__(window=size, prefix=prefix, context=context, candidates=candidates)


def last_rows(square: Tensor, sequences: Sequences, queries: Sequences) -> Tensor:
    """The rows of a [sequences, max_length, ...] tensor that belong to the last tokens of each sequence.

    Returns:
        [sequences, queries.max_length, ...]; where a sequence has fewer queries, any rows.
    """
    first = sequences.offsets.diff() - queries.offsets.diff()
    row = first[:, None] + torch.arange(queries.max_length, device=first.device)
    row = row.clamp(max=max(sequences.max_length - 1, 0))
    number = torch.arange(len(first), device=first.device)[:, None]
    return square.expand(len(first), *square.shape[1:])[number, row]
