from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.flow.memory import PreparedTables, prepare_tables
from tests.behavior.logs import few, folder_of, make_spec, untimed_spec

LOG = """user,item,time
u,a,3
v,a,1
u,b,3
u,a,1
v,c,2
v,b,2
w,d,9
"""


def rows_of(data: PreparedTables) -> dict[str, list[str]]:
    """Raw item ids of each user's sequence."""
    ids = dict(zip(*(data.tables.items.column(name).to_pylist() for name in ("index", "id")), strict=True))
    users, items = (data.sequences.column(name).to_pylist() for name in ("user", "item"))
    return {user: [ids.get(item, "?") for item in own] for user, own in zip(users, items, strict=True)}


def ends_of(data: PreparedTables) -> dict[str, tuple[int, int]]:
    return {
        user: (train, valid)
        for user, train, valid in zip(
            *(data.sequences.column(name).to_pylist() for name in ("user", "train_end", "valid_end")),
            strict=True,
        )
    }


def test_a_small_log_from_end_to_end() -> None:
    with folder_of(log__csv=LOG) as folder:
        data = prepare_tables(make_spec(), folder)
    assert rows_of(data) == {"u": ["a", "a", "b"], "v": ["a", "c", "b"], "w": ["d"]}
    assert ends_of(data) == {"u": (1, 2), "v": (1, 2), "w": (1, 1)}
    assert data.tables.items.to_pydict() == {
        "index": [2, 3, 4, 5],
        "id": ["a", "b", "c", "d"],
        "count": [3, 2, 1, 1],
        "train_count": [2, 0, 0, 1],
    }
    assert data.tables.users.column("id").to_pylist() == ["u", "v", "w"]
    assert data.tables.users.column("train_count").to_pylist() == [1, 1, 1]
    assert data.counts.model_dump() == {
        "read": 7,
        "accepted": 7,
        "rejected": 0,
        "filtered": 0,
        "events": 7,
        "users": 3,
        "items": 4,
    }
    assert data.stats["users_tested"] == 2


def test_a_vocabulary_of_the_training_part_makes_test_items_unknown() -> None:
    with folder_of(log__csv=LOG) as folder:
        data = prepare_tables(make_spec(vocabulary={"fit_on": "train"}), folder)
    assert rows_of(data) == {"u": ["a", "a", "?"], "v": ["a", "?", "?"], "w": ["d"]}
    assert data.tables.items.column("id").to_pylist() == ["a", "d"]
    assert data.counts.items == 2
    assert set(np.concatenate(data.sequences.column("item").to_pylist())) == {1, 2, 3}


def test_filters_and_caps_count_as_filtered() -> None:
    with folder_of(log__csv=LOG) as folder:
        core = prepare_tables(make_spec(filters={"k_core": 2}), folder)
        capped = prepare_tables(make_spec(max_events=2), folder)
        with pytest.raises(UserError, match="no event is left: of 7 read, 7 were filtered out"):
            prepare_tables(make_spec(filters={"k_core": 9}), folder)
    assert rows_of(core) == {"u": ["a", "a", "b"], "v": ["a", "b"]}
    assert (core.counts.accepted, core.counts.filtered) == (5, 2)
    assert rows_of(capped) == {"u": ["a", "b"], "v": ["c", "b"], "w": ["d"]}
    assert (capped.counts.accepted, capped.counts.filtered) == (5, 2)


def test_rows_are_ordered_pack_by_pack_within_the_budget() -> None:
    lengths = {f"u{n}": n % 9 + 3 for n in range(40)}
    log = "user,item\n" + "".join(f"{user},{n}\n" for user, length in lengths.items() for n in range(length))
    with folder_of(log__csv=log) as folder:
        data = prepare_tables(untimed_spec(packing={"tokens": 12, "max_length": 6}), folder)
    packs = data.sequences.column("pack").to_pylist()
    assert packs == sorted(packs)
    tokens: Counter[int] = Counter()
    for pack, train_end in zip(packs, data.sequences.column("train_end").to_pylist(), strict=True):
        tokens[pack] += min(train_end, 6)
    assert max(tokens.values()) == 12
    assert "timestamp" not in data.sequences.column_names


def test_too_many_rejects_fail_and_say_where() -> None:
    log = "user,item,time\n" + "1,2,3\n" * 8 + "1,2,x\n"
    with folder_of(log__csv=log) as folder:
        with pytest.raises(
            UserError, match=r"1 of 9 rows were rejected, more than max_rejects = 0.1 allows"
        ) as error:
            prepare_tables(make_spec(max_rejects=0.1), folder)
        assert error.value.where == "log.csv line 10: timestamp 'x' is not a whole number"
        counts = prepare_tables(make_spec(max_rejects=0.2), folder).counts
        assert (counts.read, counts.accepted, counts.rejected) == (9, 8, 1)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", "the log is empty"),
        ("user,item,time\n", "the log is empty"),
        ("user,item,time\n\n\n", "the log is empty"),
        ("user,item,time\n1,2,x\n", "the only row was rejected"),
        ("user,item,time\n1,2,x\n1,3,y\n", "every one of the 2 rows was rejected"),
    ],
)
def test_logs_that_hold_nothing(log: str, message: str) -> None:
    with folder_of(log__csv=log) as folder, pytest.raises(UserError, match=message):
        prepare_tables(make_spec(max_rejects=1.0), folder)


def test_the_order_of_files_decides_ties() -> None:
    files = {"a__csv": "user,item,time\nu,a,1\n", "b__csv": "user,item,time\nu,b,1\nu,c,0\n"}
    with folder_of(**files) as folder:
        assert rows_of(prepare_tables(make_spec({"files": "*.csv"}), folder)) == {"u": ["c", "a", "b"]}
        assert rows_of(prepare_tables(make_spec({"files": ["b.csv", "a.csv"]}), folder)) == {
            "u": ["c", "b", "a"]
        }


def test_tables_are_joined_and_their_bad_rows_kept() -> None:
    spec = make_spec(
        items={"files": "items.csv", "id": "id", "features": [{"name": "color"}]},
        users={
            "files": "users.csv",
            "id": "id",
            "features": [{"name": "color"}, {"name": "age", "kind": "numeric"}],
        },
    )
    files = {
        "log__csv": LOG,
        "items__csv": "id,color\na,red\nb\nz,blue\n",
        "users__csv": "id,color,age\nu,red,10\nv,,20\n",
    }
    with folder_of(**files) as folder:
        tables = prepare_tables(spec, folder).tables
    assert tables.items.column("color").to_pylist() == [3, 1, 1, 1]
    assert tables.users.column("color").to_pylist() == [3, 1, 1]
    np.testing.assert_allclose(tables.users.column("age").to_numpy(), [-1, 1, np.nan])
    assert set(tables.vocabularies) == {"color", "user.color"}
    assert [(r.file, r.place) for r in tables.rejects] == [("items.csv", 3)]


def test_a_spec_file_names_files_beside_it(tmp_path: Path) -> None:
    spec = make_spec().model_dump(exclude_defaults=True)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "log.csv").write_text(LOG)
    assert prepare_tables(tmp_path / "spec.yaml").counts.read == 7


lines = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=25,
)


@few
@given(lines)
def test_sequences_splits_and_counts_against_plain_python(log: list[tuple[str, str, int, bool]]) -> None:
    text = "user,item,time,what\n" + "".join(f"{u},{i},{t},{'buy' if b else 'see'}\n" for u, i, t, b in log)
    spec = make_spec({"behavior": {"column": "what"}}, behaviors=["see", "buy"], targets=["buy"])
    with folder_of(log__csv=text) as folder:
        data = prepare_tables(spec, folder)
    items: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for user in {u for u, *_ in log}:
        own = sorted((event for event in log if event[0] == user), key=lambda event: event[2])
        buys = [place for place, event in enumerate(own) if event[3]]
        ends = (buys[-2], buys[-1]) if len(own) >= 3 and len(buys) >= 2 else (len(own), len(own))
        assert rows_of(data)[user] == [item for _, item, _, _ in own]
        assert ends_of(data)[user] == ends
        items.update(item for _, item, _, _ in own)
        trained.update(item for _, item, _, _ in own[: ends[0]])
    table = {row["id"]: (row["count"], row["train_count"]) for row in data.tables.items.to_pylist()}
    assert table == {item: (items[item], trained[item]) for item in items}


DATA = os.environ.get("LRM_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="LRM_DATA is not set: it names the folder of the public data sets"
)


def column_of(data: PreparedTables, name: str) -> Any:
    return data.sequences.column(name).combine_chunks()


@pytest.fixture(scope="module")
def ml_1m() -> PreparedTables:
    return prepare_tables("ml-1m", Path(str(DATA)) / "ml-1m")


@needs_data
def test_ml_1m_counts(ml_1m: PreparedTables) -> None:
    counts = ml_1m.counts
    assert (counts.users, counts.items, counts.events) == (6_040, 3_706, 1_000_209)
    assert (counts.rejected, counts.filtered, ml_1m.rejects, ml_1m.tables.rejects) == (0, 0, [], [])
    ratings = np.bincount(column_of(ml_1m, "value").values.to_numpy().astype(int))
    assert (ratings[:3].sum(), ratings[3], ratings[4:].sum()) == (163_731, 261_197, 575_281)
    assert ml_1m.stats["sequence_length"]["longest"] == 2_314
    assert len(ml_1m.tables.vocabularies["genres"]) == 18
    assert all(ml_1m.tables.items.column("genres").to_pylist())


@needs_data
def test_ml_1m_sequences_and_targets_are_those_of_plain_python(ml_1m: PreparedTables) -> None:
    events: dict[int, list[tuple[int, int]]] = {}
    with (Path(str(DATA)) / "ml-1m" / "ratings.dat").open() as file:
        for line in file:
            user, item, _, time = line.split("::")
            events.setdefault(int(user), []).append((int(time), int(item)))
    ids = dict(zip(*(ml_1m.tables.items.column(name).to_pylist() for name in ("index", "id")), strict=True))
    columns = ("user", "item", "timestamp", "train_end", "valid_end")
    seen = 0
    for user, items, times, train_end, valid_end in zip(
        *(column_of(ml_1m, name).to_pylist() for name in columns), strict=True
    ):
        own = sorted(events[user], key=lambda event: event[0])  # stable: ties stay in the order of the file
        assert [ids[item] for item in items] == [item for _, item in own]
        assert times == [time for time, _ in own]
        assert (train_end, valid_end) == (len(own) - 2, len(own) - 1)
        seen += 1
    assert seen == 6_040


@needs_data
def test_ml_1m_items_are_ordered_by_count_then_by_number(ml_1m: PreparedTables) -> None:
    items = ml_1m.tables.items
    keys = list(zip(items.column("count").to_pylist(), items.column("id").to_pylist(), strict=True))
    assert keys == sorted(keys, key=lambda key: (-key[0], key[1]))
    assert items.column("index").to_pylist() == list(range(2, 3_708))
    assert sum(items.column("train_count").to_pylist()) == 1_000_209 - 2 * 6_040


@needs_data
def test_taobao_behaviors_and_targets() -> None:
    path = Path(str(DATA)) / "taobao" / "events.csv.gz"
    data = prepare_tables("taobao", path.parent)
    assert (data.counts.events, data.counts.users, data.counts.items) == (357_412, 31_882, 30_985)
    assert data.stats["behaviors"] == {"fav": 49_482, "cart": 140_068, "buy": 167_862}
    events: dict[int, list[tuple[int, str]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            events.setdefault(int(row["user"]), []).append((int(row["timestamp"]), row["behavior"]))
    for user, train_end, valid_end in zip(
        *(column_of(data, name).to_pylist() for name in ("user", "train_end", "valid_end")), strict=True
    ):
        own = [behavior for _, behavior in sorted(events[user], key=lambda event: event[0])]
        buys = [place for place, behavior in enumerate(own) if behavior == "buy"]
        only_trains = len(own) < 3 or len(buys) < 2
        assert (train_end, valid_end) == ((len(own),) * 2 if only_trains else tuple(buys[-2:]))
