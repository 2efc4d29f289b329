"""Simple counts of what is known before a row: of its user, its item, and of both by item and its features.

What other people did is counted over the events of a part (training, or validation, too), a row's own event
left out; what the user did, over the history before the row. `residual` is the graded target less its item's
mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from behavior.runtime.compiled import compiled
from models.data.sequences import Int64Array
from models.evaluation.actions.labels import SAMPLED
from models.evaluation.actions.rows import LabelledRows, Part
from models.rankers.data import Float64Array, RankerData
from models.rankers.fields import Field, fields_of

SHRINK = 5.0
"""Events that a mean is shrunk by."""
DECAY = 0.9
"""Weight of each event relative to the next one in the recent residual."""
BASIC = (
    "item_events",
    "item_mean",
    "user_events",
    "user_mean",
    "user_residual",
    "recent_residual",
    "last_residual",
    "expected",
    "log_seconds_since_last",
    "log_seconds_since_first",
)


def count_names(data: RankerData) -> list[str]:
    """Names of the columns of `count_features`."""
    names = [field.name for field in _shared(data)]
    return [*BASIC, *(f"{kind}_{name}" for name in names for kind in ("events", "residual"))]


def count_features(data: RankerData, rows: LabelledRows, part: Part) -> npt.NDArray[np.float32]:
    """[rows, counts] float32, as `count_names` calls them.

    Args:
        data: the data set.
        rows: of it.
        part: whose events are counted of items: `train` or `train+valid`.
    """
    sequences = data.sequences
    item = sequences.item.astype(np.int64)
    counted = np.zeros(len(item), np.bool_)
    counted[data.counted(part)] = True
    number = np.bincount(item[counted], minlength=data.items).astype(np.float64)
    total = np.bincount(item[counted], data.graded[counted], data.items)
    mean = float(data.graded[counted].mean()) if counted.any() else 0.0
    residual = data.graded - (total + SHRINK * mean)[item] / (number + SHRINK)[item]
    order = np.lexsort((rows.stop, rows.sequence))
    event = data.events(rows)
    own = (counted[event] & (rows.behavior != SAMPLED)).astype(np.float64)
    n = number[rows.item] - own
    item_mean = (total[rows.item] - np.where(own > 0, data.graded[event], 0.0) + SHRINK * mean) / (n + SHRINK)
    begin = sequences.offsets[rows.sequence]
    place = (begin[order], (begin + rows.stop)[order])
    moments = (rows.timestamp[order], sequences.timestamp)
    history = np.empty((len(rows), 7))
    history[order] = _histories(*place, *moments, data.graded, residual, mean)
    columns = [n, item_mean, *history[:, :5].T, item_mean + history[:, 2], *history[:, 5:].T]
    for field in _shared(data):
        found = np.empty((len(rows), 2))
        found[order] = _by_feature(
            *place, rows.item[order].astype(np.int64), item, residual, field.ids.numpy(), field.size
        )
        columns += list(found.T)
    return np.column_stack(columns).astype(np.float32)


def _shared(data: RankerData) -> list[Field]:
    """What an event before can share with the candidate: the item itself, and its features."""
    none = data.rows("train").take(slice(0, 0))
    features = [field for field in fields_of(data, none) if field.of == "item" and not field.is_id]
    return [Field("item", "item", torch.arange(data.items)[:, None], data.items), *features]


@compiled
def _histories(
    begin: Int64Array,
    stop: Int64Array,
    now: Int64Array,
    times: Int64Array,
    graded: Float64Array,
    residual: Float64Array,
    mean: float,
) -> np.ndarray:
    """Of each row's history: events, shrunk mean, shrunk, recent and last residual, seconds since last and
    first.

    Rows of a sequence follow each other, and their `stop` does not fall.
    """
    found = np.zeros((len(begin), 7))
    place, count, total, left, recent, weight, last = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(len(begin)):
        if row == 0 or begin[row] != begin[row - 1]:
            place, count, total, left, recent, weight, last = begin[row], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        while place < stop[row]:
            if not np.isnan(graded[place]):
                count += 1
                total += graded[place]
                last = residual[place]
                left += last
                recent = recent * DECAY + last
                weight = weight * DECAY + 1
            place += 1
        found[row, 0] = count
        found[row, 1] = (total + SHRINK * mean) / (count + SHRINK)
        found[row, 2] = left / (count + SHRINK)
        found[row, 3] = recent / (weight + 1)
        found[row, 4] = last
        if place > begin[row]:
            found[row, 5] = np.log1p(abs(now[row] - times[place - 1]))
            found[row, 6] = np.log1p(abs(now[row] - times[begin[row]]))
    return found


@compiled
def _by_feature(
    begin: Int64Array,
    stop: Int64Array,
    candidate: Int64Array,
    item: Int64Array,
    residual: Float64Array,
    values: Int64Array,
    size: int,
) -> np.ndarray:
    """Events of each row's history that share a value with the candidate, and the shrunk residual of them:
    means over its values."""
    found = np.zeros((len(begin), 2))
    count, left = np.zeros(size), np.zeros(size)
    place = 0
    for row in range(len(begin)):
        if row == 0 or begin[row] != begin[row - 1]:
            # Only what the last sequence counted: values may be as many as items.
            for event in range(begin[row - 1] if row else 0, place):
                for value in values[item[event]]:
                    count[value] = 0.0
                    left[value] = 0.0
            place = begin[row]
        while place < stop[row]:
            if not np.isnan(residual[place]):
                for value in values[item[place]]:
                    if value > 0:
                        count[value] += 1
                        left[value] += residual[place]
            place += 1
        several = 0
        for value in values[candidate[row]]:
            if value > 0:
                several += 1
                found[row, 0] += count[value]
                found[row, 1] += left[value] / (count[value] + SHRINK)
        if several:
            found[row, 0] /= several
            found[row, 1] /= several
    return found
