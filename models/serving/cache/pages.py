"""The memory of a cache: pages of tokens, for keys, values and columns of events alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.columns import Columns
from models.layers.settings import BlockSettings


@dataclass(frozen=True, eq=False)
class Pages:
    """Tokens of all users: page p is rows `p * size` to `(p + 1) * size` of every tensor."""

    size: int
    """Tokens of a page."""
    keys: list[Tensor]
    """[tokens, heads, width] of each layer."""
    values: list[Tensor]
    """[tokens, heads, width] of each layer."""
    columns: dict[str, Tensor]
    """[tokens] each: what is known of events."""
    outputs: Tensor | None
    """[tokens, dim] of the backbone, where they are kept."""

    @classmethod
    def within(
        cls,
        budget: int,
        size: int,
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
            size: tokens of a page.
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
        one = size * bytes_per_token(layers, columns, storage, dim)
        if budget < least * one:
            raise UserError(
                f"a history of {least * size:,} events takes {least * one:,} bytes, and the cache has "
                f"{budget:,}",
                fix="give it a larger budget, a shorter window, or storage='bfloat16'",
            )
        rows = budget // one * size

        def tokens(*shape: int) -> Tensor:
            return torch.empty(rows, *shape, dtype=storage, device=device)

        return cls(
            size,
            [tokens(each.heads, each.compared_dim) for each in layers],
            [tokens(each.heads, each.value_dim) for each in layers],
            {each.name: torch.empty(rows, dtype=each.torch_dtype, device=device) for each in columns},
            tokens(dim) if outputs else None,
        )

    @property
    def count(self) -> int:
        """Of pages."""
        return len(next(iter(self.columns.values()))) // self.size

    @property
    def nbytes(self) -> int:
        """Of one page."""
        more = [] if self.outputs is None else [self.outputs]
        tensors = [*self.keys, *self.values, *self.columns.values(), *more]
        return sum(tensor[: self.size].nbytes for tensor in tensors)

    def rows(self, table: Tensor, row: Tensor, place: Tensor) -> Tensor:
        """[tokens] rows of the tensors.

        Args:
            table: [users, most] pages of each user.
            row: [tokens] whose they are.
            place: [tokens] place in the user's window.
        """
        page = table[row, place.div(self.size, rounding_mode="floor")]
        return page.long() * self.size + place % self.size


def bytes_per_token(layers: list[BlockSettings], columns: Columns, storage: torch.dtype, dim: int) -> int:
    """Memory of one event: keys and values of all layers, its columns, and `dim` numbers of output."""
    width = sum(each.heads * (each.compared_dim + each.value_dim) for each in layers) + dim
    return width * storage.itemsize + sum(each.torch_dtype.itemsize for each in columns)
