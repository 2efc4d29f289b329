"""Vectors of items and users, and items like an item, against scores and plain Python."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.manifest import FeatureEntry
from models.serving.export import similar as similar_module
from models.serving.export import vectors as vectors_module
from models.serving.export.similar import find_item, similar
from models.serving.export.vectors import embed
from tests.models.serving.untrained import WORLD, histories, untrained, users
from tests.models.shards import User, World

TOLD = ["embedding.behaviors=add", "embedding.query_behavior=add", "model.time=known"]


BIAS = ["loss.kind=full_softmax", "loss.item_bias=popularity"]


@pytest.mark.parametrize("settings", [[], [*TOLD, "loss.normalize=false"], ["model.kind=llama"], BIAS])
def test_products_of_vectors_are_the_models_scores(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "ITEMS_AT_ONCE", 4)
    trained = untrained(tmp_path / "data", [*settings, "evaluation.batch_size=3"])
    told = settings[:3] == TOLD
    seen: list[tuple[int, int]] = []
    about = embed(
        trained,
        tmp_path / "out",
        behavior="view" if told else None,
        at=3000 if told else None,
        progress=lambda *done: seen.append(done),
    )
    items, people = (pq.read_table(tmp_path / "out" / name) for name in ("items.parquet", "users.parquet"))
    assert items["item"].to_pylist() == trained.item_ids.to_pylist()
    assert people["user"].to_pylist() == list(range(len(users())))
    made = [np.array(table["vector"].to_pylist()) for table in (people, items)]
    question = {"next_behavior": 1, "next_timestamp": 3000} if told else {}
    expected = trained.score(histories(users(), **question)).numpy()
    np.testing.assert_allclose(made[0] @ made[1].T, expected, atol=1e-5)
    assert {made[0].shape[1], made[1].shape[1]} == {about["scoring"]["dim"]} == {8 + (settings == BIAS)}
    assert seen[-1] == (len(users()), len(users()))
    assert json.loads((tmp_path / "out" / "embeddings.json").read_text()) == about
    assert about["question"] == {
        "behavior": "view" if told else "buy",
        "at": 3000 if told else "the time of the user's last event",
        "asked_later": 0,
    }
    assert about["notes"] == (["asked at 1970-01-01 00:50:00 UTC"] if told else [])
    assert about["scoring"]["normalized"] is not told
    assert about["scoring"]["not_in_the_vectors"] == {}


def test_what_is_not_in_the_vectors_is_said(tmp_path: Path) -> None:
    masses = ["loss.history=learned", "loss.trends=learned", "loss.temperature=0.1"]
    about = embed(untrained(tmp_path / "data", masses), tmp_path / "out")
    assert set(about["scoring"]["not_in_the_vectors"]) == {"history", "trends"}
    assert about["scoring"]["temperature"] == 0.1
    assert "beside what is not in the vectors" in about["scoring"]["score"]


def test_who_is_asked_later_than_at_is_counted(tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data", TOLD)
    last = [user.timestamp[-1] for user in users()]
    about = embed(trained, tmp_path / "out", at=sorted(last)[1])
    assert about["question"]["asked_later"] == sum(time > sorted(last)[1] for time in last) > 0


def test_a_user_without_inputs_has_no_vector(tmp_path: Path) -> None:
    people = [*users(), User([3, 4], 2, 2, behavior=[1, 1], timestamp=[1, 2])]
    trained = untrained(tmp_path / "data", ["model.input_behaviors=target"], people=people)
    embed(trained, tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "users.parquet")["vector"]
    assert [value.is_valid for value in found] == [True] * len(users()) + [False]


def test_what_cannot_be_asked_is_told_before_anything_is_written(tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data")
    with pytest.raises(UserError, match="not told which behavior"):
        embed(trained, tmp_path / "out", behavior="view")
    with pytest.raises(UserError, match="no behavior 'bui'"):
        embed(trained, tmp_path / "out", behavior="bui")
    with pytest.raises(UserError, match="does not know when"):
        embed(untrained(tmp_path / "data", ["model.time=unknown"]), tmp_path / "out", at=7)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="not empty: items"):
        embed(trained, tmp_path / "data")


def test_similar_items_are_those_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_module, "ITEMS_AT_ONCE", 4)
    trained = untrained(tmp_path / "data", ["loss.normalize=false"])
    weight = trained.module.embedding.item.weight
    with torch.no_grad():
        weight[9] = weight[7] * 2  # items 7 and 9 point the same way: the lower index comes first
    vectors = [[float(x) for x in row] for row in weight[3:].detach()]

    def cosine(a: list[float], b: list[float]) -> float:
        products = [sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b))]
        return products[0] / math.sqrt(products[1] * products[2])

    for place, own in enumerate(vectors):
        cosines = [round(cosine(own, other), 6) for other in vectors]
        order = sorted((n for n in range(9) if n != place), key=lambda n: (-cosines[n], n))
        found = similar(trained, str(place + 3), k=8)
        assert [row["item"] for row in found] == [n + 3 for n in order]
        assert [row["rank"] for row in found] == list(range(1, 9))
        assert [row["score"] for row in found] == pytest.approx([cosines[n] for n in order], abs=1e-5)


def test_columns_are_shown_as_in_the_log(tmp_path: Path) -> None:
    price = FeatureEntry(name="price", kind="numeric", encoding="none")
    world = World(
        **{
            **vars(WORLD),
            "item_features": (price,),
            "item_columns": {"price": pa.array(range(9), pa.float32())},
        }
    )
    trained = untrained(tmp_path / "data", world=world)
    counts = trained.shards.items()["count"].to_pylist()
    for row in similar(trained, 5, k=3, columns=["price", "count"]):
        assert (row["price"], row["count"]) == (row["item"] - 3, counts[row["item"] - 3])
    with pytest.raises(UserError, match="have no 'prize'") as raised:
        similar(trained, 5, columns=["prize"], k=3)
    assert raised.value.fix == "did you mean 'price'?"


def test_an_unknown_item_names_one_that_looks_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = untrained(tmp_path / "data")
    with pytest.raises(UserError, match="knows no item '12'"):
        similar(trained, 12)
    with pytest.raises(UserError, match="9 nearest of 8 other items"):
        similar(trained, 3, k=9)
    ids = pa.array(["alien", "aliens", "brazil", "brazil"])
    assert find_item(ids, "aliens") == 1
    with pytest.raises(UserError, match="2 items have the id 'brazil'"):
        find_item(ids, "brazil")
    for at_once in (3, 1000):
        monkeypatch.setattr(similar_module, "ITEMS_AT_ONCE", at_once)
        with pytest.raises(UserError) as raised:
            find_item(ids, "alient")
        assert raised.value.fix in ("did you mean 'alien'?", "did you mean 'aliens'?")
