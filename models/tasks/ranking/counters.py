"""Counters beside the sequence: what a user, or everybody, did before with what a candidate has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog, NumericFeature
from models.data.columns import Column
from models.data.counted import Counted, Values, Weights, What
from models.data.counting import NEVER
from models.data.rated import Rated, RateTable
from models.data.side import choose
from models.evaluation.actions.labels import VALUE, Label
from models.inputs.layouts.ranked import first_events

USER, ITEM = "user", "item"
STRENGTH = {"count": 5.0, "recent": 1.0, "rate": 5.0}
"""Events at the mean that a rate is shrunk by."""
EDGES = (0.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0, 30 * 86400.0, 365 * 86400.0)
"""Seconds between which `since` is piecewise linear."""


@dataclass(frozen=True)
class Fact:
    """One thing that is said of what a candidate has: of all events, and of those with each action."""

    what: What | Literal["rate"]
    columns: tuple[Column, ...]
    """Of the item after each event."""
    firsts: tuple[Column, ...] = ()
    """The same of the first item of each sequence; empty: nothing is said of it."""

    @property
    def width(self) -> int:
        return len(self.columns) * (len(EDGES) - 1 if self.what == "since" else 1)


class Counters(nn.Module):
    """Numbers of the events before with the same user, item, or value of a feature as the candidate.

    - `count`: `log(1 + n)` of n events of the user, and of each label that is an action
      `(p - n r) / (n + 5)`: p of them had the action, and r is the rate of the training part;
    - `recent`: `log(1 + n)` and `(p - n r) / (n + 1)` of n and p in which an event counts .9 of the next one;
    - `since`: how long ago the latest was, and the latest with each action: of each interval of `EDGES`, on a
      scale of `log(1 + seconds)`, the share that is longer than that (piecewise linear encoding, Gorishniy et
      al., 2022); 0 of all where there was none;
    - `rate`: as `count`, of the events of everybody in the training part before the question (target
      statistics in order of time, as of CatBoost, Prokhorenkova et al., 2018).

    Features of several values: means over these. Where counts are all that is said, of the first item of a
    sequence all are 0.

    Args:
        facts: what is said.
        actions: places of the labels that are actions among the labels.
    """

    edges: Tensor

    def __init__(self, facts: Sequence[Fact], actions: Sequence[int]) -> None:
        super().__init__()
        self.facts, self.actions = tuple(facts), tuple(actions)
        self.register_buffer(
            "edges", torch.tensor(EDGES, dtype=torch.float64).log1p().float(), persistent=False
        )

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        labels: Sequence[Label],
        catalog: ItemCatalog,
        facts: Sequence[What] = ("count",),
        rates: Mapping[str, RateTable] | None = None,
    ) -> Counters:
        """Of names: `user`, `item`, or features of items.

        Args:
            names: what a user's events are counted by.
            labels: what is predicted.
            catalog: of items.
            facts: what is said of each.
            rates: by name, what everybody did: of `rate_weights`.

        Raises:
            UserError: there is no such feature, or it is a number.
        """
        rates = rates or {}
        actions = [place for place, label in enumerate(labels) if label.is_binary]
        binary = [labels[place] for place in actions]
        of_first = [False] if tuple(facts) == ("count",) and not rates else [False, True]
        found = []
        for name in names:
            values = values_of(name, catalog)
            for what in facts:
                made = [_counted(name, values, what, binary, of_first=first) for first in of_first]
                found.append(Fact(what, *made))
        for name, table in rates.items():
            made = [_rated(name, table, binary, of_first=first) for first in of_first]
            found.append(Fact("rate", *made))
        return cls(found, actions)

    @property
    def columns(self) -> list[Column]:
        """Of batches."""
        return [column for fact in self.facts for column in (*fact.columns, *fact.firsts)]

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return sum(fact.width for fact in self.facts)

    def forward(self, batch: PackedBatch, rates: Tensor) -> Tensor:
        """[events + sequences, numbers] float32, of rows as `RankingModel.forward` has them.

        Args:
            batch: with `columns`.
            rates: [labels] of actions in the training part.
        """
        found = []
        for fact in self.facts:
            asked = torch.stack([batch[column.name] for column in fact.columns], 1)
            if fact.firsts:
                own = torch.stack([batch[column.name] for column in fact.firsts], 1)
                asked = torch.cat([asked, first_events(batch, own)])
            found.append(self._numbers(fact.what, asked, rates))
        if not found:
            return rates.new_zeros(batch.num_events + batch.num_sequences, 0)
        numbers = torch.cat(found, 1)
        if len(numbers) > batch.num_events:
            return numbers
        return torch.cat([numbers, numbers.new_zeros(batch.num_sequences, numbers.shape[1])])

    def _numbers(self, what: What | Literal["rate"], told: Tensor, rates: Tensor) -> Tensor:
        """[rows, numbers] of [rows, 1 + actions] sums or times."""
        if what == "since":
            longer = NEVER - told[:, :, None]
            low, high = self.edges[:-1], self.edges[1:]
            return ((high - longer) / (high - low)).clamp(0.0, 1.0).flatten(1)
        n, hits = told[:, :1], told[:, 1:]
        if not self.actions:
            return n.log1p()
        usual = torch.stack([rates[place] for place in self.actions])
        return torch.cat([n.log1p(), (hits - n * usual) / (n + STRENGTH[what])], 1)


def _counted(
    name: str, values: Values, what: What, labels: Sequence[Label], *, of_first: bool
) -> tuple[Column, ...]:
    title = f"first {what} {name}" if of_first else f"{what} {name}"
    found = [Column(title, "float32", origin=Counted(values, what=what, of_first=of_first))]
    for label in labels:
        more = ("behavior", *((VALUE,) if label.reads_value else ()))
        counted = Counted(values, weights_of(label), more, what, of_first)
        found.append(Column(f"{title}: {label.name}", "float32", origin=counted))
    return tuple(found)


def _rated(name: str, table: RateTable, labels: Sequence[Label], *, of_first: bool) -> tuple[Column, ...]:
    title = f"first rate {name}" if of_first else f"rate {name}"
    titles = [title, *(f"{title}: {label.name}" for label in labels)]
    return tuple(
        Column(each, "float32", origin=Rated(table, number, of_first)) for number, each in enumerate(titles)
    )


def weights_of(label: Label) -> Weights:
    """What an event counts for an action."""

    def weights(events: Mapping[str, npt.NDArray]) -> npt.NDArray[np.float32]:
        """1 of events with the action."""
        return np.nan_to_num(label.of(events["behavior"], events.get(VALUE)), nan=0.0)

    return weights


def values_of(name: str, catalog: ItemCatalog, where: str = "task.counters") -> Values:
    """What items are counted by.

    Raises:
        UserError: there is no such feature, or it is a number.
    """
    if name == USER:
        return Values.of_everything(catalog.num_item_ids)
    if name == ITEM:
        return Values.of_items(catalog.num_item_ids)
    (feature,) = choose(catalog.features, [name], "item", where=where)
    if isinstance(feature, NumericFeature):
        raise UserError(
            f"'{name}' is a number, of which no two items have the same",
            where=where,
            fix="count by a feature with names, or by buckets",
        )
    return Values.of_feature(feature)
