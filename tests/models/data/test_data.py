"""Sequences in memory, and the windows of evaluation, against plain Python lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.manifest import load_manifest
from models.data.digest import dataset_digest
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.data.windows import gather, history_windows
from tests.models.shards import USERS, WORLD, User, World, leave_one_out, load, rows, write_shards


@pytest.fixture
def data(tmp_path: Path) -> SequenceData:
    return load(write_shards(tmp_path / "data", USERS, WORLD))


def test_files_are_read_in_order_and_whole(data: SequenceData) -> None:
    assert [data.item[a:b].tolist() for a, b in pairwise(data.offsets)] == [list(user.item) for user in USERS]
    assert data.train_end.tolist() == [4, 1, 3, 2, 0]
    assert data.valid_end.tolist() == [5, 1, 4, 2, 1]
    assert data.row.tolist() == [0, 1, 2, 3, 4]
    about = data.about
    assert about.target_behaviors == (2,)
    assert (about.first_item, about.num_item_ids, about.num_items, about.has_time) == (2, 8, 6, True)


@pytest.mark.parametrize(("unit", "a_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_timestamps_become_whole_seconds(tmp_path: Path, unit: str, a_second: int) -> None:
    times = [-1, 0, a_second - 1, a_second, 5 * a_second + a_second // 2]
    users = [User([2, 3, 4, 2, 3], 5, 5, timestamp=times)]
    data = load(write_shards(tmp_path, users, World(num_items=3, timestamp_unit=unit)))
    assert data.timestamp.tolist() == [time // a_second for time in times]


def test_data_without_time(tmp_path: Path) -> None:
    world = World(num_items=6, timestamp_unit="none")
    data = load(write_shards(tmp_path, leave_one_out([2, 3, 4, 5]), world))
    two = np.array([2])
    batch = gather(data, history_windows(data, np.array([0]), two, two, 10), time="known")
    assert not batch.has_time
    assert batch.timestamp.tolist() == batch.query_time.tolist() == [0, 0]


def test_no_sequences_is_an_error(tmp_path: Path) -> None:
    shards = open_shards(write_shards(tmp_path, [], World(num_items=1)))
    with pytest.raises(UserError, match="no sequences"):
        ShardSource(shards)


def test_a_cut_outside_its_sequence_is_an_error(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, [User([2, 3], 1, 3)], World(num_items=2))
    with pytest.raises(UserError, match="damaged"):
        load(folder)


def digest_of(folder: Path, users: Sequence[User] = USERS, world: World = WORLD) -> str:
    return dataset_digest(open_shards(write_shards(folder, users, world)))


def test_the_digest_follows_the_content_not_the_place(tmp_path: Path) -> None:
    other = [*USERS[:-1], replace(USERS[-1], timestamp=[0, 60, 121])]
    cases = [USERS, USERS, USERS[:-1], other]
    digests = [digest_of(tmp_path / str(number), users) for number, users in enumerate(cases)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    "options",
    [{"compression": "none"}, {"row_group_size": 1}, {"version": "1.0", "use_dictionary": True}],
    ids=str,
)
def test_the_digest_does_not_follow_the_encoding(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = digest_of(tmp_path / "a")
    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda table, file, **_: write(table, file, **options))
    assert digest_of(tmp_path / "b") == expected
    first, second = (load_manifest(tmp_path / name).files[0].sha256 for name in "ab")
    assert first != second


def test_the_digest_follows_what_the_values_mean(tmp_path: Path) -> None:
    """The files are the same; what is learned from them is not."""
    changes: list[dict[str, Any]] = [
        {},
        {"targets": ("view",)},
        {"behaviors": ("look", "buy")},
        {"timestamp_unit": "ms"},
        {"split": {"kind": "next_basket"}},
        {"split": {"kind": "next_basket", "targets": "first"}},
    ]
    worlds = [replace(WORLD, **change) for change in changes]
    digests = {digest_of(tmp_path / str(number), world=world) for number, world in enumerate(worlds)}
    assert len(digests) == len(changes)


def test_data_sets_whose_manifest_lacks_contents_keep_the_digest_they_had(tmp_path: Path) -> None:
    """Runs of theirs are found and go on; it was made of the checksums of items and sequences."""
    folder = write_shards(tmp_path, USERS, WORLD)
    path, text = folder / "manifest.json", (folder / "manifest.json").read_text()
    lines = [
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in ("items.parquet", "sequences/part-00000.parquet", "sequences/part-00001.parquet")
    ]
    # Of every file, or, as after --append, of some.
    for count in (3, 1):
        manifest = json.loads(text)
        for entry in manifest["files"][:count]:
            del entry["content"]
        path.write_text(json.dumps(manifest))
        assert dataset_digest(open_shards(folder)) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("time", ["known", "unknown"])
def test_the_last_input_predicts_a_target_that_may_stand_further_on(data: SequenceData, time: str) -> None:
    """The history of all is the same three events, cut to the newest two; each asks for its own target."""
    target = np.array([3, 4, 5])
    windows = history_windows(data, np.zeros(3, dtype=np.int64), np.full(3, 3), target, 2)
    for chosen in (windows, windows.take(np.arange(3))):
        batch = gather(data, chosen, time=time).validate()  # type: ignore[arg-type]
        assert rows(batch, "item") == [[3, 4]] * 3
        assert rows(batch, "target") == [[4, item] for item in (5, 6, 7)]
        assert rows(batch, "target_behavior") == [[1, 2]] * 3
        known = [[20, stamp] for stamp in (30, 45, 50)]
        assert rows(batch, "query_time") == (known if time == "known" else [[20, 20]] * 3)


def test_the_manifest_tells_which_targets_are_evaluated(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], tuple[str, bool]]] = [
        ({"kind": "leave_one_out"}, ("first", False)),
        ({"kind": "next_basket"}, ("all", True)),
        ({"kind": "next_basket", "targets": "first"}, ("first", True)),
        ({"kind": "temporal", "targets": "all", "valid_at": 1, "test_at": 2}, ("all", False)),
    ]
    for split, expected in cases:
        about = load(write_shards(tmp_path, USERS, replace(WORLD, split=split))).about
        assert (about.evaluated, about.in_baskets) == expected
