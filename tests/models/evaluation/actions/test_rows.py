"""Which events are rows of which part, and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.rows import (
    LabelledRows,
    Part,
    label_columns,
    labelled_rows,
    rows_of,
)
from tests.models.shards import User, World, write_shards

USERS = [
    User([2, 3, 4, 5, 6, 7], 3, 4, behavior=[1, 2, 1, 2, 2, 1], timestamp=[10, 20, 20, 30, 45, 50]),
    User([5], 1, 1, behavior=[2]),
    User([6, 1, 3], 0, 1, behavior=[1, 2, 2]),
]
NAMES = ("view", "buy")


def rows(folder: Path, part: Part, split: dict, label: str | list[str] = "buy") -> LabelledRows:
    folder = write_shards(folder, USERS, World(num_items=6, behaviors=NAMES, targets=("buy",), split=split))
    shards = open_shards(folder)
    labels = parse_labels(label, shards.manifest.behaviors)
    return rows_of(ShardSource(shards, columns=label_columns(shards, labels)), labels, part)


@pytest.mark.parametrize(
    ("part", "split", "expected"),
    [
        ("train", "leave_one_out", [(0, 0, 0), (0, 1, 1), (0, 2, 0), (1, 0, 1)]),
        ("train+valid", "leave_one_out", [(0, 0, 0), (0, 1, 1), (0, 2, 0), (0, 3, 1), (1, 0, 1), (2, 0, 0)]),
        ("valid", "leave_one_out", [(0, 3, 1), (2, 0, 0)]),
        ("test", "leave_one_out", [(0, 4, 1), (2, 1, 1)]),
        ("test", "all", [(0, 4, 1), (0, 5, 0), (2, 1, 1), (2, 2, 1)]),
        ("test", "next_basket", [(0, 4, 1), (0, 5, 0), (2, 1, 1), (2, 2, 1)]),
        ("test", "random", [(0, 4, 1), (0, 5, 0), (2, 1, 1), (2, 2, 1)]),
    ],
)
def test_rows_of_a_part(part: Part, split: str, expected: list, tmp_path: Path) -> None:
    whole = {"kind": "temporal", "targets": "all", "valid_at": 25, "test_at": 40}
    found = rows(tmp_path, part, whole if split == "all" else {"kind": split})
    columns = (found.sequence, found.position, found.label[:, 0])
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    begin = {0: 4, 2: 1}
    stops = found.stop.tolist()
    if split in ("next_basket", "random"):
        assert stops == [begin[each] for each in found.sequence.tolist()]
    else:
        assert stops == found.position.tolist()
    items = [USERS[user].item[place] for user, place, _ in expected]
    assert found.item.tolist() == items
    assert found.train_count.tolist() == [USERS[user].train_end for user, _, _ in expected]


def test_several_labels_and_a_side_against() -> None:
    labels = parse_labels(["buy", "view against buy", "buy|view"], NAMES)
    behavior = np.array([1, 2], np.int8)
    assert [label.of(behavior, None).tolist() for label in labels] == [[0, 1], [1, 0], [1, 1]]
    assert not any(label.reads_value for label in labels)


def test_conditions_on_values() -> None:
    texts = ["value>=4", "value > 4", "value>=4 against value<=2", "value=2", "value"]
    labels = parse_labels(texts, NAMES)
    value = np.array([1, 2, 3, 4, 5, np.nan], np.float32)
    found = [label.of(np.ones(6, np.int8), value) for label in labels]
    nan = np.nan
    expected = [
        [0, 0, 0, 1, 1, nan],
        [0, 0, 0, 0, 1, nan],
        [0, 0, nan, 1, 1, nan],
        [0, 1, 0, 0, 0, nan],
        [1, 2, 3, 4, 5, nan],
    ]
    np.testing.assert_array_equal(np.stack(found), np.array(expected, np.float32))
    assert [label.is_binary for label in labels] == [True] * 4 + [False]
    assert all(label.reads_value for label in labels)


def test_a_bound_is_what_the_file_says() -> None:
    """Values are float32: 0.1 is not the float64 of that name."""
    [label] = parse_labels("value>=0.1", NAMES)
    assert label.of(np.ones(1, np.int8), np.array([0.1], np.float32)).tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bye", "no behavior 'bye'"),
        ("value>4x", "'value>4x' is no label"),
        ("rating>=4", "'rating>=4' is no label"),
        ("", "'' is no label"),
        ([], "no label"),
        (["buy", "buy"], "stands there twice"),
    ],
)
def test_what_is_no_label(text: str | list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_labels(text, NAMES)


def test_rows_without_a_label_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'value'"):
        rows(tmp_path / "a", "test", {"kind": "leave_one_out"}, "value>=4")
    labels = parse_labels(["buy against nothing", "nothing against buy"], (*NAMES, "nothing"))
    shards = write_shards(tmp_path / "b", USERS, World(num_items=6, behaviors=NAMES, targets=("buy",)))
    [data] = list(ShardSource(open_shards(shards)))
    found = labelled_rows(data, labels, "train")
    assert found.behavior.tolist() == [2, 2]  # views have neither label
    assert found.label.tolist() == [[1, 0], [1, 0]]
    one = found.of_label(1)
    assert one.label.tolist() == [[0], [0]]
    assert [label.name for label in one.labels] == ["nothing against buy"]


def test_rows_of_unknown_users_and_items(tmp_path: Path) -> None:
    users = [*USERS, User([1, 1, 1], 1, 2, behavior=[2, 2, 2])]  # an unknown item
    shards = open_shards(write_shards(tmp_path, users, World(num_items=6, behaviors=NAMES, targets=("buy",))))
    labels = parse_labels("buy", NAMES)
    [data] = list(ShardSource(shards))
    assert labelled_rows(data, labels, "test").sequence.tolist() == [0, 2, 3]
    assert labelled_rows(data, labels, "test", known_only=True).sequence.tolist() == [0]
