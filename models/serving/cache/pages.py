"""The memory of a cache: pages of events and their tokens, for keys, values and columns of events alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.wording import number_of
from models.data.columns import Columns
from models.layers.settings import BlockSettings
from models.serving.cache.ragged import Ints
from models.serving.cache.tokens import TokenCounts


@dataclass(frozen=True)
class Kind:
    """What a page holds."""

    size: int
    """Events."""
    tokens: TokenCounts
    """Of an event."""
    layers: list[BlockSettings]
    """Whose keys and values there are."""
    columns: Columns
    """Of events."""
    storage: torch.dtype
    """Type of keys, values and outputs."""
    outputs: bool
    """Whether those of the backbone are kept."""

    @property
    def dim(self) -> int:
        """Of outputs that are kept."""
        return self.layers[0].dim if self.outputs else 0

    @property
    def nbytes(self) -> int:
        """Of each event the keys and values of all layers and the time of its tokens; its columns, and its
        output."""
        width = sum(each.heads * (each.compared_dim + each.value_dim) for each in self.layers)
        a_token = width * self.storage.itemsize + torch.int64.itemsize
        an_event = self.dim * self.storage.itemsize + sum(each.torch_dtype.itemsize for each in self.columns)
        return self.size * (self.tokens.each * a_token + an_event)

    def pages_of(self, events: Ints) -> Ints:
        """[..] pages of so many events."""
        return -(-self.tokens.of(events) // (self.size * self.tokens.each))


@dataclass(frozen=True, eq=False)
class Pages:
    """Events of all users: page p is rows `p * size` to `(p + 1) * size` of what there is of events, and as
    many times the tokens of an event of what there is of tokens. One more row, the last, is nowhere."""

    size: int
    """Events of a page."""
    tokens: TokenCounts
    """Those in front of a sequence are in its first page, and all others so much later."""
    keys: list[Tensor]
    """[tokens, heads, width] of each layer."""
    values: list[Tensor]
    """[tokens, heads, width] of each layer."""
    happened: Tensor
    """[tokens] int64 seconds, of each as a key."""
    columns: dict[str, Tensor]
    """[events] each: what is known of events."""
    outputs: Tensor | None
    """[events, dim] what the backbone knows after each, where that is kept."""

    @classmethod
    def within(
        cls,
        budget: int,
        kind: Kind,
        device: torch.device,
        *,
        least: int,
    ) -> Pages:
        """As many as there are bytes for.

        Args:
            budget: bytes.
            kind: what they hold.
            device: where.
            least: pages of the longest history.

        Raises:
            UserError: there are bytes for less than one history.
        """
        one, size = kind.nbytes, kind.size
        if budget < least * one:
            raise UserError(
                f"a history of {number_of(least * size, 'event')} takes {number_of(least * one, 'byte')}, "
                f"and the cache has {budget:,}",
                fix="give it a larger budget, a shorter window, or storage='bfloat16'",
            )
        events = budget // one * size

        def room(rows: int, *shape: int) -> Tensor:
            return torch.empty(rows + 1, *shape, dtype=kind.storage, device=device)

        count = events * kind.tokens.each
        return cls(
            size,
            kind.tokens,
            [room(count, each.heads, each.compared_dim) for each in kind.layers],
            [room(count, each.heads, each.value_dim) for each in kind.layers],
            torch.zeros(count + 1, dtype=torch.int64, device=device),
            {
                each.name: torch.zeros(events + 1, dtype=each.torch_dtype, device=device)
                for each in kind.columns
            },
            room(events, kind.dim) if kind.outputs else None,
        )

    @property
    def count(self) -> int:
        """Of pages."""
        return (len(self.happened) - 1) // (self.size * self.tokens.each)

    @property
    def nbytes(self) -> int:
        """Of one page."""
        of_events = [*self.columns.values(), *([] if self.outputs is None else [self.outputs])]
        of_tokens = [*self.keys, *self.values, self.happened]
        return sum(
            tensor[:rows].nbytes
            for tensors, rows in ((of_events, self.size), (of_tokens, self.size * self.tokens.each))
            for tensor in tensors
        )

    def rows(self, table: Tensor, row: Tensor, place: Tensor) -> Tensor:
        """[events] rows of what there is of events; any, of places past those of the table.

        Args:
            table: [users, most] pages of each user.
            row: [events] whose they are.
            place: [events] place in the user's window.
        """
        return _rows(table, row, place, self.size)

    def token_rows(self, table: Tensor, row: Tensor, place: Tensor) -> Tensor:
        """The same of what there is of tokens, by their place in the user's sequence."""
        return _rows(table, row, place, self.size * self.tokens.each)


def _rows(table: Tensor, row: Tensor, place: Tensor, size: int) -> Tensor:
    place = place.clamp(0, table.shape[1] * size - 1)
    return table[row, place // size].long() * size + place % size
