"""Keys and values of earlier tokens out of pages, for one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.attention.masks import Mask
from models.attention.paged import reasons_against
from models.attention.paged.paging import Paging
from models.attention.sequences import Sequences
from models.inputs.tokens import Tokens
from models.layers.attention_layer import AttentionLayer
from models.serving.cache.pages import Pages
from models.serving.cache.ragged import Spread


def reasons_to_gather(
    layers: list[AttentionLayer], device: torch.device, dtype: torch.dtype, mask: Mask
) -> list[str]:
    """Why keys and values of these layers cannot be read in their pages.

    Args:
        layers: of a backbone.
        device: of the pages.
        dtype: of token vectors.
        mask: of all layers.
    """
    settings = layers[0].settings
    dim = max(settings.compared_dim, settings.value_dim)
    reasons = reasons_against(device, dtype, dim, settings.kernel)
    if settings.channels:
        reasons.append("channels of positions and times attend by these alone")
    if mask.candidates is not None and mask.candidate > 1:
        reasons.append("candidates of one token each")
    return reasons


@dataclass(frozen=True, eq=False)
class PastInPlace:
    """`models.layers.context.Past`, read where it is: in the pages."""

    pages: Pages
    number: Mapping[nn.Module, int]
    """Of each attention layer."""
    paging: Paging
    """Where tokens are."""
    sequences: Sequences
    """Of new tokens."""
    candidates: int = 0
    """0: candidates take no room in tables of positions."""
    in_place: ClassVar[bool] = True

    @property
    def timestamp(self) -> Tensor:
        """[new tokens] int64 seconds."""
        return self.paging.timestamp

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Nobody asks."""
        raise NotImplementedError

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Mask, activate: bool
    ) -> Tensor:
        """[new tokens, heads, value_dim]; events are in the pages afterwards.

        Those that are not kept, too: it is the newest event of each, of which nothing is reused.
        """
        from models.attention.paged.launching import Layer, attend  # without a GPU there need be no triton

        assert isinstance(layer, AttentionLayer)
        settings, number = layer.settings, self.number[layer]
        qk_scale, output_scale = settings.scales
        return attend(
            Layer(
                keys=self.pages.keys[number],
                values=self.pages.values[number],
                softmax=settings.activation == "softmax",
                mask=mask,
                bias=layer.bias(self.paging.relative_time),
                qk_scale=qk_scale,
                output_scale=output_scale,
                activate=activate,
            ),
            self.paging,
            query,
            key,
            value,
        )


@dataclass(frozen=True, eq=False)
class PagedPast:
    """`models.layers.context.Past`, gathered out of pages. What a token sees is what is stored, rounded as it
    is there."""

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
    in_place: ClassVar[bool] = False

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[all tokens, heads, width] each, of the type of `key`."""
        number = self.number[layer]
        return (
            self._extend(self.pages.keys[number], key),
            self._extend(self.pages.values[number], value),
        )

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Mask, activate: bool
    ) -> Tensor:
        """Nobody asks."""
        raise NotImplementedError

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        rounded = new.to(stored.dtype)
        if self.kept is not None:
            stored.index_copy_(0, self.kept, rounded)
        every = stored.index_select(0, self.source)
        if self.kept is None or self.candidates:
            # Rows of new tokens hold anything, if they are not kept, and are replaced.
            every.index_copy_(0, self.place, rounded)
        return every[:-1].to(new.dtype)


@dataclass(frozen=True, eq=False)
class Growing:
    """Where new tokens of one pass belong."""

    pages: Pages
    number: Mapping[nn.Module, int]
    """Of each attention layer."""
    table: Tensor
    """[users, most] int32 pages."""
    base: Tensor
    """[users] int64 tokens that are remembered."""
    history: Tensor
    """[users] int64 tokens of them and of new events."""
    candidates: Tensor | None
    """[users] int64 after these; None: nobody has any."""
    most_candidates: int
    """Of a user."""
    new: Spread
    """New tokens, candidates included."""
    kept: bool
    """Whether new events are kept."""

    @property
    def place(self) -> Tensor:
        """[new tokens] of each in its sequence."""
        return self.base[self.new.row] + self.new.place

    @cached_property
    def rows(self) -> Tensor:
        """[new tokens] rows of the pages that events have; those of all others are nowhere."""
        happened = self.new.inside & (self.place < self.history[self.new.row])
        rows = self.pages.token_rows(self.table, self.new.row, self.place)
        return torch.where(happened, rows, self.nowhere)

    @property
    def nowhere(self) -> int:
        """The last row."""
        return len(self.pages.happened) - 1

    def in_place(self, tokens: Tokens, longest: int, most_new: int) -> PastInPlace:
        """All that is remembered, where it is.

        Args:
            tokens: the new ones.
            longest: tokens of a sequence at most.
            most_new: of them new, at most.
        """
        paging = Paging(
            table=self.table,
            page=self.pages.size * self.pages.tokens.each,
            base=self.base,
            history=self.history,
            candidates=self.candidates,
            begin=self.new.offsets[:-1],
            happened=self.pages.happened,
            query_time=tokens.query_time,
            timestamp=tokens.timestamp,
            written=self.rows,
            longest=longest,
            most_asking=most_new,
        )
        return PastInPlace(self.pages, self.number, paging, tokens.sequences)

    def gathered(self, tokens: Tokens, every: Spread, sequences: Sequences) -> PagedPast:
        """A copy of all that is remembered.

        Args:
            tokens: the new ones.
            every: all tokens, remembered and new.
            sequences: of these.
        """
        rows = self.pages.token_rows(self.table, every.row, every.place)
        source = torch.cat([rows, rows.new_full((1,), self.nowhere)])
        size = every.row.shape[0]
        place = torch.where(self.new.inside, every.offsets[self.new.row] + self.place, size)
        timestamp = self.pages.happened[source].index_copy_(0, place, tokens.timestamp)[:-1]
        kept = self.rows if self.kept else None
        return PagedPast(
            self.pages, self.number, sequences, timestamp, source, place, kept, self.most_candidates
        )
