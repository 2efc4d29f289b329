"""Counters: how often, how lately and how long ago a user's history had what the item to predict has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.data.catalog import CategoricalFeature, MultiCategoricalFeature
from models.data.counting import count
from models.data.origins import Samples
from models.data.sequences import Int64Array

Weights = Callable[[Mapping[str, npt.NDArray]], npt.NDArray[np.float32]]
"""[events] how much each event of sequences counts, of their stored columns."""

What = Literal["count", "recent", "since"]
"""What is said of the events that are counted: see `Counted`."""
_KINDS: dict[What, int] = {"count": 0, "recent": 1, "since": 2}
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
    """The events up to the one that asks whose items have what the next item has: with weights w_j,

    - `count`: the sum of w_j;
    - `recent`: that of `w_j 0.9^(events of the sequence after j)`;
    - `since`: `log(1 + a year) - log(1 + s)` of the s seconds since the latest with w_j > 0, when the next
      item is asked about; 0 where there is none, or none within a year.

    Of an item with several values the mean over them. The whole sequence counts, not only what a sample has
    of it.
    """

    values: Values
    weights: Weights | None = None
    """None: each event counts 1."""
    more: tuple[str, ...] = ()
    """Stored columns that `weights` reads."""
    what: What = "count"
    of_first: bool = False
    """Whether it is said of the first event of each sample itself, before it; then of no other."""
    _known: dict[int, tuple[Mapping[str, npt.NDArray], npt.NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        time = ("timestamp",) if self.what == "since" else ()
        return ("item", *time, *self.more)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        """See `models.data.origins.Origin.fill`."""
        assert samples.offsets is not None
        item = samples.events["item"]
        count(
            out,
            item,
            self._weights(samples.events),
            samples.events["timestamp"] if self.what == "since" else np.zeros(0, np.int64),
            samples.starts,
            samples.event,
            samples.last_target,
            samples.offsets,
            self.values.values,
            self.values.offsets,
            np.zeros((2, self.values.count), np.float64),
            samples.items_asked(),
            (_KINDS[self.what], self.of_first, samples.time_known),
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
