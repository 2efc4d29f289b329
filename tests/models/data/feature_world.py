"""Hand-made shards whose events have a domain, a value and features of every kind; each value as a list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from tests.models.shards import WORLD

NONE = math.nan
# Of each user's events, in order.
DOMAIN = [[1, 2, 1, 2, 2, 1], [2], [1, 1, 2, 2], [2, 1], [1, 1, 2]]
VALUE = [[5.0, NONE, 3.5, 4.0, NONE, 1.0], [2.0], [NONE, 1.5, 2.5, 3.0], [4.5, 5.0], [1.0, 2.0, NONE]]
PRICE = [[0.5, -1.25, NONE, 2.0, 0.0, 0.25], [1.0], [NONE, 0.75, -0.5, 1.5], [0.125, 3.0], [1.0, NONE, 2.0]]
DEVICE = [[2, 3, 1, 4, 2, 2], [1], [4, 4, 3, 2], [2, 1], [1, 3, 4]]
HOUR = [[2, 2, 3, 4, 5, 6], [7], [8, 9, 10, 11], [2, 3], [4, 5, 6]]
STORED: dict[str, list[list[Any]]] = {
    "domain": DOMAIN, "value": VALUE, "price": PRICE, "device": DEVICE, "hour": HOUR,
}  # fmt: skip
DTYPES = {
    "domain": torch.int32, "value": torch.float32, "price": torch.float32, "device": torch.int32,
    "hour": torch.int32,
}  # fmt: skip
FEATURES = [
    FeatureEntry(name="price", kind="numeric", encoding="standardize"),
    FeatureEntry(name="device", kind="categorical", encoding="vocabulary", vocabulary_size=5),
    FeatureEntry(name="hour", kind="categorical", encoding="buckets", vocabulary_size=12),
    FeatureEntry(name="tags", kind="multi_categorical", encoding="hash", vocabulary_size=9),
]


def flat(values: Sequence[Sequence[Any]], kind: pa.DataType) -> pa.Array:
    return pa.array([None if value != value else value for row in values for value in row], kind)


RICH = replace(
    WORLD,
    domains=("books", "films"),
    event_features=FEATURES,
    event_columns={
        "domain": flat(DOMAIN, pa.int8()),
        "value": flat(VALUE, pa.float32()),
        "price": pa.array([number for row in PRICE for number in row], pa.float32()),  # NaN, as jobs write it
        "device": flat(DEVICE, pa.int32()),
        "hour": flat(HOUR, pa.int32()),
    },
)


def asked(shards: ShardFolder, *names: str) -> Columns:
    """The core columns, and those of these names, of the event itself and of its target."""
    own = [event_column(shards, name) for name in names]
    return Columns.merged(CORE, own, [event_column(shards, name, of_target=True) for name in names])


def same(found: list[list[float]], expected: list[list[float]]) -> None:
    np.testing.assert_equal(found, [[np.float32(value).item() for value in row] for row in expected])
