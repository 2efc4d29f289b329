from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from behavior.errors import UserError
from behavior.manifest import FeatureEntry
from behavior.shards import open_shards
from models.catalog import CategoricalFeature, ItemCatalog, MultiCategoricalFeature, NumericFeature
from tests.models.shards import World, leave_one_out, write_shards

# Three known items, ids 3, 4, 5: 0 is padding, 1 and 2 are unknown items.
WORLD = World(
    num_items=3,
    oov=2,
    item_features=[
        FeatureEntry(name="brand", kind="categorical", vocabulary_size=5),
        FeatureEntry(name="genre", kind="multi_categorical", vocabulary_size=6),
        FeatureEntry(name="price", kind="numeric"),
    ],
    item_columns={
        "brand": pa.array([3, 1, 4], pa.int32()),
        "genre": pa.array([[3, 5], [], [4]], pa.list_(pa.int32())),
        "price": pa.array([0.5, float("nan"), -1.5], pa.float32()),
    },
)


@pytest.fixture
def catalog(tmp_path: Path) -> ItemCatalog:
    folder = write_shards(tmp_path / "set", leave_one_out([3, 4, 3, 5, 4], [3, 2, 5, 5]), WORLD)
    return ItemCatalog.from_shards(open_shards(folder))


def test_ids_and_training_counts(catalog: ItemCatalog) -> None:
    assert (catalog.num_item_ids, catalog.first_item) == (6, 3)
    # Training parts: 3 4 3 and 3 2; unknown items are not counted.
    assert catalog.train_count.tolist() == [0, 0, 0, 3, 1, 0]


def test_categorical_rows_follow_item_ids(catalog: ItemCatalog) -> None:
    brand = catalog.features[0]
    assert isinstance(brand, CategoricalFeature)
    assert (brand.name, brand.vocabulary_size) == ("brand", 5)
    assert brand.ids.tolist() == [0, 1, 1, 3, 1, 4]


def test_an_empty_list_is_a_missing_value(catalog: ItemCatalog) -> None:
    genre = catalog.features[1]
    assert isinstance(genre, MultiCategoricalFeature)
    rows = [genre.values[a:b].tolist() for a, b in zip(genre.offsets, genre.offsets[1:], strict=False)]
    assert rows == [[], [1], [1], [3, 5], [1], [4]]


def test_not_a_number_is_a_missing_value(catalog: ItemCatalog) -> None:
    price = catalog.features[2]
    assert isinstance(price, NumericFeature)
    assert price.values.tolist() == [[0, 0], [0, 1], [0, 1], [0.5, 0], [0, 1], [-1.5, 0]]


def test_without_features_there_are_none(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "set", leave_one_out([2, 3, 4]), World(num_items=3))
    assert ItemCatalog.from_shards(open_shards(folder)).features == ()


def test_a_feature_without_a_column_is_an_error(tmp_path: Path) -> None:
    world = World(
        num_items=3, item_features=[FeatureEntry(name="brand", kind="categorical", vocabulary_size=5)]
    )
    folder = write_shards(tmp_path / "set", leave_one_out([2, 3, 4]), world)
    with pytest.raises(UserError, match="no column 'brand'"):
        ItemCatalog.from_shards(open_shards(folder))
