"""Ids and features of a row as fields, and fields as vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from models.data.catalog import CategoricalFeature, ItemCatalog, ItemFeature, NumericFeature
from models.data.sequences import Int64Array
from models.data.side import FIRST_SEQUENCE, SideInformation
from models.evaluation.actions.rows import LabelledRows
from models.layers.look_up import Embedding
from models.rankers.data import RankerData

BUCKETS = 10
"""Quantiles that numeric features are cut at."""
UNKNOWN = 0
"""Number of a user or item without a row to learn from."""
UNKNOWN_RATE = 0.02
"""How often a known one is taken for unknown in training, so that unknown ones have a vector, too."""


@dataclass(frozen=True)
class Field:
    """What users or items have: their id, or one feature."""

    name: str
    of: Literal["user", "item"]
    ids: Tensor
    """[users or items, most values] int64; 0 where there is no further value."""
    size: int
    """Ids, 0 included."""

    @property
    def is_id(self) -> bool:
        return self.name in ("user", "item")


def fields_of(data: RankerData, rows: LabelledRows) -> tuple[Field, ...]:
    """The fields of a data set: user, item, and all features of both.

    Args:
        data: the data set.
        rows: to learn from: users and items without any are unknown.
    """
    catalog = ItemCatalog.from_shards(data.shards)
    users = SideInformation.from_shards(data.shards, users="all").users if _has_users(data) else ()
    found = [_ids("user", data.users, rows.sequence), _ids("item", data.items, rows.item.astype(np.int64))]
    found += [_feature(feature, "item", slice(None)) for feature in catalog.features]
    found += [_feature(feature, "user", slice(FIRST_SEQUENCE, None)) for feature in users]
    return tuple(found)


def _has_users(data: RankerData) -> bool:
    return bool(data.shards.manifest.user_features)


def _ids(name: Literal["user", "item"], count: int, seen: Int64Array) -> Field:
    known = np.unique(seen)
    ids = np.zeros(count, np.int64)
    ids[known] = 1 + np.arange(len(known))
    return Field(name, name, torch.from_numpy(ids)[:, None], len(known) + 1)


def _feature(feature: ItemFeature, of: Literal["user", "item"], owners: slice) -> Field:
    if isinstance(feature, CategoricalFeature):
        return Field(feature.name, of, feature.ids[owners][:, None], feature.vocabulary_size)
    if isinstance(feature, NumericFeature):
        values = feature.values[owners].numpy()
        there = values[:, 1] == 0
        numbers = values[there, 0] if there.any() else np.zeros(1)
        edges = np.unique(np.quantile(numbers, np.arange(1, BUCKETS) / BUCKETS))
        bucket = np.where(there, 2 + np.searchsorted(edges, values[:, 0], side="right"), 1)
        return Field(feature.name, of, torch.from_numpy(bucket.astype(np.int64))[:, None], len(edges) + 3)
    offsets = feature.offsets.numpy()
    lengths = np.diff(offsets)
    padded = np.zeros((len(lengths), max(1, int(lengths.max(initial=1)))), np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    padded[owner, np.arange(len(owner)) - offsets[:-1][owner]] = feature.values.numpy()
    return Field(feature.name, of, torch.from_numpy(padded)[owners], feature.vocabulary_size)


@dataclass(frozen=True)
class Batch:
    """Some rows."""

    user: Tensor  # [rows] int64, numbers of sequences
    item: Tensor  # [rows] int64, item ids
    history: Tensor  # [rows, events] int64 item ids; 0: no such event
    acts: Tensor  # [rows, events] int64: 0 no event, 1 no label, 2 and 3 labels 0 and 1
    label: Tensor  # [rows] float32

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in dataclass_fields(self)))


class Batches:
    """Makes batches of rows.

    Args:
        data: the data set.
        rows: of it.
        events: most recent events of a row's history, 0 for none.
    """

    def __init__(self, data: RankerData, rows: LabelledRows, events: int) -> None:
        self.rows, self.events = rows, events
        self._begin = data.sequences.offsets[rows.sequence]
        self._item = data.sequences.item
        self._act = acts_of(data)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: Int64Array) -> Batch:
        """The rows of these numbers."""
        rows = self.rows
        stop = rows.stop[chosen].astype(np.int64)
        place = stop[:, None] - np.arange(self.events, 0, -1)
        there = place >= 0
        event = np.where(there, self._begin[chosen][:, None] + place, 0)
        return Batch(
            user=torch.from_numpy(rows.sequence[chosen]),
            item=torch.from_numpy(rows.item[chosen].astype(np.int64)),
            history=torch.from_numpy(np.where(there, self._item[event], 0).astype(np.int64)),
            acts=torch.from_numpy(np.where(there, self._act[event], 0)),
            label=torch.from_numpy(rows.label[chosen, 0]),
        )

    def shuffled(self, size: int, generator: np.random.Generator) -> Iterator[Batch]:
        """All rows once, in random order."""
        order = generator.permutation(len(self))
        return (self.take(order[begin : begin + size]) for begin in range(0, len(order), size))

    def in_order(self, size: int) -> Iterator[Batch]:
        """All rows once, in order."""
        every = np.arange(len(self))
        return (self.take(every[begin : begin + size]) for begin in range(0, len(every), size))


def acts_of(data: RankerData) -> Int64Array:
    """[events] 1: no label; 2, 3: labels 0 and 1, of numbers below and from their mean."""
    graded = data.graded if not data.label.is_binary else data.truth
    known = ~np.isnan(graded)
    middle = 0.5 if data.label.is_binary else (float(graded[known].mean()) if known.any() else 0.0)
    return np.where(known, 2 + (graded >= middle), 1).astype(np.int64)


class FieldVectors(nn.Module):
    """A vector of each field of each row; of several values their mean.

    Args:
        fields: which.
        dim: of vectors.
    """

    def __init__(self, fields: Sequence[Field], dim: int, std: float = 0.01) -> None:
        super().__init__()
        self.fields = tuple(fields)
        tables = [Embedding(field.size, dim) for field in fields]
        for table in tables:
            nn.init.normal_(table.weight, std=std)
        self.tables = nn.ModuleList(tables)
        for number, field in enumerate(fields):
            self.register_buffer(f"ids_{number}", field.ids, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """[rows, fields, dim]."""
        found = []
        for number, field in enumerate(self.fields):
            owner = batch.user if field.of == "user" else batch.item
            found.append(self.vectors(number, self.get_buffer(f"ids_{number}")[owner]))
        return torch.stack(found, dim=1)

    def vectors(self, number: int, ids: Tensor) -> Tensor:
        """[..., dim] the mean vector of the values of a field. ids: [..., most values]."""
        field, table = self.fields[number], self.tables[number]
        if field.is_id:
            if self.training:
                ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < UNKNOWN_RATE, UNKNOWN)
            return table(ids.squeeze(-1))
        if field.ids.shape[1] == 1:
            return table(ids.squeeze(-1))
        there = (ids > 0).unsqueeze(-1)
        total = (table(ids) * there).sum(-2)
        return total / there.sum(-2).clamp(min=1)

    def items(self, item: Tensor) -> Tensor:
        """[..., dim] vectors of the ids of items."""
        number = next(
            place for place, field in enumerate(self.fields) if field.name == "item" and field.is_id
        )
        return self.vectors(number, self.get_buffer(f"ids_{number}")[item])
