"""Histories in a table with features of events and users: as users of the data set are answered."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml

import behavior
from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import load_config
from models.serving.live import Ask, LiveRecommender
from models.serving.load import TrainedModel
from models.serving.recommend.ids import Ids
from models.serving.recommend.job import MISSING, JobScorer
from models.serving.recommend.recommend import Recommendations
from models.serving.recommend.request import Wanted, resolve
from tests.models.serving.recommend_world import events
from tests.models.serving.test_encoding import whole_histories

FEATURES = [
    {"name": "device"},
    {"name": "price", "kind": "numeric", "transform": "log"},
    {"name": "gap", "kind": "numeric", "transform": "buckets", "boundaries": [1, 5]},
    {"name": "page", "kind": "hashed", "hash_size": 7},
]
OF_USERS = [
    {"name": "age", "kind": "numeric"},
    {"name": "device"},  # as a feature of events is called
    {"name": "tags", "kind": "multi_categorical", "separator": "|"},
]
SETTINGS = (
    *("model.dim=8", "model.max_length=6", "model.blocks=1", "model.heads=2", "train.device=cpu"),
    *("embedding.event_features=all", "embedding.user_features=all", "model.time=known"),
)
Rows = list[dict[str, Any]]


def log() -> Rows:
    """With a value missing here and there."""
    draw = random.Random(1)
    return [
        {
            "user": user,
            "item": item,
            "behavior": act,
            "timestamp": time,
            "device": draw.choice(["phone", "tv", "car", ""]),
            "price": draw.choice(["0.5", "12", "700", "", "-3"]),
            "gap": draw.choice(["0", "2", "9", ""]),
            "page": draw.choice(["a", "b", "c"]),
        }
        for user, item, act, time in events()
    ]


def people() -> dict[str, dict[str, str]]:
    draw = random.Random(2)
    return {
        f"u{number}": {
            "age": draw.choice(["20", "31", "70", ""]),
            "device": draw.choice(["ios", "android", ""]),
            "tags": draw.choice(["new|vip", "vip", "", "a|b|c|vip"]),
        }
        for number in range(40)
    }


def write_csv(path: Path, rows: Rows) -> None:
    lines = [",".join(map(str, row.values())) for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *lines, ""]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Of random weights, in which nothing is zero that could be."""
    folder = tmp_path_factory.mktemp("features")
    write_csv(folder / "log.csv", log())
    write_csv(folder / "users.csv", [{"user": user, **values} for user, values in people().items()])
    columns = {"user": "user", "item": "item", "timestamp": "timestamp"}
    spec = {
        "name": "features",
        "events": {
            "files": "log.csv",
            "columns": columns,
            "behavior": {"column": "behavior"},
            "features": FEATURES,
        },
        "users": {"files": "users.csv", "id": "user", "features": OF_USERS},
        "timestamp_unit": "s",
        "behaviors": ["view", "buy"],
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    behavior.prepare(str(folder / "spec.yaml"), str(folder / "data"))
    shards, config = open_shards(folder / "data"), load_config("default", list(SETTINGS))
    torch.manual_seed(3)
    task = build_task(config, shards)
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if not name.startswith("embedding.item."):  # whose padding stays zero
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
    task.objective.eval()
    return TrainedModel(folder / "run", config, task, shards, "best", {})


def answers(found: Recommendations) -> dict[str, list[tuple[str, float]]]:
    by_user: dict[str, list[tuple[str, float]]] = {}
    for row in found.table().to_pylist():
        by_user.setdefault(row["user"], []).append((row["item"], row["score"]))
    return by_user


ASKED = {"k": 5, "at": 1_000_090_000}


def histories() -> Rows:
    """Everything that people did, with all that the log says."""
    known = people()
    return [{**row, **{f"user.{name}": value for name, value in known[row["user"]].items()}} for row in log()]


def as_lists(rows: Rows) -> pa.Table:
    users = list(dict.fromkeys(row["user"] for row in rows))
    of = {user: [row for row in rows if row["user"] == user] for user in users}
    columns: dict[str, Any] = {"user": users}
    for name in rows[0]:
        if name != "user":
            one = name.startswith("user.")
            columns[name] = [of[u][0][name] if one else [row[name] for row in of[u]] for u in users]
    return pa.table(columns)


@pytest.mark.parametrize("shape", ["rows", "lists", "file"])
def test_they_are_answered_as_users_of_the_data_set(shape: str, model: TrainedModel, tmp_path: Path) -> None:
    rows = histories()
    given: Any = rows
    if shape == "lists":
        given = as_lists(rows)
    if shape == "file":
        given = tmp_path / "histories.csv"
        write_csv(given, rows)
    expected = answers(model.recommend(**ASKED))
    before = {name: buffer.clone() for name, buffer in model.module.named_buffers()}
    asked = model.recommend(histories=given, **ASKED)
    assert answers(asked) == expected
    counted = {name: sum(not row[name] for row in log()) for name in ("device", "price", "gap")}
    of_users = {f"user.{name}": sum(not each[name] for each in people().values()) for name in ("age", "tags")}
    of_users["user.device"] = sum(not each["device"] for each in people().values())
    assert asked.told.missing_values == counted | of_users
    for name, buffer in model.module.named_buffers():
        assert torch.equal(buffer, before[name])


def test_what_histories_do_not_say_is_missing_and_counted(model: TrainedModel) -> None:
    plain = [{name: row[name] for name in ("user", "item", "behavior", "timestamp")} for row in log()]
    asked = model.recommend(histories=plain, **ASKED)
    found = answers(asked)
    users, count = len(people()), len(log())
    assert asked.told.missing_values == {
        **dict.fromkeys(("device", "price", "gap", "page"), count),
        **dict.fromkeys(("user.age", "user.device", "user.tags"), users),
    }
    blank = [{**row, **dict.fromkeys(("device", "price", "gap", "page"), "")} for row in plain]
    assert answers(model.recommend(histories=blank, **ASKED)) == found
    assert found != answers(model.recommend(**ASKED))
    # One feature of the user alone changes what is answered, of the one who has it.
    one = [{**row, "age": "90" if row["user"] == "u3" else ""} for row in plain]
    changed = answers(model.recommend(histories=one, **ASKED))
    assert {user for user in found if changed[user] != found[user]} == {"u3"}


@pytest.mark.parametrize("lists", [False, True])
def test_a_job_knows_them_too(lists: bool, model: TrainedModel) -> None:
    expected, ids = answers(model.recommend(**ASKED)), Ids(model.shards)
    request = resolve(Wanted(**ASKED), model.served.module, model.config, model.shards, ids, 0)
    scorer = JobScorer(model, request)
    table = as_lists(histories()) if lists else pa.Table.from_pylist(histories())
    [rows] = table.combine_chunks().to_batches()
    batch = whole_histories(scorer.encoder, rows, lists)
    found, counts = scorer.score(batch)
    assert counts["users"] == len(people())
    asked = model.recommend(histories=table, **ASKED)
    asked.table()
    missing = {name.removeprefix(MISSING): n for name, n in counts.items() if name.startswith(MISSING)}
    assert missing == asked.told.missing_values
    # Threads of one process share the model.
    with ThreadPoolExecutor(4) as pool:
        assert all(again.equals(found) for again, _ in pool.map(scorer.score, [batch] * 8))
    by_user: dict[str, list[tuple[str, float]]] = {}
    for row in found.to_pylist():
        by_user.setdefault(row["user"], []).append((row["item"], row["score"]))
    for user, top in expected.items():
        assert [item for item, _ in by_user[user]] == [item for item, _ in top]
        assert [score for _, score in by_user[user]] == pytest.approx([score for _, score in top], rel=1e-4)


def test_a_live_service_knows_them_too(model: TrainedModel) -> None:
    expected, live = answers(model.recommend(**ASKED)), LiveRecommender(model, cache_bytes=1 << 20)
    assert "features of their users" in str(live.uncached)
    wanted = Wanted(k=5)
    asks = [
        Ask(user, [row for row in histories() if row["user"] == user], ASKED["at"], wanted)
        for user in ("u1", "u2")
    ]
    for ask, answer in zip(asks, live.recommend(asks), strict=True):
        assert not isinstance(answer, Exception), answer
        found = [(row["item"], row["score"]) for row in answer.rows]
        assert [item for item, _ in found] == [item for item, _ in expected[ask.user]]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected[ask.user]])


def test_json_lines_with_numbers(model: TrainedModel, tmp_path: Path) -> None:
    """Numbers are written as numbers, and what is missing is null or left out."""
    lines = []
    for row in histories():
        line = {
            name: (float(value) if name in ("price", "gap", "user.age") else value)
            for name, value in row.items()
            if value != ""
        }
        lines.append(json.dumps(line))
    (tmp_path / "histories.jsonl").write_text("\n".join(lines))
    found = model.recommend(histories=tmp_path / "histories.jsonl", **ASKED)
    assert answers(found) == answers(model.recommend(**ASKED))
