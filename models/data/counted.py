"""Counters: how often a user's history had what the item to predict has, before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from models.data.catalog import CategoricalFeature, MultiCategoricalFeature
from models.data.origins import Samples
from models.data.sequences import Int64Array

Weights = Callable[[Mapping[str, npt.NDArray]], npt.NDArray[np.float32]]
"""[events] how much each event of sequences counts, of their stored columns."""

_PARTS = 16


@dataclass(frozen=True, eq=False)
class Values:
    """What items are counted by: item i has `values[offsets[i]:offsets[i + 1]]`."""

    values: Int64Array
    offsets: Int64Array
    count: int
    """Values are below."""

    @classmethod
    def of_feature(cls, feature: CategoricalFeature | MultiCategoricalFeature) -> Values:
        """Of a feature of items."""
        if isinstance(feature, CategoricalFeature):
            return cls(feature.ids.numpy(), np.arange(len(feature.ids) + 1), feature.vocabulary_size)
        return cls(feature.values.numpy(), feature.offsets.numpy(), feature.vocabulary_size)

    @classmethod
    def of_items(cls, count: int) -> Values:
        """Each item has itself alone."""
        return cls(np.arange(count), np.arange(count + 1), count)

    @classmethod
    def of_everything(cls, count: int) -> Values:
        """All items have the same: events of the user are counted, whatever they are."""
        return cls(np.zeros(count, np.int64), np.arange(count + 1), 1)


@dataclass(frozen=True, eq=False)
class Counted:
    """The sum of the weights of the events up to the one that asks whose items have what the next item has.

    Of an item with several values the mean over them. The whole sequence counts, not only what a sample has
    of it.
    """

    values: Values
    weights: Weights | None = None
    """None: each event counts 1."""
    more: tuple[str, ...] = ()
    """Stored columns that `weights` reads."""
    _known: dict[int, tuple[Mapping[str, npt.NDArray], npt.NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("item", *self.more)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        """See `models.data.origins.Origin.fill`."""
        assert samples.offsets is not None
        _count(
            out,
            samples.events["item"],
            self._weights(samples.events),
            samples.starts,
            samples.event,
            samples.last_target,
            samples.offsets,
            self.values.values,
            self.values.offsets,
            np.zeros(self.values.count, np.float64),
        )

    def _weights(self, events: Mapping[str, npt.NDArray]) -> npt.NDArray[np.float32]:
        """[events] of a part of the sequences; those of the latest parts are remembered."""
        found = self._known.get(id(events))
        if found is not None and found[0] is events:
            return found[1]
        count = len(events["item"])
        weight = np.ones(count, np.float32) if self.weights is None else self.weights(events)
        while len(self._known) >= _PARTS:
            self._known.pop(next(iter(self._known), -1), None)
        self._known[id(events)] = events, weight
        return weight


@compiled
def _add(
    sums: np.ndarray, item: np.ndarray, weight: np.ndarray, values: np.ndarray, offsets: np.ndarray
) -> None:
    for place in range(len(item)):
        for value in values[offsets[item[place]] : offsets[item[place] + 1]]:
            sums[value] += weight[place]


@compiled
def _mean(sums: np.ndarray, item: int, values: np.ndarray, offsets: np.ndarray) -> float:
    begin, end = offsets[item], offsets[item + 1]
    total = 0.0
    for value in values[begin:end]:
        total += sums[value]
    return total / max(end - begin, 1)


@compiled
def _count(
    out: np.ndarray,
    item: np.ndarray,
    weight: np.ndarray,
    starts: np.ndarray,
    event: np.ndarray,
    last_target: np.ndarray,
    bounds: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    sums: np.ndarray,
) -> None:
    for sequence in range(len(starts) - 1):
        begin, end = starts[sequence], starts[sequence + 1]
        if begin == end:
            continue
        first = event[begin - starts[0]]
        opened = bounds[np.searchsorted(bounds, first, side="right") - 1]
        done = opened
        for token in range(begin, end):
            place = token - starts[0]
            stop = event[place] + 1
            _add(sums, item[done:stop], weight[done:stop], values, offsets)
            done = max(done, stop)
            target = event[place + 1] if token + 1 < end else last_target[sequence]
            out[token] = _mean(sums, item[target], values, offsets)
        for place in range(opened, done):
            for value in values[offsets[item[place]] : offsets[item[place] + 1]]:
                sums[value] = 0.0
