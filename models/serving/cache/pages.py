"""The memory of a cache: pages of events and their tokens, for keys, values and columns of events alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.wording import number_of
from models.data.columns import Columns
from models.layers.settings import BlockSettings
from models.serving.cache.tokens import TokenCounts


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
        size: int,
        tokens: TokenCounts,
        layers: list[BlockSettings],
        columns: Columns,
        storage: torch.dtype,
        device: torch.device,
        *,
        least: int,
        outputs: bool,
    ) -> Pages:
        """As many as there are bytes for.

        Args:
            budget: bytes.
            size: events of a page.
            tokens: of an event.
            layers: whose keys and values there are.
            columns: of events.
            storage: type of keys, values and outputs.
            device: where.
            least: pages of the longest history.
            outputs: whether those of the backbone are kept.

        Raises:
            UserError: there are bytes for less than one history.
        """
        dim = layers[0].dim if outputs else 0
        one = size * bytes_per_event(tokens.each, layers, columns, storage, dim)
        if budget < least * one:
            raise UserError(
                f"a history of {number_of(least * size, 'event')} takes {number_of(least * one, 'byte')}, "
                f"and the cache has {budget:,}",
                fix="give it a larger budget, a shorter window, or storage='bfloat16'",
            )
        events = budget // one * size

        def room(rows: int, *shape: int) -> Tensor:
            return torch.empty(rows + 1, *shape, dtype=storage, device=device)

        count = events * tokens.each
        return cls(
            size,
            tokens,
            [room(count, each.heads, each.compared_dim) for each in layers],
            [room(count, each.heads, each.value_dim) for each in layers],
            torch.zeros(count + 1, dtype=torch.int64, device=device),
            {each.name: torch.zeros(events + 1, dtype=each.torch_dtype, device=device) for each in columns},
            room(events, dim) if outputs else None,
        )

    @property
    def count(self) -> int:
        """Of pages."""
        return len(next(iter(self.columns.values()))) // self.size

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


def bytes_per_event(
    tokens: int, layers: list[BlockSettings], columns: Columns, storage: torch.dtype, dim: int
) -> int:
    """Memory of one event: of each token keys and values of all layers and its time; its columns, and `dim`
    numbers of output."""
    width = sum(each.heads * (each.compared_dim + each.value_dim) for each in layers)
    a_token = width * storage.itemsize + torch.int64.itemsize
    return tokens * a_token + dim * storage.itemsize + sum(each.torch_dtype.itemsize for each in columns)
