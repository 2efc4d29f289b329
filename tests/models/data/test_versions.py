"""What runs remember of data sets: which are later versions, and where rows of tables go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import behavior
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from models.data.versions import NEW, RowMaps, dataset_of, differences
from models.runs.checkpoint import Checkpoint
from models.runs.regrow import regrow
from tests.models.shards import World, leave_one_out, write_shards

WORLD = World(num_items=4, oov=2, behaviors=("view", "buy"), targets=("buy",))
USERS = leave_one_out([3, 4, 5, 6], [6, 5, 4])


def shards(path: Path, world: World = WORLD, users: Any = USERS, version: int = 1) -> ShardFolder:
    write_shards(path, users, world)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    return open_shards(path)


def test_the_same_and_later_data_sets_have_no_differences(tmp_path: Path) -> None:
    first = shards(tmp_path / "a")
    remembered = json.loads(json.dumps(dataset_of(first)))
    assert differences(remembered, first) == []
    later = shards(tmp_path / "b", replace(WORLD, num_items=6), [*USERS, *leave_one_out([7, 8, 3])], 2)
    assert differences(remembered, later) == []
    maps = RowMaps.of_later_version(remembered, later)
    assert maps.items.tolist() == [0, 1, 2, 3, 4, 5, 6, NEW, NEW]
    assert maps.behaviors.tolist() == [0, 1, 2]
    assert (maps.new_items, maps.moves) == (2, True)
    assert not RowMaps.of_later_version(remembered, first).moves


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_items": 3}, "4 items, here 3"),
        ({"oov": 1}, "oov 2, here 1"),
        ({"behaviors": ("buy", "view")}, "behaviors"),
        ({"targets": ("view", "buy")}, "targets"),
        ({"timestamp_unit": "ms"}, "timestamp_unit 's', here 'ms'"),
        ({"split": {"kind": "next_basket"}}, "split"),
        ({"item_features": [FeatureEntry(name="a", kind="numeric")]}, "other item features"),
    ],
)
def test_what_makes_another_data_set(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    remembered = dataset_of(shards(tmp_path / "a"))
    world = replace(WORLD, **changes)
    if "item_features" in changes:
        world = replace(world, item_columns={"a": pa.array([0.0] * 4, pa.float32())})
    users = leave_one_out([3, 4, 5], [5, 3, 4])
    found = differences(remembered, shards(tmp_path / "b", world, users, version=2))
    assert said in "; ".join(found)


def test_other_events_of_the_same_vocabulary_are_no_later_version(tmp_path: Path) -> None:
    remembered = dataset_of(shards(tmp_path / "a"))
    other = shards(tmp_path / "b", users=leave_one_out([3, 4, 5], [6, 3, 4]))
    assert differences(remembered, other)[0].startswith("digest")
    later = dataset_of(shards(tmp_path / "c", users=USERS[:1], version=2))
    assert "version 2, here 1" in differences(later, other)


def test_of_runs_of_before_only_the_same_data_set_is_known(tmp_path: Path) -> None:
    first = shards(tmp_path / "a")
    remembered = {name: dataset_of(first)[name] for name in ("name", "digest", "item_ids", "behaviors")}
    assert differences(remembered, first) == []
    later = shards(tmp_path / "b", replace(WORLD, num_items=5), [*USERS, *leave_one_out([7, 3, 4])], 2)
    assert differences(remembered, later)[0].startswith("digest")


def prepared(
    folder: Path, rows: list[tuple[str, str, str]], genres: dict[str, str], **more: Any
) -> ShardFolder:
    folder.mkdir()
    lines = [f"{user},{item},{action},{time}" for time, (user, item, action) in enumerate(rows)]
    (folder / "e.csv").write_text("\n".join(["user,item,action,ts", *lines, ""]))
    text = "\n".join(["id,genre", *(f"{item},{genre}" for item, genre in genres.items()), ""])
    (folder / "i.csv").write_text(text)
    spec = {
        "name": "versions",
        "events": {
            "files": "e.csv",
            "columns": {"user": "user", "item": "item", "timestamp": "ts"},
            "behavior": {"column": "action"},
        },
        "timestamp_unit": "s",
        "items": {"files": "i.csv", "id": "id", "features": [{"name": "genre", "kind": "categorical"}]},
        **more,
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return behavior.open_shards(behavior.prepare(folder / "spec.yaml", folder / "data").folder)


def test_rows_between_any_data_sets_go_by_ids_and_values(tmp_path: Path) -> None:
    actions = {"behaviors": ["view", "buy"], "targets": ["buy"]}
    old = prepared(
        tmp_path / "old",
        [("u", "a", "view"), ("u", "a", "buy"), ("v", "b", "buy"), ("v", "c", "view")],
        {"a": "x", "b": "y", "c": "x"},
        **actions,
    )
    new = prepared(
        tmp_path / "new",
        [("u", "c", "buy"), ("u", "d", "buy"), ("v", "c", "cart"), ("w", "a", "view")],
        {"a": "x", "c": "x", "d": "z"},
        behaviors=["buy", "cart", "view"],
        targets=["buy"],
    )
    assert differences(dataset_of(old), new)
    maps = RowMaps.between(old, new)
    ids = [
        dict(zip(s.items()["id"].to_pylist(), s.items()["index"].to_pylist(), strict=True))
        for s in (old, new)
    ]
    assert maps.items[: new.first_item].tolist() == list(range(new.first_item))
    for item, row in ids[1].items():
        assert maps.items[row] == ids[0].get(item, NEW)
    assert maps.behaviors.tolist() == [0, 2, NEW, 1]
    words = [
        dict(zip(v["value"].to_pylist(), v["index"].to_pylist(), strict=True))
        for v in (old.vocabulary("genre"), new.vocabulary("genre"))
    ]
    for value, row in words[1].items():
        assert maps.features["genre"][row] == words[0].get(value, NEW)
    assert maps.features["genre"][:2].tolist() == [0, 1]


def test_rows_and_their_optimizer_state_move_together() -> None:
    weight, other = torch.arange(8.0).view(4, 2), torch.ones(3)
    moments = {"step": torch.tensor(5.0), "exp_avg": weight + 10, "sum": torch.arange(4.0)}
    saved = Checkpoint(
        {}, {}, {}, {"table": weight, "other": other}, {"state": {0: moments, 1: {"exp_avg": other}}}
    )
    rows = torch.tensor([0, 3, NEW, 1])
    state = torch.get_rng_state()
    found = regrow(saved, {"table": rows}, {0: "table", 1: "other"}, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found.model["table"][[0, 1, 3]], weight[[0, 3, 1]])
    assert 0 < found.model["table"][2].abs().max() <= 0.04
    assert found.model["other"] is other
    assert found.optimizer is not None
    moved = found.optimizer["state"][0]
    assert moved["exp_avg"].tolist() == [[10, 11], [16, 17], [0, 0], [12, 13]]
    assert moved["sum"].tolist() == [0, 3, 0, 1]
    assert moved["step"] == 5
    assert torch.equal(regrow(saved, {"table": rows}, {}, 3).model["table"], found.model["table"])
    damaged = regrow(saved, {"table": torch.tensor([0, 7])}, {}, 3)
    assert damaged.model["table"] is weight  # whose shape is wrong, which is said where it is checked
