"""Recommendations against a plain loop over all items, and against evaluation."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import behavior
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models import load_model
from models.evaluate_run import evaluate
from models.serving.load import TrainedModel
from models.serving.score import History
from tests.models.serving.recommend_world import BEHAVIORS, events, genres_of, prepare, run_on, write_raw

RICH = (
    "loss.history=learned",
    "loss.jumps=learned",
    "loss.trends=learned",
    "embedding.behaviors=add",
    "embedding.query_behavior=add",
    "model.input_behaviors=all",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def rich(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """With history, jump and trend logits, told time and behavior."""
    return load_model(run_on(data, tmp_path_factory.mktemp("rich") / "run", RICH), device="cpu")


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    settings = ("model.kind=sasrec", "model.time=unknown", "model.input_behaviors=target")
    return load_model(run_on(data, tmp_path_factory.mktemp("plain") / "run", settings), device="cpu")


def log_of() -> dict[str, list[tuple[str, str, int]]]:
    """user -> item, behavior, time, in the order of time and of the log."""
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for user, *event in events():
        found[user].append(tuple(event))  # type: ignore[arg-type]
    return {user: sorted(own, key=lambda event: event[2]) for user, own in found.items()}


def rows_by_user(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["user"]].append(row)
    return dict(found)


def asked_by_hand(
    model: TrainedModel, own: list[tuple[str, str, int]], at: int, behavior: str
) -> list[float]:
    """Scores of all items by the public way for single histories."""
    index = {one: place for place, one in enumerate(model.item_ids.to_pylist())}
    first = model.about.first_item
    items = [index[item] + first if item in index else unknown(item) for item, _, _ in own]
    history = History(
        items,
        [BEHAVIORS.index(name) + 1 for _, name, _ in own],
        [time for *_, time in own],
        next_timestamp=at,
    )
    return model.score([history], behavior=behavior)[0].double().tolist()


def unknown(item: str) -> int:
    """FNV-1a and the finalizer of MurmurHash3 (docs/shards.md), of two ids of unknown items."""
    value, whole = 0xCBF29CE484222325, 2**64 - 1
    for byte in item.encode():
        value = (value ^ byte) * 0x100000001B3 & whole
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & whole
    return 1 + (value ^ value >> 33) % 2


@pytest.mark.parametrize("exclude", [False, True])
def test_top_is_that_of_a_loop_over_all_items(rich: TrainedModel, data: Path, exclude: bool) -> None:
    """History, jump and trend logits on; the whole history, time and behavior told; seen items by hand."""
    at, ids = 1_000_400_000, rich.item_ids.to_pylist()
    found = rows_by_user(rich.recommend(k=7, at=at, behavior="view", exclude_seen=exclude).table())
    logs = log_of()
    assert set(found) == set(logs)
    for user, own in logs.items():
        scores = asked_by_hand(rich, own, at, "view")
        seen = {item for item, behavior, _ in own if behavior == "buy"} if exclude else set()
        order = sorted(
            (place for place, item in enumerate(ids) if item not in seen), key=lambda place: -scores[place]
        )
        rows = found[user]
        assert [row["rank"] for row in rows] == list(range(1, 8))
        np.testing.assert_allclose([row["score"] for row in rows], [scores[p] for p in order[:7]], rtol=1e-5)
        own_scores = [scores[ids.index(row["item"])] for row in rows]
        np.testing.assert_allclose([row["score"] for row in rows], own_scores, rtol=1e-5)
        assert len({row["item"] for row in rows}) == 7
        assert {row["answer"] for row in rows} == {"model"}


@pytest.mark.parametrize("of", ["rich", "plain"])
def test_ndcg_of_recommendations_is_that_of_evaluation(of: str, request: pytest.FixtureRequest) -> None:
    """Histories before the test target, as a table, asked at the time of the target."""
    model: TrainedModel = request.getfixturevalue(of)
    logs, rows, targets = log_of(), [], {}
    for table in open_shards(model.shards.folder).iter_sequences():
        for row in table.to_pylist():
            own, begin = logs[row["user"]], row["valid_end"]
            stop = next((place for place in range(begin, len(own)) if own[place][1] == "buy"), None)
            if not stop:
                continue
            targets[row["user"]] = own[stop][0]
            for item, name, time in own[:stop]:
                event = {"user": row["user"], "item": item, "behavior": name, "timestamp": time}
                rows.append(event | {"at": own[stop][2]})
    report = evaluate(model, "test", cutoffs=[10], exclude_seen=False, bootstrap=0)
    assert report["users"] == len(targets)
    found = rows_by_user(model.recommend(histories=rows, k=10, exclude_seen=False).table())
    gains = []
    for user, target in targets.items():
        ranked = [row["item"] for row in found[user] if row["answer"] == "model"]
        gains.append(1 / math.log2(ranked.index(target) + 2) if target in ranked else 0.0)
    assert sum(gains) / len(gains) == pytest.approx(report["ndcg@10"], abs=1e-9)


def test_users_of_the_data_set_in_batches(rich: TrainedModel) -> None:
    """The same in batches of any size, and of some users alone."""
    whole = rich.recommend(k=3, at=1_000_400_000).table()
    few = rich.config.evaluation.model_copy(update={"batch_size": 7})
    by_few = replace(rich, config=rich.config.model_copy(update={"evaluation": few}))
    parts = by_few.recommend(k=3, at=1_000_400_000)
    some = by_few.recommend(["u3", "u11"], k=3, at=1_000_400_000).table()
    again = parts.table()
    assert again["item"].to_pylist() == whole["item"].to_pylist()
    assert parts.told.users == parts.expected == 40
    expected = [row for row in whole.to_pylist() if row["user"] in ("u3", "u11")]
    assert [row["item"] for row in some.to_pylist()] == [row["item"] for row in expected]
    with pytest.raises(UserError, match="gone through"):
        parts.table()
    with pytest.raises(UserError, match="2 of 3 users are not in the data set: 'u77', 'x'"):
        rich.recommend(["u77", "u1", "x"])


def test_candidates_features_and_exclusions(rich: TrainedModel) -> None:
    at = 1_000_400_000
    items = lambda **wanted: {  # noqa: E731
        row["item"]
        for row in rich.recommend(k=len(rich.item_ids), at=at, exclude_seen=False, **wanted)
        .table()
        .to_pylist()
    }
    known = set(rich.item_ids.to_pylist())
    having = {item for item in known if "Western" in genres_of(int(item[1:]))}
    assert items() == known
    assert items(where=["genres=Western"]) == having
    assert items(where=["genres=Western", "main=Western"]) == {i for i in known if int(i[1:]) % 3 == 2}
    assert items(candidates=["i1", "i2", "nobody"]) == {"i1", "i2"} & known
    assert items(exclude=["i1", "nobody"]) == known - {"i1"}


def test_seen_by_behaviors(rich: TrainedModel, data: Path) -> None:
    found = rows_by_user(rich.recommend(k=20, at=1_000_400_000, exclude_seen=["view"]).table())
    for user, own in log_of().items():
        assert not {row["item"] for row in found[user]} & {item for item, name, _ in own if name == "view"}
    told = rich.recommend(k=20, at=1_000_400_000)
    assert any("seen items" in note and "target events repeat" in note for note in told.notes)


def test_without_a_history_what_is_popular(plain: TrainedModel) -> None:
    """No event, or none that is an input; in the order of counts, ties by item order."""
    items = plain.shards.items()
    counts = items["train_count"].to_pylist()
    order = sorted(range(len(counts)), key=lambda place: (-counts[place], place))
    popular = [plain.item_ids[place].as_py() for place in order]
    bought, seen = popular[0], popular[1]
    rows = [
        {"user": "new", "item": [], "behavior": [], "timestamp": []},
        {"user": "looks", "item": [seen], "behavior": ["view"], "timestamp": [1_000_000_000]},
        {"user": "buys", "item": [bought], "behavior": ["buy"], "timestamp": [1_000_000_000]},
    ]
    stream = plain.recommend(histories=pa.Table.from_pylist(rows), k=4, exclude_seen=["view", "buy"])
    found = rows_by_user(stream.table())
    assert [row["item"] for row in found["new"]] == popular[:4]
    assert [row["item"] for row in found["looks"]] == [item for item in popular if item != seen][:4]
    assert found["new"][0]["score"] == counts[order[0]]
    answers = {user: {row["answer"] for row in own} for user, own in found.items()}
    assert answers == {"new": {"popularity"}, "looks": {"popularity"}, "buys": {"model"}}
    assert stream.told.by_popularity == 2


def test_histories_in_any_form(rich: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single events in any order, or lists: the same as the users of the data set have."""
    logs = log_of()
    lists = [
        {
            "user": user,
            "item": [event[0] for event in own],
            "behavior": [event[1] for event in own],
            "timestamp": [event[2] for event in own],
        }
        for user, own in logs.items()
    ]
    single = [
        {"user": user, "item": item, "behavior": behavior, "timestamp": time}
        for user, item, behavior, time in events()
    ]
    wanted = {"k": 5, "at": 1_000_400_000, "exclude_seen": True}
    expected = rows_by_user(rich.recommend(**wanted).table())
    of_lists = rich.recommend(histories=pa.Table.from_pylist(lists), **wanted).table()
    of_lists_order = of_lists["user"].to_pylist()
    assert rows_by_user(of_lists) == expected
    table = pa.Table.from_pylist(single)
    for one in (table, table.to_batches(max_chunksize=13), single):
        assert rows_by_user(rich.recommend(histories=one, **wanted).table()) == expected
    monkeypatch.setattr(
        "models.serving.recommend.table.HistoryTable.__init__.__defaults__", ("histories", 40)
    )
    spilled = rich.recommend(histories=table.to_batches(max_chunksize=13), **wanted).table()
    assert spilled["user"].to_pylist() != of_lists_order
    for user, rows in rows_by_user(spilled).items():  # in other batches: sums are rounded otherwise
        assert [row["item"] for row in rows] == [row["item"] for row in expected[user]]
    assert spilled.num_rows == of_lists.num_rows
    monkeypatch.undo()
    turned = [{**row, **{n: row[n][::-1] for n in ("item", "behavior", "timestamp")}} for row in lists]
    backward = rich.recommend(histories=pa.Table.from_pylist(turned), **wanted)
    backward.table()
    assert backward.told.unsorted == sum(len({time for *_, time in own}) > 1 for own in logs.values())
    counts = rich.recommend(histories=[{**single[0], "item": "nobody"}], **wanted)
    counts.table()
    assert counts.told.unknown_items == 1


def test_a_place_without_an_item_is_no_event(rich: TrainedModel, tmp_path: Path) -> None:
    """In lists and in single rows, whatever else there stands; of all kinds of files."""
    whole = {"user": "a", "item": ["i1", "i2"], "behavior": ["buy", "view"], "timestamp": [1_000_000_000] * 2}
    gaps = {
        "user": "a",
        "item": ["i1", None, "i2"],
        "behavior": ["buy", None, "view"],
        "timestamp": [1_000_000_000, 5, 1_000_000_000],
    }
    expected = rich.recommend(histories=[whole], at=1_000_400_000).table()
    (tmp_path / "gaps.jsonl").write_text(json.dumps(gaps) + "\n")
    pq.write_table(pa.Table.from_pylist([gaps]), tmp_path / "gaps.parquet")
    for one in ([gaps], tmp_path / "gaps.parquet", tmp_path / "gaps.jsonl"):
        found = rich.recommend(histories=one, at=1_000_400_000)
        assert found.table().equals(expected)
        assert (found.told.unsorted, found.told.unknown_items) == (0, 0)


def test_dictionaries_with_other_keys(rich: TrainedModel) -> None:
    """What the first one lacks is read of the others."""
    found = rich.recommend(histories=[{"user": "b"}, event(at=1_000_300_000)], k=2, at=1_000_900_000)
    alone = rich.recommend(histories=[event()], k=2, at=1_000_300_000)
    assert rows_by_user(found.table())["a"] == rows_by_user(alone.table())["a"]


def test_numbers_beside_text(rich: TrainedModel) -> None:
    """They are text; what is too long for an integer is told as any other value that is none."""
    wanted = {"k": 1, "at": 1_000_900_000}
    found = rich.recommend(histories=[event(user=7), event(), event(user=2**80)], **wanted)
    assert list(rows_by_user(found.table())) == ["7", "a", str(2**80)]
    lists = [
        {
            "user": "a",
            "item": ["i1", 7],
            "behavior": ["buy", "buy"],
            "timestamp": [1_000_000_000, "1000000001"],
        }
    ]
    found = rich.recommend(histories=lists, **wanted)
    assert (found.table().num_rows, found.told.unknown_items) == (1, 1)
    chosen = rich.recommend(
        ["u1"], candidates=["i1", 7, "i2", 2**70], exclude=[3, "i2"], exclude_seen=False, **wanted
    )
    assert chosen.table()["item"].to_pylist() == ["i1"]
    for users in (["u1", 7], [7, "u1"], ["u1", 2**70]):
        with pytest.raises(UserError, match="1 of 2 users are not in the data set"):
            rich.recommend(users, **wanted).table()
    with pytest.raises(UserError, match="'item' has lists and single values"):
        rich.recommend(histories=[*lists, event()], **wanted).table()


def test_ids_that_are_passed_over_are_told(rich: TrainedModel) -> None:
    found = rich.recommend(k=1, at=1_000_400_000, candidates=["i1", "x", "y"], exclude=["z"])
    assert "2 of 3 ids of 'candidates' are not in the data set, such as 'x'" in found.notes
    assert "1 of 1 ids of 'exclude' are not in the data set, such as 'z'" in found.notes
    found = rich.recommend(k=1, at=1_000_400_000, candidates=["i1"], exclude=["i2"])
    assert not any("not in the data set" in note for note in found.notes)


def test_the_time_of_asking(rich: TrainedModel, plain: TrainedModel) -> None:
    """Now, and what that means for a log of 2001; never before the last event."""
    now = rich.recommend(k=1)
    assert any("(now)" in note for note in now.notes)
    assert any("days after the last event" in note for note in now.notes)
    early, latest = rich.recommend(k=3, at="1990-01-01"), rich.recommend(k=3, at=0)
    assert early.table() == latest.table()
    assert early.told.asked_later == 40
    assert any("before the first event of the data set, 2001-" in note for note in early.notes)
    assert not any("before the first event" in note for note in now.notes)
    assert not any("last event of the data set" in note for note in early.notes)
    with pytest.raises(UserError, match="not told when it is asked"):
        plain.recommend(at="2001-01-01")
    with pytest.raises(UserError, match="'soon' is no time"):
        rich.recommend(at="soon")


def test_columns_of_items(rich: TrainedModel) -> None:
    titles = pa.table({"item": ["i1", "i0"], "title": ["One", "Zero"], "score": [9, 8]})
    asked = ["title", "genres", "main", "price", "count", "score"]
    table = rich.recommend(k=len(rich.item_ids), at=0, columns=asked, items=titles).table()
    scores = rich.recommend(k=len(rich.item_ids), at=0).table()["score"]
    assert table["score"] == scores
    for row in table.to_pylist()[:60]:
        number = int(row["item"][1:])
        assert row["title"] == {"i1": "One", "i0": "Zero"}.get(row["item"])
        assert sorted(row["genres"]) == genres_of(number)
        assert row["main"] == genres_of(number)[0] or row["main"] in genres_of(number)
        assert row["price"] == pytest.approx(number + 0.5, rel=1e-4)
        assert row["count"] > 0
        assert row["item_score"] == {"i1": 9, "i0": 8}.get(row["item"])  # beside the model's


def test_raw_columns_of_the_spec_s_item_tables(tmp_path: Path) -> None:
    """Titles that no feature has, with ids that are whole numbers, from the files that the spec names."""
    items = {"files": "items.csv", "id": "item", "features": [{"name": "genres"}]}
    made = prepare(tmp_path, items=items)
    lines = [f"i{item},Drama,Title {item}" for item in range(0, 30, 2)]
    (tmp_path / "raw" / "items.csv").write_text("\n".join(["item,genres,title", *lines, ""]))
    model = load_model(run_on(made, tmp_path / "run"), device="cpu")
    table = model.recommend(k=9, at=0, columns=["title", "genres"], items=tmp_path / "raw").table()
    for row in table.to_pylist():
        number = int(row["item"][1:])
        assert row["title"] == (f"Title {number}" if number % 2 == 0 else None)
    with pytest.raises(UserError, match="no column 'year'"):
        model.recommend(columns=["year"], items=tmp_path / "raw")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "0 items a user are asked for"),
    ({"k": 31}, "31 items a user are asked for, and the data set has"),
    ({"behavior": "byu"}, "no behavior 'byu'"),
    ({"domain": "books"}, "one domain only"),
    ({"candidates": ["nobody"]}, "none of the candidates"),
    ({"where": ["genre=Drama"]}, "items of the data set have no 'genre'"),
    ({"where": ["genres=Horror"]}, "no item has the genres 'Horror'"),
    ({"where": ["price=1.5"]}, "cannot be chosen by 'price'"),
    ({"where": ["genres"]}, "is no condition"),
    ({"where": ["main=Drama"], "exclude": [f"i{n}" for n in range(30)]}, "no item is left"),
    ({"columns": ["title"]}, "items of the data set have no 'title'"),
    ({"exclude_seen": ["cart"]}, "no behavior 'cart'"),
    ({"users": ["u1"], "histories": []}, "name one of them"),
]


@pytest.mark.parametrize(("wanted", "message"), BAD)
def test_what_cannot_be_asked(rich: TrainedModel, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        rich.recommend(**wanted)
    assert message in str(caught.value) or message in (caught.value.fix or "")


def event(**changes: Any) -> dict[str, Any]:
    return {"user": "a", "item": "i1", "behavior": "buy", "timestamp": 1_000_000_000} | changes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in event().items() if key != name}


BAD_HISTORIES: list[tuple[list[dict[str, Any]], str]] = [
    ([], "there are no histories"),
    ([without("user")], "there is no column 'user'"),
    ([without("behavior")], "there is no column 'behavior'"),
    ([without("timestamp")], "there is no column 'timestamp'"),
    ([event(), event(behavior="byu")], "behavior 'byu' is not in the data set"),
    ([event(timestamp="soon")], "timestamp 'soon' is not a whole number"),
    ([event(timestamp=1_000_000_000_000)], "is timestamp_unit right?"),
    ([event(timestamp=1_000_000)], "1970"),
    ([event(user=None)], "a row has no user"),
    (
        [{"user": "a", "item": ["i1", "i2"], "behavior": ["buy"], "timestamp": [1_000_000_000] * 2}],
        "2 items and 1 of 'behavior'",
    ),
]


@pytest.mark.parametrize(("rows", "message"), BAD_HISTORIES)
def test_what_is_no_history(rich: TrainedModel, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as caught:
        rich.recommend(histories=rows, at=1_000_400_000).table()
    assert message in str(caught.value)


def test_a_model_that_is_not_told(plain: TrainedModel) -> None:
    with pytest.raises(UserError, match="not told which behavior is wanted"):
        plain.recommend(behavior="view")


def test_the_scores_wait_for_nothing_but_the_question(rich: TrainedModel) -> None:
    """What is asked about changes the answer; the target's own item never does."""
    view, buy = (rich.recommend(k=9, at=1_000_400_000, behavior=name).table() for name in BEHAVIORS)
    assert view["score"].to_pylist() != buy["score"].to_pylist()
    later = rich.recommend(k=9, at=1_000_900_000, behavior="buy").table()
    assert later["score"].to_pylist() != buy["score"].to_pylist()
    assert torch.isfinite(torch.tensor(view["score"].to_pylist())).all()


def test_times_as_the_log_writes_them(tmp_path: Path) -> None:
    """A format of the spec's own; what is finer or other is refused."""
    spec = write_raw(tmp_path / "raw", timestamp_format="%Y/%m/%d %H:%M:%S")
    log = tmp_path / "raw" / "log.csv"
    head, *lines = log.read_text().splitlines()
    cut = [line.rsplit(",", 1) for line in lines]
    written = [f"{rest},{datetime.fromtimestamp(int(time), UTC):%Y/%m/%d %H:%M:%S}" for rest, time in cut]
    log.write_text("\n".join([head, *written, ""]))
    behavior.prepare(str(spec), str(tmp_path / "data"))
    model = load_model(run_on(tmp_path / "data", tmp_path / "run"), device="cpu")
    rows = [
        dict(zip(("user", "item", "behavior", "timestamp"), line.split(","), strict=True)) for line in written
    ]
    wanted = {"k": 4, "at": "2001-09-20"}
    assert rows_by_user(model.recommend(histories=rows, **wanted).table()) == rows_by_user(
        model.recommend(**wanted).table()
    )
    with pytest.raises(UserError, match="timestamp '1000000000'"):
        model.recommend(histories=[event(timestamp="1000000000")]).table()


def test_who_says_no_behavior_is_answered_as_the_run_is_evaluated(data: Path, tmp_path: Path) -> None:
    """Also by scores of single histories."""
    other = next(name for name in BEHAVIORS if name not in open_shards(data).manifest.targets)
    settings = ("embedding.query_behavior=add", f"evaluation.target_behavior={other}")
    model = load_model(run_on(data, tmp_path / "run", settings), device="cpu")
    history = History([3, 4], [1, 1], [0, 1])
    default = model.score([history])
    assert torch.equal(default, model.score([history], behavior=other))
    target = open_shards(data).manifest.targets[0]
    assert not torch.equal(default, model.score([history], behavior=target))
    at = 10**9
    asked = model.recommend(k=3, at=at).table()
    assert asked == model.recommend(k=3, at=at, behavior=other).table()
