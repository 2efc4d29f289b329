"""Auxiliary loss: two views of an item by complementary features are to be alike (arXiv 2007.12865)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from behavior.errors import UserError
from models.data.catalog import CategoricalFeature, ItemFeature, MultiCategoricalFeature
from models.data.sequences import Int64Array
from models.inputs.embedding import InputEmbedding
from models.losses.config import ViewsConfig

_BINS = 10
"""Quantiles of a number, for its mutual information with other features."""


class ItemViews(nn.Module):
    """`weight * InfoNCE` between two views of items that are sampled uniformly, with replacement.

    A view is the item's vector as its features alone make it, without its id. Correlated feature masking: a
    seed feature, drawn at random for each batch, and those with the highest mutual information with it are in
    one view, and all others in the other one; so no view can be guessed from a feature that says the same. Of
    several values of a feature, each view drops some at random.

        loss = mean_i -log(exp(z_i . z'_i / T) / sum_j exp(z_i . z'_j / T)), of vectors of unit length

    The same item drawn again is no negative.

    Args:
        config: settings.
        features: those of the item vectors, in their order.
        first_item: the smallest id of a known item.
        num_item_ids: padding, unknown and known items.

    Raises:
        UserError: views of so few features would have nothing in one of them.
    """

    first: Tensor
    """[features, features] float32: 1 for what is in the first view, by seed."""
    second: Tensor
    """The same of the second view."""

    def __init__(
        self, config: ViewsConfig, features: Sequence[ItemFeature], first_item: int, num_item_ids: int
    ) -> None:
        super().__init__()
        self.config, self.first_item, self.num_item_ids = config, first_item, num_item_ids
        count = len(features)
        if count < 2 and not (count and config.dropout and isinstance(features[0], MultiCategoricalFeature)):
            raise UserError(
                "two views of an item need two features, or one with several values, some of them dropped",
                where=f"loss.views.weight = {config.weight}",
                fix="choose more features (embedding.item_features), or set loss.views.weight=0",
            )
        first = correlated_masks([_codes(feature, first_item) for feature in features])
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", 1.0 - first if count > 1 else first.clone(), persistent=False)

    def forward(self, embedding: InputEmbedding) -> Tensor:
        """The mean loss of a sample of items, times `weight`; a scalar."""
        device, count = self.first.device, len(self.first)
        ids = torch.randint(self.first_item, self.num_item_ids, (self.config.items,), device=device)
        if self.config.masking == "random" and count > 1:
            first = (torch.rand(count, device=device).argsort() < count // 2).float()
            second = 1.0 - first
        else:
            seed = torch.randint(count, (1,), device=device)
            first, second = self.first[seed][0], self.second[seed][0]
        one, other = (embedding.item_view(ids, keep, self.config.dropout) for keep in (first, second))
        return self.config.weight * info_nce(one, other, ids, self.config.temperature)


def info_nce(one: Tensor, other: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """The mean over items of the cross-entropy of each one's other view among those of all.

    Args:
        one: [items, dim].
        other: [items, dim].
        ids: [items] int64; other rows of an item are no negatives.
        temperature: of cosines.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = (F.normalize(view.float(), dim=-1) for view in (one, other))
        scores = one @ other.T / temperature
        same = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)
        place = torch.arange(len(ids), device=ids.device)
        return F.cross_entropy(scores.masked_fill(same, float("-inf")), place)


def correlated_masks(codes: Sequence[Int64Array]) -> Tensor:
    """[features, features] float32: by seed, 1 for the seed and the features that say most about it.

    There are `features // 2` of these; none where there are two features, so that one is left for the other
    view.

    Args:
        codes: [items] each, what items have of each feature, as whole numbers.
    """
    count = len(codes)
    masks = torch.eye(count)
    for seed in range(count):
        others = [number for number in range(count) if number != seed]
        # Of equal ones the first: sorting is stable.
        others.sort(key=lambda number: -mutual_information(codes[seed], codes[number]))
        masks[seed, others[: max(min(count // 2, count - 2), 0)]] = 1.0
    return masks


def mutual_information(a: Int64Array, b: Int64Array) -> float:
    """`sum p(x, y) log(p(x, y) / (p(x) p(y)))` in nats, of the frequencies of pairs [n]."""
    x, y = (np.unique(codes, return_inverse=True)[1] for codes in (a, b))
    _, place, joint = np.unique(x * (y.max(initial=0) + 1) + y, return_index=True, return_counts=True)
    share = joint / max(len(a), 1)
    of_x, of_y = (np.bincount(codes) / max(len(a), 1) for codes in (x, y))
    return float((share * np.log(share / (of_x[x[place]] * of_y[y[place]]))).sum())


def _codes(feature: ItemFeature, first_item: int) -> Int64Array:
    """[known items]: the value, the first of several, or the quantile of a number."""
    if isinstance(feature, CategoricalFeature):
        return feature.ids[first_item:].numpy()
    if isinstance(feature, MultiCategoricalFeature):
        return feature.values[feature.offsets[first_item:-1]].numpy()
    numbers, missing = feature.values[first_item:].numpy().T
    bounds = np.quantile(numbers, np.arange(1, _BINS) / _BINS) if len(numbers) else []
    return np.where(missing > 0, -1, np.searchsorted(bounds, numbers)).astype(np.int64)
