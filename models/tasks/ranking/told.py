"""Labels of batches, on any device: `models.evaluation.actions.labels` in torch."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from behavior.shards.folder import ShardFolder
from models.data.batch import PackedBatch
from models.data.columns import Column
from models.data.declared import event_column
from models.evaluation.actions.labels import SAMPLED, VALUE, Label, Side
from models.inputs.layouts.ranked import first_events

_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


class Told:
    """What a batch says of labels, of the items that are asked about.

    Args:
        labels: what is predicted.
        shards: the data set.
    """

    def __init__(self, labels: Sequence[Label], shards: ShardFolder) -> None:
        self.labels = tuple(labels)
        reads = any(label.reads_value for label in labels)
        self.value = event_column(shards, VALUE) if reads else None
        self.target_value = event_column(shards, VALUE, of_target=True) if reads else None

    @property
    def columns(self) -> list[Column]:
        """Of batches, besides the core ones."""
        return [column for column in (self.value, self.target_value) if column is not None]

    def __call__(self, batch: PackedBatch) -> Tensor:
        """[events + sequences, labels] float32: of the item after each event, and of the first of each
        sequence; NaN where nothing is known."""
        behavior = torch.cat([batch.target_behavior, first_events(batch, batch.behavior)])
        value = None
        if self.value is not None and self.target_value is not None:
            first = first_events(batch, batch[self.value.name])
            value = torch.cat([batch[self.target_value.name], first])
        told = torch.stack([label_of(label, behavior, value) for label in self.labels], 1)
        told = told.masked_fill((behavior == SAMPLED)[:, None], 0.0)
        return told.masked_fill((behavior == 0)[:, None], float("nan"))


def label_of(label: Label, behavior: Tensor, value: Tensor | None) -> Tensor:
    """[n] float32, as `Label.of`.

    Args:
        label: what is predicted.
        behavior: [n] ids.
        value: [n] float32; None where no label reads it.
    """
    if label.positive is None:
        assert value is not None
        return value.float()
    yes = _holds(label.positive, behavior, value)
    found = yes.float()
    if label.negative is not None:
        neither = ~yes & ~_holds(label.negative, behavior, value)
        found = found.masked_fill(neither, float("nan"))
    if not label.positive.behaviors and value is not None:
        found = found.masked_fill(value.isnan(), float("nan"))
    return found


def edges_of(labels: Sequence[Label], more: Sequence[float]) -> list[float]:
    """Rising edges that values are told apart by: those given, and those that labels are made by."""
    sides = [side for label in labels for side in (label.positive, label.negative)]
    found = {float(edge) for edge in more}
    for side in sides:
        if side is None or side.behaviors:
            continue
        bound, after = np.float32(side.bound), np.nextafter(np.float32(side.bound), np.float32(np.inf))
        found |= {float(bound)} if side.compare in (">=", "<", "=") else set()
        found |= {float(after)} if side.compare in (">", "<=", "=") else set()
    return sorted(found)


def _holds(side: Side, behavior: Tensor, value: Tensor | None) -> Tensor:
    if side.behaviors:
        # Not `torch.isin` of a new tensor, which would be copied to the device in every step.
        found = behavior == side.behaviors[0]
        for other in side.behaviors[1:]:
            found = found | (behavior == other)
        return found
    assert value is not None
    # In float32, as values are stored.
    holds: Tensor = _COMPARE[side.compare](value, float(np.float32(side.bound)))
    return holds
