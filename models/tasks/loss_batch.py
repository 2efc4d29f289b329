"""A batch as a step takes it: with the positions that have a loss, found on the host."""

from __future__ import annotations

import torch

from models.data.batch import PackedBatch
from models.distributed.tables import TargetPlaces


class LossBatch:
    """A batch, and which of its tokens have a loss.

    Made while the batch is still in CPU memory: the number of positions decides shapes, and an accelerator
    would have to be synchronized with. Not a dataclass, because Fabric takes those apart.

    Args:
        batch: of one micro-batch.
        positions: [positions] int64, tokens that have a loss; by default those with a target item.
        mask: [positions] bool, false for positions that only pad a list of fixed length.
        weight: sum of the weights of the positions, where they count for more or less in the loss; None: each
            counts as 1.
        mean_weight: of all positions of the step, those of other parts and processes included, once a step
            has found it; None: that of these positions.
    """

    def __init__(
        self,
        batch: PackedBatch,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        weight: float | None = None,
        mean_weight: torch.Tensor | float | None = None,
    ) -> None:
        self.places: TargetPlaces | None = None
        """Of targets among the items, where both are looked up at once."""
        self.batch, self.mask, self.weight, self.mean_weight = batch, mask, weight, mean_weight
        self.positions = batch.target.nonzero().squeeze(1) if positions is None else positions  # [positions]

    def to(self, device: torch.device) -> LossBatch:
        """The same on another device; from pinned memory the copy is asynchronous."""
        pinned = device.type == "cuda" and self.positions.device.type == "cpu"
        positions = self.positions.pin_memory() if pinned else self.positions
        return LossBatch(
            self.batch.to(device, non_blocking=True),
            positions.to(device, non_blocking=pinned),
            None if self.mask is None else self.mask.to(device),
            self.weight,
            self.mean_weight,
        )
