"""Numbers of items are shown as the log has them, though they are stored standardized or as logarithms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import behavior
from behavior.config import parse_config
from behavior.shards.folder import open_shards
from behavior.spec.dataset_spec import DatasetSpec
from models.serving.recommend.ids import Ids
from models.serving.recommend.items import ItemColumns

TRANSFORMS = ("none", "standardize", "log")
PRICES = ["12.5", "-3", "1000", "9.99", "0", "0.25", "33.333", "", "7e2", "-0.07", "19.95"]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_numbers_of_few_digits_come_back(transform: str, tmp_path: Path) -> None:
    log = "user,item,time\n" + "".join(f"u,i{n},{n}\n" for n in range(len(PRICES)))
    (tmp_path / "log.csv").write_text(log)
    table = "item,price\n" + "".join(f"i{n},{price}\n" for n, price in enumerate(PRICES))
    (tmp_path / "items.csv").write_text(table)
    feature = {"name": "price", "kind": "numeric", "transform": transform}
    spec = {
        "name": "prices",
        "events": {"files": "log.csv", "columns": {"user": "user", "item": "item", "timestamp": "time"}},
        "timestamp_unit": "s",
        "items": {"files": "items.csv", "id": "item", "features": [feature]},
    }
    behavior.prepare(parse_config(DatasetSpec, spec, where="spec"), tmp_path / "data", tmp_path)
    shards = open_shards(tmp_path / "data")
    columns = ItemColumns(Ids(shards), shards, ["price"]).of(pa.array(range(shards.num_items)))
    found = dict(zip(shards.items()["id"].to_pylist(), columns["price"].to_pylist(), strict=True))
    for number, price in enumerate(PRICES):
        expected = float(np.float32(price)) if price else None
        assert found[f"i{number}"] == expected
