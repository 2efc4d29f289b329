"""Columns that are asked for, from shards to batches, against plain Python lists."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behavior.errors import UserError
from behavior.sampling.config import SamplingConfig
from behavior.shards.folder import ShardFolder, open_shards
from models.data.columns import Column, Columns
from models.data.declared import CORE, event_column
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from models.data.origins import Next, Own, Samples
from models.data.sequences import concat_sequences
from models.data.windows import gather, history_windows
from tests.models.data.feature_world import DTYPES, RICH, STORED, asked, same
from tests.models.shards import USERS, WORLD, rows, write_shards


@pytest.fixture
def shards(tmp_path: Path) -> ShardFolder:
    return open_shards(write_shards(tmp_path / "data", USERS, RICH))


# Declaring and merging.


def test_what_several_ask_for_comes_in_the_order_in_which_it_is_first_asked_for() -> None:
    a, b, c = Column("a"), Column("b", "float32", origin=Own("b")), Column("c", "int8", fill=-1)
    merged = Columns.merged([a, b], Columns((c, a)), [Column("b", "float32", origin=Own("b"))])
    assert merged.names == ("a", "b", "c")
    assert merged == Columns((a, b, c))
    assert Columns.merged() == Columns()
    assert merged.reads == ("b",)
    assert merged["c"] is c
    assert merged.select("c", "a").names == ("c", "a")


@pytest.mark.parametrize("other", [{"dtype": "int32"}, {"fill": 3}, {"origin": Next("device")}])
def test_two_declarations_that_differ_are_refused(other: dict[str, Any]) -> None:
    column = Column("device", origin=Own("device"))
    with pytest.raises(UserError, match="two different columns are called 'device'"):
        Columns.merged([column], [replace(column, **other)])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"dtype": "uint8"}, "dtype uint8 is none of int8, int16"),
        ({"dtype": "int8", "fill": 128}, "int8 does not hold the fill 128"),
        ({"fill": 0.5}, "int64 does not hold the fill 0.5"),
        ({"fill": math.nan}, "int64 does not hold the fill nan"),
    ],
)
def test_a_declaration_that_cannot_be(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column("a", **declared)


def test_names_that_batches_use_are_refused() -> None:
    with pytest.raises(UserError, match="a batch has no room for a column 'offsets'"):
        Column("offsets")


# From shards to batches.


@pytest.mark.parametrize("names", [("domain",), ("value", "device"), tuple(STORED)])
def test_the_loader_brings_what_is_asked_for(shards: ShardFolder, names: tuple[str, ...]) -> None:
    """Of the event itself, and of the one that is predicted; the core columns stay as they are."""
    columns = asked(shards, *names)
    loader = TrainLoader(ShardSource(shards, columns=columns), max_length=3, batch_sequences=2)
    plain = TrainLoader(ShardSource(shards), max_length=3, batch_sequences=2)
    seen = 0
    for batch, core in zip(loader, plain, strict=True):
        assert batch.validate().columns == columns
        assert all(torch.equal(batch[name], core[name]) for name in CORE.names)
        users = batch.sequence.tolist()
        ends = [USERS[user].train_end for user in users]
        for name in names:
            assert batch[name].dtype == batch[f"target_{name}"].dtype == DTYPES[name]
            own = [
                STORED[name][user][max(0, end - 4) : end - 1] for user, end in zip(users, ends, strict=True)
            ]
            after = [STORED[name][user][max(1, end - 3) : end] for user, end in zip(users, ends, strict=True)]
            same(rows(batch, name), own)
            same(rows(batch, f"target_{name}"), after)
        seen += len(users)
    assert seen == 3


def test_events_with_gaps_between_them_keep_their_values(tmp_path: Path) -> None:
    """Cut at random, a sample's events are not neighbors; what an item has been given here tells it apart."""
    length = 200
    users = [replace(USERS[0], item=range(2, 2 + length), behavior=[1, 2] * 100, timestamp=range(length),
                     train_end=length, valid_end=length)]  # fmt: skip
    world = replace(
        RICH,
        num_items=length,
        files=1,
        event_columns={
            "price": pa.array(np.arange(2, 2 + length) / 4, pa.float32()),
            "device": pa.array(np.arange(2, 2 + length) % 4 + 1, pa.int32()),
        },
    )
    shards = open_shards(write_shards(tmp_path, users, world))
    sampling = SamplingConfig(stochastic_length={"alpha": 1.5, "select": "random"})  # type: ignore[arg-type]
    source = ShardSource(shards, columns=asked(shards, "price", "device"))
    loader = TrainLoader(source, LoaderConfig(sampling=sampling, threads=0), max_length=length - 1)
    gaps = False
    for _ in range(4):
        for batch in loader:
            gaps |= bool((batch.item.diff() > 1).any())
            assert batch["price"].tolist() == [item / 4 for item in batch.item.tolist()]
            assert batch["target_price"].tolist() == [item / 4 for item in batch.target.tolist()]
            assert batch["device"].tolist() == [item % 4 + 1 for item in batch.item.tolist()]
            assert batch["target_device"].tolist() == [item % 4 + 1 for item in batch.target.tolist()]
    assert gaps


def test_windows_of_evaluation_have_the_same_columns(shards: ShardFolder) -> None:
    """The last input predicts an event further on: its values are those of that event."""
    data = concat_sequences(list(ShardSource(shards, columns=asked(shards, *STORED))))
    starts = data.offsets[[0, 2]]
    windows = history_windows(data, np.array([0, 2]), starts + 3, starts + np.array([5, 3]), 2)
    batch = gather(data, windows, time="known").validate()
    for name, stored in STORED.items():
        same(rows(batch, name), [stored[0][1:3], stored[2][1:3]])
        same(rows(batch, f"target_{name}"), [[stored[0][2], stored[0][5]], [stored[2][2], stored[2][3]]])


@pytest.mark.parametrize(
    ("names", "more"), [((), set()), (("price",), {"price"}), (("domain", "hour"), {"domain", "hour"})]
)
def test_nothing_is_read_or_copied_that_is_not_asked_for(
    shards: ShardFolder, names: tuple[str, ...], more: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = pq.ParquetFile.read_row_group, set()

    def watched(self: pq.ParquetFile, number: int, columns: list[str], **options: Any) -> pa.Table:
        seen.update(columns)
        return read(self, number, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    source = ShardSource(shards, columns=asked(shards, *names))
    (batch,) = TrainLoader(source, max_length=9)
    assert seen == {"item", "behavior", "timestamp", "train_end", "valid_end"} | more
    assert set(source.read(0).events) == {"item", "behavior", "timestamp"} | more
    assert set(batch.values) == {*CORE.names, *more, *(f"target_{name}" for name in more)}


@dataclass(frozen=True)
class Gap:
    """Seconds from the token's event to the one that it predicts."""

    reads: tuple[str, ...] = ("timestamp",)

    def fill(self, out: np.ndarray, samples: Samples) -> None:
        following = np.append(samples.event[1:], 0)
        following[samples.starts[1:] - samples.starts[0] - 1] = samples.last_target
        times = samples.events["timestamp"]
        out[samples.starts[0] : samples.starts[-1]] = times[following] - times[samples.event]


def test_a_column_of_ones_own_needs_its_declaration_alone(shards: ShardFolder) -> None:
    columns = Columns.merged(CORE, [Column("gap", "int32", fill=-1, origin=Gap())])
    for batch in TrainLoader(ShardSource(shards, columns=columns), max_length=3, batch_sequences=2):
        assert batch["gap"].dtype == torch.int32
        assert batch["gap"].tolist() == (batch.query_time - batch.timestamp).tolist()
        assert batch.padded(64, 4, 8)["gap"][batch.num_events :].unique().tolist() == [-1]


def test_few_columns_may_be_all_there_is(shards: ShardFolder) -> None:
    columns = Columns.merged(CORE.select("item"), [event_column(shards, "behavior", of_target=True)])
    (batch,) = TrainLoader(ShardSource(shards, columns=columns), max_length=9)
    assert set(batch.validate().values) == {"item", "target_behavior"}
    with pytest.raises(
        KeyError,
        match=r"no column 'position', only item, target_behavior: ask for it in Task\.columns or Layout",
    ):
        batch.position  # noqa: B018


# What cannot be had.


def test_a_column_that_the_data_set_lacks(shards: ShardFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'prise'") as error:
        event_column(shards, "prise")
    assert "did you mean 'price'? there are: behavior, device, domain, hour, item, price" in str(error.value)
    plain = open_shards(write_shards(tmp_path / "plain", USERS, WORLD))
    with pytest.raises(UserError, match="no column 'domain'") as error:
        event_column(plain, "domain")
    assert "there are: behavior, item, timestamp" in str(error.value)
    # Only the files tell whether there is a value.
    with pytest.raises(UserError, match="no column 'value'") as error:
        ShardSource(plain, columns=asked(plain, "value"))
    assert "there are: behavior, item, timestamp" in str(error.value)


def test_a_feature_of_several_values_is_refused(shards: ShardFolder) -> None:
    with pytest.raises(
        UserError, match="'tags' is multi_categorical: batches hold one value an event"
    ) as error:
        event_column(shards, "tags")
    assert "use a feature of kind categorical, hashed or numeric" in str(error.value)


def test_a_dtype_that_is_too_small_is_refused(shards: ShardFolder) -> None:
    with pytest.raises(ValueError, match="column 'device': int16 does not hold int32"):
        ShardSource(shards, columns=Columns.merged(CORE, [Column("device", "int16", origin=Own("device"))]))


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("device", pa.array([5] * 16, pa.int32()), "column 'device' has values that are not from 1 to 4"),
        ("domain", pa.array([0] * 16, pa.int8()), "column 'domain' has values that are not from 1 to 2"),
        ("device", pa.array([None] * 16, pa.int32()), "column 'device' has events without a value"),
    ],
)
def test_ids_that_cannot_be_are_found_when_they_are_read(
    tmp_path: Path, name: str, values: pa.Array, what: str
) -> None:
    world = replace(RICH, event_columns={**RICH.event_columns, name: values})
    shards = open_shards(write_shards(tmp_path, USERS, world))
    assert len(values) == list(accumulate(len(user.item) for user in USERS))[-1]
    with pytest.raises(UserError, match=f"the sequences are damaged: {what}"):
        ShardSource(shards, columns=asked(shards, name)).read(0)
    ShardSource(shards).read(0)  # who does not ask for it is not in the way
