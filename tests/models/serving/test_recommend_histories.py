"""Histories in any form, and what is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import behavior
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models import load_model
from models.serving.load import TrainedModel
from models.serving.score import History
from tests.models.serving.asked_by_hand import log_of, rows_by_user
from tests.models.serving.recommend_world import BEHAVIORS, events, run_on, write_raw


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
    ([event(timestamp="9" * 25)], "is a whole number of more than 64 bits"),
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
