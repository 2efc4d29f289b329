"""Keys and values of earlier tokens out of pages, for one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from models.attention.sequences import Sequences
from models.serving.cache.pages import Pages


@dataclass(frozen=True, eq=False)
class PagedPast:
    """`models.layers.context.Past` in pages. What a token sees is what is stored, rounded as it is there."""

    pages: Pages
    number: Mapping[nn.Module, int]
    """Of each attention layer."""
    sequences: Sequences
    """Of all tokens."""
    timestamp: Tensor
    """[all tokens] int64 seconds."""
    source: Tensor
    """[all tokens + 1] rows in the pages; of new tokens, and of the last, any."""
    place: Tensor
    """[new tokens] where they are among all; the last, where they are nowhere."""
    kept: Tensor | None
    """[new tokens] rows in the pages that they are written to; None: they are not kept."""
    candidates: int = 0
    """Most candidates of a sequence."""

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[all tokens, heads, width] each, of the type of `key`."""
        number = self.number[layer]
        return (
            self._extend(self.pages.keys[number], key),
            self._extend(self.pages.values[number], value),
        )

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        rounded = new.to(stored.dtype)
        if self.kept is not None:
            stored.index_copy_(0, self.kept, rounded)
        every = stored.index_select(0, self.source)
        if self.kept is None or self.candidates:
            # Rows of new tokens hold anything, if they are not kept, and are replaced.
            every.index_copy_(0, self.place, rounded)
        return every[:-1].to(new.dtype)
