"""The sampled softmax where all positions share their negatives, by kernels that never write scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.losses import kernels
from models.losses.columns import merged_columns, separate_columns
from models.losses.config import LossConfig
from models.losses.drawn import Negatives, SharedNegatives
from models.losses.extra import ExtraMass


def shared_losses(
    config: LossConfig,
    query: Tensor,
    taken: Tensor,
    target: Tensor,
    sources: Sequence[Negatives],
    log_expected: Callable[[Tensor], Tensor],
    *,
    alike: bool,
    extra: ExtraMass | None = None,
) -> Tensor | None:
    """The loss of each position, [positions]; None: these negatives, or this loss, are no matter of kernels.

    Args:
        config: settings.
        query: [positions, dim] float32.
        taken: [positions, dim] float32 vectors of the targets.
        target: [positions] item ranks.
        sources: of negatives.
        log_expected: logQ correction of item ranks, where it is asked for.
        alike: whether one item's vectors are alike wherever it is among the negatives, so that it need be
            there only once.
        extra: mass beside the items' scores; None: there is none.
    """
    shared = [source for source in sources if isinstance(source, SharedNegatives) and source.hidden is None]
    if config.kind != "sampled_softmax" or config.label_smoothing or len(shared) < len(sources):
        return None
    vectors = torch.cat([one.vectors for one in shared]) if len(shared) > 1 else shared[0].vectors
    if not kernels.fits_shared(query, vectors):
        return None
    mask = None
    if any(one.mask is not None for one in shared):
        all_count = [one.mask if one.mask is not None else one.ranks >= 0 for one in shared]
        mask = torch.cat(all_count)
    ranks = torch.cat([one.ranks for one in shared])
    make = merged_columns if alike else separate_columns
    columns = make(ranks, mask, log_expected if config.negatives.logq else None)
    scale = 1.0 / config.temperature
    positive = kernels.pair_scores(query, taken, scale)
    if extra is None:
        return kernels.shared_softmax(query, positive, vectors, target, columns, scale=scale)
    positive = torch.logaddexp(positive, extra.on_target)
    losses = kernels.shared_softmax(query, positive, vectors, target, columns, scale=scale)
    # log(1 + negatives + rest), all over the positive.
    return torch.logaddexp(losses, extra.on_rest - positive)
