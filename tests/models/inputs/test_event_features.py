"""Features of events: each event's own, never those of the event to predict; in training and evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.manifest import FeatureEntry
from models.build import build_task, make_loader, sequences_of
from models.config import load_config
from models.data.catalog import ItemCatalog
from models.data.side import SideInformation
from models.data.versions import RowMaps
from models.evaluate_run import evaluate
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval import RetrievalTask
from models.training import train
from tests.models.data.feature_world import DEVICE, PRICE, RICH
from tests.models.shards import USERS, World, leave_one_out, write_shards
from tests.models.training.training_runs import settings

DIM = 4
NAMES = ["device", "price"]


@pytest.fixture
def side(tmp_path: Path) -> SideInformation:
    return SideInformation.from_shards(open_shards(write_shards(tmp_path / "set", USERS, RICH)), events=NAMES)


def make(side: SideInformation, features: str = "none") -> InputEmbedding:
    torch.manual_seed(0)
    catalog = ItemCatalog(8, 2, torch.ones(8, dtype=torch.int64))
    embedding = InputEmbedding(
        EmbeddingConfig(features=features, item_features=[] if features != "none" else "all"),
        catalog, 2, DIM, 10, dropout=0.0, learned_positions=False, scale_items=False, side=side,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in embedding.parameters():
            parameter.normal_(0.0, 0.5)
    return embedding


def slow(embedding: InputEmbedding, device: int, price: float) -> list[torch.Tensor]:
    """Vectors of one event's features, in the order of the data set: price, device."""
    numbers, table = embedding.events[0].linear.weight, embedding.events[1].table.weight
    missing = price != price
    return [(numbers[:, 1] if missing else price * numbers[:, 0]), table[device]]


def test_each_event_has_its_own(side: SideInformation, tmp_path: Path) -> None:
    """Windows of the loader, by events of the sequence that they are cut from."""
    shards = open_shards(tmp_path / "set")
    config = settings("train.batch_sequences=4", "train.epochs=1")
    embedding = make(side)
    loader = make_loader(config, sequences_of(shards, config, embedding.columns), shards.manifest.behaviors)
    seen = 0
    for batch in loader:
        x, tokens = embedding(batch)
        assert not tokens.attributes
        starts = batch.offsets.tolist()
        for number, user in enumerate(batch.sequence.tolist()):
            # Training histories begin with the first event, and their target is the one after the last.
            for place in range(starts[number + 1] - starts[number]):
                token = starts[number] + place
                features = slow(embedding, DEVICE[user][place], PRICE[user][place])
                expected = embedding.item.weight[batch.item[token]] + sum(features)
                torch.testing.assert_close(x[token], expected)
                seen += 1
    assert seen >= 5


def test_they_go_into_queries_and_keys_alone(side: SideInformation, tmp_path: Path) -> None:
    shards = open_shards(tmp_path / "set")
    embedding = make(side, "attention_only")
    batch = next(iter(make_loader(
        settings("train.batch_sequences=4"),
        sequences_of(shards, settings(), embedding.columns),
        shards.manifest.behaviors,
    )))  # fmt: skip
    x, tokens = embedding(batch)
    assert torch.equal(x, embedding.item.weight[batch.item])
    assert [each.shape for each in tokens.attributes] == [x.shape, x.shape]
    table = embedding.events[1].table.weight
    assert torch.equal(tokens.attributes[1], table[batch["event.device"].long()])


def test_several_values_an_event_are_refused(tmp_path: Path) -> None:
    shards = open_shards(write_shards(tmp_path, USERS, RICH))
    with pytest.raises(UserError, match="'tags' is multi_categorical"):
        SideInformation.from_shards(shards, events="all")


ITEMS = 6
LAMP = FeatureEntry(name="lamp", kind="categorical", encoding="hash", vocabulary_size=8, hash_size=6)


def announced(folder: Path) -> Path:
    """Items at random, but each event has a lamp that says which one comes next."""
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(2, 2 + ITEMS, (9,), generator=generator).tolist() for _ in range(60)]
    lamps = [[*(item for item in row[1:]), 1] for row in sequences]
    world = World(
        num_items=ITEMS,
        event_features=[LAMP],
        event_columns={"lamp": pa.array([lamp for row in lamps for lamp in row], pa.int32())},
    )
    return write_shards(folder, leave_one_out(*sequences), world)


def test_what_only_the_newest_event_tells(tmp_path: Path) -> None:
    """Learned from the events' own values; so a run is evaluated, and served."""
    shards = announced(tmp_path / "data")
    config = load_config(
        "default",
        [
            "model.dim=16",
            "model.kind=sasrec",
            "model.blocks=1",
            "model.dropout=0.0",
            "model.max_length=8",
            "loss.kind=full_softmax",
            "train.device=cpu",
            "train.epochs=25",
            "train.validate_every_epochs=25",
            "train.batch_sequences=10",
            "optimizer.learning_rate=0.02",
            "evaluation.exclude_seen=false",
            "evaluation.cutoffs=[1]",
            "train.select_by=hr@1",
            "embedding.event_features=[lamp]",
        ],
    )
    train(config, shards, tmp_path / "run")
    model = load_model(tmp_path / "run", device="cpu")
    assert evaluate(model)["hr@1"] > 0.95
    told = [
        History([2, 3], timestamps=[0, 60], next_timestamp=120, features={"lamp": [3, lamp]})
        for lamp in range(2, 2 + ITEMS)
    ]
    assert model.score(told).argmax(1).tolist() == list(range(ITEMS))
    untold = History([2, 3], timestamps=[0, 60], next_timestamp=120)
    missing = replace(untold, features={"lamp": [1, 1]})
    assert torch.equal(*model.score([untold, missing]))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"lamp": [3]}, "has 2 items and 1 of 'lamp'"),
        ({"lamp": [3, 2 + ITEMS]}, f"history 1 has a value of 'lamp' outside 1 to {1 + ITEMS}"),
        ({"lamp": [0, 3]}, "a value of 'lamp' outside"),
        ({"lamp": [2.5, 3]}, "a value of 'lamp' outside"),
        ({"lamp": ["red", "blue"]}, "a value of 'lamp' outside"),
        ({"lmap": [3, 3]}, "has 'lmap' among features"),
    ]
    for features, message in wrong:
        with pytest.raises(UserError, match=message):
            model.score([untold, replace(untold, features=features)])


def test_rows_grow_with_the_vocabulary(tmp_path: Path) -> None:
    task = build_task(settings("embedding.event_features=[lamp]"), open_shards(announced(tmp_path)))
    maps = RowMaps(torch.arange(ITEMS + 2), torch.arange(2), {"event.lamp": torch.arange(8)})
    assert "embedding.events.0.table.weight" in task.table_rows(maps)


def test_columns_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    shards = announced(tmp_path)
    columns = build_task(settings("embedding.event_features=all"), open_shards(shards)).columns
    assert "event.lamp" in columns
    assert "event.lamp" not in build_task(settings(), open_shards(shards)).columns


@pytest.mark.parametrize("name", ["target", "query_time", "position", "target_behavior", "offsets"])
def test_a_feature_may_be_called_as_other_columns_of_a_batch(tmp_path: Path, name: str) -> None:
    rows = [[2, 3, 4, 5, 6], [4, 3, 2, 7, 5]]
    values = [[item % 3 + 2 for item in row] for row in rows]
    entry = replace_name(LAMP, name)
    column = pa.array([value for row in values for value in row], pa.int32())
    world = World(num_items=ITEMS, event_features=[entry], event_columns={name: column})
    shards = open_shards(write_shards(tmp_path, leave_one_out(*rows), world))
    config = settings(f"embedding.event_features=[{name}]", "train.batch_sequences=2")
    task = build_task(config, shards)
    assert isinstance(task, RetrievalTask)
    batch = next(iter(make_loader(config, sequences_of(shards, config, task.columns), ["view"])))
    for place, user in enumerate(batch.sequence.tolist()):
        own = slice(batch.offsets[place], batch.offsets[place + 1])
        length = int(batch.lengths[place])
        assert batch[f"event.{name}"][own].tolist() == values[user][:length]
        assert batch.target[own].tolist() == rows[user][1 : length + 1]
        assert batch.query_time[own].tolist() == [60 * (step + 1) for step in range(length)]
    task.objective(task.prepare(batch)).backward()
    gradient = task.model.embedding.events[0].table.weight.grad
    assert gradient.any(1).nonzero().flatten().tolist() == sorted(
        {value for row in values for value in row[:2]}
    )


def replace_name(entry: FeatureEntry, name: str) -> FeatureEntry:
    return entry.model_copy(update={"name": name})
