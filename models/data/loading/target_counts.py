"""How often each item is a target that carries loss, by the samples of an epoch."""

from __future__ import annotations

import numpy as np

from models.data.collate import LossOn
from models.data.loading.shuffle_blocks import ShuffleBlockReader
from models.data.sequences import BoolArray, Int64Array

_EPOCH = 0


def count_targets(
    reader: ShuffleBlockReader, loss_on: LossOn, behaviors: BoolArray | None = None
) -> Int64Array:
    """Go through all sequences once and count the targets of the first epoch's samples.

    Where samples are random (windows, quotas, stochastic length) those of other epochs differ by chance.
    Samples whose batches are cut together (`balanced`) are counted as if each were cut on its own.

    Args:
        reader: of the samples.
        loss_on: which events carry loss: all, or those with a target behavior.
        behaviors: [behavior ids] which of these do; None: all.

    Returns:
        [item ids]; 0 for padding and unknown items.
    """
    counts = reader.map(lambda part: _count_part(reader, part, loss_on, behaviors))
    return np.sum(counts, axis=0)


def _count_part(
    reader: ShuffleBlockReader, part: int, loss_on: LossOn, behaviors: BoolArray | None
) -> Int64Array:
    data, sampler = reader.source.read(part), reader.sampler
    units = sampler.units(data.offsets[:-1], data.train_end, data.row, _EPOCH)
    lengths = sampler.lengths(units, data.behavior, _EPOCH)
    inputs = sampler.choose(units, lengths, data.behavior, _EPOCH)
    # Each input predicts the next one of its sample, the last one the sample's target.
    targets = np.empty_like(inputs)
    targets[:-1] = inputs[1:]
    ends, some = np.cumsum(lengths), lengths > 0
    targets[ends[some] - 1] = units.target[some]
    carries = data.item[targets] >= data.about.first_item
    if loss_on != "all":  # of a basket each event is drawn as often as the others, over the epochs
        carries &= data.about.is_target()[data.behavior[targets]]
    if behaviors is not None:
        carries &= behaviors[data.behavior[targets]]
    found, copies = data.item[targets[carries]], sampler.copies(units, lengths, _EPOCH)
    if copies is not None:
        found = np.repeat(found, np.repeat(copies, lengths)[carries])
    return np.bincount(found, minlength=data.about.num_item_ids)
