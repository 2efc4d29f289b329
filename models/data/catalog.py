"""The items of a data set, as models want them: counts and features as tensors, one row an item id.

Features of users are of the same kinds (`models.data.side`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry

MISSING = 1
"""Id of a missing value in every feature vocabulary; 0 is padding."""


@dataclass(frozen=True, eq=False)
class CategoricalFeature:
    """One value an item."""

    name: str
    vocabulary_size: int
    ids: Tensor
    """[item ids] int64: 0 for padding, 1 where missing, as it is for unknown items."""


@dataclass(frozen=True, eq=False)
class MultiCategoricalFeature:
    """Any number of values an item; item i has `values[offsets[i]:offsets[i + 1]]`."""

    name: str
    vocabulary_size: int
    values: Tensor
    """[values] int64; an item without values has the one value 1, padding has none."""
    offsets: Tensor
    """[item ids + 1] int64."""


@dataclass(frozen=True, eq=False)
class NumericFeature:
    """One number an item."""

    name: str
    values: Tensor
    """[item ids, 2] float32: the standardized number (0 where missing), and 1 where missing."""


ItemFeature = CategoricalFeature | MultiCategoricalFeature | NumericFeature


@dataclass(frozen=True, eq=False)
class ItemCatalog:
    """Everything known about items. Ids: 0 padding, then unknown items, then known ones."""

    num_item_ids: int
    """Rows of an item embedding table."""
    first_item: int
    """The smallest id of a known item; only those are ever candidates."""
    train_count: Tensor
    """[item ids] int64: events that are trained on; 0 for padding and unknown items."""
    features: tuple[ItemFeature, ...] = ()

    @classmethod
    def from_shards(cls, shards: ShardFolder, train_count: Tensor | None = None) -> ItemCatalog:
        """Read the item table of a data set.

        Args:
            shards: the data set.
            train_count: [item ids] int64, where more than the training part is trained on; by default what
                the table has.

        Raises:
            UserError: the table does not list the known items in order, or lacks a feature.
        """
        table = shards.items()
        expected = np.arange(shards.first_item, shards.num_item_ids)
        if not np.array_equal(table["index"].to_numpy(), expected):
            raise UserError(
                "the item table does not list the known items in order",
                where=shards.where("items.parquet"),
                fix="prepare the data again",
            )
        if train_count is None:
            train_count = torch.zeros(shards.num_item_ids, dtype=torch.int64)
            counts = table["train_count"].to_numpy().astype(np.int64)
            train_count[shards.first_item :] = torch.from_numpy(counts)
        where = shards.where("items.parquet")
        features = tuple(
            read_feature(entry, table, shards.first_item - 1, where)
            for entry in shards.manifest.item_features
        )
        return cls(shards.num_item_ids, shards.first_item, train_count, features)


def read_feature(entry: FeatureEntry, table: pa.Table, unknown: int, where: str) -> ItemFeature:
    """A feature of items, or of whatever else a table has a row each of.

    Args:
        entry: the feature, as the manifest has it.
        table: a row a known item.
        unknown: ids of unknown items, whose values are missing; known ones follow, and 0 is padding.
        where: the table, for the error.

    Raises:
        UserError: the table lacks the feature, or it is of a kind that is not known.
    """
    if entry.name not in table.column_names:
        raise UserError(f"the table has no column '{entry.name}'", where=where, fix="prepare the data again")
    column = table[entry.name].combine_chunks()
    if entry.kind == "numeric":
        return _numeric(entry.name, column, unknown)
    size = entry.vocabulary_size or 0
    if entry.kind == "categorical":
        known = column.fill_null(MISSING).to_numpy(zero_copy_only=False)
        ids = np.concatenate(([0], np.full(unknown, MISSING), known))
        return CategoricalFeature(entry.name, size, torch.from_numpy(ids.astype(np.int64)))
    if entry.kind == "multi_categorical":
        return _multi_categorical(entry.name, size, column, unknown)
    raise UserError(
        f"unknown kind '{entry.kind}' of feature '{entry.name}'", where=where, fix="update lrm-kit"
    )


def _numeric(name: str, column: pa.Array, unknown: int) -> NumericFeature:
    numbers = column.cast(pa.float32()).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    values = np.zeros((1 + unknown + len(numbers), 2), np.float32)
    values[1 : 1 + unknown, 1] = 1.0
    values[1 + unknown :, 0] = np.where(missing, 0.0, numbers)
    values[1 + unknown :, 1] = missing
    return NumericFeature(name, torch.from_numpy(values))


def _multi_categorical(name: str, size: int, column: pa.Array, unknown: int) -> MultiCategoricalFeature:
    given = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    given = np.concatenate((np.zeros(1 + unknown, np.int64), given))
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    # Padding has no value; an item that was given none is missing.
    none = np.flatnonzero(given[1:] == 0) + 1
    values = np.insert(values, np.cumsum(given)[none], MISSING)
    given[none] = 1
    offsets = np.concatenate(([0], np.cumsum(given)))
    return MultiCategoricalFeature(name, size, torch.from_numpy(values), torch.from_numpy(offsets))
