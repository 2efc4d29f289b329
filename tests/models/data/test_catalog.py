from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from behavior.errors import UserError
from behavior.features import encode_features
from behavior.features.vocabulary import Vocabulary
from behavior.shards.folder import open_shards
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import Feature, FeatureTable
from models.data.catalog import CategoricalFeature, ItemCatalog, MultiCategoricalFeature, NumericFeature
from models.inputs.item_features import embed_feature
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


def test_features_of_every_kind_load(tmp_path: Path) -> None:
    """What `encode_features` makes, `ItemCatalog` reads; models know nothing of how it was encoded."""
    raw = pa.table(
        {
            "id": ["a", "b", "c"],
            "brand": ["x", None, "x"],
            "genre": ["p|q", "", "q"],
            "seller": ["s", "t", None],
            "title": ["red shoes", None, "red"],
            "price": ["1", "3", ""],
            "stock": ["0", "", "1"],
            "weight": ["2", "", "7"],
            "age": ["5", "25", ""],
            "rank": ["1", "2", ""],
        }
    )
    numeric = {
        "price": {},
        "stock": {"transform": "log"},
        "weight": {"transform": "none"},
        "age": {"transform": "buckets", "boundaries": [10, 20]},
        "rank": {"transform": "buckets", "quantiles": 2},
    }
    features = [
        Feature(name="brand"),
        Feature(name="genre", kind="multi_categorical"),
        Feature(name="seller", kind="hashed", hash_size=7),
        Feature(name="title", kind="text", hash_size=9),
        *(Feature(name=name, kind="numeric", **settings) for name, settings in numeric.items()),
    ]
    counts = pa.table({"id": ["a", "b", "c"], "count": [3, 2, 1], "train_count": [1, 1, 1]})
    encoded = encode_features(
        Vocabulary.from_counts(counts, 1), [(FeatureTable(files=["i.csv"], id="id", features=features), raw)]
    )
    world = World(
        num_items=3,
        item_features=encoded.entries,
        item_columns={feature.name: encoded.table[feature.name] for feature in features},
    )
    folder = write_shards(tmp_path / "set", leave_one_out([2, 3, 4]), world)
    catalog = ItemCatalog.from_shards(open_shards(folder))
    loaded = {feature.name: feature for feature in catalog.features}
    assert list(loaded) == [feature.name for feature in features]

    ids = {name: f.ids.tolist() for name, f in loaded.items() if isinstance(f, CategoricalFeature)}
    assert ids["brand"] == [0, 1, 3, 1, 3]
    assert ids["seller"][4] == 1
    assert ids["age"] == [0, 1, 2, 4, 1]
    assert ids["rank"] == [0, 1, 2, 3, 1]
    lists = {name: f for name, f in loaded.items() if isinstance(f, MultiCategoricalFeature)}
    assert lists["genre"].offsets.tolist() == lists["title"].offsets.tolist() == [0, 0, 1, 3, 4, 5]
    assert lists["genre"].values.tolist() == [1, 4, 3, 1, 3]
    numbers = {name: f.values.tolist() for name, f in loaded.items() if isinstance(f, NumericFeature)}
    assert numbers["price"] == [[0, 0], [0, 1], [-1, 0], [1, 0], [0, 1]]
    assert numbers["weight"] == [[0, 0], [0, 1], [2, 0], [0, 1], [7, 0]]
    assert [missing for _, missing in numbers["stock"]] == [0, 1, 0, 1, 0]
    assert ids.keys() | lists.keys() | numbers.keys() == loaded.keys()
    for name, values in [*ids.items(), *((name, f.values.tolist()) for name, f in lists.items())]:
        assert max(values) < loaded[name].vocabulary_size
        embedded = embed_feature(loaded[name], 4)(torch.arange(5))
        assert embedded.shape == (5, 4)
