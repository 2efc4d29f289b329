"""Exported weights: everything to score with, read by safetensors, pyarrow and json alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

import behavior
from behavior.errors import UserError
from behavior.synthetic import SyntheticConfig, generate
from models.serving.export.graphs import examples_of, tower_and_scorer, traced
from models.serving.export.run import export
from models.serving.score import History
from tests.models.serving.untrained import untrained


def test_weights_say_whose_rows_they_are(tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data", ["loss.history=learned"])
    about = export(trained, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == about
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir() if path.is_file()}) == 1
    tensors = load_file(tmp_path / "out" / about["weights"]["file"])
    assert set(tensors) == set(trained.module.state_dict())
    for name, tensor in tensors.items():
        assert about["tensors"][name] == {"shape": list(tensor.shape), "dtype": str(tensor.dtype)}
        np.testing.assert_array_equal(tensor, trained.module.state_dict()[name].numpy())
    ids = about["ids"]
    table = pq.read_table(tmp_path / "out" / ids["items"]["file"])
    assert table[ids["items"]["column"]].to_pylist() == trained.item_ids.to_pylist()
    rows = tensors[about["weights"]["item_rows"]]
    assert len(rows) == ids["items"]["first"] + ids["items"]["known"] == 12
    assert not rows[ids["items"]["padding"]].any()
    assert ids["behaviors"] == {"view": 1, "buy": 2}
    assert ids["unknown_items"] == [1, 2]
    assert ids["targets"] == ["buy"]
    settings = json.loads((tmp_path / "out" / about["config"]).read_text())
    assert settings == trained.config.model_dump(mode="json")
    with pytest.raises(UserError, match="not empty"):
        export(trained, tmp_path / "out")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with features of items and users; not to be changed."""
    folder = tmp_path_factory.mktemp("generated")
    log = generate(SyntheticConfig(users=30, items=20, domains=2, interests=8, personas=3, mean_events=8.0))
    behavior.prepare(log.write(folder / "raw"), folder / "shards")
    return folder


def test_features_come_with_their_values(generated: Path, tmp_path: Path) -> None:
    trained = untrained(generated / "shards", ["embedding.features=add"])
    about = export(trained, tmp_path / "out")
    features = {each["name"]: each for each in about["ids"]["features"]["item"]}
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    words = {
        name: {
            row["index"]: row["value"] for row in pq.read_table(tmp_path / "out" / each["file"]).to_pylist()
        }
        for name, each in features.items()
        if "file" in each
    }
    with open(generated / "raw" / "items.csv", newline="", encoding="utf-8") as file:
        raw = {row["item"]: row for row in csv.DictReader(file)}
    assert set(words) == {"category", "tags"}
    for item in items:
        category = raw[item["id"]]["category"] or None
        assert words["category"].get(item["category"]) == category
        assert [words["tags"][tag] for tag in item["tags"]] == raw[item["id"]]["tags"].split("|")
    user = about["ids"]["features"]["user"]
    assert [each["file"] for each in user] == ["vocabulary/user.segment.parquet"]


def test_graphs_hold_features(generated: Path) -> None:
    side = ["embedding.features=tower", "embedding.user_features=all"]
    trained = untrained(generated / "shards", side)
    tower, scorer = tower_and_scorer(trained)
    programs = [
        traced(module, inputs, 5).module()
        for module, inputs in zip((tower, scorer), examples_of(tower, 8), strict=True)
    ]
    first = trained.about.first_item
    ids = [[first, first + 4, first + 1], [first + 7, 0, 0], [first + 2, first + 2, 0]]
    lengths, people = [3, 1, 2], [4, -1, 0]
    given = {
        "items": torch.tensor(ids),
        "behaviors": torch.ones(3, 3, dtype=torch.int64),
        "timestamps": torch.tensor([[5, 50, 500], [7, 0, 0], [9, 90, 0]]),
        "lengths": torch.tensor(lengths),
        "query_time": torch.tensor([600, 70, 900]),
        "behavior": torch.ones(3, dtype=torch.int64),
        "user": torch.tensor(people),
    }
    [query] = programs[0](*(given[each.name] for each in tower.inputs))
    asked = [
        History(
            items[:count],
            [1] * count,
            given["timestamps"][row, :count].tolist(),
            next_behavior=1,
            next_timestamp=int(given["query_time"][row]),
            user=None if people[row] < 0 else people[row],
        )
        for row, (items, count) in enumerate(zip(ids, lengths, strict=True))
    ]
    found = programs[1](query).detach().numpy()
    np.testing.assert_allclose(found, trained.score(asked).numpy(), atol=2e-6, rtol=2e-6)
