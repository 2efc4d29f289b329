"""Counters beside the sequence: how often, and with what outcome, a user had what a candidate is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog, NumericFeature
from models.data.columns import Column
from models.data.counted import Counted, Values, Weights
from models.data.side import choose
from models.evaluation.actions.labels import VALUE, Label

USER, ITEM = "user", "item"
STRENGTH = 5.0
"""Events at the mean that a rate is shrunk by."""


class Counters(nn.Module):
    """`log(1 + n)` of each counter, and of each label that is an action `(p - n r) / (n + 5)`.

    n events before had the same user, item, or value of a feature as the candidate; p of them had the action,
    and r is the rate of the training part. Features of several values: means over these. Of the first item of
    a sequence all are 0.

    Args:
        columns: of each counter its n, then its p for each action.
        actions: places of these among the labels.
    """

    def __init__(self, columns: Sequence[Sequence[Column]], actions: Sequence[int]) -> None:
        super().__init__()
        self.of_counters = [tuple(own) for own in columns]
        self.actions = tuple(actions)

    @classmethod
    def of(cls, names: Sequence[str], labels: Sequence[Label], catalog: ItemCatalog) -> Counters:
        """Of names: `user`, `item`, or features of items.

        Raises:
            UserError: there is no such feature, or it is a number.
        """
        actions = [place for place, label in enumerate(labels) if label.is_binary]
        columns = []
        for name in names:
            values = _values(name, catalog)
            own = [Column(f"count {name}", "float32", origin=Counted(values))]
            for place in actions:
                label = labels[place]
                more = ("behavior", *((VALUE,) if label.reads_value else ()))
                counted = Counted(values, _weights_of(label), more)
                own.append(Column(f"count {name}: {label.name}", "float32", origin=counted))
            columns.append(own)
        return cls(columns, actions)

    @property
    def columns(self) -> list[Column]:
        """Of batches."""
        return [column for own in self.of_counters for column in own]

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(self.columns)

    def forward(self, batch: PackedBatch, rates: Tensor) -> Tensor:
        """[events + sequences, numbers] float32, of rows as `RankingModel.forward` has them.

        Args:
            batch: with `columns`.
            rates: [labels] of actions in the training part.
        """
        found = []
        for count, *hits in self.of_counters:
            n = batch[count.name]
            found.append(n.log1p())
            for place, hit in zip(self.actions, hits, strict=True):
                found.append((batch[hit.name] - n * rates[place]) / (n + STRENGTH))
        if not found:
            return rates.new_zeros(batch.num_events + batch.num_sequences, 0)
        numbers = torch.stack(found, 1)
        return torch.cat([numbers, numbers.new_zeros(batch.num_sequences, len(found))])


def _weights_of(label: Label) -> Weights:
    def weights(events: Mapping[str, npt.NDArray]) -> npt.NDArray[np.float32]:
        """1 of events with the action."""
        return np.nan_to_num(label.of(events["behavior"], events.get(VALUE)), nan=0.0)

    return weights


def _values(name: str, catalog: ItemCatalog) -> Values:
    if name == USER:
        return Values.of_everything(catalog.num_item_ids)
    if name == ITEM:
        return Values.of_items(catalog.num_item_ids)
    (feature,) = choose(catalog.features, [name], "item", where="task.counters")
    if isinstance(feature, NumericFeature):
        raise UserError(
            f"'{name}' is a number, of which no two items have the same",
            where="task.counters",
            fix="count by a feature with names, or by buckets",
        )
    return Values.of_feature(feature)
