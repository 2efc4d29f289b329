"""Embedding of item features with any number of values, such as the words of a text.

The cost follows the number of values, not the longest list. Lists of like lengths are padded to the longest.
Where that would waste much, a look-up on a CPU is one ragged embedding bag. On an accelerator, sizes that
depend on the items would have to be read back from it, and captured CUDA graphs cannot have them: rows are
padded there to a width that most items fit into, and the few longer lists are one ragged bag of known size.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.catalog import MultiCategoricalFeature
from models.layers.initialization import init_embedding
from models.layers.roles import Role

PADDED = 8
"""Rows are padded to the longest list where that is at most so many times the mean length."""


class MultiCategoricalEmbedding(nn.Module):
    """The mean of the embeddings of an item's values.

    Args:
        feature: the values of every item.
        dim: width.
        most: values of an item that count, the first ones; None: all.
    """

    parameter_roles = {"table.weight": Role.FEATURE_TABLE}
    values: Tensor
    """[values + 1] int64; one more at the end, so that indices are valid where no item has a value."""
    offsets: Tensor
    """[item ids + 1] int64."""
    long_values: Tensor
    """Values of all items with more than `width`, item by item."""
    long_starts: Tensor
    """[such items] where the values of each begin."""
    long_place: Tensor
    """[item ids] which of these items one is; -1: none."""

    def __init__(self, feature: MultiCategoricalFeature, dim: int, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        for name, found in self.looked_up(feature).items():
            if isinstance(found, Tensor):
                self.register_buffer(name, found, persistent=False)
            else:
                self.width = found
        self.table = nn.EmbeddingBag(feature.vocabulary_size, dim, mode="mean", padding_idx=0)
        init_embedding(self.table.weight)

    def looked_up(self, feature: MultiCategoricalFeature) -> dict[str, Tensor | int]:
        """Buffers of the values of items, and the width of padded rows."""
        values, offsets = first_values(feature.values, feature.offsets, self.most)
        lengths = offsets.diff()
        width = padded_width(lengths)
        long = (lengths > width).nonzero().squeeze(1)
        place = torch.full_like(lengths, -1)
        place[long] = torch.arange(len(long))
        return {
            "width": width,
            "values": F.pad(values, (0, 1)),
            "offsets": offsets,
            "long_values": values[torch.repeat_interleave(lengths > width, lengths)],
            "long_starts": lengths[long].cumsum(0) - lengths[long],
            "long_place": place,
        }

    def forward(self, items: Tensor, drop: float = 0.0) -> Tensor:
        """[n] item ids -> [n, dim].

        Args:
            items: any, padding among them.
            drop: share of the values that are left out at random; of an item without any the vector is zero.
        """
        if len(self.long_starts) and items.device.type == "cpu":
            return self.ragged(items, drop)
        return self.padded(items, drop)

    def ragged(self, items: Tensor, drop: float = 0.0) -> Tensor:
        """One bag of as many values as the items have together; its size is read from the device."""
        starts = self.offsets[items]
        lengths = self.offsets[items + 1] - starts
        begin = lengths.cumsum(0) - lengths
        shift = torch.repeat_interleave(starts - begin, lengths)
        values = self.values[shift + torch.arange(len(shift), device=items.device)]
        return self.table(_thinned(values, drop), begin)

    def padded(self, items: Tensor, drop: float = 0.0) -> Tensor:
        """The same, of shapes that follow from the number of items alone."""
        starts = self.offsets[items]
        lengths = self.offsets[items + 1] - starts
        lengths = torch.where(lengths > self.width, 0, lengths)
        place = torch.arange(self.width, device=items.device)
        at = (starts[:, None] + place).clamp(max=len(self.values) - 1)
        # Zeros, padding, are left out of the mean.
        short = self.table(_thinned(torch.where(place < lengths[:, None], self.values[at], 0), drop))
        if not len(self.long_starts):
            return short
        long = self.table(_thinned(self.long_values, drop), self.long_starts)
        which = self.long_place[items]
        return torch.where((which >= 0)[:, None], F.embedding(which.clamp(min=0), long), short)


def _thinned(values: Tensor, drop: float) -> Tensor:
    """Some of them become padding, which no mean counts."""
    return values.masked_fill(torch.rand(values.shape, device=values.device) < drop, 0) if drop else values


def first_values(values: Tensor, offsets: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """Values and offsets of lists that are cut to their first `most` values; None: they are not."""
    if most is None:
        return values, offsets
    lengths = offsets.diff()
    place = torch.arange(len(values)) - torch.repeat_interleave(offsets[:-1], lengths)
    return values[place < most], F.pad(lengths.clamp(max=most).cumsum(0), (1, 0))


def padded_width(lengths: Tensor) -> int:
    """How many values a padded row of an item has.

    All of the longest list where that wastes little. Else the width that costs the least where every item is
    looked up once: padded rows, and the values of all longer lists. Together these are at most twice the
    values there are, as the mean length for a width would be.

    Args:
        lengths: [item ids] values of each.
    """
    counts = lengths.numpy()
    longest, total = max(1, int(counts.max(initial=0))), int(counts.sum())
    if longest * len(counts) <= PADDED * total:
        return longest
    widths, items = np.unique(np.maximum(counts, 1), return_counts=True)
    longer = (widths * items)[::-1].cumsum()[::-1] - widths * items
    return int(widths[np.argmin(len(counts) * widths + longer)])
